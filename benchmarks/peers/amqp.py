"""AMQP 0-9-1 as far as a queue's load needs it: frames precoded, many a write, no object a message.

A general client spends more on a message than the broker does; this one leaves the machine to the peer.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from typing import cast

FRAME = struct.Struct(">BHI")
METHOD = struct.Struct(">HH")
TAG = struct.Struct(">Q")
END = b"\xce"
HEADER_OF_PROTOCOL = b"AMQP\x00\x00\x09\x01"
START_OK, TUNE, TUNE_OK, OPEN = (10, 11), (10, 30), (10, 31), (10, 40)
CHANNEL_OPEN, CLOSES = (20, 10), {(10, 50), (20, 40)}
EXCHANGE_DECLARE, BIND, PURGE = (40, 10), (50, 20), (50, 30)
DECLARE, QOS, CONSUME, PUBLISH, DELIVER, ACK = (50, 10), (60, 10), (60, 20), (60, 40), (60, 60), (60, 80)
CONFIRM = (85, 10)
BASIC = 60
BODY = 3


def short(text: str) -> bytes:
    raw = text.encode()
    return bytes([len(raw)]) + raw


def long(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw


def table(**pairs: str) -> bytes:
    return long(b"".join(short(key.replace("_", "-")) + b"S" + long(value.encode()) for key, value in pairs.items()))


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return FRAME.pack(kind, channel, len(payload)) + payload + END


def method(name: tuple[int, int], arguments: bytes, channel: int = 1) -> bytes:
    return frame(1, channel, METHOD.pack(*name) + arguments)


def publish(queue: str, body: bytes, exchange: str = "") -> bytes:
    """The three frames of one persistent message."""
    head = struct.pack(">HHQH", BASIC, 0, len(body), 0x1000) + b"\x02"
    return method(PUBLISH, b"\0\0" + short(exchange) + short(queue) + b"\0") + frame(2, 1, head) + frame(BODY, 1, body)


class Amqp(asyncio.Protocol):
    """One connection with one channel. `on_acks(count)`: so many publishes are confirmed; `on_messages(count, tag)`: so
    many have come, the last with this delivery tag; each called once for all that one read brought."""

    def __init__(self, on_acks: Callable[[int], None], on_messages: Callable[[int, int], None]) -> None:
        self._on_acks, self._on_messages = on_acks, on_messages
        self._rest = b""
        self._answer: asyncio.Future[None] | None = None
        self._confirmed = self._acks = self._messages = self._tag = self._coming = 0
        self._early: set[int] = set()
        self.write: Callable[[bytes], None] = lambda data: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 7:
            kind, _channel, length = FRAME.unpack_from(data, at)
            end = at + 8 + length
            if end > size:
                break
            if kind == BODY:
                self._messages += 1
                self._tag = self._coming
            elif kind == 1:
                self._method(data, at + 7)
            at = end
        self._rest = data[at:]
        self._tell()

    def _tell(self) -> None:
        if self._acks:
            acks, self._acks = self._acks, 0
            self._on_acks(acks)
        if self._messages:
            messages, self._messages = self._messages, 0
            self._on_messages(messages, self._tag)

    def _method(self, data: bytes, at: int) -> None:
        name = METHOD.unpack_from(data, at)
        if name == DELIVER:
            self._coming = TAG.unpack_from(data, at + 5 + data[at + 4])[0]
        elif name == ACK:
            self._ack(TAG.unpack_from(data, at + 4)[0], bool(data[at + 12]))
        elif name in CLOSES:
            raise RuntimeError(f"the peer closed: {data[at : at + 120]!r}")
        elif self._answer is not None and not self._answer.done():
            self._answer.set_result(None)

    def _ack(self, tag: int, multiple: bool) -> None:
        """Confirms come one by one, in any order, or up to a tag."""
        before = self._confirmed + len(self._early)
        if multiple:
            self._confirmed = max(self._confirmed, tag)
            self._early = {one for one in self._early if one > tag}
        else:
            self._early.add(tag)
        while self._confirmed + 1 in self._early:
            self._confirmed += 1
            self._early.remove(self._confirmed)
        self._acks += self._confirmed + len(self._early) - before

    async def call(self, request: bytes) -> None:
        self._answer = asyncio.get_running_loop().create_future()
        self.write(request)
        await asyncio.wait_for(self._answer, 20)

    async def open(self) -> None:
        await self.call(HEADER_OF_PROTOCOL)
        await self.call(method(START_OK, table() + short("PLAIN") + long(b"\0guest\0guest") + short("en_US"), 0))
        self.write(method(TUNE_OK, struct.pack(">HIH", 2, 131_072, 0), 0))
        await self.call(method(OPEN, short("/") + b"\0\0", 0))
        await self.call(method(CHANNEL_OPEN, b"\0"))

    async def declare(self, queue: str, kind: str) -> None:
        await self.call(method(DECLARE, b"\0\0" + short(queue) + b"\x02" + table(x_queue_type=kind)))

    async def fan_out(self, exchange: str, queues: Sequence[str]) -> None:
        """What is published to the exchange goes to each of these queues."""
        await self.call(method(EXCHANGE_DECLARE, b"\0\0" + short(exchange) + short("fanout") + b"\x02" + table()))
        for queue in queues:
            await self.call(method(BIND, b"\0\0" + short(queue) + short(exchange) + short("") + b"\0" + table()))

    async def purge(self, queue: str) -> None:
        await self.call(method(PURGE, b"\0\0" + short(queue) + b"\0"))

    async def confirm(self) -> None:
        await self.call(method(CONFIRM, b"\0"))

    async def consume(self, queue: str, prefetch: int) -> None:
        await self.call(method(QOS, struct.pack(">IHB", 0, prefetch, 0)))
        await self.call(method(CONSUME, b"\0\0" + short(queue) + short("") + b"\0" + table()))

    def ack(self, tag: int) -> None:
        """This message and all before it."""
        self.write(method(ACK, TAG.pack(tag) + b"\x01"))


async def connect(
    port: int,
    on_acks: Callable[[int], None] = lambda count: None,
    on_messages: Callable[[int, int], None] = lambda count, tag: None,
) -> Amqp:
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Amqp(on_acks, on_messages), "127.0.0.1", port)
    await made.open()
    return made
