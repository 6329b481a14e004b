"""Publishing: checks and their texts, what goes where, filters, dead letters, FIFO numbers, bulk."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from minicloud.base.errors import CloudError
from minicloud.topic import limits, tokens
from minicloud.topic.envelope import unpack
from minicloud.topic.message import Attribute, Entry, check_batch
from minicloud.topic.publish import Accepted, Plan, Publication, routes_of
from tests.pure.topic_bench import SCOPE, SECRET, Bench, FakeQueue, FakeQueues

URL = "http://localhost:9/hook"
RED = {"colour": Attribute("String", b"red")}


class World:
    """A bench with queues; `publish` does what the service will do."""

    def __init__(self, topic: str = "news", **attributes: str) -> None:
        self.bench = Bench()
        self.queues = FakeQueues()
        self.name = topic
        self.bench.topic(topic, **attributes)

    def queue(self, name: str, *, full: bool = False, exists: bool = True, **attributes: str) -> FakeQueue:
        self.bench.subscribe(name, topic=self.name, **attributes)
        return self.queues.add(name, full=full) if exists else FakeQueue(name)

    def endpoint(self, url: str = URL, **attributes: str) -> FakeQueue:
        one = self.bench.subscribe(url, topic=self.name, **attributes)
        token = tokens.issue(SECRET, one.id, self.bench.now)
        self.bench.do(self.bench.directory.confirm(one.topic_arn, token, self.bench.context, known=True))
        return self.queues.add(one.outbox)

    def function(self) -> FakeQueue:
        one = self.bench.subscribe(SCOPE.arn("lambda", "function:f"), "lambda", self.name)
        return self.queues.add(one.outbox)

    def publication(self) -> Publication:
        topic = self.bench.state.topic(SCOPE, self.name)
        routes = routes_of(self.bench.state.of_topic.get(topic.arn, {}).values(), self.queues)
        return Publication(topic, routes, self.queues)

    def publish(self, *entries: Entry) -> Plan:
        publication = self.publication()
        for entry in entries:
            publication.take(entry, uuid.uuid4().bytes, 1_000)
        return self.carry(publication)

    def carry(self, publication: Publication) -> Plan:
        batches = list(publication.plan.batches)
        while batches:
            batch = batches.pop(0)
            fanned = self.queues.fan_out(batch.targets, batch.notes, 1.0)
            batches += publication.settle(batch, fanned)
        return publication.plan

    def counts(self, plan: Plan) -> dict[str, int]:
        totals: dict[str, int] = {}
        for (_, metric), count in plan.counts.items():
            short = metric.removeprefix("NumberOfNotifications")
            totals[short] = totals.get(short, 0) + count
        return {metric: count for metric, count in totals.items() if count}


def bodies(queue: FakeQueue) -> list[str]:
    return [note.body.decode() for note, _ in queue.got]


def error_of(plan: Plan) -> str:
    (result,) = plan.results
    assert isinstance(result, CloudError)
    return str(result)


def test_one_message_goes_to_every_queue_in_one_fan_out() -> None:
    world = World()
    plain, raw = world.queue("a"), world.queue("b", RawMessageDelivery="true")
    outbox = world.endpoint()
    plan = world.publish(Entry(b"hello", subject="Hi", attributes=RED))
    assert world.queues.calls == [(3, 1)]
    assert bodies(plain) == bodies(raw) == bodies(outbox) == ["hello"]
    assert [target.raw for queue in (plain, raw) for _, target in queue.got] == [False, True]
    (result,) = plan.results
    assert isinstance(result, Accepted)
    origin = unpack(plain.got[0][0].origin)
    assert (origin.message_id, origin.subject, origin.sent_ms) == (result.message_id, "Hi", 1_000)
    assert world.counts(plan) == {"Delivered": 2}
    assert plan.bytes == len(b"hello") + len("colour") + len("String") + len(b"red")


def test_an_unconfirmed_endpoint_gets_nothing_and_a_topic_without_subscribers_takes_messages() -> None:
    world = World()
    world.bench.subscribe(URL)
    assert isinstance(world.publish(Entry(b"x")).results[0], Accepted)
    assert world.queues.calls == []


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(b""), "InvalidParameter: Invalid parameter: Empty message"),
        (Entry(b" \n"), "InvalidParameter: Invalid parameter: Empty message"),
        (Entry(b"\xff"), "InvalidParameter: Invalid parameter: Message Reason: it must be UTF-8 text"),
        (Entry(b"a\x00"), "InvalidParameter: Invalid parameter: Message Reason: character #x0 is not allowed"),
        (Entry(b"x" * 262_145), "InvalidParameter: Invalid parameter: Message too long"),
        (Entry(b"x" * 262_140, attributes=RED), "InvalidParameter: Invalid parameter: Message too long"),
        (Entry(b"x", subject="s" * 101), "InvalidParameter: Invalid parameter: Subject"),
        (Entry(b"x", subject="a\nb"), "InvalidParameter: Invalid parameter: Subject"),
        (Entry(b"x", json=True),
         "InvalidParameter: Invalid parameter: Message Structure - JSON message body failed to parse"),
        (Entry(b'{"default": "a", "default": "b"}', json=True),
         "InvalidParameter: Invalid parameter: Message Structure - JSON message body failed to parse"),
        (Entry(b'{"sqs": "a", "default": 1}', json=True),
         "InvalidParameter: Invalid parameter: Message Structure - No default entry in JSON message body"),
        (Entry(b"x", deduplication_id="d"),
         "InvalidParameter: Invalid parameter: MessageDeduplicationId Reason: The request includes "
         "MessageDeduplicationId parameter that is not valid for this topic type"),
        (Entry(b"x", group_id="a b"),
         "InvalidParameter: Invalid parameter: MessageGroupId Reason: MessageGroupId can only include alphanumeric and "
         "punctuation characters. 1 to 128 in length"),
        (Entry(b"x", attributes={".a": Attribute("String", b"x")}),
         "ParameterValueInvalid: Invalid message attribute name starting with character '.' was found."),
        (Entry(b"x", attributes={"a!": Attribute("String", b"x")}),
         "ParameterValueInvalid: Invalid non-alphanumeric character '#x21' was found in the message attribute name. "
         "Can only include alphanumeric characters, hyphens, underscores, or dots."),
        (Entry(b"x", attributes={"a..b": Attribute("String", b"x")}),
         "ParameterValueInvalid: Message attribute name can not have successive '.' character."),
        (Entry(b"x", attributes={"a": Attribute("Text", b"x")}),
         "ParameterValueInvalid: The message attribute 'a' has an invalid message attribute type, the set of supported "
         "type prefixes is Binary, Number, and String."),
        (Entry(b"x", attributes={"a": Attribute("String", b"")}),
         "ParameterValueInvalid: The message attribute 'a' must contain non-empty message attribute value for message "
         "attribute type 'String'."),
        (Entry(b"x", attributes={"a": Attribute("Number", b"many")}),
         "ParameterValueInvalid: Could not cast message attribute 'a' value to number."),
        (Entry(b"x", attributes={str(at): Attribute("String", b"x") for at in range(101)}),
         "ParameterValueInvalid: A message has at most 100 attributes."),
    ],
)  # fmt: skip
def test_refused_messages_go_nowhere(entry: Entry, text: str) -> None:
    world = World()
    world.queue("a")
    assert error_of(world.publish(entry)) == text
    assert world.queues.calls == []


def test_the_topics_own_limit_counts_and_a_subject_of_a_hundred_characters_passes() -> None:
    world = World(MaximumMessageSize="1024")
    assert "Message too long" in error_of(world.publish(Entry(b"x" * 1025)))
    assert isinstance(world.publish(Entry(b"x" * 1024, subject="ß" * 100)).results[0], Accepted)


def test_a_bad_entry_does_not_hurt_its_neighbours() -> None:
    world = World()
    queue = world.queue("a")
    plan = world.publish(Entry(b"1"), Entry(b""), Entry(b"3"))
    assert [isinstance(result, Accepted) for result in plan.results] == [True, False, True]
    assert bodies(queue) == ["1", "3"] and world.queues.calls == [(1, 2)]


def test_structure_json_gives_each_protocol_its_text_and_no_attributes() -> None:
    world = World()
    queue, http, https = world.queue("a"), world.endpoint(), world.endpoint("https://localhost:9/hook")
    function = world.function()
    message = {"default": "D", "sqs": "Q", "https": "S", "email": "E", "sms": 5}
    world.publish(Entry(json.dumps(message).encode(), json=True, attributes=RED))
    assert (bodies(queue), bodies(http), bodies(https), bodies(function)) == (["Q"], ["D"], ["S"], ["D"])
    assert queue.got[0][0].attributes == b""
    world.publish(Entry(b'{"default": "all"}', json=True))
    assert world.queues.calls[-1] == (4, 1)
    world.publish(Entry(b'{"default": "D", "lambda": "L"}', json=True))
    assert (bodies(queue)[-1], bodies(http)[-1], bodies(function)) == ("D", "D", ["D", "all", "L"])


def test_filters_choose_and_are_counted() -> None:
    world = World()
    red = world.queue("red", FilterPolicy='{"colour": ["red"]}')
    blue = world.queue("blue", FilterPolicy='{"colour": ["blue"]}')
    body = world.queue("body", FilterPolicy='{"n": [{"numeric": [">", 1]}]}', FilterPolicyScope="MessageBody")
    every = world.queue("all")
    broken = {"colour": Attribute("String", b'"')}
    plan = world.publish(
        Entry(b'{"n": 1}', attributes=RED), Entry(b'{"n": 2}'), Entry(b"text", attributes=broken), Entry(b'{"n": 3}')
    )
    assert bodies(red) == ['{"n": 1}'] and bodies(blue) == []
    assert bodies(body) == ['{"n": 2}', '{"n": 3}']
    assert sorted(bodies(every)) == sorted(['{"n": 1}', '{"n": 2}', "text", '{"n": 3}'])
    by_queue = {one.endpoint.rsplit(":")[-1]: one.id for one in world.bench.state.subscriptions.values()}
    filtered = {metric.removeprefix("NumberOfNotificationsFilteredOut"): count
                for (one, metric), count in plan.counts.items() if one == by_queue["blue"]}  # fmt: skip
    assert filtered == {"": 4, "-MessageAttributes": 4, "-InvalidAttributes": 1, "-NoMessageAttributes": 2}
    filtered = {metric.removeprefix("NumberOfNotificationsFilteredOut"): count
                for (one, metric), count in plan.counts.items() if one == by_queue["body"]}  # fmt: skip
    assert filtered == {"": 2, "-MessageBody": 2, "-InvalidMessageBody": 1, "NumberOfNotificationsDelivered": 2}
    assert len(world.queues.calls) == 3  # {red, all}, {body, all} twice in one, {all}


def redrive(name: str) -> dict[str, str]:
    return {"RedrivePolicy": json.dumps({"deadLetterTargetArn": SCOPE.arn("sqs", name)})}


def test_a_queue_that_is_gone_sends_its_messages_to_the_dead_letter_queue() -> None:
    world = World()
    dead = world.queues.add("dead")
    world.queue("gone", exists=False, **redrive("dead"))
    world.queue("lost", exists=False)
    world.queue("hopeless", exists=False, **redrive("nowhere"))
    good = world.queue("good")
    plan = world.publish(Entry(b"x"))
    assert bodies(dead) == bodies(good) == ["x"]
    assert world.counts(plan) == {"Failed": 3, "RedrivenToDlq": 1, "FailedToRedriveToDlq": 1, "Delivered": 1}


def test_a_queue_that_refuses_a_message_does_the_same() -> None:
    world = World()
    dead = world.queues.add("dead")
    world.queue("full", full=True, RawMessageDelivery="true", **redrive("dead"))
    world.queue("also", full=True, **redrive("too"))
    world.queues.add("too", full=True)
    plan = world.publish(Entry(b"x"), Entry(b"y"))
    assert bodies(dead) == ["x", "y"] and not dead.got[0][1].raw
    assert world.counts(plan) == {"Failed": 4, "RedrivenToDlq": 2, "FailedToRedriveToDlq": 2}


def test_more_than_ten_attributes_do_not_fit_a_raw_queue() -> None:
    world = World()
    many = {f"a{at}": Attribute("String", b"x") for at in range(11)}
    dead = world.queues.add("dead")
    raw, plain = world.queue("raw", RawMessageDelivery="true", **redrive("dead")), world.queue("plain")
    outbox = world.endpoint(RawMessageDelivery="true")
    plan = world.publish(Entry(b"x", attributes=many))
    assert (bodies(raw), bodies(plain), bodies(outbox), bodies(dead)) == ([], ["x"], ["x"], ["x"])
    assert not dead.got[0][1].raw
    assert world.counts(plan) == {"Failed": 1, "RedrivenToDlq": 1, "Delivered": 1}


# --- FIFO


def test_fifo_topics_number_and_deduplicate() -> None:
    world = World("news.fifo", ContentBasedDeduplication="true")
    first, second = world.queue("a.fifo"), world.queue("b", FilterPolicy='{"colour": ["red"]}')
    plan = world.publish(
        Entry(b"1", group_id="g", attributes=RED), Entry(b"2", group_id="g"), Entry(b"1", group_id="g"),
        Entry(b"1", group_id="g", deduplication_id="own"),
    )  # fmt: skip
    assert [result.serial for result in plan.results if isinstance(result, Accepted)] == [1, 2, 1, 3]
    assert bodies(first) == ["1", "2", "1"] and bodies(second) == ["1"]
    assert all(note.group_id == "g" and note.deduplication_id for note, _ in first.got)
    assert world.queues.calls == [(3, 1), (2, 3)]
    assert world.counts(plan) == {"Delivered": 4, "FilteredOut": 3, "FilteredOut-MessageAttributes": 3,
                                  "FilteredOut-NoMessageAttributes": 3}  # fmt: skip


def test_a_fifo_topic_numbers_messages_that_nobody_gets() -> None:
    world = World("news.fifo")
    world.queue("a", FilterPolicy='{"colour": ["red"]}')
    plan = world.publish(Entry(b"x", group_id="g", deduplication_id="d"))
    assert plan.results == [Accepted(plan.results[0].message_id, 1)]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry(b"x", deduplication_id="d"), "The MessageGroupId parameter is required for FIFO topics"),
        (Entry(b"x", group_id="g"), "The topic should either have ContentBasedDeduplication enabled or"),
        (Entry(b"x", group_id="g", deduplication_id="d" * 129), "MessageDeduplicationId Reason"),
    ],
)
def test_fifo_topics_need_group_and_deduplication_id(entry: Entry, text: str) -> None:
    assert text in error_of(World("news.fifo").publish(entry))


# --- bulk, batches


def test_bulk_messages_to_plain_subscriptions_are_one_batch() -> None:
    world = World()
    first, second = world.queue("a"), world.queue("b")
    publication = world.publication()
    messages = [b"%d" % at for at in range(1_000)]
    ids = [uuid.uuid4().bytes for _ in messages]
    publication.take_all(messages, ids, 1_000)
    plan = world.carry(publication)
    assert world.queues.calls == [(2, 1_000)]
    assert [note.body for note, _ in first.got] == [note.body for note, _ in second.got] == messages
    assert [unpack(note.origin).message_id for note, _ in first.got] == ids
    assert world.counts(plan) == {"Delivered": 2_000}


def test_bulk_with_filters_takes_the_other_road() -> None:
    world = World()
    every = world.queue("a")
    some = world.queue("b", FilterPolicy='{"n": [1]}', FilterPolicyScope="MessageBody")
    publication = world.publication()
    publication.take_all([b'{"n": 1}', b'{"n": 2}'], [bytes(16), bytes(16)], 1)
    world.carry(publication)
    assert len(every.got) == 2 and bodies(some) == ['{"n": 1}']


@pytest.mark.parametrize("messages", [[], [b"x"] * 1_001, [b"x", b""], [b"x", b"\x01"], [b"x", b"y" * 262_145]])
def test_bulk_is_all_or_none(messages: list[bytes]) -> None:
    world = World()
    world.queue("a")
    publication = world.publication()
    with pytest.raises(CloudError):
        publication.take_all(messages, [bytes(16)] * len(messages), 1)
    assert not publication.plan.batches
    with pytest.raises(CloudError, match="MessageGroupId"):
        World("news.fifo").publication().take_all([b"x"], [bytes(16)], 1)


@pytest.mark.parametrize(
    ("ids", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([str(at) for at in range(limits.BATCH_ENTRIES_MAX + 1)], "TooManyEntriesInBatchRequest"),
        (["a", "a"], "BatchEntryIdsNotDistinct"),
        (["a b"], "InvalidBatchEntryId"),
        ([""], "InvalidBatchEntryId"),
    ],
)
def test_the_laws_of_batches(ids: list[str], code: str) -> None:
    with pytest.raises(CloudError) as caught:
        check_batch(ids)
    assert caught.value.code == code


def test_counts_are_added_up_by_subscription() -> None:
    world = World()
    world.queue("a")
    plan: Any = world.publish(*[Entry(b"x")] * 3)
    ((key, count),) = plan.counts.items()
    assert key[1] == "NumberOfNotificationsDelivered" and count == 3
