"""Made from `minicloud/client/images.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from minicloud.client.images import AsyncImages
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Images:
    """Built-in images and one's own. Images are named by id; `launch` takes a name too."""

    _inner: AsyncImages

    def __init__(self, inner: AsyncImages, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def get(self, image_id: str) -> models.Image:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(image_id))

    def list(self, *, include_builtin: bool = True, page_size: int = 100) -> Iterator[models.Image]:
        return self._loop.iterate(self._inner.list(include_builtin=include_builtin, page_size=page_size))

    def create(
        self,
        instance_id: str,
        name: str,
        *,
        description: str = "",
        no_reboot: bool = False,
        tags: Mapping[str, str] | None = None,
    ) -> models.Image:
        """From an instance's disk; a running guest is frozen for the copy unless `no_reboot`. Begins as `pending`."""
        return self._loop.run(
            self._inner.create(instance_id, name, description=description, no_reboot=no_reboot, tags=tags)
        )

    def watch(self, image_id: str) -> Iterator[models.Image]:
        """Its present state, then every change, until the caller stops. Raises NotFound, also once it is gone."""
        return self._loop.iterate(self._inner.watch(image_id))

    def wait_available(self, image_id: str, timeout: float = 300.0) -> models.Image:
        """Wait until it can be launched from. Raises NotFound, IncorrectState (it failed), DeadlineExceeded."""
        return self._loop.run(self._inner.wait_available(image_id, timeout))

    def register(
        self,
        name: str,
        tar_path: str | Path,
        *,
        description: str = "",
        architecture: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> models.Image:
        """From a tar of files (plain or gzip). architecture '': the cloud's own. Raises InvalidRequest, OSError."""
        return self._loop.run(
            self._inner.register(name, tar_path, description=description, architecture=architecture, tags=tags)
        )

    def deregister(self, image_id: str) -> models.Image:
        """Instances launched from it go on. Raises NotFound, OperationNotPermitted (built-in)."""
        return self._loop.run(self._inner.deregister(image_id))
