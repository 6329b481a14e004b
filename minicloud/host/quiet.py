"""When what can wait is done: after a moment without launches, and not while guests are on their way.

What is made ahead costs the CPU that launches under way need, and is there for the next ones: in a burst it comes too
late for all of them. A launch that is stuck must not keep the next ones slow, so nothing waits longer than HELD_S_MAX.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

LOOK_S = 0.1
HELD_S_MAX = 60.0  # after the last launch


class Quiet:
    """`under_way`: is a guest on its way?"""

    def __init__(self, pause_s: float, under_way: Callable[[], bool]) -> None:
        self._pause_s = pause_s
        self._under_way = under_way
        self._launched_at = time.monotonic()

    def launched(self) -> None:
        self._launched_at = time.monotonic()

    async def come(self) -> None:
        """Returns when it is quiet."""
        while True:
            since = time.monotonic() - self._launched_at
            if since < self._pause_s:
                await asyncio.sleep(self._pause_s - since)
            elif since < HELD_S_MAX and self._under_way():
                await asyncio.sleep(LOOK_S)
            else:
                return
