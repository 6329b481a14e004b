"""The catalogue: 1,345 real instance types in five families, read once from `data/instance_types.csv`.

Facts are AWS's own public API answers and price list; the file says what a type is, this module only reads it. Three
readings are ours, and are the only ones:

- "i386|x86_64" (nine old types) is x86_64: nobody runs a 32-bit guest here.
- AWS's API leaves the baseline of t2 out; it stands in the EC2 User Guide, table "CPU credits and baseline utilization
  for burstable performance instances" (page burstable-credits-baseline-concepts), and is filled in from there.
- Local storage is published in decimal GB; a Shape counts GiB, rounded up, so that a host never promises less.
"""

from __future__ import annotations

import csv
import difflib
import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from types import MappingProxyType
from typing import TypeVar

from minicloud.base.errors import InvalidParameterValue
from minicloud.base.shape import Shape

FAMILIES = ("general", "compute", "memory", "accelerated", "storage")
ARCHITECTURES = ("x86_64", "arm64")
_T2_BASELINE_PCT = {
    "t2.nano": 5.0,
    "t2.micro": 10.0,
    "t2.small": 20.0,
    "t2.medium": 20.0,
    "t2.large": 30.0,
    "t2.xlarge": 22.5,
    "t2.2xlarge": 17.0,
}
_NAME_CHARS_SHOWN = 64
_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One row. Memory in MiB, storage in decimal GB, network in Gbit/s (baseline), price in USD per hour (Linux,
    us-east-1). Absent numbers are 0, an unknown clock is 0.0, absent names are empty.

    `baseline_pct_per_vcpu` is the burstable baseline in percent of one vCPU; None where CPU is not metered by credits.
    """

    name: str
    family: str
    vcpus: int
    memory_mib: int
    gpus: float
    gpu_name: str
    gpu_memory_mib: int
    accelerators: int
    local_storage_gb: int
    storage_type: str
    network_gbps: float
    arch: str
    clock_ghz: float
    current_generation: bool
    bare_metal: bool
    burstable: bool
    baseline_pct_per_vcpu: float | None
    dedicated_hosts: bool
    spot: bool
    on_demand_usd_per_hour: float
    shape: Shape = field(init=False, repr=False, compare=False)
    """What one instance takes from a host: vCPUs, memory, GPUs and its local storage in GiB (the root disk not in)."""

    def __post_init__(self) -> None:
        disk_gib = math.ceil(self.local_storage_gb * 10**9 / 2**30)
        object.__setattr__(self, "shape", Shape(self.vcpus, self.memory_mib, self.gpus, disk_gib))


@dataclass(frozen=True, slots=True)
class TypeFilter:
    """Which types to list; every field that is set must hold. `name` is a glob ("m5*.large"), bounds are inclusive."""

    name: str | None = None
    family: str | None = None
    arch: str | None = None
    vcpus_min: float | None = None
    vcpus_max: float | None = None
    memory_mib_min: int | None = None
    memory_mib_max: int | None = None
    gpus_min: float | None = None
    gpus_max: float | None = None
    gpu_name: str | None = None
    burstable: bool | None = None
    current_generation: bool | None = None
    bare_metal: bool | None = None
    usd_per_hour_max: float | None = None

    def __post_init__(self) -> None:
        """Raises InvalidParameterValue naming the field: unknown family or architecture, negative or crossed bounds."""
        _one_of("family", self.family, FAMILIES)
        _one_of("arch", self.arch, ARCHITECTURES)
        _bounds("vcpus", self.vcpus_min, self.vcpus_max)
        _bounds("memory_mib", self.memory_mib_min, self.memory_mib_max)
        _bounds("gpus", self.gpus_min, self.gpus_max)
        _bounds("usd_per_hour", None, self.usd_per_hour_max)

    def admits(self, kind: InstanceType) -> bool:
        return (
            (self.name is None or fnmatchcase(kind.name, self.name))
            and self.family in (None, kind.family)
            and self.arch in (None, kind.arch)
            and self.burstable in (None, kind.burstable)
            and self.current_generation in (None, kind.current_generation)
            and self.bare_metal in (None, kind.bare_metal)
            and (self.gpu_name is None or self.gpu_name.lower() == kind.gpu_name.lower())
            and _within(kind.vcpus, self.vcpus_min, self.vcpus_max)
            and _within(kind.memory_mib, self.memory_mib_min, self.memory_mib_max)
            and _within(kind.gpus, self.gpus_min, self.gpus_max)
            and _within(kind.on_demand_usd_per_hour, None, self.usd_per_hour_max)
        )


class Catalog:
    """All instance types by name. Immutable."""

    def __init__(self, types: Mapping[str, InstanceType]) -> None:
        self._types = MappingProxyType(dict(sorted(types.items())))

    @staticmethod
    @functools.cache
    def load() -> Catalog:
        """The catalogue that ships with minicloud; read once per process."""
        text = resources.files("minicloud.compute").joinpath("data/instance_types.csv").read_text(encoding="utf-8")
        return Catalog({row["instance_type"]: _read(row) for row in csv.DictReader(io.StringIO(text))})

    def __len__(self) -> int:
        return len(self._types)

    def __iter__(self) -> Iterator[InstanceType]:
        """By name."""
        return iter(self._types.values())

    def __contains__(self, name: object) -> bool:
        return name in self._types

    def get(self, name: str) -> InstanceType:
        """Raises InvalidParameterValue that names the nearest known type: code and text of RunInstances.

        (EC2's InvalidInstanceType is what DescribeInstanceTypes answers: see `described`.)
        """
        found = self._types.get(name)
        if found is None:
            shown = name[:_NAME_CHARS_SHOWN]
            message = f"Invalid value '{shown}' for InstanceType.{self._suggestion(shown)}"
            raise InvalidParameterValue(message, field="instance_type")
        return found

    def described(self, name: str) -> InstanceType:
        """Raises InvalidParameterValue (InvalidInstanceType)."""
        if name in self:
            return self._types[name]
        shown = name[:_NAME_CHARS_SHOWN]
        message = f"The following supplied instance types do not exist: [{shown}]{self._suggestion(shown)}"
        raise InvalidParameterValue(message, code="InvalidInstanceType", field="name")

    def find(self, only: TypeFilter | None = None) -> list[InstanceType]:
        """The types that a filter admits, by name."""
        return [kind for kind in self if only is None or only.admits(kind)]

    def _suggestion(self, name: str) -> str:
        near = difflib.get_close_matches(name.lower(), self._types, n=1, cutoff=0.7)
        return f" Did you mean '{near[0]}'?" if near else ""


def _read(row: Mapping[str, str]) -> InstanceType:
    name = row["instance_type"]
    return InstanceType(
        name=name,
        family=row["family"],
        vcpus=int(row["vcpus"]),
        memory_mib=int(row["memory_mib"]),
        gpus=_number(row["gpus"], float),
        gpu_name=row["gpu_name"],
        gpu_memory_mib=_number(row["gpu_memory_mib"], int),
        accelerators=_number(row["accelerators"], int),
        local_storage_gb=_number(row["local_storage_gb"], int),
        storage_type=row["storage_type"],
        network_gbps=float(row["network_gbps"]),
        arch="x86_64" if "x86_64" in row["arch"] else row["arch"],
        clock_ghz=_number(row["clock_ghz"], float),
        current_generation=row["current_generation"] == "1",
        bare_metal=row["bare_metal"] == "1",
        burstable=row["burstable"] == "1",
        baseline_pct_per_vcpu=_number(row["burstable_baseline_pct_per_vcpu"], float) or _T2_BASELINE_PCT.get(name),
        dedicated_hosts=row["dedicated_hosts"] == "1",
        spot=row["spot"] == "1",
        on_demand_usd_per_hour=float(row["on_demand_usd_per_hour"]),
    )


def _number(text: str, kind: Callable[[str], _N]) -> _N:
    return kind(text or "0")


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _one_of(field: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is not None and value not in known:
        shown = value[:_NAME_CHARS_SHOWN]
        raise InvalidParameterValue(f"Invalid value '{shown}' for {field}: one of {', '.join(known)}.", field=field)


def _bounds(field: str, low: float | None, high: float | None) -> None:
    for end, value in (("min", low), ("max", high)):
        if value is not None and not value >= 0:
            raise InvalidParameterValue(f"{field}_{end} must be 0 or more, not {value}.", field=f"{field}_{end}")
    if low is not None and high is not None and low > high:
        raise InvalidParameterValue(f"{field}_min {low} is above {field}_max {high}.", field=f"{field}_min")
