"""Where instances are, as a balancer process knows it: one stream to the control plane, opened again when it breaks.

    places(ids)     asked on the stream, answered on it; what is said last of an instance is what holds
    every change    of an instance that was asked for comes by itself; nothing polls

A new stream begins by asking for every instance that is a target, so whatever happened meanwhile is heard of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from minicloud.balancer.ports import Place
from minicloud.base.arn import Scope
from minicloud.base.errors import Unavailable
from minicloud.cloud_streams import Line, Stream
from minicloud.rpc import fleet_auth
from minicloud.rpc.peer import OPTIONS
from minicloud.wire import fleet_pb2 as pb
from minicloud.wire import fleet_pb2_grpc

ANSWER_S_MAX = 5.0
RUNNING, GONE = "running", ("", "terminated")


class Targets(Protocol):
    """The balancer service, seen from here."""

    def instances(self) -> Iterable[str]:
        """Those that are targets."""
        ...

    async def seen(self, instance_id: str, place: Place | None, gone: bool = False) -> None: ...


class InstancePlaces:
    """Implements balancer.ports.Instances."""

    def __init__(self, address: str, secret: bytes, name: str) -> None:
        """address: the control plane's gRPC server. name: who asks."""
        self._address = address
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, name)),)
        self._awaited: dict[str, list[tuple[int, asyncio.Future[pb.InstancePlace]]]] = {}
        self._questions = 0
        self._line = Line(_question, ())
        self._targets: Targets
        self._stream = Stream("places", self._opened, self._heard)

    def start(self, targets: Targets) -> None:
        self._targets = targets
        self._stream.start()

    async def close(self) -> None:
        await self._stream.close()

    async def places(self, scope: Scope, ids: Sequence[str]) -> dict[str, Place]:
        """Raises Unavailable while the control plane does not answer."""
        answers = {one: self._ask(one) for one in dict.fromkeys(ids)}
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                found = [await answer for answer in answers.values()]
        except TimeoutError:
            raise Unavailable("the cloud did not say in time where the instances are") from None
        finally:
            self._forget(answers)
        mine = [one for one in found if (one.account, one.region) == (scope.account, scope.region)]
        return {one.instance_id: place for one in mine if (place := place_of(one)) is not None}

    def _ask(self, instance_id: str) -> asyncio.Future[pb.InstancePlace]:
        """An answer that is on its way already may be from before, and is none to this."""
        self._questions += 1
        future = asyncio.get_running_loop().create_future()
        self._awaited.setdefault(instance_id, []).append((self._questions, future))
        self._line.ask(instance_id, self._questions)
        return future

    def _forget(self, answers: Mapping[str, asyncio.Future[pb.InstancePlace]]) -> None:
        """Whoever asked waits no more."""
        for one, answer in answers.items():
            left = [other for other in self._awaited.pop(one, []) if other[1] is not answer]
            if left:
                self._awaited[one] = left

    # --- the stream

    async def _opened(self) -> AsyncIterator[pb.InstancePlace]:
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            stub: Any = fleet_pb2_grpc.PlaceServiceStub(channel)  # type: ignore[no-untyped-call]
            self._line = Line(_question, [*self._targets.instances(), *self._awaited], self._questions)
            call = stub.FollowPlaces(self._line.requests(), metadata=self._metadata, wait_for_ready=True)
            async for place in call:
                yield place

    async def _heard(self, place: pb.InstancePlace) -> None:
        waiting = self._awaited.pop(place.instance_id, [])
        later = [one for one in waiting if one[0] > place.answers and not one[1].done()]
        if later:
            self._awaited[place.instance_id] = later
        for number, answer in waiting:
            if number <= place.answers and not answer.done():
                answer.set_result(place)
        await self._targets.seen(place.instance_id, place_of(place), place.state in GONE)


def _question(ids: list[str], number: int) -> pb.PlacesAsked:
    return pb.PlacesAsked(instance_ids=ids, number=number)


def place_of(one: pb.InstancePlace) -> Place | None:
    """None: it cannot be reached."""
    return Place(one.private_ip, one.zone) if one.state == RUNNING and one.private_ip else None
