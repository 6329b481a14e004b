"""Groups and policies between the wire and the machine. Nothing is checked here: the machine says what is wrong."""

from __future__ import annotations

import json
from typing import Any

from minicloud.scaling import queries
from minicloud.scaling.commands import GroupSettings
from minicloud.scaling.errors import invalid
from minicloud.scaling.model import Activity, Group, Member, Policy, Refresh, Scheduled, owner
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import Roster
from minicloud.scaling.tracking import TargetTracking
from minicloud.wire import instance_pb2
from minicloud.wire import scaling_pb2 as wire

_PLAIN = (
    "name", "arn", "min_size", "max_size", "desired", "zones", "types", "cooldown_s", "warmup_s", "health_types",
    "grace_s", "termination_policies", "protect_new", "max_lifetime_s", "target_groups", "tags", "local_tags",
    "suspended", "metrics",
)  # fmt: skip
_NUMBERS = ("min_size", "max_size", "desired", "cooldown_s", "warmup_s", "grace_s", "protect_new", "max_lifetime_s")
_LISTS = ("zones", "types", "health_types", "termination_policies", "target_groups")
_KINDS = {
    "TargetTrackingScaling": "target_tracking",
    "StepScaling": "steps",
    "SimpleScaling": "simple",
    "PredictiveScaling": "predictive",
}


def group(one: Group, its: Roster) -> wire.ScalingGroup:
    return wire.ScalingGroup(
        **{name: getattr(one, name) for name in _PLAIN},
        status="Delete in progress" if one.deleting else "",
        created_time=one.created,
        template=_template(one.template),
        hooks=[hook(name, body) for name, body in one.hooks.items()],
        warm_pool=None if one.warm is None else wire.WarmPool(**one.warm),
        notifications=[
            wire.GroupNotification(topic=topic, events=events) for topic, events in sorted(one.notifications.items())
        ],
        counts=wire.MemberCounts(**queries.counts(its.members.values())),
    )


def _template(of: dict[str, str]) -> instance_pb2.LaunchTemplateRef:
    return instance_pb2.LaunchTemplateRef(id=of.get("id", ""), name=of.get("name", ""), version=of.get("version", ""))


def hook(name: str, body: dict[str, Any]) -> wire.LifecycleHook:
    return wire.LifecycleHook(
        name=name,
        transition=body["transition"],
        timeout_s=body["timeout_s"],
        default_result=body["default"],
        target=body["target"],
        metadata=body["metadata"],
    )


def member(of: Group, one: Member) -> wire.GroupMember:
    health, reason = queries.health(of, one)
    waits = [
        wire.LifecycleWait(hook=name, token=wait["token"], deadline_time=wait["deadline"])
        for name, wait in (one.waits or {}).items()
    ]
    return wire.GroupMember(
        group=of.name,
        number=one.number,
        instance_id=one.instance_id,
        zone=one.zone,
        type=one.type,
        lifecycle_state=one.state,
        health=health,
        health_reason=reason,
        protected=one.protected,
        template_id=one.template,
        template_version=one.version,
        created_time=one.created,
        in_service_time=one.in_service or 0.0,
        waits=waits,
    )


def activity(one: Activity) -> wire.ScalingActivity:
    return wire.ScalingActivity(
        id=one.id,
        group=owner(one.group)[1],
        description=one.description,
        cause=one.cause,
        status=one.status,
        message=one.message,
        progress=one.progress,
        instance_id=one.instance_id,
        started_time=one.start,
        ended_time=one.end or 0.0,
    )


def refresh(one: Refresh) -> wire.InstanceRefresh:
    return wire.InstanceRefresh(
        id=one.id,
        group=owner(one.group)[1],
        status=one.status,
        reason=one.reason,
        started_time=one.started,
        ended_time=one.ended or 0.0,
        percent=one.percent,
        left=one.left + one.pool_left,
        template=_template(one.config.get("template", {})),
        types=one.config.get("types", []),
        min_healthy=one.min_healthy,
        max_healthy=one.max_healthy,
        skip_matching=one.skip_matching,
        auto_rollback=one.auto_rollback,
        checkpoints=one.checkpoints,
        alarms=one.alarms,
    )


def policy(one: Policy) -> wire.ScalingPolicy:
    shown = wire.ScalingPolicy(
        name=one.name,
        arn=one.arn,
        group=owner(one.group)[1],
        type=one.type,
        enabled=one.enabled,
        warmup_s=one.warmup_s,
    )
    getattr(shown, _KINDS[one.type]).CopyFrom(_CONFIGS[one.type](one.config))
    return shown


def _tracking(config: dict[str, Any]) -> wire.TargetTrackingConfig:
    return wire.TargetTrackingConfig(**_with_text(config))


def _steps(config: dict[str, Any]) -> wire.StepConfig:
    adjustment = config["adjustment"]
    return wire.StepConfig(
        adjustment_type=adjustment["kind"],
        min_magnitude=adjustment.get("min_magnitude", 0),
        aggregation=config.get("aggregation", "Average"),
        steps=[wire.ScalingStep(**step) for step in config["steps"]],
    )


def _simple(config: dict[str, Any]) -> wire.SimpleConfig:
    adjustment = config["adjustment"]
    return wire.SimpleConfig(
        adjustment_type=adjustment["kind"],
        min_magnitude=adjustment.get("min_magnitude", 0),
        adjustment=config["amount"],
        cooldown_s=config.get("cooldown_s"),
    )


def _predictive(config: dict[str, Any]) -> wire.PredictiveConfig:
    return wire.PredictiveConfig(**_with_text(config))


_CONFIGS = {
    "TargetTrackingScaling": _tracking,
    "StepScaling": _steps,
    "SimpleScaling": _simple,
    "PredictiveScaling": _predictive,
}


def _with_text(config: dict[str, Any]) -> dict[str, Any]:
    customized = config.get("customized")
    return {**config, "customized": "" if customized is None else json.dumps(customized, sort_keys=True)}


def load(one: Policy, value: float | None, at: float) -> wire.PolicyLoad | None:
    """What a target tracking policy saw; None for other policies."""
    rule = rule_of(one)
    if not isinstance(rule, TargetTracking):
        return None
    metric = rule.metric or str((rule.customized or {}).get("MetricName", "customized"))
    return wire.PolicyLoad(policy=one.name, metric=metric, target=rule.target, value=value, read_time=at)


def scheduled(of: Group, one: Scheduled) -> wire.ScheduledAction:
    return wire.ScheduledAction(
        name=one.name,
        group=of.name,
        arn=queries.scheduled_arn(of, one),
        recurrence=one.recurrence,
        time_zone=one.time_zone,
        start_time=one.start or 0.0,
        end_time=one.end or 0.0,
        min_size=one.min_size,
        max_size=one.max_size,
        desired=one.desired,
        next_time=one.next,
    )


# ---------------------------------------------------------------- requests


def to_template(request: Any) -> dict[str, str] | None:
    """Of a message with a field `template`: {id or name, version}; None where it was not given."""
    if not request.HasField("template"):
        return None
    ref = request.template
    found = {"id": ref.id or ref.name}
    return {**found, "version": ref.version} if ref.version else found


def to_settings(
    spec: wire.GroupSpec, tags: dict[str, str] | None = None, local: list[str] | None = None
) -> GroupSettings:
    numbers: dict[str, Any] = {name: getattr(spec, name) for name in _NUMBERS if spec.HasField(name)}  # type: ignore[arg-type]
    lists: dict[str, Any] = {name: list(getattr(spec, name).values) for name in _LISTS if spec.HasField(name)}  # type: ignore[arg-type]
    return GroupSettings(**numbers, **lists, template=to_template(spec), tags=tags, local_tags=local)


def to_config(request: wire.PutPolicyRequest) -> tuple[str, dict[str, Any]]:
    """Type and config of a policy. Raises InvalidParameterValue."""
    which = request.WhichOneof("config")
    if which is None:
        raise invalid("A policy needs its configuration", "policy")
    given = getattr(request, which)
    if which == "target_tracking":
        return "TargetTrackingScaling", {
            "target": given.target, "metric": given.metric, "label": given.label,
            "customized": _parsed(given.customized), "disable_scale_in": given.disable_scale_in,
        }  # fmt: skip
    if which == "predictive":
        return "PredictiveScaling", _to_predictive(given)
    adjustment = {"kind": given.adjustment_type, "min_magnitude": given.min_magnitude}
    if which == "simple":
        cooldown = given.cooldown_s if given.HasField("cooldown_s") else None
        return "SimpleScaling", {"adjustment": adjustment, "amount": given.adjustment, "cooldown_s": cooldown}
    steps = [
        {"adjustment": one.adjustment, "lower": _maybe(one, "lower"), "upper": _maybe(one, "upper")}
        for one in given.steps
    ]
    return "StepScaling", {
        "adjustment": adjustment, "steps": steps, "aggregation": given.aggregation or "Average",
    }  # fmt: skip


def _to_predictive(given: wire.PredictiveConfig) -> dict[str, Any]:
    config: dict[str, Any] = {
        "target": given.target, "pair": given.pair, "label": given.label, "customized": _parsed(given.customized),
        "max_buffer_percent": _maybe(given, "max_buffer_percent"),
    }  # fmt: skip
    config |= {"mode": given.mode} if given.mode else {}
    config |= {"breach": given.breach} if given.breach else {}
    return config | ({"buffer_s": given.buffer_s} if given.HasField("buffer_s") else {})


def _maybe(message: Any, name: str) -> Any:
    return getattr(message, name) if message.HasField(name) else None


def _parsed(text: str) -> dict[str, Any] | None:
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise invalid(f"the customized metric is not JSON: {error}", "customized") from None
    if not isinstance(found, dict):
        raise invalid("the customized metric must be an object", "customized")
    return found
