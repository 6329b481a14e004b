"""The ways out of an environment that has no network but its own loopback: the doors of its own cloud.

Each is a listener in the environment's network namespace, at a port where the cloud has a door on the host (front door,
and the gRPC ports of its processes); a connection to it is carried to the same port of the host, bytes as they are. So
the endpoint that a function's SDKs are given is the one that everybody uses, and nothing else of the host is in reach.
Who calls is told by credentials, as for any caller. A slow reader slows the writer; CONNECTIONS_MAX an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket

from minicloud.environment.limits import CONNECTIONS_MAX

CHUNK_BYTES = 64 * 1024
CONNECT_S_MAX = 5.0
ACCEPT_AT_ONCE = 16


class Doors:
    """Of one environment. The listeners become ours. `host`: where the doors are."""

    def __init__(self, listeners: list[socket.socket], host: str) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._carried: set[asyncio.Task[None]] = set()
        for listener in listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener.fileno(), self._knock, listener)

    def close(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners = []
        for task in self._carried:
            task.cancel()

    def _knock(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if len(self._carried) >= CONNECTIONS_MAX:
                sock.close()
                continue
            task = asyncio.ensure_future(self._carry(sock, listener.getsockname()[1]))
            self._carried.add(task)
            task.add_done_callback(self._carried.discard)

    async def _carry(self, sock: socket.socket, port: int) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError, TimeoutError):
            inside, back = await asyncio.open_connection(sock=sock, limit=CHUNK_BYTES)
            try:
                async with asyncio.timeout(CONNECT_S_MAX):
                    outside, there = await asyncio.open_connection(self._host, port, limit=CHUNK_BYTES)
                try:
                    await asyncio.gather(_pump(inside, there), _pump(outside, back))
                finally:
                    there.close()
            finally:
                back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
