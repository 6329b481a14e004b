"""A call that raises has changed nothing: the log takes nothing at all, and then it does again."""

from __future__ import annotations

import json

import pytest

from minicloud.base.errors import InsufficientStorage
from minicloud.queue.message import SendEntry
from tests.pure.queue_world import World, picture


@pytest.fixture
def world():
    world = World()
    yield world
    world.check_replay()


@pytest.fixture
def shut(world, monkeypatch):
    """A function that closes the log, or opens it again."""
    append = world.log.append

    def refuse(frames, *, essential=False):
        raise InsufficientStorage

    return lambda closed: monkeypatch.setattr(world.log, "append", refuse if closed else append)


def filled(world, name, groups=("",), spent=4):
    """A queue with nine messages, of which the first were received as often as may be; and its dead-letter queue."""
    fifo = ".fifo" if name.endswith(".fifo") else ""
    dead = world.queue(f"dead{fifo}")
    policy = json.dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 2})
    queue = world.queue(name, RedrivePolicy=policy, VisibilityTimeout="1")
    for number in range(9):
        if number == spent:
            for _ in range(2):
                world.broker.receive(queue, 9, world.now)
                world.pass_time(2)
        token = str(number) if fifo else ""
        entry = SendEntry(b"%d" % number, group_id=groups[number % len(groups)], deduplication_id=token)
        world.broker.send(queue, entry, world.now)
    return queue, dead


@pytest.mark.parametrize(
    ("name", "groups", "spent"),
    [("jobs", ("",), 0), ("jobs", ("",), 4), ("jobs", ("a", "b", ""), 4), ("o.fifo", ("a",), 0), ("o.fifo", ("a",), 4),
     ("o.fifo", ("a", "b", "c"), 4)],
)  # fmt: skip
def test_a_receive_that_cannot_be_written_takes_nothing(world, shut, name, groups, spent):
    queue, dead = filled(world, name, groups, spent)
    before = picture(world.broker)
    shut(True)
    for want in (1, 9):
        with pytest.raises(InsufficientStorage):
            world.broker.receive(queue, want, world.now)
    assert picture(world.broker) == before
    shut(False)
    got = world.broker.receive(queue, 9, world.now, visibility_s=600).seqs
    assert sorted(got) == list(range(spent + 1, 10)) and dead.rows.live() == spent
    if queue.settings.fifo:
        of_first = [seq for seq in got if (seq - 1) % len(groups) == 0]
        assert of_first == sorted(of_first)


def test_a_move_that_cannot_be_written_goes_on_later(world, shut):
    queue, dead = filled(world, "jobs")
    world.broker.receive(queue, 9, world.now)
    assert dead.rows.live() == 4
    task = world.broker.start_move(dead.arn, world.now)
    shut(True)
    for call in (lambda: world.broker.tick(world.now), lambda: world.broker.cancel_move(task.number, world.now)):
        with pytest.raises(InsufficientStorage):
            call()
        assert [one.status for one in world.broker.list_moves(dead.arn)] == ["RUNNING"]
        assert dead.rows.live() == 4
    shut(False)
    world.pass_time(1)
    (task,) = world.broker.list_moves(dead.arn)
    assert (task.status, task.moved, dead.rows.live()) == ("COMPLETED", 4, 0)
