"""How policies become one capacity: the group takes the larger of dynamic and predictive.

After the EC2 Auto Scaling User Guide, "Multiple dynamic scaling policies" and "How predictive scaling works":

- when several policies want more, the one that wants most wins;
- a scale-in happens only if no policy wants more and every target tracking policy that may scale in wants less; then
  the one that keeps most wins;
- the forecast's floor lies under all of it, so a scale-in stops there, and it alone may raise the group;
- min and max bound the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from minicloud.scaling.predictive import Floor
from minicloud.scaling.tracking import Proposal


@dataclass(frozen=True, slots=True)
class Decision:
    """The capacity to have, the maximum to have it under, and who said so (policy "": nobody changed anything)."""

    desired: int
    max_size: int
    policy: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    desired: int
    min_size: int
    max_size: int


def combine(
    bounds: Bounds, proposals: Sequence[Proposal], trackers: int, floors: Sequence[tuple[str, Floor]] = ()
) -> Decision:
    """`trackers` counts the target tracking policies that may scale in; a policy that has nothing to say gives none."""
    best, reason, policy = bounds.desired, "", ""
    chosen = _dynamic(bounds.desired, proposals, trackers)
    if chosen is not None:
        best, policy, reason = chosen.capacity, chosen.policy, chosen.reason
    max_size = max([bounds.max_size, *(floor.max_size for _, floor in floors)])
    for name, floor in floors:
        if floor.capacity > best:
            best, policy, reason = floor.capacity, name, f"the forecast asks for {floor.capacity}"
    best = max(bounds.min_size, min(best, max_size))
    if best == bounds.desired:
        policy = reason = ""
    return Decision(best, max_size, policy, reason)


def _dynamic(desired: int, proposals: Sequence[Proposal], trackers: int) -> Proposal | None:
    more = [one for one in proposals if one.capacity > desired]
    if more:
        return max(more, key=lambda one: one.capacity)
    less = [one for one in proposals if one.capacity < desired]
    if not less or sum(one.tracking for one in less) < trackers:
        return None
    return max(less, key=lambda one: one.capacity)
