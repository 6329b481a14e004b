"""PlaceService (protos/minicloud/wire/fleet.proto): where instances are, for balancers and the autoscaler; and which
hosts take something new, for the functions process.

    asked, or recorded   -> the instance's id is news
    news                 -> looked up together, once on disk, and said; whoever asked hears the state in order

So what is said last of an instance is what holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from minicloud.compute.rpc.translate import instance_status
from minicloud.compute.service import ComputeService
from minicloud.wire import fleet_pb2 as pb


class _News:
    """Ids to look up again, of those that this stream asked for."""

    def __init__(self) -> None:
        self.heard = 0  # the last question
        self._wanted: set[str] = set()
        self._ids: dict[str, None] = {}
        self._there = asyncio.Event()
        self._over = False

    def ask(self, number: int, ids: Iterable[str]) -> None:
        self.heard = max(self.heard, number)
        for one in ids:
            self._wanted.add(one)
            self.changed(one)

    def changed(self, instance_id: str) -> None:
        if instance_id in self._wanted:
            self._ids[instance_id] = None
            self._there.set()

    def said(self, place: pb.InstancePlace) -> None:
        """Of an instance that is not there nothing more will be news."""
        if place.state:
            self._wanted.add(place.instance_id)
        else:
            self._wanted.discard(place.instance_id)

    def end(self) -> None:
        self._over = True
        self._there.set()

    async def take(self) -> list[str]:
        """Waits for some; none: it is over."""
        await self._there.wait()
        self._there.clear()
        if self._over:
            return []
        ids, self._ids = list(self._ids), {}
        return ids


class PlaceServicer:
    def __init__(self, service: ComputeService) -> None:
        self._service = service

    async def FollowPlaces(
        self, requests: AsyncIterator[pb.PlacesAsked], _caller: str
    ) -> AsyncIterator[pb.InstancePlace]:
        news = _News()
        reader = asyncio.create_task(_read(requests, news))
        self._service.followers.add(news.changed)
        try:
            while ids := await news.take():
                for place in await self._found(ids, news.heard):
                    news.said(place)
                    yield place
        finally:
            self._service.followers.discard(news.changed)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def FollowHosts(self, _request: pb.HostsAsked, _caller: str) -> AsyncIterator[pb.HostPlace]:
        said: dict[str, tuple[bool, bool]] = {}
        changed = asyncio.Event()
        changed.set()
        self._service.host_followers.add(changed.set)
        try:
            while await changed.wait():
                changed.clear()
                for name, now in (await self._service.shown(self._hosts)).items():
                    if said.get(name) != now:
                        said[name] = now
                        yield pb.HostPlace(name=name, cordoned=now[0], drained=now[1])
        finally:
            self._service.host_followers.discard(changed.set)

    def _hosts(self) -> dict[str, tuple[bool, bool]]:
        return {host.name: (host.cordoned, host.drained) for host in self._service.state.hosts.values()}

    async def _found(self, ids: list[str], answers: int) -> list[pb.InstancePlace]:
        return await self._service.shown(lambda: [self._place(one, answers) for one in ids])

    def _place(self, instance_id: str, answers: int) -> pb.InstancePlace:
        one = self._service.state.instances.get(instance_id)
        if one is None:
            return pb.InstancePlace(instance_id=instance_id, answers=answers)
        return pb.InstancePlace(
            instance_id=one.id,
            account=one.account,
            region=one.region,
            state=one.state,
            private_ip=one.private_ip,
            zone=one.zone,
            answers=answers,
            reason=one.reason_code,
            impaired=instance_status(self._service, one) == "impaired",
        )


async def _read(requests: AsyncIterator[pb.PlacesAsked], news: _News) -> None:
    try:
        async for request in requests:
            news.ask(request.number, request.instance_ids)
    finally:
        news.end()
