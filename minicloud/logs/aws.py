"""CloudWatch Logs' operations over the log service: translation, no decisions. The wire is minicloud/aws."""

from __future__ import annotations

from typing import Any

from minicloud.aws.call import Call, only, refused
from minicloud.base.errors import InvalidPageToken, InvalidParameterValue
from minicloud.logs import errors, limits, listing
from minicloud.logs.machine import CreateGroup, CreateStream, DeleteGroup, DeleteStream, SetRetention, TagGroup
from minicloud.logs.model import Given, Group, Stream
from minicloud.logs.pattern import compiled
from minicloud.logs.rules import Rejected
from minicloud.logs.service import LogService, Which, event_id

Params = dict[str, Any]


class CloudWatchLogs:
    """The door of `logs`."""

    def __init__(self, service: LogService) -> None:
        self._service = service

    # --- groups

    async def CreateLogGroup(self, params: Params, call: Call) -> Params:
        if params.get("logGroupClass", "STANDARD") != "STANDARD":
            raise refused("logGroupClass", call, "There is the class STANDARD.")
        if params.get("deletionProtectionEnabled", False):
            raise refused("deletionProtectionEnabled", call)
        only(params, call, "logGroupName", "tags", "logGroupClass", "deletionProtectionEnabled")
        await self._service.submit(CreateGroup(call.caller.scope, params["logGroupName"], params.get("tags", {})))
        return {}

    async def DescribeLogGroups(self, params: Params, call: Call) -> Params:
        own = call.caller.scope.account
        if any(one != own for one in params.get("accountIdentifiers", ())) or params.get("includeLinkedAccounts"):
            raise refused("includeLinkedAccounts", call, "There are no linked accounts.")
        if params.get("logGroupClass", "STANDARD") != "STANDARD":
            return {"logGroups": []}
        if "logGroupIdentifiers" in params:
            return await self._named(params, call)
        asked = listing.Groups(params.get("logGroupNamePrefix", ""), params.get("logGroupNamePattern", ""))
        token, most = params.get("nextToken", ""), params.get("limit", limits.LIST_MAX)
        try:
            found, after = await self._service.groups(call.caller.scope, asked, token, most)
        except InvalidPageToken:
            raise _bad_token() from None
        return {"logGroups": [_group(*one) for one in found], "nextToken": after or None}

    async def _named(self, params: Params, call: Call) -> Params:
        """Those that are named; the rest of what can be asked for does not go with it."""
        only(params, call, "logGroupIdentifiers", "limit", "accountIdentifiers", "includeLinkedAccounts")
        names = {_named(one, call) for one in params["logGroupIdentifiers"]}
        found = []
        for name in sorted(names)[: params.get("limit", limits.LIST_MAX)]:
            page, _ = await self._service.groups(call.caller.scope, listing.Groups(name), most=1)
            found += [_group(*one) for one in page if one[0].name == name]
        return {"logGroups": found}

    async def DeleteLogGroup(self, params: Params, call: Call) -> Params:
        await self._service.submit(DeleteGroup(call.caller.scope, params["logGroupName"]))
        return {}

    async def PutRetentionPolicy(self, params: Params, call: Call) -> Params:
        days = params["retentionInDays"]
        if not days:
            raise errors.invalid("Invalid retention of 0 days", "retentionInDays")
        await self._service.submit(SetRetention(call.caller.scope, params["logGroupName"], days))
        return {}

    async def DeleteRetentionPolicy(self, params: Params, call: Call) -> Params:
        await self._service.submit(SetRetention(call.caller.scope, params["logGroupName"], 0))
        return {}

    async def TagResource(self, params: Params, call: Call) -> Params:
        await self._service.submit(TagGroup(call.caller.scope, _named(params["resourceArn"], call), params["tags"]))
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Params:
        name = _named(params["resourceArn"], call)
        await self._service.submit(TagGroup(call.caller.scope, name, {}, params["tagKeys"]))
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Params:
        return await self._tags(_named(params["resourceArn"], call), call)

    async def TagLogGroup(self, params: Params, call: Call) -> Params:
        await self._service.submit(TagGroup(call.caller.scope, params["logGroupName"], params["tags"]))
        return {}

    async def UntagLogGroup(self, params: Params, call: Call) -> Params:
        await self._service.submit(TagGroup(call.caller.scope, params["logGroupName"], {}, params["tags"]))
        return {}

    async def ListTagsLogGroup(self, params: Params, call: Call) -> Params:
        return await self._tags(params["logGroupName"], call)

    async def _tags(self, name: str, call: Call) -> Params:
        found, _ = await self._service.groups(call.caller.scope, listing.Groups(name), most=1)
        if not found or found[0][0].name != name:
            raise errors.no_group()
        return {"tags": found[0][0].tags}

    # --- streams

    async def CreateLogStream(self, params: Params, call: Call) -> Params:
        command = CreateStream(call.caller.scope, params["logGroupName"], params["logStreamName"])
        await self._service.submit(command)
        return {}

    async def DescribeLogStreams(self, params: Params, call: Call) -> Params:
        name = _group_of(params, call)
        asked = listing.Streams(
            name,
            params.get("logStreamNamePrefix", ""),
            params.get("orderBy", "LogStreamName") == "LastEventTime",
            params.get("descending", False),
        )
        token, most = params.get("nextToken", ""), params.get("limit", limits.LIST_MAX)
        try:
            found, after = await self._service.streams(call.caller.scope, asked, token, most)
        except InvalidPageToken:
            raise _bad_token() from None
        return {"logStreams": [self._stream(one, name, call) for one in found], "nextToken": after or None}

    async def DeleteLogStream(self, params: Params, call: Call) -> Params:
        command = DeleteStream(call.caller.scope, params["logGroupName"], params["logStreamName"])
        await self._service.submit(command)
        return {}

    # --- events

    async def PutLogEvents(self, params: Params, call: Call) -> Params:
        """Sequence tokens are not looked at, as in CloudWatch Logs since 2023."""
        only(params, call, "logGroupName", "logStreamName", "logEvents", "sequenceToken")
        events = [Given(one["timestamp"], one["message"]) for one in params["logEvents"]]
        params.get("sequenceToken")
        rejected = await self._service.put(call.caller.scope, params["logGroupName"], params["logStreamName"], events)
        return {"rejectedLogEventsInfo": _rejected(rejected)} if rejected else {}

    async def GetLogEvents(self, params: Params, call: Call) -> Params:
        params.get("unmask")  # nothing is masked
        span = (params.get("startTime", 0), params.get("endTime", 0))
        try:
            found, forward, backward = await self._service.get(
                call.caller.scope,
                _group_of(params, call),
                params["logStreamName"],
                span,
                params.get("nextToken", ""),
                params.get("limit", limits.EVENTS_MAX),
                head=params.get("startFromHead", False),
            )
        except InvalidPageToken:
            raise _bad_token() from None
        events = [
            {"timestamp": one.event.time_ms, "message": one.event.message, "ingestionTime": one.event.taken_ms}
            for one in found
        ]
        return {"events": events, "nextForwardToken": forward, "nextBackwardToken": backward}

    async def FilterLogEvents(self, params: Params, call: Call) -> Params:
        if not params.get("startFromHead", True):
            raise refused("startFromHead", call, "Events come oldest first.")
        for name in ("unmask", "interleaved"):
            params.get(name)  # nothing is masked; streams are always interleaved, as in CloudWatch Logs since 2019
        which = Which(
            _group_of(params, call),
            tuple(params.get("logStreamNames", ())),
            params.get("logStreamNamePrefix", ""),
            params.get("filterPattern", ""),
            params.get("startTime", 0),
            params.get("endTime", 0),
        )
        try:
            found, token = await self._service.filter(
                call.caller.scope, which, params.get("nextToken", ""), params.get("limit", limits.EVENTS_MAX)
            )
        except InvalidPageToken:
            raise _bad_token() from None
        events = [
            {
                "logStreamName": one.stream,
                "timestamp": one.event.time_ms,
                "message": one.event.message,
                "ingestionTime": one.event.taken_ms,
                "eventId": event_id(one),
            }
            for one in found
        ]
        return {"events": events, "searchedLogStreams": [], "nextToken": token or None}

    async def TestMetricFilter(self, params: Params, call: Call) -> Params:
        matches = compiled(params["filterPattern"])
        found = [
            {"eventNumber": number, "eventMessage": message, "extractedValues": {}}
            for number, message in enumerate(params["logEventMessages"], 1)
            if matches(message)
        ]
        return {"matches": found}

    def _stream(self, one: Stream, group: str, call: Call) -> Params:
        kept = self._service.kept(one)
        times = (kept.low_ms, kept.high_ms, kept.taken_ms) if kept.heads else (None, None, None)
        return {
            "logStreamName": one.name,
            "creationTime": one.created_ms,
            "firstEventTimestamp": times[0],
            "lastEventTimestamp": times[1],
            "lastIngestionTime": times[2],
            "uploadSequenceToken": f"{one.number:056d}",
            "arn": call.caller.scope.arn("logs", f"log-group:{group}:log-stream:{one.name}"),
            "storedBytes": 0,  # API, LogStream: always 0 since 2019
        }


def _group(one: Group, stored: int) -> Params:
    return {
        "logGroupName": one.name,
        "creationTime": one.created_ms,
        "retentionInDays": one.retention_days or None,
        "metricFilterCount": 0,
        "arn": f"{one.arn}:*",
        "logGroupArn": one.arn,
        "storedBytes": stored,
        "logGroupClass": "STANDARD",
    }


def _rejected(one: Rejected) -> Params:
    shown = {
        "tooNewLogEventStartIndex": one.too_new_from,
        "tooOldLogEventEndIndex": one.too_old_until,
        "expiredLogEventEndIndex": one.expired_until,
    }
    return {name: at for name, at in shown.items() if at >= 0}


def _group_of(params: Params, call: Call) -> str:
    """By name or by identifier, one of them. Raises InvalidParameterException."""
    name, identifier = params.get("logGroupName"), params.get("logGroupIdentifier")
    if bool(name) == bool(identifier):
        raise errors.invalid("Exactly one of logGroupName and logGroupIdentifier must be given.", "logGroupName")
    return str(name) if name else _named(str(identifier), call)


def _named(identifier: str, call: Call) -> str:
    """The name in an ARN, with or without ':*' behind it. Raises ResourceNotFoundException: another account's."""
    if not identifier.startswith("arn:"):
        return identifier
    start = call.caller.scope.arn("logs", "log-group:")
    if not identifier.startswith(start):
        raise errors.no_group()
    return identifier.removeprefix(start).removesuffix(":*")


def _bad_token() -> InvalidParameterValue:
    return errors.invalid("The specified nextToken is invalid.", "nextToken")
