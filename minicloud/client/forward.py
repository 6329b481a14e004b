"""A loopback port whose connections end at a port of a guest: one Forward stream per connection.

    local socket  --ForwardInput-->  host agent  -->  guest port
                  <--DataChunk----

Either side may end its half: the local side's end is the end of the ForwardInputs, the guest's is an empty DataChunk.
The connection is over when both have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from minicloud.base.errors import CloudError
from minicloud.client.lazy import lazy
from minicloud.client.streams import GuestStream
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import guest_pb2
else:
    models = lazy("minicloud.client.models")
    guest_pb2 = lazy("minicloud.wire.guest_pb2")

_READ_BYTES = 64 * 1024
_LOOPBACK = "127.0.0.1"


class AsyncForward:
    """An open port forward. Close it, or use it in a `with` block."""

    def __init__(
        self,
        transport: Transport,
        instance_id: str,
        remote_port: int,
        on_error: Callable[[CloudError], None] | None = None,
    ) -> None:
        self._transport = transport
        self._instance_id = instance_id
        self._remote_port = remote_port
        self._on_error = on_error
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._endpoint: Callable[[str], Awaitable[models.Endpoint]] | None = None
        self._local_port = 0

    async def __aenter__(self) -> AsyncForward:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def local_port(self) -> int:
        """The port that listens on 127.0.0.1."""
        return self._local_port

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._connections)

    async def close(self) -> None:
        """Stop listening and end all connections. Idempotent."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def listen(self, local_port: int, endpoint: Callable[[str], Awaitable[models.Endpoint]]) -> None:
        """Internal: `instances.forward` calls it. Raises OSError where the port is taken."""
        self._endpoint = endpoint
        self._server = await asyncio.start_server(self._accept, _LOOPBACK, local_port)
        self._local_port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._carry(reader, writer)
        except CloudError as error:
            if self._on_error is not None:
                self._on_error(error)
        except ConnectionError:
            return  # the local side went away
        finally:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._endpoint is not None
        endpoint = await self._endpoint(self._instance_id)  # a fresh ticket: the last one may have run out
        call = self._transport.guest_stream(endpoint, "Forward", guest_pb2.DataChunk)
        sending = asyncio.ensure_future(self._send(reader, call))
        try:
            while (message := await call.read()) is not None:
                if message.data:
                    writer.write(message.data)
                    await writer.drain()
                elif writer.can_write_eof():
                    writer.write_eof()
        finally:
            sending.cancel()
            call.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send(self, reader: asyncio.StreamReader, call: GuestStream) -> None:
        first = guest_pb2.ForwardInput(instance_id=self._instance_id, port=self._remote_port)
        there = await call.write(first)
        while there and (data := await reader.read(_READ_BYTES)):
            there = await call.write(guest_pb2.ForwardInput(data=data))
        if there:
            await call.finish()
