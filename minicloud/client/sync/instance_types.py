"""Made from `minicloud/client/instance_types.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

from minicloud.client.instance_types import AsyncTypes, TypeFilters
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Types:
    """Instance types and their families: general, compute, memory, accelerated, storage."""

    _inner: AsyncTypes

    def __init__(self, inner: AsyncTypes, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def get(self, name: str) -> models.InstanceType:
        """Raises InvalidParameterValue (unknown type)."""
        return self._loop.run(self._inner.get(name))

    def list(self, *, page_size: int = 500, **filters: Unpack[TypeFilters]) -> Iterator[models.InstanceType]:
        """All types that match every filter, in order of their names."""
        return self._loop.iterate(self._inner.list(page_size=page_size, **filters))
