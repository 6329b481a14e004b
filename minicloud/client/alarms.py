"""Alarms on metrics, and on other alarms: make, watch, silence."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy
from minicloud.client.metrics import to_metric, to_query, to_seconds

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from minicloud.client import metric_models
    from minicloud.wire import metric_pb2
else:
    metric_models = lazy("minicloud.client.metric_models")
    metric_pb2 = lazy("minicloud.wire.metric_pb2")

_BOTH = ("MetricAlarm", "CompositeAlarm")


class AsyncAlarms:
    """What happens when a metric crosses a line: a topic is told, a group scales, an instance is stopped."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(
        self,
        name: str,
        comparison: str,
        threshold: float,
        *,
        metric: metric_models.Metric | None = None,
        stat: str = "Average",
        period_s: int = 60,
        unit: str = "",
        queries: Sequence[metric_models.MetricQuery] = (),
        evaluation_periods: int = 1,
        datapoints_to_alarm: int = 0,
        missing_data: str = "",
        low_sample_percentile: str = "",
        description: str = "",
        actions_enabled: bool = True,
        alarm_actions: Sequence[str] = (),
        ok_actions: Sequence[str] = (),
        insufficient_data_actions: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> metric_models.Alarm:
        """Make an alarm, or change the one of this name as a whole.

        comparison: GreaterThanThreshold, GreaterThanOrEqualToThreshold, LessThanThreshold, LessThanOrEqualToThreshold.
        metric with stat, period_s and unit; or queries, one of them not hidden. datapoints_to_alarm: of the
        evaluation_periods (0: all). missing_data: missing, breaching, notBreaching, ignore. actions: ARNs of topics,
        scaling policies, arn:aws:automate:REGION:ec2:stop (terminate, reboot, recover). Raises InvalidRequest.
        """
        check_range(period_s=period_s, evaluation_periods=evaluation_periods, datapoints_to_alarm=datapoints_to_alarm)
        request = metric_pb2.PutMetricAlarmRequest(
            name=name,
            comparison=comparison,
            threshold=threshold,
            metric=to_metric(metric) if metric is not None else None,
            stat=stat if metric is not None else "",
            period_s=period_s if metric is not None else 0,
            unit=unit,
            queries=[to_query(one) for one in queries],
            evaluation_periods=evaluation_periods,
            datapoints_to_alarm=datapoints_to_alarm,
            missing_data=missing_data,
            low_sample_percentile=low_sample_percentile,
            description=description,
            actions_disabled=not actions_enabled,
            alarm_actions=alarm_actions,
            ok_actions=ok_actions,
            insufficient_data_actions=insufficient_data_actions,
            tags=tags or {},
        )
        return to_model(metric_models.Alarm, await self._call("PutMetricAlarm", request))

    async def put_composite(
        self,
        name: str,
        rule: str,
        *,
        suppressor: str = "",
        suppressor_wait_s: int | None = None,
        suppressor_extension_s: int | None = None,
        description: str = "",
        actions_enabled: bool = True,
        alarm_actions: Sequence[str] = (),
        ok_actions: Sequence[str] = (),
        insufficient_data_actions: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> metric_models.Alarm:
        """An alarm on alarms: rule 'ALARM("a") AND NOT OK("b")'. suppressor: the alarm that holds its actions back."""
        check_range(suppressor_wait_s=suppressor_wait_s, suppressor_extension_s=suppressor_extension_s)
        request = metric_pb2.PutCompositeAlarmRequest(
            name=name,
            rule=rule,
            suppressor=suppressor,
            suppressor_wait_s=suppressor_wait_s,
            suppressor_extension_s=suppressor_extension_s,
            description=description,
            actions_disabled=not actions_enabled,
            alarm_actions=alarm_actions,
            ok_actions=ok_actions,
            insufficient_data_actions=insufficient_data_actions,
            tags=tags or {},
        )
        return to_model(metric_models.Alarm, await self._call("PutCompositeAlarm", request))

    async def get(self, name: str) -> metric_models.Alarm | None:
        """None: there is no alarm of this name."""
        request = metric_pb2.DescribeAlarmsRequest(names=[name], types=_BOTH)
        reply = await self._broker.call("AlarmService/DescribeAlarms", request, metric_pb2.DescribeAlarmsReply)
        return to_model(metric_models.Alarm, reply.alarms[0]) if reply.alarms else None

    async def list(
        self,
        *,
        names: Sequence[str] = (),
        prefix: str = "",
        types: Sequence[str] = ("MetricAlarm", "CompositeAlarm"),
        state: str = "",
        action_prefix: str = "",
        page_size: int = 100,
    ) -> AsyncIterator[metric_models.Alarm]:
        """By name. Pages are fetched as they are needed. Raises InvalidRequest."""
        check_range(page_size=page_size)
        request = metric_pb2.DescribeAlarmsRequest(
            names=names, prefix=prefix, types=types, state=state, action_prefix=action_prefix, page_size=page_size
        )
        while True:
            reply = await self._broker.call("AlarmService/DescribeAlarms", request, metric_pb2.DescribeAlarmsReply)
            for item in reply.alarms:
                yield to_model(metric_models.Alarm, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def family(self, *, children_of: str = "", parents_of: str = "") -> tuple[metric_models.Alarm, ...]:
        """The alarms of a composite alarm's rule, or the composite alarms with this alarm in theirs; the first 100."""
        request = metric_pb2.DescribeAlarmsRequest(children_of=children_of, parents_of=parents_of, page_size=100)
        reply = await self._broker.call("AlarmService/DescribeAlarms", request, metric_pb2.DescribeAlarmsReply)
        return tuple(to_model(metric_models.Alarm, item) for item in reply.alarms)

    async def for_metric(
        self, metric: metric_models.Metric, *, stat: str = "", period_s: int = 0, unit: str = ""
    ) -> tuple[metric_models.Alarm, ...]:
        """Alarms on this metric, not those on expressions over it."""
        check_range(period_s=period_s)
        request = metric_pb2.DescribeAlarmsForMetricRequest(
            metric=to_metric(metric), stat=stat, period_s=period_s, unit=unit
        )
        method = "AlarmService/DescribeAlarmsForMetric"
        reply = await self._broker.call(method, request, metric_pb2.DescribeAlarmsReply)
        return tuple(to_model(metric_models.Alarm, item) for item in reply.alarms)

    async def history(
        self,
        name: str = "",
        *,
        kind: str = "",
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        oldest_first: bool = False,
    ) -> AsyncIterator[metric_models.AlarmHistoryItem]:
        """What happened to an alarm, or to all. kind: ConfigurationUpdate, StateUpdate, Action."""
        request = metric_pb2.DescribeAlarmHistoryRequest(
            name=name,
            types=_BOTH,
            kind=kind,
            start=to_seconds(start),
            end=to_seconds(end),
            oldest_first=oldest_first,
        )
        while True:
            method = "AlarmService/DescribeAlarmHistory"
            reply = await self._broker.call(method, request, metric_pb2.DescribeAlarmHistoryReply)
            for item in reply.items:
                yield to_model(metric_models.AlarmHistoryItem, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, *names: str) -> None:
        """Up to 100; one that is not there is not an error. Raises Conflict (a composite alarm needs it)."""
        request = metric_pb2.DeleteAlarmsRequest(names=names)
        await self._broker.call("AlarmService/DeleteAlarms", request, metric_pb2.DeleteAlarmsReply)

    async def set_state(self, name: str, state: str, reason: str, reason_data: str = "") -> metric_models.Alarm:
        """For a try: the next evaluation looks at the metric again. Raises NotFound, InvalidRequest."""
        request = metric_pb2.SetAlarmStateRequest(name=name, state=state, reason=reason, reason_data=reason_data)
        return to_model(metric_models.Alarm, await self._call("SetAlarmState", request))

    async def enable_actions(self, *names: str) -> None:
        """Up to 100; one that is not there is passed over."""
        await self._set_actions(names, True)

    async def disable_actions(self, *names: str) -> None:
        """Its state goes on changing, nobody is told."""
        await self._set_actions(names, False)

    async def tag(self, name: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then. Raises NotFound."""
        return dict((await self._call("TagAlarm", metric_pb2.TagAlarmRequest(name=name, tags=tags))).tags)

    async def untag(self, name: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return dict((await self._call("TagAlarm", metric_pb2.TagAlarmRequest(name=name, remove=keys))).tags)

    async def _set_actions(self, names: Sequence[str], enabled: bool) -> None:
        request = metric_pb2.SetAlarmActionsRequest(names=names, enabled=enabled)
        await self._broker.call("AlarmService/SetAlarmActions", request, metric_pb2.SetAlarmActionsReply)

    async def _call(self, method: str, request: Message) -> metric_pb2.Alarm:
        return await self._broker.call(f"AlarmService/{method}", request, metric_pb2.Alarm)
