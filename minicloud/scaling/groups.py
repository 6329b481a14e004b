"""Requests about groups: create, update, delete, desired capacity, suspended processes, warm pools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from minicloud.base.machine import Context
from minicloud.scaling import hooks, limits, notices, texts
from minicloud.scaling.checks import METRICS, PROCESSES, check_name, merged
from minicloud.scaling.commands import (
    ChangeTargets,
    CollectMetrics,
    CreateGroup,
    DeleteGroup,
    GroupSettings,
    PutWarmPool,
    SetDesired,
    SetNotifications,
    SuspendProcesses,
    TagGroup,
    TargetsGone,
    TargetsLeft,
    Told,
    UpdateGroup,
)
from minicloud.scaling.errors import (
    activity_in_progress,
    group_exists,
    group_in_use,
    invalid,
    no_such,
    too_many,
    unsupported,
)
from minicloud.scaling.model import Group
from minicloud.scaling.state import State, Turn


def create(state: State, command: CreateGroup, context: Context) -> Turn:
    """Raises InvalidParameterValue, AlreadyExists, LimitExceeded."""
    scope, name, settings = command.scope, check_name(command.name), command.settings
    if scope.key(name) in state.groups:
        raise group_exists(name)
    if len(state.of_scope(scope)) >= limits.GROUPS_MAX:
        raise too_many("Auto Scaling groups of a region", limits.GROUPS_MAX, "group")
    if settings.min_size is None or settings.max_size is None:
        raise invalid("MinSize and MaxSize are required", "min_size")
    if settings.desired is None:
        settings = replace(settings, desired=settings.min_size)
    digits = context.hex(16)
    fresh = Group(
        key=scope.key(name),
        name=name,
        account=scope.account,
        region=scope.region,
        uid=digits,
        created=context.now,
        min_size=0,
        max_size=0,
        desired=0,
        zones=[],
        hooks=hooks.checked(command.hooks),
        changed=context.now,
    )
    group = merged(fresh, settings)
    cause = texts.user_created(context.now, (group.min_size, group.max_size, group.desired))
    return Turn(state, replace(group, cause=cause), context)


def update(turn: Turn, command: UpdateGroup) -> None:
    """Raises InvalidParameterValue, Conflict (the group is being deleted)."""
    check_alive(turn)
    before = turn.group
    after = merged(before, command.settings)
    if before.refresh and (after.template != before.template or after.types != before.types):
        raise invalid("The launch template can't be changed while an instance refresh is in progress", "template")
    turn.change(**{name: getattr(after, name) for name in _SETTABLE})
    if after.template != before.template or after.types != before.types:
        turn.change(cold={}, failures=0, retry_at=0.0)  # what failed before says nothing about these
    _leave(turn, before.target_groups)
    if after.desired != before.desired:
        bounds = (after.min_size, after.max_size, after.desired)
        turn.change(changed=turn.now, cause=texts.user_update(turn.now, bounds, before.desired))


_SETTABLE = (
    "min_size", "max_size", "desired", "zones", "template", "types", "cooldown_s", "warmup_s", "health_types",
    "grace_s", "termination_policies", "protect_new", "max_lifetime_s", "target_groups", "tags",
    "local_tags",
)  # fmt: skip


def _leave(turn: Turn, before: list[str]) -> None:
    """Target groups that are the group's no more are to forget its instances."""
    now = turn.group.target_groups
    gone = [arn for arn in (*turn.group.leaving, *before) if arn not in now]
    turn.change(leaving=list(dict.fromkeys(gone)) if turn.members else [])


def change_targets(turn: Turn, command: ChangeTargets) -> None:
    """Raises InvalidParameterValue."""
    check_alive(turn)
    before = turn.group.target_groups
    for arn in command.remove:
        if arn not in before:
            raise invalid(
                f"Trying to remove Target Groups that are not part of the group: {arn[:255]}", "target_groups"
            )
    kept = [arn for arn in before if arn not in command.remove]
    settings = GroupSettings(target_groups=list(dict.fromkeys((*kept, *command.add))))
    turn.change(target_groups=merged(turn.group, settings).target_groups)
    _leave(turn, before)


def targets_left(turn: Turn, command: TargetsLeft) -> None:
    turn.change(leaving=[arn for arn in turn.group.leaving if arn != command.target_group])


def targets_gone(turn: Turn, command: TargetsGone) -> None:
    """AWS keeps the name and fails every launch from then on; here the group goes on without it, and says so."""
    group, arn = turn.group, command.target_group
    if arn in group.target_groups:
        turn.change(target_groups=[one for one in group.target_groups if one != arn])
        key = turn.begin(texts.detaching(arn), texts.targets_gone(turn.now, arn))
        turn.progress(key, status="Successful")


def tag(turn: Turn, command: TagGroup) -> None:
    """Raises InvalidParameterValue."""
    kept = {key: value for key, value in turn.group.tags.items() if key not in command.remove}
    local = [key for key in turn.group.local_tags if key in kept and key not in command.tags]
    settings = GroupSettings(tags={**kept, **command.tags}, local_tags=[*local, *command.local])
    after = merged(turn.group, settings)
    turn.change(tags=after.tags, local_tags=after.local_tags)


def collect_metrics(turn: Turn, command: CollectMetrics) -> None:
    """Raises InvalidParameterValue for a metric that does not exist."""
    named = command.names or METRICS
    for name in named:
        if name not in METRICS:
            raise invalid(f"{name[:64]} is not a valid metric type. Valid metrics are {', '.join(METRICS)}", "metrics")
    wanted = set(turn.group.metrics) - set(named) if command.stop else {*turn.group.metrics, *named}
    turn.change(metrics=[name for name in METRICS if name in wanted])


def set_notifications(turn: Turn, command: SetNotifications) -> None:
    """Raises InvalidParameterValue, LimitExceeded."""
    after = {topic: events for topic, events in turn.group.notifications.items() if topic != command.topic}
    for event in command.events:
        if event not in notices.EVENTS:
            raise invalid(f"'{event[:64]}' is not a valid notification type", "notification_types")
    if command.events:
        check_alive(turn)
        after[command.topic] = list(dict.fromkeys(command.events))
    elif command.topic not in turn.group.notifications:
        raise no_such("notification configuration", command.topic, "topic")
    if len(after) > limits.TOPICS_MAX:
        raise too_many("SNS topics of a group", limits.TOPICS_MAX, "topic")
    turn.change(notifications=after)


def told(turn: Turn, command: Told) -> None:
    found = turn.activity(command.activity)
    if found is not None and command.topic in found.tell:
        turn.write(replace(found, tell=[topic for topic in found.tell if topic != command.topic]))


def check_alive(turn: Turn) -> None:
    if turn.group.deleting:
        raise activity_in_progress("The AutoScalingGroup is being deleted.")


def delete(turn: Turn, command: DeleteGroup) -> None:
    """Raises Conflict: ResourceInUse while it has instances, unless forced."""
    if turn.members and not command.force:
        raise group_in_use()
    turn.change(deleting=True, min_size=0, max_size=0, desired=0, warm=None, refresh="", cause="")


def set_desired(turn: Turn, command: SetDesired) -> None:
    """Raises InvalidParameterValue, Conflict (ScalingActivityInProgress in the cooldown, if it is honoured)."""
    check_alive(turn)
    group, wanted = turn.group, command.desired
    if wanted > group.max_size:
        raise invalid(
            f"New SetDesiredCapacity value {wanted} is above max value {group.max_size} for the AutoScalingGroup.",
            "desired",
        )
    if wanted < group.min_size:
        raise invalid(
            f"New SetDesiredCapacity value {wanted} is below min value {group.min_size} for the AutoScalingGroup.",
            "desired",
        )
    if command.honor_cooldown and turn.now < group.cooldown_until:
        raise activity_in_progress("The group is in its cooldown.")
    resize(turn, wanted, texts.user_desired(turn.now, group.desired, wanted))


def resize(turn: Turn, wanted: int, cause: str) -> None:
    """Another desired capacity, and why. The caller has checked it against min and max."""
    if wanted != turn.group.desired:
        turn.change(desired=wanted, changed=turn.now, cause=cause)


def suspend(turn: Turn, command: SuspendProcesses) -> None:
    """Raises InvalidParameterValue for a process that does not exist."""
    named = command.processes or PROCESSES
    for process in named:
        if process not in PROCESSES:
            raise invalid(f"{process[:64]} is not a valid process type", "processes")
    after: dict[str, str] = {name: why for name, why in turn.group.suspended.items() if name not in named}
    if not command.resume:
        after |= {name: f"User suspended at {texts.stamp(turn.now)}" for name in named}
    turn.change(suspended=after)


def put_warm_pool(turn: Turn, command: PutWarmPool) -> None:
    """Raises InvalidParameterValue."""
    check_alive(turn)
    if command.state not in ("Stopped", "Running"):
        raise unsupported(f"PoolState '{command.state[:16]}'", "state")
    most = command.max_prepared
    if command.min_size < 0 or (most is not None and not command.min_size <= most <= limits.GROUP_SIZE_MAX):
        raise invalid("MaxGroupPreparedCapacity must be at least the pool's MinSize", "max_prepared")
    if turn.group.types:
        raise invalid("You can't use a warm pool with a group that has a mixed instances policy", "group")
    pool: dict[str, Any] = {"min_size": command.min_size, "max_prepared": most, "state": command.state}
    turn.change(warm=pool | {"reuse_on_scale_in": command.reuse_on_scale_in})
