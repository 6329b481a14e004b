"""Placement in view of others: the strategy `spread` and the placement groups.

A *lane* is a host that could take the next instance; in a partition group, a host together with a partition that it
could serve. Lanes are numpy columns. The best lane is found by narrowing: of all open lanes keep those that are lowest
in the first respect, of these those lowest in the second, and so on; the last respect is the host's tie, so one is
left. The respects, in order (before the colon: where they apply):

    1. cluster group, first of a batch: how many of the batch the zone could take, most first
    2. spread: members in the zone, vCPUs in use in the zone, the zone's own tie; group spread: members in the zone
    3. partition group: members of the partition in this zone, the partition's number
    4. cluster group: members on the host, most first; how many of the batch the host could take, most first
    5. spread: members on the host, whether it has GPUs, slack, most first; binpack: slack, which has the GPUs in it

One choice costs O(hosts). The fast path, binpack without a group, is in `placement.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from minicloud.base.limits import SPREAD_PER_ZONE_MAX
from minicloud.compute.columns import HAS_GPUS, TIE_BITS, TIE_MASK, Ints, Slots, slack_of, to_units
from minicloud.compute.fleet import Fleet, stable_tie
from minicloud.compute.grouping import Grouping
from minicloud.compute.request import PlacementRequest, Spot

Respect = Callable[[Slots], Ints]  # lanes (indexes) -> a number each, low is good


class Lanes:
    """The lanes of one request over the slots that have room for one instance at least, and the choices made so far.

    `ranks` are the slots' ranks. `grouping` and `taken` (instances by slot) tell afterwards what was chosen.
    """

    def __init__(self, fleet: Fleet, request: PlacementRequest, slots: Slots, ranks: Ints) -> None:
        self._fleet, self._request = fleet, request
        self._need = to_units(request.shape)
        self.grouping = Grouping(request)
        self.taken: dict[int, int] = {}
        columns = fleet.columns
        at, self._partition = self._serve(self._by_slot(self.grouping.owner)[slots])
        self._slot = slots[at]
        self._slack, self._tie = ranks[at] >> TIE_BITS, ranks[at] & TIE_MASK
        self._room = columns.room(self._slot, self._need, request.count_max)
        self._members = self._by_slot(self.grouping.by_host)[self._slot]
        self._zones = sorted({kind.zone for kind in columns.kinds}, key=lambda zone: (stable_tie(zone), zone))
        number = {zone: index for index, zone in enumerate(self._zones)}
        self._zone = np.array([number[kind.zone] for kind in columns.kinds])[columns.kind[self._slot]]
        self._in_zone = np.array([self.grouping.by_zone[zone] for zone in self._zones])
        self._vcpus = np.array([fleet.vcpus_used[zone] for zone in self._zones])
        self._in_partition = np.array(
            [[self.grouping.by_partition[zone, p] for p in range(request.partitions + 1)] for zone in self._zones]
        )
        self._open = np.ones(len(self._slot), np.bool_)
        self._shut()

    def choose(self) -> list[Spot]:
        """Up to `count_max` spots, best first."""
        spots: list[Spot] = []
        while len(spots) < self._request.count_max:
            lane = self._best(self._request.count_max - len(spots))
            if lane is None:
                break
            spots.append(self._take(lane))
        return spots

    def _by_slot(self, numbers: Mapping[str, int]) -> Ints:
        column = np.zeros(len(self._fleet.columns.rank), np.int64)
        for host_id, number in numbers.items():
            if host_id in self._fleet:
                column[self._fleet.slot(host_id)] = number
        return column

    def _serve(self, owner: Ints) -> tuple[Slots, Ints]:
        """The lanes as (index into the slots, partition): a host serves its owner, or if it has none, any."""
        request = self._request
        if request.group != "partition":
            return np.arange(len(owner)), np.zeros(len(owner), np.int64)
        wanted = [request.partition] if request.partition else range(1, request.partitions + 1)
        serves = [np.flatnonzero((owner == 0) | (owner == partition)) for partition in wanted]
        partitions = [np.full(len(at), partition) for at, partition in zip(serves, wanted, strict=True)]
        return np.concatenate(serves), np.concatenate(partitions)

    def _shut(self) -> None:
        """Close the lanes that the group's rule closes now."""
        if self._request.group == "cluster" and self.grouping.by_zone:
            self._open &= self._in_zone[self._zone] > 0
        elif self._request.group == "spread":
            self._open &= (self._members == 0) & (self._in_zone[self._zone] < SPREAD_PER_ZONE_MAX)

    def _best(self, left: int) -> int | None:
        lanes = np.flatnonzero(self._open)
        for respect in self._respects(left):
            if len(lanes) <= 1:
                break
            numbers = respect(lanes)
            lanes = lanes[numbers == numbers.min()]
        ids = self._fleet.columns.ids
        return min(lanes.tolist(), key=lambda lane: ids[self._slot[lane]], default=None)

    def _respects(self, left: int) -> Iterator[Respect]:
        group, spread = self._request.group, self._request.strategy == "spread"
        if group == "cluster" and not self.grouping.by_zone:
            takes = self._zones_take(left)
            yield lambda lanes: -takes[self._zone[lanes]]
        if spread or group == "spread":
            yield lambda lanes: self._in_zone[self._zone[lanes]]
        if spread:
            yield lambda lanes: self._vcpus[self._zone[lanes]]
            yield lambda lanes: self._zone[lanes]
        if group == "partition":
            yield lambda lanes: self._in_partition[self._zone[lanes], self._partition[lanes]]
            yield lambda lanes: self._partition[lanes]
        if group == "cluster":
            yield lambda lanes: -self._members[lanes]
            yield lambda lanes: -np.minimum(self._room[lanes], left)
        if spread:
            yield lambda lanes: self._members[lanes]
            yield lambda lanes: self._slack[lanes] & HAS_GPUS
        yield lambda lanes: -self._slack[lanes] if spread else self._slack[lanes]
        yield lambda lanes: self._tie[lanes]

    def _zones_take(self, left: int) -> Ints:
        takes = np.zeros(len(self._zones), np.int64)
        np.add.at(takes, self._zone[self._open], self._room[self._open])
        return np.minimum(takes, left)

    def _take(self, lane: int) -> Spot:
        slot, zone, partition = int(self._slot[lane]), int(self._zone[lane]), int(self._partition[lane])
        spot = Spot(self._fleet.columns.ids[slot], self._zones[zone], partition)
        self.grouping.add(spot)
        taken = self.taken[slot] = self.taken.get(slot, 0) + 1
        host = self._fleet.at(slot)
        free = [left - amount * taken for left, amount in zip(host.free, self._need, strict=True)]
        same = np.flatnonzero(self._slot == slot)
        self._slack[same] = slack_of(free, host.total)
        self._room[same] -= 1
        self._members[same] += 1
        self._in_zone[zone] += 1
        self._vcpus[zone] += self._need[0]
        self._in_partition[zone, partition] += 1
        self._open[same] &= (self._room[same] > 0) & (self._partition[same] == partition)
        self._shut()
        return spot
