"""Made from `minicloud/client/topics.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.messages import SendResult
from minicloud.client.topics import AsyncTopicHandle, AsyncTopics, PublishOptions

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class TopicHandle:
    """A topic by name or ARN: the fast way to publish to it."""

    _inner: AsyncTopicHandle

    def __init__(self, inner: AsyncTopicHandle, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    @property
    def topic(self) -> str:
        """The name or ARN that it was made with."""
        return self._inner.topic

    @property
    def fifo(self) -> bool:
        return self._inner.fifo

    def publish(self, message: str | bytes, **options: Unpack[PublishOptions]) -> SendResult:
        """Publish one message; when this returns it is on disk, for every subscription that it matches.

        A call whose answer was lost is made again, so to a standard topic a message may go twice. Raises NotFound,
        InvalidRequest, InsufficientStorage, Unavailable.
        """
        return self._loop.run(self._inner.publish(message, **options))

    def publish_batch(self, messages: Sequence[str | bytes | models.PublishEntry]) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return self._loop.run(self._inner.publish_batch(messages))


class Topics:
    """Durable topics, standard and FIFO, and who is subscribed to them."""

    _inner: AsyncTopics

    def __init__(self, inner: AsyncTopics, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def bound(self, topic: str) -> TopicHandle:
        """One topic to publish to, without naming it each time."""
        return TopicHandle(self._inner.bound(topic), self._loop)

    def create(
        self, name: str, attributes: Mapping[str, object] | None = None, *, tags: Mapping[str, str] | None = None
    ) -> models.Topic:
        """Make a topic; one with the same name and attributes is answered as it is.

        attributes: AWS's names; texts, ints, bools, or mappings for those that are JSON. A FIFO topic's name ends with
        ".fifo", and it says {"FifoTopic": True}. Raises InvalidRequest, AlreadyExists.
        """
        return self._loop.run(self._inner.create(name, attributes, tags=tags))

    def get(self, topic: str) -> models.Topic:
        """A topic with its attributes and tags. Raises NotFound."""
        return self._loop.run(self._inner.get(topic))

    def list(self, *, page_size: int = 100) -> Iterator[models.Topic]:
        """All topics: name and ARN. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(page_size=page_size))

    def delete(self, topic: str) -> None:
        """With its subscriptions; a topic that is not there is not an error."""
        self._loop.run(self._inner.delete(topic))

    def set_attributes(self, topic: str, attributes: Mapping[str, object]) -> models.Topic:
        """Change attributes. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._inner.set_attributes(topic, attributes))

    def tag(self, topic: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then."""
        return self._loop.run(self._inner.tag(topic, tags))

    def untag(self, topic: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(topic, *keys))

    def metrics(self, topic: str) -> models.TopicMetrics:
        """Counters since the broker started, of the topic and of each subscription. Raises NotFound."""
        return self._loop.run(self._inner.metrics(topic))

    def publish(self, topic: str, message: str | bytes, **options: Unpack[PublishOptions]) -> SendResult:
        """Publish one message; when this returns it is on disk, for every subscription that it matches.

        A call whose answer was lost is made again, so to a standard topic a message may go twice. Raises NotFound,
        InvalidRequest, InsufficientStorage, Unavailable.
        """
        return self._loop.run(self._inner.publish(topic, message, **options))

    def publish_batch(
        self, topic: str, messages: Sequence[str | bytes | models.PublishEntry]
    ) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return self._loop.run(self._inner.publish_batch(topic, messages))

    def subscribe(
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
        return self._loop.run(
            self._inner.subscribe(
                topic, protocol, endpoint, attributes, return_subscription_arn=return_subscription_arn
            )
        )

    def confirm(self, topic: str, token: str, *, authenticate_on_unsubscribe: bool = False) -> models.Subscription:
        """With the token that its endpoint was sent. Raises NotFound, InvalidRequest.

        authenticate_on_unsubscribe: the link in its messages does not end it.
        """
        return self._loop.run(
            self._inner.confirm(topic, token, authenticate_on_unsubscribe=authenticate_on_unsubscribe)
        )

    def subscription(self, subscription_arn: str) -> models.Subscription:
        """A subscription with its attributes. Raises NotFound."""
        return self._loop.run(self._inner.subscription(subscription_arn))

    def subscriptions(self, topic: str = "", *, page_size: int = 100) -> Iterator[models.Subscription]:
        """Of one topic, or all. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.subscriptions(topic, page_size=page_size))

    def set_subscription_attributes(
        self, subscription_arn: str, attributes: Mapping[str, object]
    ) -> models.Subscription:
        """Change attributes; an empty text takes a policy away. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._inner.set_subscription_attributes(subscription_arn, attributes))

    def unsubscribe(self, subscription_arn: str) -> None:
        """A subscription that is not there is not an error."""
        self._loop.run(self._inner.unsubscribe(subscription_arn))
