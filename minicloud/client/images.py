"""Images: what an instance's disk starts as."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minicloud.base.errors import DeadlineExceeded, IncorrectState, InvalidParameterValue, Unavailable
from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import catalog_pb2
else:
    models = lazy("minicloud.client.models")
    catalog_pb2 = lazy("minicloud.wire.catalog_pb2")

_CHUNK_BYTES = 256 * 1024  # limits.STREAM_CHUNK_BYTES_MAX


class AsyncImages:
    """Built-in images and one's own. Images are named by id; `launch` takes a name too."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def get(self, image_id: str) -> models.Image:
        """Raises NotFound."""
        request = catalog_pb2.GetImageRequest(image_id=image_id)
        return to_model(models.Image, await self._transport.call("ImageService/Get", request, catalog_pb2.Image))

    async def list(self, *, include_builtin: bool = True, page_size: int = 100) -> AsyncIterator[models.Image]:
        request = catalog_pb2.ListImagesRequest(include_builtin=include_builtin, page_size=page_size)
        while True:
            reply = await self._transport.call("ImageService/List", request, catalog_pb2.ListImagesResponse)
            for item in reply.images:
                yield to_model(models.Image, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def create(
        self,
        instance_id: str,
        name: str,
        *,
        description: str = "",
        no_reboot: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> models.Image:
        """From an instance's disk; a running guest is frozen for the copy unless `no_reboot`. Begins as `pending`."""
        request = catalog_pb2.CreateImageRequest(
            instance_id=instance_id, name=name, description=description, no_reboot=no_reboot, tags=tags or {}
        )
        reply = await self._transport.call("ImageService/Create", request, catalog_pb2.Image, idempotent=False)
        return to_model(models.Image, reply)

    async def watch(self, image_id: str) -> AsyncIterator[models.Image]:
        """Its present state, then every change, until the caller stops. Raises NotFound, also once it is gone."""
        request = catalog_pb2.GetImageRequest(image_id=image_id)
        seen: models.Image | None = None
        async for message in self._transport.follow("ImageService/Watch", request, catalog_pb2.Image):
            image = to_model(models.Image, message)
            if image != seen:  # a reconnect repeats the present state
                seen = image
                yield image

    async def wait_available(self, image_id: str, timeout: float = 300.0) -> models.Image:
        """Wait until it can be launched from. Raises NotFound, IncorrectState (it failed), DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout):
                async for image in self.watch(image_id):
                    if image.state == "available":
                        return image
                    if image.state != "pending":
                        story = f"{image_id} is {image.state}: {image.state_reason}"
                        raise IncorrectState(story, code="InvalidAMIID.Unavailable")
        except TimeoutError:
            raise DeadlineExceeded(f"{image_id} is not available after {timeout:g} s", field="timeout") from None
        raise Unavailable(f"the cloud says no more of {image_id}")

    async def register(
        self,
        name: str,
        tar_path: str | Path,
        *,
        description: str = "",
        architecture: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> models.Image:
        """From a tar of files (plain or gzip). architecture '': the cloud's own. Raises InvalidRequest, OSError."""
        path = _tar(tar_path)
        header = catalog_pb2.RegisterImageHeader(
            name=name, description=description, architecture=architecture, tags=tags or {}
        )
        reply = await self._transport.upload("ImageService/Register", _parts(header, path), catalog_pb2.Image)
        return to_model(models.Image, reply)

    async def deregister(self, image_id: str) -> models.Image:
        """Instances launched from it go on. Raises NotFound, OperationNotPermitted (built-in)."""
        request = catalog_pb2.GetImageRequest(image_id=image_id)
        reply = await self._transport.call("ImageService/Deregister", request, catalog_pb2.Image, idempotent=False)
        return to_model(models.Image, reply)


def _tar(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise InvalidParameterValue(f"{path} is not a file", field="tar_path")
    return Path(path)


async def _parts(
    header: catalog_pb2.RegisterImageHeader, path: Path
) -> AsyncIterator[catalog_pb2.RegisterImageRequest]:
    yield catalog_pb2.RegisterImageRequest(header=header)
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield catalog_pb2.RegisterImageRequest(chunk=chunk)
