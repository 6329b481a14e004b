"""What the queue core needs from the outside: a log of opaque frames. Implemented by store/log.py and sim/log.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

SEGMENT_SHIFT = 40  # address = segment number << 40 | offset
OFFSET_BITS = 28  # a frame starts below 256 MiB in its segment: the core uses the bits in between (codec.place)


class MessageLog(Protocol):
    """An append-only log in segments. Only the oldest segments are ever deleted, and only when nothing live is in them.

    The core relies on that order: a frame that changes a message (received, deleted, moved) lies behind the message's
    own frame, so it needs no keeping: it is gone only after the frame that it speaks of.
    """

    def append(self, frames: list[bytes], *, essential: bool = False) -> list[int]:
        """Queue frames for the disk in this order and return their addresses at once; never blocks.

        `essential`: receives, deletes, moves and what else must go on when the disk is full may use the reserve.
        Raises InsufficientStorage, Throttled (the disk does not keep up), Fenced, Internal; then nothing of the call
        is queued.
        """
        ...

    def keep(self, address: int, count: int = 1) -> None:
        """`count` more live frames lie in the segment of this address."""
        ...

    def drop(self, address: int, count: int = 1) -> None:
        """`count` frames in the segment of this address are live no more."""
        ...

    def read(self, address: int, start: int, length: int) -> bytes:
        """`length` bytes of the frame from `start` on (fewer at its end)."""
        ...

    def replay(self, prefix: int | None = None) -> Iterator[tuple[int, bytes]]:
        """Every stored frame, oldest first: (address, its first `prefix` bytes, or all of it)."""
        ...
