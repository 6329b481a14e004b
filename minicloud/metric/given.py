"""PutMetricAlarm and PutCompositeAlarm: what is given, checked, becomes an alarm. Raises CloudWatch's errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from minicloud.base.arn import Scope
from minicloud.base.tags import check_tags
from minicloud.metric import actions, errors, evaluation, limits, requests, statistics
from minicloud.metric.actions import EC2, SCALING, TOPIC
from minicloud.metric.alarm import CompositeAlarm, MetricAlarm, name_of
from minicloud.metric.model import Metric
from minicloud.metric.query import Query, check_labels

# They are CloudWatch's, for alarms on a model of what is normal.
_BANDS = ("LessThanLowerOrGreaterThanUpperThreshold", "LessThanLowerThreshold", "GreaterThanUpperThreshold")


@dataclass(frozen=True, slots=True)
class GivenAlarm:
    """API, PutMetricAlarm. Either `metric_name` and what goes with it, or `metrics`."""

    name: str
    comparison: str = ""
    evaluation_periods: int = 0
    threshold: float | None = None
    namespace: str = ""
    metric_name: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)
    statistic: str = ""
    extended_statistic: str = ""
    period: int = 0
    unit: str = ""
    metrics: Sequence[Query] = ()
    datapoints: int = 0
    missing: str = ""
    low_samples: str = ""
    description: str = ""
    enabled: bool = True
    ok_actions: Sequence[str] = ()
    alarm_actions: Sequence[str] = ()
    insufficient_actions: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GivenComposite:
    """API, PutCompositeAlarm."""

    name: str
    rule: str = ""
    suppressor: str = ""
    wait_s: int | None = None
    extension_s: int | None = None
    description: str = ""
    enabled: bool = True
    ok_actions: Sequence[str] = ()
    alarm_actions: Sequence[str] = ()
    insufficient_actions: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def metric_alarm(given: GivenAlarm, scope: Scope, now_ms: int) -> MetricAlarm:
    """Raises ValidationError, MissingParameter, InvalidParameterCombination, InvalidParameterValue, Unsupported..."""
    _check_names(given)
    _check_comparison(given)
    queries = _queries(given, scope)
    needed = given.datapoints or given.evaluation_periods
    if not 0 < needed <= given.evaluation_periods:
        text = "The DatapointsToAlarm must be at least 1, and not more than the EvaluationPeriods."
        raise errors.invalid(text, "DatapointsToAlarm")
    single = bool(given.metric_name)
    alarm = MetricAlarm(
        account=scope.account,
        region=scope.region,
        name=given.name,
        description=given.description,
        enabled=given.enabled,
        actions=_actions(given, scope, (TOPIC, SCALING, EC2) if single else (TOPIC, SCALING)),
        tags=check_tags(given.tags),
        configured_ms=now_ms,
        queries=queries,
        single=single,
        periods=given.evaluation_periods,
        needed=needed,
        threshold=given.threshold if given.threshold is not None else math.nan,
        comparison=given.comparison,
        missing=given.missing or evaluation.MISSING,
        low_samples=given.low_samples,
    )
    _check_alarm(alarm)
    return alarm


def composite_alarm(given: GivenComposite, scope: Scope, now_ms: int) -> CompositeAlarm:
    """Without a look at other alarms: that they exist, and make no cycle, is for the machine to see."""
    _check_names(given)
    suppressor = name_of(given.suppressor)
    if len(given.suppressor) > limits.SUPPRESSOR_CHARS_MAX:
        raise errors.invalid("The ActionsSuppressor is too long.", "ActionsSuppressor")
    for name, seconds in (("Wait", given.wait_s), ("Extension", given.extension_s)):
        place = f"ActionsSuppressor{name}Period"
        if bool(suppressor) != (seconds is not None):
            raise errors.invalid(f"{place} must be specified with ActionsSuppressor, and only with it.", place)
        if seconds is not None and not 0 <= seconds <= limits.SUPPRESSOR_S_MAX:
            raise errors.invalid(f"{place} must be 0 to {limits.SUPPRESSOR_S_MAX} seconds.", place)
    return CompositeAlarm(
        account=scope.account,
        region=scope.region,
        name=given.name,
        description=given.description,
        enabled=given.enabled,
        actions=_actions(given, scope, (TOPIC,)),
        tags=check_tags(given.tags),
        configured_ms=now_ms,
        text=given.rule,
        suppressor=suppressor,
        wait_s=given.wait_s or 0,
        extension_s=given.extension_s or 0,
    )


def check_alarm_name(name: str, place: str = "AlarmName") -> None:
    if not name:
        raise errors.missing(place)
    if len(name) > limits.ALARM_NAME_CHARS_MAX or not name.isprintable() or name.startswith("arn:"):
        raise errors.invalid(f"The value {name[:64]!r} for parameter {place} is invalid.", place)


def _check_names(given: GivenAlarm | GivenComposite) -> None:
    check_alarm_name(given.name)
    if len(given.description) > limits.ALARM_DESCRIPTION_CHARS_MAX:
        text = f"AlarmDescription has at most {limits.ALARM_DESCRIPTION_CHARS_MAX} characters."
        raise errors.invalid(text, "AlarmDescription")


def _actions(given: GivenAlarm | GivenComposite, scope: Scope, allowed: tuple[str, ...]) -> dict[str, list[str]]:
    return {
        evaluation.OK: actions.check(given.ok_actions, "OKActions", scope, allowed),
        evaluation.ALARM: actions.check(given.alarm_actions, "AlarmActions", scope, allowed),
        evaluation.INSUFFICIENT: actions.check(given.insufficient_actions, "InsufficientDataActions", scope, allowed),
    }


def _check_comparison(given: GivenAlarm) -> None:
    if given.comparison in _BANDS:
        raise errors.not_supported(f"The ComparisonOperator {given.comparison}", "ComparisonOperator")
    if given.comparison not in evaluation.COMPARISONS:
        text = f"The value {given.comparison[:64]!r} for parameter ComparisonOperator is invalid."
        raise errors.invalid(text, "ComparisonOperator")
    if given.threshold is None:
        raise errors.missing("Threshold")
    if not math.isfinite(given.threshold):
        raise errors.invalid("The Threshold must be a finite number.", "Threshold")
    if given.evaluation_periods < 1:
        raise errors.invalid("The EvaluationPeriods must be at least 1.", "EvaluationPeriods")
    if given.missing and given.missing not in evaluation.TREATMENTS:
        text = f"The value {given.missing[:64]!r} for parameter TreatMissingData is invalid."
        raise errors.invalid(text, "TreatMissingData")
    if given.low_samples not in ("", "evaluate", "ignore"):
        text = "The EvaluateLowSampleCountPercentile must be evaluate or ignore."
        raise errors.invalid(text, "EvaluateLowSampleCountPercentile")


def _queries(given: GivenAlarm, scope: Scope) -> tuple[Query, ...]:
    simple = (given.namespace, given.metric_name, given.dimensions, given.statistic, given.extended_statistic)
    if given.metrics:
        if any((*simple, given.period, given.unit)):
            text = "Metrics cannot be specified with MetricName, Namespace, Dimensions, Period, Unit or a statistic."
            raise errors.bad_mix(text, "Metrics")
        check_labels(given.metrics)
        return tuple(_query(one, scope) for one in given.metrics)
    if not given.metric_name:
        raise errors.missing("MetricName")
    requests.check_name(given.metric_name, "MetricName")
    requests.check_namespace(given.namespace)
    dimensions = requests.check_dimensions(given.dimensions, "Dimensions")
    if bool(given.statistic) == bool(given.extended_statistic):
        raise errors.bad_mix("Specify either Statistic or ExtendedStatistic, and not both.", "Statistic")
    if given.statistic and given.statistic not in statistics.SIMPLE:
        raise errors.invalid(f"The value {given.statistic[:64]!r} for parameter Statistic is invalid.", "Statistic")
    if given.unit:
        requests.check_unit(given.unit, "Unit")
    _check_period(given.period)
    metric = Metric(scope, given.namespace, given.metric_name, dimensions)
    return (Query("m1", metric, given.statistic or given.extended_statistic, given.period, given.unit),)


def _check_period(period: int) -> None:
    if period not in limits.ALARM_PERIODS and (period < limits.EVALUATION_S or period % limits.EVALUATION_S):
        raise errors.invalid("The Period of an alarm must be 10, 20, 30, or a multiple of 60.", "Period")


def _query(one: Query, scope: Scope) -> Query:
    if one.metric is None:
        return one
    requests.check_name(one.metric.name, "Metrics.MetricStat.Metric.MetricName")
    requests.check_namespace(one.metric.namespace)
    dimensions = requests.check_dimensions(dict(one.metric.dimensions), "Metrics.MetricStat.Metric.Dimensions")
    if one.unit:
        requests.check_unit(one.unit, "Metrics.MetricStat.Unit")
    return replace(one, metric=Metric(scope, one.metric.namespace, one.metric.name, dimensions))


def _check_alarm(alarm: MetricAlarm) -> None:
    period = alarm.period
    _check_period(period)
    most = limits.ALARM_LONG_RANGE_S_MAX if period >= limits.EVALUATION_LONG_S else limits.ALARM_RANGE_S_MAX
    if period * alarm.periods > most:
        text = f"Metrics cannot be checked across more than {most} seconds (EvaluationPeriods * Period)."
        raise errors.invalid(text, "EvaluationPeriods")
    if len(alarm.plan.metrics) > limits.ALARM_METRICS_MAX:
        raise errors.invalid(f"An alarm watches at most {limits.ALARM_METRICS_MAX} metrics.", "Metrics")
    if not alarm.plan.metrics:
        raise errors.invalid("An alarm must watch at least one metric.", "Metrics")
    if sum(one.returned for one in alarm.queries) != 1:
        raise errors.invalid("Exactly one element of the metrics list should return data.", "Metrics")
    if any(actions.kind_of(arn) == EC2 for arns in alarm.actions.values() for arn in arns):
        metric = alarm.watched.metric
        if metric is None or "InstanceId" not in dict(metric.dimensions):
            raise errors.invalid("EC2 actions need a metric with the dimension InstanceId.", "AlarmActions")
