"""Policies and scheduled actions of a group: kept, evaluated, carried out.

A policy's config is the body of one of the values in tracking.py, steps.py, predictive.py, which decide; here their
proposals meet (combine.py) and become the group's desired capacity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from minicloud.scaling import groups, limits, texts
from minicloud.scaling.checks import check_name, check_sizes
from minicloud.scaling.combine import Bounds, Decision, combine
from minicloud.scaling.commands import (
    DeletePolicy,
    DeleteScheduled,
    Evaluate,
    ExecutePolicy,
    ForecastMade,
    PutPolicy,
    PutScheduled,
)
from minicloud.scaling.errors import invalid, no_such, too_many
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.lifecycle import ACTIVE
from minicloud.scaling.model import Policy, Scheduled
from minicloud.scaling.predictive import Floor, Predictive
from minicloud.scaling.schedule import parse, time_zone
from minicloud.scaling.state import Turn
from minicloud.scaling.steps import Adjustment, SimpleScaling, Step, StepScaling
from minicloud.scaling.tracking import Capacity, Proposal, TargetTracking

Rule = TargetTracking | StepScaling | SimpleScaling | Predictive


def _steps(config: dict[str, Any]) -> StepScaling:
    adjustment = Adjustment(**config["adjustment"])
    return StepScaling(
        adjustment, tuple(Step(**step) for step in config["steps"]), config.get("aggregation", "Average")
    )


def _simple(config: dict[str, Any]) -> SimpleScaling:
    return SimpleScaling(Adjustment(**config["adjustment"]), config["amount"], config.get("cooldown_s"))


TYPES: dict[str, Callable[[dict[str, Any]], Rule]] = {
    "TargetTrackingScaling": lambda config: TargetTracking(**config),
    "StepScaling": _steps,
    "SimpleScaling": _simple,
    "PredictiveScaling": lambda config: Predictive(**config),
}


def rule_of(policy: Policy) -> Rule:
    return TYPES[policy.type](policy.config)


# --- policies


def put_policy(turn: Turn, command: PutPolicy) -> Policy:
    """Raises InvalidParameterValue, LimitExceeded."""
    groups.check_alive(turn)
    check_name(command.policy, "policy")
    key = f"{turn.group.key}:{command.policy}"
    before = turn.roster.policies.get(key)
    if before is None and len(turn.roster.policies) >= limits.POLICIES_MAX:
        raise too_many("Scaling policies of a group", limits.POLICIES_MAX, "policy")
    if command.type not in TYPES:
        raise invalid(f"PolicyType must be one of {', '.join(TYPES)}", "type")
    if command.warmup_s is not None and not 0 <= command.warmup_s <= limits.WARMUP_S_MAX:
        raise invalid(f"EstimatedInstanceWarmup must be 0 to {limits.WARMUP_S_MAX}", "warmup_s")
    if command.warmup_s is not None and command.type not in ("TargetTrackingScaling", "StepScaling"):
        raise invalid("EstimatedInstanceWarmup is only for target tracking and step scaling", "warmup_s")
    policy = Policy(
        key=key,
        group=turn.group.key,
        name=command.policy,
        uid=before.uid if before is not None else turn.context.hex(16),
        type=command.type,
        config=command.config,
        enabled=command.enabled,
        warmup_s=command.warmup_s,
    )
    if before is not None and before.foretells == policy.foretells:
        policy = replace(policy, forecast=before.forecast)
    try:
        rule_of(policy).check()
    except (TypeError, KeyError) as error:
        raise invalid(f"The configuration does not fit {command.type}: {error}", "config") from None
    turn.write(policy)
    return policy


def _policy(turn: Turn, name: str) -> Policy:
    found = turn.roster.policies.get(f"{turn.group.key}:{name}")
    if found is None:
        raise no_such("policy", name, "policy")
    return found


def delete_policy(turn: Turn, command: DeletePolicy) -> None:
    """Raises NotFound."""
    turn.erase(_policy(turn, command.policy))


def forecast_made(turn: Turn, command: ForecastMade) -> None:
    """Raises NotFound."""
    made = command.forecast
    body = {"start": made.start, "step_s": made.step_s, "load": [round(load, 3) for load in made.load]}
    turn.write(replace(_policy(turn, command.policy), forecast=body))


def capacity(turn: Turn, warmup_s: float) -> Capacity:
    """The group as a policy with this warm-up sees it."""
    active = [one for one in turn.members.values() if one.state in ACTIVE]
    ready = sum(one.in_service is not None and turn.now >= one.in_service + warmup_s for one in active)
    return Capacity(turn.group.desired, ready, len(active) - ready, turn.group.changed)


def evaluate(turn: Turn, command: Evaluate) -> None:
    """Target tracking and predictive policies together: the group takes the larger."""
    if turn.group.deleting:
        return
    proposals: list[Proposal] = []
    floors: list[tuple[str, Floor]] = []
    trackers = 0
    for policy in sorted(turn.roster.policies.values(), key=lambda one: one.name):
        rule = rule_of(policy) if policy.enabled else None
        if isinstance(rule, TargetTracking) and turn.allows("AlarmNotification"):
            trackers += not rule.disable_scale_in
            reading = command.readings.get(policy.name)
            seen = capacity(turn, _warmup(turn, policy))
            proposal = rule.propose(policy.name, reading, seen) if reading is not None else None
            proposals += [proposal] if proposal is not None else []
        elif isinstance(rule, Predictive) and policy.forecast is not None:
            floor = rule.floor(_forecast(policy.forecast), turn.now, turn.group.max_size)
            floors += [(policy.name, floor)] if floor is not None else []
    _take(turn, combine(_bounds(turn), proposals, trackers, floors), "TargetTracking")


def _forecast(body: dict[str, Any]) -> Forecast:
    return Forecast(body["start"], body["step_s"], tuple(body["load"]))


def _warmup(turn: Turn, policy: Policy) -> float:
    return turn.group.warmup if policy.warmup_s is None else policy.warmup_s


def _bounds(turn: Turn) -> Bounds:
    return Bounds(turn.group.desired, turn.group.min_size, turn.group.max_size)


def _take(turn: Turn, decision: Decision, alarm: str) -> None:
    if decision.max_size != turn.group.max_size:
        turn.change(max_size=decision.max_size)
    before = turn.group.desired
    if decision.desired != before:
        cause = texts.policy(
            turn.now, decision.policy, (before, decision.desired), f"{alarm}-{turn.group.name}", decision.reason
        )
        groups.resize(turn, decision.desired, cause)


def execute(turn: Turn, command: ExecutePolicy) -> None:
    """A step or simple policy, by its alarm or by a user. Raises InvalidParameterValue, NotFound, Conflict."""
    groups.check_alive(turn)
    policy = _policy(turn, command.policy)
    if command.alarm and (not policy.enabled or not turn.allows("AlarmNotification")):
        return
    rule, now, group = rule_of(policy), turn.now, turn.group
    seen = capacity(turn, _warmup(turn, policy))
    if isinstance(rule, SimpleScaling):
        until = group.cooldown_until if command.honor_cooldown or command.alarm else 0.0
        proposal = rule.propose(policy.name, seen, now, until)
    elif isinstance(rule, StepScaling):
        if command.threshold is None or not command.values:
            raise invalid("MetricValue and BreachThreshold are required for a step scaling policy", "threshold")
        proposal = rule.propose(policy.name, command.values, command.threshold, seen)
    else:
        raise invalid(f"A policy of type {policy.type} can't be executed", "policy")
    if proposal is None:
        return
    decision = combine(_bounds(turn), [proposal], 0, _floors(turn))
    if isinstance(rule, SimpleScaling):
        wait = group.cooldown_s if rule.cooldown_s is None else rule.cooldown_s
        turn.change(cooldown_until=now + wait)
    if command.alarm or decision.desired == group.desired:
        _take(turn, decision, command.alarm)
    else:
        groups.resize(turn, decision.desired, texts.executed(now, policy.name, (group.desired, decision.desired)))


def _floors(turn: Turn) -> list[tuple[str, Floor]]:
    """What forecasts hold the group to, so that a scale-in stops there."""
    found = []
    for policy in turn.roster.policies.values():
        if policy.type == "PredictiveScaling" and policy.enabled and policy.forecast is not None:
            rule = rule_of(policy)
            assert isinstance(rule, Predictive)
            floor = rule.floor(_forecast(policy.forecast), turn.now, turn.group.max_size)
            found += [(policy.name, floor)] if floor is not None else []
    return found


# --- scheduled actions


def put_scheduled(turn: Turn, command: PutScheduled) -> Scheduled:
    """Raises InvalidParameterValue, LimitExceeded."""
    groups.check_alive(turn)
    check_name(command.action, "action")
    key = f"{turn.group.key}:{command.action}"
    if key not in turn.roster.scheduled and len(turn.roster.scheduled) >= limits.SCHEDULED_MAX:
        raise too_many("Scheduled actions of a group", limits.SCHEDULED_MAX, "action")
    sizes = (command.min_size, command.max_size, command.desired)
    if all(size is None for size in sizes):
        raise invalid("At least one of MinSize, MaxSize or DesiredCapacity must be specified", "desired")
    low = command.min_size or 0
    high = limits.GROUP_SIZE_MAX if command.max_size is None else command.max_size
    check_sizes(low, high, max(low, min(high, low)) if command.desired is None else command.desired)
    if command.start is not None and command.start <= turn.now:
        raise invalid("Given start time is in the past", "start")
    if command.end is not None and command.end <= max(turn.now, command.start or 0.0):
        raise invalid("End time must be after the start time and in the future", "end")
    action = Scheduled(
        key, turn.group.key, command.action, 0.0, command.recurrence, command.time_zone, command.start, command.end,
        command.min_size, command.max_size, command.desired,
    )  # fmt: skip
    first = command.start if command.start is not None else _next(action, turn.now)
    time_zone(command.time_zone)
    if command.time_zone and not command.recurrence:
        raise invalid("TimeZone needs a Recurrence", "time_zone")
    if first is None or (command.end is not None and first > command.end):
        raise invalid("The schedule never runs: it needs a StartTime, or a Recurrence that comes", "recurrence")
    made = replace(action, next=first)
    turn.write(made)
    return made


def _next(action: Scheduled, after: float) -> float | None:
    """When it runs next after an instant; None: never again."""
    if not action.recurrence:
        return None
    at = parse(action.recurrence).next(after, time_zone(action.time_zone))
    return None if at is None or (action.end is not None and at > action.end) else at


def delete_scheduled(turn: Turn, command: DeleteScheduled) -> None:
    """Raises NotFound."""
    found = turn.roster.scheduled.get(f"{turn.group.key}:{command.action}")
    if found is None:
        raise no_such("scheduled action", command.action, "action")
    turn.erase(found)


def run_scheduled(turn: Turn, action: Scheduled) -> None:
    """Its time has come: change the sizes, then wait for the next time; one that never comes again is forgotten."""
    after = _next(action, turn.now)
    if after is None:
        turn.erase(action)
    else:
        turn.write(replace(action, next=after))
    if turn.group.deleting or not turn.allows("ScheduledActions"):
        return
    group = turn.group
    low = group.min_size if action.min_size is None else action.min_size
    high = group.max_size if action.max_size is None else action.max_size
    low, high = min(low, high) if action.min_size is None else low, max(low, high) if action.max_size is None else high
    wanted = max(low, min(high, group.desired if action.desired is None else action.desired))
    cause = texts.scheduled(turn.now, action.name, (low, high, wanted), group.desired)
    turn.change(min_size=low, max_size=high)
    groups.resize(turn, wanted, cause)
