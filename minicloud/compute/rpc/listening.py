"""ListenService (protos/minicloud/wire/fleet.proto): in which scopes rules want to know what becomes of instances."""

from __future__ import annotations

from minicloud.base.arn import Scope
from minicloud.compute.service import ComputeService
from minicloud.compute.transitions import Listen
from minicloud.wire import fleet_pb2 as pb

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["ListenService"]


class ListenServicer:
    def __init__(self, service: ComputeService) -> None:
        self._service = service

    async def Listen(self, request: pb.ListenRequest, _who: str) -> pb.ListenReply:
        await self._service.submit(Listen(Scope(request.account, request.region)))
        return pb.ListenReply()
