"""Things fire when they are due: one timer for the earliest; what could not fire is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Generic, Protocol, TypeVar

from minicloud.base.errors import CloudError
from minicloud.base.machine import Entity
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Entity)

AGAIN_S = 5.0  # ours: after a disk that was full, a queue that was
AT_ONCE_MAX = 64  # ours: those that fire together share an fsync


class Due(Protocol[T]):
    """What fires: a table with an index by time."""

    def next(self, after: float = -inf) -> float | None:
        """When the earliest is due, Unix seconds; of those that are due later than `after`."""
        ...

    def due(self, now: float) -> list[T]: ...

    def holds(self, one: T) -> bool:
        """It is there, as it was when it was due: not deleted, disabled or changed since."""
        ...


class Firing(Generic[T]):
    """`fire` ends one's being due; one that raises is done again, and keeps no other from its time."""

    def __init__(self, what: str, table: Due[T], fire: Callable[[T], Awaitable[None]], clock: Clock) -> None:
        """what: for logs."""
        self._what = what
        self._table = table
        self._fire_one = fire
        self._clock = clock
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._again: dict[str, float] = {}  # when those that failed are done again, by their keys

    def follow(self) -> None:
        """Call it whenever the table may have changed."""
        if self._task is None:
            self._arm(self._next())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _next(self) -> float | None:
        if not self._again:
            return self._table.next()
        now = self._clock.wall()
        keys = [one.key for one in self._table.due(now)]
        self._again = {key: self._again[key] for key in keys if key in self._again}
        times = [self._again.get(key, now) for key in keys]
        later = self._table.next(now)
        return min([*times, later] if later is not None else times, default=None)

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._fire())

    async def _fire(self) -> None:
        now = self._clock.wall()
        due = [one for one in self._table.due(now) if self._again.get(one.key, now) <= now]
        for at in range(0, len(due), AT_ONCE_MAX):
            await asyncio.gather(*map(self._try, due[at : at + AT_ONCE_MAX]))
        self._task = None
        self.follow()

    async def _try(self, one: T) -> None:
        if not self._table.holds(one):
            return
        try:
            await self._fire_one(one)
        except CloudError as error:
            log.warning("the %s %s fires later: %s", self._what, one.key, error)
        except Exception:  # of one: all others of all accounts go on
            log.exception("the %s %s fires later", self._what, one.key)
        else:
            self._again.pop(one.key, None)
            return
        self._again[one.key] = self._clock.wall() + AGAIN_S
