"""Time as a port: the wall says which moment it is, the monotonic clock says how much of it has passed.

Pure code takes `now` as an argument; whatever waits takes a Clock. There are three:

    SystemClock     the operating system's clocks and the running asyncio loop's timers
    SteadyClock     like it, but its wall never jumps: the moment it was made plus the time that really passed. For
                    machines whose leases and visibility timeouts must outlive a clock that is set by hand or by NTP
    VirtualClock    tests and simulation: time moves only when told to, and jumps straight to the next deadline

Timers are named by the wall's Unix seconds, because that is what machines say (`Machine.due`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

LOOK_AGAIN_S_MAX = 60.0  # a wall that is set forward is noticed within this time
SETTLE_ROUNDS = 24  # turns of the event loop that code under a VirtualClock gets to react to one deadline


class Timer(Protocol):
    """A callback that was asked for and may be taken back."""

    def cancel(self) -> None:
        """Idempotent; does nothing once the callback ran."""
        ...


class Clock(Protocol):
    """Two readings and two ways to wait."""

    def wall(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For measuring and timeouts."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run `callback` once the wall reads `when` (Unix seconds), from the event loop, never inside this call."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for that much time to pass."""
        ...


class SystemClock:
    """The operating system's clocks. `call_at` and `sleep` need a running event loop."""

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        return _WallTimer(self, when, callback)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class SteadyClock(SystemClock):
    """A wall that never jumps: setting the system's clock moves it only at the next start of the process.

    `at_least`: it does not start before this moment, whatever the system's clock says (Unix seconds).
    """

    def __init__(self, at_least: float = 0.0) -> None:
        self._epoch = max(time.time(), at_least) - _uptime()

    def wall(self) -> float:
        return self._epoch + _uptime()


def _uptime() -> float:
    """Seconds since boot, time asleep included where the system counts it."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(source)


class _WallTimer:
    """Loop timers run on monotonic time, so a long wait looks at the wall again from time to time."""

    def __init__(self, clock: Clock, when: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._handle = self._arm()

    def _arm(self) -> asyncio.TimerHandle:
        left = self._when - self._clock.wall()
        return self._loop.call_later(min(max(left, 0.0), LOOK_AGAIN_S_MAX), self._ring)

    def _ring(self) -> None:
        # A loop timer may ring a rounding error early; the promise is "at `when` or later".
        if self._clock.wall() < self._when:
            self._handle = self._arm()
        else:
            self._callback()

    def cancel(self) -> None:
        self._handle.cancel()


class _VirtualTimer:
    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualClock:
    """Time that stands still until `advance`, `jump` or `run` moves it. Timers of one moment ring in the order asked.

    `settle` gives tasks some turns of the event loop to react; code under it must wait on this clock and on events of
    the same loop only, never on threads or sockets.
    """

    def __init__(self, start: float = 1_700_000_000.0, *, settle_rounds: int = SETTLE_ROUNDS) -> None:
        self._now = start
        self._start = start
        self._rounds = settle_rounds
        self._order = itertools.count()
        self._timers: list[tuple[float, int, _VirtualTimer]] = []

    def wall(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now - self._start

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = _VirtualTimer(callback)
        heapq.heappush(self._timers, (max(when, self._now), next(self._order), timer))
        return timer

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        passed = asyncio.Event()
        timer = self.call_at(self._now + seconds, passed.set)
        try:
            await passed.wait()
        finally:
            timer.cancel()

    def next_deadline(self) -> float | None:
        """When (Unix seconds) the earliest live timer rings; None: nobody waits."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def jump(self) -> bool:
        """Move to the next deadline and ring what is due there; False when nobody waits. Gives tasks no turn."""
        when = self.next_deadline()
        if when is None:
            return False
        self._now = max(self._now, when)
        # Only what was asked for before this jump: a callback that asks for "now" again rings at the next jump.
        last = next(self._order)
        while (due := self.next_deadline()) is not None and due <= self._now and self._timers[0][1] < last:
            heapq.heappop(self._timers)[2].callback()
        return True

    async def settle(self) -> None:
        """Give every task its turns, so that what can react to this moment has reacted."""
        for _ in range(self._rounds):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass, stopping at every deadline on the way for its timers and the tasks they wake."""
        target = self._now + seconds
        await self.settle()
        while (when := self.next_deadline()) is not None and when <= target:
            self.jump()
            await self.settle()
        self._now = max(self._now, target)

    async def run(self, work: Awaitable[T]) -> T:
        """Await `work`, jumping from deadline to deadline while it waits. Raises RuntimeError on a deadlock."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self.settle()
                if not task.done() and not self.jump():
                    raise RuntimeError("virtual time stands still: the work waits, but no timer is set")
        finally:
            if not task.done():
                task.cancel()
        return task.result()
