"""What environments stand in on a host: control groups that are made ahead, and users of their own.

Making a control group takes 1 to 2 ms, removing one as long, so a few are kept ready, without limits, and both happen
on a thread. Groups are named `<prefix>/fn-<n>`; what a killed predecessor left has such names, too, and is swept at the
start, with every process in it.

Memory is a wall (the kernel kills in the group that is too large, and nowhere else), so is the number of processes. CPU
is a share: in proportion to memory, 1,769 MiB are one vCPU, where the host is full; nobody gets more than that or
CPU_MIN, whichever is more. So the smallest function is quick on an idle host, and takes
nothing from others on a full one.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from minicloud.environment.limits import CPU_MIN, MIB, PROCESSES_MAX
from minicloud.function.limits import MIB_PER_VCPU
from minicloud.sandbox.cgroup import Cgroup, Cgroups, CpuMemoryLimits

log = logging.getLogger("minicloud.environment")
T = TypeVar("T")

SPARES = 4
UID_FIRST = 1_879_048_192  # a range that no distribution and no container runtime hands out
UID_COUNT = 65_536
UID_NOBODY = 65_534
_MIB_PER_WEIGHT = MIB_PER_VCPU / 100  # of 100, the usual weight of one vCPU
SPARE_LIMITS = CpuMemoryLimits(1.0, 64, 64)


def limits(memory_mib: int) -> CpuMemoryLimits:
    weight = min(max(round(memory_mib / _MIB_PER_WEIGHT), 1), 10_000)
    # The runtime and what it needs to stand in it are not the function's: a function that uses all of it gets it.
    return CpuMemoryLimits(max(memory_mib / MIB_PER_VCPU, CPU_MIN), memory_mib, PROCESSES_MAX, weight)


class Walls:
    """`prefix`: of group names, one per host. On the event loop; the kernel's slow calls are made on a thread."""

    def __init__(self, groups: Cgroups, prefix: str) -> None:
        self._groups = groups
        self._prefix = prefix
        self._spares: list[Cgroup] = []
        self._thread = ThreadPoolExecutor(1, "minicloud-functions-groups")
        self._numbers = itertools.count(os.getpid() * 1_000_000)
        self._uids = itertools.cycle(range(*_uid_range()))
        self._filling = False
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def enforced(self) -> bool:
        return self._groups.version > 0

    def next_uid(self) -> int:
        return next(self._uids) if os.geteuid() == 0 else 0

    async def start(self) -> None:
        """Sweeps, then fills. Raises OSError, TimeoutError."""
        if self.enforced:
            await self._off_loop(lambda: self._groups.remove(self._prefix))
            self._fill()

    def take(self, memory_mib: int) -> Room | None:
        """At once, if a spare is there. None where there is none, and on hosts without groups (`enforced`)."""
        if not self._spares:
            return None
        room = Room(self, self._spares.pop())
        room.group.limit(limits(memory_mib))
        self._fill()
        return room

    async def make(self, memory_mib: int) -> Room:
        """Raises OSError."""

        def create() -> Cgroup:
            return self._groups.create(self._name(), limits(memory_mib))

        return Room(self, await self._off_loop(create))

    def free(self, group: Cgroup) -> None:
        if not self._closed:
            self._thread.submit(_destroy, group)

    def kill(self, group: Cgroup) -> None:
        if not self._closed:
            self._thread.submit(_kill, group)

    async def close(self) -> None:
        """Removes every group. Returns when no process is left in any of them."""
        self._closed = True
        if self.enforced:
            with contextlib.suppress(OSError, TimeoutError):
                await self._off_loop(lambda: self._groups.remove(self._prefix))
        self._thread.shutdown(wait=False)

    def _name(self) -> str:
        return f"{self._prefix}/fn-{next(self._numbers)}"

    def _fill(self) -> None:
        if self._filling or self._closed or len(self._spares) >= SPARES:
            return
        self._filling = True
        self._task = asyncio.ensure_future(self._filled())

    async def _filled(self) -> None:
        try:
            while len(self._spares) < SPARES and not self._closed:
                self._spares.append(await self._off_loop(lambda: self._groups.create(self._name(), SPARE_LIMITS)))
        except (OSError, RuntimeError) as error:
            log.warning("no control groups are made ahead: %s", error)
        finally:
            self._filling = False

    async def _off_loop(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


class Room:
    """One environment's control group. Fulfils `environment.Resources`."""

    def __init__(self, walls: Walls, group: Cgroup) -> None:
        self.group = group
        self._walls = walls
        self._freed = False

    def join(self) -> list[int]:
        """Descriptors of the files that a process joins by; the caller closes them. Raises OSError."""
        return [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in self.group.join_files]

    def memory_max_mib(self) -> int:
        with contextlib.suppress(OSError):
            return -(-self.group.peak_bytes() // MIB)
        return 0

    def out_of_memory(self) -> bool:
        with contextlib.suppress(OSError):
            return self.group.oom_kills() > 0
        return False

    def kill(self) -> None:
        if not self._freed:
            self._walls.kill(self.group)

    def free(self) -> None:
        if not self._freed:
            self._freed = True
            self._walls.free(self.group)


class NoRoom:
    """Where there are no control groups: rlimits stand in. Fulfils `environment.Resources`."""

    def join(self) -> list[int]:
        return []

    def memory_max_mib(self) -> int:
        return 0

    def out_of_memory(self) -> bool:
        return False

    def kill(self) -> None:
        return None

    def free(self) -> None:
        return None


def _destroy(group: Cgroup) -> None:
    try:
        group.kill()
        group.destroy()
    except (OSError, TimeoutError) as error:
        log.warning("the control group %s stays: %s", group.name, error)


def _kill(group: Cgroup) -> None:
    with contextlib.suppress(OSError, TimeoutError):
        group.kill()


def _uid_range() -> tuple[int, int]:
    """Users that nobody is, as far as this process may become them."""
    try:
        words = Path("/proc/self/uid_map").read_text().split()
        count = sum(int(words[i + 2]) for i in range(0, len(words), 3))
    except (OSError, ValueError, IndexError):
        count = 0
    if count > UID_FIRST + UID_COUNT:
        return UID_FIRST, UID_FIRST + UID_COUNT
    return UID_NOBODY, UID_NOBODY + 1
