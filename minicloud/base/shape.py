"""The shape of a workload or a host: how much of each resource."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shape:
    """vCPUs, memory in MiB, GPUs (fractions are real: g6f), local disk in GiB."""

    vcpus: float = 0.0
    memory_mib: int = 0
    gpus: float = 0.0
    disk_gib: int = 0

    def __add__(self, other: Shape) -> Shape:
        return Shape(
            self.vcpus + other.vcpus,
            self.memory_mib + other.memory_mib,
            self.gpus + other.gpus,
            self.disk_gib + other.disk_gib,
        )

    def __sub__(self, other: Shape) -> Shape:
        return Shape(
            self.vcpus - other.vcpus,
            self.memory_mib - other.memory_mib,
            self.gpus - other.gpus,
            self.disk_gib - other.disk_gib,
        )


@dataclass(frozen=True, slots=True)
class Overcommit:
    """How many vCPUs (MiB, GPUs) are sold per real one. CPU 8 is half of what Nova shipped with (16)."""

    cpu: float = 8.0
    memory: float = 1.0
    gpu: float = 1.0
