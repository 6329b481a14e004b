"""Fan-outs, hidden queues and the shelf: what other slices build on."""

from __future__ import annotations

import json

import pytest

from minicloud.base.errors import CloudError
from minicloud.queue import codec, message
from minicloud.queue.fanout import Note, Run, Target
from minicloud.queue.message import Attribute, SendEntry
from tests.pure.queue_world import SCOPE, World

REFS = [bytes([number]) * 16 for number in range(1, 20)]


@pytest.fixture
def world():
    world = World()
    yield world
    world.check_replay()
    for _ in range(3):
        world.compact()
    world.check_replay()


def receive(world, queue, want=10, **more):
    """What a consumer sees of each message: body, origin, ref, raw, message id."""
    seen = []
    for delivery in world.broker.receive(queue, want, world.now, **more).deliveries():
        stored = world.stored(delivery)
        identity = world.broker.message_id(queue, delivery, stored.head)
        seen.append((stored.body, stored.origin, stored.ref, stored.raw, identity))
    return seen


def stand(world, queue):
    return [row[:4] for row in receive(world, queue, visibility_s=0)]


def code_of(call):
    with pytest.raises(CloudError) as caught:
        call()
    return caught.value.code


def refresh(world, times=4):
    """Compaction and a restart: nothing that a consumer sees may change."""
    for _ in range(times):
        world.compact()
    world.restart()


def test_one_frame_serves_every_target(world):
    queues = [world.queue(name) for name in "abc"]
    targets = [Target(queue, ref, raw=queue.name != "b") for queue, ref in zip(queues, REFS, strict=False)]
    frames = len(world.log.frames)
    notes = [Note(b"body %d" % index, b"origin %d" % index) for index in range(3)]
    result = world.broker.fan_out(targets, notes, world.now)
    assert (result.failed, result.duplicates, result.serials) == ({}, set(), [0, 0, 0])
    assert len(world.log.frames) - frames == 3
    assert set(world.broker.take_awake()) == set(queues)
    for queue, ref in zip(queues, REFS, strict=False):
        seen = receive(world, queue)
        assert [row[:4] for row in seen] == [(note.body, note.origin, ref, queue.name != "b") for note in notes]
        assert len({row[4] for row in seen}) == 3


@pytest.mark.parametrize("attributes", [b"", b"ab"])
def test_frames_of_a_bulk_are_those_made_one_by_one(attributes):
    tos = [codec.FanTarget(7 + at, 0, at, codec.RAW, REFS[at], 5) for at in range(3)]
    bodies, origins = [b"x" * at for at in range(1, 300)], [b"o" * (at % 9) for at in range(1, 300)]
    columns, firsts = codec.fan_columns(tos), [1, 2**40, 511]
    some = [attributes] * len(bodies) if attributes else []
    frames, lengths = codec.fan_frames(columns, firsts, 5, (origins, some, bodies))
    assert list(lengths) == list(map(len, frames))
    for at, (frame, origin, body) in enumerate(zip(frames, origins, bodies, strict=True)):
        parts = (b"", b"", b"", origin, attributes, body)
        assert frame == codec.fan_frame(columns, [first + at for first in firsts], (5, 0), parts)


def test_notes_as_columns_go_one_by_one_where_a_queue_cannot_take_all(world):
    a, b = world.queue("a"), world.queue("b", MaximumMessageSize="1024")
    targets = [Target(a, REFS[0]), Target(b, REFS[1])]
    result = world.broker.fan_out(targets, Run([b"x" * 1025, b"y"], [b"1", b"2"], simple=True), world.now)
    assert {key: error.code for key, error in result.failed.items()} == {(0, 1): "InvalidParameterValue"}
    result = world.broker.fan_out(targets, Run([b"\x00", b"z"], [b"3", b"4"]), world.now)
    assert {key: error.code for key, error in result.failed.items()} == {
        (0, 0): "InvalidMessageContents",
        (0, 1): "InvalidMessageContents",
    }
    assert [row[:2] for row in receive(world, b)] == [(b"y", b"2"), (b"z", b"4")]


def test_deleting_one_copy_leaves_the_others(world):
    a, b = world.queue("a"), world.queue("b")
    world.broker.fan_out([Target(a, REFS[0]), Target(b, REFS[1])], [Note(b"x" * 1500), Note(b"y")], world.now)
    received = world.broker.receive(a, 10, world.now)
    world.broker.delete_many(a, received.handles(), world.now)
    refresh(world)
    assert stand(world, world.broker.find(SCOPE, "b")) == [
        (b"x" * 1500, b"", REFS[1], True),
        (b"y", b"", REFS[1], True),
    ]
    world.broker.delete_queue(world.broker.find(SCOPE, "b"), world.now)
    refresh(world, 6)
    assert len(world.log.frames) <= 1  # the QUEUE frame of a


def test_state_survives_compaction(world):
    a, b, c = world.queue("a"), world.queue("b", DelaySeconds="50"), world.queue("c")
    targets = [Target(queue, ref, raw=False) for queue, ref in zip((a, b, c), REFS, strict=False)]
    world.broker.fan_out(targets, [Note(b"x", b"o")], world.now)
    handles = world.broker.receive(a, 1, world.now, visibility_s=20).handles()
    before = receive(world, c, visibility_s=0)
    refresh(world)
    a, b, c = (world.broker.find(SCOPE, name) for name in "abc")
    assert receive(world, c, visibility_s=0) == before
    assert world.broker.receive(c, 1, world.now).deliveries()[0].count == 3
    assert not world.broker.receive(a, 1, world.now).seqs
    assert not world.broker.receive(b, 1, world.now).seqs
    world.pass_time(50)
    assert [row[:4] for row in receive(world, b)] == [(b"x", b"o", REFS[1], False)]
    assert world.broker.delete_many(a, handles, world.now) == {}
    assert a.rows.live() == 0


@pytest.mark.parametrize("fresh", [False, True], ids=["as it is", "compacted"])
def test_a_moved_copy_keeps_its_target(world, fresh):
    dead = world.queue("dead")
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1})
    a, b = (world.queue(name, RedrivePolicy=policy, VisibilityTimeout="0") for name in "ab")
    world.broker.fan_out([Target(a, REFS[0], raw=False), Target(b, REFS[1])], [Note(b"x", b"o")], world.now)
    first = {queue.name: receive(world, queue)[0] for queue in (a, b)}
    for queue in (b, a):
        assert receive(world, queue) == []
    if fresh:
        refresh(world)
        a, b, dead = (world.broker.find(SCOPE, name) for name in ("a", "b", "dead"))
    seen = receive(world, dead, visibility_s=0)
    assert seen == [first["b"], first["a"]]
    sources = [
        world.broker.source_arn(item) for item in world.broker.receive(dead, 2, world.now, visibility_s=0).deliveries()
    ]
    assert sources == [b.arn, a.arn]
    world.broker.start_move(dead.arn, world.now)
    world.pass_time(1)
    if fresh:
        refresh(world)
        a, b = (world.broker.find(SCOPE, name) for name in "ab")
    for queue in (a, b):
        (again,) = receive(world, queue)
        assert again[:4] == first[queue.name][:4]
        assert again[4] != first[queue.name][4]


def test_a_redriven_message_keeps_its_new_id_when_it_dies_again(world):
    dead = world.queue("dead")
    a = world.queue("a", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}))
    world.broker.send_many(a, [b"x"], world.now)
    for round_ in range(2):
        (seen,) = receive(world, a, visibility_s=0)
        assert receive(world, a) == []
        if round_:
            refresh(world)
            a, dead = world.broker.find(SCOPE, "a"), world.broker.find(SCOPE, "dead")
        assert receive(world, dead, visibility_s=0) == [seen]
        world.broker.start_move(dead.arn, world.now)
        world.pass_time(1)
    (delivery,) = world.broker.receive(a, 1, world.now).deliveries()
    assert (delivery.count, world.broker.source_arn(delivery)) == (1, "")


def test_what_one_target_cannot_take_the_others_get(world):
    small, big, fifo = world.queue("small", MaximumMessageSize="1024"), world.queue("big"), world.queue("f.fifo")
    targets = [Target(small, REFS[0]), Target(fifo, REFS[1]), Target(big, REFS[2])]
    result = world.broker.fan_out(targets, [Note(b"x" * 1025), Note(b"y")], world.now)
    codes = {place: error.code for place, error in result.failed.items()}
    assert codes == {(0, 0): "InvalidParameterValue", (0, 1): "MissingParameter", (1, 1): "MissingParameter"}
    assert [queue.rows.live() for queue in (small, big, fifo)] == [1, 2, 0]
    attributes = message.encode_attributes({"name": Attribute("String", b"v" * 1020)}, {})
    result = world.broker.fan_out(targets[::2], [Note(b"y", attributes=attributes)], world.now)
    assert list(result.failed) == [(0, 0)]
    raw, wrapped = world.queue("raw"), world.queue("wrapped")
    targets = [Target(raw, REFS[3]), Target(wrapped, REFS[4], raw=False)]
    result = world.broker.fan_out(targets, [Note(b"\x00")], world.now)
    assert {place: error.code for place, error in result.failed.items()} == {(0, 0): "InvalidMessageContents"}
    assert (raw.rows.live(), wrapped.rows.live()) == (0, 1)


def test_a_queue_that_is_gone_gets_nothing(world):
    a, gone = world.queue("a"), world.queue("gone")
    world.broker.delete_queue(gone, world.now)
    for note in (Note(b"x"), Note(b"y", group_id="g")):
        result = world.broker.fan_out([Target(gone, REFS[0]), Target(a, REFS[1])], [note], world.now)
        assert {place: error.code for place, error in result.failed.items()} == {(0, 0): "QueueDoesNotExist"}
    assert a.rows.live() == 2


def test_attributes_and_group_come_along(world):
    a = world.queue("a")
    attributes = message.encode_attributes({"color": Attribute("String", b"red")}, {"SenderId": "me"})
    note = Note(b"x", b"o", attributes, group_id="tenant", deduplication_id="d")
    assert world.broker.fan_out([Target(a, REFS[0])], [note], world.now).failed == {}
    (delivery,) = world.broker.receive(a, 1, world.now, visibility_s=0).deliveries()
    stored = world.stored(delivery)
    assert message.decode_attributes(stored.attributes) == ({"color": Attribute("String", b"red")}, {"SenderId": "me"})
    assert stored.head.group == b"tenant"
    assert codec.body_of(world.log.frames[delivery.address]) == b"x"


def test_fifo_targets_order_and_deduplicate_each_for_itself(world):
    a, b = world.queue("a.fifo"), world.queue("b.fifo", ContentBasedDeduplication="true")
    world.broker.send(a, SendEntry(b"x", group_id="g", deduplication_id="d"), world.now)
    note = Note(b"x", group_id="g", deduplication_id="d")
    result = world.broker.fan_out([Target(a, REFS[0]), Target(b, REFS[1])], [note, note], world.now)
    assert result.skipped == {(0, 0), (1, 0), (1, 1)}
    assert (a.rows.live(), b.rows.live()) == (1, 1)
    bare = Note(b"y", group_id="g")
    result = world.broker.fan_out([Target(a, REFS[0]), Target(b, REFS[1])], [bare, bare], world.now)
    assert {place: error.code for place, error in result.failed.items()} == dict.fromkeys(
        [(0, 0), (1, 0)], "InvalidParameterValue"
    )
    refresh(world)
    b = world.broker.find(SCOPE, "b.fifo")
    assert [row[0] for row in receive(world, b)] == [b"x", b"y"]
    assert world.broker.send(b, SendEntry(b"y", group_id="g"), world.now).duplicate


def test_a_ledger_numbers_and_deduplicates_for_all(world):
    ledger = world.broker.create_internal(
        SCOPE, "topic/t.fifo", world.now, world.rand, {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    )
    a, b = world.queue("a.fifo"), world.queue("b")
    targets = [Target(a, REFS[0]), Target(b, REFS[1], raw=False), Target(ledger, ledger=True)]
    notes = [Note(b"one", group_id="g"), Note(b"two", group_id="g"), Note(b"one", group_id="g")]
    result = world.broker.fan_out(targets, notes, world.now)
    assert (result.failed, result.serials, result.duplicates) == ({}, [1, 2, 1], {2})
    assert ledger.rows.live() == 0
    (first, _) = world.broker.receive(b, 10, world.now, visibility_s=0).deliveries()
    assert world.stored(first).serial == 1
    world.broker.purge(a, world.now)
    world.broker.purge(b, world.now)
    for _ in range(3):
        refresh(world, 3)
    ledger = world.broker.find_internal("topic/t.fifo")
    again = world.broker.fan_out([Target(ledger, ledger=True)], [Note(b"two", group_id="h")], world.now)
    assert again.duplicates == {0} and again.serials == [2]
    world.pass_time(300)
    again = world.broker.fan_out([Target(ledger, ledger=True)], [Note(b"two", group_id="h")], world.now)
    assert (again.duplicates, again.serials) == (set(), [3])
    assert world.broker.fan_out([Target(ledger, ledger=True)], [Note(b"two")], world.now).failed[0, 0].code == (
        "MissingParameter"
    )


def test_two_subscriptions_of_one_queue_get_two_copies(world):
    a = world.queue("a")
    targets = [Target(a, REFS[0]), Target(a, REFS[1], raw=False)]
    world.broker.fan_out(targets, [Note(b"1"), Note(b"2")], world.now)
    world.broker.fan_out(targets, [Note(b"3", group_id="g")], world.now)
    refresh(world, 2)
    assert len(receive(world, world.broker.find(SCOPE, "a"))) == 6


def test_more_targets_than_a_frame_holds(world, monkeypatch):
    monkeypatch.setattr(codec, "TARGETS_MAX", 2)
    queues = [world.queue(name) for name in "abcde"]
    targets = [Target(queue, ref) for queue, ref in zip(queues, REFS, strict=False)]
    world.broker.fan_out(targets, [Note(b"1"), Note(b"2")], world.now)
    world.broker.fan_out(targets, [Note(b"3", group_id="g")], world.now)
    refresh(world, 2)
    for name, ref in zip("abcde", REFS, strict=False):
        seen = receive(world, world.broker.find(SCOPE, name))
        assert sorted((row[0], row[2]) for row in seen) == [(b"1", ref), (b"2", ref), (b"3", ref)]


def test_a_fan_out_is_not_stored_on_a_full_disk(world):
    a = world.queue("a")
    world.log.full = True
    for note in (Note(b"x"), Note(b"x", group_id="g")):
        assert code_of(lambda note=note: world.broker.fan_out([Target(a)], [note], world.now)) == "InsufficientStorage"
    assert a.rows.live() == 0


# --- hidden queues, forward, expel


def test_a_hidden_queue_is_seen_by_nobody(world):
    a = world.queue("a")
    policy = json.dumps({"deadLetterTargetArn": a.arn})
    hidden = world.broker.create_internal(SCOPE, "a", world.now, world.rand, {"RedrivePolicy": policy})
    assert world.broker.create_internal(SCOPE, "a", world.now, world.rand) is hidden
    assert world.broker.names(SCOPE) == ["a"]
    assert world.broker.find(SCOPE, "a") is a
    assert world.broker.dead_letter_sources(a) == []
    assert code_of(lambda: world.broker.start_move(a.arn, world.now)) == "InvalidParameterValue"
    world.restart()
    assert world.broker.names(SCOPE) == ["a"]
    assert world.broker.find_internal("a").hidden
    assert world.broker.find_internal("b") is None
    world.broker.delete_internal("a", world.now)
    world.broker.delete_internal("a", world.now)
    assert world.broker.find_internal("a") is None
    assert not world.broker.create_internal(SCOPE, "a", world.now, world.rand).rows.live()


def test_forward_makes_a_new_message_elsewhere(world):
    hidden = world.broker.create_internal(SCOPE, "deliveries", world.now, world.rand)
    dead, fifo = world.queue("dead"), world.queue("f.fifo")
    world.broker.fan_out([Target(hidden, REFS[0], raw=False)], [Note(b"1", b"o"), Note(b"2", b"p")], world.now)
    world.pass_time(5)
    received = world.broker.receive(hidden, 10, world.now)
    first, second = received.handles()
    assert code_of(lambda: world.broker.forward(hidden, [first], fifo, world.now)) == "UnsupportedOperation"
    assert world.broker.forward(hidden, [first, b"x" * 28], dead, world.now)[1].code == "ReceiptHandleIsInvalid"
    assert list(world.broker.forward(hidden, [first], dead, world.now)) == [0]
    assert (hidden.rows.live(), dead.rows.live()) == (1, 1)
    refresh(world)
    hidden, dead = world.broker.find_internal("deliveries"), world.broker.find(SCOPE, "dead")
    (delivery,) = world.broker.receive(dead, 1, world.now, visibility_s=0).deliveries()
    assert world.stored(delivery)[2:6] == (b"1", b"o", REFS[0], False)
    assert (delivery.count, delivery.sent_ms) == (1, round(world.now * 1000))
    assert world.broker.source_arn(delivery) == ""
    world.broker.change_visibility(hidden, [second], [0], world.now)
    assert world.broker.forward(hidden, [second], dead, world.now)[0].code == "MessageNotInflight"


def test_expel_ends_a_message_in_any_state(world):
    a, fifo = world.queue("a"), world.queue("f.fifo")
    world.broker.send_many(a, [b"x"] * 2, world.now)
    world.broker.receive(a, 1, world.now)
    assert [world.broker.expel(a, seq, world.now) for seq in (1, 2, 2)] == [True, True, False]
    for body in (b"1", b"2"):
        world.broker.send(fifo, SendEntry(body, group_id="g", deduplication_id=body.decode()), world.now)
    world.broker.receive(fifo, 1, world.now)
    world.broker.expel(fifo, 1, world.now)
    assert [world.body(address) for address in world.broker.receive(fifo, 1, world.now).addresses] == [b"2"]
    assert world.broker.counters()["damaged"] == 3


# --- the shelf


def test_shelf_keeps_what_was_put_last(world):
    shelf = world.broker.shelf
    shelf.put("topic", "t", {"name": "t"})
    shelf.put("topic", "t", {"name": "u"})
    shelf.change([("sub", "1", b"\0raw"), ("sub", "2", {"n": 2})])
    shelf.change([("sub", "3", {})], [("sub", "1"), ("sub", "none")])
    for _ in range(2):
        refresh(world, 2)
        shelf = world.broker.shelf
        assert shelf.get("topic", "t") == {"name": "u"}
        assert dict(shelf.items("sub")) == {"2": {"n": 2}, "3": {}}
        assert (shelf.get("sub", "1"), dict(shelf.items("none"))) == (None, {})
    world.log.full = True
    assert code_of(lambda: shelf.change([("sub", "4", b"")], [("sub", "2")])) == "InsufficientStorage"
    assert dict(shelf.items("sub")) == {"2": {"n": 2}, "3": {}}
    shelf.change([], [("sub", "2"), ("sub", "3"), ("topic", "t")])
    assert shelf.items("sub") == {}
    world.log.full = False
    refresh(world, 6)
    assert world.log.frames == {}


# --- many entries at once


def test_send_entries_is_one_append(world, monkeypatch):
    queue, fifo = world.queue("a"), world.queue("a.fifo")
    appends = []
    append = world.log.append
    monkeypatch.setattr(
        world.log, "append", lambda frames, **more: appends.append(len(frames)) or append(frames, **more)
    )
    entries = [SendEntry(b"%d" % index, group_id="g" if index % 3 else "", delay_s=index % 2) for index in range(200)]
    entries[7] = SendEntry(b"")
    results = world.broker.send_entries(queue, entries, world.now)
    assert appends == [199]
    assert [index for index, item in enumerate(results) if isinstance(item, CloudError)] == [7]
    assert len({item.message_id for item in results if not isinstance(item, CloudError)}) == 199
    assert list(queue.rows.counts[1:]) == [100, 0, 99]
    again = [SendEntry(b"x", group_id=f"g{index % 5}", deduplication_id=str(index % 50)) for index in range(100)]
    results = world.broker.send_entries(fifo, again, world.now)
    assert appends == [199, 50]
    assert [item.duplicate for item in results] == [False] * 50 + [True] * 50
    assert [item.sequence_number for item in results[:50]] == [item.sequence_number for item in results[50:]]
    assert fifo.rows.live() == 50
    assert code_of(lambda: world.broker.send_entries(queue, [], world.now)) == "InvalidParameterValue"
    assert code_of(lambda: world.broker.send_entries(queue, entries * 6, world.now)) == "InvalidParameterValue"
    big = [SendEntry(b"x" * 1_000_000)] * 5
    assert code_of(lambda: world.broker.send_entries(queue, big, world.now)) == "BatchRequestTooLong"
    world.log.full = True
    assert code_of(lambda: world.broker.send_entries(queue, entries, world.now)) == "InsufficientStorage"


@pytest.mark.parametrize("sent", ["alone", "fanned out"])
def test_a_moved_message_survives_when_its_target_is_rewritten_behind_the_move(world, sent):
    """The replay opens a queue early when its QUEUE frame lies behind frames that need it: moves, too."""
    dead = world.queue("dead")
    a = world.queue("a", RedrivePolicy=json.dumps({"deadLetterTargetArn": dead.arn}))
    world.broker.tag_queue(a, {"filler": "x" * 200}, world.now)
    world.broker.tag_queue(dead, {"filler": "x" * 200, "more": "y" * 200, "still more": "z" * 250}, world.now)
    if sent == "alone":
        world.broker.send_many(dead, [b"x"], world.now)
    else:
        world.broker.fan_out([Target(dead, REFS[0])], [Note(b"x")], world.now)
    world.broker.start_move(dead.arn, world.now, destination_arn=a.arn)
    world.broker.tick(world.now)
    assert (a.rows.live(), dead.rows.live()) == (1, 0)
    for _ in range(4):
        world.compact()
        world.check_replay()
    world.restart()
    assert [row[0] for row in receive(world, world.broker.find(SCOPE, "a"))] == [b"x"]
