"""What the machine of groups can be asked: requests of users, reports of the world, as values.

Doors build these from the wire; the machine validates them. In `GroupSettings` None means: not given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from minicloud.base.arn import Scope
from minicloud.scaling import limits
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.tracking import Reading


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """What a group can be told. `template` is {id, version}; `types` the overrides of a mixed instances policy;
    `local_tags` the keys of tags that its instances do not get."""

    min_size: int | None = None
    max_size: int | None = None
    desired: int | None = None
    zones: list[str] | None = None
    template: dict[str, str] | None = None
    types: list[str] | None = None
    cooldown_s: int | None = None
    warmup_s: int | None = None
    health_types: list[str] | None = None
    grace_s: int | None = None
    termination_policies: list[str] | None = None
    protect_new: bool | None = None
    max_lifetime_s: int | None = None
    target_groups: list[str] | None = None
    tags: dict[str, str] | None = None
    local_tags: list[str] | None = None


@dataclass(frozen=True, slots=True)
class OfGroup:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class HookSpec:
    """A lifecycle hook; `default` is its result when time runs out. `role` is shown to who asks, nobody takes it on."""

    transition: str
    timeout_s: int = limits.HOOK_TIMEOUT_S_DEFAULT
    default: str = "ABANDON"
    target: str = ""
    metadata: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class CreateGroup(OfGroup):
    """`hooks`: those that its first instances wait for, too."""

    settings: GroupSettings
    hooks: Mapping[str, HookSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateGroup(OfGroup):
    settings: GroupSettings


@dataclass(frozen=True, slots=True)
class DeleteGroup(OfGroup):
    force: bool = False


@dataclass(frozen=True, slots=True)
class SetDesired(OfGroup):
    desired: int
    honor_cooldown: bool = False


@dataclass(frozen=True, slots=True)
class ChangeTargets(OfGroup):
    """Attach and detach target groups, by ARN."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TagGroup(OfGroup):
    """`local`: which of the tags instances do not get. A key in `remove` that is not there is passed over."""

    tags: dict[str, str]
    local: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectMetrics(OfGroup):
    """Which group metrics are reported, or no longer. `names` empty: all of them."""

    names: tuple[str, ...] = ()
    stop: bool = False


@dataclass(frozen=True, slots=True)
class SetNotifications(OfGroup):
    """Which events a topic is told of, in place of those before; none: nothing any more."""

    topic: str
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SuspendProcesses(OfGroup):
    """`processes` empty: all of them."""

    processes: tuple[str, ...] = ()
    resume: bool = False


@dataclass(frozen=True, slots=True)
class PutHook(OfGroup):
    """On an existing hook None keeps what it has."""

    hook: str
    transition: str | None = None
    timeout_s: int | None = None
    default: str | None = None
    target: str | None = None
    metadata: str | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteHook(OfGroup):
    hook: str


@dataclass(frozen=True, slots=True)
class EndWait(OfGroup):
    """CompleteLifecycleAction; with result "" RecordLifecycleActionHeartbeat. By token or by instance."""

    hook: str
    result: str = ""
    token: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """An instance that is to be attached, as compute has it."""

    instance_id: str
    zone: str
    state: str
    type: str = ""
    template: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Attach(OfGroup):
    instances: tuple[Found, ...]


@dataclass(frozen=True, slots=True)
class Detach(OfGroup):
    ids: tuple[str, ...]
    decrement: bool


@dataclass(frozen=True, slots=True)
class EnterStandby(OfGroup):
    ids: tuple[str, ...]
    decrement: bool


@dataclass(frozen=True, slots=True)
class ExitStandby(OfGroup):
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Protect(OfGroup):
    ids: tuple[str, ...]
    protected: bool


@dataclass(frozen=True, slots=True)
class SetHealth:
    scope: Scope
    instance_id: str
    status: str
    respect_grace: bool = True


@dataclass(frozen=True, slots=True)
class TerminateMember:
    scope: Scope
    instance_id: str
    decrement: bool


@dataclass(frozen=True, slots=True)
class PutWarmPool(OfGroup):
    min_size: int = 0
    max_prepared: int | None = None
    state: str = "Stopped"
    reuse_on_scale_in: bool = False


@dataclass(frozen=True, slots=True)
class DeleteWarmPool(OfGroup):
    pass


@dataclass(frozen=True, slots=True)
class StartRefresh(OfGroup):
    """`template`, `types`: the desired configuration, None: the group's own. `version`: the number that the version of
    the template stands for now. `alarms`: one of them in ALARM fails the refresh."""

    template: dict[str, str] | None = None
    types: list[str] | None = None
    min_healthy: int = 90
    max_healthy: int = 100
    warmup_s: int | None = None
    checkpoints: tuple[int, ...] = ()
    checkpoint_delay_s: int | None = None
    skip_matching: bool = False
    auto_rollback: bool = False
    protected: str = "Wait"
    standby: str = "Wait"
    bake_s: int = 0
    version: str = ""
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelRefresh(OfGroup):
    pass


@dataclass(frozen=True, slots=True)
class RollbackRefresh(OfGroup):
    """By the user, or (alarm) because an alarm of the refresh went off."""

    alarm: str = ""


# --- policies


@dataclass(frozen=True, slots=True)
class PutPolicy(OfGroup):
    """`config` holds the fields of the type's value: TargetTracking, StepScaling, SimpleScaling, Predictive."""

    policy: str
    type: str
    config: dict[str, Any]
    enabled: bool = True
    warmup_s: int | None = None


@dataclass(frozen=True, slots=True)
class DeletePolicy(OfGroup):
    policy: str


@dataclass(frozen=True, slots=True)
class ExecutePolicy(OfGroup):
    """By a user, or (alarm) by an alarm. Step policies need values and threshold."""

    policy: str
    values: tuple[float, ...] = ()
    threshold: float | None = None
    honor_cooldown: bool = False
    alarm: str = ""


@dataclass(frozen=True, slots=True)
class Evaluate(OfGroup):
    """Readings for the target tracking policies, by name; predictive ones are looked at too."""

    readings: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ForecastMade(OfGroup):
    policy: str
    forecast: Forecast


@dataclass(frozen=True, slots=True)
class PutScheduled(OfGroup):
    action: str
    recurrence: str = ""
    time_zone: str = ""
    start: float | None = None
    end: float | None = None
    min_size: int | None = None
    max_size: int | None = None
    desired: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteScheduled(OfGroup):
    action: str


# --- what the world says


@dataclass(frozen=True, slots=True)
class Launched:
    """The launcher's answer to a token; the same each time it is asked."""

    group: str
    number: int
    instance_id: str
    zone: str
    type: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """A definite no: nothing was launched under this token.

    `blames`: "place" (zone and type have no room together), "type" or "zone" (it cannot be had anywhere, or nothing can
    be had in it), "group" (its template, its account).
    """

    group: str
    number: int
    code: str
    message: str
    blames: str = "group"


@dataclass(frozen=True, slots=True)
class InstanceSeen:
    """The state of an instance as compute has it now.

    `fault`: it ended through no fault of its template. `impaired`: it runs, and has failed its status checks too long.
    `unplaced`: it ended because its host had no room for it after all, or failed.
    """

    instance_id: str
    state: str
    fault: bool = False
    impaired: bool = False
    unplaced: bool = False


@dataclass(frozen=True, slots=True)
class TargetSeen:
    """How balancers find an instance. `healthy`: none finds it unhealthy. `passed`: it is known to them, and each that
    checks it found it healthy."""

    instance_id: str
    healthy: bool
    passed: bool = False


@dataclass(frozen=True, slots=True)
class Drained:
    """No balancer of the group sends the instance anything any more."""

    instance_id: str


@dataclass(frozen=True, slots=True)
class Told:
    """A topic has been told of an activity, or cannot be."""

    group: str
    activity: str
    topic: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Rules of this scope want to know how activities end."""

    scope: Scope


@dataclass(frozen=True, slots=True)
class Unheard:
    """No rule of this scope listened when its listener had this number."""

    scope: Scope
    number: int


@dataclass(frozen=True, slots=True)
class TargetsLeft:
    """A target group that the group was detached from sends its instances nothing any more."""

    group: str
    target_group: str


@dataclass(frozen=True, slots=True)
class TargetsGone:
    """A target group of the group does not exist any more."""

    group: str
    target_group: str


@dataclass(frozen=True, slots=True)
class HookTold:
    """The target of a lifecycle hook has been told that this instance waits; or it cannot be."""

    instance_id: str
    hook: str
    token: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Everything that compute has, by group: instance id -> state. What is not in it is gone."""

    observed: Mapping[str, Mapping[str, str]]
