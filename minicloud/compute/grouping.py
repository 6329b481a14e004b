"""The books of one placement group: who is where, and what its rule says to a host. Plain dicts; groups are small."""

from __future__ import annotations

from collections import Counter

from minicloud.base.limits import SPREAD_PER_ZONE_MAX
from minicloud.compute.request import GroupMember, PlacementRequest, Spot


class Grouping:
    """The members of a request, and the spots it has been given so far.

    Invariant of partition groups: a host has one owner. Should members on one host ever disagree (a host id was used
    again), the lowest partition owns it.
    """

    def __init__(self, request: PlacementRequest) -> None:
        self._kind = request.group
        self._wanted = request.partition
        self.by_host: Counter[str] = Counter()
        self.by_zone: Counter[str] = Counter()
        self.by_partition: Counter[tuple[str, int]] = Counter()
        self.owner: dict[str, int] = {}
        for member in request.members:
            self.add(member)

    def add(self, member: GroupMember | Spot) -> None:
        host_id, zone, partition = member
        self.by_host[host_id] += 1
        self.by_zone[zone] += 1
        if partition:
            self.by_partition[zone, partition] += 1
            self.owner[host_id] = min(partition, self.owner.get(host_id, partition))

    def refusal(self, host_id: str, zone: str) -> str:
        """Why the group's rule keeps the next instance off a host; empty if it does not."""
        if self._kind == "cluster" and self.by_zone and not self.by_zone[zone]:
            return f"the group is in zone {min(self.by_zone)}"
        if self._kind == "spread" and self.by_host[host_id]:
            return "it has a member of the group already"
        if self._kind == "spread" and self.by_zone[zone] >= SPREAD_PER_ZONE_MAX:
            return f"zone {zone} has {self.by_zone[zone]} members of the group, the most is {SPREAD_PER_ZONE_MAX}"
        owner = self.owner.get(host_id, self._wanted)
        if self._kind == "partition" and self._wanted and owner != self._wanted:
            return f"it belongs to partition {owner}"
        return ""
