"""The SDK's topics: what goes over the wire, what shares a call, what each caller hears."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minicloud import AsyncClient, Client
from minicloud.base import errors
from minicloud.client import models
from minicloud.client.topics import AsyncTopics
from minicloud.wire import queue_pb2, topic_pb2
from tests.contract.broker_world import broker_world
from tests.contract.fake_cloud import Call, FakeCloud
from tests.turns import turn

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
        await turn()
        busy -= 1
        return each(request, call)

    broker.on("TopicService/PublishMessages", one_at_a_time)
    waves = []
    for number in range(20):
        waves.append(asyncio.ensure_future(topics.publish("news.fifo", f"{number}", group_id="g")))
        await turn()
    await asyncio.gather(*waves)
    calls = broker.seen("TopicService/PublishMessages")
    sent = [entry.message for call in calls for entry in call.request.entries]
    assert sent == [b"%d" % number for number in range(20)] and most == 1


async def test_an_entry_fails_with_the_class_that_a_call_would(cloud: AsyncClient) -> None:
    await cloud.topics.create("news")
    with pytest.raises(errors.InvalidParameterValue) as alone:
        await cloud.topics.publish("news", "")
    with pytest.raises(errors.InvalidParameterValue) as among:
        await cloud.topics.publish("news", "", attributes={"a": "b"})
    assert (alone.value.code, alone.value.message) == (among.value.code, among.value.message)


async def test_a_batch_answers_for_each_entry(topics: AsyncTopics) -> None:
    batch = ["a", models.PublishEntry("bad", subject="s"), models.PublishEntry(b"c", attributes={"n": 1})]
    results = await topics.publish_batch("news", batch)
    assert [(result.message_id, result.error is None) for result in results] == [("a", True), ("", False), ("c", True)]


# ---------------------------------------------------------------- against a message broker in this process


@pytest.fixture
async def cloud() -> AsyncIterator[AsyncClient]:
    async with broker_world() as world, AsyncClient(world.address) as client:
        yield client


async def test_a_topic_from_its_making_to_its_end(cloud: AsyncClient) -> None:
    topics = cloud.topics
    made = await topics.create("news", {"DisplayName": "News"}, tags={"a": "b"})
    assert (made.name, made.arn) == ("news", "arn:aws:sns:us-east-1:000000000000:news") and not made.fifo
    assert made.attributes["DisplayName"] == "News" and dict(made.tags) == {"a": "b"}
    assert (await topics.set_attributes(made.arn, {"DisplayName": ""})).attributes.get("DisplayName", "") == ""
    assert await topics.tag("news", {"c": "d"}) == {"a": "b", "c": "d"}
    assert await topics.untag("news", "a") == {"c": "d"}
    ordered = await topics.create("ordered.fifo", {"FifoTopic": True})
    assert ordered.fifo and [topic.name async for topic in topics.list(page_size=1)] == ["news", "ordered.fifo"]
    await topics.delete("news")
    await topics.delete("news")
    with pytest.raises(errors.NotFound):
        await topics.get("news")
    with pytest.raises(errors.InvalidParameterValue) as caught:
        await topics.create("x", {"DisplayName": 1.5})
    assert caught.value.field == "DisplayName"


async def test_what_is_published_reaches_who_is_subscribed(cloud: AsyncClient) -> None:
    topics, queues = cloud.topics, cloud.queues
    await topics.create("news")
    everything, orders = await queues.create("everything"), await queues.create("orders")
    await topics.subscribe("news", "sqs", everything.arn)
    raw = await topics.subscribe(
        "news", "sqs", "orders", {"RawMessageDelivery": True, "FilterPolicy": {"kind": ["order"]}}
    )
    assert raw.protocol == "sqs" and raw.endpoint == orders.arn and raw.attributes["RawMessageDelivery"] == "true"
    sent = await topics.publish("news", "one", attributes={"kind": "order", "n": 5})
    plain = await asyncio.gather(*(topics.publish("news", f"p{number}") for number in range(30)))
    assert len({result.message_id for result in (*plain, sent)}) == 31
    (message,) = await queues.receive("orders", 10)
    assert message.text == "one" and message.attributes["n"].data == 5
    got = [json.loads(item.text) for item in await queues.receive("everything", 100)]
    assert {item["MessageId"]: item["Message"] for item in got} == {
        sent.message_id: "one",
        **{result.message_id: f"p{number}" for number, result in enumerate(plain)},
    }
    metrics = await topics.metrics("news")
    assert metrics.values["NumberOfMessagesPublished"] == 31
    assert metrics.subscriptions[raw.arn].values["NumberOfNotificationsFilteredOut"] == 30


async def test_subscriptions_are_shown_changed_and_ended(cloud: AsyncClient) -> None:
    topics = cloud.topics
    await topics.create("news")
    await cloud.queues.create("jobs")
    made = await topics.subscribe("news", "sqs", "jobs")
    assert [item.arn async for item in topics.subscriptions("news")] == [made.arn]
    assert [item.arn async for item in topics.subscriptions(page_size=1)] == [made.arn]
    changed = await topics.set_subscription_attributes(made.arn, {"FilterPolicy": {"a": [1]}})
    assert json.loads(changed.attributes["FilterPolicy"]) == {"a": [1]}
    assert "FilterPolicy" not in (await topics.set_subscription_attributes(made.arn, {"FilterPolicy": ""})).attributes
    assert (await topics.subscription(made.arn)).endpoint == made.endpoint
    await topics.unsubscribe(made.arn)
    await topics.unsubscribe(made.arn)
    with pytest.raises(errors.NotFound):
        await topics.subscription(made.arn)
    with pytest.raises(errors.InvalidRequest):
        await topics.confirm("news", "no such token")


async def test_a_fifo_topic_keeps_the_order_of_publishing(cloud: AsyncClient) -> None:
    await cloud.topics.create("steps.fifo", {"FifoTopic": True, "ContentBasedDeduplication": True})
    await cloud.queues.create("steps.fifo", {"FifoQueue": True})
    await cloud.topics.subscribe("steps.fifo", "sqs", "steps.fifo", {"RawMessageDelivery": True})
    steps = cloud.topics.bound("steps.fifo")
    results = await asyncio.gather(*(steps.publish(f"{number}", group_id="g") for number in range(50)))
    numbers = [int(result.sequence_number) for result in results]
    assert numbers == sorted(numbers) and len(set(numbers)) == 50
    got = await cloud.queues.receive("steps.fifo", 100)
    assert [message.text for message in got] == [f"{number}" for number in range(50)]


async def test_the_sync_twin_does_the_same(broker: FakeCloud) -> None:
    def work() -> None:
        with Client(broker.address) as client:
            assert client.topics.publish("news", "a").message_id.endswith("61")
            assert client.topics.bound("news").publish("b", subject="s").message_id == "b"

    await asyncio.to_thread(work)
