"""Metrics and alarms as the SDK shows them, and what is given to it: frozen dataclasses as in `models.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Metric:
    namespace: str
    name: str
    dimensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatisticSet:
    """Many values that were summed up already; they have no percentiles."""

    sample_count: float
    sum: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class MetricDatum:
    """One of value, values (each counts once, or as often as `counts` says), summary. resolution_s: 60, or 1."""

    name: str
    value: float | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    time: datetime | float | None = None
    values: Sequence[float] = ()
    counts: Sequence[float] = ()
    summary: StatisticSet | None = None
    unit: str = ""
    resolution_s: int = 60


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """A metric with stat and period, or an expression over other queries' ids. hidden: only for expressions."""

    id: str
    metric: Metric | None = None
    stat: str = ""
    period_s: int = 0
    unit: str = ""
    expression: str = ""
    label: str = ""
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class MetricLine:
    """times: when the periods begin, Unix seconds. Periods without data are left out."""

    id: str
    label: str
    times: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def points(self) -> tuple[tuple[datetime, float], ...]:
        return tuple(
            (datetime.fromtimestamp(at, UTC), value) for at, value in zip(self.times, self.values, strict=True)
        )


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """values: by statistic."""

    time: datetime | None
    unit: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Alarm:
    """type: MetricAlarm | CompositeAlarm. state: OK | ALARM | INSUFFICIENT_DATA, with its reason (data: JSON).

    A metric alarm compares the query that is not hidden; a composite alarm has a rule.
    """

    name: str
    arn: str
    type: str
    description: str
    actions_enabled: bool
    ok_actions: tuple[str, ...]
    alarm_actions: tuple[str, ...]
    insufficient_data_actions: tuple[str, ...]
    state: str
    reason: str
    reason_data: str
    updated_time: datetime | None
    changed_time: datetime | None
    configured_time: datetime | None
    tags: Mapping[str, str]
    queries: tuple[MetricQuery, ...]
    evaluation_periods: int
    datapoints_to_alarm: int
    threshold: float
    comparison: str
    missing_data: str
    low_sample_percentile: str
    single_metric: bool
    rule: str
    suppressor: str
    suppressor_wait_s: int
    suppressor_extension_s: int
    actions_suppressed_by: str


@dataclass(frozen=True, slots=True)
class AlarmHistoryItem:
    """kind: ConfigurationUpdate | StateUpdate | Action. data: JSON."""

    name: str
    type: str
    time: datetime | None
    kind: str
    summary: str
    data: str
