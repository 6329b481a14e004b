"""Synchronous invocations of one client, on one stream: several in a message where several wait, no call for each.

A stream costs less than half of what calls do, for one invocation after another and much less for many at once. It is
opened with the first invocation, and another one in its stead before its ticket ends; what is under way on the old one
ends there. When a stream breaks, whatever was on it fails with Unavailable: it may have run, so it is not repeated.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from minicloud.base.errors import CloudError, DeadlineExceeded, Unauthenticated, Unavailable
from minicloud.client.broker import Broker
from minicloud.client.lazy import lazy
from minicloud.client.streams import mapped

if TYPE_CHECKING:
    import grpc.aio

    from minicloud.rpc import errors as wire_errors
    from minicloud.wire import function_pb2, invocation_pb2
else:
    grpc = lazy("grpc")
    wire_errors = lazy("minicloud.rpc.errors")
    invocation_pb2 = lazy("minicloud.wire.invocation_pb2")

PAYLOAD_BYTES_MAX = 64 * 1024  # larger ones are calls of their own: they would hold up the others
BATCH_BYTES_MAX = 1024 * 1024
CALL_BYTES = 1024  # at most, of what else there is in one
STREAM_S = 600.0  # of the fifteen minutes that a ticket is good for


class Invocations:
    """Used from one event loop."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._line: _Line | None = None
        self._opening = asyncio.Lock()

    async def call(self, request: function_pb2.InvokeRequest, wait_s: float) -> function_pb2.InvokeReply:
        """Raises CloudError."""
        loop = asyncio.get_running_loop()
        started, attempt, renewed = loop.time(), 0, False
        until = started + self._broker.transport.config.timeout_s + wait_s
        while True:
            try:
                line = self._line
                if line is None or self._spent(line):
                    line = await self._opened(until)
                return await line.call(request, until)
            except Unauthenticated:
                if renewed:
                    raise
                renewed = True
                self._broker.forget()
            except Unavailable:
                raise
            except CloudError as failure:
                pause = self._broker.pause(failure, attempt, loop.time() - started)
                if pause is None:
                    raise
                attempt += 1
                await asyncio.sleep(pause)

    async def _opened(self, until: float) -> _Line:
        try:
            async with asyncio.timeout_at(until), self._opening:  # many that come at once share one
                if self._line is None or self._spent(self._line):
                    await self._open()
        except TimeoutError:
            raise _late() from None
        assert self._line is not None
        return self._line

    async def _open(self) -> None:
        start, metadata = await self._broker.duplex("InvocationService/InvokeMany", invocation_pb2.InvokedBatch)
        if self._line is not None:
            self._line.finish()
        self._line = _Line(start(metadata=metadata))

    @staticmethod
    def _spent(line: _Line) -> bool:
        return line.over or asyncio.get_running_loop().time() - line.born > STREAM_S


class _Line:
    """One stream."""

    def __init__(self, call: Any) -> None:
        self.born = asyncio.get_running_loop().time()
        self.over = False
        self._call = call
        self._count = 0
        self._waiting: dict[int, asyncio.Future[function_pb2.InvokeReply]] = {}
        self._unsent: list[invocation_pb2.InvokeCall] = []
        self._sending: asyncio.Task[None] | None = None
        self._finishing = False
        self._reading = asyncio.ensure_future(self._read())

    async def call(self, request: function_pb2.InvokeRequest, until: float) -> function_pb2.InvokeReply:
        """`until`: by the loop's clock. Raises CloudError."""
        loop = asyncio.get_running_loop()
        self._count += 1
        number = self._count
        answer: asyncio.Future[function_pb2.InvokeReply] = loop.create_future()
        timer = loop.call_at(until, self._late, answer)
        self._waiting[number] = answer
        self._unsent.append(invocation_pb2.InvokeCall(number=number, request=request))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.ensure_future(self._send())
        try:
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(number, None)
            if self._finishing and not self._waiting:
                self._call.cancel()

    def finish(self) -> None:
        """Nothing more on this one; it closes with the last answer."""
        self._finishing = self.over = True
        if not self._waiting:
            self._call.cancel()

    async def _send(self) -> None:
        """Whatever comes while one message is on its way leaves with the next."""
        try:
            while self._unsent:
                count = _fitting(self._unsent)
                calls, self._unsent = self._unsent[:count], self._unsent[count:]
                calls = [one for one in calls if one.number in self._waiting]  # others have given up
                if calls:
                    await self._call.write(invocation_pb2.InvokeBatch(calls=calls))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader hears why

    async def _read(self) -> None:
        failure: CloudError = Unavailable("the stream of invocations ended")
        try:
            async for batch in self._call:
                for one in batch.answers:
                    self._answered(one)
        except grpc.aio.AioRpcError as error:
            failure = mapped(error)
        except asyncio.CancelledError:
            failure = Unavailable("the client was closed")
        self.over = True
        for answer in self._waiting.values():
            self._fail(answer, failure.copy())

    def _late(self, answer: asyncio.Future[function_pb2.InvokeReply]) -> None:
        self._fail(answer, _late())

    @staticmethod
    def _fail(answer: asyncio.Future[function_pb2.InvokeReply], failure: CloudError) -> None:
        if not answer.done():
            answer.set_exception(failure)

    def _answered(self, one: invocation_pb2.InvokedCall) -> None:
        answer = self._waiting.get(one.number)
        if answer is None or answer.done():
            return
        if one.WhichOneof("answer") == "error":
            answer.set_exception(wire_errors.from_status(one.error))
        else:
            answer.set_result(one.reply)


def _fitting(calls: list[invocation_pb2.InvokeCall]) -> int:
    """How many of the first go into one message; one always does."""
    size = 0
    for count, call in enumerate(calls):
        size += len(call.request.payload) + len(call.request.client_context) + CALL_BYTES
        if size > BATCH_BYTES_MAX and count:
            return count
    return len(calls)


def _late() -> CloudError:
    return DeadlineExceeded("the function did not answer in time")
