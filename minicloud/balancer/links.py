"""The data plane: one HAProxy that is made to be what the state says.

    targets come, go, change weight    by the runtime API; nothing is interrupted
    anything else changes              by a reload: a second process takes the sockets over, the first finishes what it
                                       has (proxy/process.py); what is known of servers goes with it (proxy/states.py)
    HAProxy is killed                  it is started again with the configuration that the state says now; who comes
                                       meanwhile waits (proxy/sockets.py)
    this process was killed            the HAProxy that it left behind is relieved by a new one, as by a reload

A server that goes is put into maintenance, and deleted once nothing is in flight on it. A port that another program has
is left out and asked for again, and so is a balancer that HAProxy does not take: none can hold up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from minicloud.balancer import groups, listeners
from minicloud.balancer.backends import CONNECT_MS, OPEN, Served, served, server_name
from minicloud.balancer.certificates import key_of
from minicloud.balancer.layout import Places, certificate_path, layout, skeleton
from minicloud.balancer.model import Group, Target
from minicloud.balancer.ports import NoSeal, Seal
from minicloud.balancer.state import State
from minicloud.balancer.verdicts import Watched
from minicloud.base.errors import CloudError, Internal, Unavailable
from minicloud.proxy.config import ProxyConfig, Server
from minicloud.proxy.first_checks import Candidate
from minicloud.proxy.process import Haproxy, find_orphan
from minicloud.proxy.runtime import RuntimeApi, ServerStats, adding
from minicloud.proxy.states import Known, document, line

log = logging.getLogger(__name__)

RELOAD_PAUSE_S = 0.1  # ours: between two reloads, for each process there is
CLOSED_MAX = 100  # ours: readings that nobody has asked for
CUT_AFTER_S = CONNECT_MS / 1000 + 0.5
PROCESSES_MAX = 16  # ours: of reloads whose requests have not ended; the oldest is ended beyond it
_NOWHERE = "127.0.0.1"
Place = tuple[str, str]  # backend, server
Port = tuple[str, int]
_REFUSED = "the proxy does not take this load balancer's configuration"


@dataclass(slots=True)
class _InForce:
    """What the running process was told."""

    skeleton: str = ""
    groups: dict[str, Served] = field(default_factory=dict)  # by section
    ports: frozenset[Port] = frozenset()  # that it listens on
    leaving: dict[Place, float] = field(default_factory=dict)  # in maintenance; when what is left is cut (monotonic)


class DataPlane:
    """Belongs to one event loop."""

    def __init__(
        self,
        state: State,
        places: Places,
        haproxy: Haproxy,
        before_start: Callable[[], Awaitable[None]],
        seal: Seal | None = None,
    ) -> None:
        """`before_start` raises where this shard is another one's now: no HAProxy may be started then."""
        self._before_start = before_start
        self._state = state
        self._places = places
        self._seal = seal or NoSeal()
        self._haproxy = haproxy
        self._api = RuntimeApi(Path(places.stats_socket))
        self._in_force = _InForce()
        self._changing = asyncio.Lock()
        self._reload_after = 0.0
        self.closed: list[tuple[int, list[dict[str, str]]]] = []  # what processes had counted when they were replaced
        self.left_out: dict[str, str] = {}  # listener or balancer -> why it is not served

    @property
    def pid(self) -> int | None:
        return self._haproxy.pid

    @property
    def settled(self) -> bool:
        """No process of an earlier reload still serves anybody."""
        return self._haproxy.count <= 1

    async def converge(self, sections: Iterable[str] | None) -> None:
        """Make these groups' servers (None: everything) what the state says. Raises what HAProxy says is wrong."""
        async with self._changing:
            try:
                if sections is None or self.pid is None:
                    await self._everything()
                    return
                for section in sections:
                    if section in self._in_force.groups:
                        await self._group(self._group_of(section))
            except CloudError:
                self._in_force.skeleton = ""  # what is in force is not known any more: a reload makes it so
                raise

    async def stop(self, grace_s: float) -> None:
        await self._haproxy.stop(grace_s)

    async def look(self) -> list[ServerStats]:
        """Every server as HAProxy sees it now. Raises Unavailable."""
        return await self._api.servers()

    async def stats(self) -> list[dict[str, str]]:
        """Every counter. Raises Unavailable."""
        return await self._api.stats()

    async def promote(self, places: Iterable[Place]) -> bool:
        """Take these servers up: their first check passed. False: HAProxy does not know one of them."""
        return not await self._api.batch([f"set server {backend}/{server} health up" for backend, server in places])

    def use_relay(self, port: int) -> None:
        """Where health checks are made in HAProxy's stead, from the next change of the data plane on."""
        self._places = replace(self._places, relay=port)

    def unproven(self) -> dict[Place, Candidate]:
        """Servers that have not passed a check, and that HAProxy leaves alone until an interval has passed."""
        found: dict[Place, Candidate] = {}
        for section, one in self._in_force.groups.items():
            for name in one.servers:
                now = self._state.targets.get(one.targets[name].key)
                candidate = self.candidate((section, name))
                if candidate is not None and now is not None and now.state == "initial":
                    found[(section, name)] = candidate
        return found

    def candidate(self, place: Place) -> Candidate | None:
        """How a server that HAProxy has is checked; None: it is not."""
        one = self._in_force.groups.get(place[0])
        server = one.servers.get(place[1]) if one is not None else None
        if one is None or server is None or one.check is None:
            return None
        how = (server.tls, server.h2, server.proxy_v2)
        return Candidate(server.address, server.port, one.check, one.check.interval_ms / 1000, *how)

    def watched(self) -> dict[Place, Watched]:
        """What health checks are read for."""
        found: dict[Place, Watched] = {}
        for section, one in self._in_force.groups.items():
            if one.check is None:
                continue
            patience_s = one.check.interval_ms * max(1, one.check.fall - 1) / 1000
            for name, target in one.targets.items():
                now = self._state.targets.get(target.key)
                if now is not None:
                    found[(section, name)] = Watched(now, patience_s, bool(one.check.relay))
        return found

    def known(self) -> set[str]:
        """Targets that HAProxy has."""
        return {target.key for one in self._in_force.groups.values() for target in one.targets.values()}

    # --- everything: by a reload, where it is not just servers

    async def _everything(self) -> None:
        orphan = await find_orphan(Path(self._places.stats_socket)) if self.pid is None else None
        if orphan is not None:
            ours = await self._ports_of_orphan()
        else:
            ours = self._in_force.ports if self.pid is not None else self._haproxy.held.ports
        self._find_ports(ours)
        try:
            await self._follow(orphan)
        except CloudError:
            refused = await self._refused()
            if not refused:
                raise
            self.left_out |= refused
            await self._follow(orphan)

    async def _follow(self, orphan: int | None) -> None:
        config = layout(self._state, self._places, self.left_out)
        text = skeleton(self._state, config, self._places.second_ms, self._places.relay)
        if self.pid is None or text != self._in_force.skeleton:
            await self._reload(config, text, orphan)
            return
        for section in list(self._in_force.groups):
            await self._group(self._group_of(section))

    async def _reload(self, config: ProxyConfig, text: str, orphan: int | None) -> None:
        now = {
            groups.section(group): self._served(group)
            for group in self._state.groups.values()
            if group.balancer and group.balancer not in self.left_out
        }
        await self._pace()
        self._write_certificates()
        await self._close_counters()
        _write(Path(self._places.states), self._states(now))
        await self._before_start()
        if self.pid is None:
            await self._haproxy.start(config, orphan)
        else:
            await self._haproxy.reload(config)
        self._in_force = _InForce(
            text, now, frozenset(self._ports(self._state.listeners.keys() - self.left_out.keys()))
        )
        self._haproxy.trim(PROCESSES_MAX)

    def _served(self, group: Group) -> Served:
        places = self._places
        return served(self._state, group, places.second_ms, places.functions, places.relay)

    async def _close_counters(self) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(Unavailable):
                self.closed.append((pid, await self.stats()))
            del self.closed[:-CLOSED_MAX]

    async def _pace(self) -> None:
        """Reloads that follow each other closely would leave many processes that finish what they have."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._reload_after - loop.time()))
        self._reload_after = loop.time() + RELOAD_PAUSE_S * self._haproxy.count

    def _states(self, now: dict[str, Served]) -> str:
        lines = []
        for section, one in now.items():
            if one.check is None:
                continue
            for name, server in one.servers.items():
                state = one.targets[name].state
                lines.append(line(section, server, one.check, Known(state == "healthy", state == "initial")))
        return document(lines)

    def _write_certificates(self) -> None:
        """HAProxy reads them at its start. Files of certificates that are gone go too."""
        folder = Path(self._places.certificates)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        used = {arn for listener in self._state.listeners.values() for arn in listener.certificates}
        paths = {certificate_path(self._places, arn): arn for arn in used}
        for path, arn in paths.items():
            one = self._state.certificates[arn]
            try:
                parts = (one.certificate, one.chain, key_of(self._seal, one))
            except ValueError as error:  # HAProxy refuses what names a file that is not there, and it is left out
                log.error("the key of %s cannot be opened: %s", arn, error)
                Path(path).unlink(missing_ok=True)
                continue
            _write(Path(path), "\n".join(part.strip() for part in parts if part) + "\n")
        for old in folder.glob("*.pem"):
            if str(old) not in paths:
                old.unlink()

    # --- what cannot be served

    def _find_ports(self, ours: Collection[Port]) -> None:
        """Which listeners cannot have their port, besides those that our HAProxy has."""
        self.left_out = {}
        for arn in self._state.listeners:
            (port,) = self._ports([arn])
            error = "" if port in ours else _cannot_bind(*port)
            if error:
                log.warning("listener %s is left out: %s", arn, error)
                self.left_out[arn] = error

    def _ports(self, listeners: Iterable[str]) -> Iterator[Port]:
        for arn in listeners:
            one = self._state.listeners[arn]
            yield self._state.balancers[one.balancer].address, one.port

    async def _ports_of_orphan(self) -> frozenset[Port]:
        """What a HAProxy that was left behind listens on, as far as its frontends' names tell."""
        names = {row["pxname"] for row in await self._api.stats() if row["svname"] == "FRONTEND"}
        theirs = [one.arn for one in self._state.listeners.values() if listeners.section(one) in names]
        return frozenset(self._ports(theirs))

    async def _refused(self) -> dict[str, str]:
        """The balancers that HAProxy does not take, with their listeners: found by halves."""
        self._write_certificates()
        found: dict[str, str] = {}
        parts = [list(self._state.balancers)]
        while parts:
            part = parts.pop()
            others = self._state.balancers.keys() - set(part)
            error = await self._haproxy.opinion(layout(self._state, self._places, others)) if part else ""
            if error and len(part) > 1:
                parts += [part[: len(part) // 2], part[len(part) // 2 :]]
            elif error:
                log.error("%s is left out, HAProxy does not take it: %s", part[0], error)
                theirs = [one.arn for one in self._state.listeners_of(part[0])]
                found |= dict.fromkeys((part[0], *theirs), _REFUSED)
        return found

    # --- one group: by the runtime API

    def _group_of(self, section: str) -> Group | None:
        known = self._in_force.groups[section]
        for target in known.targets.values():
            return self._state.groups.get(target.group)
        return next((group for group in self._state.groups.values() if groups.section(group) == section), None)

    async def _group(self, group: Group | None) -> None:
        if group is None or not group.balancer:
            return
        want = self._served(group)
        have = self._in_force.groups[want.name]
        commands: list[str] = []
        for name, server in want.servers.items():
            if have.servers.get(name) != server:
                commands += self._put(want, server, have.servers.get(name))
        for name in have.servers.keys() - want.servers.keys():
            commands += self._take_out(want, name)
        refused = await self._api.batch(commands)
        if refused:
            raise Internal(f"the proxy refused changes of {want.name}: {refused[:3]}")
        self._in_force.groups[want.name] = want

    def _put(self, group: Served, server: Server, before: Server | None) -> list[str]:
        """Add a server, or make the one of this name what it is to be now."""
        commands: list[str] = []
        for backend, check in ((group.name, group.check), (group.name + OPEN, None)):
            place = f"{backend}/{server.name}"
            leaves = self._in_force.leaving.pop((backend, server.name), None)
            if before is None and leaves is None:
                commands += adding(backend, server, check)
                continue
            commands.append(f"set server {place} weight {server.weight}")
            if leaves is not None or (before is not None and before.address != server.address):
                commands.append(f"set server {place} addr {server.address} port {server.port}")
                commands.append(f"set server {place} state ready")
                commands += [f"set server {place} health down"] if check else []
        return commands

    def _take_out(self, group: Served, name: str) -> list[str]:
        """Who waits for a connection to a target that died is sent to another one before it is cut."""
        commands = []
        patience_s = 0.0 if (group.name, name) in self._draining() else CUT_AFTER_S
        for backend in (group.name, group.name + OPEN):
            self._in_force.leaving[(backend, name)] = time.monotonic() + patience_s if group.cut else math.inf
            commands.append(f"set server {backend}/{name} state maint")
        return commands

    async def clear_out(self, rows: Iterable[ServerStats]) -> None:
        """Delete the servers that left and on which nothing is in flight; cut those whose time is over."""
        async with self._changing:
            busy = {(row.backend, row.server): row.sessions for row in rows}
            draining = self._draining()
            for place, cut_at in list(self._in_force.leaving.items()):
                in_flight = busy.get(place, 0)
                if in_flight == 0 or (time.monotonic() >= cut_at and place not in draining):
                    await self._delete(place, in_flight)

    async def _delete(self, place: Place, in_flight: int) -> None:
        """A server that has connections is not deleted; an address that changes makes HAProxy drop the idle ones."""
        server = f"{place[0]}/{place[1]}"
        commands = [f"shutdown sessions server {server}"] if in_flight else []
        commands += [f"set server {server} addr {_NOWHERE} port 1", f"del server {server}"]
        refused = await self._api.batch(commands)
        if refused:
            log.debug("%s stays for now: %s", server, refused)
        else:
            del self._in_force.leaving[place]

    def _draining(self) -> set[Place]:
        found = set()
        for target in self._state.draining():
            section = groups.section(self._state.groups[target.group])
            found |= {(section, server_name(target)), (section + OPEN, server_name(target))}
        return found

    def idle(self) -> list[Target]:
        """Draining targets on which nothing is in flight."""
        if not self.settled:
            return []
        left = self._in_force.leaving.keys()
        known = self.known()
        found = []
        for target in self._state.draining():
            section, name = groups.section(self._state.groups[target.group]), server_name(target)
            if target.key not in known and not {(section, name), (section + OPEN, name)} & left:
                found.append(target)
        return found


def _cannot_bind(address: str, port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return f"{address}:{port}: {error.strerror}"
    return ""


def _write(path: Path, text: str) -> None:
    """Mode 0600, and never half."""
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    draft.replace(path)
