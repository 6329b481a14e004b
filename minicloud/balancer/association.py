"""Which balancer a target group serves: the one whose rules name it. Their targets start and end with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from minicloud.balancer import errors, health, limits
from minicloud.balancer.model import Balancer, Group, Rule, Target
from minicloud.balancer.state import State
from minicloud.base.machine import Draft


def relink(draft: Draft[State], balancer: Balancer, change: tuple[Sequence[Rule], Sequence[Rule]], now: float) -> None:
    """`change`: rules that go, and rules that come; one that changes is in both. Raises TooManyUnique..."""
    gone, come = change
    left = {rule.arn for rule in gone}
    wanted = {one.group for rule in come for one in rule.action.groups}
    named = wanted | {one.group for rule in gone for one in rule.action.groups}
    used = {arn for arn in named if arn in wanted or any(r.arn not in left for r in draft.state.rules_to(arn))}
    mine = {group.arn for group in draft.state.groups_of(balancer.arn)}
    if len((mine - named) | used) > limits.BALANCER_GROUPS_MAX:
        text = f"A load balancer can have at most {limits.BALANCER_GROUPS_MAX} target groups"
        raise errors.too_many("TooManyUniqueTargetGroupsPerLoadBalancer", text, "action.groups")
    for arn in sorted(named):
        group = draft.state.groups[arn]
        user = balancer.arn if arn in used else ""
        if group.balancer != user:
            _join(draft, replace(group, balancer=user), now)


def _join(draft: Draft[State], group: Group, now: float) -> None:
    draft.put(group)
    for target in draft.state.targets_of(group.arn):
        draft.put(placed(target, group, now))


def placed(target: Target, group: Group, now: float) -> Target:
    """The target as it is in its group, which a balancer uses or none does."""
    attached = bool(group.balancer)
    event: health.Event = "detach"
    if attached and target.address:
        event = "attach" if group.health.enabled else "attach_unchecked"
    if target.state == "draining":
        return target
    state = health.HEALTH.step(target.state, event)  # type: ignore[arg-type]
    if state == "unavailable":
        reason = health.UNCHECKED
    elif state == "unused":
        reason = health.NOT_IN_USE if target.address or not attached else health.INVALID_STATE
    else:
        reason = health.REGISTERING if target.state in ("unused", "unavailable") else target.reason
    if (state, reason) == (target.state, target.reason):
        return target
    text = health.describe(reason)
    return replace(target, state=state, reason=reason, description=text, since=now)
