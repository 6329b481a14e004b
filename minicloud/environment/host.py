"""Execution environments of all hosts: on demand, kept warm, ended when idle. Fulfils `ports.Environments`.

    invoke -> fleet of the spec -> an idle environment, else wait for one; who waits makes the fleet start some
    start  =  a host for it (choice.py) + an order to what makes environments there: maker.py here, far.py elsewhere

A spec's environments are a fleet (fleet.py), on whatever hosts they are. One that was idle for IDLE_S_MAX ends, unless
it is one of those that `prepare` asked for; a busy one ends after its invocation when its spec was retired. Room: the
memory limits of all environments of a host together may be MEMORY_OVERCOMMIT times its memory, and what is idle gives
way to what is asked for. On a host that is drained what is idle ends at once, what is busy after its invocation.

This machine is always a host. Others come and go (`attach`, `detach`). What runs on one that goes away fails with
HostGone, which is not tried again here, because it may have run; what was coming up there comes up elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from minicloud.base.errors import CloudError, Conflict, Unavailable
from minicloud.environment import choice
from minicloud.environment.environment import Environment
from minicloud.environment.fleet import Fleet, NeverUp
from minicloud.environment.limits import VARIABLES_S
from minicloud.environment.maker import HostParts as HostParts
from minicloud.environment.maker import Maker
from minicloud.environment.member import HostGone, Member, Owner
from minicloud.environment.outcomes import Failure
from minicloud.environment.sites import Site, SiteNow, by_site
from minicloud.environment.zygotes import Zygote
from minicloud.function.errors import no_room, no_runtime
from minicloud.function.ports import Counts, Done, EnvironmentSpec, Invocation, Outcome

log = logging.getLogger("minicloud.environment")

CORDONED, DRAINED = "cordoned", "drained"
SWEEP_S = 5.0
REFILL_S = 2.0
TRIES_MAX = 3  # for one invocation, where environments die between being idle and being asked


class FunctionHost:
    """Needs a running event loop; one per directory at a time. `start` sweeps what a killed predecessor left."""

    def __init__(self, parts: HostParts) -> None:
        self._parts = parts
        self._fleets: dict[EnvironmentSpec, Fleet] = {}
        self._of_function: dict[str, dict[EnvironmentSpec, Fleet]] = {}
        self.owner = Owner(self._idle, self._never, self._ended, parts.logs, parts.doors_at, self._failed)
        self._maker = Maker(parts, self.owner, self._specs)
        self._fleet_of: dict[Member, Fleet] = {}
        self._sites: dict[str, Site] = {}
        self._site_of: dict[Member, Site] = {}
        self._cordoned: dict[str, str] = {}  # host -> why nothing new comes up there
        self._sweeper: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._maker.warnings

    async def start(self) -> None:
        """Raises OSError, TimeoutError, Unavailable."""
        await self._maker.start()
        capacity = self._parts.memory_mib, self._parts.cores
        self.attach(Site(self._parts.name, self._maker, capacity, near=True))
        self._sweep()

    async def close(self) -> None:
        """Returns when no process of any environment of this machine is left; others end theirs themselves."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for site in [one for one in self._sites.values() if not one.near]:
            self.detach(site)
        closing = asyncio.ensure_future(self._maker.close())
        await asyncio.wait([closing])
        for task in list(self._tasks):
            task.cancel()
        await asyncio.sleep(0)
        closing.result()

    # ------------------------------------------------------------ hosts

    def attach(self, site: Site) -> None:
        """A host is there. One of the same name that was there before is lost. Raises Conflict: it is this machine."""
        before = self._sites.get(site.name)
        if before is not None and before.near:
            raise Conflict(f"{site.name} is the host of the functions process")
        if before is not None:
            self.detach(before)
        self._sites[site.name] = site
        self._follow(site)

    def detach(self, site: Site) -> None:
        """It is lost, with everything on it. Idempotent."""
        if self._sites.get(site.name) is site:
            del self._sites[site.name]
        site.lost()

    def cordon(self, name: str, cordoned: bool, drained: bool = False) -> None:
        """Nothing new comes up on this host, be it there now or later; what is there stays; if drained, it ends."""
        self._cordoned.pop(name, None)
        if cordoned or drained:
            self._cordoned[name] = DRAINED if drained else CORDONED
        if name in self._sites:
            self._follow(self._sites[name])

    def _follow(self, site: Site) -> None:
        """What was asked for of this host holds from now on."""
        site.closed = self._cordoned.get(site.name, "")
        if site.closed == DRAINED:
            self._end_idle(site)
        for fleet in list(self._fleets.values()) if not site.closed else ():  # there may be room again for these
            self._start_some(fleet, fleet.wanted - len(fleet.members) - fleet.starting)

    def _end_idle(self, site: Site) -> None:
        for fleet in list(self._fleets.values()):
            for environment in [one for one in fleet.idle if self._site_of[one] is site]:
                fleet.let_go(environment)

    # ------------------------------------------------------------ ports.Environments

    async def invoke(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        fleet = self._fleet(spec)
        for tries in range(TRIES_MAX):
            try:
                environment = await fleet.get()
            except NeverUp as never:
                return await never.environment.stillborn(invocation, never.failed)
            began = time.perf_counter()
            try:
                return await environment.run(invocation)
            except HostGone:
                raise
            except Unavailable:
                fleet.later(environment)
                if tries == TRIES_MAX - 1:
                    raise
            finally:
                fleet.took(time.perf_counter() - began)
        raise AssertionError("not reached")

    def begin(self, spec: EnvironmentSpec, invocation: Invocation, done: Done) -> bool:
        fleet = self._fleets.get(spec)
        if fleet is None or fleet.retired or invocation.sink is not None or not fleet.idle:
            return False
        environment = fleet.idle[-1]
        if not isinstance(environment, Environment) or not environment.ready:
            return False
        fleet.idle.pop()
        environment.begin(invocation, partial(_over, fleet, done))
        return True

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
        if len(counts) == 1:
            return counts[0]
        return Counts(*(sum(column) for column in zip(*counts, strict=True))) if counts else Counts()

    def hosts(self) -> list[SiteNow]:
        """Those that are there, this machine first."""
        return [site.now() for site in sorted(self._sites.values(), key=lambda one: (not one.near, one.name))]

    def runtimes(self) -> Sequence[str]:
        return tuple(dict.fromkeys(name for site in self._sites.values() for name in site.makes.runtimes))

    def zygotes(self) -> Sequence[Zygote]:
        return self._maker.zygotes()

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
            site = self._site_for(spec)
            environment = await site.make(spec, provisioned=fleet.wanted > 0)
            self._fleet_of[environment], self._site_of[environment] = fleet, site
        except HostGone:
            fleet.lost()
        except CloudError as error:
            fleet.fail(error)
        except OSError as error:
            log.error("an environment of %s: %s", spec.arn, error)
            fleet.fail(Unavailable(f"no environment: {error}"))

    # ------------------------------------------------------------ room

    def _site_for(self, spec: EnvironmentSpec) -> Site:
        """Raises TooManyRequests. Where no host has room, idle environments of others go."""
        if self._closed:
            raise Unavailable("the function host goes")
        seen = [site.seen(spec.runtime) for site in self._sites.values()]
        name = choice.choose(seen, spec.memory_mib)
        if name:
            return self._sites[name]
        spare = by_site(self._spare(spec))
        sizes = {name: [one.spec.memory_mib for one in members] for name, members in spare.items()}
        chosen = choice.make_way(seen, sizes, spec.memory_mib)
        for environment in spare.get(chosen.site, ())[: chosen.gives_way]:
            self._fleet_of[environment].let_go(environment)
            self._site_of[environment].uncount(environment)
        if chosen.refused:
            raise no_room(chosen.refused)
        return self._sites[chosen.site]

    def _spare(self, spec: EnvironmentSpec) -> Iterator[tuple[str, Member]]:
        """Idle environments of others that nobody asked to keep, and where they are."""
        for fleet in self._fleets.values():
            if fleet.spec != spec:
                for one in fleet.idle[: max(len(fleet.members) - fleet.wanted, 0)]:
                    yield self._site_of[one].name, one

    # ------------------------------------------------------------ what environments tell (environment.Owner)

    def _idle(self, environment: Member) -> None:
        fleet = self._fleet_of[environment]
        new = environment not in fleet.members
        if new:
            fleet.up((environment.init_ms or 0.0) / 1000)
            fleet.members.add(environment)
        ends = fleet.retired or self._site_of[environment].closed == DRAINED
        if ends and not ((new or fleet.retired) and fleet.waiting()):
            environment.kill()
        else:
            fleet.free(environment)

    def _never(self, environment: Member, failed: Failure) -> None:
        fleet = self._fleet_of[environment]
        fleet.fail(NeverUp(environment, self._maker.told(environment.spec, failed)))

    def _failed(self, environment: Member, error: CloudError) -> None:
        fleet = self._fleet_of[environment]
        if isinstance(error, HostGone):
            fleet.lost()
        else:
            fleet.fail(error)

    def _ended(self, environment: Member) -> None:
        fleet = self._fleet_of.pop(environment)
        self._site_of.pop(environment).gone(environment)
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
        for site in self._sites.values():
            if site.closed == DRAINED:
                self._end_idle(site)
        for fleet in list(self._fleets.values()):
            count = len(fleet.members) - fleet.wanted
            idle = [one for one in fleet.idle if one.idle_since < line][: max(count, 0)]
            for environment in {*idle, *(one for one in fleet.idle if one.age_s > VARIABLES_S)}:
                fleet.let_go(environment)
            self._forget(fleet)

    def _specs(self) -> Iterator[EnvironmentSpec]:
        yield from self._fleets
        yield from (one.spec for one in self._fleet_of)


def _over(fleet: Fleet, done: Done, said: Outcome | BaseException) -> None:
    if isinstance(said, Outcome):
        fleet.took(said.duration_ms / 1000)
    done(said)
