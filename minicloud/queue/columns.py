"""What one receive call hands out, in columns: one value a message. Plain messages cost no object of their own.

A message is plain when it was sent to this queue and has nothing but a body: then its frame is a header and the body,
and its id follows from its number. Everything else (attributes, groups, moved ones, copies of a fan-out) is opened one
by one, and what it has besides stands in `extras`. All of it is taken in the turn of the receive call itself, because
later the rows may have changed; only documents (copies of a fan-out that are not raw) are made later, by whoever hands
them out: each may be signed, which takes a while.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from minicloud.queue import codec, message, receipt
from minicloud.queue.book import Queue
from minicloud.queue.core import Broker
from minicloud.queue.mailbox import Delivery, Received
from minicloud.queue.message import Attribute
from minicloud.queue.rows import BITS, ROWS

ID_BYTES = 16
_PLAIN = bytes((codec.MESSAGE, 0, 0, 0))  # kind, flags, group length, deduplication id length
_NO_ATTRIBUTES = bytes(4)
_ID_MASK = 0x3FFFFFFFFFFFFFFF
_ID_MARK = 0x8000000000000000


class Extras(NamedTuple):
    """What a message has besides a body. `stored`: all of its frame."""

    stored: codec.Stored
    attributes: dict[str, Attribute]
    system: dict[str, str]
    sequence_number: str
    source_arn: str


# The body of a fan-out's copy whose target does not want it raw: (the frame, its attributes) -> bytes.
Render = Callable[[codec.Stored, dict[str, Attribute]], bytes]


@dataclass(slots=True)
class Batch:
    """Times in Unix milliseconds; `ids`: 16 bytes each; `extras` by index; `documents`: the indexes of those that are
    still to be made.
    """

    received: Received
    bodies: list[bytes] = field(default_factory=list)
    ids: bytes = b""
    counts: array[int] = field(default_factory=lambda: array("I"))
    sent_ms: array[int] = field(default_factory=lambda: array("Q"))
    first_ms: array[int] = field(default_factory=lambda: array("Q"))
    extras: dict[int, Extras] = field(default_factory=dict)
    documents: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.bodies)

    def rendered(self, render: Render) -> Iterator[int]:
        """Makes the documents that are to be made, one with each step; then `documents` is empty."""
        while self.documents:
            index = self.documents.pop()
            extras = self.extras[index]
            self.bodies[index] = render(extras.stored, extras.attributes)
            self.extras[index] = extras._replace(attributes={})
            yield index

    def handles(self) -> bytes:
        """receipt.HANDLE_BYTES each."""
        got = self.received
        return handles(receipt.HANDLE.pack(got.queue.number, 0, got.number, got.mac), got.seqs)


def batch(core: Broker, got: Received, frames: Sequence[bytes]) -> Batch:
    """Of a receive call just made, and the frames of its messages."""
    queue = got.queue
    out = Batch(got, ids=message_ids(queue.tag, got.seqs))
    moved = _fill_columns(out, queue)
    own, bodies, header = queue.number.to_bytes(4, "little"), out.bodies, codec.HEADER_BYTES
    odd: list[int] = []
    for index, frame in enumerate(frames):
        if frame[:4] == _PLAIN and frame[8:12] == own and frame[36:40] == _NO_ATTRIBUTES:
            bodies.append(frame[header:])
        else:
            bodies.append(b"")
            odd.append(index)
    if odd or moved:
        _open(core, out, frames, range(len(frames)) if moved else odd)
    return out


def _fill_columns(out: Batch, queue: Queue) -> bool:
    """Counts and times, run by run of consecutive numbers. True: some may have come from another queue."""
    seqs, chunks = out.received.seqs, queue.rows.chunks
    at, total, moved = 0, len(seqs), False
    while at < total:
        first = seqs[at]
        most = min(total, at + ROWS - (first & (ROWS - 1)))
        end = at + 1
        while end < most and seqs[end] == first + end - at:
            end += 1
        chunk = chunks[first >> BITS]
        part = slice(first - chunk.base, first - chunk.base + end - at)
        assert chunk.count is not None and chunk.first is not None
        out.counts += chunk.count[part]
        out.sent_ms += chunk.sent[part]
        out.first_ms += chunk.first[part]
        moved = moved or chunk.source is not None
        at = end
    return moved


def _open(core: Broker, out: Batch, frames: Sequence[bytes], indexes: Sequence[int]) -> None:
    """The messages that are not plain."""
    queue, ids, deliveries = out.received.queue, bytearray(out.ids), out.received.deliveries()
    for index in indexes:
        delivery = deliveries[index]
        stored = codec.open_message(frames[index], delivery.target)
        identity = core.message_id(queue, delivery, stored.head)
        ids[index * ID_BYTES : (index + 1) * ID_BYTES] = bytes.fromhex(identity.replace("-", ""))
        attributes, system = message.decode_attributes(stored.attributes)
        if stored.raw or queue.hidden:
            out.bodies[index] = stored.body
        else:
            out.documents.append(index)
        out.extras[index] = Extras(stored, attributes, system, _sequence(queue, delivery), core.source_arn(delivery))
    out.ids = bytes(ids)


def _sequence(queue: Queue, delivery: Delivery) -> str:
    return message.sequence_number(delivery.seq) if queue.settings.fifo else ""


def message_ids(tag: int, seqs: Sequence[int]) -> bytes:
    """message.message_id of each, as 16 bytes."""
    high = (tag >> 16 & 0xFFFFFFFFFFFF) << 16 | 0x8000 | (tag & 0xFFF)
    out = array("Q", (high,)) * (2 * len(seqs))
    out[1::2] = array("Q", [_ID_MARK | (seq & _ID_MASK) for seq in seqs])
    if sys.byteorder == "little":
        out.byteswap()
    return out.tobytes()


def handles(first: bytes, seqs: Sequence[int]) -> bytes:
    """The receipt handles of one receive call: `first` with each of these numbers in it."""
    out, numbers = array("I", first) * len(seqs), array("I", array("Q", seqs).tobytes())
    out[1::7], out[2::7] = numbers[0::2], numbers[1::2]
    return out.tobytes()
