"""What can be asked of the state: the same answers for every door. Lists come sorted by the keys that pages go by."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from minicloud.base.arn import Arn, Scope
from minicloud.base.errors import InvalidParameterValue
from minicloud.scaling import texts
from minicloud.scaling.errors import no_such
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.lifecycle import ACTIVE, ASIDE, LEAVING, WARM
from minicloud.scaling.model import Activity, Group, Member, Policy, Refresh, Scheduled, owner
from minicloud.scaling.moves import DOWN
from minicloud.scaling.state import Roster, State

_NOBODY = Roster()
_END_MS = 10**15  # beyond any time in milliseconds: newest first is sorted by what is left until then


def groups(state: State, scope: Scope, names: Sequence[str] = ()) -> dict[str, Group]:
    """By name; all of the scope, or those of these names that there are."""
    found = {group.name: group for group in state.of_scope(scope) if not names or group.name in names}
    return dict(sorted(found.items()))


def roster(state: State, group: Group) -> Roster:
    return state.rosters.get(group.key) or _NOBODY


def _rosters(state: State, scope: Scope, name: str) -> Iterator[tuple[Group, Roster]]:
    """Of one group, or ("") of all. Raises NotFound."""
    for group in [state.group(scope, name)] if name else state.of_scope(scope):
        yield group, roster(state, group)


def members(state: State, scope: Scope, name: str = "", ids: Sequence[str] = ()) -> dict[str, Member]:
    """By key. Raises NotFound: there is no such group."""
    wanted = frozenset(ids)
    if wanted and not name:  # however many others there are
        known = filter(None, map(state.member_of, wanted))
        return {one.key: one for one in sorted(known, key=lambda one: one.key) if owner(one.group)[0] == scope}
    found = {
        key: member
        for _, its in _rosters(state, scope, name)
        for key, member in its.members.items()
        if not wanted or member.instance_id in wanted
    }
    return dict(sorted(found.items()))


def activities(state: State, scope: Scope, name: str = "", ids: Sequence[str] = ()) -> dict[str, Activity]:
    """The newest first, by a key that sorts so. Raises NotFound."""
    found = {
        f"{_END_MS - round(one.start * 1_000):015d}/{_END_MS - int(key[-12:]):015d}/{key}": one
        for _, its in _rosters(state, scope, name)
        for key, one in its.activities.items()
        if not ids or one.id in ids
    }
    return dict(sorted(found.items()))


def refreshes(state: State, scope: Scope, name: str, ids: Sequence[str] = ()) -> dict[str, Refresh]:
    """The newest first. Raises NotFound."""
    found = roster(state, state.group(scope, name)).refreshes
    kept = {f"{_END_MS - int(key[-8:]):015d}": one for key, one in found.items() if not ids or one.id in ids}
    return dict(sorted(kept.items()))


def policies(state: State, scope: Scope, name: str = "") -> dict[str, Policy]:
    """Raises NotFound."""
    return dict(sorted((key, one) for _, its in _rosters(state, scope, name) for key, one in its.policies.items()))


def policy(state: State, scope: Scope, name: str, reference: str) -> Policy:
    """By its name within a group, or by its ARN. Raises NotFound, InvalidParameterValue."""
    if reference.startswith("arn:"):
        found = policy_by_arn(state, reference)
        if found is not None and owner(found.group)[0] == scope:
            return found
    else:
        found = roster(state, state.group(scope, name)).policies.get(f"{scope.key(name)}:{reference}")
        if found is not None:
            return found
    raise no_such("policy", reference, "policy")


def policy_by_arn(state: State, arn: str) -> Policy | None:
    """scalingPolicy:<uid>:autoScalingGroupName/<group>:policyName/<policy>"""
    try:
        parsed = Arn.parse(arn)
    except InvalidParameterValue:
        return None
    parts = parsed.resource.split(":")
    if parsed.service != "autoscaling" or len(parts) != 4 or parts[0] != "scalingPolicy":
        return None
    group, name = parts[2].removeprefix("autoScalingGroupName/"), parts[3].removeprefix("policyName/")
    key = Scope(parsed.account, parsed.region).key(group)
    found = (state.rosters.get(key) or _NOBODY).policies.get(f"{key}:{name}")
    return found if found is not None and found.uid == parts[1] else None


def scheduled(state: State, scope: Scope, name: str = "") -> dict[str, Scheduled]:
    """Raises NotFound."""
    return dict(sorted((key, one) for _, its in _rosters(state, scope, name) for key, one in its.scheduled.items()))


def scheduled_arn(group: Group, action: Scheduled) -> str:
    digits = hashlib.sha256(f"{group.uid}:{action.name}".encode()).hexdigest()
    named = f"autoScalingGroupName/{group.name}:scheduledActionName/{action.name}"
    return group.scope.arn("autoscaling", f"scheduledUpdateGroupAction:{digits[:32]}:{named}")


def health(group: Group, member: Member) -> tuple[str, str]:
    """Healthy or Unhealthy, and why."""
    if member.unhealthy:
        return "Unhealthy", member.unhealthy
    if member.seen in DOWN and not member.starting and member.state in ACTIVE:
        return "Unhealthy", texts.EC2_CHECK
    if member.target_bad and "ELB" in group.health_types and member.state in ACTIVE:
        return "Unhealthy", texts.ELB_CHECK
    return "Healthy", ""


def counts(found: Iterable[Member]) -> Mapping[str, int]:
    """How many are in_service, pending, standby, leaving, warm."""
    return Counter(_role(member.state) for member in found)


def _role(state: str) -> str:
    if state in WARM:
        return "warm"
    if state in LEAVING:
        return "leaving"
    if state in ASIDE:
        return "standby"
    return "in_service" if state == "InService" else "pending"


def forecast(found: Policy) -> Forecast | None:
    """The newest of a predictive policy."""
    body = found.forecast
    return None if body is None else Forecast(body["start"], body["step_s"], tuple(body["load"]))
