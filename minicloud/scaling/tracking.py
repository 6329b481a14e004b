"""Target tracking: keep a metric at its target, out fast and in slowly.

After the EC2 Auto Scaling User Guide, "Target tracking scaling policies". AWS turns each policy into two alarms, and so
do these rules, without the alarms:

    out   the newest 3 periods are all above the target: capacity = ceil(ready x newest / target)
    in    15 minutes are all more than 10 % below the target, none missing, no instance warms up:
          capacity = ceil(ready x largest / target), so the window's busiest minute would still have fitted

`ready` are the instances that the metric speaks of: in service and warmed up. Those that warm up count as capacity
already, so a second breach in the same minute adds nothing; they are why `out` compares with desired, not with ready.

Never: a proposal from missing data (the alarm would be INSUFFICIENT_DATA); a scale-in from minutes before the last
change of capacity, which spoke of another group; a scale-in where `disable_scale_in` is set.

Where we differ: `backlog` metrics (a total such as the visible messages of a queue) are divided here, not by metric
math of the user, so a group at zero can come back; and the two windows are fixed, while AWS tunes them since 2024.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from minicloud.scaling import limits
from minicloud.scaling.errors import invalid

PREDEFINED = (
    "ASGAverageCPUUtilization",
    "ASGAverageCPUUtilizationHighResolution",
    "ASGAverageNetworkIn",
    "ASGAverageNetworkOut",
    "ALBRequestCountPerTarget",
)
BACKLOG = "SQSBacklogPerInstance"  # ours: messages of the queue that the resource label names, per instance
# API, ResourceLabel; ours: the target group's part alone, or in its ARN, says as much.
_LABEL = re.compile(r"(?:app/[^/]+/[^/]+/|arn:aws:elasticloadbalancing:[^/]+:)?targetgroup/[^/]+/[^/]+\Z")
_NOISE = 1e-9  # 4 x 60 / 60 may come out as 4.0000000000000001
_MOST = 1 << 31  # beyond every group; a tiny target may ask for infinity


def instances_for(load: float, target: float) -> int:
    """How many carry a load of which each is to have the target."""
    wanted = load / target - _NOISE
    return math.ceil(wanted) if wanted < _MOST else _MOST


@dataclass(frozen=True, slots=True)
class Reading:
    """What a metric was, newest value last, one for each period; None, as what is no finite number: no data."""

    values: tuple[float | None, ...]
    period_s: int = 60
    at: float = 0.0  # when the newest period ended, Unix seconds

    @property
    def known(self) -> tuple[float | None, ...]:
        return tuple(one if one is not None and math.isfinite(one) else None for one in self.values)


@dataclass(frozen=True, slots=True)
class Capacity:
    """A group as policies see it. `changed`: when its desired capacity last changed (Unix seconds)."""

    desired: int
    ready: int
    warming: int = 0
    changed: float = 0.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """The capacity a policy wants, and why. `tracking`: it comes from a target tracking policy."""

    capacity: int
    policy: str
    reason: str
    tracking: bool = False


@dataclass(frozen=True, slots=True)
class TargetTracking:
    """`metric` is a predefined name, or "" with `customized`, the caller's own metric as AWS's document has it."""

    target: float
    metric: str = ""
    label: str = ""
    customized: dict[str, Any] | None = None
    disable_scale_in: bool = False

    def check(self) -> None:
        """Raises InvalidParameterValue (ValidationError)."""
        if not (math.isfinite(self.target) and self.target > 0):
            raise invalid("TargetValue must be a number greater than 0", "target_tracking.target")
        if bool(self.metric) == (self.customized is not None):
            raise invalid(
                "Exactly one of PredefinedMetricSpecification or CustomizedMetricSpecification must be specified",
                "target_tracking.metric",
            )
        if self.metric and self.metric not in (*PREDEFINED, BACKLOG):
            raise invalid(
                f"PredefinedMetricType '{self.metric}' is not one of {', '.join((*PREDEFINED, BACKLOG))}",
                "target_tracking.metric",
            )
        if bool(self.label) != (self.metric in ("ALBRequestCountPerTarget", BACKLOG)):
            raise invalid(
                f"ResourceLabel is for ALBRequestCountPerTarget and {BACKLOG}, and they need it",
                "target_tracking.label",
            )
        if self.metric == "ALBRequestCountPerTarget":
            check_label(self.label, "target_tracking.label")
        if self.customized is not None:
            _check_customized(self.customized)

    @property
    def period_s(self) -> int:
        if self.metric == "ASGAverageCPUUtilizationHighResolution":
            return 10
        return int((self.customized or {}).get("Period", 60))

    def propose(self, name: str, reading: Reading, group: Capacity) -> Proposal | None:
        return self._out(name, reading, group) or self._in(name, reading, group)

    def _out(self, name: str, reading: Reading, group: Capacity) -> Proposal | None:
        points = [value for value in reading.known[-limits.OUT_POINTS :] if value is not None and value > self.target]
        if self.metric == BACKLOG:
            points = [value for value in reading.known[-limits.OUT_POINTS :] if value is not None]
        if len(points) < limits.OUT_POINTS:
            return None
        wanted = self._needed(points[-1], group.ready)
        if self.metric == BACKLOG and any(self._needed(one, group.ready) <= group.desired for one in points):
            return None
        if wanted <= group.desired:
            return None
        text = f"the metric was {points[-1]:g} against a target of {self.target:g} on {group.ready} instances"
        return Proposal(wanted, name, text, tracking=True)

    def _in(self, name: str, reading: Reading, group: Capacity) -> Proposal | None:
        if self.disable_scale_in or group.warming:
            return None
        count = -(-limits.IN_S // reading.period_s)
        window = reading.known[-count:]
        if len(window) < count or reading.at - count * reading.period_s < group.changed:
            return None
        points = [value for value in window if value is not None and self._is_low(value, group)]
        if len(points) < count:
            return None
        wanted = self._needed(max(points), group.ready)
        if wanted >= group.desired:
            return None
        text = f"the metric was at most {max(points):g} against a target of {self.target:g} for {limits.IN_S // 60} min"
        return Proposal(wanted, name, text, tracking=True)

    def _is_low(self, value: float, group: Capacity) -> bool:
        each = value / max(1, group.ready) if self.metric == BACKLOG else value
        return each < self.target * limits.IN_BELOW

    def _needed(self, value: float, ready: int) -> int:
        return instances_for(value if self.metric == BACKLOG else value * ready, self.target)


def check_label(label: str, field: str) -> None:
    """Of a balancer's metric: which target group it is of. Raises InvalidParameterValue (ValidationError)."""
    if not _LABEL.match(label):
        raise invalid(
            f"Invalid resource label: {label[:255]}; it must be of the form app/load-balancer-name/load-balancer-id/"
            "targetgroup/target-group-name/target-group-id",
            field,
        )


def _check_customized(metric: dict[str, Any]) -> None:
    """Either name, namespace and statistic, or metric math whose one result is returned."""
    math_form = "Metrics" in metric
    needed = ("Metrics",) if math_form else ("MetricName", "Namespace", "Statistic")
    for name in needed:
        if not metric.get(name):
            raise invalid(f"CustomizedMetricSpecification needs {name}", "target_tracking.customized")
    if math_form and sum(one.get("ReturnData", True) for one in metric["Metrics"]) != 1:
        raise invalid("exactly one element of Metrics must return data", "target_tracking.customized")
    if metric.get("Period", 60) not in limits.PERIODS_S:
        raise invalid(f"Period must be one of {limits.PERIODS_S}", "target_tracking.customized")
