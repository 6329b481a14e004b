"""ListenService (protos/minicloud/wire/fleet.proto): in which scopes rules want to know what happens here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from minicloud.base.arn import Scope
from minicloud.wire import fleet_pb2 as pb

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ListenService"]


class ListenServicer:
    """For `rpc.door.door(ListenServicer(...), DESCRIPTOR, Entry(fleet_door(...), ...))`."""

    def __init__(self, listen: Callable[[Scope], Awaitable[Any]]) -> None:
        """listen: on disk when it returns."""
        self._listen = listen

    async def Listen(self, request: pb.ListenRequest, _who: str) -> pb.ListenReply:
        await self._listen(Scope(request.account, request.region))
        return pb.ListenReply()
