"""Hosts: the nodes that instances run on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import host_pb2
else:
    models = lazy("minicloud.client.models")
    host_pb2 = lazy("minicloud.wire.host_pb2")


class AsyncHosts:
    """Nodes that instances run on. Hosts are named by id or by name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, host: str) -> models.Host:
        """Raises NotFound."""
        return await self._one("Get", host)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[models.Host]:
        request = host_pb2.ListHostsRequest(page_size=page_size)
        while True:
            reply = await self._transport.call("HostService/List", request, host_pb2.ListHostsResponse)
            for item in reply.hosts:
                yield to_model(models.Host, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def cordon(self, host: str) -> models.Host:
        """No new instances are placed on it; running ones stay."""
        return await self._one("Cordon", host)

    async def uncordon(self, host: str) -> models.Host:
        return await self._one("Uncordon", host)

    async def drain(self, host: str) -> models.Host:
        """Cordon it, then stop every instance on it; their disks stay with the host."""
        return await self._one("Drain", host)

    async def _one(self, verb: str, host: str) -> models.Host:
        request = host_pb2.GetHostRequest(host_id=host)
        return to_model(models.Host, await self._transport.call(f"HostService/{verb}", request, host_pb2.Host))
