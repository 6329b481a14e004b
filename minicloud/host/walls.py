"""The limits around guests and what guests use: control groups, or process trees where there are no groups.

Fulfils `ports.GuestWalls` and `ports.GuestMeter`. Group names are `minicloud-<cloud>/<host>/<GuestRecord.group_name>`,
so an agent finds again what its predecessor made. Without groups a guest is the tree of processes below its first one,
as far as it did not leave that tree; memory is then watched by the sampler, and nothing limits CPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil

from minicloud.base.limits import PIDS_PER_GUEST_MAX
from minicloud.host.guests import spec_of
from minicloud.host.ports import GuestUsage
from minicloud.host.records import GuestRecord
from minicloud.host.watch import is_alive, kill
from minicloud.sandbox.cgroup import Cgroup, Cgroups, CpuMemoryLimits, Usage
from minicloud.wire.fleet_pb2 import GuestSpec

CPU_WEIGHT_PER_VCPU = 100
CPU_WEIGHT_MAX = 10_000
FULL_EVERY = 5
NET_CLASS = Path("/sys/class/net")


class Walls:
    """`prefix`: of the group names, `minicloud-<cloud>/<host>`."""

    def __init__(self, cgroups: Cgroups, prefix: str) -> None:
        self.cgroups = cgroups
        self.prefix = prefix
        self._slow: dict[str, tuple[int, GuestUsage]] = {}

    @property
    def memory_enforced(self) -> bool:
        return "memory" in self.cgroups.enforces

    def create(self, name: str, limits: CpuMemoryLimits) -> Cgroup | None:
        """A group, these limits in force; None where there are no groups. Blocks for about a millisecond."""
        return self.cgroups.create(f"{self.prefix}/{name}", limits) if self.cgroups.version else None

    def remove(self, name: str) -> None:
        """With every process in it. Blocks. Idempotent. Raises OSError, TimeoutError."""
        self._slow.pop(name, None)
        if self.cgroups.version:
            group = self.cgroups.open(f"{self.prefix}/{name}")
            group.kill()
            group.destroy()

    def group_of(self, record: GuestRecord) -> Cgroup | None:
        return self.cgroups.open(f"{self.prefix}/{record.group_name}") if self.cgroups.version else None

    # ------------------------------------------------------------ ports.GuestWalls

    def oom_events(self, record: GuestRecord) -> int:
        group = self.group_of(record)
        return group.oom_events() if group is not None and self.memory_enforced else -1

    def oom_kills(self, record: GuestRecord) -> int:
        group = self.group_of(record)
        return group.oom_kills() if group is not None else 0

    async def kill(self, record: GuestRecord) -> None:
        group = self.group_of(record)
        if group is None:
            await asyncio.to_thread(_kill_tree, record)
            return
        with contextlib.suppress(FileNotFoundError):
            if group.pids():
                await asyncio.to_thread(group.kill)

    async def freeze(self, record: GuestRecord) -> bool:
        group = self.group_of(record)
        if group is not None and "freeze" in self.cgroups.enforces:
            await asyncio.to_thread(group.freeze)
            return True
        return await asyncio.to_thread(_signal_tree, record, signal.SIGSTOP)

    async def thaw(self, record: GuestRecord) -> None:
        group = self.group_of(record)
        if group is not None and "freeze" in self.cgroups.enforces:
            with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
                await asyncio.to_thread(group.thaw)
        else:
            await asyncio.to_thread(_signal_tree, record, signal.SIGCONT)

    # ------------------------------------------------------------ ports.GuestMeter

    def usage(self, record: GuestRecord) -> GuestUsage:
        """CPU and memory of now; network and disk, whose files cost more, are as of the last FULL_EVERY looks."""
        group = self.group_of(record)
        cpu_s, memory_bytes = group.glance() if group is not None else _tree_usage(record)
        looks, slow = self._slow.get(record.group_name, (0, GuestUsage()))
        if looks % FULL_EVERY == 0:
            came, went = _network_bytes(str(record.network.get("netns") or ""))
            used = group.usage() if group is not None else Usage()
            slow = GuestUsage(0.0, 0, came, went, used.io_read_bytes, used.io_write_bytes)
        self._slow[record.group_name] = (looks + 1, slow)
        return replace(slow, cpu_s=cpu_s, memory_bytes=memory_bytes)

    def throttle(self, record: GuestRecord, vcpus: float | None) -> None:
        group = self.group_of(record)
        if group is None:
            return
        if vcpus is None:
            vcpus = spec_of(record).shape.vcpus
        group.throttle(vcpus)


def limits_of(spec: GuestSpec) -> CpuMemoryLimits:
    weight = round(CPU_WEIGHT_PER_VCPU * spec.shape.vcpus)
    return CpuMemoryLimits(
        vcpus=spec.shape.vcpus,
        memory_mib=spec.shape.memory_mib,
        pids=PIDS_PER_GUEST_MAX,
        cpu_weight=min(max(weight, 1), CPU_WEIGHT_MAX),
    )


def _network_bytes(cable: str) -> tuple[int, int]:
    """(into, out of) the guest, counted at the host's end of its cable, where directions are the other way round."""
    if not cable:
        return 0, 0
    counters = NET_CLASS / cable / "statistics"
    return int((counters / "tx_bytes").read_bytes()), int((counters / "rx_bytes").read_bytes())


def _tree(record: GuestRecord) -> list[psutil.Process]:
    if record.guest is None or not is_alive(record.guest):
        return []
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(record.guest.pid)
        return [top, *top.children(recursive=True)]
    return []


def _each(record: GuestRecord, act: Callable[[psutil.Process], object]) -> bool:
    found = False
    for process in _tree(record):
        with contextlib.suppress(psutil.NoSuchProcess):
            act(process)
            found = True
    return found


def _signal_tree(record: GuestRecord, number: int) -> bool:
    return _each(record, lambda process: process.send_signal(number))


def _kill_tree(record: GuestRecord) -> None:
    _each(record, lambda process: process.kill())
    if record.guest is not None:
        kill(record.guest)


def _tree_usage(record: GuestRecord) -> tuple[float, int]:
    """(CPU seconds, resident bytes). The CPU of processes that ended counts through their waiting parents."""
    total_cpu, total_memory = 0.0, 0
    for process in _tree(record):
        with contextlib.suppress(psutil.NoSuchProcess), process.oneshot():
            times = process.cpu_times()
            total_cpu += times.user + times.system + times.children_user + times.children_system
            total_memory += process.memory_info().rss
    return total_cpu, total_memory
