"""Rules: events that match a pattern, or times, and where they go."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import rule_models
    from minicloud.wire import rule_pb2
else:
    rule_models = lazy("minicloud.client.rule_models")
    rule_pb2 = lazy("minicloud.wire.rule_pb2")


class AsyncRules:
    """Rules on the default event bus. `rule` is a name or ARN.

    State changes of instances come by themselves: source `aws.ec2`, detail-type `EC2 Instance State-change
    Notification`, detail `{"instance-id": "i-...", "state": "running"}`.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def put(
        self,
        name: str,
        *,
        pattern: Mapping[str, Any] | str = "",
        expression: str = "",
        disabled: bool = False,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> rule_models.EventRule:
        """Make a rule, or change all of it but its targets and tags: what is not given goes back to its default.

        pattern: an object or its JSON. expression: rate(5 minutes), cron(0 18 ? * MON-FRI *), in UTC. One of both at
        least. tags: of a new rule. Raises InvalidRequest, LimitExceeded.
        """
        request = rule_pb2.PutEventRuleRequest(
            name=name,
            pattern=_text(pattern) if pattern else "",
            expression=expression,
            disabled=disabled,
            description=description,
            tags=tags,
        )
        return await self._rule("PutEventRule", request)

    async def get(self, rule: str) -> rule_models.EventRule:
        """With its targets. Raises NotFound."""
        return await self._rule("GetEventRule", rule_pb2.EventRuleRequest(name=rule))

    async def list(
        self, *, prefix: str = "", target_arn: str = "", page_size: int = 100
    ) -> AsyncIterator[rule_models.EventRule]:
        """Rules by name: all, those whose names begin so, those with this target. Pages come as they are needed."""
        request = rule_pb2.ListEventRulesRequest(prefix=prefix, target_arn=target_arn, page_size=page_size)
        while True:
            reply = await self._broker.call("RuleService/ListEventRules", request, rule_pb2.ListEventRulesReply)
            for item in reply.rules:
                yield to_model(rule_models.EventRule, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def enable(self, rule: str) -> rule_models.EventRule:
        """Raises NotFound."""
        return await self._rule("SetEventRuleState", rule_pb2.SetEventRuleStateRequest(name=rule, enabled=True))

    async def disable(self, rule: str) -> rule_models.EventRule:
        """It takes no events and fires at no time. Raises NotFound."""
        return await self._rule("SetEventRuleState", rule_pb2.SetEventRuleStateRequest(name=rule, enabled=False))

    async def delete(self, rule: str) -> None:
        """Raises InvalidRequest for one that has targets; one that is not there is deleted already."""
        request = rule_pb2.EventRuleRequest(name=rule)
        await self._broker.call("RuleService/DeleteEventRule", request, rule_pb2.DeleteEventRuleReply)

    # ------------------------------------------------------------ targets, tags

    async def put_targets(self, rule: str, *targets: rule_models.EventTarget) -> rule_models.EventRule:
        """Five at most; those of the same ids are replaced. A function's policy must let events.amazonaws.com in.

        Raises NotFound, InvalidRequest, LimitExceeded.
        """
        for one in targets:
            check_range(retries=one.retries, age_s=one.age_s)
        request = rule_pb2.PutEventTargetsRequest(rule=rule, targets=[_target(one) for one in targets])
        return await self._rule("PutEventTargets", request)

    async def remove_targets(self, rule: str, *ids: str) -> rule_models.EventRule:
        """Raises NotFound for a rule that is not there."""
        return await self._rule("RemoveEventTargets", rule_pb2.RemoveEventTargetsRequest(rule=rule, ids=ids))

    async def tag(self, rule: str, tags: Mapping[str, str]) -> rule_models.EventRule:
        """Raises NotFound, InvalidRequest, LimitExceeded."""
        return await self._rule("SetEventRuleTags", rule_pb2.SetEventRuleTagsRequest(rule=rule, set=tags))

    async def untag(self, rule: str, keys: Sequence[str]) -> rule_models.EventRule:
        """Raises NotFound."""
        return await self._rule("SetEventRuleTags", rule_pb2.SetEventRuleTagsRequest(rule=rule, remove=keys))

    # ------------------------------------------------------------ events

    async def send(
        self,
        source: str,
        detail_type: str,
        detail: Mapping[str, Any] | str,
        *,
        resources: Sequence[str] = (),
        time: datetime | None = None,
    ) -> rule_models.EventResult:
        """Put one event of your own: on its way to every target of the rules that match it. Raises InvalidRequest."""
        entry = rule_pb2.EventEntry(
            source=source,
            detail_type=detail_type,
            detail=_text(detail),
            resources=resources,
            time=0.0 if time is None else time.timestamp(),
        )
        request = rule_pb2.PutEventsRequest(entries=[entry])
        reply = await self._broker.call("RuleService/PutEvents", request, rule_pb2.PutEventsReply)
        return to_model(rule_models.EventResult, reply.results[0])

    async def test_pattern(self, pattern: Mapping[str, Any] | str, event: Mapping[str, Any] | str) -> bool:
        """Whether a whole event matches. Raises InvalidRequest."""
        request = rule_pb2.TestEventPatternRequest(pattern=_text(pattern), event=_text(event))
        reply = await self._broker.call("RuleService/TestEventPattern", request, rule_pb2.TestEventPatternReply)
        return reply.matches

    async def _rule(self, method: str, request: Any) -> rule_models.EventRule:
        reply = await self._broker.call(f"RuleService/{method}", request, rule_pb2.EventRule)
        return to_model(rule_models.EventRule, reply)


def _text(given: Mapping[str, Any] | str) -> str:
    return given if isinstance(given, str) else json.dumps(given)


def _target(one: rule_models.EventTarget) -> rule_pb2.EventTarget:
    return rule_pb2.EventTarget(
        id=one.id,
        arn=one.arn,
        input=one.input,
        input_path=one.input_path,
        paths=one.paths,
        template=one.template,
        group_id=one.group_id,
        retries=one.retries,
        age_s=one.age_s,
        dead_letter_arn=one.dead_letter_arn,
    )
