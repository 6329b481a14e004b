"""Metrics: put, read, list. Names, units and statistics are CloudWatch's; the cloud's own are in namespaces AWS/..."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import metric_models
    from minicloud.wire import metric_pb2
else:
    metric_models = lazy("minicloud.client.metric_models")
    metric_pb2 = lazy("minicloud.wire.metric_pb2")

_LATELY_S = 3_600.0


class AsyncMetrics:
    """What instances, balancers, queues, topics and your own programs report."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(
        self,
        namespace: str,
        name: str,
        value: float,
        *,
        unit: str = "",
        dimensions: Mapping[str, str] | None = None,
        time: datetime | float | None = None,
        resolution_s: int = 60,
    ) -> None:
        """One value, of now or of `time`. Raises InvalidRequest, LimitExceeded, Throttled.

        A call whose answer was lost is made again, so a value may count twice.
        """
        datum = metric_models.MetricDatum(name, value, dimensions or {}, time, unit=unit, resolution_s=resolution_s)
        await self.put_data(namespace, [datum])

    async def put_data(self, namespace: str, data: Sequence[metric_models.MetricDatum]) -> None:
        """Up to 1,000 data in one call, all or none. They are on disk five seconds later at the latest."""
        request = metric_pb2.PutMetricDataRequest(namespace=namespace, data=[_datum(one) for one in data])
        await self._broker.call("MetricService/PutMetricData", request, metric_pb2.PutMetricDataReply)

    async def get(
        self,
        queries: Sequence[metric_models.MetricQuery],
        *,
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        oldest_first: bool = True,
    ) -> tuple[metric_models.MetricLine, ...]:
        """Metrics and expressions over them, of the last hour where no start is given. Raises InvalidRequest."""
        since, until = _span(start, end)
        request = metric_pb2.GetMetricDataRequest(
            queries=[to_query(one) for one in queries], start=since, end=until, oldest_first=oldest_first
        )
        reply = await self._broker.call("MetricService/GetMetricData", request, metric_pb2.GetMetricDataReply)
        return tuple(to_model(metric_models.MetricLine, line) for line in reply.lines)

    async def statistics(
        self,
        namespace: str,
        name: str,
        statistics: Sequence[str],
        *,
        dimensions: Mapping[str, str] | None = None,
        period_s: int = 60,
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        unit: str = "",
    ) -> tuple[metric_models.MetricPoint, ...]:
        """Several statistics of one metric, oldest first: Average, Sum, Minimum, Maximum, SampleCount, p99, ..."""
        check_range(period_s=period_s)
        since, until = _span(start, end)
        request = metric_pb2.GetMetricStatisticsRequest(
            metric=metric_pb2.Metric(namespace=namespace, name=name, dimensions=dimensions or {}),
            statistics=statistics,
            period_s=period_s,
            start=since,
            end=until,
            unit=unit,
        )
        method = "MetricService/GetMetricStatistics"
        reply = await self._broker.call(method, request, metric_pb2.GetMetricStatisticsReply)
        return tuple(to_model(metric_models.MetricPoint, point) for point in reply.points)

    async def list(
        self,
        namespace: str = "",
        name: str = "",
        *,
        dimensions: Mapping[str, str | None] | None = None,
        recently_active: bool = False,
    ) -> AsyncIterator[metric_models.Metric]:
        """Metrics with data in the last two weeks, or three hours. A dimension of None may have any value."""
        filters = [metric_pb2.DimensionFilter(name=key, value=value) for key, value in (dimensions or {}).items()]
        request = metric_pb2.ListMetricsRequest(
            namespace=namespace, name=name, dimensions=filters, recently_active=recently_active
        )
        while True:
            reply = await self._broker.call("MetricService/ListMetrics", request, metric_pb2.ListMetricsReply)
            for item in reply.metrics:
                yield to_model(metric_models.Metric, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token


def to_query(one: metric_models.MetricQuery) -> metric_pb2.MetricQuery:
    check_range(period_s=one.period_s)
    return metric_pb2.MetricQuery(
        id=one.id,
        metric=to_metric(one.metric) if one.metric is not None else None,
        stat=one.stat,
        period_s=one.period_s,
        unit=one.unit,
        expression=one.expression,
        label=one.label,
        hidden=one.hidden,
    )


def to_metric(one: metric_models.Metric) -> metric_pb2.Metric:
    return metric_pb2.Metric(namespace=one.namespace, name=one.name, dimensions=one.dimensions)


def to_seconds(at: datetime | float | None) -> float:
    """0: not given."""
    return at.timestamp() if isinstance(at, datetime) else at or 0.0


def _span(start: datetime | float | None, end: datetime | float | None) -> tuple[float, float]:
    until = to_seconds(end) or time.time()
    return to_seconds(start) or until - _LATELY_S, until


def _datum(one: metric_models.MetricDatum) -> metric_pb2.MetricDatum:
    check_range(resolution_s=one.resolution_s)
    summary = None
    if one.summary is not None:
        given = one.summary
        summary = metric_pb2.StatisticSet(
            sample_count=given.sample_count, sum=given.sum, minimum=given.minimum, maximum=given.maximum
        )
    return metric_pb2.MetricDatum(
        name=one.name,
        value=one.value,
        dimensions=one.dimensions,
        time=to_seconds(one.time),
        values=one.values,
        counts=one.counts,
        summary=summary,
        unit=one.unit,
        resolution_s=one.resolution_s,
    )
