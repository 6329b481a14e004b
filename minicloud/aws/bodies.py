"""Room for the bodies of requests that are read, or wait for their answer: of all connections of a server together.

    at most 256 MiB; large bodies, which may wait for long, leave a quarter of it to small ones
    an account at most as much as is still free: alone half of it, one of two a third, and whoever comes finds room

Tiny bodies count in the whole, and nobody asks whose they are: that would cost each request. Whose a body is, is what
its head claims: it is read before it is verified.
"""

from __future__ import annotations

from collections import Counter

BODIES_BYTES_MAX = 256 * 1024 * 1024  # ours
LARGE_BODIES_BYTES_MAX, SMALL_BODY_BYTES = BODIES_BYTES_MAX * 3 // 4, 64 * 1024  # ours: the rest is for small ones
TINY_BODY_BYTES = 16 * 1024  # ours


class Bodies:
    def __init__(self) -> None:
        self.bytes = 0
        self.of: Counter[str] = Counter()

    def take(self, before: int, count: int, owner: str | None) -> bool:
        """Room for more bytes of a body, of which so many are there before. owner: of one that is not tiny any more."""
        size = before + count
        free = (BODIES_BYTES_MAX if size <= SMALL_BODY_BYTES else LARGE_BODIES_BYTES_MAX) - self.bytes
        if count > free:
            return False
        if owner is not None:
            more = count if before > TINY_BODY_BYTES else size
            if self.of[owner] + more > free - count:
                return False
            self.of[owner] += more
        self.bytes += count
        return True

    def give(self, size: int, owner: str | None) -> None:
        self.bytes -= size
        if owner is not None:
            self.of[owner] -= size
            if self.of[owner] <= 0:
                del self.of[owner]
