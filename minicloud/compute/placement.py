"""Where instances go: fleet + request -> Placement or Rejection. Changes nothing; the caller reserves what it accepts.

    what can be asked, strategies, groups    request.py
    why not, host by host                    rejection.py
    the hosts and what is reserved on them   fleet.py, columns.py
    the fullest host that has room           ranking.py       (binpack: some 20 us, whatever the size of the fleet)
    spread, placement groups                 lanes.py, grouping.py

The choice depends on the fleet's content and the request alone: not on the order in which hosts joined, not on chance,
not on the process. A batch gets the hosts that its instances would get one by one.
"""

from __future__ import annotations

import numpy as np

from minicloud.compute.columns import CORDONED, NEVER, OPEN, Ints, Slots, room_of, to_units
from minicloud.compute.fleet import Fleet, HostView
from minicloud.compute.grouping import Grouping
from minicloud.compute.lanes import Lanes
from minicloud.compute.rejection import Census, Dimension, Failure, HostRejection, Rejection
from minicloud.compute.request import GroupKind, GroupMember, Placement, PlacementRequest, Spot, Strategy, kind_of

__all__ = [
    "place",
    "Fleet",
    "HostView",
    "PlacementRequest",
    "Strategy",
    "GroupKind",
    "GroupMember",
    "Placement",
    "Spot",
    "Rejection",
    "HostRejection",
    "Failure",
    "Dimension",
]


def place(fleet: Fleet, request: PlacementRequest) -> Placement | Rejection:
    """Where up to `count_max` instances go, or why there is not even room for `count_min`."""
    if request.group is not None or request.strategy == "spread" or request.host_id is not None:
        return _place_in_view(fleet, request)
    if request.count_max > 1:
        return _fill(fleet, request)
    slot = fleet.rankings.best(to_units(request.shape), kind_of(request))
    if slot is None:
        return Rejection(request, 0, Census(fleet, request), Grouping(request))
    view = fleet.at(slot).view
    return Placement((Spot(view.host_id, view.zone),))


def _fill(fleet: Fleet, request: PlacementRequest) -> Placement | Rejection:
    """Binpack a batch: the first host in the order stays first until it is full, so each is filled at one go."""
    need, rankings = to_units(request.shape), fleet.rankings
    keys = rankings.keys(need, kind_of(request))
    taken: dict[int, int] = {}
    spots: list[Spot] = []
    while len(spots) < request.count_max and (slot := rankings.first(keys)) is not None:
        host = fleet.at(slot)
        taken[slot] = room_of(host.free, need, request.count_max - len(spots))
        spots += [Spot(host.view.host_id, host.view.zone)] * taken[slot]
        keys[slot] = NEVER
    if len(spots) < request.count_min:
        return Rejection(request, len(spots), Census(fleet, request, taken), Grouping(request))
    return Placement(tuple(spots))


def _place_in_view(fleet: Fleet, request: PlacementRequest) -> Placement | Rejection:
    lanes = Lanes(fleet, request, *_candidates(fleet, request))
    spots = lanes.choose()
    if len(spots) < request.count_min:
        return Rejection(request, len(spots), Census(fleet, request, lanes.taken), lanes.grouping)
    return Placement(tuple(spots))


def _candidates(fleet: Fleet, request: PlacementRequest) -> tuple[Slots, Ints]:
    """The slots that could take one instance if it were not for a group, and their ranks."""
    need, wanted = to_units(request.shape), kind_of(request)
    if request.host_id is None:
        keys = fleet.rankings.keys(need, wanted)
        slots = np.flatnonzero(keys != NEVER)
        return slots, keys[slots]
    slots = np.empty(0, np.intp)
    if request.host_id in fleet:
        slot = fleet.slot(request.host_id)
        host = fleet.at(slot)
        admitted = host.state == OPEN or (request.restart and host.state == CORDONED)
        if admitted and host.kind.matches(wanted) and room_of(host.free, need, 1) > 0:
            slots = np.array([slot])
    return slots, np.array([fleet.at(slot).rank for slot in slots.tolist()], np.int64)
