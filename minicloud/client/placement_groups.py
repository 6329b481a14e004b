"""Placement groups: instances that shall be near to, or far from, each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import catalog_pb2
else:
    models = lazy("minicloud.client.models")
    catalog_pb2 = lazy("minicloud.wire.catalog_pb2")


class AsyncPlacementGroups:
    """Placement groups, named by their names."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(self, name: str, strategy: str, *, partitions: int = 0) -> models.PlacementGroup:
        """strategy: cluster | spread | partition. partitions: 1 to 7, of a partition group (0: two)."""
        request = catalog_pb2.CreatePlacementGroupRequest(name=name, strategy=strategy, partitions=partitions)
        return await self._one("Create", request)

    async def get(self, name: str) -> models.PlacementGroup:
        """Raises NotFound."""
        return await self._one("Get", catalog_pb2.GetPlacementGroupRequest(name=name), idempotent=True)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[models.PlacementGroup]:
        request = catalog_pb2.ListPlacementGroupsRequest(page_size=page_size)
        while True:
            reply = await self._transport.call(
                "PlacementGroupService/List", request, catalog_pb2.ListPlacementGroupsResponse
            )
            for item in reply.groups:
                yield to_model(models.PlacementGroup, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, name: str) -> models.PlacementGroup:
        """Raises NotFound, DependencyViolation (instances are in it)."""
        return await self._one("Delete", catalog_pb2.GetPlacementGroupRequest(name=name))

    async def _one(
        self,
        verb: str,
        request: catalog_pb2.GetPlacementGroupRequest | catalog_pb2.CreatePlacementGroupRequest,
        idempotent: bool = False,
    ) -> models.PlacementGroup:
        reply = await self._transport.call(
            f"PlacementGroupService/{verb}", request, catalog_pb2.PlacementGroup, idempotent=idempotent
        )
        return to_model(models.PlacementGroup, reply)
