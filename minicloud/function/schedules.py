"""Schedules: times at which functions are invoked. Source: EventBridge Scheduler guide, "Schedule types".

    rate(5 minutes)    rate(1 hour)    rate(7 days)        counted from when it was made or changed
    cron(0 18 ? * MON-FRI *)                               six fields, in the schedule's time zone
    at(2026-11-25T18:00:00)                                once, in the schedule's time zone

A schedule's event is put into the queue of asynchronous invocations first, then the next time is recorded: a crash in
between fires it twice, never not at all. What was due while the cloud was down fires once when it is up again.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, limits, names, schedule_groups
from minicloud.function.commands import CREATE, UPDATE, DeleteSchedule, PutSchedule, ScheduleFired
from minicloud.function.model import Schedule
from minicloud.function.state import State
from minicloud.shell import cron

_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,64}\Z")
_AT = re.compile(r"at\((?P<inside>[^()]{1,250})\)\Z")
DESCRIPTION_CHARS_MAX = 512  # model of EventBridge Scheduler, Description


def schedule_arn(scope: Scope, name: str) -> str:
    """`name`: as in commands.PutSchedule."""
    return scope.arn("scheduler", f"schedule/{'/'.join(_parts(name))}")


def _parts(name: str) -> tuple[str, str]:
    """Group and name."""
    group, slash, own = name.partition("/")
    return (group, own) if slash else (schedule_groups.DEFAULT, name)


def put(state: State, command: PutSchedule, context: Context) -> Outcome:
    """The reply is the Schedule."""
    scope = command.scope
    group, name = _parts(command.name)
    if not _NAME.match(name):
        raise errors.no_match("name", name, "[0-9a-zA-Z-_.]+")
    schedule_groups.find(state, scope, group)
    target = names.resolve(state, scope, command.function)
    if command.input:
        _check_input(command.input)
    errors.check_length("description", command.description, DESCRIPTION_CHARS_MAX)
    if command.start is not None and command.end is not None and command.start >= command.end:
        raise errors.out_of_model("endDate", command.end, "it must come after the start date")
    arn = schedule_arn(scope, command.name)
    before = state.schedules.get(arn)
    made = Schedule(
        arn,
        scope.account,
        scope.region,
        name,
        command.expression,
        command.zone,
        target.arn,
        target.function.arn,
        context.now if before is None else before.created,
        None,
        command.input,
        command.enabled,
        context.now,
        command.description,
        command.role,
        command.start,
        command.end,
        command.ends,
        command.token,
        group,
    )
    made = replace(made, next=due(made, context.now, context.now))
    if command.only == CREATE and before is not None:
        if before.token and before.token == command.token and _asks_for(before, made):
            return Outcome(before)
        raise errors.Taken(f"Schedule {name} already exists.", code="ConflictException", field="name")
    if command.only == UPDATE and before is None:
        raise _missing(name)
    draft = Draft(state)
    draft.put(made)
    return draft.outcome(made)


def _asks_for(before: Schedule, made: Schedule) -> bool:
    """Whether a request that came again is the one that made what is there."""
    return replace(made, next=before.next, modified=before.modified, created=before.created) == before


def delete(state: State, command: DeleteSchedule, _context: Context) -> Outcome:
    draft = Draft(state)
    draft.drop(find(state, command.scope, command.name))
    return draft.outcome()


def fired(state: State, command: ScheduleFired, context: Context) -> Outcome:
    """The next time is after now: what was missed is not made up for."""
    schedule = state.schedules.get(command.arn)
    draft = Draft(state)
    if schedule is not None and schedule.next == command.at:
        after = replace(schedule, next=due(schedule, context.now, command.at))
        if after.next is None and after.ends:
            draft.drop(schedule)
        else:
            draft.put(after)
    return draft.outcome()


def due(one: Schedule, now: float, last: float) -> float | None:
    """When it fires next: not before its start, not after its end; a time of its own (`at`) knows of neither."""
    if one.expression.startswith("at("):
        return next_time(one.expression, one.zone, now, last)
    waits = one.start is not None and one.start > now
    if waits and one.expression.startswith("rate("):
        next_time(one.expression, one.zone, now, last)  # refuses what is none
        found = one.start
    else:
        found = next_time(one.expression, one.zone, one.start - 1.0 if waits and one.start else now, last)
    return None if found is None or (one.end is not None and found > one.end) else found


def find(state: State, scope: Scope, name: str) -> Schedule:
    schedule = state.schedules.get(name if name.startswith("arn:") else schedule_arn(scope, name))
    if schedule is None or schedule.scope != scope:
        raise _missing(name.rpartition("/")[2])
    return schedule


def _missing(name: str) -> errors.NoSuchThing:
    return errors.NoSuchThing(f"Schedule {name[:128]} does not exist.", field="name")


def next_time(expression: str, zone_name: str, now: float, last: float) -> float | None:
    """The first time after now; a rate counts from `last`. None: never. Raises ValidationException."""
    try:
        zone = cron.time_zone(zone_name)
    except ValueError:
        raise errors.out_of_model("scheduleExpressionTimezone", zone_name, "it is no IANA time zone") from None
    try:
        once = _AT.match(expression)
        if once is None:
            return cron.next_time(expression, zone, now, last)
        at = datetime.fromisoformat(once["inside"]).replace(tzinfo=zone).timestamp()
        return at if at > now else None
    except ValueError:
        text = "Invalid Schedule Expression. it must be rate(...), cron(...) or at(...)"
        raise errors.out_of_model("scheduleExpression", expression, text) from None


def _check_input(text: str) -> None:
    if len(text.encode()) > limits.ASYNC_BYTES_MAX:
        raise errors.too_large(limits.ASYNC_BYTES_MAX, len(text))
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise errors.invalid("The input of a schedule must be JSON", "input") from None
