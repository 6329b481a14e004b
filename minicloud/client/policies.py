"""Scaling policies and scheduled actions of auto scaling groups (`groups.py`)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy
from minicloud.client.metrics import to_seconds

if TYPE_CHECKING:
    from minicloud.client import group_models
    from minicloud.wire import scaling_pb2
else:
    group_models = lazy("minicloud.client.group_models")
    scaling_pb2 = lazy("minicloud.wire.scaling_pb2")


class AsyncPolicies:
    """How groups follow their load. Where policies differ, a group takes the larger capacity."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put_target_tracking(
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
        config = scaling_pb2.TargetTrackingConfig(
            target=target,
            metric=metric,
            label=label,
            customized=_json(customized),
            disable_scale_in=disable_scale_in,
        )
        return await self._put(group, name, enabled, warmup_s, target_tracking=config)

    async def put_steps(
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
        config = scaling_pb2.StepConfig(
            adjustment_type=adjustment_type,
            min_magnitude=min_magnitude,
            aggregation=aggregation,
            steps=[
                scaling_pb2.ScalingStep(adjustment=one.adjustment, lower=one.lower, upper=one.upper) for one in steps
            ],
        )
        return await self._put(group, name, enabled, warmup_s, steps=config)

    async def put_simple(
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
        check_range(adjustment=adjustment, min_magnitude=min_magnitude, cooldown_s=cooldown_s)
        config = scaling_pb2.SimpleConfig(
            adjustment_type=adjustment_type,
            min_magnitude=min_magnitude,
            adjustment=adjustment,
            cooldown_s=cooldown_s,
        )
        return await self._put(group, name, enabled, None, simple=config)

    async def put_predictive(
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
        check_range(buffer_s=buffer_s, max_buffer_percent=max_buffer_percent)
        config = scaling_pb2.PredictiveConfig(
            target=target,
            pair=pair,
            label=label,
            customized=_json(customized),
            mode=mode,
            buffer_s=buffer_s,
            breach=breach,
            max_buffer_percent=max_buffer_percent,
        )
        return await self._put(group, name, enabled, None, predictive=config)

    async def get(self, group: str, name: str) -> group_models.ScalingPolicy:
        """Raises NotFound."""
        request = scaling_pb2.ScalingPolicyRequest(group=group, policy=name)
        reply = await self._broker.call("PolicyService/GetPolicy", request, scaling_pb2.ScalingPolicy)
        return to_model(group_models.ScalingPolicy, reply)

    async def list(self, group: str = "", *, page_size: int = 100) -> AsyncIterator[group_models.ScalingPolicy]:
        """Of one group, or of all. Raises NotFound."""
        request = scaling_pb2.ListPoliciesRequest(group=group, page_size=page_size)
        while True:
            reply = await self._broker.call("PolicyService/ListPolicies", request, scaling_pb2.ListPoliciesReply)
            for item in reply.policies:
                yield to_model(group_models.ScalingPolicy, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, group: str, name: str) -> None:
        """Raises NotFound."""
        request = scaling_pb2.ScalingPolicyRequest(group=group, policy=name)
        await self._broker.call("PolicyService/DeletePolicy", request, scaling_pb2.DeletePolicyReply)

    async def execute(
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
        request = scaling_pb2.ExecutePolicyRequest(
            group=group, policy=name, value=value, threshold=threshold, honor_cooldown=honor_cooldown
        )
        reply = await self._broker.call("PolicyService/ExecutePolicy", request, scaling_pb2.ScalingGroup)
        return to_model(group_models.ScalingGroup, reply)

    async def forecast(
        self, group: str, name: str, *, start: datetime | float | None = None, end: datetime | float | None = None
    ) -> group_models.LoadForecast:
        """The next 48 hours; empty with less than a day of history. Raises NotFound, InvalidParameterValue."""
        request = scaling_pb2.GetForecastRequest(
            group=group, policy=name, start=to_seconds(start) or 0.0, end=to_seconds(end) or 0.0
        )
        reply = await self._broker.call("PolicyService/GetForecast", request, scaling_pb2.LoadForecast)
        return to_model(group_models.LoadForecast, reply)

    # --- scheduled actions

    async def put_schedule(
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
        check_range(min_size=min_size, max_size=max_size, desired=desired)
        request = scaling_pb2.PutScheduledActionRequest(
            group=group,
            action=name,
            recurrence=recurrence,
            time_zone=time_zone,
            start=to_seconds(start) or 0.0,
            end=to_seconds(end) or 0.0,
            min_size=min_size,
            max_size=max_size,
            desired=desired,
        )
        reply = await self._broker.call("PolicyService/PutScheduledAction", request, scaling_pb2.ScheduledAction)
        return to_model(group_models.ScheduledAction, reply)

    async def schedules(self, group: str = "", *, page_size: int = 100) -> AsyncIterator[group_models.ScheduledAction]:
        """Scheduled actions of one group, or of all. Raises NotFound."""
        request = scaling_pb2.ListScheduledActionsRequest(group=group, page_size=page_size)
        while True:
            method = "PolicyService/ListScheduledActions"
            reply = await self._broker.call(method, request, scaling_pb2.ListScheduledActionsReply)
            for item in reply.actions:
                yield to_model(group_models.ScheduledAction, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete_schedule(self, group: str, name: str) -> None:
        """Raises NotFound."""
        request = scaling_pb2.DeleteScheduledActionRequest(group=group, action=name)
        method = "PolicyService/DeleteScheduledAction"
        await self._broker.call(method, request, scaling_pb2.DeleteScheduledActionReply)

    async def _put(
        self, group: str, name: str, enabled: bool, warmup_s: int | None, **config: Any
    ) -> group_models.ScalingPolicy:
        check_range(warmup_s=warmup_s)
        request = scaling_pb2.PutPolicyRequest(group=group, policy=name, enabled=enabled, warmup_s=warmup_s, **config)
        reply = await self._broker.call("PolicyService/PutPolicy", request, scaling_pb2.ScalingPolicy)
        return to_model(group_models.ScalingPolicy, reply)


def _json(customized: Mapping[str, Any] | None) -> str:
    return "" if customized is None else json.dumps(customized)
