"""Launch templates: presets of a launch, with versions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

from minicloud.client.config import new_token
from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.wire import catalog_pb2
else:
    models = lazy("minicloud.client.models")
    catalog_pb2 = lazy("minicloud.wire.catalog_pb2")

_SERVICE = "LaunchTemplateService"


class AsyncTemplates:
    """Launch templates, named by id or by name. Versions never change; the default version may."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self,
        name: str,
        data: models.TemplateData,
        *,
        version_description: str = "",
        tags: Mapping[str, str] | None = None,
        client_token: str = "",
    ) -> models.LaunchTemplateVersion:
        """Version 1, which is the default. Raises AlreadyExists, InvalidRequest."""
        request = catalog_pb2.CreateLaunchTemplateRequest(
            name=name,
            data=_data(data),
            version_description=version_description,
            client_token=client_token or new_token(),
            tags=tags or {},
        )
        return await self._version("Create", request)

    async def create_version(
        self,
        template: str,
        data: models.TemplateData,
        *,
        source_version: str = "",
        version_description: str = "",
        client_token: str = "",
    ) -> models.LaunchTemplateVersion:
        """What `data` does not set is taken from source_version (a number, "$Latest", "$Default"), when given."""
        request = catalog_pb2.CreateLaunchTemplateVersionRequest(
            template=template,
            data=_data(data),
            source_version=source_version,
            version_description=version_description,
            client_token=client_token or new_token(),
        )
        return await self._version("CreateVersion", request)

    async def set_default_version(self, template: str, version: int) -> models.LaunchTemplate:
        request = catalog_pb2.SetDefaultVersionRequest(template=template, version=version)
        reply = await self._transport.call(f"{_SERVICE}/SetDefaultVersion", request, catalog_pb2.LaunchTemplate)
        return to_model(models.LaunchTemplate, reply)

    async def get(self, template: str, version: str = "$Default") -> models.LaunchTemplateVersion:
        """version: a number, "$Default" or "$Latest". Raises NotFound."""
        return await self._version("Get", catalog_pb2.GetLaunchTemplateRequest(template=template, version=version))

    async def list(self, *, page_size: int = 100) -> AsyncIterator[models.LaunchTemplate]:
        request = catalog_pb2.ListLaunchTemplatesRequest(page_size=page_size)
        while True:
            reply = await self._transport.call(f"{_SERVICE}/List", request, catalog_pb2.ListLaunchTemplatesResponse)
            for item in reply.templates:
                yield to_model(models.LaunchTemplate, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def list_versions(
        self, template: str, *, page_size: int = 100
    ) -> AsyncIterator[models.LaunchTemplateVersion]:
        request = catalog_pb2.ListLaunchTemplateVersionsRequest(template=template, page_size=page_size)
        while True:
            reply = await self._transport.call(
                f"{_SERVICE}/ListVersions", request, catalog_pb2.ListLaunchTemplateVersionsResponse
            )
            for item in reply.versions:
                yield to_model(models.LaunchTemplateVersion, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, template: str) -> models.LaunchTemplate:
        """All its versions. Raises NotFound."""
        request = catalog_pb2.DeleteLaunchTemplateRequest(template=template)
        reply = await self._transport.call(f"{_SERVICE}/Delete", request, catalog_pb2.LaunchTemplate, idempotent=False)
        return to_model(models.LaunchTemplate, reply)

    async def _version(
        self,
        verb: str,
        request: catalog_pb2.CreateLaunchTemplateRequest
        | catalog_pb2.CreateLaunchTemplateVersionRequest
        | catalog_pb2.GetLaunchTemplateRequest,
        idempotent: bool = True,
    ) -> models.LaunchTemplateVersion:
        reply = await self._transport.call(
            f"{_SERVICE}/{verb}", request, catalog_pb2.LaunchTemplateVersion, idempotent=idempotent
        )
        return to_model(models.LaunchTemplateVersion, reply)


def _data(data: models.TemplateData) -> catalog_pb2.TemplateData:
    return catalog_pb2.TemplateData(**{field.name: getattr(data, field.name) for field in fields(data)})
