"""CloudWatch's operations over the metric service: translation, no decisions. The wire is minicloud/aws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.aws.lists import tag_list, tag_map
from minicloud.base.arn import Scope
from minicloud.metric import errors
from minicloud.metric.alarm import COMPOSITE_ALARM, METRIC_ALARM, CompositeAlarm, HistoryItem, MetricAlarm, name_of
from minicloud.metric.alarms import DeleteAlarms, EnableActions, PutAlarm, PutComposite, SetAlarmState, TagAlarm
from minicloud.metric.dashboards import DeleteDashboards, PutDashboard
from minicloud.metric.describe import Asked, AskedHistory, Shown
from minicloud.metric.given import GivenAlarm, GivenComposite
from minicloud.metric.model import Dimensions, Metric, dimensions_of
from minicloud.metric.query import Query, StatisticsQuery
from minicloud.metric.registry import DimensionFilter, Where
from minicloud.metric.requests import GivenDatum, Summary
from minicloud.metric.service import MetricService
from minicloud.metric.statistics import SIMPLE

Params = dict[str, Any]
_BOTH = (METRIC_ALARM, COMPOSITE_ALARM)
_ACTIONS = {"OKActions": "OK", "AlarmActions": "ALARM", "InsufficientDataActions": "INSUFFICIENT_DATA"}
_OLDEST = "TimestampAscending"


class CloudWatch:
    """The door of `cloudwatch`."""

    def __init__(self, service: MetricService) -> None:
        self._service = service

    # --- metrics

    async def PutMetricData(self, params: Params, call: Call) -> Params:
        only(params, call, "Namespace", "MetricData")
        data = [_datum(one) for one in params.get("MetricData", ())]
        self._service.put(call.caller.scope, params["Namespace"], data)
        return {}

    async def GetMetricData(self, params: Params, call: Call) -> Params:
        only(params, call, "MetricDataQueries", "StartTime", "EndTime", "ScanBy", "MaxDatapoints")
        queries = [_query(one, call) for one in params["MetricDataQueries"]]
        newest_first = params.get("ScanBy") != _OLDEST
        found = self._service.get_data(queries, params["StartTime"], params["EndTime"], newest_first)
        most = params.get("MaxDatapoints", 0)
        if most and sum(len(one.times) for one in found) > most:
            raise refused("MaxDatapoints", call, "Ask for fewer periods; an answer holds 100,800 data points.")
        results = [
            {"Id": one.id, "Label": one.label, "Timestamps": one.times, "Values": one.values, "StatusCode": "Complete"}
            for one in found
        ]
        return {"MetricDataResults": results, "Messages": []}

    async def GetMetricStatistics(self, params: Params, call: Call) -> Params:
        simple, extended = params.get("Statistics", []), params.get("ExtendedStatistics", [])
        asked = StatisticsQuery(
            _metric(params, call.caller.scope),
            (*simple, *extended),
            params["Period"],
            params["StartTime"],
            params["EndTime"],
            params.get("Unit", ""),
        )
        points = []
        for point in self._service.get_statistics(asked):
            shown: Params = {"Timestamp": float(point.time), "Unit": point.unit}
            shown |= {name: value for name, value in point.values.items() if name in SIMPLE}
            if extended:
                shown["ExtendedStatistics"] = {name: v for name, v in point.values.items() if name not in SIMPLE}
            points.append(shown)
        return {"Label": params["MetricName"], "Datapoints": points}

    async def ListMetrics(self, params: Params, call: Call) -> Params:
        only(params, call, "Namespace", "MetricName", "Dimensions", "NextToken", "RecentlyActive")
        filters = tuple(DimensionFilter(one["Name"], one.get("Value")) for one in params.get("Dimensions", ()))
        where = Where(
            params.get("Namespace", ""), params.get("MetricName", ""), filters, params.get("RecentlyActive") == "PT3H"
        )
        found, token = self._service.list_metrics(call.caller.scope, where, params.get("NextToken", ""))
        return {"Metrics": [_shown_metric(one) for one in found], "NextToken": token or None}

    # --- alarms

    async def PutMetricAlarm(self, params: Params, call: Call) -> Params:
        only(params, call, *_ALARM_PARAMS)
        given = GivenAlarm(
            name=params["AlarmName"],
            comparison=params.get("ComparisonOperator", ""),
            evaluation_periods=params.get("EvaluationPeriods", 0),
            threshold=params.get("Threshold"),
            namespace=params.get("Namespace", ""),
            metric_name=params.get("MetricName", ""),
            dimensions=dict(_dimensions(params)),
            statistic=params.get("Statistic", ""),
            extended_statistic=params.get("ExtendedStatistic", ""),
            period=params.get("Period", 0),
            unit=params.get("Unit", ""),
            metrics=[_query(one, call) for one in params.get("Metrics", ())],
            datapoints=params.get("DatapointsToAlarm", 0),
            missing=params.get("TreatMissingData", ""),
            low_samples=params.get("EvaluateLowSampleCountPercentile", ""),
            **_common(params),
        )
        await self._service.submit(PutAlarm(call.caller.scope, given))
        return {}

    async def PutCompositeAlarm(self, params: Params, call: Call) -> Params:
        only(params, call, *_COMPOSITE_PARAMS)
        given = GivenComposite(
            name=params["AlarmName"],
            rule=params["AlarmRule"],
            suppressor=params.get("ActionsSuppressor", ""),
            wait_s=params.get("ActionsSuppressorWaitPeriod"),
            extension_s=params.get("ActionsSuppressorExtensionPeriod"),
            **_common(params),
        )
        await self._service.submit(PutComposite(call.caller.scope, given))
        return {}

    async def DescribeAlarms(self, params: Params, call: Call) -> Params:
        asked = Asked(
            tuple(params.get("AlarmNames", ())),
            params.get("AlarmNamePrefix", ""),
            tuple(params.get("AlarmTypes", ())),
            params.get("StateValue", ""),
            params.get("ActionPrefix", ""),
            params.get("ChildrenOfAlarmName", ""),
            params.get("ParentsOfAlarmName", ""),
        )
        found, token = await self._service.describe(
            call.caller.scope, asked, params.get("NextToken", ""), params.get("MaxRecords", 50)
        )
        shown = [_shown(one) for one in found]
        composite = [isinstance(alarm, CompositeAlarm) for alarm, _ in found]
        return {
            "MetricAlarms": [one for one, is_composite in zip(shown, composite, strict=True) if not is_composite],
            "CompositeAlarms": [one for one, is_composite in zip(shown, composite, strict=True) if is_composite],
            "NextToken": token or None,
        }

    async def DescribeAlarmsForMetric(self, params: Params, call: Call) -> Params:
        stat = params.get("ExtendedStatistic") or params.get("Statistic") or ""
        found = await self._service.alarms_for_metric(
            _metric(params, call.caller.scope), stat, params.get("Period", 0), params.get("Unit", "")
        )
        return {"MetricAlarms": [_shown(one) for one in found]}

    async def DescribeAlarmHistory(self, params: Params, call: Call) -> Params:
        only(params, call, *_HISTORY_PARAMS)
        asked = AskedHistory(
            params.get("AlarmName", ""),
            tuple(params.get("AlarmTypes", ())),
            params.get("HistoryItemType", ""),
            params.get("StartDate", 0.0),
            params.get("EndDate", 0.0),
            params.get("ScanBy") != _OLDEST,
        )
        found, token = await self._service.history(
            call.caller.scope, asked, params.get("NextToken", ""), params.get("MaxRecords", 100)
        )
        return {"AlarmHistoryItems": [_item(one) for one in found], "NextToken": token or None}

    async def DeleteAlarms(self, params: Params, call: Call) -> Params:
        await self._service.submit(DeleteAlarms(call.caller.scope, params["AlarmNames"]))
        return {}

    async def SetAlarmState(self, params: Params, call: Call) -> Params:
        command = SetAlarmState(
            call.caller.scope,
            params["AlarmName"],
            params["StateValue"],
            params["StateReason"],
            params.get("StateReasonData", ""),
        )
        await self._service.submit(command)
        return {}

    async def EnableAlarmActions(self, params: Params, call: Call) -> Params:
        await self._service.submit(EnableActions(call.caller.scope, params["AlarmNames"], True))
        return {}

    async def DisableAlarmActions(self, params: Params, call: Call) -> Params:
        await self._service.submit(EnableActions(call.caller.scope, params["AlarmNames"], False))
        return {}

    # --- dashboards

    async def PutDashboard(self, params: Params, call: Call) -> Params:
        """Kept and returned; nothing here draws it."""
        only(params, call, "DashboardName", "DashboardBody")
        account = call.caller.scope.account
        await self._service.submit(PutDashboard(account, params["DashboardName"], params["DashboardBody"]))
        return {"DashboardValidationMessages": []}

    async def GetDashboard(self, params: Params, call: Call) -> Params:
        found = await self._service.dashboard(call.caller.scope.account, params["DashboardName"])
        return {"DashboardArn": found.arn, "DashboardBody": found.text, "DashboardName": found.name}

    async def ListDashboards(self, params: Params, call: Call) -> Params:
        found, token = await self._service.list_dashboards(
            call.caller.scope.account, params.get("DashboardNamePrefix", ""), params.get("NextToken", "")
        )
        entries = [
            {
                "DashboardName": one.name,
                "DashboardArn": one.arn,
                "LastModified": one.changed,
                "Size": len(one.text.encode()),
            }
            for one in found
        ]
        return {"DashboardEntries": entries, "NextToken": token or None}

    async def DeleteDashboards(self, params: Params, call: Call) -> Params:
        await self._service.submit(DeleteDashboards(call.caller.scope.account, params["DashboardNames"]))
        return {}

    # --- tags

    async def TagResource(self, params: Params, call: Call) -> Params:
        name = _alarm_of(params["ResourceARN"], call)
        await self._service.submit(TagAlarm(call.caller.scope, name, _tags(params)))
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Params:
        name = _alarm_of(params["ResourceARN"], call)
        await self._service.submit(TagAlarm(call.caller.scope, name, {}, params["TagKeys"]))
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Params:
        name = _alarm_of(params["ResourceARN"], call)
        found, _ = await self._service.describe(call.caller.scope, Asked(names=(name,), types=_BOTH))
        if not found:
            raise errors.no_such_alarm(name)
        return {"Tags": tag_list(dict(sorted(found[0][0].tags.items())))}


_COMMON_PARAMS = ("AlarmName", "AlarmDescription", "ActionsEnabled", *_ACTIONS, "Tags")
_SUPPRESSOR_PARAMS = ("ActionsSuppressor", "ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")
_COMPOSITE_PARAMS = (*_COMMON_PARAMS, "AlarmRule", *_SUPPRESSOR_PARAMS)
_METRIC_PARAMS = (
    "Namespace",
    "MetricName",
    "Dimensions",
    "Statistic",
    "ExtendedStatistic",
    "Period",
    "Unit",
    "Metrics",
)
_RULE_PARAMS = ("ComparisonOperator", "EvaluationPeriods", "DatapointsToAlarm", "Threshold")
_ALARM_PARAMS = (
    *_COMMON_PARAMS, *_METRIC_PARAMS, *_RULE_PARAMS, "TreatMissingData", "EvaluateLowSampleCountPercentile",
)  # fmt: skip
_HISTORY_PARAMS = (
    "AlarmName", "AlarmTypes", "HistoryItemType", "StartDate", "EndDate", "MaxRecords", "NextToken", "ScanBy",
)  # fmt: skip


# --- in


def _datum(one: Params) -> GivenDatum:
    given = one.get("StatisticValues")
    return GivenDatum(
        name=one["MetricName"],
        dimensions=dict(_dimensions(one)),
        timestamp=one.get("Timestamp"),
        value=one.get("Value"),
        values=one.get("Values", ()),
        counts=one.get("Counts", ()),
        summary=Summary(given["SampleCount"], given["Sum"], given["Minimum"], given["Maximum"]) if given else None,
        unit=one.get("Unit", ""),
        width=one.get("StorageResolution", 60),
    )


def _dimensions(params: Params) -> Dimensions:
    """Raises InvalidParameterValue where one is named twice."""
    pairs = [(one["Name"], one["Value"]) for one in params.get("Dimensions", ())]
    found = dict(pairs)
    if len(found) < len(pairs):
        raise errors.bad_value("A dimension is named twice.", "Dimensions")
    return dimensions_of(found)


def _metric(params: Params, scope: Scope) -> Metric:
    return Metric(scope, params.get("Namespace", ""), params.get("MetricName", ""), _dimensions(params))


def _query(one: Params, call: Call) -> Query:
    if one.get("AccountId", call.caller.scope.account) != call.caller.scope.account:
        raise refused("AccountId", call)
    stat = one.get("MetricStat")
    return Query(
        id=one["Id"],
        metric=_metric(stat["Metric"], call.caller.scope) if stat else None,
        stat=stat["Stat"] if stat else "",
        period=stat["Period"] if stat else one.get("Period", 0),
        unit=stat.get("Unit", "") if stat else "",
        expression=one.get("Expression", ""),
        label=one.get("Label", ""),
        returned=one.get("ReturnData", True),
    )


def _common(params: Params) -> dict[str, Any]:
    return {
        "description": params.get("AlarmDescription", ""),
        "enabled": params.get("ActionsEnabled", True),
        "ok_actions": params.get("OKActions", ()),
        "alarm_actions": params.get("AlarmActions", ()),
        "insufficient_actions": params.get("InsufficientDataActions", ()),
        "tags": _tags(params),
    }


def _tags(params: Params) -> dict[str, str]:
    return tag_map(params.get("Tags", ()))


def _alarm_of(arn: str, call: Call) -> str:
    """Raises ResourceNotFound: no alarm of the caller's."""
    start = call.caller.scope.arn("cloudwatch", "alarm:")
    if not arn.startswith(start):
        raise errors.no_such_alarm(name_of(arn))
    return arn.removeprefix(start)


# --- out


def _shown_metric(one: Metric) -> Params:
    return {"Namespace": one.namespace, "MetricName": one.name, "Dimensions": _shown_dimensions(one.dimensions)}


def _shown_dimensions(pairs: Iterable[tuple[str, str]]) -> list[Params]:
    return [{"Name": name, "Value": value} for name, value in pairs]


def _shown(one: Shown) -> Params:
    alarm, state = one
    shown: Params = {
        "AlarmName": alarm.name,
        "AlarmArn": alarm.arn,
        "AlarmDescription": alarm.description or None,
        "AlarmConfigurationUpdatedTimestamp": alarm.configured_ms / 1000,
        "ActionsEnabled": alarm.enabled,
        **{name: alarm.actions.get(value, []) for name, value in _ACTIONS.items()},
        "StateValue": state.value,
        "StateReason": state.reason,
        "StateReasonData": state.data or None,
        "StateUpdatedTimestamp": state.updated_ms / 1000,
        "StateTransitionedTimestamp": state.changed_ms / 1000,
    }
    if isinstance(alarm, MetricAlarm):
        return shown | _of_metric_alarm(alarm)
    shown["AlarmRule"] = alarm.text
    shown["ActionsSuppressedBy"] = state.suppressed or None
    if alarm.suppressor:
        shown["ActionsSuppressor"] = alarm.suppressor
        shown["ActionsSuppressorWaitPeriod"] = alarm.wait_s
        shown["ActionsSuppressorExtensionPeriod"] = alarm.extension_s
    return shown


def _of_metric_alarm(alarm: MetricAlarm) -> Params:
    shown: Params = {
        "EvaluationPeriods": alarm.periods,
        "DatapointsToAlarm": alarm.needed if alarm.needed != alarm.periods else None,
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison,
        "TreatMissingData": alarm.missing,
        "EvaluateLowSampleCountPercentile": alarm.low_samples or None,
    }
    if not alarm.single:
        return {**shown, "Metrics": [_shown_query(one) for one in alarm.queries], "Dimensions": []}
    watched = alarm.watched
    assert watched.metric is not None
    stat = "Statistic" if watched.stat in SIMPLE else "ExtendedStatistic"
    return {
        **shown,
        "Namespace": watched.metric.namespace,
        "MetricName": watched.metric.name,
        "Dimensions": _shown_dimensions(watched.metric.dimensions),
        stat: watched.stat,
        "Period": watched.period,
        "Unit": watched.unit or None,
    }


def _shown_query(one: Query) -> Mapping[str, Any]:
    shown: Params = {"Id": one.id, "Label": one.label or None, "ReturnData": one.returned}
    if one.metric is None:
        return {**shown, "Expression": one.expression, "Period": one.period or None}
    stat = {"Metric": _shown_metric(one.metric), "Period": one.period, "Stat": one.stat, "Unit": one.unit or None}
    return {**shown, "MetricStat": stat}


def _item(one: HistoryItem) -> Params:
    return {
        "AlarmName": one.alarm.split("/", 2)[2],
        "AlarmType": one.type,
        "Timestamp": one.at_ms / 1000,
        "HistoryItemType": one.kind,
        "HistorySummary": one.summary,
        "HistoryData": one.data,
    }
