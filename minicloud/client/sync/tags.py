"""Made from `minicloud/client/tags.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Mapping

from minicloud.client.loop import LoopThread
from minicloud.client.tags import AsyncTags


class Tags:
    """Up to 50 tags a resource. Each method answers with the tags that the resource has then."""

    _inner: AsyncTags

    def __init__(self, inner: AsyncTags, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def add(self, resource_id: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values. Raises NotFound, InvalidParameterValue, LimitExceeded."""
        return self._loop.run(self._inner.add(resource_id, tags))

    def remove(self, resource_id: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.remove(resource_id, *keys))
