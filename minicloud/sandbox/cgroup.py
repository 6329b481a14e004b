"""Control groups: the wall that gives a guest the CPU and memory of its type, and nothing of its neighbour's.

Two kernels' worth of interface behind one: version 2 (one tree) and version 1 (one tree per controller). Groups are
named `minicloud-<cloud>/<host>/<instance>`, and live below the group that this process is in, so that a limit on
minicloud also holds for its guests:

    v1  <controller>/<own path>/minicloud-<cloud>/<host>/<instance>
    v2  the nearest ancestor that has cpu, memory and pids for its children and that we may write to. A v2 group with
        processes in it cannot have children with limits, and we move nobody's processes but our guests': so the
        process's own group itself serves only where it is the root of the tree.

What is enforced: CPU time (quota, and weight when the machine is full), memory including page cache and tmpfs (no
swap beyond it), number of processes. What is not: disk space, disk and network bandwidth. They are measured
(disk: here; space: see disk.py), not limited.

A group outlives the process that made it: `Cgroups.existing` finds what a dead agent left, `open` adopts it.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from minicloud.base.errors import InvalidParameterValue, UnsupportedOperation

CGROUP_ROOT = Path("/sys/fs/cgroup")
GUEST_DEPTH = 3  # minicloud-<cloud>/<host>/<instance>
CPU_PERIOD_US = 100_000
CPU_QUOTA_US_MIN = 1_000  # the kernel refuses less
MEMORY_MIB_MIN = 4
# Waits for a group to empty or to stop, in seconds; their sum, about 5 s, is the bound.
PAUSES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, *([0.1] * 50))


@dataclass(frozen=True, slots=True)
class CpuMemoryLimits:
    """What a guest may use. `cpu_weight` is its part of a full machine (cgroup v2's unit, 1 to 10000, 100 is usual)."""

    vcpus: float
    memory_mib: int
    pids: int
    cpu_weight: int = 100

    def __post_init__(self) -> None:
        if not self.vcpus > 0:
            raise InvalidParameterValue(f"vcpus must be above 0, got {self.vcpus}", field="vcpus")
        if self.memory_mib < MEMORY_MIB_MIN:
            raise InvalidParameterValue(f"memory_mib must be at least {MEMORY_MIB_MIN}", field="memory_mib")
        if self.pids < 1:
            raise InvalidParameterValue("pids must be at least 1", field="pids")
        if not 1 <= self.cpu_weight <= 10_000:
            raise InvalidParameterValue("cpu_weight must be 1 to 10000", field="cpu_weight")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a guest has used. CPU and I/O count up from the group's birth; memory and pids are of now."""

    cpu_s: float = 0.0
    throttled_s: float = 0.0
    memory_bytes: int = 0
    working_set_bytes: int = 0  # without page cache that the kernel can drop at once
    pids: int = 0
    oom_kills: int = 0
    io_read_bytes: int = 0
    io_write_bytes: int = 0


class Cgroup(Protocol):
    """One guest's group. Every method may raise OSError where the kernel does."""

    @property
    def name(self) -> str: ...

    @property
    def join_files(self) -> tuple[str, ...]:
        """Files into which a single-threaded process writes "0" to put itself into the group."""
        ...

    def add(self, pid: int) -> None: ...

    def pids(self) -> list[int]: ...

    def limit(self, limits: CpuMemoryLimits) -> None:
        """Puts new limits in force at once. Less memory than what is in use raises OSError (EBUSY)."""
        ...

    def throttle(self, vcpus: float) -> None:
        """Caps CPU time at this many vCPUs until `limit` is called again (a burstable guest without credits)."""
        ...

    def usage(self) -> Usage: ...

    def glance(self) -> tuple[float, int]:
        """CPU seconds and memory bytes of `usage`, for who asks every second."""
        ...

    def peak_bytes(self) -> int:
        """The most memory that was in use at once, since the group was made."""
        ...

    def oom_kills(self) -> int:
        """Of `usage`, alone."""
        ...

    def freeze(self) -> None:
        """Stops every process; returns when they have stopped. TimeoutError if one does not."""
        ...

    def thaw(self) -> None: ...

    def kill(self) -> None:
        """SIGKILL to every process, also ones that keep forking; returns when all are gone."""
        ...

    def destroy(self) -> None:
        """Removes the group. Idempotent. OSError (EBUSY) if processes stay in it."""
        ...

    def oom_events(self) -> int:
        """A descriptor that becomes readable when the group hits its memory limit; the caller closes it.

        It can also fire without a kill (memory was reclaimed, the group was removed): `usage().oom_kills` decides.
        """
        ...


class Hierarchy(Protocol):
    """Where groups are made: one implementation per version of the kernel's interface."""

    def make(self, name: str) -> Cgroup:
        """Creates the group and its parents; an existing one is adopted."""
        ...

    def open(self, name: str) -> Cgroup: ...

    def bases(self) -> tuple[Path, ...]: ...


@dataclass(frozen=True, slots=True)
class Cgroups:
    """This machine's control groups. `version` 0: none usable, and `reason` says why."""

    version: int
    enforces: frozenset[str]  # of "cpu", "memory", "pids", "freeze"
    reason: str
    hierarchy: Hierarchy | None = None

    @staticmethod
    def detect(root: Path = CGROUP_ROOT, membership: str | None = None) -> Cgroups:
        """Finds where this process may make groups. `membership`: the text of /proc/self/cgroup, for tests."""
        from minicloud.sandbox import cgroup_v1, cgroup_v2

        text = Path("/proc/self/cgroup").read_text() if membership is None else membership
        if (root / "cgroup.controllers").exists():
            return cgroup_v2.detect(root, text)
        return cgroup_v1.detect(root, text)

    def create(self, name: str, limits: CpuMemoryLimits) -> Cgroup:
        """Makes the group (or adopts it) and puts the limits in force. Raises UnsupportedOperation on version 0."""
        group = self._in_force().make(checked_name(name))
        group.limit(limits)
        return group

    def open(self, name: str) -> Cgroup:
        """A group that exists already; its limits stay."""
        return self._in_force().open(checked_name(name))

    def existing(self, prefix: str) -> list[str]:
        """Names of the guests' groups below `prefix` (`minicloud-<cloud>/<host>`), sorted."""
        if self.hierarchy is None:
            return []
        found: set[str] = set()
        for base in self.hierarchy.bases():
            below = (path.relative_to(base) for path in _bottom_up(base / checked_name(prefix)))
            found.update(str(path) for path in below if len(path.parts) == GUEST_DEPTH)
        return sorted(found)

    def remove(self, prefix: str) -> None:
        """Kills and removes every group below `prefix`, then the prefix and its empty parents."""
        if self.hierarchy is None:
            return
        for name in self.existing(prefix):
            group = self.hierarchy.open(name)
            group.kill()
            group.destroy()
        for base in self.hierarchy.bases():
            top = base / checked_name(prefix)
            for directory in (*_bottom_up(top), *(base / parent for parent in Path(prefix).parents)):
                with suppress(OSError):  # in use: another host of this cloud, or another cloud
                    if directory != base:
                        directory.rmdir()

    def _in_force(self) -> Hierarchy:
        if self.hierarchy is None:
            raise UnsupportedOperation(f"control groups cannot be used here: {self.reason}")
        return self.hierarchy


def checked_name(name: str) -> str:
    """Refuses names that would leave the tree. Raises InvalidParameterValue."""
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") or part.startswith("cgroup.") for part in parts):
        raise InvalidParameterValue(f"not a control group name: {name!r}", field="name")
    return name


def own_paths(membership: str) -> dict[str, str]:
    """/proc/self/cgroup as {controller: path}; the v2 tree is under the empty name."""
    paths: dict[str, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def read_flat(path: Path) -> dict[str, int]:
    """A flat keyed file (`memory.stat`, `cpu.stat`); {} where it does not exist."""
    try:
        lines = _read(path).splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0].decode(): int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].lstrip(b"-").isdigit()}


def read_int(path: Path) -> int:
    """A file with one number; 0 where it does not exist or says "max"."""
    try:
        text = _read(path).strip()
    except FileNotFoundError:
        return 0
    return int(text) if text.isdigit() else 0


def _read(path: Path) -> bytes:
    """For files that every guest's are read of once a second: half of what Path.read_bytes costs."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts)


def write_if_there(path: Path, text: str) -> None:
    """Writes a setting that not every kernel has."""
    if path.exists():
        path.write_text(text)


def pauses() -> Iterator[None]:
    """Bounded patience: yields at once, then after ever longer pauses, then ends."""
    yield
    for seconds in PAUSES_S:
        select.select([], [], [], seconds)
        yield


def kill_all(pids: Iterable[int]) -> None:
    """SIGKILL, then waits (up to 5 s) until every one has exited. Pids that are gone already are fine."""
    poller = select.poll()
    waiting: set[int] = set()
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        waiting.add(fd)
        poller.register(fd, select.POLLIN)
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except ProcessLookupError:
            continue
    try:
        _wait_exits(poller, set(waiting))
    finally:
        for fd in waiting:
            os.close(fd)


def _wait_exits(poller: select.poll, alive: set[int]) -> None:
    while alive:
        ready = poller.poll(5_000)
        if not ready:
            return
        for fd, _ in ready:
            poller.unregister(fd)
            alive.discard(fd)


def remove_directory(path: Path) -> None:
    """rmdir that waits (bounded) for the last process to leave. Idempotent. OSError (EBUSY) at the end of patience."""
    error: OSError | None = None
    for _ in pauses():
        try:
            path.rmdir()
        except FileNotFoundError:
            return
        except OSError as problem:
            error = problem
        else:
            return
    assert error is not None
    raise error


def _bottom_up(top: Path) -> Iterator[Path]:
    """Directories at and below `top`, the deepest first."""
    try:
        below = [entry for entry in top.iterdir() if entry.is_dir()]
    except FileNotFoundError:
        return
    for directory in below:
        yield from _bottom_up(directory)
    yield top
