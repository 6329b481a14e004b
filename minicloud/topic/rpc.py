"""TopicService on the wire: translation, no decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from minicloud.base import pages
from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError, Internal
from minicloud.topic import errors
from minicloud.topic.envelope import sequence_number
from minicloud.topic.ids import to_text
from minicloud.topic.message import Attribute, Entry
from minicloud.topic.model import PENDING, Subscription, Topic
from minicloud.topic.publish import Accepted
from minicloud.topic.service import TopicService
from minicloud.wire import queue_pb2, topic_pb2
from minicloud.wire import topic_pb2 as wire

DESCRIPTOR = topic_pb2.DESCRIPTOR.services_by_name["TopicService"]
PENDING_ARN = "PendingConfirmation"


class TopicServicer:
    """For `rpc.door.door(TopicServicer(...), DESCRIPTOR, entry)`; callers come from `rpc.shard_ticket`."""

    def __init__(self, service: TopicService, page_secret: bytes) -> None:
        self._service = service
        self._state = service.state
        self._page_secret = page_secret

    # --- topics

    async def CreateTopic(self, request: wire.CreateTopicRequest, caller: Caller) -> wire.Topic:
        attributes, tags = dict(request.attributes), dict(request.tags)
        return self._shown(await self._service.create_topic(caller.scope, request.name, attributes, tags))

    async def GetTopic(self, request: wire.GetTopicRequest, caller: Caller) -> wire.Topic:
        return self._shown(self._state.topic(caller.scope, _given(request.topic)))

    async def ListTopics(self, request: wire.ListTopicsRequest, caller: Caller) -> wire.ListTopicsReply:
        scope = caller.scope
        arns = self._state.topic_arns(scope)
        context = f"topics {scope.account} {scope.region}"
        page, after = self._cut(context, arns, request.page_size, request.page_token)
        topics = [wire.Topic(name=arn.rpartition(":")[2], arn=arn) for arn in page]
        return wire.ListTopicsReply(topics=topics, next_page_token=after)

    async def DeleteTopic(self, request: wire.DeleteTopicRequest, caller: Caller) -> wire.DeleteTopicReply:
        await self._service.delete_topic(caller.scope, _given(request.topic))
        return wire.DeleteTopicReply()

    async def SetTopicAttributes(self, request: wire.SetTopicAttributesRequest, caller: Caller) -> wire.Topic:
        topic = await self._service.set_topic(caller.scope, _given(request.topic), dict(request.attributes))
        return self._shown(topic)

    async def TagTopic(self, request: wire.TagTopicRequest, caller: Caller) -> wire.Topic:
        topic = _given(request.topic)
        return self._shown(await self._service.tag_topic(caller.scope, topic, dict(request.tags), request.remove))

    # --- publishing

    async def PublishMessages(self, request: wire.PublishMessagesRequest, caller: Caller) -> wire.PublishMessagesReply:
        entries = [_entry(entry) for entry in request.entries]
        results = await self._service.publish(caller.scope, _given(request.topic), entries)
        return wire.PublishMessagesReply(results=[_result(index, result) for index, result in enumerate(results)])

    async def PublishBulk(self, request: wire.PublishBulkRequest, caller: Caller) -> wire.PublishBulkReply:
        ids = await self._service.publish_bulk(caller.scope, _given(request.topic), list(request.messages))
        return wire.PublishBulkReply(message_ids=b"".join(ids))

    # --- subscriptions

    async def Subscribe(self, request: wire.SubscribeRequest, caller: Caller) -> wire.Subscription:
        to, attributes = (request.protocol, request.endpoint), dict(request.attributes)
        made = await self._service.subscribe(caller.scope, _given(request.topic), to, attributes)
        shown = self._subscription(made)
        if request.return_subscription_arn:
            shown.arn = made.arn
        return shown

    async def ConfirmSubscription(self, request: wire.ConfirmSubscriptionRequest, caller: Caller) -> wire.Subscription:
        arn = self._state.topic(caller.scope, _given(request.topic)).arn
        locked = request.authenticate_on_unsubscribe
        return self._subscription(await self._service.confirm(arn, request.token, known=True, locked=locked))

    async def GetSubscription(self, request: wire.GetSubscriptionRequest, caller: Caller) -> wire.Subscription:
        return self._subscription(self._state.subscription(caller.scope, request.subscription_arn))

    async def ListSubscriptions(
        self, request: wire.ListSubscriptionsRequest, caller: Caller
    ) -> wire.ListSubscriptionsReply:
        scope = caller.scope
        arns: Sequence[str] = self._state.subscription_arns(scope)
        if request.topic:
            arns = self._state.arns_of_topic(self._state.topic(scope, request.topic).arn)
        context = f"subscriptions {scope.account} {scope.region} {request.topic}"
        page, after = self._cut(context, arns, request.page_size, request.page_token)
        found = [self._listed(self._state.subscription(scope, arn)) for arn in page]
        return wire.ListSubscriptionsReply(subscriptions=found, next_page_token=after)

    async def SetSubscriptionAttributes(
        self, request: wire.SetSubscriptionAttributesRequest, caller: Caller
    ) -> wire.Subscription:
        arn, attributes = request.subscription_arn, dict(request.attributes)
        return self._subscription(await self._service.set_subscription(caller.scope, arn, attributes))

    async def Unsubscribe(self, request: wire.UnsubscribeRequest, caller: Caller) -> wire.UnsubscribeReply:
        await self._service.unsubscribe(caller.scope, request.subscription_arn)
        return wire.UnsubscribeReply()

    # --- metrics

    async def GetTopicMetrics(self, request: wire.GetTopicMetricsRequest, caller: Caller) -> wire.TopicMetrics:
        values, subscriptions = self._service.metrics(caller.scope, _given(request.topic))
        reply = wire.TopicMetrics(values=values)
        for arn, counts in subscriptions.items():
            reply.subscriptions[arn].values.update(counts)
        return reply

    # --- shapes

    def _shown(self, topic: Topic) -> wire.Topic:
        attributes = self._service.shown_topic(topic)
        return wire.Topic(name=topic.name, arn=topic.arn, attributes=attributes, tags=topic.tags)

    def _subscription(self, one: Subscription) -> wire.Subscription:
        shown = self._listed(one)
        shown.attributes.update(self._service.shown_subscription(one))
        shown.endpoint = one.endpoint
        return shown

    def _listed(self, one: Subscription) -> wire.Subscription:
        return wire.Subscription(
            arn=PENDING_ARN if one.state == PENDING else one.arn,
            topic_arn=one.topic_arn,
            protocol=one.protocol,
            endpoint=masked(one.endpoint),
            owner=one.account,
        )

    def _cut(self, context: str, keys: Sequence[str], size: int, token: str) -> tuple[Sequence[str], str]:
        return pages.cut(self._page_secret, context, keys, token, pages.checked_size(size))


def masked(endpoint: str) -> str:
    """A list shows no user and password: `https://****:****@host/path`, as SNS."""
    head, slashes, rest = endpoint.partition("://")
    authority, slash, path = rest.partition("/")
    if not slashes or "@" not in authority:
        return endpoint
    return f"{head}://****:****@{authority.rpartition('@')[2]}{slash}{path}"


def _given(topic: str) -> str:
    if not topic:
        raise errors.invalid("TopicArn Reason: An ARN must have at least 6 elements, not 1", "topic")
    return topic


def _entry(entry: wire.PublishEntry) -> Entry:
    return Entry(
        entry.message,
        subject=entry.subject,
        attributes=_attributes(entry.attributes) if entry.attributes else None,
        json=entry.json,
        group_id=entry.group_id,
        deduplication_id=entry.deduplication_id,
    )


def _attributes(given: Mapping[str, queue_pb2.MessageAttribute]) -> dict[str, Attribute]:
    return {name: Attribute(one.type, one.value) for name, one in given.items()}


def _result(index: int, result: Accepted | CloudError) -> wire.PublishResult:
    if isinstance(result, Accepted):
        number = sequence_number(result.serial) if result.serial else ""
        return wire.PublishResult(message_id=to_text(result.message_id), sequence_number=number)
    error = queue_pb2.EntryError(
        index=index,
        code=result.code,
        message=result.message,
        field=result.field or "",
        sender_fault=not (result.retryable or isinstance(result, Internal)),
    )
    return wire.PublishResult(error=error)
