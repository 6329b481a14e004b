"""Rules of queues, one by one, as SQS documents them."""

from __future__ import annotations

import hashlib
import json
import tracemalloc

import pytest

from minicloud.base import digests
from minicloud.base.errors import CloudError
from minicloud.queue import codec, message, receipt
from minicloud.queue.core import SendEntry
from minicloud.queue.message import Attribute
from tests.pure.queue_world import SCOPE, World


@pytest.fixture
def world():
    world = World()
    yield world
    world.check_replay()


def bodies(world, received):
    return [world.body(address) for address in received.addresses]


def code_of(call):
    with pytest.raises(CloudError) as caught:
        call()
    return caught.value.code


def fifo_send(world, queue, body, group="g", dedup=None):
    entry = SendEntry(body, group_id=group, deduplication_id=dedup or f"d-{body.decode()}")
    return world.broker.send(queue, entry, world.now)


def test_send_receive_delete(world):
    queue = world.queue("a")
    run = world.broker.send_many(queue, [b"one", b"two", b"three"], world.now)
    assert run.count == 3
    received = world.broker.receive(queue, 10, world.now)
    assert bodies(world, received) == [b"one", b"two", b"three"]
    assert world.broker.receive(queue, 10, world.now).seqs == []
    assert world.broker.delete_many(queue, received.handles(), world.now) == {}
    world.pass_time(60)
    assert world.broker.receive(queue, 10, world.now).seqs == []
    assert world.broker.attributes(queue, ["ApproximateNumberOfMessages"], world.now) == {
        "ApproximateNumberOfMessages": "0"
    }


def test_visibility_ends_and_the_old_handle_deletes_nothing(world):
    queue = world.queue("a", VisibilityTimeout="10")
    world.broker.send_many(queue, [b"one"], world.now)
    first = world.broker.receive(queue, 1, world.now)
    world.pass_time(9.9)
    assert not world.broker.receive(queue, 1, world.now).seqs
    world.pass_time(0.1)
    assert world.broker.take_awake() == [queue]
    second = world.broker.receive(queue, 1, world.now)
    assert second.seqs == first.seqs
    assert second.deliveries()[0].count == 2
    assert world.broker.delete_many(queue, first.handles(), world.now) == {}
    assert queue.rows.live() == 1
    assert world.broker.delete_many(queue, second.handles(), world.now) == {}
    assert queue.rows.live() == 0


def test_newest_handle_deletes_after_its_visibility_ended(world):
    queue = world.queue("a", VisibilityTimeout="10")
    world.broker.send_many(queue, [b"one"], world.now)
    first = world.broker.receive(queue, 1, world.now)
    world.pass_time(11)
    assert world.broker.delete_many(queue, first.handles(), world.now) == {}
    assert queue.rows.live() == 0


def test_handles_survive_a_restart(world):
    queue = world.queue("a")
    world.broker.send_many(queue, [b"one"], world.now)
    handles = world.broker.receive(queue, 1, world.now).handles()
    world.restart()
    queue = world.broker.find(SCOPE, "a")
    assert not world.broker.receive(queue, 1, world.now).seqs
    assert world.broker.delete_many(queue, handles, world.now) == {}
    assert queue.rows.live() == 0


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw[:20] + b"\0" * 8, lambda raw: b"", lambda raw: b"\1" + raw[1:]]
)
def test_bad_handles(world, damage):
    queue, other = world.queue("a"), world.queue("b")
    world.broker.send_many(queue, [b"one"], world.now)
    (handle,) = world.broker.receive(queue, 1, world.now).handles()
    broken = damage(handle) if damage(handle) != handle else b"\2" + handle[1:]
    world.broker.change_visibility(queue, [handle], [0], world.now)
    again = world.broker.receive(queue, 1, world.now).handles()[0]
    assert handle != again
    failed = world.broker.delete_many(queue, [broken], world.now)
    if failed:
        assert failed[0].code == "ReceiptHandleIsInvalid"
    assert world.broker.delete_many(other, [handle], world.now)[0].code == "ReceiptHandleIsInvalid"
    assert queue.rows.live() == 1
    assert receipt.from_text(receipt.to_text(handle)) == handle
    assert code_of(lambda: receipt.from_text("!!!")) == "ReceiptHandleIsInvalid"


def test_delay_of_message_and_queue(world):
    queue = world.queue("a", DelaySeconds="5")
    world.broker.send_many(queue, [b"late"], world.now)
    world.broker.send_many(queue, [b"now"], world.now, delay_s=0)
    assert bodies(world, world.broker.receive(queue, 10, world.now)) == [b"now"]
    assert queue.rows.counts[3] == 1
    world.pass_time(5)
    assert bodies(world, world.broker.receive(queue, 10, world.now)) == [b"late"]
    assert code_of(lambda: world.broker.send_many(queue, [b"x"], world.now, delay_s=901)) == "InvalidParameterValue"


def test_retention(world):
    queue = world.queue("a", MessageRetentionPeriod="60")
    world.broker.send_many(queue, [b"one"], world.now)
    world.pass_time(30)
    world.broker.send_many(queue, [b"two"], world.now)
    world.broker.receive(queue, 1, world.now, visibility_s=40_000)
    world.pass_time(30)
    assert [seq for *_, seq in queue.rows.walk()] == [2]
    world.broker.set_attributes(queue, {"MessageRetentionPeriod": "3600"}, world.now)
    world.pass_time(40)
    assert queue.rows.live() == 1
    world.broker.set_attributes(queue, {"MessageRetentionPeriod": "60"}, world.now)
    assert queue.rows.live() == 0


def test_change_visibility(world):
    queue = world.queue("a")
    world.broker.send_many(queue, [b"one"], world.now)
    (handle,) = world.broker.receive(queue, 1, world.now).handles()
    assert world.broker.change_visibility(queue, [handle], [100], world.now) == {}
    world.pass_time(99)
    assert not world.broker.receive(queue, 1, world.now).seqs
    failed = world.broker.change_visibility(queue, [handle], [43_200], world.now)
    assert failed[0].code == "InvalidParameterValue"
    assert world.broker.change_visibility(queue, [handle], [0], world.now) == {}
    assert world.broker.change_visibility(queue, [handle], [5], world.now)[0].code == "MessageNotInflight"
    assert world.broker.receive(queue, 1, world.now).seqs


def test_dead_letters_and_redrive(world):
    dlq = world.queue("dead")
    policy = json.dumps({"deadLetterTargetArn": dlq.arn, "maxReceiveCount": "2"})
    queue = world.queue("a", RedrivePolicy=policy, VisibilityTimeout="1")
    world.broker.send_many(queue, [b"poison"], world.now)
    for _ in range(2):
        assert world.broker.receive(queue, 1, world.now).seqs
        world.pass_time(1)
    assert not world.broker.receive(queue, 1, world.now).seqs
    assert (queue.rows.live(), dlq.rows.live()) == (0, 1)
    assert world.broker.dead_letter_sources(dlq) == [queue.arn]
    world.check_replay()
    (delivery,) = world.broker.receive(dlq, 1, world.now, visibility_s=0).deliveries()
    assert delivery.count == 3
    assert world.broker.source_arn(delivery) == queue.arn
    world.pass_time(1)
    task = world.broker.start_move(dlq.arn, world.now)
    world.pass_time(1)
    assert (task.status, task.moved) == ("COMPLETED", 1)
    assert (queue.rows.live(), dlq.rows.live()) == (1, 0)
    (delivery,) = world.broker.receive(queue, 1, world.now).deliveries()
    assert delivery.count == 1
    head = codec.head_of(world.log.frames[delivery.address])
    assert world.broker.message_id(queue, delivery, head) == message.message_id(queue.tag, delivery.seq)


def test_move_task_with_rate_is_cancelled(world):
    dlq = world.queue("dead")
    queue = world.queue("a", RedrivePolicy=json.dumps({"deadLetterTargetArn": dlq.arn}))
    world.broker.send_many(dlq, [b"x"] * 50, world.now)
    task = world.broker.start_move(dlq.arn, world.now, destination_arn=queue.arn, rate=10)
    assert code_of(lambda: world.broker.start_move(dlq.arn, world.now)) == "InvalidParameterValue"
    world.pass_time(2)
    assert 18 <= task.moved <= 22
    assert world.broker.cancel_move(task.number, world.now) == task.moved
    world.pass_time(10)
    assert queue.rows.live() == task.moved
    failing = world.broker.start_move(dlq.arn, world.now)
    world.pass_time(1)
    assert (failing.status, failing.failure) == ("FAILED", "CouldNotDetermineMessageSource")
    assert len(world.broker.receive(dlq, 50, world.now).seqs) == 50 - task.moved


def test_purge(world):
    queue = world.queue("a")
    world.broker.send_many(queue, [b"x"] * 1000, world.now)
    world.broker.receive(queue, 10, world.now)
    assert world.broker.purge(queue, world.now) == 1000
    assert code_of(lambda: world.broker.purge(queue, world.now)) == "PurgeQueueInProgress"
    world.broker.send_many(queue, [b"y"], world.now)
    assert bodies(world, world.broker.receive(queue, 10, world.now)) == [b"y"]


def test_fair_queue_serves_the_quiet_tenant_next(world):
    queue = world.queue("a")
    for _ in range(200):
        world.broker.send(queue, SendEntry(b"noisy", group_id="noisy"), world.now)
    world.broker.send(queue, SendEntry(b"quiet", group_id="quiet"), world.now)
    assert b"quiet" in bodies(world, world.broker.receive(queue, 2, world.now))


def test_fifo_order_and_one_batch_a_group(world):
    queue = world.queue("a.fifo")
    for body in (b"1", b"2", b"3"):
        fifo_send(world, queue, body)
    fifo_send(world, queue, b"other", "h")
    first = world.broker.receive(queue, 2, world.now)
    assert bodies(world, first) == [b"1", b"2"]
    assert bodies(world, world.broker.receive(queue, 10, world.now)) == [b"other"]
    world.broker.delete_many(queue, first.handles()[:1], world.now)
    assert not world.broker.receive(queue, 10, world.now).seqs
    world.broker.change_visibility(queue, first.handles()[1:], [0], world.now)
    assert bodies(world, world.broker.receive(queue, 10, world.now)) == [b"2", b"3"]


def test_fifo_delete_after_visibility_fails(world):
    queue = world.queue("a.fifo")
    fifo_send(world, queue, b"1")
    received = world.broker.receive(queue, 1, world.now)
    world.pass_time(31)
    assert world.broker.delete_many(queue, received.handles(), world.now)[0].code == "InvalidParameterValue"


def test_fifo_deduplication_survives_delete_restart_and_compaction(world):
    queue = world.queue("a.fifo", ContentBasedDeduplication="true")
    sent = world.broker.send(queue, SendEntry(b"same", group_id="g"), world.now)
    world.broker.delete_many(queue, world.broker.receive(queue, 1, world.now).handles(), world.now)
    for _ in range(3):
        world.compact()
        world.restart()
    queue = world.broker.find(SCOPE, "a.fifo")
    again = world.broker.send(queue, SendEntry(b"same", group_id="g"), world.now)
    assert again.duplicate and again.message_id == sent.message_id
    assert len(again.sequence_number) == 20
    world.pass_time(300)
    assert not world.broker.send(queue, SendEntry(b"same", group_id="g"), world.now).duplicate


def test_deduplication_by_group(world):
    queue = world.queue("a.fifo", DeduplicationScope="messageGroup", FifoThroughputLimit="perMessageGroupId")
    assert not fifo_send(world, queue, b"1", "g", "d").duplicate
    assert not fifo_send(world, queue, b"1", "h", "d").duplicate
    assert fifo_send(world, queue, b"1", "h", "d").duplicate


def test_receive_attempt(world):
    queue = world.queue("a.fifo")
    fifo_send(world, queue, b"1")
    first = world.broker.receive(queue, 10, world.now, attempt_id="try")
    world.pass_time(20)
    again = world.broker.receive(queue, 10, world.now, attempt_id="try")
    assert again.handles() == first.handles()
    world.pass_time(20)
    assert not world.broker.receive(queue, 10, world.now).seqs
    world.check_replay()
    world.broker.change_visibility(queue, first.handles(), [100], world.now)
    assert not world.broker.receive(queue, 10, world.now, attempt_id="try").seqs


def test_fifo_delay_is_the_queues_present_one(world):
    queue = world.queue("a.fifo", DelaySeconds="100")
    fifo_send(world, queue, b"1")
    assert not world.broker.receive(queue, 1, world.now).seqs
    world.pass_time(10)
    world.broker.set_attributes(queue, {"DelaySeconds": "10"}, world.now)
    assert world.broker.receive(queue, 1, world.now).seqs


def test_in_flight_limits(world, monkeypatch):
    monkeypatch.setattr("minicloud.queue.limits.IN_FLIGHT_MAX", 3)
    queue, fifo = world.queue("a"), world.queue("a.fifo")
    world.broker.send_many(queue, [b"x"] * 5, world.now)
    assert len(world.broker.receive(queue, 5, world.now).seqs) == 3
    assert code_of(lambda: world.broker.receive(queue, 5, world.now)) == "OverLimit"
    for index in range(5):
        fifo_send(world, fifo, b"%d" % index, f"g{index}")
    assert len(world.broker.receive(fifo, 5, world.now).seqs) == 3
    assert world.broker.receive(fifo, 5, world.now).seqs == []


def test_create_is_idempotent_and_a_name_rests_after_deletion(world):
    queue = world.queue("a", DelaySeconds="1")
    assert world.queue("a", DelaySeconds="1") is queue
    assert code_of(lambda: world.queue("a", DelaySeconds="2")) == "QueueNameExists"
    world.broker.send_many(queue, [b"x"] * 10, world.now)
    world.broker.delete_queue(queue, world.now)
    assert code_of(lambda: world.broker.find(SCOPE, "a")) == "QueueDoesNotExist"
    assert code_of(lambda: world.queue("a")) == "QueueDeletedRecently"
    world.pass_time(60)
    assert world.queue("a").rows.live() == 0


@pytest.mark.parametrize(
    ("name", "attributes", "code"),
    [
        ("", {}, "InvalidParameterValue"),
        ("a" * 81, {}, "InvalidParameterValue"),
        ("a b", {}, "InvalidParameterValue"),
        ("a\n", {}, "InvalidParameterValue"),
        ("a", {"DelaySeconds": "901"}, "InvalidAttributeValue"),
        ("a", {"DelaySeconds": "-1"}, "InvalidAttributeValue"),
        ("a", {"VisibilityTimeout": "43201"}, "InvalidAttributeValue"),
        ("a", {"MaximumMessageSize": "1048577"}, "InvalidAttributeValue"),
        ("a", {"MessageRetentionPeriod": "59"}, "InvalidAttributeValue"),
        ("a", {"Nonsense": "1"}, "InvalidAttributeName"),
        ("a", {"QueueArn": "1"}, "InvalidAttributeName"),
        ("a", {"ContentBasedDeduplication": "true"}, "InvalidAttributeName"),
        ("a", {"RedrivePolicy": "{}"}, "InvalidParameterValue"),
        ("a", {"RedrivePolicy": "[" * 5000}, "InvalidParameterValue"),
        ("a", {"RedrivePolicy": '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:1:x"}'}, "InvalidParameterValue"),
        ("a", {"RedriveAllowPolicy": "{}"}, "InvalidParameterValue"),
        ("a", {"RedriveAllowPolicy": '{"redrivePermission":"byQueue"}'}, "InvalidParameterValue"),
        ("a", {"RedriveAllowPolicy": '{"redrivePermission":"all"}'}, "InvalidParameterValue"),
        (
            "a",
            {"RedriveAllowPolicy": '{"redrivePermission":"denyAll","sourceQueueArns":["x"]}'},
            "InvalidParameterValue",
        ),
        ("a", {"KmsMasterKeyId": "alias/aws/sqs"}, "UnsupportedOperation"),
        ("a.fifo", {"FifoThroughputLimit": "perMessageGroupId"}, "InvalidAttributeValue"),
    ],
)
def test_bad_queues(world, name, attributes, code):
    assert code_of(lambda: world.queue(name, **attributes)) == code
    assert world.broker.names(SCOPE) == []


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (SendEntry(b""), "MissingParameter"),
        (SendEntry(b"\0"), "InvalidMessageContents"),
        (SendEntry("\uffff".encode()), "InvalidMessageContents"),
        (SendEntry(b"\xff"), "InvalidMessageContents"),
        (SendEntry(b"x" * 1_048_577), "InvalidParameterValue"),
        (SendEntry(b"x", deduplication_id="d"), "InvalidParameterValue"),
        (SendEntry(b"x", group_id="\x7f"), "InvalidParameterValue"),
        (SendEntry(b"x", trace_header="x" * 4_097), "InvalidParameterValue"),
        (SendEntry(b"x", trace_header="Root=1\n"), "InvalidParameterValue"),
        (SendEntry(b"x", attributes={"AWS.x": Attribute("String", b"v")}), "InvalidParameterValue"),
        (SendEntry(b"x", attributes={"x": Attribute("Text", b"v")}), "InvalidParameterValue"),
        (SendEntry(b"x", attributes={"x": Attribute("Number", b"seven")}), "InvalidParameterValue"),
        (SendEntry(b"x", attributes={"x": Attribute("String", b"")}), "InvalidParameterValue"),
        (SendEntry(b"x", attributes={f"n{i}": Attribute("String", b"v") for i in range(11)}), "InvalidParameterValue"),
    ],
)
def test_bad_messages_store_nothing(world, entry, code):
    queue = world.queue("a")
    assert code_of(lambda: world.broker.send(queue, entry, world.now)) == code
    assert queue.rows.live() == 0


def test_bad_batches(world):
    queue = world.queue("a")

    def batch(*ids, body=b"x"):
        return lambda: world.broker.send_batch(queue, [SendEntry(body, id) for id in ids], world.now)

    assert code_of(batch()) == "EmptyBatchRequest"
    assert code_of(batch(*map(str, range(11)))) == "TooManyEntriesInBatchRequest"
    assert code_of(batch("a", "a")) == "BatchEntryIdsNotDistinct"
    assert code_of(batch("a b")) == "InvalidBatchEntryId"
    assert code_of(batch("a", "b", body=b"x" * 600_000)) == "BatchRequestTooLong"
    good, bad = world.broker.send_batch(queue, [SendEntry(b"x", "a"), SendEntry(b"\0", "b")], world.now)
    assert good.message_id and bad.code == "InvalidMessageContents"
    assert queue.rows.live() == 1


def test_attributes_round_trip_and_md5(world):
    queue = world.queue("a")
    attributes = {"b": Attribute("Binary", b"\0\1"), "a": Attribute("Number.int", b"7")}
    world.broker.send(
        queue, SendEntry("gr\u00fc\u00df".encode(), attributes=attributes, trace_header="Root=1"), world.now, "me"
    )
    (delivery,) = world.broker.receive(queue, 1, world.now).deliveries()
    stored = codec.open_message(world.log.read(delivery.address, 0, delivery.length))
    assert message.decode_attributes(stored.attributes) == (attributes, {"AWSTraceHeader": "Root=1", "SenderId": "me"})
    assert stored.body.decode() == "gr\u00fc\u00df"
    plain = (
        b"\0\0\0\1a" + b"\0\0\0\x0aNumber.int" + b"\1" + b"\0\0\0\1" + b"7"
        b"\0\0\0\1b" + b"\0\0\0\6Binary" + b"\2" + b"\0\0\0\2\0\1"
    )  # fmt: skip
    assert digests.md5_of_attributes(attributes) == hashlib.md5(plain).hexdigest()


def test_a_full_disk_refuses_sends_only(world):
    queue = world.queue("a")
    world.broker.send_many(queue, [b"x"], world.now)
    world.log.full = True
    assert code_of(lambda: world.broker.send_many(queue, [b"y"], world.now)) == "InsufficientStorage"
    received = world.broker.receive(queue, 10, world.now)
    assert world.broker.delete_many(queue, received.handles(), world.now) == {}
    world.log.full = False
    world.broker.send_many(queue, [b"y"], world.now)


def test_memory_of_many_messages(world):
    queue = world.queue("a")
    tracemalloc.start()
    base = tracemalloc.get_traced_memory()[0]
    run = [b"x"] * 1000
    log_append = world.log.append
    world.log.append = lambda frames, essential=False: list(range(1 << 40, (1 << 40) + len(frames)))
    for _ in range(100):
        world.broker.send_many(queue, run, world.now)
    for _ in range(50):
        world.broker.receive(queue, 1000, world.now)
    used = (tracemalloc.get_traced_memory()[0] - base) / 100_000
    tracemalloc.stop()
    print(f"{used:.0f} bytes a stored message, half of them in flight")
    assert used <= 150
    world.broker.purge(queue, world.now)
    world.log.append = log_append
    world.restart = None
    world.broker.book.queues.clear()
    world.broker.book.arns.clear()
    world.log.frames.clear()
    world.log.live.clear()


def test_names_and_numbers_never_come_twice(world):
    queue = world.queue("a")
    world.broker.send_many(queue, [b"x" * 1500] * 10, world.now)
    world.broker.delete_many(queue, world.broker.receive(queue, 10, world.now).handles(), world.now)
    for _ in range(20):
        world.compact()
    assert len(world.log.frames) <= 2
    world.restart()
    queue = world.broker.find(SCOPE, "a")
    assert world.broker.send_many(queue, [b"y"], world.now).first == 11


def test_timers_of_deleted_messages_do_not_pile_up(world, monkeypatch):
    monkeypatch.setattr("minicloud.queue.timers._WEIGHT_MIN", 50)
    world.broker.book.timers._weight_max = 50
    queue, gone = world.queue("a", VisibilityTimeout="43200"), world.queue("b")
    world.broker.send_many(queue, [b"stays in flight"], world.now)
    kept = world.broker.receive(queue, 1, world.now, visibility_s=100)
    world.broker.delete_queue(gone, world.now)
    for _ in range(500):
        world.broker.send_many(queue, [b"x"], world.now)
        world.broker.delete_many(queue, world.broker.receive(queue, 1, world.now).handles(), world.now)
    assert len(world.broker.book.timers) <= 52
    world.pass_time(100)
    assert world.broker.receive(queue, 10, world.now).seqs == kept.seqs


def test_bulk_calls_across_chunks_of_rows(world):
    """The fast ways for consecutive messages and the slow one for scattered ones come to the same."""
    queue = world.queue("a", VisibilityTimeout="10")
    world.broker.send_many(queue, [b"%d" % index for index in range(900)], world.now)
    first = world.broker.receive(queue, 700, world.now)
    world.check_replay()
    assert bodies(world, first) == [b"%d" % index for index in range(700)]
    world.broker.delete_many(queue, first.handles()[::2] + first.handles()[:1], world.now)
    world.broker.change_visibility(queue, first.handles()[1:101:2], [0] * 50, world.now)
    second = world.broker.receive(queue, 700, world.now)
    assert len(second.seqs) == 250
    assert {item.count for item in second.deliveries()} == {1, 2}
    world.check_replay()
    assert world.broker.delete_many(queue, second.handles(), world.now) == {}
    world.pass_time(10)
    third = world.broker.receive(queue, 1000, world.now)
    assert third.seqs == first.seqs[101::2]
    assert {item.count for item in third.deliveries()} == {2}
    assert world.broker.counters()["deleted"] == 600


def test_fifo_order_of_a_returned_and_a_flying_message_holds_over_a_restart(world):
    queue = world.queue("a.fifo")
    for body in (b"1", b"2"):
        fifo_send(world, queue, body)
    one, two = world.broker.receive(queue, 2, world.now).handles()
    world.broker.change_visibility(queue, [one], [0], world.now)
    world.restart()
    queue = world.broker.find(SCOPE, "a.fifo")
    world.broker.change_visibility(queue, [two], [0], world.now)
    assert bodies(world, world.broker.receive(queue, 1, world.now)) == [b"1"]
