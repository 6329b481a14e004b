"""Rules of queues where AWS is easily got wrong: redrive policies, fairness, deduplication, what fits which type."""

from __future__ import annotations

import hashlib
import json

import pytest

from minicloud.base.errors import CloudError
from minicloud.queue.core import SendEntry
from minicloud.queue.fanout import Note, Target
from tests.pure.queue_world import SCOPE, World
from tests.pure.test_queue_rules import bodies, code_of, fifo_send


@pytest.fixture
def world():
    world = World()
    yield world
    world.check_replay()


def test_redrive_allow_policy(world):
    dlq = world.queue("dead", RedriveAllowPolicy=json.dumps({"redrivePermission": "denyAll"}))
    policy = json.dumps({"deadLetterTargetArn": dlq.arn})
    assert code_of(lambda: world.queue("a", RedrivePolicy=policy)) == "InvalidParameterValue"
    a, b = world.queue("a"), world.queue("b")
    allow = json.dumps({"redrivePermission": "byQueue", "sourceQueueArns": [a.arn]})
    world.broker.set_attributes(dlq, {"RedriveAllowPolicy": allow}, world.now)
    world.broker.set_attributes(a, {"RedrivePolicy": policy}, world.now)
    refused = lambda: world.broker.set_attributes(b, {"RedrivePolicy": policy}, world.now)  # noqa: E731
    assert code_of(refused) == "InvalidParameterValue"
    world.broker.set_attributes(dlq, {"RedriveAllowPolicy": ""}, world.now)
    world.broker.set_attributes(b, {"RedrivePolicy": policy}, world.now)
    assert world.broker.dead_letter_sources(dlq) == [a.arn, b.arn]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("[]", "Redrive policy is not a valid JSON map."),
        ('{"maxReceiveCount": 1}', "Redrive policy does not contain mandatory attribute: deadLetterTargetArn."),
        (
            '{"deadLetterTargetArn": "dead", "maxReceiveCount": 1}',
            "Dead-letter target ARN should be fully qualified ARN.",
        ),
        (
            '{"deadLetterTargetArn": "ARN", "maxReceiveCount": 1001}',
            "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive.",
        ),
        ('{"deadLetterTargetArn": "ARN", "maxReceiveCount": 1.5}', "Invalid value for maxReceiveCount: 1.5, "),
        ('{"deadLetterTargetArn": "ARN", "x": 1}', "Only following attributes are supported: "),
        ('{"deadLetterTargetArn": "ARNx"}', "Dead letter target does not exist."),
        ('{"deadLetterTargetArn": "ARN.fifo"}', "Dead-letter queue must be same type of queue as the source."),
        ('{"deadLetterTargetArn": "OWN"}', "A queue cannot be its own dead-letter queue."),
    ],
)
def test_redrive_policies_are_refused_with_their_reason(world, policy, reason):
    dead, own = world.queue("dead"), world.queue("own")
    world.queue("dead.fifo")
    policy = policy.replace("ARN", dead.arn).replace("OWN", own.arn)
    with pytest.raises(CloudError) as caught:
        world.broker.set_attributes(own, {"RedrivePolicy": policy}, world.now)
    assert f"for parameter RedrivePolicy is invalid. Reason: {reason}" in str(caught.value)
    assert caught.value.code == "InvalidParameterValue"


def test_other_attributes_can_be_set_when_the_dead_letter_queue_is_gone(world):
    dlq = world.queue("dead")
    queue = world.queue("a", RedrivePolicy=json.dumps({"deadLetterTargetArn": dlq.arn, "maxReceiveCount": 1}))
    world.broker.delete_queue(dlq, world.now)
    world.broker.set_attributes(queue, {"VisibilityTimeout": "0"}, world.now)
    world.broker.send_many(queue, [b"x"], world.now)
    for count in (1, 2, 3):
        assert world.broker.receive(queue, 1, world.now).deliveries()[0].count == count


def test_fair_queue_bounds_the_wait_of_quiet_tenants(world):
    """Whatever a noisy tenant holds, waiting or in flight, each quiet one is served within a round."""
    queue = world.queue("a", VisibilityTimeout="5")
    for index in range(300):
        world.broker.send(queue, SendEntry(b"noisy %d" % index, group_id="noisy"), world.now)
    world.broker.receive(queue, 50, world.now)
    for tenant in (b"one", b"two"):
        for index in range(3):
            world.broker.send(queue, SendEntry(tenant + b" %d" % index, group_id=tenant.decode()), world.now)
    seen = [bodies(world, world.broker.receive(queue, 1, world.now))[0] for _ in range(9)]
    for tenant in (b"one", b"two"):
        mine = [place for place, body in enumerate(seen) if body.startswith(tenant)]
        assert len(mine) == 3 and mine[0] <= 2
        assert [seen[place] for place in mine] == [tenant + b" %d" % index for index in range(3)]
    world.pass_time(5)
    world.broker.send(queue, SendEntry(b"late", group_id="late"), world.now)
    world.broker.send_many(queue, [b"without"], world.now)
    assert {b"late", b"without"} <= set(bodies(world, world.broker.receive(queue, 5, world.now)))


def test_deduplication_by_content_and_by_id_are_one(world):
    queue = world.queue("a.fifo", ContentBasedDeduplication="true")
    first = world.broker.send(queue, SendEntry(b"x", group_id="g"), world.now)
    same = SendEntry(b"y", group_id="h", deduplication_id=hashlib.sha256(b"x").hexdigest())
    again = world.broker.send(queue, same, world.now)
    assert again == (first.message_id, first.sequence_number, True)
    assert not world.broker.send(queue, SendEntry(b"x", group_id="g", deduplication_id="own"), world.now).duplicate
    world.pass_time(299)
    assert world.broker.send(queue, SendEntry(b"x", group_id="g"), world.now).duplicate
    world.pass_time(1)
    assert not world.broker.send(queue, SendEntry(b"x", group_id="g"), world.now).duplicate


def test_what_belongs_to_the_other_type_of_queue_is_refused(world):
    queue, fifo = world.queue("a"), world.queue("a.fifo")
    entry = SendEntry(b"x", group_id="g", deduplication_id="d", delay_s=1)
    assert code_of(lambda: world.broker.send(fifo, entry, world.now)) == "InvalidParameterValue"
    assert code_of(lambda: world.broker.send_many(fifo, [b"x"], world.now)) == "MissingParameter"
    assert code_of(lambda: world.broker.receive(queue, 1, world.now, attempt_id="x")) == "InvalidParameterValue"
    with pytest.raises(CloudError, match=r"Can only include alphanumeric characters, hyphens, or underscores."):
        world.broker.create_queue(SCOPE, "b.fifo", world.now, world.rand)


def test_visibility_zero_hides_nothing_and_keeps_the_order(world):
    queue = world.queue("a.fifo")
    for body in (b"1", b"2", b"3"):
        fifo_send(world, queue, body)
    first = world.broker.receive(queue, 2, world.now, visibility_s=0)
    again = world.broker.receive(queue, 2, world.now)
    assert bodies(world, first) == bodies(world, again) == [b"1", b"2"]
    failed = world.broker.delete_many(queue, first.handles(), world.now)
    assert str(failed[0]).endswith("for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")


def test_a_deduplication_id_keeps_the_scope_that_it_was_sent_with(world):
    queue = world.queue("a.fifo", DeduplicationScope="messageGroup")
    other = world.queue("b.fifo")
    fifo_send(world, queue, b"1", "g", "d")
    fifo_send(world, queue, b"2", "g", "e")
    note = Note(b"3", group_id="g", deduplication_id="f")
    world.broker.fan_out([Target(queue, bytes(16)), Target(other, b"r" * 16)], [note], world.now)
    (handle,) = world.broker.receive(queue, 1, world.now).handles()
    world.broker.delete_many(queue, [handle], world.now)
    world.broker.set_attributes(queue, {"DeduplicationScope": "queue"}, world.now)
    for _ in range(3):
        world.check_replay()
        world.compact()
        world.restart()
    queue = world.broker.find(SCOPE, "a.fifo")
    assert set(queue.dedup) == {b"g\0d", b"g\0e", b"g\0f"}
    assert set(world.broker.find(SCOPE, "b.fifo").dedup) == {b"f"}
    world.broker.set_attributes(queue, {"DeduplicationScope": "messageGroup"}, world.now)
    assert [fifo_send(world, queue, b"x", "g", token).duplicate for token in "def"] == [True, True, True]
