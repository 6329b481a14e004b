"""Made from `minicloud/client/hosts.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minicloud.client.hosts import AsyncHosts
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Hosts:
    """Nodes that instances run on. Hosts are named by id or by name."""

    _inner: AsyncHosts

    def __init__(self, inner: AsyncHosts, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def get(self, host: str) -> models.Host:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(host))

    def list(self, *, page_size: int = 100) -> Iterator[models.Host]:
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def cordon(self, host: str) -> models.Host:
        """No new instances are placed on it; running ones stay."""
        return self._loop.run(self._inner.cordon(host))

    def uncordon(self, host: str) -> models.Host:
        return self._loop.run(self._inner.uncordon(host))

    def drain(self, host: str) -> models.Host:
        """Cordon it, then stop every instance on it; their disks stay with the host."""
        return self._loop.run(self._inner.drain(host))
