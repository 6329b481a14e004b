"""Which rules take an event, and what that may cost: nobody's patterns and events hold the process up.

    few conditions, a short event     looked at at once, some 10 ms at the most
    more of them                      in a thread beside the event loop: one after the other, so long and no longer

A pattern costs its conditions, more of them where a text may be long, and each again for each element of a list
(shell/patterns.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from minicloud.base.errors import Throttled
from minicloud.event import limits
from minicloud.event.model import Rule
from minicloud.event.patterns import Pattern, compile_pattern
from minicloud.shell.patterns import TooMuch, Whole

T = TypeVar("T")
_LONG_BYTES = 4_096  # what a condition looks at in the time of one test, or less


def takes(pattern: Pattern, whole: Whole, size: int) -> bool:
    """size: of the event, in bytes. Raises TooMuch."""
    whole.spend(pattern.weight * (1 + size // _LONG_BYTES))
    return pattern.takes(whole)


class Matching:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._beside = ThreadPoolExecutor(1, "rules")
        self._waiting: Counter[str] = Counter()  # events of each account that are looked at beside the loop

    def close(self) -> None:
        self._beside.shutdown(wait=False, cancel_futures=True)

    async def rules_for(self, account: str, rules: Sequence[Rule], event: Mapping[str, Any], size: int) -> list[Rule]:
        """Those of `rules` that take it. Raises TooMuch, ThrottlingException."""

        def look(tests: int) -> list[Rule]:
            whole = Whole(event, tests)
            return [one for one in rules if takes(compile_pattern(one.pattern), whole, size)]

        return await self.look(account, look)

    async def look(self, account: str, work: Callable[[int], T]) -> T:
        """work: takes how many tests there may be; raises TooMuch beyond that."""
        with contextlib.suppress(TooMuch):
            return work(limits.TESTS_AT_ONCE)
        if self._waiting[account] >= limits.BESIDE_MAX:
            raise Throttled("Too many long events of this account are being matched.", code="ThrottlingException")
        self._waiting[account] += 1
        loop = asyncio.get_running_loop()

        def done(_: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._left, account)

        future = self._beside.submit(work, limits.TESTS_BESIDE)
        future.add_done_callback(done)
        return await asyncio.wrap_future(future)

    def _left(self, account: str) -> None:
        self._waiting[account] -= 1
        if not self._waiting[account]:
            del self._waiting[account]
