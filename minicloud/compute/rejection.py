"""Why a request was not placed: for every host, which dimensions failed, with what was needed and what was there.

A rejection costs a copy of the fleet's columns (some 100 us at 10,000 hosts) and is worked out only when it is read.
Read it as data (`hosts`, `counts`) or as the sentence of an InsufficientInstanceCapacity (`summary`).

The dimensions fall in two: what a host *is* (its id, zone, architecture, state, GPU model) and what it *has left*
(vCPUs, memory, GPUs, disk; and the rule of the placement group). A host fails in every dimension that is listed for it.
In the sentence, each host that is something else is counted once, and the others by what they are short of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from minicloud.base.shape import Shape
from minicloud.compute.columns import CORDONED, GRAIN, NO_KIND, OPEN, Ints, Kind, Slots, to_units
from minicloud.compute.fleet import Fleet
from minicloud.compute.grouping import Grouping
from minicloud.compute.request import PlacementRequest

SUMMARY_CHARS_MAX = 512
Bools: TypeAlias = npt.NDArray[np.bool_]


class Dimension(StrEnum):
    AFFINITY = "affinity"
    ZONE = "zone"
    ARCH = "arch"
    STATE = "state"
    GPU_MODEL = "gpu_model"
    VCPUS = "vcpus"
    MEMORY = "memory"
    GPUS = "gpus"
    DISK = "disk"
    GROUP = "group"


_IDENTITY = (Dimension.AFFINITY, Dimension.ZONE, Dimension.ARCH, Dimension.STATE, Dimension.GPU_MODEL)
_RESOURCES = (Dimension.VCPUS, Dimension.MEMORY, Dimension.GPUS, Dimension.DISK)
_WORDS = {
    Dimension.VCPUS: ("vCPUs", ""),
    Dimension.MEMORY: ("memory", " MiB"),
    Dimension.GPUS: ("GPUs", ""),
    Dimension.DISK: ("disk", " GiB"),
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One dimension of one host. Amounts (vCPUs, MiB, GPUs, GiB) for resources, words for the rest."""

    dimension: Dimension
    needed: float | str
    free: float | str

    def __str__(self) -> str:
        if self.dimension == Dimension.GROUP:
            return f"{self.needed} placement group: {self.free}"
        if self.dimension not in _WORDS:
            return f"{self.dimension}: needs {self.needed}, is {self.free}"
        word, unit = _WORDS[self.dimension]
        return f"{word}: needs {self.needed:.12g}{unit}, free {self.free:.12g}{unit}"


@dataclass(frozen=True, slots=True)
class HostRejection:
    """Why one host cannot take the (next) instance; at least one failure."""

    host_id: str
    zone: str
    failures: tuple[Failure, ...]


class Census:
    """A copy of the facts of every host, less what the request has been given so far (instances by slot)."""

    def __init__(self, fleet: Fleet, request: PlacementRequest, taken: Mapping[int, int] | None = None) -> None:
        columns = fleet.columns
        self._all_ids, self._all_kinds = columns.ids.copy(), columns.kinds.copy()
        self._slots: Slots = np.flatnonzero(columns.kind != NO_KIND)
        self.kind: Slots = columns.kind[self._slots]
        self.state = columns.state[self._slots]
        self.free: list[Ints] = []
        for column, amount in zip(columns.free, to_units(request.shape), strict=True):
            left = column.copy()
            for slot, count in (taken or {}).items():
                left[slot] -= amount * count
            self.free.append(left[self._slots])

    def __len__(self) -> int:
        return len(self._slots)

    @cached_property
    def ids(self) -> list[str]:
        return [self._all_ids[slot] for slot in self._slots.tolist()]

    def kind_of(self, at: int) -> Kind:
        return self._all_kinds[int(self.kind[at])]

    def where_kind(self, holds: Callable[[Kind], bool]) -> Bools:
        return np.array([holds(kind) for kind in self._all_kinds])[self.kind]


@dataclass(frozen=True, eq=False)
class Rejection:
    """No placement. `placed`: for how many of a batch there would have been room."""

    request: PlacementRequest
    placed: int
    census: Census
    grouping: Grouping

    @cached_property
    def hosts(self) -> tuple[HostRejection, ...]:
        """Every host of the fleet, by id."""
        ids, failed = self.census.ids, self._failed
        return tuple(
            HostRejection(
                ids[at],
                self.census.kind_of(at).zone,
                tuple(self._failure(dimension, at) for dimension, mask in failed.items() if mask[at]),
            )
            for at in sorted(range(len(ids)), key=ids.__getitem__)
        )

    @cached_property
    def counts(self) -> dict[Dimension, int]:
        """How many hosts failed in each dimension in which any did."""
        counts = {dimension: int(mask.sum()) for dimension, mask in self._failed.items()}
        return {dimension: count for dimension, count in counts.items() if count}

    def summary(self) -> str:
        """One sentence for the user, at most SUMMARY_CHARS_MAX characters."""
        request = self.request
        article = "one more" if self.placed else "" if request.label else "an"
        name = f"{article} {request.label or 'instance'} ({_shape_words(request.shape)})".strip()
        if request.host_id is not None:
            verdict, parts = f"host {request.host_id} cannot hold", self._of_one_host()
        else:
            verdict, parts = "no host can hold", self._of_all_hosts()
        head = f"{verdict} {_cut(name, SUMMARY_CHARS_MAX // 2)}"
        if self.placed:
            head = f"there is room for {self.placed} of the {request.count_min} instances needed, {head}"
        return _cut(f"{head}: {', '.join(parts)}", SUMMARY_CHARS_MAX)

    @cached_property
    def _failed(self) -> dict[Dimension, Bools]:
        request, census, ids = self.request, self.census, self.census.ids
        masks = {
            Dimension.AFFINITY: np.array([request.host_id not in (None, host_id) for host_id in ids], np.bool_),
            Dimension.ZONE: census.where_kind(lambda kind: request.zone not in (None, kind.zone)),
            Dimension.ARCH: census.where_kind(lambda kind: request.arch not in ("", kind.arch)),
            Dimension.STATE: census.state > (CORDONED if request.restart else OPEN),
            Dimension.GPU_MODEL: census.where_kind(
                lambda kind: bool(kind.gpu_name) and request.gpu_name not in ("", kind.gpu_name)
            ),
        }
        for dimension, amount, free in zip(_RESOURCES, to_units(request.shape), census.free, strict=True):
            masks[dimension] = (free < amount) & (amount > 0)
        refused = [bool(self._refusal(at)) for at in range(len(ids))] if request.group else np.zeros(len(ids))
        masks[Dimension.GROUP] = np.array(refused, np.bool_)
        return masks

    def _refusal(self, at: int) -> str:
        return self.grouping.refusal(self.census.ids[at], self.census.kind_of(at).zone)

    def _failure(self, dimension: Dimension, at: int) -> Failure:
        request, kind = self.request, self.census.kind_of(at)
        if dimension in _RESOURCES:
            return Failure(dimension, *self._amounts(dimension, at))
        needed, found = {
            Dimension.AFFINITY: (request.host_id, self.census.ids[at]),
            Dimension.ZONE: (request.zone, kind.zone),
            Dimension.ARCH: (request.arch, kind.arch),
            Dimension.STATE: ("ready", "cordoned" if self.census.state[at] == CORDONED else "not ready"),
            Dimension.GPU_MODEL: (request.gpu_name, kind.gpu_name),
            Dimension.GROUP: (request.group, self._refusal(at)),
        }[dimension]
        return Failure(dimension, needed or "", found)

    def _amounts(self, dimension: Dimension, at: int) -> tuple[float, float]:
        index = _RESOURCES.index(dimension)
        grain = GRAIN if dimension in (Dimension.VCPUS, Dimension.GPUS) else 1
        return to_units(self.request.shape)[index] / grain, int(self.census.free[index][at]) / grain

    def _of_one_host(self) -> list[str]:
        if self.request.host_id not in self.census.ids:
            return ["it does not exist"]
        at = self.census.ids.index(self.request.host_id)
        return [str(self._failure(dimension, at)) for dimension, mask in self._failed.items() if mask[at]]

    def _of_all_hosts(self) -> list[str]:
        """What hosts with the right identity are short of, then the others, each under its first difference."""
        if not len(self.census):
            return ["there are no hosts"]
        failed = self._failed
        left = np.ones(len(self.census), np.bool_)
        others = []
        for dimension in _IDENTITY:
            others += self._others(dimension, left & failed[dimension])
            left &= ~failed[dimension]
        short = [self._short(dimension, left & failed[dimension]) for dimension in _RESOURCES]
        for dimension in _RESOURCES:
            left &= ~failed[dimension]
        kept_off = left & failed[Dimension.GROUP]
        if kept_off.any():
            short.append(f"the {self.request.group} placement group rules out {self._some(kept_off)}")
        return [part for part in short if part] + others

    def _short(self, dimension: Dimension, mask: Bools) -> str:
        """ "memory short on 3 hosts (h-1: needs 8192 MiB, free 4096 MiB)"; the host nearest to enough is named."""
        if not mask.any():
            return ""
        free = self.census.free[_RESOURCES.index(dimension)]
        most = free[mask].max()
        nearest = min(np.flatnonzero(mask & (free == most)).tolist(), key=self.census.ids.__getitem__)
        word, unit = _WORDS[dimension]
        need, left = self._amounts(dimension, nearest)
        example = f"{self.census.ids[nearest]}: needs {need:.12g}{unit}, free {left:.12g}{unit}"
        return f"{word} short on {_hosts(int(mask.sum()))} ({example})"

    def _some(self, mask: Bools) -> str:
        first = min(np.flatnonzero(mask).tolist(), key=self.census.ids.__getitem__)
        return f"{_hosts(int(mask.sum()))} ({self.census.ids[first]}: {self._refusal(first)})"

    def _others(self, dimension: Dimension, mask: Bools) -> list[str]:
        request, count = self.request, int(mask.sum())
        if not count:
            return []
        if dimension == Dimension.ZONE:
            return [f"zone '{request.zone}' was asked for and {_hosts(count)} elsewhere left out"]
        if dimension == Dimension.ARCH:
            return [f"{_hosts(count)} not {request.arch}"]
        if dimension == Dimension.GPU_MODEL:
            return [f"{_hosts(count)} with other GPUs than {request.gpu_name}"]
        cordoned = int((mask & (self.census.state == CORDONED)).sum())
        states = ((cordoned, "cordoned"), (count - cordoned, "not ready"))
        return [f"{_hosts(number)} {word}" for number, word in states if number]


def _hosts(count: int) -> str:
    return "1 host" if count == 1 else f"{count} hosts"


def _shape_words(shape: Shape) -> str:
    words = [f"{shape.vcpus:g} vCPU{'' if shape.vcpus == 1 else 's'}", f"{shape.memory_mib} MiB"]
    if shape.gpus:
        words.append(f"{shape.gpus:g} GPU{'' if shape.gpus == 1 else 's'}")
    if shape.disk_gib:
        words.append(f"{shape.disk_gib} GiB disk")
    return ", ".join(words)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
