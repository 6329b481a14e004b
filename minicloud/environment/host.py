"""The function host of one machine: environments on demand, kept warm, ended when idle. Fulfils `ports.Environments`.

    invoke -> fleet of the spec -> an idle environment, else wait for one; who waits makes the fleet start some
    start  =  code unpacked (once per host) + a control group (made ahead) + an order to the zygote of the runtime

A spec's environments are a fleet (fleet.py). One that was idle for IDLE_S_MAX ends, unless it is one of those that
`prepare` asked for; a busy one ends after its invocation when its spec was retired. Room: the memory limits of all
environments together may be MEMORY_OVERCOMMIT times the host's memory, and what is idle gives way to what is asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from minicloud.base.errors import CloudError, Unavailable
from minicloud.environment import machine, outcomes
from minicloud.environment.code_store import CodeStore
from minicloud.environment.environment import Environment, Owner
from minicloud.environment.fleet import Fleet, NeverUp
from minicloud.environment.limits import (
    ENVIRONMENTS_MAX,
    FILES_MAX,
    IDLE_S_MAX,
    MEMORY_FREE_MIB_MIN,
    MEMORY_OVERCOMMIT,
    MIB,
    PROCESSES_MAX,
    VARIABLES_S,
)
from minicloud.environment.outcomes import Failure
from minicloud.environment.walls import NoRoom, Room, Walls
from minicloud.environment.zygotes import Zygote
from minicloud.function.errors import no_room, no_runtime
from minicloud.function.ports import Counts, EnvironmentSpec, Invocation, Logs, NoLogs, Outcome
from minicloud.sandbox import chamber
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.plan import workers_package

log = logging.getLogger("minicloud.environment")

SWEEP_S = 5.0
REFILL_S = 2.0
CODE_EVERY_S = 3600.0
TRIES_MAX = 3  # for one invocation, where environments die between being idle and being asked


def _nothing_more(spec: EnvironmentSpec) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class HostParts:
    """`directory`: the host's own, for code and the base. `group_prefix`: of its control groups.

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


class FunctionHost:
    """Needs a running event loop; one per directory at a time. `start` sweeps what a killed predecessor left."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        parts.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._store = CodeStore(parts.directory / "store")
        self._walls = Walls(parts.groups, parts.group_prefix)
        self._fleets: dict[EnvironmentSpec, Fleet] = {}
        self._of_function: dict[str, dict[EnvironmentSpec, Fleet]] = {}
        self._pythons: dict[str, machine.Interpreter] = {}
        self._node: machine.Interpreter | None = None
        self._node_version = ""
        self._zygotes: dict[str, Zygote] = {}
        self._owner = Owner(self._idle, self._never, self._ended, parts.logs, parts.doors_at)
        self._fleet_of: dict[Environment, Fleet] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._memory_mib = 0
        self._closed = False
        self.warnings: tuple[str, ...] = ()

    async def start(self) -> None:
        """Raises OSError, TimeoutError, Unavailable."""
        self._pythons, self._node = await asyncio.to_thread(lambda: (machine.pythons(), machine.node()))
        if self._node is not None:
            self._node_version = await asyncio.to_thread(machine.node_version, self._node)
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
        self._sweep()
        sweeping = asyncio.ensure_future(self._sweep_code())
        self._tasks.add(sweeping)
        sweeping.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Returns when no process of any environment is left."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes.values()))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)
        await self._walls.close()

    # ------------------------------------------------------------ ports.Environments

    async def invoke(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        fleet = self._fleet(spec)
        for tries in range(TRIES_MAX):
            try:
                environment = await fleet.get()
            except NeverUp as never:
                return never.environment.stillborn(invocation, never.failed)
            began = time.perf_counter()
            try:
                return await environment.run(invocation)
            except Unavailable:
                fleet.later(environment)
                if tries == TRIES_MAX - 1:
                    raise
            finally:
                fleet.took(time.perf_counter() - began)
        raise AssertionError("not reached")

    async def prepare(self, spec: EnvironmentSpec, count: int) -> int:
        fleet = self._fleet(spec)
        fleet.wanted = count
        more = count - len(fleet.members) - fleet.starting
        self._start_some(fleet, more)
        await fleet.settled(count)
        self._forget(fleet)
        return len(fleet.members)

    async def retire(self, arn: str, version: str = "", revision: str = "") -> None:
        for spec, fleet in list(self._fleets.items()):
            if spec.arn == arn and version in ("", spec.version) and spec.revision != revision:
                fleet.retired, fleet.wanted = True, 0
                for environment in list(fleet.idle):
                    fleet.let_go(environment)

    def counts(self, arn: str = "", version: str = "") -> Counts:
        fleets = self._of_function.get(arn, {}) if arn else self._fleets
        counts = [fleet.counts() for spec, fleet in fleets.items() if version in ("", spec.version)]
        return Counts(*(sum(column) for column in zip(*counts, strict=True))) if counts else Counts()

    def runtimes(self) -> Sequence[str]:
        pythons = [f"python{version}" for version in sorted(self._pythons)]
        return [*pythons, *([f"nodejs{self._node_version}.x"] if self._node_version else []), *machine.PROVIDED]

    def zygotes(self) -> Sequence[Zygote]:
        return tuple(self._zygotes.values())

    # ------------------------------------------------------------ starting

    def _fleet(self, spec: EnvironmentSpec) -> Fleet:
        fleet = self._fleets.get(spec)
        if fleet is None or fleet.retired:
            if spec.runtime not in self.runtimes():
                raise no_runtime(spec.runtime)
            fleet = self._fleets[spec] = Fleet(spec, self._start_some)
            self._of_function.setdefault(spec.arn, {})[spec] = fleet
        return fleet

    def _start_some(self, fleet: Fleet, count: int) -> None:
        """Counted from now on; what goes wrong is told to the fleet."""
        for _ in range(count):
            fleet.starting += 1
            task = asyncio.ensure_future(self._start(fleet))
            self._tasks.add(task)
            task.add_done_callback(partial(self._begun, fleet))

    def _begun(self, fleet: Fleet, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            fleet.fail(Unavailable("the function host goes"))
        elif task.exception() is not None:
            log.error("an environment of %s", fleet.spec.arn, exc_info=task.exception())
            fleet.fail(Unavailable("no environment: internal error"))

    async def _start(self, fleet: Fleet) -> None:
        spec = fleet.spec
        try:
            self._make_room(spec)
            self._memory_mib += spec.memory_mib
            try:
                await self._order(fleet)
            except BaseException:
                self._memory_mib -= spec.memory_mib
                raise
        except CloudError as error:
            fleet.fail(error)
        except OSError as error:
            log.error("an environment of %s: %s", spec.arn, error)
            fleet.fail(Unavailable(f"no environment: {error}"))

    async def _order(self, fleet: Fleet) -> None:
        spec = fleet.spec
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
        self._fleet_of[environment] = fleet
        try:
            order = self._order_of(spec, environment, zygote, code, layers)
            await environment.start(order, {f"join{i}": fd for i, fd in enumerate(joins)})
        except BaseException:
            self._fleet_of.pop(environment, None)
            raise
        finally:
            for fd in joins:
                os.close(fd)

    def _zygote(self, spec: EnvironmentSpec) -> Zygote:
        own = self._zygotes.get(spec.runtime.removeprefix("python"))
        return own or next(iter(self._zygotes.values()))

    def _order_of(
        self, spec: EnvironmentSpec, environment: Environment, zygote: Zygote, code: str, layers: str
    ) -> dict[str, Any]:
        inside = zygote.isolated
        store = self._store.directory
        task = chamber.TASK if inside else str(store / code)
        opt = chamber.OPT if inside else str(store / (layers or "layers"))
        runtime = chamber.RUNTIME if inside else str(workers_package().parent)
        uid = self._walls.next_uid() if inside else 0
        address = "127.0.0.1" if inside else _own_address(environment.name)
        provisioned = self._fleets[spec].wanted > 0 if spec in self._fleets else False
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

    # ------------------------------------------------------------ room

    def _make_room(self, spec: EnvironmentSpec) -> None:
        """Raises TooManyRequests. Idle environments of others go first, those that were idle longest at first."""
        if self._closed:
            raise Unavailable("the function host goes")
        lacking = self._lacking(spec)
        if not lacking:
            return
        spare = [
            (fleet, one)
            for fleet in self._fleets.values()
            if fleet.spec != spec
            for one in fleet.idle[: max(len(fleet.members) - fleet.wanted, 0)]
        ]
        for fleet, environment in sorted(spare, key=lambda pair: pair[1].idle_since):
            fleet.let_go(environment)
            self._memory_mib -= environment.spec.memory_mib
            environment.counted = False
            if not (lacking := self._lacking(spec)):
                return
        raise no_room(lacking)

    def _lacking(self, spec: EnvironmentSpec) -> str:
        if len(self._fleet_of) >= ENVIRONMENTS_MAX:
            return f"{ENVIRONMENTS_MAX} environments run"
        if self._memory_mib + spec.memory_mib > MEMORY_OVERCOMMIT * self._parts.memory_mib:
            return f"memory, {spec.memory_mib} MiB are not left"
        if _free_mib() < MEMORY_FREE_MIB_MIN:
            return "memory of the machine"
        return ""

    # ------------------------------------------------------------ what environments tell (environment.Owner)

    def _idle(self, environment: Environment) -> None:
        fleet = self._fleet_of[environment]
        if environment not in fleet.members:
            fleet.up((environment.init_ms or 0.0) / 1000)
            fleet.members.add(environment)
        if fleet.retired and not fleet.waiting():
            environment.kill()
        else:
            fleet.free(environment)

    def _never(self, environment: Environment, failed: Failure) -> None:
        fleet = self._fleet_of[environment]
        program = self._program_missing(environment.spec, failed)
        fleet.fail(NeverUp(environment, program or failed))

    def _program_missing(self, spec: EnvironmentSpec, failed: Failure) -> Failure | None:
        """AWS has a word of its own for packages without a bootstrap."""
        if not spec.runtime.startswith("provided") or b"exit status 127" not in failed.payload:
            return None
        return outcomes.no_bootstrap("")

    def _ended(self, environment: Environment) -> None:
        fleet = self._fleet_of.pop(environment)
        if environment.counted:
            self._memory_mib -= environment.spec.memory_mib
        came_up = environment in fleet.members
        fleet.gone(environment)
        if self._closed:
            return
        if came_up and fleet.wanted:  # one that dies as soon as it is up must not be a loop
            pause_s = 0.0 if environment.age_s > REFILL_S else REFILL_S
            asyncio.get_running_loop().call_later(pause_s, self._refill, fleet)
        self._forget(fleet)

    def _refill(self, fleet: Fleet) -> None:
        if not self._closed and len(fleet.members) + fleet.starting < fleet.wanted:
            self._start_some(fleet, 1)

    def _forget(self, fleet: Fleet) -> None:
        spec = fleet.spec
        if fleet.empty and self._fleets.get(spec) is fleet:
            del self._fleets[spec]
            del self._of_function[spec.arn][spec]
            if not self._of_function[spec.arn]:
                del self._of_function[spec.arn]

    # ------------------------------------------------------------ idle ones

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(min(SWEEP_S, self._parts.idle_s), self._sweep)
        line = loop.time() - self._parts.idle_s
        for fleet in list(self._fleets.values()):
            count = len(fleet.members) - fleet.wanted
            idle = [one for one in fleet.idle if one.idle_since < line][: max(count, 0)]
            for environment in {*idle, *(one for one in fleet.idle if one.age_s > VARIABLES_S)}:
                fleet.let_go(environment)
            self._forget(fleet)

    async def _sweep_code(self) -> None:
        while True:
            await asyncio.sleep(CODE_EVERY_S)
            try:
                specs = {*self._fleets, *(one.spec for one in self._fleet_of)}
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


def _free_mib() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) // 1024
    return MEMORY_FREE_MIB_MIN
