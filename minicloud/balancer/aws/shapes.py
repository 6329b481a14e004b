"""Actions, conditions, health checks, targets: between elbv2's shapes and ours. The machine says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minicloud.aws.call import Call, refused
from minicloud.balancer import actions, conditions, errors
from minicloud.balancer.aws.base import Params, Result
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.groups import TRAFFIC_PORT
from minicloud.balancer.model import Action, Condition, HealthCheck, Rule, Weighted

_CONFIGS = {
    conditions.HOST: "HostHeaderConfig",
    conditions.PATH: "PathPatternConfig",
    conditions.HEADER: "HttpHeaderConfig",
    conditions.METHOD: "HttpRequestMethodConfig",
    conditions.QUERY: "QueryStringConfig",
    conditions.SOURCE: "SourceIpConfig",
}
_IN_VALUES = (conditions.HOST, conditions.PATH)  # what Values of the condition itself may hold
_ACTION_CONFIGS = ("RedirectConfig", "FixedResponseConfig", "ForwardConfig")
_ACTION_PARTS = ("Type", "TargetGroupArn", "Order", *_ACTION_CONFIGS)
_HEALTH = {
    "HealthCheckProtocol": "protocol",
    "HealthCheckPort": "port",
    "HealthCheckPath": "path",
    "HealthCheckIntervalSeconds": "interval_s",
    "HealthCheckTimeoutSeconds": "timeout_s",
    "HealthyThresholdCount": "healthy",
    "UnhealthyThresholdCount": "unhealthy",
    "HealthCheckEnabled": "enabled",
}
HEALTH_PARTS = (*_HEALTH, "Matcher")

# ---------------------------------------------------------------- actions


def to_action(given: Sequence[Mapping[str, Any]], call: Call) -> Action:
    """One action, as there is no authentication here. Raises ValidationError for what we do not do."""
    if len(given) != 1:
        raise errors.invalid("A rule or a listener must have exactly one action", "Actions")
    (one,) = given
    for name in one:
        if name not in _ACTION_PARTS:
            raise refused(f"Actions.{name}", call)
    kind = one["Type"]
    if kind == actions.REDIRECT:
        return _redirect(one.get("RedirectConfig", {}))
    if kind == actions.FIXED:
        fixed = one.get("FixedResponseConfig", {})
        code = fixed.get("StatusCode", "")
        return Action(
            kind,
            status=int(code) if code.isdigit() and len(code) == 3 else 0,
            content_type=fixed.get("ContentType", ""),
            text=fixed.get("MessageBody", ""),
        )
    return _forward(kind, one)


def _redirect(given: Mapping[str, str]) -> Action:
    status = {"HTTP_301": 301, "HTTP_302": 302}.get(given.get("StatusCode", ""), 0)
    parts = ("Protocol", "Host", "Port", "Path", "Query")
    said: dict[str, Any] = {name.lower(): given[name] for name in parts if name in given}
    return Action(actions.REDIRECT, status=status, **said)


def _forward(kind: str, one: Mapping[str, Any]) -> Action:
    config = one.get("ForwardConfig", {})
    groups = [
        Weighted(each.get("TargetGroupArn", ""), each.get("Weight", 1)) for each in config.get("TargetGroups", ())
    ]
    single = one.get("TargetGroupArn", "")
    if single and groups and [each.group for each in groups] != [single]:
        raise errors.invalid("TargetGroupArn and ForwardConfig must name the same target group", "Actions")
    sticky = config.get("TargetGroupStickinessConfig", {})
    if sticky.get("Enabled") and not sticky.get("DurationSeconds"):
        raise errors.invalid("A duration must be specified for target group stickiness", "Actions")
    return Action(
        kind,
        groups=tuple(groups) or ((Weighted(single),) if single else ()),
        sticky_s=sticky.get("DurationSeconds", 0) if sticky.get("Enabled") else 0,
    )


def shown_action(one: Action) -> Result:
    if one.type == actions.REDIRECT:
        parts = {name.title(): getattr(one, name) for name in ("protocol", "host", "port", "path", "query")}
        return {"Type": one.type, "Order": 1, "RedirectConfig": {**parts, "StatusCode": f"HTTP_{one.status}"}}
    if one.type == actions.FIXED:
        fixed = {
            "StatusCode": str(one.status),
            "ContentType": one.content_type or None,
            "MessageBody": one.text or None,
        }
        return {"Type": one.type, "Order": 1, "FixedResponseConfig": fixed}
    sticky: Result = {"Enabled": bool(one.sticky_s)}
    if one.sticky_s:
        sticky["DurationSeconds"] = one.sticky_s
    groups = [{"TargetGroupArn": each.group, "Weight": each.weight} for each in one.groups]
    shown: Result = {
        "Type": one.type,
        "Order": 1,
        "ForwardConfig": {"TargetGroups": groups, "TargetGroupStickinessConfig": sticky},
    }
    if len(groups) == 1:
        shown["TargetGroupArn"] = groups[0]["TargetGroupArn"]
    return shown


# ---------------------------------------------------------------- conditions


def to_conditions(given: Sequence[Mapping[str, Any]], call: Call) -> tuple[Condition, ...]:
    return tuple(_condition(one, call) for one in given)


def _condition(one: Mapping[str, Any], call: Call) -> Condition:
    field = one.get("Field", "")
    if "RegexValues" in one or any("RegexValues" in one.get(name, {}) for name in _CONFIGS.values()):
        raise refused("Conditions.RegexValues", call, "Use wildcards.")
    wrong = [name for name in _CONFIGS.values() if name in one and name != _CONFIGS.get(field)]
    if wrong:
        raise errors.invalid(f"{wrong[0]} does not belong to a condition on '{field[:64]}'", "Conditions")
    config = one.get(_CONFIGS.get(field, ""), {})
    if "Values" in one and (config or field not in _IN_VALUES):
        raise errors.invalid(f"Values of a condition on '{field[:64]}' stand in its config", "Conditions")
    if config.get("IpAddressType", "source-ip") != "source-ip":
        raise refused("Conditions.SourceIpConfig.IpAddressType", call)
    values = config.get("Values", one.get("Values", ()))
    if field == conditions.QUERY:
        values = [f"{each.get('Key', '')}={each.get('Value', '')}" for each in values]
    return Condition(field, tuple(values), config.get("HttpHeaderName", ""))


def shown_condition(one: Condition) -> Result:
    if one.field == conditions.QUERY:
        pairs = []
        for value in one.values:
            key, _, wanted = value.partition("=")
            pairs.append({"Key": key, "Value": wanted} if key else {"Value": wanted})
        return {"Field": one.field, "QueryStringConfig": {"Values": pairs}}
    config: Result = {"Values": list(one.values)}
    if one.header:
        config["HttpHeaderName"] = one.header
    shown: Result = {"Field": one.field, _CONFIGS[one.field]: config}
    if one.field in _IN_VALUES:
        shown["Values"] = list(one.values)
    return shown


def shown_rule(one: Rule) -> Result:
    return {
        "RuleArn": one.arn,
        "Priority": "default" if one.is_default else str(one.priority),
        "Conditions": [shown_condition(each) for each in one.conditions],
        "Actions": [shown_action(one.action)],
        "IsDefault": one.is_default,
        "Transforms": [],
    }


# ---------------------------------------------------------------- health checks, targets


def to_health(params: Params, version: str) -> HealthSpec:
    """`version`: of the group that is checked; GRPC has codes of its own."""
    given = {ours: params[name] for name, ours in _HEALTH.items() if name in params}
    if "Matcher" in params:
        right, wrong = ("GrpcCode", "HttpCode") if version == "GRPC" else ("HttpCode", "GrpcCode")
        if wrong in params["Matcher"] or right not in params["Matcher"]:
            raise errors.invalid(f"A matcher of this target group has {right}", "Matcher")
        given["codes"] = params["Matcher"][right]
    return HealthSpec(**given)


def shown_health(one: HealthCheck, version: str) -> Result:
    shown: Result = {
        "HealthCheckEnabled": one.enabled,
        "HealthCheckIntervalSeconds": one.interval_s,
        "HealthCheckTimeoutSeconds": one.timeout_s,
        "HealthyThresholdCount": one.healthy,
        "UnhealthyThresholdCount": one.unhealthy,
    }
    if one.protocol:
        shown |= {"HealthCheckProtocol": one.protocol, "HealthCheckPort": one.port}
    if one.path:
        shown["HealthCheckPath"] = one.path
    if one.codes:
        shown["Matcher"] = {"GrpcCode" if version == "GRPC" else "HttpCode": one.codes}
    return shown


def to_targets(given: Sequence[Mapping[str, Any]], call: Call) -> tuple[TargetSpec, ...]:
    for one in given:
        if "QuicServerId" in one:
            raise refused("Targets.QuicServerId", call)
        if one.get("AvailabilityZone", "all") != "all":
            raise refused("Targets.AvailabilityZone", call, "A target is in the zone where it runs.")
    return tuple(TargetSpec(one["Id"], one.get("Port", 0)) for one in given)


def checked_port(port: int, health: HealthCheck) -> str:
    return str(port) if health.port == TRAFFIC_PORT else health.port
