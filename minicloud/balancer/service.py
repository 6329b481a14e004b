"""Balancers at work: the machine behind its shell, and a HAProxy that follows it.

    submit(command) -> on disk -> reply; then the data plane is made to follow: `follow` wakes at each change
    `watch` reads health every LOOK_S, tells the machine what is news, and clears out what left

A change that HAProxy refuses is tried again, all of it, after a pause; so is a HAProxy that does not come up. Both
tasks live as long as the service, whatever they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from minicloud.balancer import groups
from minicloud.balancer.access import Entries, entries
from minicloud.balancer.commands import (
    DeregisterTargets,
    InstanceSeen,
    ObserveHealth,
    ProxyStarts,
    RegisterTargets,
    TargetIdle,
    TargetSpec,
    Verdict,
)
from minicloud.balancer.health import REGISTERING, SERVED
from minicloud.balancer.layout import Places
from minicloud.balancer.limits import CONNECTIONS_MAX
from minicloud.balancer.links import DataPlane
from minicloud.balancer.machine import Balancers
from minicloud.balancer.metering import Meter
from minicloud.balancer.model import INSTANCE, Balancer, Group, Listener, Rule, Target
from minicloud.balancer.ports import (
    Functions,
    Instances,
    NoFunctions,
    NoInstances,
    NoSeal,
    Place,
    Seal,
    Shell,
)
from minicloud.balancer.state import State
from minicloud.balancer.targets import INSTANCE as INSTANCE_ID
from minicloud.balancer.targets import check_count, function_of
from minicloud.balancer.verdicts import judge
from minicloud.base.errors import CloudError, Unavailable
from minicloud.base.machine import Journal, Touched
from minicloud.proxy.first_checks import FirstChecks
from minicloud.proxy.process import Haproxy, ProxyEvents
from minicloud.proxy.relay import Relay
from minicloud.proxy.timing import TimesReader
from minicloud.shell.clock import Clock, SystemClock
from minicloud.shell.reports import Report
from minicloud.shell.shell import Shell as DurableShell

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOK_S = 0.5
START_S_MAX = 10.0
RETRY_S = (0.2, 5.0)  # after a failure, doubling
PORTS_AGAIN_S = 5.0  # a port that was another program's is asked for again
FOLLOWED_S_MAX = 2.0  # an answer waits this long for HAProxy, then it goes without
LOG_BYTES_MAX = 64 * 1024 * 1024  # then a log starts anew, and what was written is in access.log.1, haproxy.log.1


@dataclass(frozen=True, slots=True)
class Work:
    """Where a shard keeps its files, and what it may take. `env`: HAProxy's environment.

    `stats`: HAProxy's socket, where a path in `folder` would be too long for one. `loopback`: see machine.Balancers.
    """

    folder: Path
    env: Mapping[str, str]
    threads: int = 0
    second_ms: int = 1_000
    look_s: float = LOOK_S
    stats: Path | None = None
    seal: Seal = field(default_factory=NoSeal)
    loopback: bool = True
    functions: Functions = field(default_factory=NoFunctions)

    @property
    def times(self) -> Path:
        """The socket at which HAProxy tells how long targets take."""
        return (self.stats or self.folder / "stats").with_suffix(".times")

    def places(self) -> Places:
        folder = self.folder
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        connections = CONNECTIONS_MAX if hard == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, (hard - 500) // 3)
        return Places(
            str(self.stats or folder / "stats"),
            str(folder / "states"),
            str(folder / "certificates"),
            str(self.times),
            connections,
            self.threads,
            self.second_ms,
            self.functions,
        )


@dataclass(slots=True)
class _Dirty:
    """What the data plane has not followed yet: sections of target groups, or everything."""

    everything: bool = True
    sections: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return self.everything or bool(self.sections)


class BalancerService:
    """One shard. `on_pid` hears of each HAProxy that starts, before it serves, so that a sweep can find it."""

    def __init__(
        self,
        journal: Journal,
        work: Work,
        instances: Instances | None = None,
        clock: Clock | None = None,
        on_pid: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        self._work = work
        self._clock = clock or SystemClock()
        self._instances = instances or NoInstances()
        self._machine = Balancers(work.seal, loopback=work.loopback)
        shell = DurableShell(
            self._machine, journal, clock=self._clock, rand=random.SystemRandom(), on_effects=self._changed
        )
        self.shell: Shell = shell
        self.ended = shell.ended  # another owner took over, or the disk failed: nothing is served any more
        events = ProxyEvents(on_pid, self._ended)
        haproxy = Haproxy(work.folder, work.folder / "haproxy.log", dict(work.env), events, work.folder / "access.log")
        self.plane = DataPlane(self._machine.state, work.places(), haproxy, self._still_owner, work.seal)
        self.followers: set[Callable[[Touched], None]] = set()  # told of every change, at once
        self._dirty = _Dirty()
        self._meter = Meter()
        self._times = TimesReader(work.times, self._access)
        self.on_access: Callable[[Entries], None] = lambda _entries: None  # where entries of access logs go
        self._wake = asyncio.Event()
        self._followed = asyncio.Event()
        self._again: asyncio.TimerHandle | None = None
        self._first = FirstChecks(self._proven)
        self._relay = Relay(self.plane.candidate)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns once the balancers that were there carry traffic again, or after START_S_MAX, when it is still tried.

        Raises what the journal raises.
        """
        self._work.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._times.start()
        self.plane.use_relay(await self._relay.start())
        await self.shell.start()
        self._tasks = [asyncio.create_task(self._forever(each)) for each in (self._follow, self._watch)]
        self._tasks.append(asyncio.create_task(self._give_up()))
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S_MAX):
                await self._followed.wait()

    async def stop(self, grace_s: float = 2.0) -> None:
        """HAProxy finishes what it has for `grace_s`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._first.close()
        await self.shell.stop()
        await self.plane.stop(grace_s)
        await self._times.stop()
        self._relay.stop()

    async def submit(self, command: Any) -> Any:
        """One of balancer.commands; its reply, once it is on disk. Raises as Balancers.decide and the shell do."""
        if isinstance(command, RegisterTargets):
            return await self._register(command)
        return await self.shell.submit(command)

    async def shown(self, look: Callable[[State], T]) -> T:
        """What `look` sees, or raises, once all of it is on disk."""
        return await self.shell.shown(lambda: look(self._machine.state))

    def read(self, look: Callable[[State], T]) -> T:
        return self.shell.read(lambda: look(self._machine.state))

    async def served(self, command: Any) -> Any:
        """As `submit`, and HAProxy does as it says, or has not come to it within FOLLOWED_S_MAX."""
        reply = await self.submit(command)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FOLLOWED_S_MAX):
                await self.settled()
        return reply

    async def settled(self) -> None:
        """Return once HAProxy does what was acknowledged so far."""
        while self._dirty or not self._followed.is_set():
            await self._followed.wait()
            await asyncio.sleep(0)

    async def measure(self, start: float = 0.0) -> list[Report]:
        """What balancers and groups did since the last call, at `start`, and how they are. Raises Unavailable."""
        await self._read_counters()
        times = self._times.take()
        return self.read(lambda state: self._meter.report(state, times, start))

    @property
    def lines_dropped(self) -> int:
        """Of what HAProxy tells of requests, access logs among it: lines that came faster than they could be read."""
        return self._times.dropped

    def _access(self, lines: list[bytes]) -> None:
        texts = [line.decode("utf-8", "replace") for line in lines]
        self.on_access(self.read(lambda state: entries(state, texts)))

    async def counted(self) -> Counter[str]:
        """What all listeners counted since the start, by HAProxy's names. What cannot be read now comes later."""
        with contextlib.suppress(Unavailable):
            await self._read_counters()
        return Counter(self._meter.totals)

    async def _read_counters(self) -> None:
        """Raises Unavailable."""
        closed, self.plane.closed = self.plane.closed, []
        for pid, rows in closed:
            self._meter.read(pid, rows)
        if self.plane.pid is not None:
            self._meter.read(self.plane.pid, await self.plane.stats())

    async def _still_owner(self) -> None:
        await self.shell.submit(ProxyStarts())

    # --- where instances are

    async def seen(self, instance_id: str, place: Place | None, gone: bool = False) -> None:
        """An instance is at another place, does not run (None), or is gone for good: then it is no target any more."""
        if not self._registrations(instance_id):
            return
        address, zone = place or ("", "")
        await self.shell.submit(InstanceSeen(instance_id, address, zone))
        for target in self._registrations(instance_id) if gone else ():
            await self.shell.submit(
                DeregisterTargets(target.scope, target.group, (TargetSpec(target.id, target.port),))
            )

    def instances(self) -> set[str]:
        """Those that are targets."""
        return self.read(lambda state: {one.id for one in state.targets.values() if _is_instance(state, one)})

    def _registrations(self, instance_id: str) -> list[Target]:
        return self.read(lambda state: [one for one in state.targets_on(instance_id) if _is_instance(state, one)])

    async def _register(self, command: RegisterTargets) -> Any:
        """Instances are looked up before, and again once they are targets: what changed between is not lost."""
        await self._admit(command)
        placed = replace(command, targets=await self._placed(command))
        reply = await self.shell.submit(placed)
        after = {spec.id: spec for spec in await self._placed(command)}
        for spec in placed.targets:
            now = after[spec.id]
            if (now.address, now.zone) != (spec.address, spec.zone):
                await self.seen(spec.id, Place(now.address, now.zone) if now.address else None)
        return reply

    async def _admit(self, command: RegisterTargets) -> None:
        """A function is asked whether it may be a target; what else is wrong, the machine says."""
        check_count(command.targets)
        group = self.read(lambda state: state.groups.get(command.group))
        if group is None or not group.has_function or group.scope != command.scope:
            return
        functions = {function_of(group, spec) for spec in command.targets}
        if len(functions) == 1:
            await self._work.functions.admit(group.scope, group.arn, functions.pop())

    async def _placed(self, command: RegisterTargets) -> tuple[TargetSpec, ...]:
        check_count(command.targets)
        ids = [spec.id for spec in command.targets if INSTANCE_ID.match(spec.id)]
        found = await self._instances.places(command.scope, ids) if ids else {}
        return tuple(_at(spec, found) for spec in command.targets)

    # --- following the state

    def _changed(self, effects: Sequence[Touched]) -> None:
        for one in effects:
            self._mark(one)
            for follower in self.followers:
                follower(one)
        if self._dirty:
            self._followed.clear()
            self._wake.set()

    def _mark(self, one: Touched) -> None:
        if one.kind == Target.kind:
            if _same_server(one.before, one.after):
                return
            group = self._machine.state.groups.get((one.after or one.before).group)
            if group is not None and group.has_function:
                self._dirty.everything = True
            elif group is not None and group.balancer:
                self._dirty.sections.add(groups.section(group))
        elif one.kind in (Balancer.kind, Listener.kind, Rule.kind, Group.kind):
            self._dirty.everything = True

    def _ended(self, pid: int, status: int, wanted: bool) -> None:
        if not wanted and self.plane.pid is None:
            log.error("HAProxy %d ended with status %d; it is started again", pid, status)
            self._everything_again()

    async def _follow(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        taken, self._dirty = self._dirty, _Dirty(everything=False)
        try:
            await self.plane.converge(None if taken.everything else sorted(taken.sections))
        except BaseException:
            self._everything_again()
            raise
        if self.plane.left_out and self._again is None:
            self._again = asyncio.get_running_loop().call_later(PORTS_AGAIN_S, self._ports_again)
        if not self._dirty:
            self._followed.set()
        await self._report_known()
        self._first.follow(self.plane.unproven())

    def _ports_again(self) -> None:
        self._again = None
        self._everything_again()

    def _everything_again(self) -> None:
        self._dirty.everything = True
        self._followed.clear()
        self._wake.set()

    async def _report_known(self) -> None:
        known = self.plane.known()
        targets = self._machine.state.targets
        fresh = tuple(key for key in known if key in targets and targets[key].reason == REGISTERING)
        if fresh:
            await self.shell.submit(ObserveHealth(known=fresh))

    # --- watching HAProxy

    async def _watch(self) -> None:
        await asyncio.sleep(self._work.look_s)
        if self.plane.pid is None or self._dirty:
            return
        rows = await self.plane.look()
        found = judge(rows, self.plane.watched(), self._clock.wall())
        if found.promote:
            await self.plane.promote(found.promote)
        if found.verdicts:
            await self.shell.submit(ObserveHealth(tuple(found.verdicts)))
        if self._dirty:
            return
        self._first.follow(self.plane.unproven())
        await self.plane.clear_out(rows)
        for target in self.plane.idle():
            await self.shell.submit(TargetIdle(target.key))
        await asyncio.to_thread(self._turn_logs)

    async def _proven(self, place: tuple[str, str]) -> None:
        """A new target passed its first check."""
        watched = self.plane.watched().get(place)
        if watched is None or watched.target.state != "initial" or not await self.plane.promote([place]):
            return
        await self.shell.submit(ObserveHealth((Verdict(watched.target.key, True),)))

    def _turn_logs(self) -> None:
        """HAProxy appends to the files that it was started with: what is in one is copied away, then it is emptied."""
        for name in ("access.log", "haproxy.log"):
            path = self._work.folder / name
            if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
                shutil.copyfile(path, path.with_suffix(".log.1"))
                os.truncate(path, 0)

    async def _give_up(self) -> None:
        """A shard whose shell has ended carries no traffic: its addresses are its successor's."""
        await self.ended.wait()
        for task in self._tasks[:-1]:
            task.cancel()
        await self.plane.stop(0.0)

    async def _forever(self, step: Callable[[], Awaitable[None]]) -> None:
        pause_s = RETRY_S[0]
        while True:
            try:
                await step()
                pause_s = RETRY_S[0]
                continue
            except (CloudError, OSError) as error:
                log.warning("balancers: %s; again in %.1f s", error, pause_s)
            except Exception:
                log.exception("balancers: again in %.1f s", pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_S[1])


def _is_instance(state: State, target: Target) -> bool:
    return state.groups[target.group].target_type == INSTANCE


def _at(spec: TargetSpec, found: Mapping[str, Any]) -> TargetSpec:
    place = found.get(spec.id)
    return replace(spec, address=place.address, zone=place.zone) if place else replace(spec, address="")


def _same_server(before: Target | None, after: Target | None) -> bool:
    """HAProxy need not hear of it: it was HAProxy who said it."""
    if before is None or after is None:
        return before is None and after is not None and after.state not in SERVED
    where = (before.address, before.zone, before.state in SERVED) == (after.address, after.zone, after.state in SERVED)
    return where and not (after.reason == REGISTERING and before.reason != REGISTERING)
