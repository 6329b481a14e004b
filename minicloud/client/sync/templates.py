"""Made from `minicloud/client/templates.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.templates import AsyncTemplates

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Templates:
    """Launch templates, named by id or by name. Versions never change; the default version may."""

    _inner: AsyncTemplates

    def __init__(self, inner: AsyncTemplates, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
        self,
        name: str,
        data: models.TemplateData,
        *,
        version_description: str = "",
        tags: Mapping[str, str] | None = None,
        client_token: str = "",
    ) -> models.LaunchTemplateVersion:
        """Version 1, which is the default. Raises AlreadyExists, InvalidRequest."""
        return self._loop.run(
            self._inner.create(
                name, data, version_description=version_description, tags=tags, client_token=client_token
            )
        )

    def create_version(
        self,
        template: str,
        data: models.TemplateData,
        *,
        source_version: str = "",
        version_description: str = "",
        client_token: str = "",
    ) -> models.LaunchTemplateVersion:
        """What `data` does not set is taken from source_version (a number, "$Latest", "$Default"), when given."""
        return self._loop.run(
            self._inner.create_version(
                template,
                data,
                source_version=source_version,
                version_description=version_description,
                client_token=client_token,
            )
        )

    def set_default_version(self, template: str, version: int) -> models.LaunchTemplate:
        return self._loop.run(self._inner.set_default_version(template, version))

    def get(self, template: str, version: str = "$Default") -> models.LaunchTemplateVersion:
        """version: a number, "$Default" or "$Latest". Raises NotFound."""
        return self._loop.run(self._inner.get(template, version))

    def list(self, *, page_size: int = 100) -> Iterator[models.LaunchTemplate]:
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def list_versions(self, template: str, *, page_size: int = 100) -> Iterator[models.LaunchTemplateVersion]:
        return self._loop.iterate(self._inner.list_versions(template, page_size=page_size))

    def delete(self, template: str) -> models.LaunchTemplate:
        """All its versions. Raises NotFound."""
        return self._loop.run(self._inner.delete(template))
