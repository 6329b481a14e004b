"""Redis Streams with `appendfsync always`: one group, pipelined XADD; XREADGROUP, XACK and XDEL of many at once.

Redis writes its file once for all commands of a turn of its loop, so that many connections share one sync.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from peers.server import Absent, Child, Meter, free_ports

SETTINGS = ["--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"]


class RedisStreams:
    name = "Redis Streams always"

    def __init__(self, window: int = 4_000, connections: int = 8, batch: int = 200) -> None:
        self.window, self.connections, self.batch = window, connections, batch

    def start(self, folder: Path) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise Absent("apt-get install redis-server")
        try:
            import hiredis  # noqa: F401  the parser; asked for before the server runs
        except ImportError:
            raise Absent("pip install hiredis") from None
        (self.port,) = free_ports(1)
        self.server = Child([binary, *SETTINGS, "--port", str(self.port)], folder)
        self.server.start()
        self.server.until_open(self.port)

    def stop(self) -> None:
        self.server.stop()

    def cpu_s(self) -> float:
        return self.server.cpu_s()

    def load(self, meter: Meter, payload: bytes) -> RedisLoad:
        return RedisLoad(self, meter, payload)


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%s\r\n" % (len(word), word) for word in words])


class Connection(asyncio.Protocol):
    """`on_replies(list)`: all whole replies of one read."""

    def __init__(self, on_replies: Callable[[list[Any]], None]) -> None:
        import hiredis

        self._reader, self._on_replies = hiredis.Reader(), on_replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        replies = []
        while (reply := self._reader.gets()) is not False:
            if isinstance(reply, Exception):
                raise RuntimeError(str(reply))
            replies.append(reply)
        self._on_replies(replies)


class RedisLoad:
    def __init__(self, peer: RedisStreams, meter: Meter, payload: bytes) -> None:
        self.peer, self.meter = peer, meter
        self.message = command(b"XADD", b"q", b"*", b"b", payload)
        self.flying = [0] * peer.connections
        self.acked = [False] * peer.connections
        self.producers: list[Connection] = []
        self.consumers: list[Connection] = []

    async def start(self) -> None:
        await self._begin()
        for number in range(self.peer.connections):
            self.producers.append(await self._connect(self._sent, number))
        for number in range(self.peer.connections):
            self.consumers.append(await self._connect(self._taken, number))
            self._read(number, b"")
        for number in range(self.peer.connections):
            self._send(number)

    async def _begin(self) -> None:
        """A stream of its own for each load: readers of the one before may still be waiting on theirs."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        replies: list[Any] = []

        def came(_number: int, some: list[Any]) -> None:
            replies.extend(some)
            if len(replies) == 2:
                ready.set_result(None)

        connection = await self._connect(came, 0)
        create = command(b"XGROUP", b"CREATE", b"q", b"g", b"$", b"MKSTREAM")
        connection.write(command(b"DEL", b"q") + create)
        await ready
        connection.transport.close()

    async def _connect(self, on_replies: Callable[[int, list[Any]], None], number: int) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: Connection(lambda replies: on_replies(number, replies)), "127.0.0.1", self.peer.port
        )
        return made

    def _send(self, number: int) -> None:
        share = self.meter.window // self.peer.connections - self.flying[number]
        count = min(share, self.meter.room())
        if count > 0:
            self.meter.begun += count
            self.flying[number] += count
            self.producers[number].write(self.message * count)

    def _sent(self, number: int, replies: list[Any]) -> None:
        self.flying[number] -= len(replies)
        self.meter.sent += len(replies)
        self._send(number)

    def _read(self, number: int, before: bytes) -> None:
        count = b"%d" % self.peer.batch
        read = command(
            b"XREADGROUP", b"GROUP", b"g", b"c%d" % number, b"COUNT", count, b"BLOCK", b"0", b"STREAMS", b"q", b">"
        )
        self.consumers[number].write(before + read)

    def _taken(self, number: int, replies: list[Any]) -> None:
        """XACK and XDEL answer with counts, by turns; a message is gone with the second."""
        for reply in replies:
            if isinstance(reply, list):
                ids = [entry[0] for entry in reply[0][1]]
                self._read(number, command(b"XACK", b"q", b"g", *ids) + command(b"XDEL", b"q", *ids))
            elif isinstance(reply, int):
                self.acked[number] = not self.acked[number]
                self.meter.deleted += 0 if self.acked[number] else reply
        for producer in range(len(self.producers)):
            self._send(producer)

    async def stop(self) -> None:
        for one in self.producers + self.consumers:
            one.transport.close()
