"""Alarms, their states and their history as they are stored: one JSON body each, an upsert of the whole.

A key is account/region/name; names may hold slashes, accounts and regions do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from minicloud.base.arn import Scope
from minicloud.metric import evaluation, limits, query, rule
from minicloud.metric.model import Metric
from minicloud.metric.query import Query

ALARM, STATE, HISTORY, CLOCK = "alarm", "alarm_state", "alarm_history", "alarm_clock"  # the kinds of records
METRIC_ALARM, COMPOSITE_ALARM = "MetricAlarm", "CompositeAlarm"
BY_ALARM, BY_WAIT, BY_EXTENSION = "Alarm", "WaitPeriod", "ExtensionPeriod"  # API: ActionsSuppressedBy


class _Body:
    def body(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self) if one.init}  # type: ignore[arg-type]

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Self:
        names = {one.name for one in fields(cls) if one.init}  # type: ignore[arg-type]
        return cls(**{name: value for name, value in body.items() if name in names})


@dataclass(frozen=True, slots=True)
class Header:
    """What metric alarms and composite alarms have in common. `actions`: by state, ARNs."""

    account: str
    region: str
    name: str
    description: str
    enabled: bool
    actions: dict[str, list[str]]
    tags: dict[str, str]
    configured_ms: int

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)

    @property
    def key(self) -> str:
        return alarm_key(self.scope, self.name)

    @property
    def arn(self) -> str:
        return self.scope.arn("cloudwatch", f"alarm:{self.name}")


@dataclass(frozen=True, slots=True)
class MetricAlarm(Header, _Body):
    """`queries`: one metric, or several and expressions of which one is returned: that is compared."""

    queries: tuple[Query, ...]
    single: bool
    periods: int
    needed: int
    threshold: float
    comparison: str
    missing: str
    low_samples: str
    plan: query.Plan = field(init=False, repr=False, compare=False)
    rule: evaluation.Rule = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", query.plan(self.queries, "Metrics"))
        compared = evaluation.Rule(self.comparison, self.threshold, self.needed, self.periods, self.missing)
        object.__setattr__(self, "rule", compared)

    @property
    def type(self) -> str:
        return METRIC_ALARM

    @property
    def period(self) -> int:
        return self.plan.period

    @property
    def watched(self) -> Query:
        return next(one for one in self.queries if one.returned)

    @property
    def every(self) -> int:
        """Seconds between evaluations."""
        if self.period < limits.EVALUATION_S:
            return limits.EVALUATION_HIGH_S
        return limits.EVALUATION_LONG_S if self.period * self.periods > limits.DAY_S else limits.EVALUATION_S

    def body(self) -> dict[str, Any]:
        body = {one.name: getattr(self, one.name) for one in fields(self) if one.init}
        body["queries"] = [_query_body(one) for one in self.queries]
        return body

    @classmethod
    def from_body(cls, body: dict[str, Any]) -> Self:
        return cls(**{**body, "queries": tuple(_query_of(one) for one in body["queries"])})


@dataclass(frozen=True, slots=True)
class CompositeAlarm(Header, _Body):
    """`text`: the rule as given. `suppressor`: the name of an alarm, "" for none."""

    text: str
    suppressor: str = ""
    wait_s: int = 0
    extension_s: int = 0
    rule: rule.Node = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rule", rule.parse(self.text, name_of))

    @property
    def type(self) -> str:
        return COMPOSITE_ALARM

    @property
    def children(self) -> set[str]:
        """The keys of the alarms in the rule."""
        return {alarm_key(self.scope, name) for name in rule.children(self.rule)}


Alarm = MetricAlarm | CompositeAlarm


@dataclass(frozen=True, slots=True)
class AlarmState(_Body):
    """`updated_ms`: when value, reason or data last changed; `changed_ms`: when the value did.

    `owed`: actions (ARNs) of the last change that nobody reported done; `previous`: the value before it. Composite
    alarms: `suppressed`: by what actions are held back, `until_ms`: the end of a wait (0: none), `acted`: the value
    whose actions were last carried out.
    """

    value: str = evaluation.INSUFFICIENT
    reason: str = "Unchecked: Initial alarm creation"
    data: str = ""
    updated_ms: int = 0
    changed_ms: int = 0
    previous: str = evaluation.INSUFFICIENT
    owed: list[str] = field(default_factory=list)
    suppressed: str = ""
    until_ms: int = 0
    acted: str = evaluation.INSUFFICIENT


@dataclass(frozen=True, slots=True)
class HistoryItem(_Body):
    """API, AlarmHistoryItem. `kind`: ConfigurationUpdate, StateUpdate, Action. `number`: orders items of one moment."""

    alarm: str
    type: str
    at_ms: int
    number: int
    kind: str
    summary: str
    data: str

    @property
    def key(self) -> str:
        return f"{self.at_ms:015d}/{self.number:06d}/{self.alarm}"


def alarm_key(scope: Scope, name: str) -> str:
    return f"{scope.account}/{scope.region}/{name}"


def name_of(text: str) -> str:
    """The name of an alarm from its name or its ARN."""
    if text.startswith("arn:"):
        return text.split(":", 6)[-1]
    return text


def with_actions(alarm: Alarm, enabled: bool) -> Alarm:
    return replace(alarm, enabled=enabled)


def _query_body(one: Query) -> dict[str, Any]:
    body: dict[str, Any] = {
        name: getattr(one, name) for name in ("id", "stat", "period", "unit", "expression", "label")
    }
    body["returned"] = one.returned
    if one.metric is not None:
        scope = one.metric.scope
        body["metric"] = [scope.account, scope.region, *one.metric[1:3], [list(pair) for pair in one.metric.dimensions]]
    return body


def _query_of(body: dict[str, Any]) -> Query:
    given = body.get("metric")
    if given is None:
        return Query(**{**body, "metric": None})
    account, region, namespace, name, dimensions = given
    pairs = tuple((str(one), str(two)) for one, two in dimensions)
    return Query(**{**body, "metric": Metric(Scope(account, region), namespace, name, pairs)})
