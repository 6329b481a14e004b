"""Logs by group and stream: write, read, filter, follow. Names and limits are CloudWatch Logs'."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import log_models
    from minicloud.wire import logs_pb2
else:
    log_models = lazy("minicloud.client.log_models")
    logs_pb2 = lazy("minicloud.wire.logs_pb2")

LATE_S = 60  # how long after its own time an event may come and not be missed by a follower who begins again
_PRUNED_AT = 10_000


class AsyncLogs:
    """What functions and programs have written, in groups and streams."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create_group(
        self, name: str, *, retention_days: int = 0, tags: Mapping[str, str] | None = None
    ) -> log_models.LogGroup:
        """retention_days: 1, 3, 5, 7, 14, 30, ...; 0: for ever. Raises AlreadyExists, InvalidParameterValue."""
        check_range(retention_days=retention_days)
        request = logs_pb2.CreateLogGroupRequest(name=name, retention_days=retention_days, tags=tags or {})
        reply = await self._broker.call("LogService/CreateLogGroup", request, logs_pb2.LogGroup)
        return to_model(log_models.LogGroup, reply)

    async def groups(self, prefix: str = "", *, pattern: str = "") -> AsyncIterator[log_models.LogGroup]:
        """By name; of this prefix, or with this in it. Pages are fetched as they are needed."""
        request = logs_pb2.DescribeLogGroupsRequest(prefix=prefix, pattern=pattern)
        while True:
            reply = await self._broker.call("LogService/DescribeLogGroups", request, logs_pb2.DescribeLogGroupsReply)
            for item in reply.groups:
                yield to_model(log_models.LogGroup, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete_group(self, name: str) -> None:
        """With its streams and events. Raises NotFound."""
        request = logs_pb2.DeleteLogGroupRequest(group=name)
        await self._broker.call("LogService/DeleteLogGroup", request, logs_pb2.DeleteLogGroupReply)

    async def set_retention(self, group: str, days: int) -> log_models.LogGroup:
        """Events older than that go; 0: they stay for ever. Raises NotFound, InvalidParameterValue."""
        check_range(days=days)
        request = logs_pb2.SetRetentionRequest(group=group, days=days)
        reply = await self._broker.call("LogService/SetRetention", request, logs_pb2.LogGroup)
        return to_model(log_models.LogGroup, reply)

    async def tag(self, group: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags to a group, or change their values; answers with all that it has then."""
        request = logs_pb2.TagLogGroupRequest(group=group, tags=tags)
        return dict((await self._broker.call("LogService/TagLogGroup", request, logs_pb2.LogGroup)).tags)

    async def untag(self, group: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        request = logs_pb2.TagLogGroupRequest(group=group, remove=keys)
        return dict((await self._broker.call("LogService/TagLogGroup", request, logs_pb2.LogGroup)).tags)

    async def create_stream(self, group: str, name: str) -> log_models.LogStream:
        """Raises NotFound, AlreadyExists."""
        request = logs_pb2.CreateLogStreamRequest(group=group, name=name)
        reply = await self._broker.call("LogService/CreateLogStream", request, logs_pb2.LogStream)
        return to_model(log_models.LogStream, reply)

    async def streams(
        self, group: str, prefix: str = "", *, by_time: bool = False, descending: bool = False
    ) -> AsyncIterator[log_models.LogStream]:
        """By name, or by the time of their last event. Raises NotFound."""
        request = logs_pb2.DescribeLogStreamsRequest(group=group, prefix=prefix, by_time=by_time, descending=descending)
        while True:
            method = "LogService/DescribeLogStreams"
            reply = await self._broker.call(method, request, logs_pb2.DescribeLogStreamsReply)
            for item in reply.streams:
                yield to_model(log_models.LogStream, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete_stream(self, group: str, name: str) -> None:
        """With its events. Raises NotFound."""
        request = logs_pb2.DeleteLogStreamRequest(group=group, stream=name)
        await self._broker.call("LogService/DeleteLogStream", request, logs_pb2.DeleteLogStreamReply)

    async def put(
        self, group: str, stream: str, events: Iterable[str | tuple[datetime | float, str]]
    ) -> log_models.RejectedEvents:
        """Messages of now, or with their times (datetime, or Unix seconds), the oldest first: 10,000 and 1 MiB at most.

        What was neither too old nor too new is on disk when this returns. A call whose answer was lost is made again,
        so events may be there twice. Raises NotFound, InvalidParameterValue.
        """
        now = time.time()
        pairs = [(now, event) if isinstance(event, str) else event for event in events]
        request = logs_pb2.PutLogEventsRequest(
            group=group,
            stream=stream,
            events=[logs_pb2.LogEvent(time_ms=_ms(at), message=message) for at, message in pairs],
        )
        reply = await self._broker.call("LogService/PutLogEvents", request, logs_pb2.PutLogEventsReply)
        return to_model(log_models.RejectedEvents, reply)

    async def get(
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
        check_range(limit=limit)
        request = logs_pb2.GetLogEventsRequest(
            group=group,
            stream=stream,
            start_ms=_ms(start),
            end_ms=_ms(end),
            from_head=from_head,
            limit=limit,
            token=token,
        )
        reply = await self._broker.call("LogService/GetLogEvents", request, logs_pb2.GetLogEventsReply)
        return to_model(log_models.LogPage, reply)

    async def filter(
        self,
        group: str,
        pattern: str = "",
        *,
        streams: Sequence[str] = (),
        stream_prefix: str = "",
        start: datetime | float | None = None,
        end: datetime | float | None = None,
    ) -> AsyncIterator[log_models.LogEvent]:
        """Events of many streams by time, those whose message matches.

        pattern: 'ERROR timeout' (both), '?a ?b' (one), '-debug' (without), '"a phrase"', '{ $.level = "error" }',
        '[ip, user, status = 4*]'. Pages are fetched as they are needed. Raises NotFound, InvalidParameterValue.
        """
        request = logs_pb2.FilterLogEventsRequest(
            group=group,
            pattern=pattern,
            streams=streams,
            stream_prefix=stream_prefix,
            start_ms=_ms(start),
            end_ms=_ms(end),
        )
        while True:
            reply = await self._broker.call("LogService/FilterLogEvents", request, logs_pb2.FilterLogEventsReply)
            for item in reply.events:
                yield to_model(log_models.LogEvent, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def tail(
        self,
        group: str,
        pattern: str = "",
        *,
        streams: Sequence[str] = (),
        stream_prefix: str = "",
        start: datetime | float | None = None,
    ) -> AsyncIterator[log_models.LogEvent]:
        """Events since `start` (None: from now on), then as they come, until the caller leaves. Raises NotFound.

        Each comes once. Where the connection broke, or the caller was too slow, what came meanwhile is read from the
        log, but for events that came later than LATE_S after their own time.
        """
        request = logs_pb2.TailLogEventsRequest(
            group=group, pattern=pattern, streams=streams, stream_prefix=stream_prefix, start_ms=_ms(start)
        )
        seen = _Seen(request.start_ms or _ms(time.time()))
        while True:
            replies = self._broker.follow("LogService/TailLogEvents", request, logs_pb2.TailLogEventsReply)
            async with aclosing(replies):
                async for reply in replies:
                    request.start_ms = seen.since_ms  # `follow` opens the stream again with what it says then
                    if reply.left_out:
                        break
                    for item in reply.events:
                        if seen.is_new(item.id, item.time_ms):
                            yield to_model(log_models.LogEvent, item)
                else:
                    return


class _Seen:
    """Which events a follower has had: those from `since_ms` on, where it would go on."""

    def __init__(self, since_ms: int) -> None:
        self.since_ms = since_ms
        self._times: dict[str, int] = {}
        self._prune_at = _PRUNED_AT

    def is_new(self, event_id: str, time_ms: int) -> bool:
        if event_id in self._times:
            return False
        self._times[event_id] = time_ms
        self.since_ms = max(self.since_ms, min(time_ms, _ms(time.time())) - LATE_S * 1000)
        if len(self._times) >= self._prune_at:
            self._times = {known: at for known, at in self._times.items() if at >= self.since_ms}
            self._prune_at = 2 * len(self._times) + _PRUNED_AT
        return True


def _ms(at: datetime | float | None) -> int:
    """0: not given."""
    seconds = at.timestamp() if isinstance(at, datetime) else at or 0.0
    return round(seconds * 1000)
