"""Invocations that come and go on one stream, several a message where several are there: translation, no decisions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from functools import partial

from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError, Internal
from minicloud.function import errors, invoking, translate
from minicloud.function.invoking import Answer
from minicloud.function.rpc.calling import asked
from minicloud.function.service import FunctionService
from minicloud.rpc.errors import to_status
from minicloud.wire import function_pb2 as function_wire
from minicloud.wire import invocation_pb2 as wire

log = logging.getLogger(__name__)

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["InvocationService"]
STREAM_S_MAX = 900.0  # the life of a ticket
CALLS_MAX = 1_000  # ours: of one stream at once, until their answers are on their way; then nothing is read
BATCH_BYTES_MAX = 1024 * 1024  # ours: what is larger goes in messages of its own


class InvocationServicer:
    """For `rpc.door.door(InvocationServicer(service), DESCRIPTOR, entry)`."""

    def __init__(self, service: FunctionService) -> None:
        self._service = service

    async def InvokeMany(
        self, batches: AsyncIterator[wire.InvokeBatch], caller: Caller
    ) -> AsyncIterator[wire.InvokedBatch]:
        line = _Line(self._service, caller)
        reading = asyncio.create_task(line.read(batches))
        try:
            async for batch in line.answers(reading):
                yield batch
            await reading
        finally:
            reading.cancel()  # what runs goes on to its end (`FunctionService.begin`), though nobody waits any more


class _Line:
    """One stream: what runs, and what has ended and is not on its way yet."""

    def __init__(self, service: FunctionService, caller: Caller) -> None:
        self._service = service
        self._caller = caller
        self._running: set[asyncio.Task[Answer]] = set()
        self._ended: list[wire.InvokedCall] = []
        self._open = 0  # read, and the answer is not on its way
        self._something = asyncio.Event()
        self._room = asyncio.Event()

    async def read(self, batches: AsyncIterator[wire.InvokeBatch]) -> None:
        try:
            async with asyncio.timeout(STREAM_S_MAX):
                async for batch in batches:
                    for call in batch.calls:
                        await self._start(call)
        except TimeoutError:
            return
        finally:
            self._something.set()

    async def answers(self, reading: asyncio.Task[None]) -> AsyncIterator[wire.InvokedBatch]:
        """As they end, until the other side has closed and all have ended."""
        while self._running or self._ended or not reading.done():
            if not self._ended:
                await self._something.wait()
            self._something.clear()
            ended, self._ended = self._ended, []
            for batch in _batches(ended):
                yield batch
                self._open -= len(batch.answers)
                self._room.set()

    async def _start(self, call: wire.InvokeCall) -> None:
        while self._open >= CALLS_MAX:
            self._room.clear()
            await self._room.wait()
        self._open += 1
        try:
            task = self._begin(call.request)
        except CloudError as error:
            self._failed(call.number, error)
            return
        self._running.add(task)
        task.add_done_callback(partial(self._done, call.number))

    def _begin(self, request: function_wire.InvokeRequest) -> asyncio.Task[Answer]:
        """Raises CloudError."""
        if request.type not in ("", invoking.SYNC):
            raise errors.not_one_of("invocationType", request.type, (invoking.SYNC,))
        try:
            return self._service.begin(asked(request, self._caller))
        except CloudError:
            raise
        except Exception:
            log.exception("an invocation of %s failed", request.function)
            raise Internal("internal error") from None

    def _done(self, number: int, task: asyncio.Task[Answer]) -> None:
        self._running.discard(task)
        if task.cancelled():  # the process ends
            self._something.set()
            return
        error = task.exception()
        if error is None:
            self._ended.append(wire.InvokedCall(number=number, reply=translate.invoked(task.result())))
            self._something.set()
            return
        if not isinstance(error, CloudError):
            log.error("invocation %d of a stream failed", number, exc_info=error)
            error = Internal("internal error")
        self._failed(number, error)

    def _failed(self, number: int, error: CloudError) -> None:
        status = to_status(error, self._service.new_request_id())
        self._ended.append(wire.InvokedCall(number=number, error=status.SerializeToString()))
        self._something.set()


def _batches(ended: list[wire.InvokedCall]) -> list[wire.InvokedBatch]:
    small = [one for one in ended if len(one.reply.payload) <= BATCH_BYTES_MAX // CALLS_MAX]
    large = [one for one in ended if len(one.reply.payload) > BATCH_BYTES_MAX // CALLS_MAX]
    return [
        *([wire.InvokedBatch(answers=small)] if small else []),
        *(wire.InvokedBatch(answers=[one]) for one in large),
    ]
