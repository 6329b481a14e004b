"""What it may cost to look whether patterns take a message (patterns.py): nobody's hold a process up.

few tests          at once, in this turn of the event loop
more of them       in a thread beside the loop: one look after the other, so long and no longer
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from minicloud.base.errors import Throttled
from minicloud.shell.patterns import TooMuch

T = TypeVar("T")


class Room(NamedTuple):
    """Tests of one look: at once, and in all; and how many looks of an account may be beside the loop."""

    at_once: int
    beside: int
    waiting: int


class Looking:
    """Belongs to one event loop. `code`: of the error for an account that has too many looks."""

    def __init__(self, code: str) -> None:
        self._code = code
        self._beside = ThreadPoolExecutor(1, "patterns")
        self._waiting: Counter[str] = Counter()  # looks of each account beside the loop
        self._left = asyncio.Event()

    def close(self) -> None:
        self._beside.shutdown(wait=False, cancel_futures=True)

    async def look(self, account: str, work: Callable[[int], T], room: Room) -> T:
        """work: takes how many tests there may be; raises TooMuch beyond that. Raises Throttled."""
        with contextlib.suppress(TooMuch):
            return work(room.at_once)
        return await self.look_beside(account, work, room)

    async def look_beside(self, account: str, work: Callable[[int], T], room: Room) -> T:
        if self._waiting[account] >= room.waiting:
            raise Throttled("Too many long messages of this account are being matched.", code=self._code)
        return await self._begin(account, work, room)

    async def look_patiently(self, account: str, work: Callable[[int], T], room: Room) -> T:
        """`look`, but what would be refused waits for its turn."""
        with contextlib.suppress(TooMuch):
            return work(room.at_once)
        while self._waiting[account] >= room.waiting:
            self._left.clear()
            await self._left.wait()
        return await self._begin(account, work, room)

    async def _begin(self, account: str, work: Callable[[int], T], room: Room) -> T:
        self._waiting[account] += 1
        loop = asyncio.get_running_loop()

        def done(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._leave, account)

        future = self._beside.submit(work, room.beside)
        future.add_done_callback(done)
        return await asyncio.wrap_future(future)

    def _leave(self, account: str) -> None:
        self._left.set()
        self._waiting[account] -= 1
        if not self._waiting[account]:
            del self._waiting[account]
