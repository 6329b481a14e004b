"""Waiters: who sleeps until something changes, by topic. For long polls and watches.

Theory. A notification is a nudge, not a value: whoever wakes looks at the state again. The pattern that loses no nudge:

    async with waiters.watch(key) as watch:
        while not (found := look()):          # look after entering, so a change before it is seen
            if not await watch.wait(20.0):    # a nudge since the last look makes this return at once
                break

`notify(key)` nudges everybody (a watch), `notify(key, count=n)` the n that have waited longest (a long poll: one
message needs one taker). A nudge of the counted kind that reached a watch which leaves without having looked (it was
cancelled between the nudge and its wake-up) is passed on to the next in line, so no message lies beside sleepers.

A topic holds its idle watches only, in the order of arrival: a nudged one stands in no line until it has looked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from types import TracebackType
from typing import Self

from minicloud.base.errors import Throttled
from minicloud.shell.clock import Clock

WATCHES_MAX = 100_000  # ours: long polls and watches of one process; about 1 KiB each


class Watch:
    """One sleeper on one or more topics. Made by `Waiters.watch`; used by one task."""

    __slots__ = ("_counted", "_future", "_keys", "_nudged", "_waiters")

    def __init__(self, waiters: Waiters, keys: tuple[Hashable, ...]) -> None:
        self._waiters = waiters
        self._keys = keys
        self._nudged = False
        self._counted: Hashable | None = None
        self._future: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        self._waiters._admit(self, self._keys)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiters._dismiss(self, self._keys)
        if self._nudged and self._counted is not None:
            self._waiters.notify(self._counted, count=1)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True after a nudge since the last wait (or since entering), False when `timeout_s` passed without one."""
        if not self._nudged:
            await self._sleep(timeout_s)
        if not self._nudged:
            return False
        self._nudged, self._counted = False, None
        self._waiters._line_up(self, self._keys)
        return True

    async def _sleep(self, timeout_s: float | None) -> None:
        if timeout_s is not None and timeout_s <= 0:
            return
        self._future = future = asyncio.get_running_loop().create_future()
        clock = self._waiters.clock
        timer = None if timeout_s is None else clock.call_at(clock.wall() + timeout_s, self._wake)
        try:
            await future
        finally:
            self._future = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def _nudge(self, counted: Hashable | None) -> None:
        self._waiters._stand_back(self, self._keys)
        self._nudged = True
        self._counted = counted
        self._wake()


class Waiters:
    """All sleepers of one process. Not thread safe: one event loop."""

    def __init__(self, clock: Clock, *, watches_max: int = WATCHES_MAX) -> None:
        self.clock = clock
        self._max = watches_max
        self._idle: dict[Hashable, dict[Watch, None]] = {}  # a dict keeps the order and removes in one step
        self._watches = 0

    def __len__(self) -> int:
        """Watches that are entered."""
        return self._watches

    def watch(self, *keys: Hashable) -> Watch:
        """A context manager to sleep on any of the topics. Entering raises Throttled when too many sleep already."""
        if not keys:
            raise ValueError("a watch needs at least one topic")
        return Watch(self, keys)

    def notify(self, key: Hashable, *, count: int | None = None) -> int:
        """Nudge everybody on the topic, or the `count` that have slept longest; returns how many were nudged."""
        nudged = 0
        while (count is None or nudged < count) and (line := self._idle.get(key)):
            next(iter(line))._nudge(None if count is None else key)
            nudged += 1
        return nudged

    def notify_all(self) -> None:
        """Nudge every sleeper (a shutdown, a state that was rebuilt)."""
        for key in list(self._idle):
            self.notify(key)

    def _admit(self, watch: Watch, keys: tuple[Hashable, ...]) -> None:
        if self._watches >= self._max:
            raise Throttled("Too many requests wait for changes; slow down and retry.")
        self._watches += 1
        self._line_up(watch, keys)

    def _dismiss(self, watch: Watch, keys: tuple[Hashable, ...]) -> None:
        self._watches -= 1
        self._stand_back(watch, keys)

    def _line_up(self, watch: Watch, keys: tuple[Hashable, ...]) -> None:
        for key in keys:
            self._idle.setdefault(key, {})[watch] = None

    def _stand_back(self, watch: Watch, keys: tuple[Hashable, ...]) -> None:
        for key in keys:
            line = self._idle.get(key)
            if line is not None and line.pop(watch, watch) is None and not line:
                del self._idle[key]
