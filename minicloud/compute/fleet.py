"""The hosts as placement sees them, and what is reserved on them; changed in place, each change O(1).

The fleet keeps the books (`reserve`, `release`, `upsert`, `remove`) in plain integers and mirrors them into numpy
columns (`columns.py`) for the search. It decides nothing and refuses nothing that is a fact: a host that comes back
smaller than what runs on it has less than nothing free, and gets no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from minicloud.base.errors import NotFound
from minicloud.base.shape import Shape
from minicloud.compute.columns import (
    AWAY,
    CORDONED,
    NEVER,
    OPEN,
    TIE_BITS,
    TIE_MASK,
    Columns,
    Kind,
    Units,
    slack_of,
    to_shape,
    to_units,
)
from minicloud.compute.ranking import Rankings


@dataclass(frozen=True, slots=True)
class HostView:
    """What placement must know of a host.

    `total` is after overcommit. `used` None: what the fleet's own books say (a new host: nothing). `schedulable` is
    false while a host is lost, joining or leaving; `cordoned` is the operator's word. `gpu_name` empty: the host does
    not say, and any model may be placed on it.
    """

    host_id: str
    zone: str
    arch: str
    total: Shape
    used: Shape | None = None
    cordoned: bool = False
    schedulable: bool = True
    gpu_name: str = ""


def stable_tie(host_id: str) -> int:
    """43 bits that depend on the host id alone, in every process and on every machine."""
    return int.from_bytes(blake2b(host_id.encode(), digest_size=8).digest()) & TIE_MASK


@dataclass(slots=True)
class HostState:
    """The exact state of one slot, in plain integers; the columns mirror it."""

    view: HostView
    total: Units
    free: list[int]
    tie: int
    state: int

    @property
    def kind(self) -> Kind:
        return Kind(self.view.zone, self.view.arch, self.view.gpu_name)

    @property
    def rank(self) -> int:
        """The host's place in the order, whether it is open or not."""
        return slack_of(self.free, self.total) << TIE_BITS | self.tie


class Fleet:
    """Hosts and what is reserved on them. Every change costs O(1); nothing here decides.

    `tie` gives each host its place among equals; only tests pass their own.
    """

    def __init__(self, tie: Callable[[str], int] = stable_tie) -> None:
        self._tie = tie
        self._slots: dict[str, int] = {}
        self._vacant: list[int] = []
        self._hosts: list[HostState | None] = []
        self._ties: dict[int, str] = {}
        self.columns = Columns()
        self.rankings = Rankings(self.columns)
        self.vcpus_used: Counter[str] = Counter()
        """By zone, in ten-thousandths."""

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, host_id: object) -> bool:
        return host_id in self._slots

    def slot(self, host_id: str) -> int:
        """Raises NotFound."""
        found = self._slots.get(host_id)
        if found is None:
            raise NotFound(f"The host '{host_id}' does not exist.", code="InvalidHostID.NotFound", field="host_id")
        return found

    def host(self, host_id: str) -> HostView:
        """The host with what is used of it now. Raises NotFound."""
        host = self.at(self.slot(host_id))
        return replace(host.view, used=to_shape(_minus(host.total, host.free)))

    def at(self, slot: int) -> HostState:
        host = self._hosts[slot]
        assert host is not None, f"slot {slot} is vacant"
        return host

    def upsert(self, view: HostView) -> None:
        """Add a host, or make a known one true again: capacity, state, use."""
        slot = self._slots.get(view.host_id)
        if slot is None:
            slot = self._occupy(view)
        elif view.used is None and view == self.at(slot).view:
            return  # a heartbeat that says nothing new
        host, total = self.at(slot), to_units(view.total)
        used = _minus(host.total, host.free) if view.used is None else to_units(view.used)
        self._count(host, -1)
        host.view, host.total, host.free = view, total, list(_minus(total, used))
        self._count(host, 1)
        host.state = AWAY if not view.schedulable else CORDONED if view.cordoned else OPEN
        self.columns.kind[slot] = self.columns.code(host.kind)
        self.columns.state[slot] = host.state
        for column, left in zip(self.columns.free, host.free, strict=True):
            column[slot] = left
        self._touch(slot, host)

    def remove(self, host_id: str) -> None:
        """Forget a host and its reservations. Raises NotFound."""
        slot = self.slot(host_id)
        host = self.at(slot)
        self._count(host, -1)
        del self._slots[host_id]
        self._hosts[slot] = None
        self._vacant.append(slot)
        self._ties.pop(host.tie, None)
        self.columns.vacate(slot)

    def reserve(self, host_id: str, shape: Shape, count: int = 1) -> None:
        """Take `count` instances of a shape from a host. Never refuses: free goes below zero where facts say so
        (a host came back smaller). Raises NotFound."""
        self._move(host_id, to_units(shape), count)

    def release(self, host_id: str, shape: Shape, count: int = 1) -> None:
        """Give back what `reserve` took. Raises NotFound."""
        self._move(host_id, to_units(shape), -count)

    def _move(self, host_id: str, need: Units, count: int) -> None:
        slot = self.slot(host_id)
        host = self.at(slot)
        free, columns = host.free, self.columns.free
        for dimension, amount in enumerate(need):
            if amount:
                free[dimension] -= amount * count
                columns[dimension][slot] = free[dimension]
        self.vcpus_used[host.view.zone] += need[0] * count
        self._touch(slot, host)

    def _count(self, host: HostState, sign: int) -> None:
        self.vcpus_used[host.view.zone] += sign * (host.total[0] - host.free[0])

    def _touch(self, slot: int, host: HostState) -> None:
        self.columns.rank[slot] = host.rank if host.state == OPEN else NEVER
        self.columns.changes.add(slot)

    def _occupy(self, view: HostView) -> int:
        if self._vacant:
            slot = self._vacant.pop()
        else:
            slot = self.columns.add()
            self._hosts.append(None)
        total, tie = to_units(view.total), self._tie(view.host_id) & TIE_MASK
        self._hosts[slot] = HostState(view, total, list(total), tie, AWAY)
        self._slots[view.host_id] = slot
        self.columns.ids[slot] = view.host_id
        self.columns.ties_shared |= self._ties.setdefault(tie, view.host_id) != view.host_id
        return slot


def _minus(total: Sequence[int], part: Sequence[int]) -> Units:
    vcpus, memory, gpus, disk = (whole - some for whole, some in zip(total, part, strict=True))
    return vcpus, memory, gpus, disk
