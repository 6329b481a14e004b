"""Auto scaling groups as the SDK shows them: frozen dataclasses as in `models.py`. Names and states are AWS's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TemplateRef:
    """version: a number, $Default, $Latest; '' is $Default."""

    id: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class LifecycleHook:
    """transition: autoscaling:EC2_INSTANCE_LAUNCHING | autoscaling:EC2_INSTANCE_TERMINATING."""

    name: str
    transition: str
    timeout_s: int = 3600
    default_result: str = "ABANDON"
    target: str = ""
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class WarmPool:
    """state: Stopped | Running. max_prepared None: the group's maximum. reuse_on_scale_in: instances go back."""

    min_size: int
    max_prepared: int | None
    state: str
    reuse_on_scale_in: bool


@dataclass(frozen=True, slots=True)
class MemberCounts:
    in_service: int
    pending: int
    standby: int
    leaving: int
    warm: int


@dataclass(frozen=True, slots=True)
class GroupNotification:
    """Which events a topic is told of: autoscaling:EC2_INSTANCE_LAUNCH and so on."""

    topic: str
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScalingGroup:
    """status '' or 'Delete in progress'. suspended: process -> why. local_tags: keys that instances do not get."""

    name: str
    arn: str
    status: str
    created_time: datetime | None
    min_size: int
    max_size: int
    desired: int
    zones: tuple[str, ...]
    template: TemplateRef | None
    types: tuple[str, ...]
    cooldown_s: int
    warmup_s: int | None
    health_types: tuple[str, ...]
    grace_s: int
    termination_policies: tuple[str, ...]
    protect_new: bool
    max_lifetime_s: int
    target_groups: tuple[str, ...]
    tags: Mapping[str, str]
    local_tags: tuple[str, ...]
    suspended: Mapping[str, str]
    hooks: tuple[LifecycleHook, ...]
    warm_pool: WarmPool | None
    metrics: tuple[str, ...]
    notifications: tuple[GroupNotification, ...]
    counts: MemberCounts | None

    @property
    def stable(self) -> bool:
        """As many in service as desired, and nothing on its way in or out."""
        counts = self.counts
        return counts is not None and counts.in_service == self.desired and not counts.pending and not counts.leaving


@dataclass(frozen=True, slots=True)
class LifecycleWait:
    """What an instance waits for: the hook, the token to go on with, when its time runs out."""

    hook: str
    token: str
    deadline_time: datetime | None


@dataclass(frozen=True, slots=True)
class GroupMember:
    """An instance of a group; instance_id is '' until it is launched. health: Healthy | Unhealthy."""

    group: str
    number: int
    instance_id: str
    zone: str
    type: str
    lifecycle_state: str
    health: str
    health_reason: str
    protected: bool
    template_id: str
    template_version: str
    created_time: datetime | None
    in_service_time: datetime | None
    waits: tuple[LifecycleWait, ...]


@dataclass(frozen=True, slots=True)
class InstanceRefresh:
    """template, types: what the instances become. left: how many are still to be replaced."""

    id: str
    group: str
    status: str
    reason: str
    started_time: datetime | None
    ended_time: datetime | None
    percent: int
    left: int
    template: TemplateRef | None
    types: tuple[str, ...]
    min_healthy: int
    max_healthy: int
    skip_matching: bool
    auto_rollback: bool
    checkpoints: tuple[int, ...]
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScalingActivity:
    id: str
    group: str
    description: str
    cause: str
    status: str
    message: str
    progress: int
    instance_id: str
    started_time: datetime | None
    ended_time: datetime | None


@dataclass(frozen=True, slots=True)
class PolicyLoad:
    """What a target tracking policy saw last; value None: there was no data."""

    policy: str
    metric: str
    target: float
    value: float | None
    read_time: datetime | None


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group at one moment. activities: the newest ten, the newest first. refresh: the newest, under way or ended."""

    group: ScalingGroup
    members: tuple[GroupMember, ...]
    loads: tuple[PolicyLoad, ...]
    activities: tuple[ScalingActivity, ...]
    refresh: InstanceRefresh | None


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """metric, or customized: JSON as AWS's CustomizedMetricSpecification."""

    target: float
    metric: str
    label: str
    customized: str
    disable_scale_in: bool


@dataclass(frozen=True, slots=True)
class Step:
    """Bounds are distances from the alarm's threshold; None: without end on that side."""

    adjustment: int
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class StepScaling:
    adjustment_type: str
    min_magnitude: int
    aggregation: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class SimpleScaling:
    adjustment_type: str
    min_magnitude: int
    adjustment: int
    cooldown_s: int | None


@dataclass(frozen=True, slots=True)
class PredictiveScaling:
    """pair, or customized: JSON as AWS's MetricSpecification. mode: ForecastOnly | ForecastAndScale."""

    target: float
    pair: str
    label: str
    customized: str
    mode: str
    buffer_s: int
    breach: str
    max_buffer_percent: int | None


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """One of target_tracking, steps, simple, predictive says what it does. arn: what an alarm's action names."""

    name: str
    arn: str
    group: str
    type: str
    enabled: bool
    warmup_s: int | None
    target_tracking: TargetTracking | None
    steps: StepScaling | None
    simple: SimpleScaling | None
    predictive: PredictiveScaling | None


@dataclass(frozen=True, slots=True)
class LoadForecast:
    """times: Unix seconds. capacity: what the load asks for, without the group's min and max."""

    times: tuple[float, ...]
    load: tuple[float, ...]
    capacity: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ScheduledAction:
    """Sizes None: left as they are. next_time: when it runs next."""

    name: str
    group: str
    arn: str
    recurrence: str
    time_zone: str
    start_time: datetime | None
    end_time: datetime | None
    min_size: int | None
    max_size: int | None
    desired: int | None
    next_time: datetime | None
