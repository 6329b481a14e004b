"""Placement in view of others: the strategy `spread` and the placement groups.

A *lane* is a host that could take the next instance; in a partition group, a host together with a partition that it
could serve. Lanes are numpy columns. The best lane is found by narrowing: of all open lanes keep those that are lowest
in the first respect, of these those lowest in the second, and so on; the last respect is the host's tie, so one is
left. The respects, in order (in brackets: where they apply):

    1. cluster, first of a batch: how few of the batch the zone could take
    2. spread: members in the zone, vCPUs in use in the zone, the zone's own tie (group spread: members in the zone)
    3. partition group: members of the partition in this zone, the partition's number
    4. cluster: members on the host (most first), how many of the batch the host could take (most first)
    5. binpack: slack; spread: members on the host, then slack, most first

One choice costs O(hosts). The fast path, binpack without a group, is in `placement.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from minicloud.base.limits import SPREAD_PER_ZONE_MAX
from minicloud.compute.columns import SLACK_MAX, Ints, Slots, slack_of, to_units
from minicloud.compute.fleet import Fleet, stable_tie
from minicloud.compute.grouping import Grouping
from minicloud.compute.request import PlacementRequest, Spot

Respect = Callable[[Slots], npt.NDArray[np.int64]]


class Lanes:
    """The lanes of one request over the slots that have room for one instance at least, and the choices made so far."""

    def __init__(self, fleet: Fleet, request: PlacementRequest, slots: Slots) -> None:
        self._fleet, self._request = fleet, request
        self._need = to_units(request.shape)
        self.grouping = Grouping(request)
        self.taken: Counter[int] = Counter()
        partitions, slots = self._partitions(slots)
        self._slot, self._partition = slots, partitions
        self._zones, self._zone = self._by_zone(slots)
        self._tie = fleet.columns.tie[slots]
        self._slack = np.array([slack_of(*fleet.books(slot)) for slot in slots.tolist()], np.int64)
        self._room = fleet.room(slots, self._need, request.count_max)
        self._members = self._on_hosts(self.grouping.by_host)
        self._in_zone = np.array([self.grouping.by_zone[zone] for zone in self._zones], np.int64)
        self._vcpus = np.array([fleet.vcpus_used[zone] for zone in self._zones], np.int64)
        ...
