"""GetMetricData and GetMetricStatistics: queries in, lines of numbers out.

A query names a metric and a statistic, or an expression over other queries by their ids, in any order, without cycles.
Differs from CloudWatch: all queries of a request have one period; Metrics Insights (SELECT ...) and labels that are
computed (${...}) are not there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from minicloud.metric import arithmetic, errors, expression, limits, statistics
from minicloud.metric.arithmetic import Line, Value
from minicloud.metric.model import Metric
from minicloud.metric.reading import Span, Window, span_of, window
from minicloud.metric.requests import check_period
from minicloud.metric.sketch import Floats
from minicloud.metric.store import Store

_ID = re.compile(r"[a-z]\w*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Query:
    """API, MetricDataQuery: a metric with `stat` and `period`, or an `expression`."""

    id: str
    metric: Metric | None = None
    stat: str = ""
    period: int = 0
    unit: str = ""
    expression: str = ""
    label: str = ""
    returned: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """Points that are there, oldest first. times: Unix seconds at which the periods begin."""

    id: str
    label: str
    times: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Plan:
    """Checked queries; expressions in an order in which each comes behind what it refers to."""

    metrics: tuple[tuple[Query, statistics.Statistic], ...]
    expressions: tuple[tuple[Query, expression.Node], ...]
    period: int

    @property
    def sketched(self) -> bool:
        return any(statistic.kind == "p" for _, statistic in self.metrics)


def plan(queries: Sequence[Query], field: str = "MetricDataQueries", period: int = 0) -> Plan:
    """Raises ValidationError, MissingParameter, UnsupportedOperation. `period`: of a request without a metric."""
    if not queries:
        raise errors.missing(field)
    if len(queries) > limits.QUERIES_MAX:
        text = f"The collection {field} must not have a size greater than {limits.QUERIES_MAX}."
        raise errors.invalid(text, field)
    _check_ids(queries, field)
    metrics = []
    parsed = {}
    for query in queries:
        if (query.metric is None) == (not query.expression):
            raise errors.invalid(f"{query.id} must have either a MetricStat or an Expression.", field)
        if query.metric is not None:
            check_period(query.period, f"{query.id}.MetricStat.Period")
            metrics.append((query, statistics.parse(query.stat, f"{query.id}.MetricStat.Stat")))
        else:
            parsed[query.id] = expression.parse(query.expression, f"{query.id}.Expression")
    periods = {query.period for query, _ in metrics} or {next((one.period for one in queries if one.period), period)}
    if len(periods) > 1:
        raise errors.invalid("All metrics of a request must have the same period here.", field)
    ordered = _ordered(parsed, {query.id for query in queries}, field)
    by_id = {query.id: query for query in queries}
    return Plan(tuple(metrics), tuple((by_id[one], parsed[one]) for one in ordered), check_period(periods.pop() or 60))


def _check_ids(queries: Sequence[Query], field: str) -> None:
    ids = [query.id for query in queries]
    for one in ids:
        if not _ID.match(one) or len(one) > limits.QUERY_ID_CHARS_MAX:
            text = f"The id {one[:64]!r} must begin with a small letter and hold letters, digits and underscores."
            raise errors.invalid(text, field)
    if len(set(ids)) < len(ids):
        raise errors.invalid("The values for parameter id in the MetricDataQueries are not unique.", field)
    if not any(query.returned for query in queries):
        raise errors.invalid("No metrics selected for ReturnData == true.", field)


def check_labels(queries: Sequence[Query]) -> None:
    """Raises UnsupportedOperation. Not of what is stored: alarms from before this check have what they were given."""
    for query in queries:
        if "${" in query.label:
            raise errors.not_supported(f"The dynamic label '{query.label[:64]}'", f"{query.id}.Label")


def _ordered(parsed: dict[str, expression.Node], known: set[str], field: str) -> list[str]:
    """Each behind what it refers to. Raises ValidationError: an id that is not there, a cycle."""
    waiting = {one: expression.names(node) for one, node in parsed.items()}
    for one, needs in waiting.items():
        if strange := sorted(needs - known):
            raise errors.invalid(f"{one}: there is no id '{strange[0]}' in the request.", field)
    ordered: list[str] = []
    while waiting:
        ready = [one for one, needs in waiting.items() if not needs & waiting.keys()]
        if not ready:
            raise errors.invalid(f"The expressions {', '.join(sorted(waiting))} refer to each other.", field)
        for one in ready:
            del waiting[one]
        ordered += ready
    return ordered


def run(planned: Plan, store: Store, span: Span, now: float) -> dict[str, Value]:
    """The lines (or numbers) of all queries by id. Raises ValidationError."""
    found, _ = run_with_window(planned, store, span, now, "")
    return found


def run_with_window(
    planned: Plan, store: Store, span: Span, now: float, watched: str
) -> tuple[dict[str, Value], Window | None]:
    """The same, and what one metric's line was computed from (None: it is none)."""
    found: dict[str, Value] = {}
    kept: Window | None = None
    lines = []
    for query, statistic in planned.metrics:
        assert query.metric is not None
        ordinals = store.registry.series(query.metric, query.unit)
        seen = window(store, ordinals, span, now, statistic.kind == "p")
        kept = seen if query.id == watched else kept
        label = query.label or query.metric.name
        line = Line(seen.statistic(statistic), query.id, label, query.period)
        found[query.id] = line
        lines.append(line)
    for query, node in planned.expressions:
        world = arithmetic.World(found, lines, span.period, span.count, f"{query.id}.Expression")
        found[query.id] = arithmetic.evaluate(node, world)
    return found, kept


def get_data(
    store: Store, queries: Sequence[Query], start: float, end: float, now: float, newest_first: bool = True
) -> list[Result]:
    """Raises ValidationError, MissingParameter, UnsupportedOperation; more than 100,800 points are refused, and more
    than COMPUTED_POINTS_MAX with those that are not returned.
    """
    planned = plan(queries)
    check_labels(queries)
    if start >= end:
        raise errors.invalid("The parameter StartTime must be less than the parameter EndTime.", "StartTime")
    span = span_of(start, end, planned.period, now)
    asked = span.count * sum(query.returned for query in queries)
    if asked > limits.QUERY_POINTS_MAX:
        text = f"You have requested up to {asked:,} datapoints, which exceeds the limit of {limits.QUERY_POINTS_MAX:,}."
        raise errors.invalid(text, "MaxDatapoints")
    computed = span.count * len(queries)
    if computed > limits.COMPUTED_POINTS_MAX:
        text = f"The queries look at {computed:,} datapoints together, which exceeds {limits.COMPUTED_POINTS_MAX:,}."
        raise errors.invalid(text, "MetricDataQueries")
    found = run(planned, store, span, now)
    results = []
    for query in queries:
        if query.returned:
            results += _results(query, found[query.id], span, newest_first)
    return results


def _results(query: Query, value: Value, span: Span, newest_first: bool) -> list[Result]:
    if isinstance(value, float):
        text = f"{query.id}: the result of an expression must be a time series, not a number."
        raise errors.invalid(text, f"{query.id}.Expression")
    if isinstance(value, Line):
        return [_result(query.id, query.label or value.label or query.id, value.values, span, newest_first)]
    shown = [" ".join(part for part in (query.label, line.label) if part) or line.id for line in value]
    return [_result(query.id, label, line.values, span, newest_first) for label, line in zip(shown, value, strict=True)]


def _result(id_: str, label: str, values: Floats, span: Span, newest_first: bool) -> Result:
    at = np.flatnonzero(~np.isnan(values))
    at = at[::-1] if newest_first else at
    return Result(id_, label, (span.start + at * span.period).tolist(), values[at].tolist())


@dataclass(frozen=True, slots=True)
class StatisticsQuery:
    """API, GetMetricStatistics. `names`: of statistics, percentiles among them."""

    metric: Metric
    names: Sequence[str]
    period: int
    start: float
    end: float
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    time: int
    unit: str
    values: dict[str, float]


def get_statistics(store: Store, asked: StatisticsQuery, now: float) -> list[Point]:
    """Oldest first, each unit by itself.

    Raises InvalidParameterValue, InvalidParameterCombination, MissingParameter, UnsupportedOperation.
    """
    wanted = _wanted(asked.names)
    check_period(asked.period)
    if asked.start >= asked.end:
        text = "The parameter StartTime must be less than the parameter EndTime."
        raise errors.bad_value(text, "StartTime")
    span = span_of(asked.start, asked.end, asked.period, now)
    if span.count > limits.STATISTICS_POINTS_MAX:
        text = (
            f"You have requested up to {span.count:,} datapoints, which exceeds the limit of "
            f"{limits.STATISTICS_POINTS_MAX:,}. You may reduce the datapoints requested by increasing Period, or "
            "decreasing the time range."
        )
        raise errors.bad_mix(text, "Period")
    sketch = any(one.kind == "p" for one in wanted.values())
    points = []
    for ordinal in store.registry.series(asked.metric, asked.unit):
        seen = window(store, [ordinal], span, now, sketch)
        columns = {name: seen.statistic(statistic) for name, statistic in wanted.items()}
        for at in np.flatnonzero(seen.counts).tolist():
            values = {name: float(column[at]) for name, column in columns.items() if not np.isnan(column[at])}
            points.append(Point(span.start + at * span.period, store.registry.unit(ordinal), values))
    return sorted(points, key=lambda point: point.time)


def _wanted(names: Sequence[str]) -> dict[str, statistics.Statistic]:
    if not names:
        raise errors.missing("Statistics")
    wanted = {name: statistics.parse(name, "Statistics") for name in names}
    extended = sum(one.kind == "p" for one in wanted.values())
    if extended > limits.EXTENDED_STATISTICS_MAX or len(wanted) - extended > limits.STATISTICS_MAX:
        raise errors.bad_value("The collection Statistics is too large.", "Statistics")
    return wanted
