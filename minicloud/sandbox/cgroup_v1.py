"""Control groups, version 1: one tree per controller, a group is a directory in each of them.

`tasks`, not `cgroup.procs`, is the file to join by: a single-threaded process that writes "0" there skips the
kernel's machine-wide lock for moving thread groups (measured: 0.6 ms for six trees, against up to 10 ms).
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minicloud.sandbox import linux
from minicloud.sandbox.cgroup import (
    CPU_PERIOD_US,
    CPU_QUOTA_US_MIN,
    Cgroup,
    Cgroups,
    CpuMemoryLimits,
    Usage,
    kill_all,
    own_paths,
    pauses,
    read_flat,
    read_int,
    remove_directory,
    write_if_there,
)

CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "freezer", "blkio")
KILL_ROUNDS_MAX = 20


def detect(root: Path, membership: str) -> Cgroups:
    """Which controllers are mounted and writable. Without memory the rest is not worth having: version 0."""
    own = own_paths(membership)
    trees: dict[str, Path] = {}
    refused: list[str] = []
    for controller in CONTROLLERS:
        mounted = root / controller
        if not mounted.is_dir():
            refused.append(f"{controller} is not mounted")
            continue
        # Inside a container the path in /proc/self/cgroup may be the outer one, which is not visible here.
        base = mounted / own.get(controller, "/").lstrip("/")
        base = base if base.is_dir() else mounted
        if os.access(base, os.W_OK):
            trees[controller] = base
        else:
            refused.append(f"{base} is not writable")
    if "memory" not in trees:
        return Cgroups(0, frozenset(), "; ".join(refused) or f"no control groups at {root}")
    names = {"freezer": "freeze"}
    enforces = frozenset(names.get(c, c) for c in trees if c in ("cpu", "memory", "pids", "freezer"))
    return Cgroups(1, enforces, "; ".join(refused), V1Hierarchy(trees))


@dataclass(frozen=True, slots=True)
class V1Hierarchy:
    """{controller: the directory in its tree below which our groups are made}."""

    trees: dict[str, Path]

    def make(self, name: str) -> Cgroup:
        group = self.open(name)
        for directory in group.directories.values():
            directory.mkdir(parents=True, exist_ok=True)
        return group

    def open(self, name: str) -> V1Cgroup:
        return V1Cgroup(name, {controller: base / name for controller, base in self.trees.items()})

    def bases(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(base.resolve() for base in self.trees.values()))


@dataclass(frozen=True, slots=True)
class V1Cgroup:
    """A guest's directories, one per controller (two controllers may share one)."""

    name: str
    directories: dict[str, Path]

    @property
    def join_files(self) -> tuple[str, ...]:
        return tuple(str(directory / "tasks") for directory in self._distinct())

    def add(self, pid: int) -> None:
        for directory in self._distinct():
            (directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        found: set[int] = set()
        for directory in self._distinct():
            try:
                found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
            except (FileNotFoundError, ProcessLookupError):
                continue
        return sorted(found)

    def limit(self, limits: CpuMemoryLimits) -> None:
        self._limit_memory(limits.memory_mib * 1024 * 1024)
        if "pids" in self.directories:
            (self.directories["pids"] / "pids.max").write_text(str(limits.pids))
        if "cpu" in self.directories:
            shares = max(2, limits.cpu_weight * 1024 // 100)
            (self.directories["cpu"] / "cpu.shares").write_text(str(shares))
            self.throttle(limits.vcpus)

    def throttle(self, vcpus: float) -> None:
        directory = self.directories.get("cpu")
        if directory is None:
            return
        (directory / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        quota_us = max(CPU_QUOTA_US_MIN, round(vcpus * CPU_PERIOD_US))
        try:
            (directory / "cpu.cfs_quota_us").write_text(str(quota_us))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # v1 refuses a child more than its ancestor has; with no cap of its own the ancestor's holds.
            (directory / "cpu.cfs_quota_us").write_text("-1")

    def usage(self) -> Usage:
        memory, cpu = self.directories["memory"], self.directories.get("cpu", Path("/nonexistent"))
        used = read_int(memory / "memory.usage_in_bytes")
        droppable = read_flat(memory / "memory.stat").get("total_inactive_file", 0)
        io = self._io()
        return Usage(
            cpu_s=read_int(self.directories.get("cpuacct", cpu) / "cpuacct.usage") / 1e9,
            throttled_s=read_flat(cpu / "cpu.stat").get("throttled_time", 0) / 1e9,
            memory_bytes=used,
            working_set_bytes=max(0, used - droppable),
            pids=read_int(self.directories["pids"] / "pids.current") if "pids" in self.directories else 0,
            oom_kills=read_flat(memory / "memory.oom_control").get("oom_kill", 0),
            io_read_bytes=io.get("Read", 0),
            io_write_bytes=io.get("Write", 0),
        )

    def glance(self) -> tuple[float, int]:
        cpu = self.directories.get("cpuacct")
        used = read_int(self.directories["memory"] / "memory.usage_in_bytes")
        return (read_int(cpu / "cpuacct.usage") / 1e9 if cpu is not None else 0.0), used

    def peak_bytes(self) -> int:
        return read_int(self.directories["memory"] / "memory.max_usage_in_bytes")

    def oom_kills(self) -> int:
        return read_flat(self.directories["memory"] / "memory.oom_control").get("oom_kill", 0)

    def freeze(self) -> None:
        self._set_freezer("FROZEN")

    def thaw(self) -> None:
        self._set_freezer("THAWED")

    def kill(self) -> None:
        """Each round: stop them so that none forks, queue SIGKILL for all that are there, let go, wait."""
        for _ in range(KILL_ROUNDS_MAX):
            if not self.pids():
                return
            # Not `freeze()`, which waits: forking has stopped at once, and a slow one must not delay the others.
            self._write_freezer("FROZEN")
            try:
                pids = self.pids()
                signal_all(pids)
            finally:
                self._write_freezer("THAWED")
            kill_all(pids)
        raise TimeoutError(f"processes of {self.name} survive SIGKILL: {self.pids()}")

    def destroy(self) -> None:
        for directory in self._distinct():
            remove_directory(directory)

    def oom_events(self) -> int:
        """An eventfd, armed through cgroup.event_control."""
        directory = self.directories["memory"]
        fd = linux.eventfd()
        try:
            control = os.open(directory / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            try:
                (directory / "cgroup.event_control").write_text(f"{fd} {control}")
            finally:
                os.close(control)
        except OSError:
            os.close(fd)
            raise
        return fd

    def _distinct(self) -> tuple[Path, ...]:
        """One path per directory: `cpu` and `cpuacct` may be two names of one tree."""
        return tuple({os.path.realpath(path): path for path in self.directories.values()}.values())

    def _limit_memory(self, size_bytes: int) -> None:
        directory = self.directories["memory"]
        limit, with_swap = directory / "memory.limit_in_bytes", directory / "memory.memsw.limit_in_bytes"
        try:
            limit.write_text(str(size_bytes))
            write_if_there(with_swap, str(size_bytes))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # memory may never be above memory+swap: growing needs the other order.
            with_swap.write_text(str(size_bytes))
            limit.write_text(str(size_bytes))

    def _io(self) -> dict[str, int]:
        directory = self.directories.get("blkio")
        if directory is None:
            return {}
        totals: dict[str, int] = {}
        try:
            lines = (directory / "blkio.throttle.io_service_bytes").read_text().splitlines()
        except FileNotFoundError:
            return {}
        for line in lines:
            fields = line.split()
            if len(fields) == 3:
                totals[fields[1]] = totals.get(fields[1], 0) + int(fields[2])
        return totals

    def _write_freezer(self, state: str) -> None:
        if "freezer" in self.directories:
            write_if_there(self.directories["freezer"] / "freezer.state", state)

    def _set_freezer(self, state: str) -> None:
        directory = self.directories.get("freezer")
        if directory is None:
            raise OSError(errno.EOPNOTSUPP, "the freezer controller is not mounted")
        path = directory / "freezer.state"
        for _ in pauses():
            path.write_text(state)  # written again each time: a process that was mid-fork needs a second push
            if path.read_text().strip() == state:
                return
        raise TimeoutError(f"{path} did not become {state}")


def signal_all(pids: list[int]) -> None:
    """SIGKILL to each; a frozen process dies when it is thawed."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
