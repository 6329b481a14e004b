"""Balancers between the wire and the machine. Nothing is checked here: the machine says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minicloud.balancer import attributes
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.model import Action, Balancer, Certificate, Condition, Group, Listener, Rule, Target, Weighted
from minicloud.wire import balancer_pb2 as wire

REDIRECT = "redirect"
_HEALTH = ("protocol", "path", "codes", "interval_s", "timeout_s", "healthy", "unhealthy", "port", "enabled")
_PARTS = ("protocol", "host", "port", "path")


def balancer(one: Balancer) -> wire.Balancer:
    return wire.Balancer(
        arn=one.arn,
        name=one.name,
        type=one.type,
        scheme=one.scheme,
        address=one.address,
        dns_name=one.dns_name,
        zones=one.zones,
        created_time=one.created,
        attributes=attributes.all_of(one),
        tags=one.tags,
    )


def listener(one: Listener, default: Rule, problem: str) -> wire.Listener:
    return wire.Listener(
        arn=one.arn,
        balancer_arn=one.balancer,
        protocol=one.protocol,
        port=one.port,
        action=action(default.action),
        certificates=one.certificates,
        ssl_policy=one.ssl_policy,
        problem=problem,
        created_time=one.created,
        attributes=attributes.all_of(one),
        tags=one.tags,
    )


def rule(one: Rule) -> wire.ListenerRule:
    conditions = [
        wire.RuleCondition(field=each.field, values=each.values, header=each.header) for each in one.conditions
    ]
    return wire.ListenerRule(
        arn=one.arn,
        listener_arn=one.listener,
        priority=one.priority,
        conditions=conditions,
        action=action(one.action),
        tags=one.tags,
    )


def action(one: Action) -> wire.BalancerAction:
    shown = wire.BalancerAction(
        type=one.type,
        groups=[wire.WeightedGroup(target_group=each.group, weight=each.weight) for each in one.groups],
        sticky_s=one.sticky_s,
        status=one.status,
        content_type=one.content_type,
        text=one.text,
    )
    if one.type == REDIRECT:
        shown.query = one.query
        for name in _PARTS:
            setattr(shown, name, getattr(one, name))
    return shown


def group(one: Group) -> wire.TargetGroup:
    return wire.TargetGroup(
        arn=one.arn,
        name=one.name,
        target_type=one.target_type,
        protocol=one.protocol,
        version=one.version,
        port=one.port,
        health=wire.HealthCheck(**{name: getattr(one.health, name) for name in _HEALTH}),
        balancer_arn=one.balancer,
        created_time=one.created,
        attributes=attributes.all_of(one),
        tags=one.tags,
    )


def targets(found: Iterable[Target]) -> wire.TargetsReply:
    return wire.TargetsReply(
        targets=[
            wire.BalancerTarget(
                id=one.id,
                port=one.port,
                address=one.address,
                zone=one.zone,
                state=one.state,
                reason=one.reason,
                description=one.description,
                since_time=one.since,
            )
            for one in found
        ]
    )


def certificate(one: Certificate) -> wire.Certificate:
    """Never its key."""
    return wire.Certificate(
        arn=one.arn, names=one.names, expires_time=one.expires, created_time=one.created, tags=one.tags
    )


# ---------------------------------------------------------------- requests


def to_action(one: wire.BalancerAction, group_arn: Callable[[str], str]) -> Action:
    """`group_arn`: of a target group by name or ARN."""
    parts = {name: getattr(one, name) for name in _PARTS if getattr(one, name)}
    if one.HasField("query"):
        parts["query"] = one.query
    weighted = [
        Weighted(group_arn(each.target_group), each.weight if each.HasField("weight") else 1) for each in one.groups
    ]
    return Action(
        one.type,
        groups=tuple(weighted),
        sticky_s=one.sticky_s,
        status=one.status,
        content_type=one.content_type,
        text=one.text,
        **parts,
    )


def to_conditions(found: Iterable[wire.RuleCondition]) -> tuple[Condition, ...]:
    return tuple(Condition(one.field, tuple(one.values), one.header) for one in found)


def to_health(one: wire.HealthCheckSpec) -> HealthSpec:
    given = {field.name for field, _ in one.ListFields()}
    return HealthSpec(**{name: getattr(one, name) for name in _HEALTH if name in given})


def to_targets(found: Iterable[wire.TargetRef]) -> tuple[TargetSpec, ...]:
    return tuple(TargetSpec(one.id, one.port) for one in found)
