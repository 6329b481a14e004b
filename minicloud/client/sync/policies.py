"""Made from `minicloud/client/policies.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.policies import AsyncPolicies

if TYPE_CHECKING:
    from minicloud.client import group_models
else:
    group_models = lazy("minicloud.client.group_models")


class Policies:
    """How groups follow their load. Where policies differ, a group takes the larger capacity."""

    _inner: AsyncPolicies

    def __init__(self, inner: AsyncPolicies, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def put_target_tracking(
        self,
        group: str,
        name: str,
        target: float,
        *,
        metric: str = "",
        label: str = "",
        customized: Mapping[str, Any] | None = None,
        disable_scale_in: bool = False,
        enabled: bool = True,
        warmup_s: int | None = None,
    ) -> group_models.ScalingPolicy:
        """Keep a metric at its target.

        metric: ASGAverageCPUUtilization, ASGAverageCPUUtilizationHighResolution (10 s), ASGAverageNetworkIn,
        ASGAverageNetworkOut, ALBRequestCountPerTarget (label: of the target group), SQSBacklogPerInstance (label: the
        queue's name; ours). Or customized: AWS's CustomizedMetricSpecification. Raises NotFound, InvalidParameterValue.
        """
        return self._loop.run(
            self._inner.put_target_tracking(
                group,
                name,
                target,
                metric=metric,
                label=label,
                customized=customized,
                disable_scale_in=disable_scale_in,
                enabled=enabled,
                warmup_s=warmup_s,
            )
        )

    def put_steps(
        self,
        group: str,
        name: str,
        steps: Sequence[group_models.Step],
        *,
        adjustment_type: str = "ChangeInCapacity",
        min_magnitude: int = 0,
        aggregation: str = "Average",
        enabled: bool = True,
        warmup_s: int | None = None,
    ) -> group_models.ScalingPolicy:
        """The further the metric is from its alarm's threshold, the larger the step. An alarm's action names its arn.

        adjustment_type: ChangeInCapacity, ExactCapacity, PercentChangeInCapacity. Raises NotFound,
        InvalidParameterValue.
        """
        return self._loop.run(
            self._inner.put_steps(
                group,
                name,
                steps,
                adjustment_type=adjustment_type,
                min_magnitude=min_magnitude,
                aggregation=aggregation,
                enabled=enabled,
                warmup_s=warmup_s,
            )
        )

    def put_simple(
        self,
        group: str,
        name: str,
        adjustment: int,
        *,
        adjustment_type: str = "ChangeInCapacity",
        min_magnitude: int = 0,
        cooldown_s: int | None = None,
        enabled: bool = True,
    ) -> group_models.ScalingPolicy:
        """One adjustment, then a cooldown (the group's). Raises NotFound, InvalidParameterValue."""
        return self._loop.run(
            self._inner.put_simple(
                group,
                name,
                adjustment,
                adjustment_type=adjustment_type,
                min_magnitude=min_magnitude,
                cooldown_s=cooldown_s,
                enabled=enabled,
            )
        )

    def put_predictive(
        self,
        group: str,
        name: str,
        target: float,
        *,
        pair: str = "",
        label: str = "",
        customized: Mapping[str, Any] | None = None,
        mode: str = "ForecastOnly",
        buffer_s: int | None = None,
        breach: str = "HonorMaxCapacity",
        max_buffer_percent: int | None = None,
        enabled: bool = True,
    ) -> group_models.ScalingPolicy:
        """Scale ahead of a load that was learnt from up to 14 days of history.

        pair: ASGCPUUtilization, ASGNetworkIn, ASGNetworkOut, ALBRequestCount (label: of the target group). mode:
        ForecastOnly, ForecastAndScale. buffer_s: how far ahead (300). breach: HonorMaxCapacity, or IncreaseMaxCapacity
        with max_buffer_percent. Raises NotFound, InvalidParameterValue.
        """
        return self._loop.run(
            self._inner.put_predictive(
                group,
                name,
                target,
                pair=pair,
                label=label,
                customized=customized,
                mode=mode,
                buffer_s=buffer_s,
                breach=breach,
                max_buffer_percent=max_buffer_percent,
                enabled=enabled,
            )
        )

    def get(self, group: str, name: str) -> group_models.ScalingPolicy:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(group, name))

    def list(self, group: str = "", *, page_size: int = 100) -> Iterator[group_models.ScalingPolicy]:
        """Of one group, or of all. Raises NotFound."""
        return self._loop.iterate(self._inner.list(group, page_size=page_size))

    def delete(self, group: str, name: str) -> None:
        """Raises NotFound."""
        self._loop.run(self._inner.delete(group, name))

    def execute(
        self,
        group: str,
        name: str,
        *,
        value: float | None = None,
        threshold: float | None = None,
        honor_cooldown: bool = False,
    ) -> group_models.ScalingGroup:
        """A step policy (value and threshold are needed) or a simple one, by hand. Raises NotFound,
        InvalidParameterValue, Conflict (in the cooldown)."""
        return self._loop.run(
            self._inner.execute(group, name, value=value, threshold=threshold, honor_cooldown=honor_cooldown)
        )

    def forecast(
        self, group: str, name: str, *, start: datetime | float | None = None, end: datetime | float | None = None
    ) -> group_models.LoadForecast:
        """The next 48 hours; empty with less than a day of history. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.forecast(group, name, start=start, end=end))

    def put_schedule(
        self,
        group: str,
        name: str,
        *,
        recurrence: str = "",
        time_zone: str = "",
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        desired: int | None = None,
    ) -> group_models.ScheduledAction:
        """Change sizes at `start`, or by cron ("0 9 * * MON-FRI", in time_zone or UTC) between start and end.

        Raises NotFound, InvalidParameterValue, LimitExceeded.
        """
        return self._loop.run(
            self._inner.put_schedule(
                group,
                name,
                recurrence=recurrence,
                time_zone=time_zone,
                start=start,
                end=end,
                min_size=min_size,
                max_size=max_size,
                desired=desired,
            )
        )

    def schedules(self, group: str = "", *, page_size: int = 100) -> Iterator[group_models.ScheduledAction]:
        """Scheduled actions of one group, or of all. Raises NotFound."""
        return self._loop.iterate(self._inner.schedules(group, page_size=page_size))

    def delete_schedule(self, group: str, name: str) -> None:
        """Raises NotFound."""
        self._loop.run(self._inner.delete_schedule(group, name))
