"""Topics and their subscriptions. `topic` is a name or ARN everywhere.

Concurrent publishes to one topic share calls, as sends to one queue do (`batching.py`): plain messages to a standard
topic go by PublishBulk, others by PublishMessages, those to a FIFO topic one call at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from minicloud.base.errors import CloudError, InvalidRequest
from minicloud.client.batching import Lane, LaneLimits, chunks
from minicloud.client.broker import Broker
from minicloud.client.convert import check_names, to_model
from minicloud.client.lazy import lazy
from minicloud.client.messages import (
    SendResult,
    outcomes,
    results_of,
    results_of_bulk,
    to_attributes,
    to_body,
    to_texts,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message as Wire

    from minicloud.client import models
    from minicloud.client.models import AttributeValue
    from minicloud.rpc import bulk
    from minicloud.wire import topic_pb2
else:
    bulk = lazy("minicloud.rpc.bulk")
    models = lazy("minicloud.client.models")
    topic_pb2 = lazy("minicloud.wire.topic_pb2")

_HANDLES_MAX = 1_024  # kept for the next publish; those in use are kept in any case


class PublishOptions(TypedDict, total=False):
    """Keyword arguments of `publish`.

    subject: for endpoints that show one. attributes: str, int, float, Decimal, bytes, or (type, value). json: the
    message is a JSON object with a text for each protocol, and "default". group_id, deduplication_id: FIFO.
    """

    subject: str
    attributes: Mapping[str, AttributeValue]
    json: bool
    group_id: str
    deduplication_id: str


class AsyncTopicHandle:
    """A topic by name or ARN: the fast way to publish to it."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._fifo = topic.endswith(".fifo")
        flights = LaneLimits(flights=1) if self._fifo else LaneLimits()
        self._plain: Lane[bytes, SendResult] = Lane(self._publish_plain, len, flights)
        self._entries: Lane[topic_pb2.PublishEntry, SendResult] = Lane(self._publish_entries, _entry_bytes, flights)

    @property
    def topic(self) -> str:
        """The name or ARN that it was made with."""
        return self._topic

    @property
    def fifo(self) -> bool:
        return self._fifo

    async def publish(self, message: str | bytes, **options: Unpack[PublishOptions]) -> SendResult:
        """Publish one message; when this returns it is on disk, for every subscription that it matches.

        A call whose answer was lost is made again, so to a standard topic a message may go twice. Raises NotFound,
        InvalidRequest, InsufficientStorage, Unavailable.
        """
        if not options and not self._fifo:
            return await self._plain.put(message if type(message) is bytes else to_body(message, "message"))
        return await self._entries.put(_entry(message, options))

    async def publish_batch(self, messages: Sequence[str | bytes | models.PublishEntry]) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        results: list[SendResult] = []
        for chunk in chunks([_to_entry(item) for item in messages], _entry_bytes):
            results += await self._ask_entries(chunk)
        return tuple(results)

    @property
    def _busy(self) -> bool:
        return not (self._plain.idle and self._entries.idle)

    async def _publish_plain(self, bodies: list[bytes]) -> Sequence[SendResult | CloudError]:
        request = bulk.with_values(topic_pb2.PublishBulkRequest(topic=self._topic), "messages", bodies)
        try:
            reply = await self._broker.call("TopicService/PublishBulk", request, topic_pb2.PublishBulkReply)
        except InvalidRequest:
            if len(bodies) == 1:
                raise
            return await self._publish_entries([topic_pb2.PublishEntry(message=body) for body in bodies])
        return results_of_bulk(reply.message_ids)

    async def _publish_entries(self, entries: list[topic_pb2.PublishEntry]) -> Sequence[SendResult | CloudError]:
        return outcomes(await self._ask_entries(entries))

    async def _ask_entries(self, entries: Sequence[topic_pb2.PublishEntry]) -> list[SendResult]:
        request = topic_pb2.PublishMessagesRequest(topic=self._topic, entries=entries)
        reply = await self._broker.call("TopicService/PublishMessages", request, topic_pb2.PublishMessagesReply)
        return results_of(reply.results)


class AsyncTopics:
    """Durable topics, standard and FIFO, and who is subscribed to them."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._handles: dict[str, AsyncTopicHandle] = {}

    def bound(self, topic: str) -> AsyncTopicHandle:
        """One topic to publish to, without naming it each time."""
        found = self._handles.get(topic)
        if found is None:
            if len(self._handles) >= _HANDLES_MAX:
                self._handles = {name: handle for name, handle in self._handles.items() if handle._busy}
            found = self._handles[topic] = AsyncTopicHandle(self._broker, topic)
        return found

    async def create(
        self, name: str, attributes: Mapping[str, object] | None = None, *, tags: Mapping[str, str] | None = None
    ) -> models.Topic:
        """Make a topic; one with the same name and attributes is answered as it is.

        attributes: AWS's names; texts, ints, bools, or mappings for those that are JSON. A FIFO topic's name ends with
        ".fifo", and it says {"FifoTopic": True}. Raises InvalidRequest, AlreadyExists.
        """
        request = topic_pb2.CreateTopicRequest(name=name, attributes=to_texts(attributes or {}), tags=tags or {})
        return await self._one("CreateTopic", request)

    async def get(self, topic: str) -> models.Topic:
        """A topic with its attributes and tags. Raises NotFound."""
        return await self._one("GetTopic", topic_pb2.GetTopicRequest(topic=topic))

    async def list(self, *, page_size: int = 100) -> AsyncIterator[models.Topic]:
        """All topics: name and ARN. Pages are fetched as they are needed."""
        request = topic_pb2.ListTopicsRequest(page_size=page_size)
        while True:
            reply = await self._broker.call("TopicService/ListTopics", request, topic_pb2.ListTopicsReply)
            for item in reply.topics:
                yield to_model(models.Topic, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, topic: str) -> None:
        """With its subscriptions; a topic that is not there is not an error."""
        request = topic_pb2.DeleteTopicRequest(topic=topic)
        await self._broker.call("TopicService/DeleteTopic", request, topic_pb2.DeleteTopicReply)

    async def set_attributes(self, topic: str, attributes: Mapping[str, object]) -> models.Topic:
        """Change attributes. Raises NotFound, InvalidRequest."""
        request = topic_pb2.SetTopicAttributesRequest(topic=topic, attributes=to_texts(attributes))
        return await self._one("SetTopicAttributes", request)

    async def tag(self, topic: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then."""
        return dict((await self._one("TagTopic", topic_pb2.TagTopicRequest(topic=topic, tags=tags))).tags)

    async def untag(self, topic: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return dict((await self._one("TagTopic", topic_pb2.TagTopicRequest(topic=topic, remove=keys))).tags)

    async def metrics(self, topic: str) -> models.TopicMetrics:
        """Counters since the broker started, of the topic and of each subscription. Raises NotFound."""
        request = topic_pb2.GetTopicMetricsRequest(topic=topic)
        reply = await self._broker.call("TopicService/GetTopicMetrics", request, topic_pb2.TopicMetrics)
        return to_model(models.TopicMetrics, reply)

    # ------------------------------------------------------------ messages

    async def publish(self, topic: str, message: str | bytes, **options: Unpack[PublishOptions]) -> SendResult:
        """Publish one message; when this returns it is on disk, for every subscription that it matches.

        A call whose answer was lost is made again, so to a standard topic a message may go twice. Raises NotFound,
        InvalidRequest, InsufficientStorage, Unavailable.
        """
        return await self.bound(topic).publish(message, **options)

    async def publish_batch(
        self, topic: str, messages: Sequence[str | bytes | models.PublishEntry]
    ) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return await self.bound(topic).publish_batch(messages)

    # ------------------------------------------------------------ subscriptions

    async def subscribe(
        self,
        topic: str,
        protocol: str,
        endpoint: str,
        attributes: Mapping[str, object] | None = None,
        *,
        return_subscription_arn: bool = False,
    ) -> models.Subscription:
        """protocol: sqs (endpoint: a queue's ARN or name), http, https (a URL, which has to confirm).

        attributes: AWS's names: FilterPolicy, FilterPolicyScope, RawMessageDelivery, RedrivePolicy, DeliveryPolicy.
        return_subscription_arn: not "PendingConfirmation" for one that waits. Raises NotFound, InvalidRequest.
        """
        request = topic_pb2.SubscribeRequest(
            topic=topic,
            protocol=protocol,
            endpoint=endpoint,
            attributes=to_texts(attributes or {}),
            return_subscription_arn=return_subscription_arn,
        )
        return await self._subscription("Subscribe", request)

    async def confirm(
        self, topic: str, token: str, *, authenticate_on_unsubscribe: bool = False
    ) -> models.Subscription:
        """With the token that its endpoint was sent. Raises NotFound, InvalidRequest.

        authenticate_on_unsubscribe: the link in its messages does not end it.
        """
        request = topic_pb2.ConfirmSubscriptionRequest(
            topic=topic, token=token, authenticate_on_unsubscribe=authenticate_on_unsubscribe
        )
        return await self._subscription("ConfirmSubscription", request)

    async def subscription(self, subscription_arn: str) -> models.Subscription:
        """A subscription with its attributes. Raises NotFound."""
        request = topic_pb2.GetSubscriptionRequest(subscription_arn=subscription_arn)
        return await self._subscription("GetSubscription", request)

    async def subscriptions(self, topic: str = "", *, page_size: int = 100) -> AsyncIterator[models.Subscription]:
        """Of one topic, or all. Pages are fetched as they are needed."""
        request = topic_pb2.ListSubscriptionsRequest(topic=topic, page_size=page_size)
        while True:
            method = "TopicService/ListSubscriptions"
            reply = await self._broker.call(method, request, topic_pb2.ListSubscriptionsReply)
            for item in reply.subscriptions:
                yield to_model(models.Subscription, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def set_subscription_attributes(
        self, subscription_arn: str, attributes: Mapping[str, object]
    ) -> models.Subscription:
        """Change attributes; an empty text takes a policy away. Raises NotFound, InvalidRequest."""
        request = topic_pb2.SetSubscriptionAttributesRequest(
            subscription_arn=subscription_arn, attributes=to_texts(attributes)
        )
        return await self._subscription("SetSubscriptionAttributes", request)

    async def unsubscribe(self, subscription_arn: str) -> None:
        """A subscription that is not there is not an error."""
        request = topic_pb2.UnsubscribeRequest(subscription_arn=subscription_arn)
        await self._broker.call("TopicService/Unsubscribe", request, topic_pb2.UnsubscribeReply)

    async def _one(self, method: str, request: Wire) -> models.Topic:
        return to_model(models.Topic, await self._broker.call(f"TopicService/{method}", request, topic_pb2.Topic))

    async def _subscription(self, method: str, request: Wire) -> models.Subscription:
        reply = await self._broker.call(f"TopicService/{method}", request, topic_pb2.Subscription)
        return to_model(models.Subscription, reply)


def _to_entry(item: str | bytes | models.PublishEntry) -> topic_pb2.PublishEntry:
    if isinstance(item, str | bytes):
        return topic_pb2.PublishEntry(message=to_body(item, "message"))
    options: PublishOptions = {
        "subject": item.subject,
        "attributes": item.attributes,
        "json": item.json,
        "group_id": item.group_id,
        "deduplication_id": item.deduplication_id,
    }
    return _entry(item.message, options)


def _entry(message: str | bytes, options: PublishOptions) -> topic_pb2.PublishEntry:
    check_names(options, PublishOptions)
    return topic_pb2.PublishEntry(
        message=to_body(message, "message"),
        subject=options.get("subject", ""),
        attributes=to_attributes(options.get("attributes") or {}),
        json=options.get("json", False),
        group_id=options.get("group_id", ""),
        deduplication_id=options.get("deduplication_id", ""),
    )


def _entry_bytes(entry: topic_pb2.PublishEntry) -> int:
    return entry.ByteSize() + 8  # its tag and length
