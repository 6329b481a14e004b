"""The metrics of auto scaling groups: scaling.ports.MetricReader over the metric store, and what groups report of
themselves.

    predefined metrics     AWS's own, of the group's instances (AutoScalingGroupName) or of its target group; while some
                           of its instances warm up, of the others alone, one by one: what boots does not count
    customized ones        one metric, or metric math, as the policy's document has it
    load of a forecast     a mean times how many instances there were: their number is kept for that, minute by minute,
                           before anybody asks for a forecast, so that the first one need not wait for a day

A period is read once it has ended; where its data are not in yet, the window ends one period earlier.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.metric.describe import Asked
from minicloud.metric.model import Metric, dimensions_of
from minicloud.metric.query import Query
from minicloud.metric.requests import GivenDatum
from minicloud.metric.service import MetricService
from minicloud.scaling import limits
from minicloud.scaling.group_metrics import values
from minicloud.scaling.model import Group, Policy
from minicloud.scaling.predictive import Predictive
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import State
from minicloud.scaling.tracking import BACKLOG, Reading, TargetTracking
from minicloud.shell.background import Background
from minicloud.shell.clock import Clock

log = logging.getLogger("minicloud.autoscaler")

EC2, ALB, QUEUES, GROUPS, OURS = "AWS/EC2", "AWS/ApplicationELB", "AWS/SQS", "AWS/AutoScaling", "Minicloud/AutoScaling"
GROUP = "AutoScalingGroupName"
IN_SERVICE = "GroupInServiceInstances"
EC2_METRICS = {"CPUUtilization": "CPU", "NetworkIn": "NetworkIn", "NetworkOut": "NetworkOut"}
HISTORY_PERIOD_S = 300
REPORT_S = 60.0
ONE_BY_ONE_MAX = 500  # ours: in a larger group what boots is diluted anyway
COUNTED_MAX = 500  # ours: with more groups (20 MB of the store), only those that have a predictive policy


class PolicyMetrics:
    """Implements scaling.ports.MetricReader."""

    def __init__(self, metrics: MetricService, state: State, clock: Clock) -> None:
        self._metrics = metrics
        self._state = state
        self._clock = clock

    async def read(self, group: str, policy: str, periods: int) -> Reading:
        kept = self._policy(group, policy)
        rule = rule_of(kept)
        assert isinstance(rule, TargetTracking)
        period = rule.period_s
        end = math.floor(self._clock.wall() / period) * period
        queries = queries_of(self._state.groups[group], rule)
        warm = (
            self._warm_since(group, kept, end - limits.OUT_POINTS * period)
            if rule.metric.startswith("ASGAverage")
            else None
        )
        if warm is None:
            found = self._line(queries, end - (periods + 1) * period, end)
        else:
            found = self._mean(queries[0], warm, end - (periods + 1) * period, end)
        line = [found.get(end - back * period) for back in range(periods + 1, 0, -1)]
        late = line[-1] is None and line[-2] is not None
        return Reading(tuple(line[:-1] if late else line[1:]), period, end - period if late else end)

    def _warm_since(self, key: str, policy: Policy, young: float) -> dict[str, float] | None:
        """Instances in service, and since when each counts. None: all do since `young`, so the group has one metric."""
        group, members = self._state.groups[key], self._state.rosters[key].members.values()
        warmup = group.warmup if policy.warmup_s is None else policy.warmup_s
        since = {one.instance_id: one.in_service + warmup for one in members if one.in_service is not None}
        booting = any(one.in_service is None and one.seen == "running" for one in members)
        if len(since) > ONE_BY_ONE_MAX or not (booting or any(one > young for one in since.values())):
            return None
        return since

    def _mean(self, query: Query, since: Mapping[str, float], start: float, end: float) -> dict[float, float]:
        """Of a metric of the group, by instances that count."""
        found: defaultdict[float, list[float]] = defaultdict(list)
        assert query.metric is not None
        for instance_id, begun in since.items():
            metric = query.metric._replace(dimensions=dimensions_of({"InstanceId": instance_id}))
            for at, value in self._line([replace(query, metric=metric)], start, end).items():
                if at >= begun:
                    found[at].append(value)
        return {at: math.fsum(line) / len(line) for at, line in found.items()}

    async def history(self, group: str, policy: str, seconds: int) -> list[tuple[float, float]]:
        rule = rule_of(self._policy(group, policy))
        assert isinstance(rule, Predictive)
        end = math.floor(self._clock.wall() / HISTORY_PERIOD_S) * HISTORY_PERIOD_S
        load = load_of(self._state.groups[group], rule)
        return sorted(self._line(load, end - seconds, end).items())

    async def alarms(self, scope: Scope, names: Sequence[str]) -> dict[str, str]:
        if not names:
            return {}
        asked = Asked(names=tuple(names), types=("MetricAlarm", "CompositeAlarm"))
        found, _ = await self._metrics.describe(scope, asked)
        return {alarm.name: state.value for alarm, state in found}

    def _policy(self, group: str, policy: str) -> Policy:
        return self._state.rosters[group].policies[policy]

    def _line(self, queries: list[Query], start: float, end: float) -> dict[float, float]:
        """By the beginning of each period; what is not there is not in it."""
        found = self._metrics.get_data(queries, start, end, newest_first=False)
        return dict(zip(map(float, found[0].times), found[0].values, strict=True)) if found else {}


def queries_of(group: Group, rule: TargetTracking) -> list[Query]:
    """What a target tracking policy reads. Raises InvalidParameterValue for a label that names nothing."""
    scope, period = group.scope, rule.period_s
    if rule.customized is not None:
        return customized(scope, rule.customized, period)
    if rule.metric == BACKLOG:
        name = rule.label.rpartition(":")[2].rpartition("/")[2]
        return [_one(scope, QUEUES, "ApproximateNumberOfMessagesVisible", {"QueueName": name}, "Average", period)]
    if rule.metric == "ALBRequestCountPerTarget":
        dimensions = {"TargetGroup": target_group_of(rule.label)}
        return [_one(scope, ALB, "RequestCountPerTarget", dimensions, "Sum", period)]
    name = next(name for name, part in EC2_METRICS.items() if part in rule.metric)
    return [_one(scope, EC2, name, {GROUP: group.name}, "Average", period)]


def load_of(group: Group, rule: Predictive) -> list[Query]:
    """The total load that a forecast is made from."""
    scope, period = group.scope, HISTORY_PERIOD_S
    if rule.customized is not None:
        spec = rule.customized.get("CustomizedLoadMetricSpecification", rule.customized)
        return customized(scope, {"Metrics": spec.get("MetricDataQueries", spec.get("Metrics", []))}, period)
    if rule.pair == "ALBRequestCount":
        dimensions = {"TargetGroup": target_group_of(rule.label)}
        total = _one(scope, ALB, "RequestCount", dimensions, "Sum", period, "total")
        return [total, Query("load", expression=f"total / {period // 60}", period=period)]  # targets are by the minute
    name = next(name for name, part in EC2_METRICS.items() if part in rule.pair)
    mean = _one(scope, EC2, name, {GROUP: group.name}, "Average", period, "mean")
    count = _one(scope, OURS, IN_SERVICE, {GROUP: group.name}, "Average", period, "count")
    return [mean, count, Query("load", expression="mean * count", period=period)]


def _one(
    scope: Scope, namespace: str, name: str, dimensions: dict[str, str], stat: str, period: int, id_: str = ""
) -> Query:
    metric = Metric(scope, namespace, name, dimensions_of(dimensions))
    return Query(id_ or "m", metric, stat, period, returned=not id_)


def target_group_of(label: str) -> str:
    """app/NAME/ID/targetgroup/NAME/ID, as API, ResourceLabel -> targetgroup/NAME/ID. Raises InvalidParameterValue."""
    found = label.partition("targetgroup/")
    if not found[2]:
        raise InvalidParameterValue(
            f"The resource label {label[:255]!r} is not of the form app/NAME/ID/targetgroup/NAME/ID",
            code="ValidationError",
            field="target_tracking.label",
        )
    return found[1] + found[2]


def customized(scope: Scope, spec: Mapping[str, Any], period: int) -> list[Query]:
    """API, CustomizedMetricSpecification: a metric, or Metrics with metric math."""
    if "Metrics" not in spec:
        metric = _metric(scope, spec)
        return [Query("m", metric, spec.get("Statistic", "Average"), period, spec.get("Unit", ""))]
    queries = []
    for one in spec["Metrics"]:
        stat = one.get("MetricStat")
        queries.append(
            Query(
                one.get("Id", ""),
                None if stat is None else _metric(scope, stat["Metric"]),
                "" if stat is None else stat.get("Stat", "Average"),
                period,
                "" if stat is None else stat.get("Unit", ""),
                one.get("Expression", ""),
                one.get("Label", ""),
                one.get("ReturnData", True),
            )
        )
    return queries


def _metric(scope: Scope, spec: Mapping[str, Any]) -> Metric:
    dimensions = {one["Name"]: one["Value"] for one in spec.get("Dimensions", [])}
    return Metric(scope, spec["Namespace"], spec["MetricName"], dimensions_of(dimensions))


class GroupReports(Background):
    """Every minute: what groups say of themselves, and what forecasts will want to know."""

    def __init__(self, metrics: MetricService, state: State, clock: Clock) -> None:
        self._metrics = metrics
        self._state = state
        self._clock = clock

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(REPORT_S - self._clock.wall() % REPORT_S)
            for group in list(self._state.groups.values()):
                try:
                    self._report(group)
                except CloudError as error:
                    log.warning("%s does not report: %s", group.key, error)
                except Exception:  # of one group: all others go on
                    log.exception("%s does not report", group.key)

    def _report(self, group: Group) -> None:
        roster = self._state.rosters.get(group.key)
        counted = len(self._state.groups) <= COUNTED_MAX or (
            roster is not None and any(one.type == "PredictiveScaling" for one in roster.policies.values())
        )
        if not group.metrics and not counted:
            return
        now, found = self._clock.wall(), values(group, roster)
        data = [GivenDatum(name, {GROUP: group.name}, now, found[name], unit="None") for name in group.metrics]
        if data:
            self._metrics.put(group.scope, GROUPS, data, service=True)
        if counted:
            one = GivenDatum(IN_SERVICE, {GROUP: group.name}, now, found[IN_SERVICE], unit="None")
            self._metrics.put(group.scope, OURS, [one], service=True)
