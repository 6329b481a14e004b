"""Instance types: the catalogue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, TypedDict, Unpack

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import catalog_pb2
else:
    models = lazy("minicloud.client.models")
    catalog_pb2 = lazy("minicloud.wire.catalog_pb2")


class TypeFilters(TypedDict, total=False):
    """Keyword arguments of `types.list`. name: a glob such as `t3.*`. fits_now: some host could hold it right now."""

    name: str
    family: str
    architecture: str
    min_vcpus: int
    max_vcpus: int
    min_memory_mib: int
    max_memory_mib: int
    min_gpus: float
    max_gpus: float
    max_usd_per_hour: float
    burstable: bool
    current_generation: bool
    fits_now: bool


class AsyncTypes:
    """Instance types and their families: general, compute, memory, accelerated, storage."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, name: str) -> models.InstanceType:
        """Raises InvalidParameterValue (unknown type)."""
        request = catalog_pb2.GetTypeRequest(name=name)
        return to_model(
            models.InstanceType, await self._transport.call("TypeService/Get", request, catalog_pb2.InstanceType)
        )

    async def list(self, *, page_size: int = 500, **filters: Unpack[TypeFilters]) -> AsyncIterator[models.InstanceType]:
        """All types that match every filter, in order of their names."""
        request = catalog_pb2.ListTypesRequest(page_size=page_size, **filters)
        while True:
            reply = await self._transport.call("TypeService/List", request, catalog_pb2.ListTypesResponse)
            for item in reply.types:
                yield to_model(models.InstanceType, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token
