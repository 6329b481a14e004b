"""LogService on the wire: translation, no decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from minicloud.base.arn import Caller, Scope
from minicloud.logs import limits, listing
from minicloud.logs.following import Shown
from minicloud.logs.machine import CreateGroup, CreateStream, DeleteGroup, DeleteStream, SetRetention, TagGroup
from minicloud.logs.model import Given, Group, Stream
from minicloud.logs.service import LogService, Which, event_id
from minicloud.wire import logs_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["LogService"]


class LogServicer:
    """For `rpc.door.door(LogServicer(...), DESCRIPTOR, entry)`; callers come from `rpc.shard_ticket`."""

    def __init__(self, service: LogService) -> None:
        self._service = service

    # --- groups

    async def CreateLogGroup(self, request: wire.CreateLogGroupRequest, caller: Caller) -> wire.LogGroup:
        command = CreateGroup(caller.scope, request.name, dict(request.tags), request.retention_days)
        return group(await self._service.submit(command))

    async def DescribeLogGroups(
        self, request: wire.DescribeLogGroupsRequest, caller: Caller
    ) -> wire.DescribeLogGroupsReply:
        asked = listing.Groups(request.prefix, request.pattern)
        size = request.page_size or limits.LIST_MAX
        found, token = await self._service.groups(caller.scope, asked, request.page_token, size)
        return wire.DescribeLogGroupsReply(groups=[group(*one) for one in found], next_page_token=token)

    async def DeleteLogGroup(self, request: wire.DeleteLogGroupRequest, caller: Caller) -> wire.DeleteLogGroupReply:
        await self._service.submit(DeleteGroup(caller.scope, request.group))
        return wire.DeleteLogGroupReply()

    async def SetRetention(self, request: wire.SetRetentionRequest, caller: Caller) -> wire.LogGroup:
        return group(await self._service.submit(SetRetention(caller.scope, request.group, request.days)))

    async def TagLogGroup(self, request: wire.TagLogGroupRequest, caller: Caller) -> wire.LogGroup:
        command = TagGroup(caller.scope, request.group, dict(request.tags), tuple(request.remove))
        return group(await self._service.submit(command))

    # --- streams

    async def CreateLogStream(self, request: wire.CreateLogStreamRequest, caller: Caller) -> wire.LogStream:
        made = await self._service.submit(CreateStream(caller.scope, request.group, request.name))
        return self._stream(made, caller.scope, request.group)

    async def DescribeLogStreams(
        self, request: wire.DescribeLogStreamsRequest, caller: Caller
    ) -> wire.DescribeLogStreamsReply:
        asked = listing.Streams(request.group, request.prefix, request.by_time, request.descending)
        size = request.page_size or limits.LIST_MAX
        found, token = await self._service.streams(caller.scope, asked, request.page_token, size)
        shown = [self._stream(one, caller.scope, request.group) for one in found]
        return wire.DescribeLogStreamsReply(streams=shown, next_page_token=token)

    async def DeleteLogStream(self, request: wire.DeleteLogStreamRequest, caller: Caller) -> wire.DeleteLogStreamReply:
        await self._service.submit(DeleteStream(caller.scope, request.group, request.stream))
        return wire.DeleteLogStreamReply()

    # --- events

    async def PutLogEvents(self, request: wire.PutLogEventsRequest, caller: Caller) -> wire.PutLogEventsReply:
        events = [Given(one.time_ms, one.message) for one in request.events]
        rejected = await self._service.put(caller.scope, request.group, request.stream, events)
        return wire.PutLogEventsReply(
            too_new_from=rejected.too_new_from,
            too_old_until=rejected.too_old_until,
            expired_until=rejected.expired_until,
        )

    async def GetLogEvents(self, request: wire.GetLogEventsRequest, caller: Caller) -> wire.GetLogEventsReply:
        span = (request.start_ms, request.end_ms)
        found, forward, backward = await self._service.get(
            caller.scope, request.group, request.stream, span, request.token, request.limit, head=request.from_head
        )
        return wire.GetLogEventsReply(events=_events(found), forward_token=forward, backward_token=backward)

    async def FilterLogEvents(self, request: wire.FilterLogEventsRequest, caller: Caller) -> wire.FilterLogEventsReply:
        which = Which(
            request.group,
            tuple(request.streams),
            request.stream_prefix,
            request.pattern,
            request.start_ms,
            request.end_ms,
        )
        found, token = await self._service.filter(caller.scope, which, request.page_token, request.limit)
        return wire.FilterLogEventsReply(events=_events(found), next_page_token=token)

    async def TailLogEvents(
        self, request: wire.TailLogEventsRequest, caller: Caller
    ) -> AsyncIterator[wire.TailLogEventsReply]:
        names = (request.group, tuple(request.streams), request.stream_prefix)
        which = Which(*names, request.pattern, request.start_ms)
        async for found, left_out in self._service.tail(caller.scope, which):
            yield wire.TailLogEventsReply(events=_events(found), left_out=left_out)

    def _stream(self, one: Stream, scope: Scope, owner: str) -> wire.LogStream:
        kept = self._service.kept(one)
        return wire.LogStream(
            name=one.name,
            arn=scope.arn("logs", f"log-group:{owner}:log-stream:{one.name}"),
            created_ms=one.created_ms,
            first_event_ms=kept.low_ms,
            last_event_ms=kept.high_ms,
            last_taken_ms=kept.taken_ms,
            stored_bytes=kept.text,
        )


def group(one: Group, stored: int = 0) -> wire.LogGroup:
    return wire.LogGroup(
        name=one.name,
        arn=one.arn,
        created_ms=one.created_ms,
        retention_days=one.retention_days,
        tags=one.tags,
        stored_bytes=stored,
    )


def _events(found: Iterable[Shown]) -> list[wire.FoundLogEvent]:
    return [
        wire.FoundLogEvent(
            id=event_id(one),
            stream=one.stream,
            time_ms=one.event.time_ms,
            taken_ms=one.event.taken_ms,
            message=one.event.message,
        )
        for one in found
    ]
