"""Which hosts take new environments of functions: one stream of the control plane, opened again when it breaks.

What was said last holds meanwhile. A host that is cordoned gets nothing new; on one that is drained, what is idle ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from minicloud.cloud_calls import PACKAGE, Calls
from minicloud.cloud_streams import Stream
from minicloud.rpc import fleet_auth
from minicloud.wire import fleet_pb2 as pb

FOLLOW = f"/{PACKAGE}.PlaceService/FollowHosts"


class Cordons:
    """`told(host, cordoned, drained)`. `token` proves who asks."""

    def __init__(self, calls: Calls, token: str, told: Callable[[str, bool, bool], None]) -> None:
        self._calls = calls
        self._metadata = ((fleet_auth.METADATA, token),)
        self._told = told
        self._stream = Stream("hosts", self._opened, self._heard)

    def start(self) -> None:
        self._stream.start()

    async def close(self) -> None:
        await self._stream.close()

    async def _opened(self) -> AsyncIterator[pb.HostPlace]:
        follow = self._calls.control_channel().unary_stream(
            FOLLOW,
            request_serializer=pb.HostsAsked.SerializeToString,
            response_deserializer=pb.HostPlace.FromString,
        )
        async for host in follow(pb.HostsAsked(), metadata=self._metadata, wait_for_ready=True):
            yield host

    async def _heard(self, host: pb.HostPlace) -> None:
        self._told(host.name, host.cordoned, host.drained)
