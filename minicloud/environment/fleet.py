"""The environments of one function version, and those who wait for one.

Whoever finds no idle environment waits; the first environment that is free takes the one who came first, be it new or
one that has just finished something else. So the only question is how many to start. As many as there are waiters, with
one exception: where environments are at work whose invocations are short, a waiter's turn comes sooner than a new one
would be up, and none is started unless that turns out wrong (PATIENCE).

Of idle ones the one on this machine goes first, of these the one that was used last: the others may end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from minicloud.environment.member import ENDED, IDLE, Member
from minicloud.environment.outcomes import Failure
from minicloud.function.ports import Counts, EnvironmentSpec

COLD_S_USUAL = 0.02  # until one was seen to come up
FORGET = 0.2  # how much the newest measurement counts


class NeverUp(Exception):
    """The environment that a waiter stood for ended before it was up."""

    def __init__(self, environment: Member, failed: Failure) -> None:
        super().__init__(failed.kind)
        self.environment, self.failed = environment, failed


class Fleet:
    """`start`: called with how many more are to be started now."""

    def __init__(self, spec: EnvironmentSpec, start: Callable[[Fleet, int], None]) -> None:
        self.spec = spec
        self.idle: list[Member] = []  # those on other machines, then those on this one; each as they became idle
        self.members: set[Member] = set()
        self.wanted = 0  # kept warm, whatever the load
        self.starting = 0
        self.retired = False
        self._start = start
        self._waiters: deque[asyncio.Future[Member]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._cold_s = COLD_S_USUAL
        self._busy_s = 1.0

    @property
    def empty(self) -> bool:
        return not (self.members or self.starting or self._waiters or self.wanted)

    def counts(self) -> Counts:
        return Counts(len(self.members) - len(self.idle), len(self.idle), self.starting)

    async def get(self) -> Member:
        """An idle one, which is the caller's until it is given back. Raises NeverUp, and what `fail` was told."""
        for environment in reversed(self.idle):
            if environment.ready:
                self.idle.remove(environment)
                return environment
        waiter: asyncio.Future[Member] = self._loop.create_future()
        self._waiters.append(waiter)
        self._consider()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.free(waiter.result())
            raise

    def free(self, environment: Member) -> None:
        """It is idle: for who waits longest, else for later."""
        if environment.state == ENDED:
            return
        self.members.add(environment)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(environment)
                return
        self._lay_up(environment)

    def later(self, environment: Member) -> None:
        """It took nothing. One that lives on asks again, or ends when it has been idle."""
        if environment.state == IDLE and environment not in self.idle:
            self._lay_up(environment)

    def _lay_up(self, environment: Member) -> None:
        if environment.near:
            self.idle.append(environment)
        else:
            far = next((at for at, one in enumerate(self.idle) if one.near), len(self.idle))
            self.idle.insert(far, environment)

    async def settled(self, count: int) -> None:
        """So many are there, or none is being started any more."""
        while self.starting and len(self.members) < count:
            self._changed.clear()
            await self._changed.wait()

    def up(self, cold_s: float) -> None:
        """One of those that were being started is there."""
        self.starting -= 1
        self._changed.set()
        self._cold_s += FORGET * (cold_s - self._cold_s)

    def took(self, busy_s: float) -> None:
        """How long an invocation kept its environment."""
        self._busy_s += FORGET * (busy_s - self._busy_s)

    def fail(self, error: Exception) -> None:
        """One that was being started will not come: who waits longest is told."""
        self.starting -= 1
        self._changed.set()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def lost(self) -> None:
        """One that was being started will not come, by no fault of its own: another is started, if it is needed."""
        self.starting -= 1
        self._changed.set()
        self._consider()

    def let_go(self, environment: Member) -> None:
        """Of an idle one: it takes nothing any more, and ends."""
        self.idle.remove(environment)
        environment.kill()

    def gone(self, environment: Member) -> None:
        self.members.discard(environment)
        if environment in self.idle:
            self.idle.remove(environment)
        self._consider()

    def waiting(self) -> int:
        return sum(not waiter.done() for waiter in self._waiters)

    def _consider(self) -> None:
        missing = self.waiting() - self.starting
        if missing <= 0:
            return
        missing -= sum(environment.turning for environment in self.members)
        if missing <= 0 or self._soon(missing):
            if self._timer is None:
                self._timer = self._loop.call_later(self._cold_s, self._patience_ends)
            return
        self._start(self, missing)

    def _soon(self, missing: int) -> bool:
        """Those at work will be through with the waiters before a new environment could be up."""
        count = len(self.members)
        return count > 0 and self._busy_s * (1 + missing / count) < self._cold_s

    def _patience_ends(self) -> None:
        self._timer = None
        missing = self.waiting() - self.starting
        if missing > 0:
            self._start(self, missing)
