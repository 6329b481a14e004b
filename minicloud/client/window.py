"""How many messages a consumer holds ahead of the program that takes them.

size      begins small, doubles when a full fetch comes while the program waits, halves when a batch took more than
          `SLOW_S` from its arrival until its last message was taken; between floor and prefetch
a fetch   asks for one poll's share of it, as soon as so much room is there: while one share is being taken the
          other is on its way
bytes     what is held stays below about `HELD_BYTES_MAX`, judged by the sizes seen lately
"""

from __future__ import annotations

from minicloud.base.errors import InvalidParameterValue
from minicloud.client.batching import COUNT_MAX

FIRST = 16
PREFETCH_MAX = 10_000
SLOW_S = 1.0
HELD_BYTES_MAX = 32 * 1024 * 1024


class Window:
    """Raises InvalidParameterValue."""

    __slots__ = ("_floor", "_most", "_polls", "bytes_each", "size")

    def __init__(self, prefetch: int, polls: int) -> None:
        if not 1 <= prefetch <= PREFETCH_MAX:
            raise InvalidParameterValue(f"1 to {PREFETCH_MAX}, not {prefetch}", field="prefetch")
        self._most = prefetch
        self._floor = 1
        self._polls = polls
        self.size = min(FIRST, prefetch)
        self.bytes_each = 0.0

    def floor(self, count: int) -> None:
        """Never hold less than this, as far as prefetch allows."""
        self._floor = min(count, self._most)
        self.size = max(self.size, self._floor)

    def next(self, held: int, asked: int) -> int:
        """How many messages to fetch now; 0: wait."""
        size = self.size
        if self.bytes_each:
            size = max(1, min(size, int(HELD_BYTES_MAX / self.bytes_each)))
        share = min(max(1, size // self._polls), COUNT_MAX)
        return share if held + asked + share <= size else 0

    def fetched(self, count: int, asked: int, size_bytes: int, *, starved: bool) -> None:
        each = size_bytes / count
        self.bytes_each += (each - self.bytes_each) * (0.2 if self.bytes_each else 1.0)
        if starved and count >= asked:
            self.size = min(self.size * 2, self._most)

    def taken(self, seconds: float) -> None:
        """A batch was taken to its last message so long after it came."""
        if seconds > SLOW_S:
            self.size = max(self.size // 2, self._floor)
