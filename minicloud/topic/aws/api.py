"""SNS's operations over the topic service: translation, no decisions. The wire is minicloud/aws.

Not here: mobile push, SMS, sandbox numbers (absent), data protection policies (refused).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from minicloud.aws.call import Call, refused
from minicloud.aws.lists import tag_list, tag_map
from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Internal, InvalidPageToken
from minicloud.topic import errors, limits, policy
from minicloud.topic.envelope import sequence_number
from minicloud.topic.ids import to_text
from minicloud.topic.message import Attribute, Entry, check_batch, size_of
from minicloud.topic.model import PENDING, Subscription
from minicloud.topic.publish import Accepted
from minicloud.topic.rpc import PENDING_ARN, masked
from minicloud.topic.service import TopicService

Params = dict[str, Any]
_LISTED = 100  # API: a page of topics or subscriptions has up to 100


class TopicApi:
    """The door of `sns`. `page_secret` signs page tokens."""

    def __init__(self, service: TopicService, page_secret: bytes) -> None:
        self._service = service
        self._state = service.state
        self._page_secret = page_secret

    # --- topics

    async def CreateTopic(self, params: Params, call: Call) -> Params:
        if params.get("DataProtectionPolicy"):
            raise refused("DataProtectionPolicy", call, "Messages are not inspected here.")
        scope, attributes = call.caller.scope, params.get("Attributes", {})
        topic = await self._service.create_topic(scope, params["Name"], attributes, _tags(params.get("Tags", ())))
        return {"TopicArn": topic.arn}

    async def DeleteTopic(self, params: Params, call: Call) -> Params:
        await self._service.delete_topic(call.caller.scope, _arn(params["TopicArn"]))
        return {}

    async def ListTopics(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        page, after = self._cut(f"topics {scope.account} {scope.region}", self._state.topic_arns(scope), params)
        return {"Topics": [{"TopicArn": arn} for arn in page], **after}

    async def GetTopicAttributes(self, params: Params, call: Call) -> Params:
        topic = self._state.topic(call.caller.scope, _arn(params["TopicArn"]))
        return {"Attributes": self._service.shown_topic(topic)}

    async def SetTopicAttributes(self, params: Params, call: Call) -> Params:
        given = {params["AttributeName"]: params.get("AttributeValue", "")}
        await self._service.set_topic(call.caller.scope, _arn(params["TopicArn"]), given)
        return {}

    async def AddPermission(self, params: Params, call: Call) -> Params:
        label, accounts, actions = params["Label"], params["AWSAccountId"], params["ActionName"]
        arn = _arn(params["TopicArn"])
        await self._service.edit_policy(
            call.caller.scope, arn, lambda old: policy.added(old, arn, label, accounts, actions)
        )
        return {}

    async def RemovePermission(self, params: Params, call: Call) -> Params:
        label = params["Label"]
        await self._service.edit_policy(
            call.caller.scope, _arn(params["TopicArn"]), lambda old: policy.removed(old, label)
        )
        return {}

    async def TagResource(self, params: Params, call: Call) -> Params:
        tags = _tags(params["Tags"])
        await self._service.tag_topic(call.caller.scope, self._resource(params, call.caller.scope), tags, ())
        return {}

    async def UntagResource(self, params: Params, call: Call) -> Params:
        await self._service.tag_topic(
            call.caller.scope, self._resource(params, call.caller.scope), {}, params["TagKeys"]
        )
        return {}

    async def ListTagsForResource(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        tags = self._state.topic(scope, self._resource(params, scope)).tags
        return {"Tags": tag_list(tags)}

    async def GetDataProtectionPolicy(self, params: Params, call: Call) -> Params:
        self._state.topic(call.caller.scope, _arn(params["ResourceArn"]))
        return {"DataProtectionPolicy": ""}

    async def PutDataProtectionPolicy(self, params: Params, call: Call) -> Params:
        raise refused("DataProtectionPolicy", call, "Messages are not inspected here.")

    def _resource(self, params: Params, scope: Scope) -> str:
        """Raises ResourceNotFound: another code than for a TopicArn."""
        arn: str = params["ResourceArn"]
        try:
            return self._state.topic(scope, _arn(arn)).arn
        except CloudError as error:
            raise type(error)("Resource does not exist", code="ResourceNotFound", field="ResourceArn") from None

    # --- publishing

    async def Publish(self, params: Params, call: Call) -> Params:
        if "PhoneNumber" in params:
            raise refused("PhoneNumber", call, "There is no SMS here.")
        arn = params.get("TopicArn") or params.get("TargetArn")
        if not arn:
            raise errors.invalid("TopicArn or TargetArn Reason: no value for required parameter", "TopicArn")
        if "TopicArn" in params and "TargetArn" in params:
            raise errors.invalid("TopicArn or TargetArn Reason: both parameters are set", "TargetArn")
        (result,) = await self._service.publish(call.caller.scope, _arn(arn), [_entry(params)])
        if isinstance(result, CloudError):
            raise result
        return _accepted(result)

    async def PublishBatch(self, params: Params, call: Call) -> Params:
        entries = [_entry(one, one["Id"]) for one in params["PublishBatchRequestEntries"]]
        check_batch([entry.id for entry in entries])
        if sum(map(size_of, entries)) > limits.MESSAGE_BYTES_MAX:
            raise errors.batch_too_long()
        results = await self._service.publish(call.caller.scope, _arn(params["TopicArn"]), entries)
        done: list[Params] = []
        failed: list[Params] = []
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, CloudError):
                failed.append(_failure(entry.id, result))
            else:
                done.append({"Id": entry.id, **_accepted(result)})
        return {"Successful": done, "Failed": failed}

    # --- subscriptions

    async def Subscribe(self, params: Params, call: Call) -> Params:
        to, given = (params["Protocol"], params.get("Endpoint", "")), params.get("Attributes", {})
        made = await self._service.subscribe(call.caller.scope, _arn(params["TopicArn"]), to, given)
        pending = made.state == PENDING and not params.get("ReturnSubscriptionArn")
        return {"SubscriptionArn": "pending confirmation" if pending else made.arn}

    async def ConfirmSubscription(self, params: Params, call: Call) -> Params:
        arn = self._state.topic(call.caller.scope, _arn(params["TopicArn"])).arn
        locked = params.get("AuthenticateOnUnsubscribe", "").lower() == "true"
        return {"SubscriptionArn": (await self._service.confirm(arn, params["Token"], known=True, locked=locked)).arn}

    async def Unsubscribe(self, params: Params, call: Call) -> Params:
        await self._service.unsubscribe(call.caller.scope, params["SubscriptionArn"])
        return {}

    async def ListSubscriptions(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        return self._list(f"{scope.account} {scope.region} ", self._state.subscription_arns(scope), params, scope)

    async def ListSubscriptionsByTopic(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        arn = self._state.topic(scope, _arn(params["TopicArn"])).arn
        return self._list(f"{scope.account} {scope.region} {arn}", self._state.arns_of_topic(arn), params, scope)

    async def GetSubscriptionAttributes(self, params: Params, call: Call) -> Params:
        one = self._state.subscription(call.caller.scope, params["SubscriptionArn"])
        return {"Attributes": self._service.shown_subscription(one)}

    async def SetSubscriptionAttributes(self, params: Params, call: Call) -> Params:
        given = {params["AttributeName"]: params.get("AttributeValue", "")}
        await self._service.set_subscription(call.caller.scope, params["SubscriptionArn"], given)
        return {}

    def _list(self, context: str, arns: Sequence[str], params: Params, scope: Scope) -> Params:
        page, after = self._cut(f"subscriptions {context}", arns, params)
        return {"Subscriptions": [_listed(self._state.subscription(scope, arn)) for arn in page], **after}

    def _cut(self, context: str, keys: Sequence[str], params: Params) -> tuple[Sequence[str], Params]:
        try:
            page, after = pages.cut(self._page_secret, context, keys, params.get("NextToken", ""), _LISTED)
        except InvalidPageToken:
            raise errors.invalid("NextToken Reason: it is not a valid token", "NextToken") from None
        return page, {"NextToken": after} if after else {}


def _arn(text: str) -> str:
    """AWS takes ARNs only. Raises InvalidParameter."""
    if ":" not in text:
        raise errors.invalid("TopicArn Reason: An ARN must have at least 6 elements, not 1", "TopicArn")
    return text


def _tags(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return tag_map(given, errors.invalid("Tags Reason: Duplicated keys are not allowed.", "Tags"))


def _entry(params: Params, entry_id: str = "") -> Entry:
    given = params.get("MessageAttributes")
    structure = params.get("MessageStructure", "")
    if structure not in ("", "json"):
        raise errors.invalid("MessageStructure", "MessageStructure")
    return Entry(
        params["Message"].encode("utf-8", "surrogatepass"),
        params.get("Subject", ""),
        {name: _attribute(name, value) for name, value in given.items()} if given else None,
        structure == "json",
        params.get("MessageGroupId", ""),
        params.get("MessageDeduplicationId", ""),
        entry_id,
    )


def _attribute(name: str, value: Params) -> Attribute:
    kind = value["DataType"]
    wanted = "BinaryValue" if kind.startswith("Binary") else "StringValue"
    if value.keys() - {"DataType", wanted}:
        text = f"The message attribute '{name[:100]}' with type '{kind[:100]}' must use field '{wanted[:-5]}'."
        raise errors.bad_value(text, "MessageAttributes")
    given = value.get(wanted, "")
    return Attribute(kind, given.encode() if isinstance(given, str) else given)


def _accepted(result: Accepted) -> Params:
    shown = {"MessageId": to_text(result.message_id)}
    if result.serial:
        shown["SequenceNumber"] = sequence_number(result.serial)
    return shown


def _failure(entry_id: str, error: CloudError) -> Params:
    sender = not (error.retryable or isinstance(error, Internal))
    return {"Id": entry_id, "Code": error.code, "Message": error.message, "SenderFault": sender}


def _listed(one: Subscription) -> Params:
    return {
        "SubscriptionArn": PENDING_ARN if one.state == PENDING else one.arn,
        "Owner": one.account,
        "Protocol": one.protocol,
        "Endpoint": masked(one.endpoint),
        "TopicArn": one.topic_arn,
    }
