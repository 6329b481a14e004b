"""Desired against actual: launch what is missing, end what is too many, keep the warm pool."""

from __future__ import annotations

from minicloud.scaling import moves, texts
from minicloud.scaling.lifecycle import ASIDE, READY, WARM
from minicloud.scaling.model import Member
from minicloud.scaling.places import choose, counts, next_try, room_for_launches
from minicloud.scaling.replacing import is_stale
from minicloud.scaling.state import Turn
from minicloud.scaling.termination import select


def size(turn: Turn) -> float | None:
    base = turn.base()
    wanted = turn.group.desired
    if len(base) == wanted:
        if turn.group.cause:
            turn.change(cause="")
        return None
    if len(base) > wanted:
        _shrink(turn, base, wanted)
        return None
    return _grow(turn, base, wanted)


def _shrink(turn: Turn, base: list[Member], wanted: int) -> None:
    if not turn.allows("Terminate"):
        return
    for count in range(len(base), wanted, -1):
        victim = select(turn.group, base, turn.now)
        if victim is None:
            return
        base.remove(victim)
        cause = texts.joined(turn.group.cause, texts.shrunk(turn.now, count, count - 1, victim.instance_id))
        if _goes_back(turn, victim):
            moves.give_back(turn, victim, cause)
        else:
            moves.terminate(turn, victim, cause)


def _goes_back(turn: Turn, member: Member) -> bool:
    """Into the warm pool, where that takes back what is sound and has room for it."""
    if not (turn.group.warm or {}).get("reuse_on_scale_in") or not member.plain:
        return False
    return sum(one.state in WARM for one in turn.members.values()) < warm_target(turn, fewer=1)


def _grow(turn: Turn, base: list[Member], wanted: int) -> float | None:
    """Out of the warm pool first; then launches, as far as maximum and back-off allow. Returns when to go on."""
    if not turn.allows("Launch"):
        return None
    held = counts(turn.group, turn.active())
    missing = min(wanted - len(base), turn.group.max_size - sum(held.values()))
    count = len(base)
    for member in _prepared(turn)[: max(0, missing)]:
        moves.enter(turn, member, _cause(turn, count))
        count, missing = count + 1, missing - 1
        held[member.zone] = held.get(member.zone, 0) + 1
    for _ in range(min(missing, room_for_launches(turn))):
        place = choose(turn, held)
        if place is None:
            break
        moves.launch(turn, place, _cause(turn, count))
        held[place[0]] += 1
        count, missing = count + 1, missing - 1
    return next_try(turn) if missing > 0 else None


def _cause(turn: Turn, count: int) -> str:
    because = texts.grown(turn.now, count, count + 1)
    return texts.joined(turn.group.cause or texts.replaced_unhealthy(turn.now), because)


def _prepared(turn: Turn) -> list[Member]:
    """Members of the warm pool that are ready, the oldest first; none that a refresh would replace right away."""
    found = [one for one in turn.members.values() if one.state in READY and not is_stale(turn, one)]
    return sorted(found, key=lambda one: one.number)


# --- the warm pool


def warm_target(turn: Turn, fewer: int = 0) -> int:
    """How many instances the pool should hold, once there are so many fewer in the group."""
    pool = turn.group.warm
    if pool is None or turn.group.deleting:
        return 0
    aside = sum(one.state in ASIDE for one in turn.members.values())
    most = turn.group.max_size if pool.get("max_prepared") is None else int(pool["max_prepared"])
    return max(int(pool.get("min_size", 0)), most - len(turn.active()) + fewer - aside, 0)


def warm(turn: Turn) -> float | None:
    """Fill the pool when the group itself has what it wants; end what is too much in it."""
    pool = sorted(
        (one for one in turn.members.values() if one.state in WARM), key=lambda one: (one.until is None, -one.number)
    )
    wanted = warm_target(turn)
    for member in pool[: max(0, len(pool) - wanted)]:
        if turn.allows("Terminate") or turn.group.deleting:
            moves.terminate(turn, member, texts.unhealthy(turn.now, "the warm pool being larger than it should be"))
    if len(pool) >= wanted or not turn.allows("Launch") or len(turn.base()) < turn.group.desired:
        return None
    held = counts(turn.group, pool)
    missing = wanted - len(pool)
    for _ in range(min(missing, room_for_launches(turn))):
        place = choose(turn, held)
        if place is None:
            break
        moves.launch(
            turn, place, f"At {texts.stamp(turn.now)} an instance was launched into the warm pool.", warmed=True
        )
        held[place[0]] += 1
        missing -= 1
    return next_try(turn) if missing else None
