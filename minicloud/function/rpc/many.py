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
from minicloud.wire import invocation_pb2 as wire

log = logging.getLogger(__name__)

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["InvocationService"]
STREAM_S_MAX = 900.0  # the life of a ticket
CALLS_MAX = 1_000  # ours: of one stream at once, until their answers are on their way; then nothing is read
GATHERED_MAX = 64  # ours: answers that wait for others
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
        self._running = 0
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
            while self._running and len(self._ended) < GATHERED_MAX and await self._more():
                pass
            ended, self._ended = self._ended, []
            for batch in _batches(ended):
                yield batch
                self._open -= len(batch.answers)
                self._room.set()

    async def _more(self) -> bool:
        """Whether others have ended in one turn of the loop. Nobody is waited for: a turn does what is there to do.

        They leave in the same message, for a message costs more than an invocation.
        """
        count = len(self._ended)
        await asyncio.sleep(0)
        return len(self._ended) > count

    async def _start(self, call: wire.InvokeCall) -> None:
        while self._open >= CALLS_MAX:
            self._room.clear()
            await self._room.wait()
        self._open += 1
        self._running += 1
        try:
            if call.request.type not in ("", invoking.SYNC):
                raise errors.not_one_of("invocationType", call.request.type, (invoking.SYNC,))
            self._service.begin(asked(call.request, self._caller), partial(self._told, call.number))
        except Exception as error:  # noqa: BLE001 - told to who asked for this one; the others go on
            self._told(call.number, error)

    def _told(self, number: int, said: Answer | BaseException) -> None:
        self._running -= 1
        if isinstance(said, Answer):
            self._ended.append(wire.InvokedCall(number=number, reply=translate.invoked(said)))
        elif not isinstance(said, asyncio.CancelledError):  # the process ends
            self._ended.append(wire.InvokedCall(number=number, error=self._status(number, said)))
        self._something.set()

    def _status(self, number: int, error: BaseException) -> bytes:
        if not isinstance(error, CloudError):
            log.error("invocation %d of a stream failed", number, exc_info=error)
            error = Internal("internal error")
        raw: bytes = to_status(error, self._service.new_request_id()).SerializeToString()
        return raw


def _batches(ended: list[wire.InvokedCall]) -> list[wire.InvokedBatch]:
    small = [one for one in ended if len(one.reply.payload) <= BATCH_BYTES_MAX // CALLS_MAX]
    large = [one for one in ended if len(one.reply.payload) > BATCH_BYTES_MAX // CALLS_MAX]
    return [
        *([wire.InvokedBatch(answers=small)] if small else []),
        *(wire.InvokedBatch(answers=[one]) for one in large),
    ]
