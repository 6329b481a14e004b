"""Made from `minicloud/client/logs.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.lazy import lazy
from minicloud.client.logs import AsyncLogs
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import log_models
else:
    log_models = lazy("minicloud.client.log_models")


class Logs:
    """What functions and programs have written, in groups and streams."""

    _inner: AsyncLogs

    def __init__(self, inner: AsyncLogs, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create_group(
        self, name: str, *, retention_days: int = 0, tags: Mapping[str, str] | None = None
    ) -> log_models.LogGroup:
        """retention_days: 1, 3, 5, 7, 14, 30, ...; 0: for ever. Raises AlreadyExists, InvalidParameterValue."""
        return self._loop.run(self._inner.create_group(name, retention_days=retention_days, tags=tags))

    def groups(self, prefix: str = "", *, pattern: str = "") -> Iterator[log_models.LogGroup]:
        """By name; of this prefix, or with this in it. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.groups(prefix, pattern=pattern))

    def delete_group(self, name: str) -> None:
        """With its streams and events. Raises NotFound."""
        self._loop.run(self._inner.delete_group(name))

    def set_retention(self, group: str, days: int) -> log_models.LogGroup:
        """Events older than that go; 0: they stay for ever. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.set_retention(group, days))

    def tag(self, group: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags to a group, or change their values; answers with all that it has then."""
        return self._loop.run(self._inner.tag(group, tags))

    def untag(self, group: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(group, *keys))

    def create_stream(self, group: str, name: str) -> log_models.LogStream:
        """Raises NotFound, AlreadyExists."""
        return self._loop.run(self._inner.create_stream(group, name))

    def streams(
        self, group: str, prefix: str = "", *, by_time: bool = False, descending: bool = False
    ) -> Iterator[log_models.LogStream]:
        """By name, or by the time of their last event. Raises NotFound."""
        return self._loop.iterate(self._inner.streams(group, prefix, by_time=by_time, descending=descending))

    def delete_stream(self, group: str, name: str) -> None:
        """With its events. Raises NotFound."""
        self._loop.run(self._inner.delete_stream(group, name))

    def put(
        self, group: str, stream: str, events: Iterable[str | tuple[datetime | float, str]]
    ) -> log_models.RejectedEvents:
        """Messages of now, or with their times (datetime, or Unix seconds), the oldest first: 10,000 and 1 MiB at most.

        What was neither too old nor too new is on disk when this returns. A call whose answer was lost is made again,
        so events may be there twice. Raises NotFound, InvalidParameterValue.
        """
        return self._loop.run(self._inner.put(group, stream, events))

    def get(
        self,
        group: str,
        stream: str,
        *,
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        from_head: bool = False,
        limit: int = 0,
        token: str = "",
    ) -> log_models.LogPage:
        """A page of one stream: the newest, or the oldest (from_head), or where a token of another page leads to."""
        return self._loop.run(
            self._inner.get(group, stream, start=start, end=end, from_head=from_head, limit=limit, token=token)
        )

    def filter(
        self,
        group: str,
        pattern: str = "",
        *,
        streams: Sequence[str] = (),
        stream_prefix: str = "",
        start: datetime | float | None = None,
        end: datetime | float | None = None,
    ) -> Iterator[log_models.LogEvent]:
        """Events of many streams by time, those whose message matches.

        pattern: 'ERROR timeout' (both), '?a ?b' (one), '-debug' (without), '"a phrase"', '{ $.level = "error" }',
        '[ip, user, status = 4*]'. Pages are fetched as they are needed. Raises NotFound, InvalidParameterValue.
        """
        return self._loop.iterate(
            self._inner.filter(group, pattern, streams=streams, stream_prefix=stream_prefix, start=start, end=end)
        )

    def tail(
        self,
        group: str,
        pattern: str = "",
        *,
        streams: Sequence[str] = (),
        stream_prefix: str = "",
        start: datetime | float | None = None,
    ) -> Iterator[log_models.LogEvent]:
        """Events since `start` (None: from now on), then as they come, until the caller leaves. Raises NotFound.

        Each comes once. Where the connection broke, or the caller was too slow, what came meanwhile is read from the
        log, but for events that came later than LATE_S after their own time.
        """
        return self._loop.iterate(
            self._inner.tail(group, pattern, streams=streams, stream_prefix=stream_prefix, start=start)
        )
