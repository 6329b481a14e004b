"""Groups, instances, activities, refreshes, policies and schedules as Auto Scaling shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from minicloud.scaling import limits, queries
from minicloud.scaling.aws.base import GROUP, Result, Zone
from minicloud.scaling.aws.settings import service_role
from minicloud.scaling.lifecycle import WARM
from minicloud.scaling.model import Activity, Group, Member, Policy, Refresh, Scheduled, done_percent, owner
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import Roster
from minicloud.scaling.steps import SimpleScaling, StepScaling
from minicloud.scaling.tracking import TargetTracking

GRANULARITY = "1Minute"


def template(of: Mapping[str, str]) -> Result:
    found = {"LaunchTemplateId": of.get("id", "")}
    found |= {"LaunchTemplateName": of["name"]} if of.get("name") else {}
    return found | ({"Version": of["version"]} if of.get("version") else {})


def _source(of: Mapping[str, str], types: Iterable[str]) -> Result:
    """LaunchTemplate, or MixedInstancesPolicy where there are overrides."""
    if not types:
        return {"LaunchTemplate": template(of)}
    return {
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": template(of),
                "Overrides": [{"InstanceType": one} for one in types],
            },
            "InstancesDistribution": {
                "OnDemandAllocationStrategy": "prioritized",
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 100,
                "SpotAllocationStrategy": "lowest-price",
            },
        }
    }


def group(one: Group, its: Roster, zones: Mapping[str, Zone], instances: bool) -> Result:
    names = {zone.host_zone: name for name, zone in zones.items()}
    subnets = [zone.subnet for zone in zones.values() if zone.host_zone in one.zones]
    members = [each for _, each in sorted(its.members.items()) if each.instance_id]
    found: Result = {
        GROUP: one.name,
        "AutoScalingGroupARN": one.arn,
        "MinSize": one.min_size,
        "MaxSize": one.max_size,
        "DesiredCapacity": one.desired,
        "DefaultCooldown": one.cooldown_s,
        "AvailabilityZones": [names.get(zone, zone) for zone in one.zones],
        "VPCZoneIdentifier": ",".join(subnets),
        "LoadBalancerNames": [],
        "TargetGroupARNs": one.target_groups,
        "TrafficSources": [{"Identifier": arn, "Type": "elbv2"} for arn in one.target_groups],
        "HealthCheckType": ",".join(one.health_types),
        "HealthCheckGracePeriod": one.grace_s,
        "CreatedTime": one.created,
        "SuspendedProcesses": [{"ProcessName": name, "SuspensionReason": why} for name, why in one.suspended.items()],
        "EnabledMetrics": [{"Metric": name, "Granularity": GRANULARITY} for name in one.metrics],
        "Tags": [tag(one, key) for key in one.tags],
        "TerminationPolicies": one.termination_policies,
        "NewInstancesProtectedFromScaleIn": one.protect_new,
        "CapacityRebalance": False,
        "ServiceLinkedRoleARN": service_role(one.scope),
        "Instances": [member(one, names, each) for each in members if instances and each.state not in WARM],
        **_source(one.template, one.types),
    }
    found |= {"Status": "Delete in progress"} if one.deleting else {}
    found |= {"MaxInstanceLifetime": one.max_lifetime_s} if one.max_lifetime_s else {}
    found |= {"DefaultInstanceWarmup": one.warmup_s} if one.warmup_s is not None else {}
    if one.warm is not None:
        found["WarmPoolConfiguration"] = warm_pool(one.warm)
        found["WarmPoolSize"] = sum(each.state in WARM for each in members)
    return found


def warm_pool(body: Mapping[str, Any]) -> Result:
    most = body.get("max_prepared")
    found: Result = {"MinSize": body["min_size"], "PoolState": body["state"]}
    found |= {"InstanceReusePolicy": {"ReuseOnScaleIn": True}} if body.get("reuse_on_scale_in") else {}
    return found | ({} if most is None else {"MaxGroupPreparedCapacity": most})


def tag(one: Group, key: str) -> Result:
    return {
        "ResourceId": one.name,
        "ResourceType": "auto-scaling-group",
        "Key": key,
        "Value": one.tags[key],
        "PropagateAtLaunch": key not in one.local_tags,
    }


def member(of: Group, names: Mapping[str, str], one: Member) -> Result:
    """Of a group's Instances; `names`: zones as the region shows them."""
    found: Result = {
        "InstanceId": one.instance_id,
        "AvailabilityZone": names.get(one.zone, one.zone),
        "LifecycleState": one.state,
        "HealthStatus": queries.health(of, one)[0],
        "LaunchTemplate": template({"id": one.template, "version": one.version}),
        "ProtectedFromScaleIn": one.protected,
    }
    return found | ({"InstanceType": one.type} if one.type else {})


def details(of: Group, names: Mapping[str, str], one: Member) -> Result:
    """Of DescribeAutoScalingInstances, whose words for health are in capitals."""
    found = member(of, names, one)
    return {**found, GROUP: of.name, "HealthStatus": found["HealthStatus"].upper()}


def activity(one: Activity, arn: str = "") -> Result:
    found: Result = {
        "ActivityId": _uuid(one.id),
        GROUP: owner(one.group)[1],
        "Description": one.description,
        "Cause": one.cause,
        "StartTime": one.start,
        "StatusCode": one.status,
        "Progress": one.progress,
        "Details": json.dumps({"InstanceId": one.instance_id} if one.instance_id else {}),
    }
    found |= {"EndTime": one.end} if one.end is not None else {}
    found |= {"StatusMessage": one.message} if one.message else {}
    return found | ({"AutoScalingGroupARN": arn} if arn else {})


def _uuid(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def refresh(one: Refresh) -> Result:
    preferences: Result = {
        "MinHealthyPercentage": one.min_healthy,
        "MaxHealthyPercentage": one.max_healthy,
        "SkipMatching": one.skip_matching,
        "AutoRollback": one.auto_rollback,
        "ScaleInProtectedInstances": one.protected,
        "StandbyInstances": one.standby,
        "BakeTime": one.bake_s,
    }
    preferences |= {"InstanceWarmup": one.warmup_s} if one.warmup_s is not None else {}
    preferences |= {"AlarmSpecification": {"Alarms": one.alarms}} if one.alarms else {}
    if one.checkpoints:
        preferences |= {"CheckpointPercentages": one.checkpoints, "CheckpointDelay": one.checkpoint_delay_s}
    found: Result = {
        "InstanceRefreshId": one.id,
        GROUP: owner(one.group)[1],
        "Status": one.status,
        "StartTime": one.started,
        "PercentageComplete": one.percent,
        "InstancesToUpdate": one.left + one.pool_left,
        "Preferences": preferences,
        "Strategy": "Rolling",
    }
    if one.pool_total:
        found["ProgressDetails"] = {
            "LivePoolProgress": {"PercentageComplete": one.live_percent, "InstancesToUpdate": one.left},
            "WarmPoolProgress": {
                "PercentageComplete": done_percent(one.pool_total, one.pool_left), "InstancesToUpdate": one.pool_left,
            },
        }  # fmt: skip
    found |= {"StatusReason": one.reason} if one.reason else {}
    found |= {"EndTime": one.ended} if one.ended is not None else {}
    if one.config and one.config != one.previous:
        found["DesiredConfiguration"] = _source(one.config["template"], one.config["types"])
    return found


def hook(of: Group, name: str) -> Result:
    body = of.hooks[name]
    found: Result = {
        "LifecycleHookName": name,
        GROUP: of.name,
        "LifecycleTransition": body["transition"],
        "HeartbeatTimeout": body["timeout_s"],
        "GlobalTimeout": min(limits.HOOK_TOTAL_S_MAX, limits.HOOK_HEARTBEATS_MAX * body["timeout_s"]),
        "DefaultResult": body["default"],
    }
    more = {"NotificationTargetARN": "target", "NotificationMetadata": "metadata", "RoleARN": "role"}
    return found | {key: body[part] for key, part in more.items() if body.get(part)}


# ---------------------------------------------------------------- policies


def policy(one: Policy) -> Result:
    found: Result = {
        GROUP: owner(one.group)[1],
        "PolicyName": one.name,
        "PolicyARN": one.arn,
        "PolicyType": one.type,
        "Enabled": one.enabled,
        "Alarms": [],
        "StepAdjustments": [],
    }
    found |= {"EstimatedInstanceWarmup": one.warmup_s} if one.warmup_s is not None else {}
    rule = rule_of(one)
    if isinstance(rule, TargetTracking):
        return found | {"TargetTrackingConfiguration": _tracking(rule)}
    if isinstance(rule, SimpleScaling):
        found |= {"Cooldown": rule.cooldown_s} if rule.cooldown_s is not None else {}
        return found | _adjustment(one.config) | {"ScalingAdjustment": rule.amount}
    if isinstance(rule, StepScaling):
        steps = [
            _given(MetricIntervalLowerBound=step.lower, MetricIntervalUpperBound=step.upper)
            | {"ScalingAdjustment": step.adjustment}
            for step in rule.steps
        ]
        return found | _adjustment(one.config) | {"MetricAggregationType": rule.aggregation, "StepAdjustments": steps}
    return found | {"PredictiveScalingConfiguration": predictive(one.config)}


def _given(**values: Any) -> Result:
    return {name: value for name, value in values.items() if value is not None}


def _adjustment(config: Mapping[str, Any]) -> Result:
    adjustment = config["adjustment"]
    found = {"AdjustmentType": adjustment["kind"]}
    least = adjustment.get("min_magnitude", 0)
    return found | ({"MinAdjustmentMagnitude": least} if least else {})


def _tracking(rule: TargetTracking) -> Result:
    found: Result = {"TargetValue": rule.target, "DisableScaleIn": rule.disable_scale_in}
    if rule.customized is not None:
        return found | {"CustomizedMetricSpecification": rule.customized}
    named = {"PredefinedMetricType": rule.metric} | ({"ResourceLabel": rule.label} if rule.label else {})
    return found | {"PredefinedMetricSpecification": named}


def predictive(config: Mapping[str, Any]) -> Result:
    found: Result = {
        "MetricSpecifications": [specification(config)],
        "Mode": config.get("mode", "ForecastOnly"),
        "SchedulingBufferTime": config.get("buffer_s", 300),
        "MaxCapacityBreachBehavior": config.get("breach", "HonorMaxCapacity"),
    }
    return found | _given(MaxCapacityBuffer=config.get("max_buffer_percent"))


def specification(config: Mapping[str, Any]) -> Result:
    found: Result = {"TargetValue": config["target"]}
    if config.get("customized") is not None:
        return {**found, **config["customized"]}
    label = {"ResourceLabel": config["label"]} if config.get("label") else {}
    return found | {"PredefinedMetricPairSpecification": {"PredefinedMetricType": config["pair"], **label}}


def scheduled(of: Group, one: Scheduled) -> Result:
    found: Result = {
        GROUP: of.name,
        "ScheduledActionName": one.name,
        "ScheduledActionARN": queries.scheduled_arn(of, one),
        "StartTime": one.next,
        "Time": one.next,
    }
    found |= {"Recurrence": one.recurrence} if one.recurrence else {}
    found |= {"TimeZone": one.time_zone} if one.time_zone else {}
    return found | _given(EndTime=one.end, MinSize=one.min_size, MaxSize=one.max_size, DesiredCapacity=one.desired)
