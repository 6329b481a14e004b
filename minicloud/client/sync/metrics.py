"""Made from `minicloud/client/metrics.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.metrics import AsyncMetrics

if TYPE_CHECKING:
    from minicloud.client import metric_models
else:
    metric_models = lazy("minicloud.client.metric_models")


class Metrics:
    """What instances, balancers, queues, topics and your own programs report."""

    _inner: AsyncMetrics

    def __init__(self, inner: AsyncMetrics, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def put(
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
        self._loop.run(
            self._inner.put(
                namespace, name, value, unit=unit, dimensions=dimensions, time=time, resolution_s=resolution_s
            )
        )

    def put_data(self, namespace: str, data: Sequence[metric_models.MetricDatum]) -> None:
        """Up to 1,000 data in one call, all or none. They are on disk five seconds later at the latest."""
        self._loop.run(self._inner.put_data(namespace, data))

    def get(
        self,
        queries: Sequence[metric_models.MetricQuery],
        *,
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        oldest_first: bool = True,
    ) -> tuple[metric_models.MetricLine, ...]:
        """Metrics and expressions over them, of the last hour where no start is given. Raises InvalidRequest."""
        return self._loop.run(self._inner.get(queries, start=start, end=end, oldest_first=oldest_first))

    def statistics(
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
        return self._loop.run(
            self._inner.statistics(
                namespace, name, statistics, dimensions=dimensions, period_s=period_s, start=start, end=end, unit=unit
            )
        )

    def list(
        self,
        namespace: str = "",
        name: str = "",
        *,
        dimensions: Mapping[str, str | None] | None = None,
        recently_active: bool = False,
    ) -> Iterator[metric_models.Metric]:
        """Metrics with data in the last two weeks, or three hours. A dimension of None may have any value."""
        return self._loop.iterate(
            self._inner.list(namespace, name, dimensions=dimensions, recently_active=recently_active)
        )
