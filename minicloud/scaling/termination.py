"""Which instance goes when a group shrinks.

After the EC2 Auto Scaling User Guide, "Configure termination policies": first the zone with the most instances, then in
it the group's policies in order, each narrowing the choice; what is left over is decided by age. Instances that are
protected from scale-in are never chosen here.

Where we differ: an instance that is not in service yet goes before one that is, whatever the policies say, because
taking it costs no capacity; and ties end with the lowest number instead of at random.
"""

from __future__ import annotations

from collections.abc import Callable

from minicloud.scaling.model import Group, Member
from minicloud.scaling.places import counts

Narrow = Callable[[Group, list[Member], float], list[Member]]


def select(group: Group, members: list[Member], now: float) -> Member | None:
    """One of the members to end next. None: all are protected."""
    free = [member for member in members if not member.protected]
    if not free:
        return None
    held = counts(group, members)
    most = max(held[member.zone] for member in free)
    choice = [member for member in free if held[member.zone] == most]
    zone = choice[0].zone
    choice = [member for member in choice if member.zone == zone]
    choice = [member for member in choice if member.in_service is None] or choice
    for name in group.termination_policies:
        choice = POLICIES[name](group, choice, now)
    return min(choice, key=lambda member: member.number)


def _least(members: list[Member], key: Callable[[Member], float]) -> list[Member]:
    best = min(key(member) for member in members)
    return [member for member in members if key(member) == best]


def _oldest(group: Group, members: list[Member], now: float) -> list[Member]:
    return _least(members, lambda member: member.created)


def _newest(group: Group, members: list[Member], now: float) -> list[Member]:
    return _least(members, lambda member: -member.created)


def _oldest_template(group: Group, members: list[Member], now: float) -> list[Member]:
    """Another template than the group's counts as older than every version of it."""

    def age(member: Member) -> float:
        if member.template != group.template.get("id"):
            return -1.0
        return float(member.version) if member.version.isdigit() else 0.0

    return _least(members, age)


def _next_hour(group: Group, members: list[Member], now: float) -> list[Member]:
    return _least(members, lambda member: 3600 - (now - member.created) % 3600)


def _strategy(group: Group, members: list[Member], now: float) -> list[Member]:
    """The type that the group wants least goes first (overrides stand in order of preference)."""
    if not group.types:
        return members
    wanted = {kind: place for place, kind in enumerate(group.types)}
    return _least(members, lambda member: -wanted.get(member.type, len(wanted)))


def _default(group: Group, members: list[Member], now: float) -> list[Member]:
    for narrow in (_strategy, _oldest_template, _next_hour):
        members = narrow(group, members, now)
    return members


POLICIES: dict[str, Narrow] = {
    "Default": _default,
    "OldestInstance": _oldest,
    "NewestInstance": _newest,
    "OldestLaunchTemplate": _oldest_template,
    "ClosestToNextInstanceHour": _next_hour,
    "AllocationStrategy": _strategy,
}
