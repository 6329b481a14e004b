"""What functions did since it was last reported: AWS/Lambda's metrics; and what they did as targets, by target group.

    FunctionName                              all of a function
    FunctionName, Resource                    what was invoked by a version's or alias's name (name:qualifier)
    FunctionName, Resource, ExecutedVersion   of an alias that shares invocations out, by the version that ran

Source: guide, "Types of metrics for Lambda functions"; ALB guide, "CloudWatch metrics", "Lambda functions".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from minicloud.base.arn import Arn, Scope
from minicloud.function.model import Version
from minicloud.function.names import Target
from minicloud.function.ports import Outcome
from minicloud.shell.reports import Reading, Report

NAMESPACE, BALANCED = "AWS/Lambda", "AWS/ApplicationELB"
VALUES_MAX = 10_000  # ours: durations and ages kept between two reports; what is beyond it does not count


@dataclass(slots=True)
class _Tally:
    invocations: int = 0
    errors: int = 0
    throttles: int = 0
    received: int = 0
    dropped: int = 0
    undelivered: int = 0
    dead_letter_errors: int = 0
    running_max: int = 0
    durations_ms: list[float] = field(default_factory=list)
    inits_ms: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)


class Subject(NamedTuple):
    """Whose invocation it is. `resource`: name:qualifier where it was qualified; `executed`: see above."""

    scope: Scope
    name: str
    resource: str = ""
    executed: str = ""


def subject(target: Target, version: Version) -> Subject:
    function = target.function
    if target.arn == function.arn:
        return Subject(function.scope, function.name)
    resource = target.arn.partition(":function:")[2]
    shared = target.alias is not None and target.alias.weights
    return Subject(function.scope, function.name, resource, version.version if shared else "")


class Meter:
    """`on_first`: called when there is something to report again."""

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self._on_first = on_first
        self._tallies: dict[tuple[Scope, str, str, str], _Tally] = {}
        self._balanced: dict[tuple[str, str], Counter[str]] = {}  # by balancer and target group

    def _tally(self, scope: Scope, name: str, resource: str = "", executed: str = "") -> _Tally:
        self._wake()
        key = scope, name, resource, executed
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        return tally

    def _wake(self) -> None:
        if not self._tallies and not self._balanced:
            self._on_first()

    def balanced(self, balancer: str, group: str, metric: str, added: int) -> None:
        """As a target of this group (ARNs)."""
        self._wake()
        self._balanced.setdefault((balancer, group), Counter())[metric] += added

    def _of(self, one: Subject) -> list[_Tally]:
        found = [self._tally(one.scope, one.name)]
        if one.resource:
            found.append(self._tally(one.scope, one.name, one.resource))
        if one.executed:
            found.append(self._tally(*one))
        return found

    def began(self, one: Subject, running: int) -> None:
        """`running`: of the function at once, however they were invoked."""
        tally = self._tally(one.scope, one.name)
        tally.running_max = max(tally.running_max, running)

    def ended(self, one: Subject, outcome: Outcome) -> None:
        for tally in self._of(one):
            self._ended(tally, outcome)

    def _ended(self, tally: _Tally, outcome: Outcome) -> None:
        tally.invocations += 1
        tally.errors += bool(outcome.function_error)
        if len(tally.durations_ms) < VALUES_MAX:
            tally.durations_ms.append(outcome.duration_ms)
        if outcome.init_ms is not None and len(tally.inits_ms) < VALUES_MAX:
            tally.inits_ms.append(outcome.init_ms)

    def throttled(self, one: Subject) -> None:
        for tally in self._of(one):
            tally.throttles += 1

    def event_received(self, scope: Scope, name: str) -> None:
        self._tally(scope, name).received += 1

    def event_age(self, scope: Scope, name: str, age_ms: float) -> None:
        tally = self._tally(scope, name)
        if len(tally.ages_ms) < VALUES_MAX:
            tally.ages_ms.append(age_ms)

    def event_dropped(self, scope: Scope, name: str) -> None:
        self._tally(scope, name).dropped += 1

    def destination_failed(self, scope: Scope, name: str) -> None:
        self._tally(scope, name).undelivered += 1

    def dead_letter_failed(self, scope: Scope, name: str) -> None:
        self._tally(scope, name).dead_letter_errors += 1

    def report(self, now: float) -> list[Report]:
        """And begin anew."""
        tallies, self._tallies = self._tallies, {}
        balanced, self._balanced = self._balanced, {}
        found = [
            Report(scope, NAMESPACE, _dimensions(name, resource, executed), now, _readings(tally, not resource))
            for (scope, name, resource, executed), tally in tallies.items()
        ]
        for arns, counts in balanced.items():
            found += _of_target(*arns, counts, now)
        return found


def _dimensions(name: str, resource: str, executed: str) -> tuple[tuple[str, str], ...]:
    """In the order of their names, as metrics have them."""
    given = (("ExecutedVersion", executed), ("FunctionName", name), ("Resource", resource))
    return tuple((key, value) for key, value in given if value)


def _of_target(balancer: str, group: str, counts: Counter[str], now: float) -> list[Report]:
    arn = Arn.parse(group)
    target, whole = ("TargetGroup", arn.resource), ("LoadBalancer", balancer.split(":loadbalancer/", 1)[1])
    readings = [
        Reading(name, "Bytes" if name.endswith("Bytes") else "Count", [float(count)]) for name, count in counts.items()
    ]
    scope = Scope(arn.account, arn.region)
    return [Report(scope, BALANCED, dimensions, now, readings) for dimensions in ((target,), (whole, target))]


def _readings(tally: _Tally, whole: bool) -> list[Reading]:
    """`whole`: of a function, whose events are counted too."""
    counts = {"Invocations": tally.invocations, "Errors": tally.errors, "Throttles": tally.throttles}
    if whole:
        counts |= {
            "AsyncEventsReceived": tally.received,
            "AsyncEventsDropped": tally.dropped,
            "DestinationDeliveryFailures": tally.undelivered,
            "DeadLetterErrors": tally.dead_letter_errors,
        }
    found = [Reading(name, "Count", [float(value)]) for name, value in counts.items()]
    if tally.running_max:
        found.append(Reading("ConcurrentExecutions", "Count", [float(tally.running_max)]))
    for name, values in (
        ("Duration", tally.durations_ms),
        ("InitDuration", tally.inits_ms),
        ("AsyncEventAge", tally.ages_ms),
    ):
        if values:
            found.append(Reading(name, "Milliseconds", values))
    return found
