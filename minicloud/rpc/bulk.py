"""Long `repeated bytes` fields, written to the wire by hand: joined, not copied piece by piece.

protobuf writes a message backwards into a buffer that it doubles, which costs some 30 times the join for a megabyte. On
the wire a message is its fields one after the other, in any order; so the long field goes behind what protobuf wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LENGTH_DELIMITED = 2


class Encoded:
    """A message that is written already; takes a message's place where it is only sent."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def SerializeToString(self) -> bytes:
        return self._raw


def with_values(message: Message, field: str, values: Sequence[bytes]) -> Encoded:
    """The message with these values in a `repeated bytes` field that is empty in it."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    pieces = [message.SerializeToString()]
    for value in values:
        pieces += (_head(number, len(value)), value)
    return Encoded(b"".join(pieces))


@lru_cache(maxsize=4_096)
def _head(number: int, length: int) -> bytes:
    """What stands before a value."""
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(length)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
