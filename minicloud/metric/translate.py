"""Messages of the wire to what the slice takes, and back. Scopes come from the caller, never from a message."""

from __future__ import annotations

from collections.abc import Iterable

from minicloud.base.arn import Scope
from minicloud.metric.alarm import CompositeAlarm, HistoryItem, MetricAlarm
from minicloud.metric.describe import Shown
from minicloud.metric.given import GivenAlarm, GivenComposite
from minicloud.metric.model import Metric, dimensions_of
from minicloud.metric.query import Point, Query, Result
from minicloud.metric.registry import DimensionFilter, Where
from minicloud.metric.requests import GivenDatum, Summary
from minicloud.metric.statistics import SIMPLE
from minicloud.wire import fleet_pb2
from minicloud.wire import metric_pb2 as wire

RESOLUTION_S = 60


def to_datum(one: wire.MetricDatum) -> GivenDatum:
    given = one.summary if one.HasField("summary") else None
    return GivenDatum(
        name=one.name,
        dimensions=dict(one.dimensions) if one.dimensions else {},
        timestamp=one.time or None,
        value=one.value if one.HasField("value") else None,
        values=list(one.values),
        counts=list(one.counts),
        summary=Summary(given.sample_count, given.sum, given.minimum, given.maximum) if given is not None else None,
        unit=one.unit,
        width=one.resolution_s or RESOLUTION_S,
    )


def to_data(one: fleet_pb2.MetricReport) -> list[GivenDatum]:
    pairs = iter(one.dimensions)
    dimensions = dict(zip(pairs, pairs, strict=True))
    width = one.resolution_s or RESOLUTION_S
    found = []
    for each in one.readings:
        if len(each.values) == 1 and not each.counts:
            found.append(GivenDatum(each.name, dimensions, one.time, each.values[0], unit=each.unit, width=width))
        else:
            many = GivenDatum(each.name, dimensions, one.time, None, each.values, each.counts, None, each.unit, width)
            found.append(many)
    return found


def to_metric(one: wire.Metric, scope: Scope) -> Metric:
    return Metric(scope, one.namespace, one.name, dimensions_of(dict(one.dimensions)))


def metric(one: Metric) -> wire.Metric:
    return wire.Metric(namespace=one.namespace, name=one.name, dimensions=dict(one.dimensions))


def to_query(one: wire.MetricQuery, scope: Scope) -> Query:
    return Query(
        id=one.id,
        metric=to_metric(one.metric, scope) if one.HasField("metric") else None,
        stat=one.stat,
        period=one.period_s,
        unit=one.unit,
        expression=one.expression,
        label=one.label,
        returned=not one.hidden,
    )


def query(one: Query) -> wire.MetricQuery:
    return wire.MetricQuery(
        id=one.id,
        metric=metric(one.metric) if one.metric is not None else None,
        stat=one.stat,
        period_s=one.period,
        unit=one.unit,
        expression=one.expression,
        label=one.label,
        hidden=not one.returned,
    )


def to_where(request: wire.ListMetricsRequest) -> Where:
    filters = [DimensionFilter(one.name, one.value if one.HasField("value") else None) for one in request.dimensions]
    return Where(request.namespace, request.name, tuple(filters), request.recently_active)


def line(one: Result) -> wire.MetricLine:
    return wire.MetricLine(id=one.id, label=one.label, times=one.times, values=one.values)


def point(one: Point) -> wire.MetricPoint:
    return wire.MetricPoint(time=one.time, unit=one.unit, values=one.values)


def to_alarm(request: wire.PutMetricAlarmRequest, scope: Scope) -> GivenAlarm:
    simple = request.stat in SIMPLE
    return GivenAlarm(
        name=request.name,
        comparison=request.comparison,
        evaluation_periods=request.evaluation_periods,
        threshold=request.threshold if request.HasField("threshold") else None,
        namespace=request.metric.namespace,
        metric_name=request.metric.name,
        dimensions=dict(request.metric.dimensions),
        statistic=request.stat if simple else "",
        extended_statistic="" if simple else request.stat,
        period=request.period_s,
        unit=request.unit,
        metrics=[to_query(one, scope) for one in request.queries],
        datapoints=request.datapoints_to_alarm,
        missing=request.missing_data,
        low_samples=request.low_sample_percentile,
        description=request.description,
        enabled=not request.actions_disabled,
        ok_actions=list(request.ok_actions),
        alarm_actions=list(request.alarm_actions),
        insufficient_actions=list(request.insufficient_data_actions),
        tags=dict(request.tags),
    )


def to_composite(request: wire.PutCompositeAlarmRequest) -> GivenComposite:
    return GivenComposite(
        name=request.name,
        rule=request.rule,
        suppressor=request.suppressor,
        wait_s=request.suppressor_wait_s if request.HasField("suppressor_wait_s") else None,
        extension_s=request.suppressor_extension_s if request.HasField("suppressor_extension_s") else None,
        description=request.description,
        enabled=not request.actions_disabled,
        ok_actions=list(request.ok_actions),
        alarm_actions=list(request.alarm_actions),
        insufficient_actions=list(request.insufficient_data_actions),
        tags=dict(request.tags),
    )


def alarm(shown: Shown) -> wire.Alarm:
    one, state = shown
    made = wire.Alarm(
        name=one.name,
        arn=one.arn,
        type=one.type,
        description=one.description,
        actions_enabled=one.enabled,
        ok_actions=one.actions.get("OK", []),
        alarm_actions=one.actions.get("ALARM", []),
        insufficient_data_actions=one.actions.get("INSUFFICIENT_DATA", []),
        state=state.value,
        reason=state.reason,
        reason_data=state.data,
        updated_time=state.updated_ms / 1000,
        changed_time=state.changed_ms / 1000,
        configured_time=one.configured_ms / 1000,
        tags=one.tags,
    )
    if isinstance(one, CompositeAlarm):
        made.rule, made.suppressor = one.text, one.suppressor
        made.suppressor_wait_s, made.suppressor_extension_s = one.wait_s, one.extension_s
        made.actions_suppressed_by = state.suppressed
    else:
        _add_metric_alarm(made, one)
    return made


def _add_metric_alarm(made: wire.Alarm, one: MetricAlarm) -> None:
    made.queries.extend(query(each) for each in one.queries)
    made.single_metric = one.single
    made.evaluation_periods, made.datapoints_to_alarm = one.periods, one.needed
    made.threshold, made.comparison = one.threshold, one.comparison
    made.missing_data, made.low_sample_percentile = one.missing, one.low_samples


def alarms(found: Iterable[Shown], token: str = "") -> wire.DescribeAlarmsReply:
    return wire.DescribeAlarmsReply(alarms=[alarm(one) for one in found], next_page_token=token)


def item(one: HistoryItem) -> wire.AlarmHistoryItem:
    return wire.AlarmHistoryItem(
        name=one.alarm.split("/", 2)[2],
        type=one.type,
        time=one.at_ms / 1000,
        kind=one.kind,
        summary=one.summary,
        data=one.data,
    )
