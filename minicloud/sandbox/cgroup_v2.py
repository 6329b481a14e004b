"""Control groups, version 2: one tree; a group is one directory, and controllers are handed down level by level."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
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
    read_flat,
    read_int,
    remove_directory,
    write_if_there,
)

WANTED = frozenset({"cpu", "memory", "pids"})
WAIT_MS = 5_000
KILL_ROUNDS_MAX = 20


def detect(root: Path, membership: str) -> Cgroups:
    """The nearest ancestor of this process's group whose children can have cpu, memory and pids limits.

    First one that hands the controllers down already; only then one that lets us switch that on.
    """
    own = root / own_paths(membership).get("", "/").lstrip("/")
    ladder = list(_up(root, own if own.is_dir() else root))
    refused: list[str] = []
    usable = [directory for directory in ladder if _usable(directory, refused)]
    for directory in usable:
        if _words(directory / "cgroup.subtree_control") >= WANTED:
            return _found(directory)
    for directory in usable:
        try:
            _hand_down(directory)
        except OSError as error:
            in_use = "processes live in it" if error.errno == errno.EBUSY else error.strerror
            refused.append(f"{directory} cannot hand controllers down: {in_use}")
        else:
            return _found(directory)
    refused.append("start minicloud with `systemd-run --user --scope -p Delegate=yes` where systemd runs")
    return Cgroups(0, frozenset(), "; ".join(refused))


def _found(directory: Path) -> Cgroups:
    return Cgroups(2, frozenset({"cpu", "memory", "pids", "freeze"}), "", V2Hierarchy(directory))


def _up(root: Path, directory: Path) -> Iterator[Path]:
    yield directory
    while directory != root:
        directory = directory.parent
        yield directory


def _usable(directory: Path, refused: list[str]) -> bool:
    missing = WANTED - _words(directory / "cgroup.controllers")
    if missing:
        refused.append(f"{directory} lacks {', '.join(sorted(missing))}")
        return False
    # Moving a process into a child takes the right to write the common ancestor's cgroup.procs.
    if not (os.access(directory, os.W_OK) and os.access(directory / "cgroup.procs", os.W_OK)):
        refused.append(f"{directory} is not writable")
        return False
    return True


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except FileNotFoundError:
        return set()


def _hand_down(directory: Path) -> None:
    missing = sorted(WANTED - _words(directory / "cgroup.subtree_control"))
    if missing:
        (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing))


@dataclass(frozen=True, slots=True)
class V2Hierarchy:
    """The directory below which our groups are made."""

    home: Path

    def make(self, name: str) -> Cgroup:
        directory = self.home
        for part in name.split("/"):
            _hand_down(directory)
            directory = directory / part
            directory.mkdir(exist_ok=True)
        return V2Cgroup(name, directory)

    def open(self, name: str) -> Cgroup:
        return V2Cgroup(name, self.home / name)

    def bases(self) -> tuple[Path, ...]:
        return (self.home,)


@dataclass(frozen=True, slots=True)
class V2Cgroup:
    """A guest's directory."""

    name: str
    directory: Path

    @property
    def join_files(self) -> tuple[str, ...]:
        return (str(self.directory / "cgroup.procs"),)

    def add(self, pid: int) -> None:
        (self.directory / "cgroup.procs").write_text(str(pid))

    def pids(self) -> list[int]:
        try:
            return sorted(int(line) for line in (self.directory / "cgroup.procs").read_text().split())
        except FileNotFoundError:
            return []

    def limit(self, limits: CpuMemoryLimits) -> None:
        (self.directory / "memory.max").write_text(str(limits.memory_mib * 1024 * 1024))
        write_if_there(self.directory / "memory.swap.max", "0")
        (self.directory / "memory.oom.group").write_text("1")
        (self.directory / "pids.max").write_text(str(limits.pids))
        (self.directory / "cpu.weight").write_text(str(limits.cpu_weight))
        self.throttle(limits.vcpus)

    def throttle(self, vcpus: float) -> None:
        quota_us = max(CPU_QUOTA_US_MIN, round(vcpus * CPU_PERIOD_US))
        (self.directory / "cpu.max").write_text(f"{quota_us} {CPU_PERIOD_US}")

    def usage(self) -> Usage:
        cpu = read_flat(self.directory / "cpu.stat")
        used = read_int(self.directory / "memory.current")
        droppable = read_flat(self.directory / "memory.stat").get("inactive_file", 0)
        read_bytes, write_bytes = self._io()
        return Usage(
            cpu_s=cpu.get("usage_usec", 0) / 1e6,
            throttled_s=cpu.get("throttled_usec", 0) / 1e6,
            memory_bytes=used,
            working_set_bytes=max(0, used - droppable),
            pids=read_int(self.directory / "pids.current"),
            oom_kills=read_flat(self.directory / "memory.events").get("oom_kill", 0),
            io_read_bytes=read_bytes,
            io_write_bytes=write_bytes,
        )

    def glance(self) -> tuple[float, int]:
        used = read_int(self.directory / "memory.current")
        return read_flat(self.directory / "cpu.stat").get("usage_usec", 0) / 1e6, used

    def peak_bytes(self) -> int:
        return read_int(self.directory / "memory.peak") or read_int(self.directory / "memory.current")

    def oom_kills(self) -> int:
        return read_flat(self.directory / "memory.events").get("oom_kill", 0)

    def freeze(self) -> None:
        self._set_frozen(1)

    def thaw(self) -> None:
        self._set_frozen(0)

    def kill(self) -> None:
        switch = self.directory / "cgroup.kill"
        if switch.exists():  # Linux 5.14
            switch.write_text("1")
            kill_all(self.pids())
            self._wait_event("populated", 0)
            return
        for _ in range(KILL_ROUNDS_MAX):
            if not self.pids():
                return
            # A frozen v2 process still dies of SIGKILL, and cannot fork meanwhile.
            write_if_there(self.directory / "cgroup.freeze", "1")
            kill_all(self.pids())
        raise TimeoutError(f"processes of {self.name} survive SIGKILL: {self.pids()}")

    def destroy(self) -> None:
        remove_directory(self.directory)

    def oom_events(self) -> int:
        return linux.watch_file(self.directory / "memory.events")

    def _set_frozen(self, value: int) -> None:
        (self.directory / "cgroup.freeze").write_text(str(value))
        self._wait_event("frozen", value)

    def _wait_event(self, key: str, value: int) -> None:
        """Waits on cgroup.events, which the kernel marks with POLLPRI at each change."""
        path = self.directory / "cgroup.events"
        with path.open() as events:
            poller = select.poll()
            poller.register(events, select.POLLPRI)
            while read_flat(path).get(key, value) != value:
                events.seek(0)
                events.read()  # reading arms the next notification
                if read_flat(path).get(key, value) == value:
                    return
                if not poller.poll(WAIT_MS):
                    raise TimeoutError(f"{path}: {key} did not become {value}")

    def _io(self) -> tuple[int, int]:
        try:
            lines = (self.directory / "io.stat").read_text().splitlines()
        except FileNotFoundError:  # the io controller is not asked for
            return 0, 0
        pairs = [field.split("=") for line in lines for field in line.split()[1:]]
        totals = {name: sum(int(pair[1]) for pair in pairs if pair[0] == name) for name in ("rbytes", "wbytes")}
        return totals["rbytes"], totals["wbytes"]
