"""RuleService on the wire, and EventService for the cloud's own processes: translation, no decisions."""

from __future__ import annotations

import json
from typing import Any

from minicloud.base import pages
from minicloud.base.arn import Caller, Scope
from minicloud.event import commands, rules
from minicloud.event.events import Entry, Flaw, Happening
from minicloud.event.model import Rule, Target
from minicloud.event.service import EventService
from minicloud.event.state import State
from minicloud.wire import fleet_pb2
from minicloud.wire import rule_pb2 as wire

RULES = wire.DESCRIPTOR.services_by_name["RuleService"]
EVENTS = fleet_pb2.DESCRIPTOR.services_by_name["EventService"]


class RuleServicer:
    """For `rpc.door.door(RuleServicer(...), RULES, entry)`; callers come from `rpc.shard_ticket`."""

    def __init__(self, service: EventService, page_secret: bytes) -> None:
        self._service = service
        self._pages = page_secret

    async def PutEventRule(self, request: wire.PutEventRuleRequest, caller: Caller) -> wire.EventRule:
        command = commands.PutRule(
            caller.scope,
            request.name,
            request.pattern,
            request.expression,
            not request.disabled,
            request.description,
            dict(request.tags),
        )
        return _rule(await self._service.submit(command))

    async def GetEventRule(self, request: wire.EventRuleRequest, caller: Caller) -> wire.EventRule:
        return await self._service.shown(lambda state: _rule(rules.find(state, caller.scope, request.name)))

    async def ListEventRules(self, request: wire.ListEventRulesRequest, caller: Caller) -> wire.ListEventRulesReply:
        def look(state: State) -> wire.ListEventRulesReply:
            found = rules.listed(state, caller.scope, request.prefix, request.target_arn)
            context = f"{caller.scope} rules {request.prefix} {request.target_arn}"
            size = pages.checked_size(request.page_size)
            keys, token = pages.cut(self._pages, context, [*found], request.page_token, size)
            return wire.ListEventRulesReply(rules=[_rule(found[key]) for key in keys], next_page_token=token)

        return await self._service.shown(look)

    async def SetEventRuleState(self, request: wire.SetEventRuleStateRequest, caller: Caller) -> wire.EventRule:
        return _rule(await self._service.submit(commands.SetRuleState(caller.scope, request.name, request.enabled)))

    async def DeleteEventRule(self, request: wire.EventRuleRequest, caller: Caller) -> wire.DeleteEventRuleReply:
        await self._service.submit(commands.DeleteRule(caller.scope, request.name))
        return wire.DeleteEventRuleReply()

    async def PutEventTargets(self, request: wire.PutEventTargetsRequest, caller: Caller) -> wire.EventRule:
        targets = tuple(_target(one) for one in request.targets)
        return _rule(await self._service.submit(commands.PutTargets(caller.scope, request.rule, targets)))

    async def RemoveEventTargets(self, request: wire.RemoveEventTargetsRequest, caller: Caller) -> wire.EventRule:
        command = commands.RemoveTargets(caller.scope, request.rule, tuple(request.ids))
        return _rule(await self._service.submit(command))

    async def SetEventRuleTags(self, request: wire.SetEventRuleTagsRequest, caller: Caller) -> wire.EventRule:
        command = commands.SetRuleTags(caller.scope, request.rule, dict(request.set), tuple(request.remove))
        return _rule(await self._service.submit(command))

    async def PutEvents(self, request: wire.PutEventsRequest, caller: Caller) -> wire.PutEventsReply:
        entries = [
            Entry(one.source, one.detail_type, one.detail, tuple(one.resources), one.time or None)
            for one in request.entries
        ]
        results = await self._service.put_events(caller.scope, entries)
        return wire.PutEventsReply(results=[_result(one) for one in results])

    async def TestEventPattern(
        self, request: wire.TestEventPatternRequest, caller: Caller
    ) -> wire.TestEventPatternReply:
        matches = await self._service.tested(caller.scope, request.pattern, request.event)
        return wire.TestEventPatternReply(matches=matches)


class EventServicer:
    """For `rpc.door.door(EventServicer(service), EVENTS, Entry(fleet_door(...), ...))`: what the cloud itself tells."""

    def __init__(self, service: EventService) -> None:
        self._service = service

    async def TellEvents(self, request: fleet_pb2.TellEventsRequest, _who: str) -> fleet_pb2.TellEventsReply:
        unheard = await self._service.happened([_happening(one) for one in request.events])
        return fleet_pb2.TellEventsReply(unheard=sorted(scope.key() for scope in unheard))


def _result(one: str | Flaw) -> wire.EventResult:
    if isinstance(one, Flaw):
        return wire.EventResult(error_code=one.code, error_message=one.text)
    return wire.EventResult(event_id=one)


def _happening(one: fleet_pb2.CloudEvent) -> Happening:
    detail: dict[str, Any] = json.loads(one.detail)
    scope = Scope(one.account, one.region)
    return Happening(one.id, scope, one.source, one.detail_type, one.time, tuple(one.resources), detail)


def _target(one: wire.EventTarget) -> Target:
    return Target(
        one.id,
        one.arn,
        one.input,
        one.input_path,
        dict(one.paths),
        one.template,
        one.group_id,
        one.retries if one.HasField("retries") else None,
        one.age_s if one.HasField("age_s") else None,
        one.dead_letter_arn,
    )


def _rule(one: Rule) -> wire.EventRule:
    return wire.EventRule(
        arn=one.arn,
        name=one.name,
        pattern=one.pattern,
        expression=one.expression,
        enabled=one.enabled,
        description=one.description,
        created_time=one.created,
        next_time=one.next or 0.0,
        targets=[_shown(target) for target in one.targets],
        tags=one.tags,
    )


def _shown(one: Target) -> wire.EventTarget:
    return wire.EventTarget(
        id=one.id,
        arn=one.arn,
        input=one.input,
        input_path=one.path,
        paths=one.paths,
        template=one.template,
        group_id=one.group,
        retries=one.retries,
        age_s=one.age_s,
        dead_letter_arn=one.dead_letter,
    )
