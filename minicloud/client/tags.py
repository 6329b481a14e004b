"""Tags of any resource that has them: instances, images, launch templates, key pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.wire import instance_pb2
else:
    instance_pb2 = lazy("minicloud.wire.instance_pb2")


class AsyncTags:
    """Up to 50 tags a resource. Each method answers with the tags that the resource has then."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def add(self, resource_id: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values. Raises NotFound, InvalidParameterValue, LimitExceeded."""
        request = instance_pb2.TagRequest(resource_id=resource_id, tags=tags)
        reply = await self._transport.call("InstanceService/Tag", request, instance_pb2.TagResponse)
        return dict(reply.tags)

    async def remove(self, resource_id: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        request = instance_pb2.UntagRequest(resource_id=resource_id, keys=keys)
        reply = await self._transport.call("InstanceService/Untag", request, instance_pb2.TagResponse)
        return dict(reply.tags)
