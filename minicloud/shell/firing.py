"""Things fire when they are due: one timer for the earliest; what could not fire is tried again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from minicloud.base.errors import CloudError
from minicloud.base.machine import Entity
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)
T = TypeVar("T", bound=Entity)

AGAIN_S = 5.0  # ours: after a disk that was full, a queue that was


class Due(Protocol[T]):
    """What fires: a table with an index by time."""

    def next(self) -> float | None:
        """When the earliest is due, Unix seconds."""
        ...

    def due(self, now: float) -> list[T]: ...

    def holds(self, one: T) -> bool:
        """It is there, as it was when it was due: not deleted, disabled or changed since."""
        ...


class Firing(Generic[T]):
    """`fire` ends one's being due; of one that raises, it is done again."""

    def __init__(self, what: str, table: Due[T], fire: Callable[[T], Awaitable[None]], clock: Clock) -> None:
        """what: for logs."""
        self._what = what
        self._table = table
        self._fire_one = fire
        self._clock = clock
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Call it whenever the table may have changed."""
        if self._task is None:
            self._arm(self._table.next())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._fire())

    async def _fire(self) -> None:
        failed = False
        for one in self._table.due(self._clock.wall()):
            if not self._table.holds(one):
                continue
            try:
                await self._fire_one(one)
            except CloudError as error:
                failed = True
                log.warning("the %s %s fires later: %s", self._what, one.key, error)
            except Exception:  # of one: all others of all accounts go on
                failed = True
                log.exception("the %s %s fires later", self._what, one.key)
        self._task = None
        if failed:
            self._arm(self._clock.wall() + AGAIN_S)
        else:
            self.follow()
