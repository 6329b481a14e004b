"""An open stream to a host agent, with the manners that grpc.aio leaves to its users.

    write    one at a time (Core refuses two at once), waits for room, and says whether anybody still listens
    read     None at the end; the status of a stream that did not end well becomes our error
    cancel   ends it for both sides

A write that meets the end of the stream must not hide how it ended: grpc.aio overwrites the status that the server sent
with "Internal error from Core" and drops what it had not read yet (grpc/grpc#36066), which would lose the exit code of
every command that does not wait for its input. So a failed write is caught below grpc.aio, before it does that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from minicloud.base.errors import CloudError, Unavailable
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    import grpc.aio
    from google.protobuf.message import Message

    from minicloud.rpc import errors as wire_errors
else:
    grpc = lazy("grpc")
    wire_errors = lazy("minicloud.rpc.errors")
cygrpc = lazy("grpc._cython.cygrpc")


def mapped(error: grpc.RpcError) -> CloudError:
    """The error of a call as one of ours."""
    failure: CloudError = wire_errors.from_rpc_error(error)
    return failure


class GuestStream:
    """A call of GuestService, of any form."""

    def __init__(self, call: Any) -> None:
        if hasattr(call, "_cython_call"):
            call._cython_call = _Core(call._cython_call)
        self._call = call
        self._writing = asyncio.Lock()

    async def read(self) -> Any:
        """The next message; None at the end. Raises CloudError."""
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise mapped(error) from None
        return None if message is vars(grpc.aio)["EOF"] else message

    async def write(self, message: Message) -> bool:
        """Send, waiting for room; False: the stream has ended, `read` or `result` tell how."""
        async with self._writing:
            try:
                await self._call.write(message)
            except (_Ended, asyncio.InvalidStateError, grpc.aio.AioRpcError):
                return False
        return True

    async def finish(self) -> None:
        """Nothing more will be written. Idempotent."""
        async with self._writing:
            try:
                await self._call.done_writing()
            except (_Ended, asyncio.InvalidStateError):
                return

    async def result(self) -> Any:
        """The answer to a stream that was written. Raises CloudError."""
        try:
            return await self._call
        except grpc.aio.AioRpcError as error:
            raise mapped(error) from None

    async def broken(self) -> CloudError:
        """For a stream that ended well, but too early."""
        code = await self._call.code()
        return Unavailable(f"the stream ended before its story did ({code.name.lower()})", code="StreamBroken")

    def cancel(self) -> None:
        self._call.cancel()


class _Ended(Exception):
    """The stream is over; its status is on the way."""


class _Core:
    """grpc.aio's inner call, except that a send that fails raises `_Ended`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def send_serialized_message(self, message: bytes) -> None:
        await self._send(self._inner.send_serialized_message(message))

    async def send_receive_close(self) -> None:
        await self._send(self._inner.send_receive_close())

    async def _send(self, sending: Any) -> None:
        try:
            await sending
        except cygrpc.InternalError:
            raise _Ended from None
