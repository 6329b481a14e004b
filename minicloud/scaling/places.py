"""Where the next instance goes: the emptiest zone that has a place with capacity, and the first type that has it there.

A *place* is a zone and a type. A launch that failed for want of capacity makes its place cold for a while, twice as
long each time, a minute at most; another place is taken at once. Only when every place is cold does the group wait, for
the first that warms up. Launches that failed together count once, and a place that has failed gets one launch ahead
before all that are missing: a group that lacks a thousand instances asks a full place once a minute too.

A type that cannot be had at all (an image of another architecture, a quota of vCPUs) is cold in every zone, and a zone
that is no more for every type, where the group has others; for longer, as room comes and these do not.

Another failure (the template, the image) is not the place's fault: the group as a whole waits. One round of launches
that failed together counts once. After two rounds in a row the group sends one instance ahead, and goes on when that
one has been in service for a minute. So a broken template costs one short-lived instance per back-off.
"""

from __future__ import annotations

from minicloud.scaling import limits
from minicloud.scaling.lifecycle import READY, WARM
from minicloud.scaling.model import Group, Member
from minicloud.scaling.state import Turn

PROBE_AFTER = 2  # rounds that failed
DOUBLINGS_MAX = 32  # far beyond the longest back-off, and a number still
ANY = "*"
_NEVER = [0.0, 0.0]


def backoff_s(failures: float) -> float:
    doublings = min(max(0.0, failures - 1), DOUBLINGS_MAX)
    return float(min(limits.LAUNCH_BACKOFF_S_MIN * 2**doublings, limits.LAUNCH_BACKOFF_S_MAX))


def counts(group: Group, members: list[Member]) -> dict[str, int]:
    """Members by zone, in the group's order; zones that are not the group's follow."""
    found = dict.fromkeys(group.zones, 0)
    for member in members:
        found[member.zone] = found.get(member.zone, 0) + 1
    return found


def _kinds(turn: Turn) -> list[str]:
    """The types of new instances, the most wanted first; "" is the template's own. A refresh may bring others."""
    refresh = turn.refresh()
    types = turn.group.types if refresh is None else refresh.config.get("types", turn.group.types)
    return types or [""]


def warm_type(group: Group, kinds: list[str], zone: str, now: float) -> str | None:
    """The first of these types that is not cold in this zone. None: all are."""
    for kind in kinds:
        if _cold_until(group, zone, kind) <= now:
            return kind
    return None


def _cold_until(group: Group, zone: str, kind: str) -> float:
    return max(group.cold.get(key, _NEVER)[0] for key in _keys(zone, kind))


def _keys(zone: str, kind: str) -> tuple[str, str, str]:
    """Of Group.cold: the place, the type in every zone, the zone for every type."""
    return f"{zone}/{kind}", f"{ANY}/{kind}", f"{zone}/{ANY}"


def trusted_from(group: Group, zone: str, full: bool) -> float:
    """When a zone may be tried for the sake of balance. A full group loses an instance by trying: it waits longer."""
    more = limits.COLD_REMEMBERED_S if full else 0.0
    colds = [_cold_until(group, zone, kind) for kind in group.types or [""]]
    return min(until + more if until else 0.0 for until in colds)


def choose(turn: Turn, held: dict[str, int]) -> tuple[str, str] | None:
    """Zone and type of the next launch, `held` being the members by zone so far. None: all are cold, or being tried."""
    group, kinds = turn.group, _kinds(turn)
    ahead = _ahead(turn) if group.cold else frozenset()
    for zone in sorted(group.zones, key=lambda one: held.get(one, 0)):
        kind = warm_type(group, [one for one in kinds if (zone, one) not in ahead], zone, turn.now)
        if kind is not None:
            return zone, kind
        if warm_type(group, kinds, zone, turn.now) is not None:
            return None  # it is told in a moment whether there is room: a fuller zone would only have to be emptied
    return None


def _ahead(turn: Turn) -> frozenset[tuple[str, str]]:
    """Places that have failed, and that a launch under way tries again."""
    trying = {(one.zone, one.type) for one in turn.members.values() if not one.instance_id}
    return frozenset(place for place in trying if any(key in turn.group.cold for key in _keys(*place)))


def room_for_launches(turn: Turn) -> int:
    """How many launches the back-off allows now: 0, 1 (one is sent ahead) or as many as you like."""
    group = turn.group
    if turn.now < group.retry_at:
        return 0
    if group.failures < PROBE_AFTER:
        return limits.LAUNCHES_MAX
    since = group.retry_at
    trying = any(
        member.created >= since and (member.state != "InService" or not is_stable(member, turn.now))
        for member in turn.active()
    ) or any(member.created >= since and member.state in WARM - READY for member in turn.members.values())
    return 0 if trying else 1


def next_try(turn: Turn) -> float | None:
    """When a launch that cannot be made now may be: the end of the back-off, or of the first cold place."""
    ends = [turn.group.retry_at, *(until for until, _ in turn.group.cold.values())]
    return min((end for end in ends if end > turn.now), default=None)


def is_stable(member: Member, now: float) -> bool:
    return member.in_service is not None and now >= member.in_service + limits.STABLE_S


def launch_failed(turn: Turn, member: Member, blames: str) -> None:
    """See commands.LaunchFailed. The group as a whole waits where nothing else is left to try."""
    zones, kinds = turn.group.zones, _kinds(turn)
    if blames == "place":
        _cool(turn, f"{member.zone}/{member.type}", limits.COLD_S_MAX)
    elif blames == "type" and len(kinds) > 1:
        _all_of_it_failed(turn, f"{ANY}/{member.type}", [f"{ANY}/{kind}" for kind in kinds])
    elif blames == "zone" and len(zones) > 1:
        _all_of_it_failed(turn, f"{member.zone}/{ANY}", [f"{zone}/{ANY}" for zone in zones])
    else:
        round_failed(turn)


def _cool(turn: Turn, key: str, most_s: float) -> None:
    """Launches that failed together count once."""
    if turn.group.cold.get(key, _NEVER)[0] > turn.now:
        return
    failures = turn.group.cold.get(key, _NEVER)[1] + 1
    until = turn.now + min(backoff_s(failures), most_s)
    turn.change(cold={**turn.group.cold, key: [until, failures]})


def _all_of_it_failed(turn: Turn, key: str, all_keys: list[str]) -> None:
    """A type, or a zone."""
    _cool(turn, key, limits.LAUNCH_BACKOFF_S_MAX)
    if all(turn.group.cold.get(one, _NEVER)[0] > turn.now for one in all_keys):
        round_failed(turn)


def place_worked(turn: Turn, zone: str, kind: str) -> None:
    keys = _keys(zone, kind)
    if any(key in turn.group.cold for key in keys):
        turn.change(cold={key: value for key, value in turn.group.cold.items() if key not in keys})


def round_failed(turn: Turn) -> None:
    """The template's fault. Within a back-off it is the same round."""
    if turn.now >= turn.group.retry_at:
        failures = turn.group.failures + 1
        turn.change(failures=failures, retry_at=turn.now + backoff_s(failures))


def settle_failures(turn: Turn) -> float | None:
    """Forget the failures once an instance launched after them is stable. Returns when to look again."""
    group = turn.group
    if not group.failures:
        return None
    tried = [member for member in turn.active() if member.created >= group.retry_at and member.in_service is not None]
    if any(is_stable(member, turn.now) for member in tried):
        turn.change(failures=0, retry_at=0.0)
        return None
    waits = [member.in_service + limits.STABLE_S for member in tried if member.in_service is not None]
    if turn.now < group.retry_at:
        waits.append(group.retry_at)
    return min(waits, default=None)
