"""One instance for another: balancing of zones, maximum lifetime; the means that an instance refresh uses too.

Where the group has room below its maximum, the new instance is launched first, marked with the one that it replaces,
and does not count for desired; when it is in service the old one goes. A launch that fails then costs nothing. At the
maximum the old one has to go first, one at a time; for the sake of balance only into a zone that has not failed us for
an hour.

AWS lets a group exceed its maximum by a tenth while it balances zones; here a group never exceeds it.
"""

from __future__ import annotations

from minicloud.scaling import limits, moves, texts
from minicloud.scaling.model import Member, Refresh
from minicloud.scaling.places import choose, counts, next_try, room_for_launches, trusted_from, warm_type
from minicloud.scaling.state import Turn
from minicloud.scaling.termination import select


def replace_one(turn: Turn, member: Member, why: str, place: tuple[str, str] | None = None) -> bool:
    """Launch a replacement, or, at the maximum, end the member so that its replacement can be launched."""
    active = turn.active()
    cause = texts.replaced(turn.now, why)
    if len(active) >= turn.group.max_size:
        moves.terminate(turn, member, cause)
        return True
    held = counts(turn.group, [one for one in active if one.key != member.key])
    place = place or choose(turn, held)
    if place is None or not room_for_launches(turn):
        return False
    moves.launch(turn, place, cause, replaces=member.key)
    return True


def take_over(turn: Turn) -> float | None:
    """Members whose replacement is in service go; replacements whose member is gone count from now on."""
    wakes = []
    for member in turn.active():
        if not member.replaces:
            continue
        old = turn.members.get(member.replaces)
        if old is None or old not in turn.active():
            turn.put(member, replaces="")
        elif member.in_service is not None and member.state == "InService" and turn.allows("Terminate"):
            if is_awaited(turn, member):
                continue  # its balancers will tell
            ready = member.in_service + _wait_s(turn)
            if turn.now < ready:
                wakes.append(ready)
                continue
            turn.put(member, replaces="")
            moves.terminate(turn, old, texts.taken_over(turn.now, _why(turn, old)))
    return min(wakes, default=None)


def _wait_s(turn: Turn) -> float:
    refresh = turn.refresh()
    return 0.0 if refresh is None else warmup_s(turn, refresh)


def _why(turn: Turn, old: Member) -> str:
    if turn.refresh() is not None:
        return texts.REFRESH
    life = turn.group.max_lifetime_s
    return texts.LIFETIME if life and turn.now >= old.created + life else "the balancing of zones"


def warmup_s(turn: Turn, refresh: Refresh) -> int:
    """Until what a refresh launched counts as replaced: its own, else the default warm-up, else the grace period of
    health checks. Source: API, RefreshPreferences."""
    if refresh.warmup_s is not None:
        return refresh.warmup_s
    return turn.group.grace_s if turn.group.warmup_s is None else turn.group.warmup_s


def is_awaited(turn: Turn, member: Member) -> bool:
    """The group asks balancers for its health, and they have not found it healthy."""
    group = turn.group
    asks = "ELB" in group.health_types and group.target_groups and turn.allows("AddToLoadBalancer")
    return bool(asks) and not member.target_passed


def matches(member: Member, refresh: Refresh) -> bool:
    """It is as the refresh wants it."""
    template, types = refresh.config["template"], refresh.config["types"]
    same = member.template == template["id"] and member.version == (refresh.version or template.get("version", ""))
    return same and (not types or member.type in types)


def is_stale(turn: Turn, member: Member) -> bool:
    """The refresh under way is to replace it."""
    refresh = turn.refresh()
    if refresh is None or member.number >= refresh.before:
        return False
    return not (refresh.skip_matching and matches(member, refresh))


def is_settled(turn: Turn) -> bool:
    """As many as desired, all of them in service, nothing being replaced: then one may be replaced."""
    active = turn.active()
    return len(active) == turn.group.desired and all(one.state == "InService" and not one.replaces for one in active)


def lifetime(turn: Turn) -> float | None:
    """Replace what is too old, about a tenth of the group at a time."""
    life = turn.group.max_lifetime_s
    if not life or turn.group.deleting or turn.refresh() is not None or not turn.allows("Terminate"):
        return None
    active = turn.active()
    old = [one for one in active if turn.now >= one.created + life]
    at_once = max(1, len(active) * limits.REPLACED_AT_ONCE_PERCENT // 100)
    wakes = [one.created + life for one in active if turn.now < one.created + life]
    if old and is_settled(turn) and turn.allows("Launch"):
        begun = [replace_one(turn, member, texts.LIFETIME) for member in old[:at_once]]
        again = next_try(turn)
        if again is not None and not all(begun):
            wakes.append(again)
    return min(wakes, default=None)


def balance(turn: Turn) -> float | None:
    """Move one instance from the fullest zone (or one that the group has left) to the emptiest."""
    group = turn.group
    open_to_it = turn.allows("AZRebalance") and turn.allows("Launch") and turn.allows("Terminate")
    if not open_to_it or group.deleting or turn.refresh() is not None or not is_settled(turn):
        return None
    active = turn.active()
    held = counts(group, active)
    strays = [one for one in active if one.zone not in group.zones]
    most = max((held[zone] for zone in group.zones), default=0)
    full = not strays and len(active) >= group.max_size
    wakes = []
    for zone in sorted(group.zones, key=lambda one: held[one]):
        if not strays and most - held[zone] < 2:
            break
        trusted = trusted_from(group, zone, full)
        if trusted > turn.now:
            wakes.append(trusted)
            continue
        victim = select(group, strays or [one for one in active if held[one.zone] == most], turn.now)
        kind = warm_type(group, group.types or [""], zone, turn.now)
        if victim is not None and kind is not None:
            replace_one(turn, victim, _uneven(turn, held), (zone, kind))
        return None
    return min(wakes, default=None)


def _uneven(turn: Turn, held: dict[str, int]) -> str:
    zones, numbers = ", ".join(held), ", ".join(str(count) for count in held.values())
    return f"availability zones {zones} having {numbers} instances respectively, to aid in balancing the group's zones"
