"""Targets: registered, watched, drained. Source: elbv2 API, RegisterTargets, DescribeTargetHealth; health.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from minicloud.balancer import attributes, errors, health, limits
from minicloud.balancer.association import placed
from minicloud.balancer.balancers import POOL
from minicloud.balancer.commands import (
    DeregisterTargets,
    InstanceSeen,
    ObserveHealth,
    RegisterTargets,
    TargetIdle,
    TargetSpec,
)
from minicloud.balancer.groups import find as find_group
from minicloud.balancer.model import ADDRESS, Group, Target, target_key
from minicloud.balancer.model import INSTANCE as INSTANCE_TYPE
from minicloud.balancer.state import State
from minicloud.base.machine import Context, Draft, Outcome

INSTANCE = re.compile(r"i-(?:[0-9a-f]{8}|[0-9a-f]{17})\Z")
GUESTS = (IPv4Network("10.64.0.0/10"), IPv4Network("127.64.0.0/10"))  # sandbox/subnets.py
_FUNCTION = re.compile(
    r"arn:aws:lambda:(?P<region>[a-z0-9-]{1,32}):(?P<account>\d{12}):"
    r"function:[a-zA-Z0-9_-]{1,64}(?::(?:\$LATEST|[a-zA-Z0-9_-]{1,128}))?\Z"
)
_NOT_HOSTS = tuple(IPv4Network(one) for one in ("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"))


def register(loopback: bool, state: State, command: RegisterTargets, context: Context) -> Outcome:
    """The reply is the targets. One that is there stays as it is; one that drains starts anew."""
    group = find_group(state, command.scope, command.group)
    check_count(command.targets)
    draft = Draft(state)
    made: dict[str, Target] = {}
    for spec in command.targets:
        target = _registered(state, group, spec, context.now)
        if not loopback and group.target_type == ADDRESS and IPv4Address(target.address).is_loopback:
            raise errors.bad_target(f"The IP address '{spec.id}' is the cloud's own machine and cannot be a target")
        made[target.key] = target
    there = {target.key for target in state.targets_of(group.arn)}
    most = limits.FUNCTIONS_MAX if group.has_function else limits.TARGETS_MAX
    if len(there | made.keys()) > most:
        text = f"The maximum number of targets, {most}, is reached"
        raise errors.too_many("TooManyTargets", text, "targets")
    for target in made.values():
        draft.put(target)
    return draft.outcome(list(made.values()))


def check_count(targets: Sequence[TargetSpec]) -> None:
    """Raises ValidationError."""
    if not targets:
        raise errors.invalid("At least one target must be specified", "targets")
    if len(targets) > limits.REQUEST_ITEMS_MAX:
        raise errors.invalid(f"At most {limits.REQUEST_ITEMS_MAX} targets can be specified", "targets")


def _registered(state: State, group: Group, spec: TargetSpec, now: float) -> Target:
    port = spec.port or group.port
    if not group.has_function and not 1 <= port <= 65535:
        raise errors.invalid(f"Target port '{port}' must be between 1 and 65535", "targets.port")
    address, zone = _address(group, spec), spec.zone
    before = state.targets.get(target_key(group.arn, spec.id, port))
    if before is not None and before.state != "draining":
        return placed(replace(before, address=address, zone=zone), group, now)
    fresh = Target(
        group=group.arn,
        account=group.account,
        region=group.region,
        id=spec.id,
        port=port,
        address=address,
        zone=zone,
        state="unused",
        reason=health.NOT_IN_USE,
        description=health.describe(health.NOT_IN_USE),
        since=now,
    )
    return placed(fresh, group, now)


def function_of(group: Group, spec: TargetSpec) -> str:
    """The function that is to be a target of this group. Raises ValidationError, InvalidTarget."""
    if spec.port:
        raise errors.invalid("Port cannot be specified for targets of target type 'lambda'", "targets.port")
    match = _FUNCTION.match(spec.id)
    if match is None:
        raise errors.invalid(f"Target ID '{spec.id[:170]}' is not a valid ARN of a Lambda function", "targets.id")
    if (match["account"], match["region"]) != (group.account, group.region):
        text = f"The function '{spec.id}' and the target group must be in the same account and in the same Region"
        raise errors.bad_target(text)
    return spec.id


def _address(group: Group, spec: TargetSpec) -> str:
    """Raises InvalidTarget. Whose an instance is, its id says, not its address; a balancer before itself never ends."""
    if group.has_function:
        return function_of(group, spec)
    if group.target_type == INSTANCE_TYPE:
        if not INSTANCE.match(spec.id):
            raise errors.invalid(f"Instance ID '{spec.id[:64]}' is not valid", "targets.id")
        if not spec.address:
            text = f"The following targets are not in a running state and cannot be registered: '{spec.id}'"
            raise errors.bad_target(text)
        return spec.address
    try:
        address = IPv4Address(spec.id)
    except ValueError:
        raise errors.invalid(f"The IP address '{spec.id[:64]}' is not a valid IPv4 address", "targets.id") from None
    if any(address in pool for pool in GUESTS):
        raise errors.bad_target(f"The IP address '{address}' is one of instances, which are registered by their ids")
    if any(address in pool for pool in (*_NOT_HOSTS, POOL)):
        raise errors.bad_target(f"The IP address '{address}' cannot be a target")
    return str(address)


def deregister(state: State, command: DeregisterTargets, context: Context) -> Outcome:
    """The reply is None. A target in service drains; any other is gone at once."""
    group = find_group(state, command.scope, command.group)
    check_count(command.targets)
    found = []
    for spec in command.targets:
        matches = [one for one in state.targets_of(group.arn) if one.id == spec.id and spec.port in (0, one.port)]
        if not matches:
            raise errors.bad_target(f"The following targets are not registered: '{spec.id[:64]}'")
        found += matches
    draft = Draft(state)
    delay_s = 0 if group.has_function else int(attributes.value(group, attributes.DELAY))
    for target in dict.fromkeys(one.key for one in found):
        _end(draft, state.targets[target], delay_s, context.now)
    return draft.outcome()


def _end(draft: Draft[State], target: Target, delay_s: int, now: float) -> None:
    if target.state == "draining":
        return
    if target.state == "unused" or delay_s == 0:
        draft.drop(target)
        return
    draft.put(
        replace(
            target,
            state=health.HEALTH.step(target.state, "deregister"),  # type: ignore[arg-type]
            reason=health.DRAINING,
            description=health.describe(health.DRAINING),
            since=now,
            until=now + delay_s,
        )
    )


def observe(state: State, command: ObserveHealth, context: Context) -> Outcome:
    """Verdicts about targets that are gone, or that drain, say nothing."""
    after: dict[str, Target] = {}
    for key in command.known:
        target = state.targets.get(key)
        if target is not None and target.reason == health.REGISTERING:
            after[key] = _with_reason(target, "initial", health.CHECKING, context.now)
    for verdict in command.verdicts:
        target = after.get(verdict.target) or state.targets.get(verdict.target)
        if target is None or target.state not in health.CHECKED:
            continue
        now_state = health.HEALTH.step(target.state, "pass" if verdict.passed else "fail")  # type: ignore[arg-type]
        reason = "" if verdict.passed else verdict.reason
        after[target.key] = _with_reason(target, now_state, reason, context.now, verdict.code)
    draft = Draft(state)
    for target in after.values():
        draft.put(target)
    return draft.outcome()


def _with_reason(target: Target, state: str, reason: str, now: float, code: str = "") -> Target:
    text = health.describe(reason, code)
    if (state, reason, text) == (target.state, target.reason, target.description):
        return target
    since = target.since if state == target.state else now
    return replace(target, state=state, reason=reason, description=text, since=since)


def idle(state: State, command: TargetIdle, _context: Context) -> Outcome:
    """A draining target on which nothing is in flight is gone before its time. Source: ALB guide, "Deregistration"."""
    draft = Draft(state)
    target = state.targets.get(command.target)
    if target is not None and target.state == "draining":
        draft.drop(target)
    return draft.outcome()


def instance_seen(state: State, command: InstanceSeen, context: Context) -> Outcome:
    """An instance that stops is unused until it runs again, at whatever address it has then."""
    draft = Draft(state)
    for target in state.targets_on(command.id):
        group = state.groups[target.group]
        if group.target_type != INSTANCE_TYPE or target.state == "draining":
            continue
        moved = replace(target, address=command.address, zone=command.zone or target.zone)
        if moved.address and moved.address != target.address and moved.state != "unused":
            reason = health.REGISTERING
            moved = replace(moved, state="initial", reason=reason, description=health.describe(reason))
        draft.put(placed(moved, group, context.now))
    return draft.outcome()


def tick(state: State, context: Context) -> Outcome:
    """Draining targets whose time is over are gone."""
    draft = Draft(state)
    for target in list(state.overdue(context.now)):
        draft.drop(target)
    return draft.outcome()


def described(state: State, group: Group, wanted: Sequence[TargetSpec] = ()) -> list[Target]:
    """DescribeTargetHealth: all targets, or the ones asked for, those that are not registered included."""
    targets = state.targets_of(group.arn)
    if not wanted:
        return targets
    found = []
    for spec in wanted:
        port = spec.port or group.port
        matches = [one for one in targets if one.id == spec.id and spec.port in (0, one.port)]
        reason = health.NOT_REGISTERED
        absent = Target(
            group.arn,
            group.account,
            group.region,
            spec.id,
            port,
            "",
            "",
            "unused",
            reason,
            health.describe(reason),
            0.0,
        )
        found += matches or [absent]
    return found
