"""MetricService, AlarmService and ReportService on the wire: translation, no decisions."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.metric import errors, translate
from minicloud.metric.alarms import DeleteAlarms, EnableActions, PutAlarm, PutComposite, SetAlarmState, TagAlarm
from minicloud.metric.describe import Asked, AskedHistory
from minicloud.metric.query import StatisticsQuery
from minicloud.metric.service import MetricService
from minicloud.wire import fleet_pb2
from minicloud.wire import metric_pb2 as wire

log = logging.getLogger(__name__)

WriteLogs = Callable[[fleet_pb2.ReportRequest], Awaitable[int]]  # how many lines were dropped

METRICS = wire.DESCRIPTOR.services_by_name["MetricService"]
ALARMS = wire.DESCRIPTOR.services_by_name["AlarmService"]
REPORTS = fleet_pb2.DESCRIPTOR.services_by_name["ReportService"]
ALARMS_PAGE, HISTORY_PAGE = 50, 100  # API, DescribeAlarms: MaxRecords; ours


class MetricServicer:
    """For `rpc.door.door(MetricServicer(...), METRICS, entry)`; callers come from `rpc.shard_ticket`."""

    def __init__(self, service: MetricService) -> None:
        self._service = service

    async def PutMetricData(self, request: wire.PutMetricDataRequest, caller: Caller) -> wire.PutMetricDataReply:
        self._service.put(caller.scope, request.namespace, [translate.to_datum(one) for one in request.data])
        return wire.PutMetricDataReply()

    async def GetMetricData(self, request: wire.GetMetricDataRequest, caller: Caller) -> wire.GetMetricDataReply:
        queries = [translate.to_query(one, caller.scope) for one in request.queries]
        found = self._service.get_data(queries, request.start, request.end, not request.oldest_first)
        return wire.GetMetricDataReply(lines=[translate.line(one) for one in found])

    async def GetMetricStatistics(
        self, request: wire.GetMetricStatisticsRequest, caller: Caller
    ) -> wire.GetMetricStatisticsReply:
        asked = StatisticsQuery(
            translate.to_metric(request.metric, caller.scope),
            tuple(request.statistics),
            request.period_s,
            request.start,
            request.end,
            request.unit,
        )
        found = self._service.get_statistics(asked)
        return wire.GetMetricStatisticsReply(points=[translate.point(one) for one in found])

    async def ListMetrics(self, request: wire.ListMetricsRequest, caller: Caller) -> wire.ListMetricsReply:
        found, token = self._service.list_metrics(caller.scope, translate.to_where(request), request.page_token)
        return wire.ListMetricsReply(metrics=[translate.metric(one) for one in found], next_page_token=token)


class AlarmServicer:
    """For `rpc.door.door(AlarmServicer(...), ALARMS, entry)`."""

    def __init__(self, service: MetricService) -> None:
        self._service = service

    async def PutMetricAlarm(self, request: wire.PutMetricAlarmRequest, caller: Caller) -> wire.Alarm:
        await self._service.submit(PutAlarm(caller.scope, translate.to_alarm(request, caller.scope)))
        return await self._shown(request.name, caller)

    async def PutCompositeAlarm(self, request: wire.PutCompositeAlarmRequest, caller: Caller) -> wire.Alarm:
        await self._service.submit(PutComposite(caller.scope, translate.to_composite(request)))
        return await self._shown(request.name, caller)

    async def DescribeAlarms(self, request: wire.DescribeAlarmsRequest, caller: Caller) -> wire.DescribeAlarmsReply:
        asked = Asked(
            tuple(request.names),
            request.prefix,
            tuple(request.types),
            request.state,
            request.action_prefix,
            request.children_of,
            request.parents_of,
        )
        size = request.page_size or ALARMS_PAGE
        return translate.alarms(*await self._service.describe(caller.scope, asked, request.page_token, size))

    async def DescribeAlarmsForMetric(
        self, request: wire.DescribeAlarmsForMetricRequest, caller: Caller
    ) -> wire.DescribeAlarmsReply:
        metric = translate.to_metric(request.metric, caller.scope)
        found = await self._service.alarms_for_metric(metric, request.stat, request.period_s, request.unit)
        return translate.alarms(found)

    async def DescribeAlarmHistory(
        self, request: wire.DescribeAlarmHistoryRequest, caller: Caller
    ) -> wire.DescribeAlarmHistoryReply:
        asked = AskedHistory(
            request.name, tuple(request.types), request.kind, request.start, request.end, not request.oldest_first
        )
        size = request.page_size or HISTORY_PAGE
        found, token = await self._service.history(caller.scope, asked, request.page_token, size)
        items = [translate.item(one) for one in found]
        return wire.DescribeAlarmHistoryReply(items=items, next_page_token=token)

    async def DeleteAlarms(self, request: wire.DeleteAlarmsRequest, caller: Caller) -> wire.DeleteAlarmsReply:
        await self._service.submit(DeleteAlarms(caller.scope, tuple(request.names)))
        return wire.DeleteAlarmsReply()

    async def SetAlarmState(self, request: wire.SetAlarmStateRequest, caller: Caller) -> wire.Alarm:
        command = SetAlarmState(caller.scope, request.name, request.state, request.reason, request.reason_data)
        await self._service.submit(command)
        return await self._shown(request.name, caller)

    async def SetAlarmActions(self, request: wire.SetAlarmActionsRequest, caller: Caller) -> wire.SetAlarmActionsReply:
        await self._service.submit(EnableActions(caller.scope, tuple(request.names), request.enabled))
        return wire.SetAlarmActionsReply()

    async def TagAlarm(self, request: wire.TagAlarmRequest, caller: Caller) -> wire.Alarm:
        command = TagAlarm(caller.scope, request.name, dict(request.tags), tuple(request.remove))
        await self._service.submit(command)
        return await self._shown(request.name, caller)

    async def _shown(self, name: str, caller: Caller) -> wire.Alarm:
        """Raises NotFound: it was deleted meanwhile."""
        found, _ = await self._service.describe(
            caller.scope, Asked(names=(name,), types=("MetricAlarm", "CompositeAlarm"))
        )
        if not found:
            raise errors.no_such_alarm(name)
        return translate.alarm(found[0])


class ReportServicer:
    """For `rpc.door.door(ReportServicer(...), REPORTS, Entry(fleet_door(...), ...))`: what the cloud measures.

    A request that comes again, because its answer was lost, is not counted again, by this process or the next. Lines
    are written first, as that may fail or be given up half-way: metrics are counted in one go with the number.
    """

    def __init__(self, service: MetricService, write: WriteLogs | None = None) -> None:
        """write: where log lines go; None: nowhere."""
        self._service = service
        self._write = write

    async def Report(self, request: fleet_pb2.ReportRequest, _source: str) -> fleet_pb2.ReportReply:
        if self._service.counted(request.source, request.number):
            return fleet_pb2.ReportReply()
        dropped = lines_dropped = 0
        if request.logs:
            given = sum(len(one.messages) for one in request.logs)
            lines_dropped = await self._write(request) if self._write is not None else given
            if self._service.counted(request.source, request.number):
                return fleet_pb2.ReportReply()  # it came again meanwhile
        for one in request.metrics:
            try:
                self._service.put(Scope(one.account, one.region), one.namespace, translate.to_data(one), service=True)
            except Unavailable:
                raise  # this process ends: the next one gets all of it again
            except CloudError as error:
                log.warning("a report of %s is dropped: %s", request.source, error)
                dropped += 1
            except Exception:  # of one report: it would come again for ever, and keep all others back
                log.exception("a report of %s is dropped", request.source)
                dropped += 1
        self._service.count(request.source, request.number)
        return fleet_pb2.ReportReply(dropped=dropped, lines_dropped=lines_dropped)
