"""Schedules fire: the event is on disk before the next time is recorded (schedules.py)."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Any

from minicloud.base.errors import NotFound
from minicloud.function import names
from minicloud.function.commands import ScheduleFired
from minicloud.function.invoking import Request
from minicloud.function.model import Schedule
from minicloud.function.state import State
from minicloud.shell import firing
from minicloud.shell.clock import Clock

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outside:
    """`put` accepts an asynchronous invocation; `submit` is the service's."""

    put: Callable[[names.Target, Request, str], Awaitable[None]]
    submit: Callable[[Any], Awaitable[Any]]
    new_id: Callable[[], str]
    clock: Clock


class Schedules:
    """Implements shell.firing.Due."""

    def __init__(self, state: State) -> None:
        self._state = state

    def next(self, after: float = -inf) -> float | None:
        return self._state.next_schedule(after)

    def due(self, now: float) -> list[Schedule]:
        return self._state.due_schedules(now)

    def holds(self, one: Schedule) -> bool:
        return self._state.schedules.get(one.arn) == one


class Firing(firing.Firing[Schedule]):
    def __init__(self, state: State, outside: Outside) -> None:
        super().__init__("schedule", Schedules(state), self._put, outside.clock)
        self._state = state
        self._out = outside

    async def _put(self, one: Schedule) -> None:
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
