"""TargetService (protos/minicloud/wire/fleet.proto): how targets fare, for the autoscaler.

asked, or recorded   -> the target group is news
news                 -> its targets are looked up together, once on disk; what changed since they were said is said,
                        and that it is gone
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from minicloud.balancer.model import Group, Target
from minicloud.balancer.service import BalancerService
from minicloud.balancer.state import State
from minicloud.base.machine import Touched
from minicloud.wire import fleet_pb2 as pb

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["TargetService"]
_States = dict[tuple[str, int], str]


class _News:
    """Groups to look up again, of those that this stream asked for, and what was said of them."""

    def __init__(self) -> None:
        self._said: dict[str, _States | None] = {}
        self._groups: dict[str, None] = {}
        self._there = asyncio.Event()
        self._over = False

    def ask(self, group: str) -> None:
        self._said[group] = None
        self._mark(group)

    def changed(self, one: Touched) -> None:
        if one.kind == Target.kind:
            group = (one.after or one.before).group
        elif one.kind == Group.kind and one.after is None:
            group = one.key
        else:
            return
        if group in self._said:
            self._mark(group)

    def _mark(self, group: str) -> None:
        self._groups[group] = None
        self._there.set()

    def end(self) -> None:
        self._over = True
        self._there.set()

    async def take(self) -> list[str]:
        """Waits for some; none: it is over."""
        await self._there.wait()
        self._there.clear()
        groups, self._groups = list(self._groups), {}
        return [] if self._over else groups

    def told(self, group: str, states: _States | None) -> pb.TargetsSeen | None:
        """What is to be said now; None: nothing that was not said already. states None: the group is gone."""
        if group not in self._said:
            return None
        if states is None:
            del self._said[group]
            return pb.TargetsSeen(target_group=group, all=True, gone=True)
        before, self._said[group] = self._said[group], states
        known = before or {}
        changed = {key: state for key, state in states.items() if known.get(key) != state}
        changed |= dict.fromkeys(known.keys() - states.keys(), "")
        if before is not None and not changed:
            return None
        found = [pb.TargetState(id=key[0], port=key[1], state=state) for key, state in changed.items()]
        return pb.TargetsSeen(target_group=group, all=before is None, targets=found)


class TargetServicer:
    """For `rpc.door.door(TargetServicer(...), DESCRIPTOR, Entry(fleet_door(...), ...))`."""

    def __init__(self, service: BalancerService) -> None:
        self._service = service

    async def FollowTargets(
        self, requests: AsyncIterator[pb.TargetsAsked], _caller: str
    ) -> AsyncIterator[pb.TargetsSeen]:
        news = _News()
        reader = asyncio.create_task(_read(requests, news))
        self._service.followers.add(news.changed)
        try:
            while groups := await news.take():
                for group, states in (await self._service.shown(lambda state: _states(state, groups))).items():
                    if seen := news.told(group, states):
                        yield seen
        finally:
            self._service.followers.discard(news.changed)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)


def _states(state: State, groups: list[str]) -> dict[str, _States | None]:
    return {
        group: {(one.id, one.port): one.state for one in state.targets_of(group)} if group in state.groups else None
        for group in groups
    }


async def _read(requests: AsyncIterator[pb.TargetsAsked], news: _News) -> None:
    try:
        async for request in requests:
            for group in request.target_groups:
                news.ask(group)
    finally:
        news.end()
