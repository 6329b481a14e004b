"""Schedules fire: one timer for the earliest; the event is on disk before the next time is recorded (schedules.py)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from minicloud.base.errors import CloudError, NotFound
from minicloud.function import names
from minicloud.function.commands import ScheduleFired
from minicloud.function.invoking import Request
from minicloud.function.model import Schedule
from minicloud.function.state import State
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)

AGAIN_S = 5.0  # ours: after a disk that was full, a queue of events that was


@dataclass(frozen=True, slots=True)
class Outside:
    """`put` accepts an asynchronous invocation; `submit` is the service's."""

    put: Callable[[names.Target, Request, str], Awaitable[None]]
    submit: Callable[[Any], Awaitable[Any]]
    new_id: Callable[[], str]
    clock: Clock


class Firing:
    def __init__(self, state: State, outside: Outside) -> None:
        self._state = state
        self._out = outside
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Call it whenever schedules may have changed."""
        if self._task is None:
            self._arm(self._state.next_schedule())

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _arm(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if when is None else self._out.clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._task = asyncio.create_task(self._fire())

    async def _fire(self) -> None:
        failed = False
        for one in self._state.due_schedules(self._out.clock.wall()):
            if self._state.schedules.get(one.arn) != one:
                continue  # deleted, disabled or changed since this pass began
            try:
                await self._fire_one(one)
            except CloudError as error:
                failed = True
                log.warning("the schedule %s fires later: %s", one.arn, error)
            except Exception:  # of one schedule: all others of all accounts go on
                failed = True
                log.exception("the schedule %s fires later", one.arn)
        self._task = None
        if failed:
            self._arm(self._out.clock.wall() + AGAIN_S)
        else:
            self.follow()

    async def _fire_one(self, one: Schedule) -> None:
        assert one.next is not None
        request_id = self._out.new_id()
        try:
            target = names.resolve(self._state, one.scope, one.target)
        except NotFound:
            log.warning("the schedule %s names a function that is gone", one.arn)
        else:
            payload = one.input or _event(one, request_id)
            await self._out.put(target, Request(one.scope, one.target, payload.encode()), request_id)
        await self._out.submit(ScheduleFired(one.arn, one.next))


def _event(one: Schedule, request_id: str) -> str:
    """Source: EventBridge Scheduler guide, "Managing targets": what a target gets where no input was given."""
    when = datetime.fromtimestamp(one.next or 0.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "version": "0",
        "id": request_id,
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": one.account,
        "time": when,
        "region": one.region,
        "resources": [one.arn],
        "detail": "{}",
    }
    return json.dumps(event)
