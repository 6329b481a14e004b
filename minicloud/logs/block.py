"""Events of one stream as bytes: what is written for one PutLogEvents, and what many of these are merged into.

    block   compressed?, then: count, number of the first event, and as columns the times, when they were taken,
            the lengths, the messages in UTF-8
    head    what must be known of a block without reading it: it lies beside it under the same key

A key is stream number / number of the first event, both in hexadecimal digits of fixed length: the blocks of a stream
lie in the order in which its events came.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from minicloud.logs.model import Event

BLOCK, HEAD = "log_block", "log_head"
_COUNTS = struct.Struct("<IQ")
_HEAD = struct.Struct("<qqqIIIB")
COMPRESSED_AT = 4_096  # ours: what is smaller gains little
_PLAIN, _ZLIB = b"\0", b"\1"


class Head(NamedTuple):
    """Times in Unix ms. `first`: number of the first event. `size`: on disk. `text`: of messages, and 26 bytes each."""

    stream: int
    first: int
    events: int
    low_ms: int
    high_ms: int
    taken_ms: int
    size: int
    text: int
    level: int = 0

    @property
    def key(self) -> str:
        return f"{self.stream:012x}/{self.first:012x}"

    def packed(self) -> bytes:
        numbers = (self.low_ms, self.high_ms, self.taken_ms, self.events, self.size, self.text, self.level)
        return _HEAD.pack(*numbers)


def head_of(key: str, packed: bytes) -> Head:
    stream, first = (int(part, 16) for part in key.split("/"))
    low_ms, high_ms, taken_ms, count, size, text, level = _HEAD.unpack(packed)
    return Head(stream, first, count, low_ms, high_ms, taken_ms, size, text, level)


def encode(stream: int, events: Sequence[Event], level: int = 0) -> tuple[Head, bytes]:
    """Events with numbers that follow each other."""
    messages = [event.message.encode("utf-8", "surrogatepass") for event in events]
    columns = (
        array("q", [event.time_ms for event in events]),
        array("q", [event.taken_ms for event in events]),
        array("I", list(map(len, messages))),
    )
    first = events[0].number
    raw = b"".join((_COUNTS.pack(len(events), first), *(column.tobytes() for column in columns), *messages))
    body = _ZLIB + zlib.compress(raw, 1) if len(raw) >= COMPRESSED_AT else _PLAIN + raw
    times = columns[0]
    text = sum(columns[2]) + 26 * len(events)
    head = Head(stream, first, len(events), min(times), max(times), max(columns[1]), len(body), text, level)
    return head, body


def decode(body: bytes, needs: Sequence[bytes] = ()) -> list[Event]:
    """needs: where one of these is not in any message, there are no events to be looked at."""
    raw = zlib.decompress(body[1:]) if body[:1] == _ZLIB else body[1:]
    if any(one not in raw for one in needs):
        return []
    count, first = _COUNTS.unpack_from(raw)
    at = _COUNTS.size
    times, taken, lengths = array("q"), array("q"), array("I")
    for column in (times, taken, lengths):
        size = count * column.itemsize
        column.frombytes(raw[at : at + size])
        at += size
    events = []
    for index, length in enumerate(lengths):
        message = raw[at : at + length].decode("utf-8", "surrogatepass")
        events.append(Event(times[index], first + index, taken[index], message))
        at += length
    return events
