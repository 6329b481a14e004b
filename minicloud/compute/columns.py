"""The facts of hosts that a search reads, one numpy column each, one slot per host; and the order of hosts.

The order is one integer per host, its *rank*, fullest first:

    rank = slack << 43 | tie

`slack` is the sum, over the resources that the host has, of the free share in 1/32768ths; a host of which nothing is
used comes after every host that is in use, and a host with GPUs after every host without: else work that needs none
fills it, and its GPUs can no longer be sold (who does need GPUs sees only such hosts). `tie` is a hash of the host id.

So the order is total, does not depend on who joined first, and does not depend on the request: only whether a host fits
does. That is what makes the search cheap (`ranking.py`) and a batch exact: a host that has just been filled further is
still first in the order.

Amounts are integers, vCPUs and GPUs in ten-thousandths, which is the grain of Ray's own ledger: sums never drift, and
what fits here fits there. What neither column nor ledger says is which GPU a fraction came from.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from minicloud.base.shape import Shape

Ints: TypeAlias = npt.NDArray[np.int64]
Slots: TypeAlias = npt.NDArray[np.intp]
Units: TypeAlias = tuple[int, int, int, int]

GRAIN = 10_000  # Ray's FixedPoint keeps resources in 1/10000
SHARE = 1 << 15
EMPTY = 1 << 18  # above the largest sum of four free shares
HAS_GPUS = 1 << 19
TIE_BITS = 43
TIE_MASK = (1 << TIE_BITS) - 1
NEVER = 2**63 - 1  # the rank of a host that cannot be used
NO_KIND = 0
OPEN, CORDONED, AWAY = 0, 1, 2  # the states of a host
_CHANGES_KEPT = 4096
_SLOTS_FIRST = 64


class Kind(NamedTuple):
    """What hosts have in common beyond their numbers."""

    zone: str
    arch: str
    gpu_name: str

    def matches(self, other: Kind) -> bool:
        """Whether a host of this kind may serve who asks for `other`; there, an empty word asks for nothing."""
        return (
            other.zone in ("", self.zone)
            and other.arch in ("", self.arch)
            and (not other.gpu_name or not self.gpu_name or other.gpu_name == self.gpu_name)
        )


@functools.lru_cache(maxsize=4096)
def to_units(shape: Shape) -> Units:
    """A shape in the fleet's integers; shapes are few and asked for often."""
    return round(shape.vcpus * GRAIN), shape.memory_mib, round(shape.gpus * GRAIN), shape.disk_gib


def to_shape(units: Units | list[int]) -> Shape:
    vcpus, memory_mib, gpus, disk_gib = units
    return Shape(vcpus / GRAIN, memory_mib, gpus / GRAIN, disk_gib)


def slack_of(free: Sequence[int], total: Units) -> int:
    """How empty a host is; see the top of this file."""
    slack, used = HAS_GPUS if total[2] > 0 else 0, False
    for left, whole in zip(free, total, strict=True):
        if left < whole:
            used = True
            slack += left * SHARE // whole if left > 0 else 0
        elif whole:
            slack += SHARE
    return slack if used else slack + EMPTY


def room_of(free: Sequence[int], need: Units, most: int) -> int:
    """How many instances of a need fit into what is free, `most` at the most."""
    return max(0, min([most, *(left // amount for left, amount in zip(free, need, strict=True) if amount > 0)]))


class Changes:
    """Which slots changed, in order. The last few thousand are kept; who is further behind must start over."""

    def __init__(self, kept: int = _CHANGES_KEPT) -> None:
        self._log: Slots = np.empty(2 * kept, np.intp)
        self._kept = kept
        self._base = 0
        self.end = 0

    def add(self, slot: int) -> None:
        at = self.end - self._base
        if at == len(self._log):
            self._log[: self._kept] = self._log[self._kept :]
            self._base += self._kept
            at = self._kept
        self._log[at] = slot
        self.end += 1

    def since(self, end: int) -> Slots | None:
        """The slots changed after `end` (with repeats), or None if that is no longer known."""
        return None if end < self._base else self._log[end - self._base : self.end - self._base]


class Columns:
    """Per slot: `ids`, `free` (vCPUs, memory, GPUs, disk; see `to_units`), `rank`, `state`, `kind` (index of `kinds`).

    A vacant slot has the kind NO_KIND and the rank NEVER. Every change of a slot is told to `changes`.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.kinds: list[Kind] = [Kind("", "", "")]
        self.changes = Changes()
        self.ties_shared = False
        """Whether the ties of two hosts ever collided; then their ids decide."""
        self._codes: dict[Kind, int] = {}
        self._allot(_SLOTS_FIRST)

    def _allot(self, slots: int) -> None:
        self.free: tuple[Ints, ...] = tuple(np.zeros(slots, np.int64) for _ in range(4))
        self.rank: Ints = np.full(slots, NEVER, np.int64)
        self.state: npt.NDArray[np.uint8] = np.full(slots, AWAY, np.uint8)
        self.kind: Slots = np.full(slots, NO_KIND, np.intp)

    def _all(self) -> tuple[npt.NDArray[Any], ...]:
        return (*self.free, self.rank, self.state, self.kind)

    def add(self) -> int:
        """A fresh, vacant slot. Amortised O(1): room doubles."""
        slot = len(self.ids)
        self.ids.append("")
        if slot == len(self.rank):
            before = self._all()
            self._allot(2 * slot)
            for new, old in zip(self._all(), before, strict=True):
                new[:slot] = old
        return slot

    def room(self, slots: Slots, need: Units, most: int) -> Ints:
        """How many instances of a need each slot can take, `most` at the most."""
        room = np.full(len(slots), most, np.int64)
        for dimension, amount in enumerate(need):
            if amount > 0:
                np.minimum(room, self.free[dimension][slots] // amount, out=room)
        return np.maximum(room, 0)

    def code(self, kind: Kind) -> int:
        """The index of a kind; new kinds get one."""
        code = self._codes.get(kind)
        if code is None:
            code = self._codes[kind] = len(self.kinds)
            self.kinds.append(kind)
        return code

    def vacate(self, slot: int) -> None:
        self.ids[slot] = ""
        self.kind[slot], self.rank[slot] = NO_KIND, NEVER
        self.changes.add(slot)
