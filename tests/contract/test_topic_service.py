"""Topics at work: their rpcs, fan-out to real queues, restarts, a full disk."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from minicloud import AsyncClient
from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound
from minicloud.cloud_topics import BrokerQueues
from minicloud.queue.service import DOCUMENTS_AT_ONCE
from minicloud.sim.log import MemoryLog
from minicloud.topic import limits
from minicloud.wire import queue_pb2, topic_pb2
from tests.contract.broker_world import broker_world
from tests.contract.topic_world import (
    ARN,
    NOTIFICATION,
    FakePoster,
    confirmed,
    fetch,
    metrics,
    offline,
    publish,
    queue,
    refusal,
    subscribe,
    take,
    topic,
    verify,
)
from tests.turns import turn

pytestmark = pytest.mark.asyncio


async def test_a_message_reaches_queues_as_a_signed_document_or_raw() -> None:
    async with offline() as (world, _, _):
        await topic(world, SignatureVersion="2")
        await queue(world, "plain"), await queue(world, "raw")
        one = await subscribe(world, "plain")
        await subscribe(world, "raw", RawMessageDelivery="true")
        attributes = {"colour": queue_pb2.MessageAttribute(type="String", value=b"red")}
        reply = await publish(world, "hello", subject="Hi", attributes=attributes)
        document = json.loads((await take(world, "plain")).bodies[0])
        assert (document["Message"], document["Subject"]) == ("hello", "Hi")
        assert document["MessageId"] == reply.results[0].message_id
        assert document["MessageAttributes"] == {"colour": {"Type": "String", "Value": "red"}}
        assert document["UnsubscribeURL"].endswith(one.arn)
        status, certificate = await fetch(world, document["SigningCertURL"])
        assert status == 200
        verify(document, NOTIFICATION, certificate)
        raw = await take(world, "raw")
        assert raw.bodies[0] == b"hello" and raw.extras[0].attributes["colour"].value == b"red"
        assert await metrics(world) == {"MessagesPublished": 1, "PublishSize": 5 + 15, "NotificationsDelivered": 2}


async def test_documents_are_larger_than_their_messages_and_still_fit_an_answer() -> None:
    """Quotation marks double, and a kilobyte comes around each: an answer stays below gRPC's limit all the same."""
    log = MemoryLog()
    async with offline(log) as (world, _, _):
        await topic(world)
        await queue(world, "a")
        await subscribe(world, "a")
        for _ in range(2):
            await publish(world, *['"' * 3_000] * 500)
        first = await take(world, "a", 1_000)
        assert 1 < len(first.bodies) < 1_000
    async with offline(log) as (world, _, _):
        rest = [await take(world, "a", 1_000) for _ in range(3)]
        assert len(first.bodies) + sum(len(one.bodies) for one in rest) == 1_000


async def test_other_calls_come_in_while_documents_are_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def count(*_: Any) -> bytes:
        nonlocal made
        made += 1
        return b"{}"

    async with offline() as (world, _, _):
        await topic(world)
        await queue(world, "a")
        await subscribe(world, "a")
        await publish(world, *["x"] * 100)
        monkeypatch.setattr(world.broker.topics.renderer, "notification", count)
        receiving = asyncio.ensure_future(take(world, "a"))
        at_once, before = 0, 0
        while not receiving.done():
            at_once, before = max(at_once, made - before), made
            await turn()
        assert (made, len((await receiving).bodies)) == (100, 100)
        assert 1 <= at_once <= DOCUMENTS_AT_ONCE


def fan_outs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many messages each fan-out has, from now on."""
    calls: list[int] = []
    fan_out = BrokerQueues.fan_out

    def counted(self: BrokerQueues, *what: Any) -> Any:
        calls.append(len(what[1]))
        return fan_out(self, *what)

    monkeypatch.setattr(BrokerQueues, "fan_out", counted)
    return calls


async def test_a_wide_fan_out_takes_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPIES_AT_ONCE", 20)
    async with offline() as (world, _, _):
        await topic(world)
        for name in "abcde":
            await queue(world, name)
            await subscribe(world, name, RawMessageDelivery="true")
        calls = fan_outs(monkeypatch)
        bodies = [str(number).encode() for number in range(10)]
        bulk = topic_pb2.PublishBulkRequest(topic="news", messages=bodies)
        ids = (await world.topics.PublishBulk(bulk)).message_ids
        assert calls == [4, 4, 2] and len({ids[at : at + 16] for at in range(0, 160, 16)}) == 10
        reply = await publish(world, *"klmnop", "", "q")
        assert [bool(result.error.code) for result in reply.results] == [False] * 6 + [True, False]
        for name in "abcde":
            assert list((await take(world, name)).bodies) == [*bodies, *(char.encode() for char in "klmnopq")]
        bad = topic_pb2.PublishBulkRequest(topic="news", messages=[*bodies, b"\0"])
        assert (await refusal(world.topics.PublishBulk(bad))).code == "InvalidParameter"
        assert not (await take(world, "a")).bodies
        empty = topic_pb2.PublishBulkRequest(topic="news")
        assert (await refusal(world.topics.PublishBulk(empty))).code == "InvalidParameter"


async def test_bulk_and_filters() -> None:
    async with offline() as (world, _, _):
        await topic(world)
        for name in ("every", "some"):
            await queue(world, name)
        await subscribe(world, "every", RawMessageDelivery="true")
        await subscribe(world, "some", FilterPolicy='{"n": [1]}', FilterPolicyScope="MessageBody")
        request = topic_pb2.PublishBulkRequest(topic=ARN, messages=[b'{"n": %d}' % at for at in range(100)])
        ids = (await world.topics.PublishBulk(request)).message_ids
        assert len(ids) == 1_600 and len({ids[at : at + 16] for at in range(0, 1_600, 16)}) == 100
        assert len((await take(world, "every")).bodies) == 100
        (body,) = (await take(world, "some")).bodies
        assert json.loads(body)["MessageId"].replace("-", "") == ids[16:32].hex()
        assert (await metrics(world))["NotificationsFilteredOut"] == 99
        assert (
            await refusal(world.topics.PublishBulk(topic_pb2.PublishBulkRequest(topic="news")))
        ).code == "InvalidParameter"


MANY = json.dumps({"n": [{"numeric": ["=", number]} for number in range(9)]})  # costs 28 tests


async def test_filters_cost_a_turn_so_much_and_a_message_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILTER_TESTS_AT_ONCE", 112)
    monkeypatch.setattr(limits, "FILTER_TESTS_BESIDE", 2_000)
    monkeypatch.setattr(limits, "FILTER_LOOKS_MAX", 1)
    async with offline() as (world, _, _):
        await topic(world)
        for name in ("every", "some"):
            await queue(world, name)
        await subscribe(world, "every", RawMessageDelivery="true")
        some = await subscribe(world, "some", "news", FilterPolicy=MANY, FilterPolicyScope="MessageBody")
        calls = fan_outs(monkeypatch)
        request = topic_pb2.PublishBulkRequest(topic="news", messages=[b'{"n": 7}'] * 16)
        await world.topics.PublishBulk(request)
        assert calls == [4] * 4  # 16 at once were too many
        assert len((await take(world, "some")).bodies) == len((await take(world, "every")).bodies) == 16

        long, endless = json.dumps({"n": [10] * 50 + [7]}), json.dumps({"n": [10] * 500})
        reply = await publish(world, long, endless, '{"n": 20}')
        assert [result.error.code for result in reply.results] == ["", "InvalidParameter", ""]
        assert "too long" in reply.results[1].error.message
        assert [json.loads(body)["Message"] for body in (await take(world, "some")).bodies] == [long]
        assert [body.decode() for body in (await take(world, "every")).bodies] == [long, '{"n": 20}']

        service = world.broker.topics.service
        looking, change = service._looking.look_beside, asyncio.Event()

        async def slowly(*what: Any) -> Any:
            known = await looking(*what)
            change.set()
            await turn()
            return known

        monkeypatch.setattr(service._looking, "look_beside", slowly)
        publishing = asyncio.ensure_future(publish(world, long))
        await change.wait()
        other = topic_pb2.SetSubscriptionAttributesRequest(
            subscription_arn=some.arn, attributes={"FilterPolicy": MANY.replace("7", "77")}
        )
        await world.topics.SetSubscriptionAttributes(other)
        assert not (await publishing).results[0].error.code
        await take(world, "some")

        gate = [asyncio.ensure_future(publish(world, long)) for _ in range(3)]
        codes = [(await one).results[0].error.code for one in gate]
        assert codes.count("") >= 1 and {*codes} <= {"", "Throttled"}


async def test_a_restart_forgets_nothing() -> None:
    log = MemoryLog()
    async with offline(log) as (world, poster, _):
        await topic(world)
        await queue(world, "plain")
        await subscribe(world, "plain")
        await confirmed(world, poster)
        poster.stalled.add("http://x.test/hook")
        await publish(world, "hello")
        await poster.got(1)
    poster = FakePoster()
    async with offline(log, poster) as (world, poster, clock):
        assert len((await take(world, "plain")).bodies) == 1
        await clock.advance(61)  # what was being posted comes again
        (post,) = await poster.got(1)
        assert post.document["Message"] == "hello"
        await publish(world, "again")
        await poster.got(2)


async def test_hidden_queues_that_nobody_needs_are_cleared_away() -> None:
    log = MemoryLog()
    async with offline(log) as (world, _, _):
        core = world.broker.core
        core.create_internal(Scope(), "left", 1.0, random.Random(1))
        assert core.find_internal("left") is not None
    async with offline(log) as (world, _, _):
        assert world.broker.core.find_internal("left") is None


async def test_fifo_topics_keep_order_number_and_deduplicate_over_a_restart() -> None:
    log = MemoryLog()
    options = {"topic": "news.fifo", "group_id": "g"}
    async with offline(log) as (world, _, _):
        await topic(world, "news.fifo", ContentBasedDeduplication="true")
        await queue(world, "jobs.fifo"), await queue(world, "all")
        await subscribe(world, "jobs.fifo", "news.fifo", RawMessageDelivery="true")
        await subscribe(world, "all", "news.fifo")
        first = await publish(world, *map(str, range(20)), **options)
        numbers = [int(result.sequence_number) for result in first.results]
        assert numbers == sorted(numbers) and len(set(numbers)) == 20 and numbers[0] >= 10**19
    async with offline(log) as (world, _, _):
        again = await publish(world, "5", "new", **options)
        assert again.results[0].sequence_number == first.results[5].sequence_number
        assert int(again.results[1].sequence_number) > numbers[-1]
        got = await take(world, "jobs.fifo")
        assert [int(body) if body != b"new" else 20 for body in got.bodies] == list(range(21))
        documents = [json.loads(body) for body in (await take(world, "all")).bodies]
        assert [one["SequenceNumber"] for one in documents[:20]] == [one.sequence_number for one in first.results]
        assert "Signature" not in documents[0]


async def test_deduplication_within_groups_when_the_topic_says_so() -> None:
    async with offline() as (world, _, _):
        await topic(world, "news.fifo", FifoThroughputScope="MessageGroup")
        one = await publish(world, "x", topic="news.fifo", group_id="a", deduplication_id="d")
        other = await publish(world, "x", topic="news.fifo", group_id="b", deduplication_id="d")
        assert one.results[0].sequence_number != other.results[0].sequence_number
        change = topic_pb2.SetTopicAttributesRequest(topic="news.fifo", attributes={"FifoThroughputScope": "Topic"})
        await world.topics.SetTopicAttributes(change)
        one = await publish(world, "x", topic="news.fifo", group_id="a", deduplication_id="e")
        other = await publish(world, "x", topic="news.fifo", group_id="b", deduplication_id="e")
        assert one.results[0].sequence_number == other.results[0].sequence_number


async def test_a_deleted_queue_and_one_that_is_too_small_fail_to_the_dead_letter_queue() -> None:
    async with offline() as (world, _, _):
        await topic(world)
        dead, gone = await queue(world, "dead"), await queue(world, "gone")
        await world.queues.CreateQueue(
            queue_pb2.CreateQueueRequest(name="small", attributes={"MaximumMessageSize": "1024"})
        )
        redrive = {"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead})}
        await subscribe(world, gone, **redrive), await subscribe(world, "small", **redrive)
        await world.queues.DeleteQueue(queue_pb2.DeleteQueueRequest(queue="gone"))
        await publish(world, "x" * 2000)
        documents = [json.loads(body) for body in (await take(world, "dead")).bodies]
        assert [one["Message"] for one in documents] == ["x" * 2000] * 2
        assert (await metrics(world))["NotificationsRedrivenToDlq"] == 2


# --- the rest of the rpcs


async def test_topics_are_listed_tagged_changed_and_deleted() -> None:
    async with broker_world() as world:
        made = await topic(world, DisplayName="News")
        assert (made.name, made.arn, made.attributes["DisplayName"]) == ("news", ARN, "News")
        for name in "abc":
            await topic(world, name)
        listed: list[str] = []
        token = ""
        while True:
            page = await world.topics.ListTopics(topic_pb2.ListTopicsRequest(page_size=3, page_token=token))
            listed += [one.name for one in page.topics]
            token = page.next_page_token
            if not token:
                break
        assert listed == ["a", "b", "c", "news"]
        tagged = await world.topics.TagTopic(topic_pb2.TagTopicRequest(topic=ARN, tags={"a": "1"}))
        assert dict(tagged.tags) == {"a": "1"}
        change = topic_pb2.SetTopicAttributesRequest(topic="news", attributes={"SignatureVersion": "2"})
        await world.topics.SetTopicAttributes(change)
        found = await world.topics.GetTopic(topic_pb2.GetTopicRequest(topic="news"))
        assert found.attributes["SignatureVersion"] == "2" and dict(found.tags) == {"a": "1"}
        await world.topics.DeleteTopic(topic_pb2.DeleteTopicRequest(topic="news"))
        await world.topics.DeleteTopic(topic_pb2.DeleteTopicRequest(topic="news"))
        error = await refusal(world.topics.GetTopic(topic_pb2.GetTopicRequest(topic="news")))
        assert (error.code, error.message) == ("NotFound", "Topic does not exist")
        error = await refusal(world.topics.ListTopics(topic_pb2.ListTopicsRequest(page_token="made-up")))
        assert error.code == "InvalidNextToken"


async def test_subscriptions_are_shown_listed_and_ended() -> None:
    async with offline() as (world, poster, _):
        await topic(world), await topic(world, "other")
        await queue(world, "a")
        one = await subscribe(world, "a")
        await subscribe(world, "a", "other")
        await confirmed(world, poster, "http://user:secret@x.test/hook")
        found = await world.topics.GetSubscription(topic_pb2.GetSubscriptionRequest(subscription_arn=one.arn))
        assert found == one and found.attributes["PendingConfirmation"] == "false"
        listed = await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest(topic="news"))
        assert sorted(item.endpoint for item in listed.subscriptions) == [
            "arn:aws:sqs:us-east-1:000000000000:a", "http://****:****@x.test/hook",
        ]  # fmt: skip
        assert len((await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions) == 3
        await world.topics.Unsubscribe(topic_pb2.UnsubscribeRequest(subscription_arn=one.arn))
        error = await refusal(world.topics.GetSubscription(topic_pb2.GetSubscriptionRequest(subscription_arn=one.arn)))
        assert (error.code, error.message) == ("NotFound", "Subscription does not exist")


async def test_another_accounts_topics_do_not_exist() -> None:
    async with broker_world() as world:
        await topic(world)
        stranger = world.topic_stub("111111111111")
        for call in (
            stranger.GetTopic(topic_pb2.GetTopicRequest(topic=ARN)),
            stranger.PublishMessages(
                topic_pb2.PublishMessagesRequest(topic=ARN, entries=[topic_pb2.PublishEntry(message=b"x")])
            ),
            stranger.PublishBulk(topic_pb2.PublishBulkRequest(topic=ARN, messages=[b"x"])),
            stranger.GetTopicMetrics(topic_pb2.GetTopicMetricsRequest(topic=ARN)),
            stranger.Subscribe(topic_pb2.SubscribeRequest(topic=ARN, protocol="sqs", endpoint="q")),
        ):
            assert (await refusal(call)).code == "NotFound"
        assert not (await stranger.ListTopics(topic_pb2.ListTopicsRequest())).topics


async def test_entries_fail_one_by_one() -> None:
    async with broker_world() as world:
        await topic(world)
        reply = await publish(world, "good", "", "good")
        assert [bool(result.message_id) for result in reply.results] == [True, False, True]
        error = reply.results[1].error
        assert (error.index, error.code, error.message, error.sender_fault) == (
            1, "InvalidParameter", "Invalid parameter: Empty message", True,
        )  # fmt: skip
        assert (await refusal(publish(world))).code == "InvalidParameter"
        error = await refusal(publish(world, *["x" * 262_144] * 15, "y" * 262_145))
        assert error.code == "RequestEntityTooLarge"


async def test_a_full_disk_takes_no_message_and_no_subscription_and_lets_go() -> None:
    log = MemoryLog()
    async with offline(log) as (world, poster, _):
        await topic(world)
        await queue(world, "a")
        one = await subscribe(world, "a")
        hidden = set(world.broker.core.book.hidden)
        log.full = True
        reply = await publish(world, "x")
        assert reply.results[0].error.code == "InsufficientStorage" and not reply.results[0].error.sender_fault
        bulk = topic_pb2.PublishBulkRequest(topic="news", messages=[b"x"])
        assert (await refusal(world.topics.PublishBulk(bulk))).code == "InsufficientStorage"
        assert (await refusal(subscribe(world, "http://x.test/"))).code == "InsufficientStorage"
        assert set(world.broker.core.book.hidden) == hidden and not poster.posts
        assert len((await world.topics.ListSubscriptions(topic_pb2.ListSubscriptionsRequest())).subscriptions) == 1
        log.full = False
        await publish(world, "y")
        assert len((await take(world, "a")).bodies) == 1
        await world.topics.Unsubscribe(topic_pb2.UnsubscribeRequest(subscription_arn=one.arn))


async def test_the_sdk_publishes_and_consumes() -> None:
    async with broker_world() as world, AsyncClient(world.address) as client:
        await client.topics.create("news", {"MaximumMessageSize": 2048}, tags={"a": "b"})
        await client.queues.create("jobs")
        filters = {"RawMessageDelivery": True, "FilterPolicy": {"kind": ["order"]}}
        one = await client.topics.subscribe("news", "sqs", "jobs", filters)
        results = await client.topics.publish_batch("news", ["plain"] * 3)
        assert all(result.message_id and result.error is None for result in results)
        sent = await client.topics.publish("news", "hello", attributes={"kind": "order", "n": 5})
        (message,) = await client.queues.receive("jobs", max_messages=10)
        assert message.text == "hello" and sent.message_id
        assert [item.arn async for item in client.topics.subscriptions("news")] == [one.arn]
        counts = await client.topics.metrics("news")
        assert counts.values["NumberOfNotificationsFilteredOut"] == 3
        await client.topics.unsubscribe(one.arn)
        with pytest.raises(NotFound):
            await client.topics.subscription(one.arn)
