"""The SDK's topics: what goes over the wire, what shares a call, what each caller hears."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minicloud import AsyncClient, Client
from minicloud.base import errors
from minicloud.client import models
from minicloud.client.topics import AsyncTopics
from minicloud.wire import queue_pb2, topic_pb2
from tests.contract.fake_cloud import Call, FakeCloud

pytestmark = pytest.mark.asyncio


@pytest.fixture
def broker(fake_cloud: FakeCloud) -> FakeCloud:
    fake_cloud.serve_broker()
    fake_cloud.on("TopicService/PublishBulk", bulk)
    fake_cloud.on("TopicService/PublishMessages", each)
    return fake_cloud


@pytest.fixture
async def topics(broker: FakeCloud) -> AsyncIterator[AsyncTopics]:
    async with AsyncClient(broker.address) as client:
        yield client.topics


def bulk(request: Any, call: Call) -> topic_pb2.PublishBulkReply:
    """All or none."""
    if b"bad" in request.messages:
        raise errors.InvalidParameterValue("bad", field="Message")
    ids = b"".join(message.rjust(16, b"\0") for message in request.messages)
    return topic_pb2.PublishBulkReply(message_ids=ids)


def each(request: Any, call: Call) -> topic_pb2.PublishMessagesReply:
    bad = queue_pb2.EntryError(code="InvalidParameterValue", message="bad", field="Message", sender_fault=True)
    results = [
        topic_pb2.PublishResult(error=bad)
        if entry.message == b"bad"
        else topic_pb2.PublishResult(message_id=entry.message.decode(), sequence_number=entry.group_id)
        for entry in request.entries
    ]
    return topic_pb2.PublishMessagesReply(results=results)


async def test_plain_messages_of_the_same_moment_are_one_call(broker: FakeCloud, topics: AsyncTopics) -> None:
    results = await asyncio.gather(*(topics.publish("news", f"m{number}") for number in range(50)))
    assert [result.message_id[-4:] for result in results[:3]] == ["6d30", "6d31", "6d32"]  # "m0", "m1", "m2"
    assert [len(call.request.messages) for call in broker.seen("TopicService/PublishBulk")] == [50]


async def test_one_that_is_refused_is_refused_alone(broker: FakeCloud, topics: AsyncTopics) -> None:
    news = topics.bound("news")
    messages = ["a", "bad", b"c"]
    results = await asyncio.gather(*(news.publish(message) for message in messages), return_exceptions=True)
    assert isinstance(results[1], errors.InvalidParameterValue) and results[1].field == "Message"
    assert [getattr(result, "message_id", None) for result in results] == ["a", None, "c"]
    with pytest.raises(errors.InvalidParameterValue):
        await news.publish("bad")
    assert len(broker.seen("TopicService/PublishMessages")) == 1


async def test_what_a_message_carries(broker: FakeCloud, topics: AsyncTopics) -> None:
    await topics.publish("news", '{"default": "x"}', subject="s", json=True, attributes={"n": 5, "b": b"\x00"})
    result = await topics.publish("news.fifo", "a", group_id="g", deduplication_id="d")
    assert result.sequence_number == "g"
    first, second = (call.request.entries[0] for call in broker.seen("TopicService/PublishMessages"))
    assert (first.subject, first.json, first.attributes["n"].type) == ("s", True, "Number")
    assert first.attributes["b"] == queue_pb2.MessageAttribute(type="Binary", value=b"\x00")
    assert (second.group_id, second.deduplication_id) == ("g", "d")
    with pytest.raises(TypeError, match="subject"):
        await topics.publish("news", "a", title="x")  # type: ignore[call-arg]
    with pytest.raises(errors.InvalidParameterValue) as caught:
        await topics.publish("news", 5)  # type: ignore[arg-type]
    assert caught.value.field == "message"


async def test_messages_to_a_fifo_topic_go_one_call_at_a_time(broker: FakeCloud, topics: AsyncTopics) -> None:
    busy = most = 0

    async def one_at_a_time(request: Any, call: Call) -> topic_pb2.PublishMessagesReply:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await asyncio.sleep(0)
        busy -= 1
        return each(request, call)

    broker.on("TopicService/PublishMessages", one_at_a_time)
    waves = []
    for number in range(20):
        waves.append(asyncio.ensure_future(topics.publish("news.fifo", f"{number}", group_id="g")))
        await asyncio.sleep(0)
    await asyncio.gather(*waves)
    calls = broker.seen("TopicService/PublishMessages")
    sent = [entry.message for call in calls for entry in call.request.entries]
    assert sent == [b"%d" % number for number in range(20)] and most == 1


async def test_a_batch_answers_for_each_entry(topics: AsyncTopics) -> None:
    batch = ["a", models.PublishEntry("bad", subject="s"), models.PublishEntry(b"c", attributes={"n": 1})]
    results = await topics.publish_batch("news", batch)
    assert [(result.message_id, result.error is None) for result in results] == [("a", True), ("", False), ("c", True)]


async def test_topics_and_subscriptions_over_the_wire(broker: FakeCloud, topics: AsyncTopics) -> None:
    def topic(request: Any, call: Call) -> topic_pb2.Topic:
        return topic_pb2.Topic(name="news.fifo", arn="arn", attributes={"DisplayName": "N"}, tags={"a": "b"})

    def subscription(request: Any, call: Call) -> topic_pb2.Subscription:
        return topic_pb2.Subscription(arn="arn:s", topic_arn="arn", protocol="sqs", endpoint="q")

    for method in ("CreateTopic", "GetTopic", "SetTopicAttributes", "TagTopic"):
        broker.on(f"TopicService/{method}", topic)
    for method in ("Subscribe", "ConfirmSubscription", "GetSubscription", "SetSubscriptionAttributes"):
        broker.on(f"TopicService/{method}", subscription)
    broker.on("TopicService/DeleteTopic", lambda request, call: topic_pb2.DeleteTopicReply())
    broker.on("TopicService/Unsubscribe", lambda request, call: topic_pb2.UnsubscribeReply())
    made = await topics.create("news.fifo", {"FifoTopic": True, "DeliveryPolicy": {"http": {}}}, tags={"a": "b"})
    assert made.fifo and made == await topics.get("news.fifo")
    assert await topics.tag("news.fifo", {"a": "b"}) == await topics.untag("news.fifo", "c") == {"a": "b"}
    await topics.set_attributes("news.fifo", {"DisplayName": ""})
    await topics.subscribe("news.fifo", "sqs", "q", {"RawMessageDelivery": True, "FilterPolicy": {"a": [1]}})
    assert (await topics.confirm("news.fifo", "t")).endpoint == (await topics.subscription("arn:s")).endpoint == "q"
    await topics.set_subscription_attributes("arn:s", {"FilterPolicy": ""})
    await topics.unsubscribe("arn:s")
    await topics.delete("news.fifo")
    requests = {call.method.partition("/")[2]: call.request for call in broker.calls}
    assert dict(requests["CreateTopic"].attributes) == {"FifoTopic": "true", "DeliveryPolicy": '{"http": {}}'}
    assert dict(requests["Subscribe"].attributes) == {"RawMessageDelivery": "true", "FilterPolicy": '{"a": [1]}'}
    with pytest.raises(errors.InvalidParameterValue) as caught:
        await topics.create("x", {"DisplayName": 1.5})
    assert caught.value.field == "DisplayName"


async def test_lists_and_metrics(broker: FakeCloud, topics: AsyncTopics) -> None:
    def page(request: Any, call: Call) -> topic_pb2.ListTopicsReply:
        number = int(request.page_token or 0)
        return topic_pb2.ListTopicsReply(
            topics=[topic_pb2.Topic(name=f"t{number}")], next_page_token=str(number + 1) if number < 3 else ""
        )

    def subscribed(request: Any, call: Call) -> topic_pb2.ListSubscriptionsReply:
        return topic_pb2.ListSubscriptionsReply(subscriptions=[topic_pb2.Subscription(topic_arn=request.topic)])

    broker.on("TopicService/ListTopics", page)
    broker.on("TopicService/ListSubscriptions", subscribed)
    one = {"arn:s": topic_pb2.SubscriptionMetrics(values={"NumberOfNotificationsFailed": 1.0})}
    metrics = topic_pb2.TopicMetrics(values={"NumberOfMessagesPublished": 2.0}, subscriptions=one)
    broker.on("TopicService/GetTopicMetrics", lambda request, call: metrics)
    assert [topic.name async for topic in topics.list(page_size=1)] == ["t0", "t1", "t2", "t3"]
    assert [item.topic_arn async for item in topics.subscriptions("news")] == ["news"]
    found = await topics.metrics("news")
    assert found.values == {"NumberOfMessagesPublished": 2.0}
    assert found.subscriptions == {"arn:s": models.SubscriptionMetrics({"NumberOfNotificationsFailed": 1.0})}


async def test_the_sync_twin_does_the_same(broker: FakeCloud) -> None:
    def work() -> None:
        with Client(broker.address) as client:
            assert client.topics.publish("news", "a").message_id.endswith("61")
            assert client.topics.bound("news").publish("b", subject="s").message_id == "b"

    await asyncio.to_thread(work)
