"""EventBridge's wire on rules: translation, no decisions. The wire is minicloud/aws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from minicloud.aws.call import Call, only, refused
from minicloud.base import pages
from minicloud.base.errors import InvalidPageToken
from minicloud.event import commands, errors, limits, rules
from minicloud.event.errors import BUS
from minicloud.event.events import Entry, Flaw
from minicloud.event.model import Rule, Target
from minicloud.event.service import EventService
from minicloud.event.state import State

Params = dict[str, Any]
Result = dict[str, Any]
T = TypeVar("T")
ENABLED, DISABLED = "ENABLED", "DISABLED"
_BUS = "EventBusName"
_PAGE = ("NextToken", "Limit")


class EventBridge:
    """Rules on the bus `default`, which every account has in every region: events that are put, state changes of
    instances (`aws.ec2`, `EC2 Instance State-change Notification`), how launches and terminations of groups end
    (`aws.autoscaling`, `EC2 Instance Launch Successful` and its likes), and times. Targets are functions (whose policy
    must let `events.amazonaws.com` in), queues and topics of the rule's account and region. Other buses, archives,
    replays, pipes, connections and partner sources are not there.
    """

    def __init__(self, service: EventService, page_secret: bytes) -> None:
        self._service = service
        self._secret = page_secret

    # --- rules

    async def PutRule(self, params: Params, call: Call) -> Result:
        """Roles and the state for CloudTrail's management events are refused."""
        only(params, call, "Name", "EventPattern", "ScheduleExpression", "State", "Description", "Tags", _BUS)
        _bus(params, call)
        state = params.get("State", ENABLED)
        if state not in (ENABLED, DISABLED):
            raise refused("State", call, f"A rule is {ENABLED} or {DISABLED}.")
        command = commands.PutRule(
            call.caller.scope,
            params["Name"],
            params.get("EventPattern", ""),
            params.get("ScheduleExpression", ""),
            state == ENABLED,
            params.get("Description", ""),
            {one["Key"]: one["Value"] for one in params.get("Tags", ())},
        )
        made = await self._service.submit(command)
        return {"RuleArn": made.arn}

    async def DescribeRule(self, params: Params, call: Call) -> Result:
        only(params, call, "Name", _BUS)
        _bus(params, call)

        def look(state: State) -> Result:
            rule = rules.find(state, call.caller.scope, params["Name"])
            return _rule(rule) | {"CreatedBy": rule.account}

        return await self._service.shown(look)

    async def ListRules(self, params: Params, call: Call) -> Result:
        only(params, call, "NamePrefix", _BUS, *_PAGE)
        _bus(params, call)

        def look(state: State) -> Result:
            found = rules.listed(state, call.caller.scope, params.get("NamePrefix", ""))
            page, more = self._page(params, call, found)
            return {"Rules": [_rule(one) for one in page], **more}

        return await self._service.shown(look)

    async def EnableRule(self, params: Params, call: Call) -> Result:
        return await self._set_state(params, call, enabled=True)

    async def DisableRule(self, params: Params, call: Call) -> Result:
        return await self._set_state(params, call, enabled=False)

    async def _set_state(self, params: Params, call: Call, *, enabled: bool) -> Result:
        only(params, call, "Name", _BUS)
        _bus(params, call)
        await self._service.submit(commands.SetRuleState(call.caller.scope, params["Name"], enabled))
        return {}

    async def DeleteRule(self, params: Params, call: Call) -> Result:
        """`Force` is for rules that AWS's services manage; there are none."""
        only(params, call, "Name", "Force", _BUS)
        _bus(params, call)
        _no_force(params, call)
        await self._service.submit(commands.DeleteRule(call.caller.scope, params["Name"]))
        return {}

    # --- targets

    async def PutTargets(self, params: Params, call: Call) -> Result:
        """Functions, queues (FIFO ones by a group, deduplicated by content), topics. Targets' roles, and parameters
        of other services, are refused.
        """
        only(params, call, "Rule", "Targets", _BUS)
        _bus(params, call)
        targets = tuple(_target(one, call) for one in params["Targets"])
        await self._service.submit(commands.PutTargets(call.caller.scope, params["Rule"], targets))
        return {"FailedEntryCount": 0, "FailedEntries": []}

    async def RemoveTargets(self, params: Params, call: Call) -> Result:
        """`Force` is for rules that AWS's services manage; there are none."""
        only(params, call, "Rule", "Ids", "Force", _BUS)
        _bus(params, call)
        _no_force(params, call)
        command = commands.RemoveTargets(call.caller.scope, params["Rule"], tuple(params["Ids"]))
        await self._service.submit(command)
        return {"FailedEntryCount": 0, "FailedEntries": []}

    async def ListTargetsByRule(self, params: Params, call: Call) -> Result:
        only(params, call, "Rule", _BUS, *_PAGE)
        _bus(params, call)

        def look(state: State) -> Result:
            rule = rules.find(state, call.caller.scope, params["Rule"])
            found = {one.id: one for one in sorted(rule.targets, key=lambda one: one.id)}
            page, more = self._page(params, call, found)
            return {"Targets": [_shown(one) for one in page], **more}

        return await self._service.shown(look)

    async def ListRuleNamesByTarget(self, params: Params, call: Call) -> Result:
        only(params, call, "TargetArn", _BUS, *_PAGE)
        _bus(params, call)

        def look(state: State) -> Result:
            found = rules.listed(state, call.caller.scope, target_arn=params["TargetArn"])
            page, more = self._page(params, call, found)
            return {"RuleNames": [one.name for one in page], **more}

        return await self._service.shown(look)

    # --- events

    async def PutEvents(self, params: Params, call: Call) -> Result:
        """Global endpoints and trace headers are refused. At most 256 KB together, and seconds to match one."""
        only(params, call, "Entries")
        entries = [_entry(one, call) for one in params["Entries"]]
        results = await self._service.put_events(call.caller.scope, entries)
        failed = sum(isinstance(one, Flaw) for one in results)
        return {"FailedEntryCount": failed, "Entries": [_result(one) for one in results]}

    async def TestEventPattern(self, params: Params, call: Call) -> Result:
        only(params, call, "EventPattern", "Event")
        matches = await self._service.tested(call.caller.scope, params["EventPattern"], params["Event"])
        return {"Result": matches}

    # --- tags

    async def TagResource(self, params: Params, call: Call) -> Result:
        """Rules have tags."""
        only(params, call, "ResourceARN", "Tags")
        tags = {one["Key"]: one["Value"] for one in params["Tags"]}
        await self._service.submit(commands.SetRuleTags(call.caller.scope, _tagged(params), tags))
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Result:
        """Rules have tags."""
        only(params, call, "ResourceARN", "TagKeys")
        command = commands.SetRuleTags(call.caller.scope, _tagged(params), {}, tuple(params["TagKeys"]))
        await self._service.submit(command)
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Result:
        """Rules have tags."""
        only(params, call, "ResourceARN")
        found = await self._service.shown(lambda state: rules.find(state, call.caller.scope, _tagged(params)).tags)
        return {"Tags": [{"Key": key, "Value": value} for key, value in found.items()]}

    # --- buses

    async def DescribeEventBus(self, params: Params, call: Call) -> Result:
        """There is the bus `default`."""
        only(params, call, "Name")
        _bus(params, call, "Name")
        return _default(call)

    async def ListEventBuses(self, params: Params, call: Call) -> Result:
        """There is the bus `default`."""
        only(params, call, "NamePrefix", "Limit", "NextToken")
        if "NextToken" in params:
            raise refused("NextToken", call, "There is one page.")
        shown = [_default(call)] if BUS.startswith(params.get("NamePrefix", "")) else []
        return {"EventBuses": shown[: params.get("Limit", limits.PAGE)]}

    def _page(self, params: Params, call: Call, found: Mapping[str, T]) -> tuple[list[T], Result]:
        """One page of what was found, and the result's NextToken."""
        rest = sorted((name, repr(value)) for name, value in params.items() if name not in _PAGE)
        context = f"aws {call.caller.scope} {call.operation} {rest}"
        size = params.get("Limit", limits.PAGE)
        try:
            keys, token = pages.cut(self._secret, context, list(found), params.get("NextToken", ""), size)
        except InvalidPageToken:
            raise errors.not_valid("NextToken") from None
        return [found[key] for key in keys], {"NextToken": token} if token else {}


def _bus(params: Mapping[str, Any], call: Call, name: str = _BUS) -> None:
    """Raises ResourceNotFoundException for another bus than there is."""
    given = params.get(name, BUS)
    if given not in (BUS, _bus_arn(call)):
        raise errors.no_bus(given)


def _bus_arn(call: Call) -> str:
    return call.caller.scope.arn("events", f"event-bus/{BUS}")


def _default(call: Call) -> Result:
    return {"Name": BUS, "Arn": _bus_arn(call)}


def _no_force(params: Params, call: Call) -> None:
    if params.get("Force"):
        raise refused("Force", call, "No rule is managed by a service.")


def _tagged(params: Params) -> str:
    """The rule's ARN."""
    arn: str = params["ResourceARN"]
    if not arn.startswith("arn:"):
        raise errors.not_valid("ResourceARN", "Provided Arn is not in correct format.")
    return arn


def _rule(one: Rule) -> Result:
    shown: Result = {
        "Name": one.name,
        "Arn": one.arn,
        "State": ENABLED if one.enabled else DISABLED,
        "EventBusName": BUS,
    }
    given = {"EventPattern": one.pattern, "ScheduleExpression": one.expression, "Description": one.description}
    return shown | {name: value for name, value in given.items() if value}


def _entry(one: Params, call: Call) -> Entry:
    for name in one:
        if name not in ("Source", "DetailType", "Detail", "Resources", "Time", _BUS):
            raise refused(f"Entries.{name}", call)
    _bus(one, call)
    resources = tuple(one.get("Resources", ()))
    return Entry(one.get("Source"), one.get("DetailType"), one.get("Detail"), resources, one.get("Time"))


def _result(one: str | Flaw) -> Result:
    if isinstance(one, Flaw):
        return {"ErrorCode": one.code, "ErrorMessage": one.text}
    return {"EventId": one}


# A target's parameters: where they are in AWS's structure, and ours.
_TARGET: dict[str, Callable[[Any], dict[str, Any]]] = {
    "Id": lambda value: {"id": value},
    "Arn": lambda value: {"arn": value},
    "Input": lambda value: {"input": value},
    "InputPath": lambda value: {"path": value},
    "InputTransformer": lambda value: {"paths": value.get("InputPathsMap", {}), "template": value["InputTemplate"]},
    "SqsParameters": lambda value: {"group": value.get("MessageGroupId", "")},
    "RetryPolicy": lambda value: {
        "retries": value.get("MaximumRetryAttempts"),
        "age_s": value.get("MaximumEventAgeInSeconds"),
    },
    "DeadLetterConfig": lambda value: {"dead_letter": value.get("Arn", "")},
}


def _target(given: Params, call: Call) -> Target:
    ours: dict[str, Any] = {}
    for name, value in given.items():
        if name not in _TARGET:
            raise refused(f"Targets.{name}", call)
        ours |= _TARGET[name](value)
    return Target(**ours)


def _shown(one: Target) -> Result:
    shown: Result = {"Id": one.id, "Arn": one.arn}
    if one.input:
        shown["Input"] = one.input
    if one.path:
        shown["InputPath"] = one.path
    if one.template:
        shown["InputTransformer"] = {"InputPathsMap": one.paths, "InputTemplate": one.template}
    if one.group:
        shown["SqsParameters"] = {"MessageGroupId": one.group}
    retry = {"MaximumRetryAttempts": one.retries, "MaximumEventAgeInSeconds": one.age_s}
    if given := {name: value for name, value in retry.items() if value is not None}:
        shown["RetryPolicy"] = given
    if one.dead_letter:
        shown["DeadLetterConfig"] = {"Arn": one.dead_letter}
    return shown
