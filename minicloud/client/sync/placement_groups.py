"""Made from `minicloud/client/placement_groups.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.placement_groups import AsyncPlacementGroups

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class PlacementGroups:
    """Placement groups, named by their names."""

    _inner: AsyncPlacementGroups

    def __init__(self, inner: AsyncPlacementGroups, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(self, name: str, strategy: str, *, partitions: int = 0) -> models.PlacementGroup:
        """strategy: cluster | spread | partition. partitions: 1 to 7, of a partition group (0: two)."""
        return self._loop.run(self._inner.create(name, strategy, partitions=partitions))

    def get(self, name: str) -> models.PlacementGroup:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(name))

    def list(self, *, page_size: int = 100) -> Iterator[models.PlacementGroup]:
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def delete(self, name: str) -> models.PlacementGroup:
        """Raises NotFound, DependencyViolation (instances are in it)."""
        return self._loop.run(self._inner.delete(name))
