"""Execution environments on this machine: what it takes to make one.

    make  =  code unpacked (once per host) + a control group (made ahead) + an order to the zygote of the runtime

Which environments there are, and for whom, is not known here: host.py decides it for the machine of the functions
process and for all others, where attached.py has a maker of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicloud.environment import machine, outcomes
from minicloud.environment.code_store import CodeStore, Fetch
from minicloud.environment.environment import Environment
from minicloud.environment.limits import FILES_MAX, IDLE_S_MAX, MEMORY_FREE_MIB_MIN, MIB, PROCESSES_MAX
from minicloud.environment.member import Owner
from minicloud.environment.outcomes import Failure
from minicloud.environment.walls import NoRoom, Room, Walls
from minicloud.environment.zygotes import Zygote
from minicloud.function.errors import no_runtime
from minicloud.function.ports import EnvironmentSpec, Logs, NoLogs
from minicloud.sandbox import chamber
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.plan import workers_package

log = logging.getLogger("minicloud.environment")

CODE_EVERY_S = 3600.0


def _nothing_more(spec: EnvironmentSpec) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class HostParts:
    """`directory`: the host's own, for code and the base. `group_prefix`: of its control groups. `fetch`: brings a
    package whose path is not on this machine.

    `doors`: ports at `doors_at` that environments reach at their own 127.0.0.1. `variables`: more of the environment of
    a function (where the cloud is, credentials), good for VARIABLES_S. `isolated` False: plain processes, for machines
    where nothing better is allowed.
    """

    directory: Path
    group_prefix: str
    memory_mib: int
    logs: Logs = field(default_factory=NoLogs)
    variables: Callable[[EnvironmentSpec], Mapping[str, str]] = _nothing_more
    idle_s: float = IDLE_S_MAX
    isolated: bool = True
    doors: tuple[int, ...] = ()
    doors_at: str = "127.0.0.1"
    groups: Cgroups = field(default_factory=Cgroups.detect)
    cores: float = field(default_factory=lambda: float(os.cpu_count() or 1))
    name: str = "here"
    fetch: Fetch | None = None


class Maker:
    """Needs a running event loop; one per directory at a time. `start` sweeps what a killed predecessor left.

    `in_use`: what every environment that is there was made from. `owner`: of every environment.
    """

    def __init__(self, parts: HostParts, owner: Owner, in_use: Callable[[], Iterable[EnvironmentSpec]]) -> None:
        self._parts = parts
        self._owner = owner
        self._in_use = in_use
        parts.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._store = CodeStore(parts.directory / "store", parts.fetch)
        self._walls = Walls(parts.groups, parts.group_prefix)
        self._pythons: dict[str, machine.Interpreter] = {}
        self._node: machine.Interpreter | None = None
        self._zygotes: dict[str, Zygote] = {}
        self._sweeping: asyncio.Task[None] | None = None
        self.runtimes: tuple[str, ...] = ()
        self.warnings: tuple[str, ...] = ()

    async def start(self) -> None:
        """Raises OSError, TimeoutError, Unavailable."""
        self._pythons, self._node = await asyncio.to_thread(lambda: (machine.pythons(), machine.node()))
        node = "" if self._node is None else await asyncio.to_thread(machine.node_version, self._node)
        pythons = [f"python{version}" for version in sorted(self._pythons)]
        self.runtimes = (*pythons, *([f"nodejs{node}.x"] if node else []), *machine.PROVIDED)
        await self._walls.start()
        prefixes = [one.prefix for one in (*self._pythons.values(), self._node) if one is not None]
        for version, interpreter in self._pythons.items():
            work = self._parts.directory / f"base-{version}"
            work.mkdir(mode=0o755, exist_ok=True)
            config = machine.zygote_config(self._store.directory, work, prefixes, isolated=self._parts.isolated)
            self._zygotes[version] = Zygote(interpreter.executable, workers_package(), config)
        first = next(iter(self._zygotes.values()))
        await first.start()
        self.warnings = self._warnings(first)
        self._sweeping = asyncio.ensure_future(self._sweep_code())

    async def close(self) -> None:
        """Returns when no process of any environment is left."""
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes.values()))
        if self._sweeping is not None:
            self._sweeping.cancel()
        await asyncio.sleep(0)
        await self._walls.close()

    def zygotes(self) -> Sequence[Zygote]:
        return tuple(self._zygotes.values())

    @staticmethod
    def free_mib() -> int:
        """Of the machine's memory."""
        with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) // 1024
        return MEMORY_FREE_MIB_MIN

    async def make(self, spec: EnvironmentSpec, *, provisioned: bool) -> Environment:
        """It is ordered; the owner hears of it, not before this returns.

        Raises InvalidRequest, Unavailable, OSError.
        """
        if spec.runtime not in self.runtimes:
            raise no_runtime(spec.runtime)
        code, layers = self._store.ready(spec.code, spec.layers) or await self._store.get(spec.code, spec.layers)
        zygote = self._zygote(spec)
        await zygote.start()
        room: Room | NoRoom = NoRoom()
        if self._walls.enforced:
            room = self._walls.take(spec.memory_mib) or await self._walls.make(spec.memory_mib)
        try:
            joins = room.join()
        except OSError:
            room.free()
            raise
        environment = Environment(spec, self._owner, zygote, room)
        try:
            order = self._order_of(environment, zygote, (code, layers), provisioned=provisioned)
            await environment.start(order, {f"join{i}": fd for i, fd in enumerate(joins)})
        finally:
            for fd in joins:
                os.close(fd)
        return environment

    def told(self, spec: EnvironmentSpec, failed: Failure) -> Failure:
        """Why one never came up. AWS has a word of its own for packages without a bootstrap."""
        if not spec.runtime.startswith("provided") or b"exit status 127" not in failed.payload:
            return failed
        return outcomes.no_bootstrap("")

    def _zygote(self, spec: EnvironmentSpec) -> Zygote:
        own = self._zygotes.get(spec.runtime.removeprefix("python"))
        return own or next(iter(self._zygotes.values()))

    def _order_of(
        self, environment: Environment, zygote: Zygote, names: tuple[str, str], *, provisioned: bool
    ) -> dict[str, Any]:
        """`names`: of code and layers below the store."""
        (code, layers), spec = names, environment.spec
        inside = zygote.isolated
        store = self._store.directory
        task = chamber.TASK if inside else str(store / code)
        opt = chamber.OPT if inside else str(store / (layers or "layers"))
        runtime = chamber.RUNTIME if inside else str(workers_package().parent)
        uid = self._walls.next_uid() if inside else 0
        address = "127.0.0.1" if inside else _own_address(environment.name)
        paths = {
            "task": task,
            "opt": opt,
            "runtime": runtime,
            "tmp": "/tmp",
            "api": f"{address}:{chamber.API_PORT}",
            "stream": environment.stream,
            "initialization": "provisioned-concurrency" if provisioned else "on-demand",
        }
        env = machine.environment(spec, paths, self._parts.variables(spec))
        kind, argv = self._program(spec, code, task, opt)
        return {
            "kind": kind,
            "argv": argv,
            "env": env,
            "code": code,
            "layers": layers,
            "tmp_mib": spec.ephemeral_mib,
            "uid": uid,
            "rlimits": self._rlimits(spec),
            "address": address,
            "port": chamber.API_PORT,
            "doors": self._parts.doors if inside else (),
            "task": task,
            "opt": opt,
        }

    def _program(self, spec: EnvironmentSpec, code: str, task: str, opt: str) -> tuple[str, list[str]]:
        if spec.runtime.startswith("python"):
            return "python", []
        if spec.runtime.startswith("nodejs"):
            assert self._node is not None
            library = chamber.RUNTIME if task == chamber.TASK else str(workers_package().parent)
            megabytes = str(max(spec.memory_mib * 9 // 10 - 16, 32))
            options = ["--expose-gc", f"--max-old-space-size={megabytes}"]
            return "exec", [self._node.executable, *options, f"{library}/minicloud_workers/function_node.cjs"]
        own = (self._store.directory / code / "bootstrap").exists()
        return "exec", [f"{task}/bootstrap" if own else f"{opt}/bootstrap"]

    def _rlimits(self, spec: EnvironmentSpec) -> list[tuple[str, int]]:
        rlimits = [("RLIMIT_NOFILE", FILES_MAX)]
        if not self._walls.enforced:
            rlimits.append(("RLIMIT_DATA", spec.memory_mib * MIB))
            if os.geteuid() != 0:
                rlimits.append(("RLIMIT_NPROC", PROCESSES_MAX + 4_096))
        return rlimits

    async def _sweep_code(self) -> None:
        while True:
            await asyncio.sleep(CODE_EVERY_S)
            try:
                specs = set(self._in_use())
                await self._store.sweep({name for spec in specs for name in CodeStore.names(spec.code, spec.layers)})
            except OSError as error:
                log.warning("unpacked code stays: %s", error)

    def _warnings(self, zygote: Zygote) -> tuple[str, ...]:
        found = []
        if not zygote.isolated:
            found.append(f"functions run as plain processes, without walls between them: {zygote.why}")
        if not self._walls.enforced:
            found.append(f"memory and CPU of functions are not enforced: {self._parts.groups.reason}")
        return tuple(found)


def _own_address(name: str) -> str:
    """Of 127/8, where environments share the host's network."""
    number = int(name[:6], 16)
    return f"127.{128 + (number >> 16) % 120}.{number >> 8 & 255}.{number & 255 or 1}"
