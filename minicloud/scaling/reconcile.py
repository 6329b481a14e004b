"""The reconciler: a group as it is and as it should be, and the small steps from one to the other.

Each step looks at one condition, does what is missing, and returns when time alone would make it act again. Steps are
repeated until none of them changes anything; the earliest of their times becomes the group's `wake`. They are a
function of the group's records and the clock alone, so it does not matter what woke the reconciler, or how often.

A group in which nothing is odd (every member plain, as many as desired, zones even, nothing under way) is seen to be so
from counts that the indexes keep: O(zones), whatever its size.
"""

from __future__ import annotations

from collections.abc import Callable

from minicloud.scaling import moves, refreshing, replacing, sizing, texts
from minicloud.scaling.lifecycle import ACTIVE, LEAVING
from minicloud.scaling.model import Group, Member
from minicloud.scaling.places import settle_failures
from minicloud.scaling.state import Roster, Turn

ROUNDS_MAX = 8  # a step that never settles would be a bug; rather stop than spin
PAUSE_S_MIN = 0.05  # no wake is sooner than this


def is_quiet(group: Group, roster: Roster | None, now: float) -> bool:
    """Nothing to do until something happens."""
    if group.wake is not None and group.wake <= now:
        return False
    plain = roster.plain if roster is not None else {}
    if roster is not None and roster.odd:
        return False
    if group.refresh or group.deleting or group.warm is not None or group.cause or sum(plain.values()) != group.desired:
        return False
    zones = group.zones
    least = min(plain.get(zone, 0) for zone in zones)
    return all(zone in zones for zone in plain) and max(plain.values(), default=0) - least < 2


def settle(turn: Turn) -> None:
    """Take every step that can be taken now, and say when to look again."""
    wakes: list[float] = []
    for _ in range(ROUNDS_MAX):
        before = turn.changes
        wakes = [wake for step in STEPS if (wake := step(turn)) is not None]
        if turn.changes == before:
            break
    if turn.group.deleting and not turn.members and turn.is_told():
        turn.end()
        return
    wake = min(wakes, default=None)
    turn.change(wake=None if wake is None else max(wake, turn.now + PAUSE_S_MIN))


def _advance(turn: Turn) -> float | None:
    wakes = [moves.advance(turn, member) for member in _ordered(turn)]
    return min((wake for wake in wakes if wake is not None), default=None)


def _ordered(turn: Turn) -> list[Member]:
    return sorted((one for one in turn.members.values() if not one.plain), key=lambda one: one.number)


def _replace_unhealthy(turn: Turn) -> float | None:
    """End what is unhealthy; the size step launches what is missing then."""
    if not (turn.allows("ReplaceUnhealthy") and turn.allows("Terminate")):
        return None
    wakes = []
    for member in _ordered(turn):
        if member.state not in ACTIVE:
            continue
        reason, after = _trouble(turn, member)
        if after is not None:
            wakes.append(after)
        if reason:
            moves.terminate(turn, member, texts.unhealthy(turn.now, reason))
    return min(wakes, default=None)


def _trouble(turn: Turn, member: Member) -> tuple[str, float | None]:
    """Why a member is unhealthy ("": it is not), or when a grace period ends."""
    if member.unhealthy or not turn.allows("HealthCheck"):
        return member.unhealthy, None
    if member.seen in moves.GONE or (member.seen in moves.DOWN and not member.starting):
        return texts.EC2_CHECK, None
    bad = member.target_bad and "ELB" in turn.group.health_types
    if not (bad or member.impaired) or member.in_service is None:
        return "", None
    after = member.in_service + turn.group.grace_s
    reason = texts.ELB_CHECK if bad else texts.STATUS_CHECK
    return (reason, None) if turn.now >= after else ("", after)


def _delete(turn: Turn) -> None:
    """A group that is being deleted ends everything it has."""
    if turn.group.deleting:
        for member in sorted(turn.members.values(), key=lambda one: one.number):
            if member.state not in LEAVING:
                moves.terminate(turn, member, texts.unhealthy(turn.now, "the deletion of the group"))


STEPS: tuple[Callable[[Turn], float | None], ...] = (
    _delete,
    _advance,
    _replace_unhealthy,
    settle_failures,
    replacing.take_over,
    refreshing.advance,
    sizing.size,
    replacing.lifetime,
    replacing.balance,
    sizing.warm,
)
