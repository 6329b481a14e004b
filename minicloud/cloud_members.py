"""What the instances of groups are: one stream of the control plane, on which every member's is asked for once.

    a state, how it ended      reported as it comes
    failed status checks       reported once they have failed for IMPAIRED_S without a break: a guest may be slow

A new stream asks for all of them again. What is said of an instance that is nobody's any more is not passed on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from minicloud.cloud_calls import PACKAGE, Calls
from minicloud.cloud_streams import Line, Stream
from minicloud.scaling.commands import InstanceSeen
from minicloud.scaling.state import State
from minicloud.shell.clock import Clock, Timer
from minicloud.wire import fleet_pb2 as pb

FOLLOW = f"/{PACKAGE}.PlaceService/FollowPlaces"
# These ends of an instance tell on what it was launched from; any other is somebody else's doing, or a host's.
OWN_FAULTS = frozenset(
    {
        "Client.InstanceInitiatedShutdown",
        "GuestExited",
        "OutOfMemory",
        "PrepareFailed",
        "Server.InternalError",
        "Server.LaunchTimeout",
    }
)
# What a place does to an instance that it was to take.
UNPLACED = frozenset({"Server.HostFailure", "Server.InsufficientInstanceCapacity"})
GONE = "terminated"
IMPAIRED_S = 60.0  # ours: so long an instance may fail its status checks; hosts ask it every few seconds


class MemberInstances:
    """`submit` takes reports to the machine whose state is `state`. `metadata` proves who asks."""

    def __init__(
        self,
        calls: Calls,
        metadata: tuple[tuple[str, str], ...],
        state: State,
        submit: Callable[[InstanceSeen], Awaitable[Any]],
        clock: Clock,
    ) -> None:
        self._calls, self._metadata, self._state, self._submit, self._clock = calls, metadata, state, submit, clock
        self._line: Line[pb.PlacesAsked] = Line(_question, ())
        self._asked: set[str] = set()
        self._ailing: dict[str, Timer] = {}
        self._reports: set[asyncio.Future[Any]] = set()
        self._stream = Stream("members' instances", self._opened, self._heard)

    def start(self) -> None:
        self._stream.start()

    async def close(self) -> None:
        await self._stream.close()
        for instance_id in list(self._ailing):
            self._recovers(instance_id)
        for report in self._reports:
            report.cancel()
        await asyncio.gather(*self._reports, return_exceptions=True)

    def ask(self, instance_id: str) -> None:
        if instance_id not in self._asked:
            self._asked.add(instance_id)
            self._line.ask(instance_id)

    def ids(self) -> Iterable[str]:
        for roster in self._state.rosters.values():
            yield from (member.instance_id for member in roster.members.values() if member.instance_id)

    async def _opened(self) -> AsyncIterator[pb.InstancePlace]:
        self._asked = set(self.ids())
        self._line = Line(_question, self._asked)
        stub = self._calls.control_channel().stream_stream(
            FOLLOW,
            request_serializer=pb.PlacesAsked.SerializeToString,
            response_deserializer=pb.InstancePlace.FromString,
        )
        async for place in stub(self._line.requests(), metadata=self._metadata, wait_for_ready=True):
            yield place

    async def _heard(self, place: pb.InstancePlace) -> None:
        instance_id, state = place.instance_id, place.state or GONE
        if state == GONE:
            self._asked.discard(instance_id)
        member = self._state.member_of(instance_id)
        if member is None:
            return self._recovers(instance_id)
        if not place.impaired:
            self._recovers(instance_id)
        elif not member.impaired and instance_id not in self._ailing:
            until = self._clock.wall() + IMPAIRED_S
            self._ailing[instance_id] = self._clock.call_at(until, lambda: self._fails(instance_id))
        impaired = member.impaired and place.impaired
        if (member.seen, member.impaired) != (state, impaired):
            fault, unplaced = place.reason not in OWN_FAULTS, place.reason in UNPLACED
            await self._submit(InstanceSeen(instance_id, state, fault, impaired, unplaced))
        return None

    def _recovers(self, instance_id: str) -> None:
        timer = self._ailing.pop(instance_id, None)
        if timer is not None:
            timer.cancel()

    def _fails(self, instance_id: str) -> None:
        del self._ailing[instance_id]
        member = self._state.member_of(instance_id)
        if member is not None:
            report = asyncio.ensure_future(self._submit(InstanceSeen(instance_id, member.seen, impaired=True)))
            self._reports.add(report)
            report.add_done_callback(self._done)

    def _done(self, report: asyncio.Future[Any]) -> None:
        self._reports.discard(report)
        if not report.cancelled():
            report.exception()  # a machine that takes no reports any more is started anew, and asks again


def _question(ids: list[str], number: int) -> pb.PlacesAsked:
    return pb.PlacesAsked(instance_ids=ids, number=number)
