"""Policies, forecasts, scheduled actions; instance refreshes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minicloud.aws.call import Call, harmless, only, refused
from minicloud.base.errors import CloudError
from minicloud.scaling import commands, queries
from minicloud.scaling.aws import shown
from minicloud.scaling.aws.base import GROUP, Noun, Params, Result
from minicloud.scaling.aws.settings import to_source
from minicloud.scaling.errors import invalid
from minicloud.scaling.model import Policy
from minicloud.scaling.predictive import Predictive
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import State

_SIZES = {"MinSize": "min_size", "MaxSize": "max_size", "DesiredCapacity": "desired"}
_REFRESH = {
    "MinHealthyPercentage": "min_healthy",
    "MaxHealthyPercentage": "max_healthy",
    "InstanceWarmup": "warmup_s",
    "CheckpointDelay": "checkpoint_delay_s",
    "SkipMatching": "skip_matching",
    "AutoRollback": "auto_rollback",
    "ScaleInProtectedInstances": "protected",
    "StandbyInstances": "standby",
    "BakeTime": "bake_s",
}
_SCHEDULE = ("ScheduledActionName", "StartTime", "EndTime", "Recurrence", "TimeZone", *_SIZES)


class PolicyDoor(Noun):
    async def PutScalingPolicy(self, params: Params, call: Call) -> Result:
        """Target tracking is evaluated without alarms of its own: Alarms is empty. Predictive: a predefined pair or
        customized metrics.
        """
        kind = params.get("PolicyType", "SimpleScaling")
        if kind not in _CONFIGS:
            raise invalid(f"PolicyType must be one of {', '.join(_CONFIGS)}", "PolicyType")
        parts, config = _CONFIGS[kind]
        others = {name: 0 for name in _NUMBERS if name not in parts}  # Terraform says zero of what a policy has not
        harmless(params, call, others)
        only(params, call, GROUP, "PolicyName", "PolicyType", "Enabled", *parts, *others)
        command = commands.PutPolicy(
            call.caller.scope,
            params[GROUP],
            params["PolicyName"],
            kind,
            config(params, call),
            params.get("Enabled", True),
            params.get("EstimatedInstanceWarmup"),
        )
        return {"PolicyARN": (await self._service.ask(command)).arn, "Alarms": []}

    async def DescribePolicies(self, params: Params, call: Call) -> Result:
        """Alarms is empty, also of step and simple policies: an alarm names its policy, not the other way round."""
        only(params, call, GROUP, "PolicyNames", "PolicyTypes", "NextToken", "MaxRecords")
        names, kinds = params.get("PolicyNames", ()), params.get("PolicyTypes", ())

        def look(state: State) -> Result:
            found = {
                key: one
                for key, one in queries.policies(state, call.caller.scope, params.get(GROUP, "")).items()
                if (not names or one.name in names or one.arn in names) and (not kinds or one.type in kinds)
            }
            kept, token = self._page(params, call, found)
            return {"ScalingPolicies": [shown.policy(one) for one in kept], **token}

        return await self._service.shown(look)

    async def DeletePolicy(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "PolicyName")
        group, one = await self._named(params, call)
        await self._service.ask(commands.DeletePolicy(call.caller.scope, group, one.name))
        return {}

    async def ExecutePolicy(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "PolicyName", "HonorCooldown", "MetricValue", "BreachThreshold")
        group, one = await self._named(params, call)
        command = commands.ExecutePolicy(
            call.caller.scope,
            group,
            one.name,
            (params["MetricValue"],) if "MetricValue" in params else (),
            params.get("BreachThreshold"),
            params.get("HonorCooldown", False),
        )
        await self._service.ask(command)
        return {}

    async def GetPredictiveScalingForecast(self, params: Params, call: Call) -> Result:
        """Made every hour, in steps of a quarter of an hour; AWS: every six hours, in steps of an hour."""
        only(params, call, GROUP, "PolicyName", "StartTime", "EndTime")
        start, end = params["StartTime"], params["EndTime"]
        if end <= start:
            raise invalid("EndTime must be after StartTime", "EndTime")

        def look(state: State) -> Result:
            one = queries.policy(state, call.caller.scope, params[GROUP], params["PolicyName"])
            rule, made = rule_of(one), queries.forecast(one)
            if not isinstance(rule, Predictive):
                raise invalid(f"The policy {one.name} is not a predictive scaling policy.", "PolicyName")
            rows: list[tuple[float, float, int]] = []
            if made is not None:
                times = [made.start + index * made.step_s for index in range(len(made.load))]
                both = zip(times, made.load, rule.capacities(made), strict=True)
                rows = [row for row in both if start <= row[0] < end]
            stamps = [at for at, _, _ in rows]
            load = {
                "Timestamps": stamps,
                "Values": [value for _, value, _ in rows],
                "MetricSpecification": shown.specification(one.config),
            }
            capacity = {"Timestamps": stamps, "Values": [float(count) for _, _, count in rows]}
            return {"LoadForecast": [load], "CapacityForecast": capacity, "UpdateTime": made.start if made else 0.0}

        return await self._service.shown(look)

    async def _named(self, params: Params, call: Call) -> tuple[str, Policy]:
        """The group and the policy that a request names, by name or by ARN."""
        reference, group = params["PolicyName"], params.get(GROUP, "")
        if not group and not reference.startswith("arn:"):
            raise invalid("AutoScalingGroupName is needed where the policy is not named by its ARN", GROUP)
        scope = call.caller.scope
        found = await self._service.shown(lambda state: queries.policy(state, scope, group, reference))
        return found.group.split("/", 2)[2], found

    # --- scheduled actions

    async def PutScheduledUpdateGroupAction(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "Time", *_SCHEDULE)
        await self._service.ask(_schedule(params[GROUP], params, call))
        return {}

    async def BatchPutScheduledUpdateGroupAction(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "ScheduledUpdateGroupActions")
        failed = []
        for one in params["ScheduledUpdateGroupActions"]:
            only(one, call, *_SCHEDULE)
            failed += await self._tried(_schedule(params[GROUP], one, call), one["ScheduledActionName"])
        return {"FailedScheduledUpdateGroupActions": failed}

    async def DeleteScheduledAction(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "ScheduledActionName")
        await self._service.ask(
            commands.DeleteScheduled(call.caller.scope, params[GROUP], params["ScheduledActionName"])
        )
        return {}

    async def BatchDeleteScheduledAction(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "ScheduledActionNames")
        failed = []
        for name in params["ScheduledActionNames"]:
            failed += await self._tried(commands.DeleteScheduled(call.caller.scope, params[GROUP], name), name)
        return {"FailedScheduledActions": failed}

    async def _tried(self, command: commands.OfGroup, name: str) -> list[Result]:
        """Empty where it went well. A group that is not there fails the request as a whole."""
        await self._service.shown(lambda state: state.group(command.scope, command.name))
        try:
            await self._service.ask(command)
        except CloudError as error:
            return [{"ScheduledActionName": name, "ErrorCode": error.code, "ErrorMessage": error.message}]
        return []

    async def DescribeScheduledActions(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "ScheduledActionNames", "StartTime", "EndTime", "NextToken", "MaxRecords")
        names = params.get("ScheduledActionNames", ())
        start, end = params.get("StartTime", 0.0), params.get("EndTime", float("inf"))

        def look(state: State) -> Result:
            found = {
                key: one
                for key, one in queries.scheduled(state, call.caller.scope, params.get(GROUP, "")).items()
                if (one.name in names if names else start <= one.next <= end)
            }
            kept, token = self._page(params, call, found)
            actions = [shown.scheduled(state.groups[one.group], one) for one in kept]
            return {"ScheduledUpdateGroupActions": actions, **token}

        return await self._service.shown(look)

    # --- instance refreshes

    async def StartInstanceRefresh(self, params: Params, call: Call) -> Result:
        """Rolling; with AlarmSpecification, checkpoints, bake time, rollback. No replacement of root volumes."""
        only(params, call, GROUP, "Strategy", "DesiredConfiguration", "Preferences")
        harmless(params, call, {"Strategy": "Rolling"})
        wanted, preferences = params.get("DesiredConfiguration", {}), params.get("Preferences", {})
        only(preferences, call, "CheckpointPercentages", "AlarmSpecification", *_REFRESH)
        given = {ours: preferences[name] for name, ours in _REFRESH.items() if name in preferences}
        source = to_source(wanted, call)
        command = commands.StartRefresh(
            call.caller.scope,
            params[GROUP],
            checkpoints=tuple(preferences.get("CheckpointPercentages", ())),
            alarms=tuple(preferences.get("AlarmSpecification", {}).get("Alarms", ())),
            **source,
            **given,
        )
        return {"InstanceRefreshId": await self._service.ask(command)}

    async def CancelInstanceRefresh(self, params: Params, call: Call) -> Result:
        """What is being replaced is finished by the group; the refresh itself has ended at once, either way."""
        only(params, call, GROUP, "WaitForTransitioningInstances")
        return {"InstanceRefreshId": await self._service.ask(commands.CancelRefresh(call.caller.scope, params[GROUP]))}

    async def RollbackInstanceRefresh(self, params: Params, call: Call) -> Result:
        """The group must have had a numbered version, not $Latest or $Default."""
        only(params, call, GROUP)
        return {
            "InstanceRefreshId": await self._service.ask(commands.RollbackRefresh(call.caller.scope, params[GROUP]))
        }

    async def DescribeInstanceRefreshes(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceRefreshIds", "NextToken", "MaxRecords")

        def look(state: State) -> Result:
            ids = params.get("InstanceRefreshIds", ())
            found = queries.refreshes(state, call.caller.scope, params[GROUP], ids)
            kept, token = self._page(params, call, found)
            return {"InstanceRefreshes": [shown.refresh(one) for one in kept], **token}

        return await self._service.shown(look)


def _schedule(group: str, params: Mapping[str, Any], call: Call) -> commands.PutScheduled:
    return commands.PutScheduled(
        call.caller.scope,
        group,
        params["ScheduledActionName"],
        params.get("Recurrence", ""),
        params.get("TimeZone", ""),
        params.get("StartTime", params.get("Time")),
        params.get("EndTime"),
        **{ours: params[name] for name, ours in _SIZES.items() if name in params},
    )


# ---------------------------------------------------------------- what a policy says


def _adjustment(params: Params) -> dict[str, Any]:
    least = params.get("MinAdjustmentMagnitude", params.get("MinAdjustmentStep", 0))
    return {"kind": params.get("AdjustmentType", ""), "min_magnitude": least}


def _simple(params: Params, _call: Call) -> dict[str, Any]:
    if "ScalingAdjustment" not in params:
        raise invalid("ScalingAdjustment is needed for a simple scaling policy", "ScalingAdjustment")
    return {
        "adjustment": _adjustment(params),
        "amount": params["ScalingAdjustment"],
        "cooldown_s": params.get("Cooldown"),
    }


def _steps(params: Params, _call: Call) -> dict[str, Any]:
    steps = [
        {
            "adjustment": one["ScalingAdjustment"],
            "lower": one.get("MetricIntervalLowerBound"),
            "upper": one.get("MetricIntervalUpperBound"),
        }
        for one in params.get("StepAdjustments", ())
    ]
    aggregation = params.get("MetricAggregationType", "Average")
    return {"adjustment": _adjustment(params), "steps": steps, "aggregation": aggregation}


def _tracking(params: Params, _call: Call) -> dict[str, Any]:
    given = params.get("TargetTrackingConfiguration")
    if given is None:
        raise invalid(
            "TargetTrackingConfiguration is needed for a target tracking policy", "TargetTrackingConfiguration"
        )
    named = given.get("PredefinedMetricSpecification", {})
    return {
        "target": given["TargetValue"],
        "metric": named.get("PredefinedMetricType", ""),
        "label": named.get("ResourceLabel", ""),
        "customized": given.get("CustomizedMetricSpecification"),
        "disable_scale_in": given.get("DisableScaleIn", False),
    }


def _predictive(params: Params, call: Call) -> dict[str, Any]:
    given = params.get("PredictiveScalingConfiguration")
    if given is None or len(given["MetricSpecifications"]) != 1:
        raise invalid(
            "PredictiveScalingConfiguration with exactly one MetricSpecifications is needed for a predictive policy",
            "PredictiveScalingConfiguration",
        )
    (one,) = given["MetricSpecifications"]
    for name in ("PredefinedScalingMetricSpecification", "PredefinedLoadMetricSpecification"):
        if name in one:
            raise refused(f"MetricSpecifications.{name}", call, "PredefinedMetricPairSpecification is.")
    pair = one.get("PredefinedMetricPairSpecification", {})
    customized = {name: value for name, value in one.items() if name.startswith("Customized")}
    config: dict[str, Any] = {
        "target": one["TargetValue"],
        "pair": pair.get("PredefinedMetricType", ""),
        "label": pair.get("ResourceLabel", ""),
        "customized": customized or None,
        "max_buffer_percent": given.get("MaxCapacityBuffer"),
    }
    names = {"Mode": "mode", "SchedulingBufferTime": "buffer_s", "MaxCapacityBreachBehavior": "breach"}
    return config | {ours: given[name] for name, ours in names.items() if name in given}


_MAGNITUDE = ("AdjustmentType", "MinAdjustmentMagnitude", "MinAdjustmentStep")
_NUMBERS = ("Cooldown", "ScalingAdjustment", "MinAdjustmentMagnitude", "MinAdjustmentStep")
_CONFIGS: dict[str, tuple[tuple[str, ...], Any]] = {
    "SimpleScaling": ((*_MAGNITUDE, "ScalingAdjustment", "Cooldown"), _simple),
    "StepScaling": ((*_MAGNITUDE, "StepAdjustments", "MetricAggregationType", "EstimatedInstanceWarmup"), _steps),
    "TargetTrackingScaling": (("TargetTrackingConfiguration", "EstimatedInstanceWarmup"), _tracking),
    "PredictiveScaling": (("PredictiveScalingConfiguration",), _predictive),
}
