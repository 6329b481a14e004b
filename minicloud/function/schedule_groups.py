"""Groups of schedules: a name before a schedule's own, with tags; what is deleted goes with all that is in it.

Source: EventBridge Scheduler guide, "Managing a schedule group". The group `default` is there from the start and stays.
Where AWS deletes the schedules of a group one after the other (`DELETING`), here they are gone with the reply.
"""

from __future__ import annotations

import re
from dataclasses import replace

from minicloud.base.arn import Scope
from minicloud.base.errors import LimitExceeded
from minicloud.base.machine import Context, Draft, Outcome
from minicloud.function import errors, limits
from minicloud.function.commands import CreateScheduleGroup, DeleteScheduleGroup, TagScheduleGroup
from minicloud.function.functions import checked_tags
from minicloud.function.model import Schedule, ScheduleGroup
from minicloud.function.state import State

DEFAULT = "default"
_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,64}\Z")


def group_arn(scope: Scope, name: str) -> str:
    return scope.arn("scheduler", f"schedule-group/{name}")


def create(state: State, command: CreateScheduleGroup, context: Context) -> Outcome:
    """The reply is the ScheduleGroup."""
    scope, name = command.scope, command.name
    if not _NAME.match(name):
        raise errors.no_match("name", name, "[0-9a-zA-Z-_.]+")
    arn, tags = group_arn(scope, name), checked_tags(command.tags)
    before = state.schedule_groups.get(arn)
    if before is not None and before.token and (before.token, before.tags) == (command.token, tags):
        return Outcome(before)
    if before is not None or name == DEFAULT:
        raise errors.Taken(f"Schedule group {name} already exists.", code="ConflictException", field="name")
    if len(state.page(ScheduleGroup.kind, scope)) >= limits.SCHEDULE_GROUPS_MAX:
        text = f"The maximum number of schedule groups, {limits.SCHEDULE_GROUPS_MAX}, is reached."
        raise LimitExceeded(text, code="ServiceQuotaExceededException", field="name")
    draft = Draft(state)
    made = ScheduleGroup(arn, scope.account, scope.region, name, context.now, context.now, tags, command.token)
    draft.put(made)
    return draft.outcome(made)


def delete(state: State, command: DeleteScheduleGroup, _context: Context) -> Outcome:
    if command.name == DEFAULT:
        raise errors.out_of_model("name", DEFAULT, "The default schedule group cannot be deleted")
    group = find(state, command.scope, command.name)
    draft = Draft(state)
    for key in list(state.keys_under(Schedule.kind, group.arn)):
        draft.drop(state.schedules[key])
    draft.drop(group)
    return draft.outcome()


def tag(state: State, command: TagScheduleGroup, context: Context) -> Outcome:
    before = by_arn(state, command.scope, command.arn)
    kept = {key: value for key, value in before.tags.items() if key not in command.remove}
    draft = Draft(state)
    draft.put(replace(before, tags=checked_tags(kept | dict(command.tags)), modified=context.now))
    return draft.outcome()


def find(state: State, scope: Scope, name: str) -> ScheduleGroup:
    group = state.schedule_groups.get(group_arn(scope, name))
    if group is None and name == DEFAULT:
        return ScheduleGroup(group_arn(scope, DEFAULT), scope.account, scope.region, DEFAULT)
    if group is None:
        raise errors.NoSuchThing(f"Schedule group {name[:64]} does not exist.", field="GroupName")
    return group


def by_arn(state: State, scope: Scope, arn: str) -> ScheduleGroup:
    name = arn.rpartition("/")[2]
    if arn != group_arn(scope, name):
        raise errors.NoSuchThing(f"Schedule group {arn[:256]} does not exist.", field="ResourceArn")
    return find(state, scope, name)


def every(state: State, scope: Scope) -> list[ScheduleGroup]:
    """By name."""
    found = {DEFAULT: find(state, scope, DEFAULT)}
    found |= {
        group.name: group for group in map(state.schedule_groups.__getitem__, state.page(ScheduleGroup.kind, scope))
    }
    return [found[name] for name in sorted(found)]
