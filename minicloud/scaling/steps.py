"""Step and simple scaling: an alarm fires, and an adjustment is made.

After the EC2 Auto Scaling User Guide, "Step and simple scaling policies". Step bounds are distances from the alarm's
threshold. On the side above it a step holds its lower bound and not its upper; below it, the other way round.

Percentages are rounded as AWS rounds them: toward zero, but never to nothing (0.4 is 1, -0.4 is -1, 12.7 is 12, -6.67
is -6), then to at least `min_magnitude`.

Step scaling does not count instances that still warm up in what it adds to, so two breaches in the same step add once;
it never scales in while any warms up. Simple scaling waits for its cooldown instead, whatever it is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from minicloud.scaling import limits
from minicloud.scaling.errors import activity_in_progress, invalid
from minicloud.scaling.tracking import Capacity, Proposal

Kind = Literal["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"]
KINDS = ("ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity")
AGGREGATIONS = ("Minimum", "Maximum", "Average")


@dataclass(frozen=True, slots=True)
class Step:
    """Bounds None: without end on that side."""

    adjustment: int
    lower: float | None = None
    upper: float | None = None

    def holds(self, distance: float) -> bool:
        low = -math.inf if self.lower is None else self.lower
        high = math.inf if self.upper is None else self.upper
        return low <= distance < high if distance >= 0 else low < distance <= high


@dataclass(frozen=True, slots=True)
class Adjustment:
    """How a number changes a capacity."""

    kind: str
    min_magnitude: int = 0

    def check(self) -> None:
        """Raises InvalidParameterValue (ValidationError)."""
        if self.kind not in KINDS:
            raise invalid(f"AdjustmentType must be one of {', '.join(KINDS)}", "adjustment_type")
        if self.min_magnitude and self.kind != "PercentChangeInCapacity":
            raise invalid("MinAdjustmentMagnitude is only for PercentChangeInCapacity", "min_adjustment_magnitude")
        if self.min_magnitude < 0:
            raise invalid("MinAdjustmentMagnitude must be at least 1", "min_adjustment_magnitude")

    def apply(self, capacity: int, amount: int) -> int:
        """The capacity afterwards, at least 0; the caller keeps it within the group's bounds."""
        if self.kind == "ExactCapacity":
            return amount
        change = amount if self.kind == "ChangeInCapacity" else self._percent(capacity, amount)
        return max(0, capacity + change)

    def _percent(self, capacity: int, percent: int) -> int:
        if not percent:
            return 0
        change = math.trunc(capacity * percent / 100) or int(math.copysign(1, percent))
        return int(math.copysign(max(abs(change), self.min_magnitude), change))


@dataclass(frozen=True, slots=True)
class StepScaling:
    adjustment: Adjustment
    steps: tuple[Step, ...]
    aggregation: str = "Average"

    def check(self) -> None:
        """Raises InvalidParameterValue (ValidationError)."""
        self.adjustment.check()
        if self.aggregation not in AGGREGATIONS:
            raise invalid(f"MetricAggregationType must be one of {', '.join(AGGREGATIONS)}", "metric_aggregation_type")
        if not 1 <= len(self.steps) <= limits.STEPS_MAX:
            raise invalid(f"StepAdjustments must be 1 to {limits.STEPS_MAX}", "steps")
        for step in self.steps:
            _check_step(step, self.adjustment.kind)
        _check_chain(self.steps)

    def propose(self, name: str, values: Sequence[float], threshold: float, group: Capacity) -> Proposal | None:
        """None: no step holds the metric, or the change is under way already."""
        if not values:
            return None
        metric = _aggregate(self.aggregation, values)
        step = next((one for one in self.steps if one.holds(metric - threshold)), None)
        if step is None:
            return None
        after = self.adjustment.apply(group.desired, step.adjustment)
        if after > group.desired:
            after = max(group.desired, self.adjustment.apply(group.desired - group.warming, step.adjustment))
        elif group.warming:
            return None
        if after == group.desired:
            return None
        return Proposal(after, name, f"the metric was {metric:g} against a threshold of {threshold:g}")


@dataclass(frozen=True, slots=True)
class SimpleScaling:
    """`cooldown_s` None: the group's default."""

    adjustment: Adjustment
    amount: int
    cooldown_s: int | None = None

    def check(self) -> None:
        """Raises InvalidParameterValue (ValidationError)."""
        self.adjustment.check()
        _check_step(Step(self.amount), self.adjustment.kind)
        if self.cooldown_s is not None and self.cooldown_s < 0:
            raise invalid("Cooldown must be at least 0", "cooldown")

    def propose(self, name: str, group: Capacity, now: float, cooldown_until: float) -> Proposal | None:
        """Raises Conflict (ScalingActivityInProgress) in the cooldown."""
        if now < cooldown_until:
            raise activity_in_progress(f"The group is in its cooldown for another {math.ceil(cooldown_until - now)} s")
        after = self.adjustment.apply(group.desired, self.amount)
        return None if after == group.desired else Proposal(after, name, f"an adjustment of {self.amount}")


def _aggregate(kind: str, values: Sequence[float]) -> float:
    if kind == "Average":
        return math.fsum(values) / len(values)
    return max(values) if kind == "Maximum" else min(values)


def _check_step(step: Step, kind: str) -> None:
    if kind == "ExactCapacity" and step.adjustment < 0:
        raise invalid("ScalingAdjustment must not be negative for ExactCapacity", "scaling_adjustment")
    if step.lower is not None and step.upper is not None and not step.lower < step.upper:
        raise invalid("MetricIntervalUpperBound must be greater than MetricIntervalLowerBound", "steps")


def _check_chain(steps: Sequence[Step]) -> None:
    """Side by side, without overlap or gap; open at the ends that the API demands."""
    order = sorted(steps, key=lambda step: -math.inf if step.lower is None else step.lower)
    for before, after in pairwise(order):
        if after.lower is None or before.upper is None or before.upper > after.lower:
            raise invalid("StepAdjustment intervals can't overlap", "steps")
        if before.upper < after.lower:
            raise invalid("There is a gap between StepAdjustment intervals", "steps")
    first, last = order[0], order[-1]
    if first.lower is not None and first.lower < 0:
        raise invalid("a step with a negative lower bound needs one whose lower bound is not given", "steps")
    if last.upper is not None and last.upper > 0:
        raise invalid("a step with a positive upper bound needs one whose upper bound is not given", "steps")
