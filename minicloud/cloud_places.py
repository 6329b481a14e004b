"""Where instances are, as a balancer process knows it: one stream to the control plane, opened again when it breaks.

    places(ids)     asked on the stream, answered on it; what is said last of an instance is what holds
    every change    of an instance that was asked for comes by itself; nothing polls

A new stream begins by asking for every instance that is a target, so whatever happened meanwhile is heard of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import grpc
import grpc.aio

from minicloud.balancer.ports import Place
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.rpc import fleet_auth
from minicloud.rpc.peer import OPTIONS
from minicloud.wire import fleet_pb2 as pb
from minicloud.wire import fleet_pb2_grpc

log = logging.getLogger("minicloud.balancer")

ANSWER_S_MAX = 5.0
PAUSE_S = (0.1, 1.0)  # between two streams, doubling
ASKED_AT_ONCE_MAX = 1_000
RUNNING, GONE = "running", ("", "terminated")


class Targets(Protocol):
    """The balancer service, seen from here."""

    def instances(self) -> Iterable[str]:
        """Those that are targets."""
        ...

    async def seen(self, instance_id: str, place: Place | None, gone: bool = False) -> None: ...


class _Line:
    """What is asked on one stream. A new stream has a new one: what is left of an old one takes nothing from it."""

    def __init__(self, first: Iterable[str], number: int) -> None:
        self._ids = dict.fromkeys(first)
        self._number = number
        self._wake = asyncio.Event()

    def ask(self, instance_id: str, number: int) -> None:
        self._ids[instance_id] = None
        self._number = number
        self._wake.set()

    async def requests(self) -> AsyncIterator[pb.PlacesAsked]:
        while True:
            ids, number, self._ids = list(self._ids), self._number, {}
            while ids:
                part, ids = ids[:ASKED_AT_ONCE_MAX], ids[ASKED_AT_ONCE_MAX:]
                yield pb.PlacesAsked(instance_ids=part, number=0 if ids else number)
            if not self._ids:
                self._wake.clear()
                await self._wake.wait()


class InstancePlaces:
    """Implements balancer.ports.Instances."""

    def __init__(self, address: str, secret: bytes, name: str) -> None:
        """address: the control plane's gRPC server. name: who asks."""
        self._address = address
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, name)),)
        self._awaited: dict[str, list[tuple[int, asyncio.Future[pb.InstancePlace]]]] = {}
        self._questions = 0
        self._line = _Line((), 0)
        self._task: asyncio.Task[None] | None = None

    def start(self, targets: Targets) -> None:
        self._task = asyncio.create_task(self._run(targets))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

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

    async def _run(self, targets: Targets) -> None:
        pause_s = PAUSE_S[0]
        while True:
            try:
                async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
                    stub: Any = fleet_pb2_grpc.PlaceServiceStub(channel)  # type: ignore[no-untyped-call]
                    self._line = _Line([*targets.instances(), *self._awaited], self._questions)
                    asked = self._line.requests()
                    call = stub.FollowPlaces(asked, metadata=self._metadata, wait_for_ready=True)
                    async for place in call:
                        pause_s = PAUSE_S[0]
                        await self._heard(place, targets)
            except grpc.aio.AioRpcError as error:
                log.info("the stream of places is down: %s", error.code().name)
            except CloudError as error:
                log.warning("a place was not recorded: %s", error)
            except Exception:
                log.exception("the stream of places is opened again")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_S[1])

    async def _heard(self, place: pb.InstancePlace, targets: Targets) -> None:
        waiting = self._awaited.pop(place.instance_id, [])
        later = [one for one in waiting if one[0] > place.answers and not one[1].done()]
        if later:
            self._awaited[place.instance_id] = later
        for number, answer in waiting:
            if number <= place.answers and not answer.done():
                answer.set_result(place)
        await targets.seen(place.instance_id, place_of(place), place.state in GONE)


def place_of(one: pb.InstancePlace) -> Place | None:
    """None: it cannot be reached."""
    return Place(one.private_ip, one.zone) if one.state == RUNNING and one.private_ip else None
