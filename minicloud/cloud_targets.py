"""Target groups of auto scaling groups: scaling.ports.TargetRegistrar over the balancers, and what they find.

    register, deregister    calls; doing one again is harmless
    how targets fare        one stream from each balancer process: every change comes by itself, nothing polls

An instance is bad as soon as one of its target groups says so; a target group that says nothing of it says nothing bad.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol

from minicloud.base.arn import Arn, Scope
from minicloud.base.errors import InvalidRequest, NotFound
from minicloud.cloud_calls import LOAD_BALANCERS, PACKAGE, Calls
from minicloud.cloud_streams import Line, Stream
from minicloud.rpc import fleet_auth, shard_ticket
from minicloud.settings import BALANCER, CloudSettings
from minicloud.wire import balancer_pb2 as wire
from minicloud.wire import fleet_pb2 as pb

log = logging.getLogger("minicloud.targets")

UNREGISTERED = "InvalidTarget"
FOLLOW = f"/{PACKAGE}.TargetService/FollowTargets"


class Targets:
    """Implements scaling.ports.TargetRegistrar."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def check(self, target_group: str) -> None:
        request = wire.GetTargetGroupRequest(target_group=target_group)
        method = "BalancerService/GetTargetGroup"
        found = await self._calls.shard(LOAD_BALANCERS, scope_of(target_group), method, request, wire.TargetGroup)
        if found.target_type != "instance":
            raise NotFound(f"{target_group} has targets of type {found.target_type}, not instances")

    async def register(self, target_group: str, instance_id: str) -> None:
        target = wire.TargetRef(id=instance_id)
        request = wire.RegisterTargetsRequest(target_group=target_group, targets=[target])
        method = "BalancerService/RegisterTargets"
        await self._calls.shard(LOAD_BALANCERS, scope_of(target_group), method, request, wire.TargetsReply)

    async def deregister(self, target_group: str, instance_id: str) -> bool:
        target = wire.TargetRef(id=instance_id)
        request = wire.DeregisterTargetsRequest(target_group=target_group, targets=[target])
        method = "BalancerService/DeregisterTargets"
        try:
            left = await self._calls.shard(LOAD_BALANCERS, scope_of(target_group), method, request, wire.TargetsReply)
        except NotFound:  # the target group is gone, and its targets with it
            return True
        except InvalidRequest as error:
            if error.code != UNREGISTERED:
                raise
            return True
        return not left.targets


_PASSED = frozenset({"healthy", "unavailable", "unused"})  # the last two: nobody checks it


class Finder(Protocol):
    """Who wants to know, seen from here."""

    def target_groups(self) -> Iterable[str]:
        """The ARNs of all that are used."""
        ...

    async def fares(self, instance_id: str, healthy: bool, passed: bool) -> None:
        """healthy: no target group finds it unhealthy. passed: some know it, and each that checks it finds it so."""
        ...

    def let_go(self, instance_id: str) -> None:
        """A target group does not know it any more."""
        ...

    async def gone(self, target_group: str) -> None:
        """There is no such target group any more."""
        ...


class TargetHealth:
    """What all balancer processes say of the targets of the groups that were asked for."""

    def __init__(self, cloud: CloudSettings, secret: bytes, calls: Calls, who: str) -> None:
        self._cloud = cloud
        self._calls = calls
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, who)),)
        self._states: dict[str, dict[tuple[str, int], str]] = {}  # target group -> target -> state
        self._on: dict[str, set[str]] = {}  # instance -> target groups that know it, as far as the finder was told
        self._lines: dict[int, Line[pb.TargetsAsked]] = {}
        self._repeats: set[asyncio.Task[None]] = set()
        self._finder: Finder
        shards = range(len(cloud.balancers))
        self._streams = [Stream(f"targets of balancer {one}", self._opener(one), self._heard) for one in shards]

    def start(self, finder: Finder) -> None:
        self._finder = finder
        for stream in self._streams:
            stream.start()

    async def close(self) -> None:
        for stream in self._streams:
            await stream.close()
        for repeat in self._repeats:
            repeat.cancel()
        await asyncio.gather(*self._repeats, return_exceptions=True)

    def follow(self, target_groups: Iterable[str]) -> None:
        """Those that are new."""
        for group in target_groups:
            if group not in self._states:
                self._states[group] = {}
                line = self._lines.get(self._shard(group))
                if line is not None:
                    line.ask(group)

    def _shard(self, target_group: str) -> int:
        return shard_ticket.shard_of(scope_of(target_group), len(self._cloud.balancers))

    def _opener(self, number: int) -> Callable[[], AsyncIterator[pb.TargetsSeen]]:
        async def opened() -> AsyncIterator[pb.TargetsSeen]:
            wanted = [group for group in self._finder.target_groups() if self._shard(group) == number]
            self.follow(wanted)
            line = self._lines[number] = Line(_question, wanted)
            channel = self._calls.channel(f"unix:{self._cloud.shard_socket(BALANCER, number)}")
            stub = channel.stream_stream(
                FOLLOW,
                request_serializer=pb.TargetsAsked.SerializeToString,
                response_deserializer=pb.TargetsSeen.FromString,
            )
            async for seen in stub(line.requests(), metadata=self._metadata, wait_for_ready=True):
                yield seen

        return opened

    async def _heard(self, seen: pb.TargetsSeen) -> None:
        states = self._states.setdefault(seen.target_group, {})
        said = {(one.id, one.port): one.state for one in seen.targets}
        if seen.all:
            said = {**dict.fromkeys(states, ""), **said}
        for target, state in said.items():
            if state:
                states[target] = state
            else:
                states.pop(target, None)
        told = [target[0] for target in said]
        if seen.all:  # and of whom it could not be recorded before
            told += [one for one, groups in self._on.items() if seen.target_group in groups]
        for instance_id in dict.fromkeys(told):
            await self._tell(seen.target_group, instance_id)
        if seen.gone:
            del self._states[seen.target_group]
            await self._finder.gone(seen.target_group)

    async def _tell(self, group: str, instance_id: str) -> None:
        knows = any(target[0] == instance_id for target in self._states[group])
        groups = self._on.get(instance_id, set()) - {group} | ({group} if knows else set())
        await self._say(instance_id, groups)
        self._on[instance_id] = groups
        if not groups:
            del self._on[instance_id]
        if not knows:
            self._finder.let_go(instance_id)

    async def _say(self, instance_id: str, groups: Iterable[str]) -> None:
        found = [self._states.get(group, {}) for group in groups]
        states = [state for targets in found for target, state in targets.items() if target[0] == instance_id]
        checked = set(states) - {"draining"}  # by who still wants it
        await self._finder.fares(instance_id, "unhealthy" not in states, bool(checked) and checked <= _PASSED)

    def repeat(self, instance_id: str) -> None:
        """How an instance fares that was nobody's when it was told: nothing may change that would be told again."""
        if instance_id in self._on:
            task = asyncio.ensure_future(self._say(instance_id, self._on[instance_id]))
            self._repeats.add(task)
            task.add_done_callback(self._repeated)

    def _repeated(self, task: asyncio.Task[None]) -> None:
        self._repeats.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("how a target fares was not taken: %s", error)


def _question(groups: list[str], _number: int) -> pb.TargetsAsked:
    return pb.TargetsAsked(target_groups=groups)


def scope_of(target_group: str) -> Scope:
    """Raises InvalidParameterValue."""
    arn = Arn.parse(target_group)
    return Scope(arn.account, arn.region)
