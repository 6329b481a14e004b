"""The entities of auto scaling, as values. Each turns into a JSON-able body and back; unknown keys are dropped, missing
ones take the default, so a body written by an older version opens in a newer one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from minicloud.base.arn import Scope
from minicloud.scaling.lifecycle import DRAINING

_NAMES: dict[type[Any], frozenset[str]] = {}


class Entity:
    """A record's body as a value. `kind` is its table; `key` is unique within it.

    Keys: a group's is account/region/name; what belongs to it adds /number, policies and schedules :name (the name of
    a group may have a slash in it, and never a colon).
    """

    kind: ClassVar[str]
    key: str

    def body(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        known = _NAMES.get(cls)
        if known is None:
            known = _NAMES[cls] = frozenset(item.name for item in fields(cls))  # type: ignore[arg-type]
        return cls(**{name: value for name, value in body.items() if name in known})


@dataclass(frozen=True, slots=True)
class Group(Entity):
    """One auto scaling group.

    `serial` is the number of the next member, `uid` makes its client token unlike that of an earlier group of the same
    name. `wake` is when the reconciler next has to look (Unix seconds; None: only when something happens). `cause` is
    why desired last changed, until it is reached. `failures` counts rounds of launches in a row that failed, `retry_at`
    ends their back-off; `cold` remembers places that failed: "zone/type" ("*": every) -> [until, failures]. `leaving`:
    target groups that it was detached from and that may still know its instances. `metrics`: its own that are reported.
    `notifications`: topic -> which events it is told of.
    """

    kind: ClassVar[str] = "scaling-group"

    key: str
    name: str
    account: str
    region: str
    uid: str
    created: float
    min_size: int
    max_size: int
    desired: int
    zones: list[str]
    template: dict[str, str] = field(default_factory=dict)
    types: list[str] = field(default_factory=list)
    cooldown_s: int = 300
    warmup_s: int | None = None
    health_types: list[str] = field(default_factory=lambda: ["EC2"])
    grace_s: int = 0
    termination_policies: list[str] = field(default_factory=lambda: ["Default"])
    protect_new: bool = False
    max_lifetime_s: int = 0
    target_groups: list[str] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    local_tags: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    notifications: dict[str, list[str]] = field(default_factory=dict)
    suspended: dict[str, str] = field(default_factory=dict)
    hooks: dict[str, dict[str, Any]] = field(default_factory=dict)
    warm: dict[str, Any] | None = None
    refresh: str = ""
    deleting: bool = False
    serial: int = 1
    activities: int = 0
    refreshes: int = 0
    changed: float = 0.0
    cause: str = ""
    cooldown_until: float = 0.0
    failures: int = 0
    retry_at: float = 0.0
    cold: dict[str, list[float]] = field(default_factory=dict)
    wake: float | None = None

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def arn(self) -> str:
        return self.scope.arn("autoscaling", f"autoScalingGroup:{self.uid}:autoScalingGroupName/{self.name}")

    @property
    def warmup(self) -> int:
        """Seconds until a new instance counts in metrics: the default warm-up, else the default cooldown, as at AWS."""
        return self.cooldown_s if self.warmup_s is None else self.warmup_s


@dataclass(frozen=True, slots=True)
class Member(Entity):
    """One instance of a group, from the decision to launch it.

    `instance_id` is empty until the launcher has answered. `seen` is its state as compute last reported it. `waits` are
    the lifecycle hooks it waits for: name -> {token, deadline, end}. `replaces` is the key of the member that this one
    is to take over from; until then it does not count for desired. `returning`: it was in service and is on its way
    back into the warm pool. `target_passed`: every balancer that checks it has found it healthy. `until` bounds the
    state it is in.
    """

    kind: ClassVar[str] = "scaling-member"

    key: str
    group: str
    number: int
    token: str
    state: str
    zone: str
    created: float
    type: str = ""
    template: str = ""
    version: str = ""
    instance_id: str = ""
    seen: str = "pending"
    in_service: float | None = None
    unhealthy: str = ""
    target_bad: bool = False
    target_passed: bool = False
    impaired: bool = False
    protected: bool = False
    replaces: str = ""
    starting: bool = False
    warmed: bool = False
    returning: bool = False
    waits: dict[str, dict[str, Any]] | None = None
    until: float | None = None
    activity: str = ""

    @property
    def drains(self) -> bool:
        """Balancers are to let go of it."""
        return self.state in DRAINING or (self.returning and self.state == "Warmed:Pending")

    @property
    def plain(self) -> bool:
        """Nothing about it wants the reconciler."""
        return (
            self.state == "InService"
            and not self.unhealthy
            and not self.target_bad
            and not self.impaired
            and not self.replaces
            and self.seen == "running"
        )


@dataclass(frozen=True, slots=True)
class Activity(Entity):
    """One line of a group's history. `end` None: under way. `tell`: topics, and the event
    bus, that are still to be told how it ended."""

    kind: ClassVar[str] = "scaling-activity"

    key: str
    group: str
    id: str
    description: str
    cause: str
    start: float
    end: float | None = None
    status: str = "InProgress"
    message: str = ""
    progress: int = 0
    instance_id: str = ""
    tell: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Policy(Entity):
    """A scaling policy. `config` is the body of its type's own value (tracking, steps, predictive); `forecast` the
    newest one, as {start, step_s, load}."""

    kind: ClassVar[str] = "scaling-policy"

    key: str
    group: str
    name: str
    uid: str
    type: str
    config: dict[str, Any]
    enabled: bool = True
    warmup_s: int | None = None
    forecast: dict[str, Any] | None = None

    @property
    def arn(self) -> str:
        scope, group = owner(self.group)
        return scope.arn("autoscaling", f"scalingPolicy:{self.uid}:autoScalingGroupName/{group}:policyName/{self.name}")

    @property
    def foretells(self) -> tuple[Any, ...]:
        """Of which load a predictive policy's forecast is: equal where its forecast stays good."""
        return self.uid, self.type, *(self.config.get(name) for name in ("pair", "label", "customized"))


@dataclass(frozen=True, slots=True)
class Scheduled(Entity):
    """A scheduled action. `next` is when it runs next (Unix seconds). Sizes None: left as they are."""

    kind: ClassVar[str] = "scaling-schedule"

    key: str
    group: str
    name: str
    next: float
    recurrence: str = ""
    time_zone: str = ""
    start: float | None = None
    end: float | None = None
    min_size: int | None = None
    max_size: int | None = None
    desired: int | None = None


@dataclass(frozen=True, slots=True)
class Refresh(Entity):
    """An instance refresh. Members numbered below `before` are to be replaced, `total` of them at its start;
    `pool_total`: how many of the warm pool are to be new.

    `config` is the desired configuration ({template, types}; empty: the group's own), `previous` what the group had.
    `version` is the number that the template's version stood for at the start.
    """

    kind: ClassVar[str] = "scaling-refresh"

    key: str
    group: str
    id: str
    started: float
    before: int
    total: int
    status: str = "InProgress"
    reason: str = ""
    ended: float | None = None
    percent: int = 0
    left: int = 0
    pool_total: int = 0
    pool_left: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    previous: dict[str, Any] = field(default_factory=dict)
    min_healthy: int = 90
    max_healthy: int = 100
    warmup_s: int | None = None
    checkpoints: list[int] = field(default_factory=list)
    checkpoint_delay_s: int = 3_600
    skip_matching: bool = False
    auto_rollback: bool = False
    protected: str = "Wait"
    standby: str = "Wait"
    bake_s: int = 0
    version: str = ""
    alarms: list[str] = field(default_factory=list)
    passed: int = 0
    pause_until: float | None = None
    waiting_until: float | None = None
    waiting_for: str = ""

    @property
    def live_percent(self) -> int:
        """Of the group itself, beside its warm pool."""
        return done_percent(self.total, self.left)

    @property
    def goal(self) -> int:
        """Percent of the group to replace: as far as its last checkpoint; a rollback takes all of it back."""
        return self.checkpoints[-1] if self.checkpoints and self.status != "RollbackInProgress" else 100

    @property
    def guarded(self) -> bool:
        """Its alarms are looked at: a rollback is not stopped by the alarm that began it."""
        return bool(self.alarms) and self.ended is None and self.status != "RollbackInProgress"


@dataclass(frozen=True, slots=True)
class Listener(Entity):
    """A scope in which rules want to know how activities end. `number`: another one each time that is said."""

    kind: ClassVar[str] = "scaling-listener"

    key: str
    number: int


def done_percent(total: int, left: int) -> int:
    return 100 if not total else (total - left) * 100 // total


def owner(group_key: str) -> tuple[Scope, str]:
    """Whose group it is, and its name."""
    account, region, name = group_key.split("/", 2)
    return Scope(account, region), name


def group_of(kind: str, key: str) -> str:
    """The key of the group that an entity belongs to, or is."""
    if kind == Group.kind:
        return key
    return key.rpartition(":" if kind in (Policy.kind, Scheduled.kind) else "/")[0]


KINDS: dict[str, type[Entity]] = {
    cls.kind: cls for cls in (Group, Member, Activity, Policy, Scheduled, Refresh, Listener)
}
