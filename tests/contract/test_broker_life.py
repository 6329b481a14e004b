"""The broker between its clock and its disk: long polls, callers that leave, disks that are full, slow, gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from minicloud.base.errors import (
    CloudError,
    InsufficientStorage,
    Internal,
    LimitExceeded,
    NotFound,
    Unavailable,
)
from minicloud.queue import limits
from minicloud.shell.clock import VirtualClock
from minicloud.sim.log import MemoryLog
from minicloud.wire import queue_pb2 as wire
from tests.contract.broker_world import World, broker_world
from tests.contract.test_broker import make, receive, refusal, send
from tests.machine_time import within
from tests.turns import until


class Disk(MemoryLog):
    """A log that can be slow (`gate`), and lose frames (`lost`)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.lost: set[bytes] = set()

    async def flushed(self) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
            await super().flushed()
        finally:
            self.waiting -= 1

    def read(self, address: int, start: int, length: int) -> bytes:
        frame = super().read(address, start, length)
        if any(body in frame for body in self.lost):
            raise Internal("a frame is damaged")
        return frame


@pytest.fixture
async def disk() -> Disk:
    return Disk()


@pytest.fixture
async def world(disk: Disk) -> AsyncIterator[World]:
    async with broker_world(log=disk) as made:
        await make(made)
        yield made


def poll(world: World, count: int = 1, wait_s: int = 20, queue: str = "jobs") -> Any:
    return world.queues.ReceiveMessages(wire.ReceiveMessagesRequest(queue=queue, max_messages=count, wait_s=wait_s))


async def polls(world: World, number: int, **more: Any) -> list[Any]:
    """So many long polls, all asleep, in order."""
    made = []
    for _ in range(number):
        asleep = len(world.broker.service.waiters)
        made.append(asyncio.ensure_future(poll(world, **more)))
        await until(lambda before=asleep: len(world.broker.service.waiters) == before + 1)
    return made


# ---------------------------------------------------------------- long polls


async def test_a_sleeping_receive_wakes_at_once(world: World) -> None:
    (asleep,) = await polls(world, 1)
    with within(0.5):
        await send(world, b"a")
        assert list((await asleep).bodies) == [b"a"]


async def test_one_message_wakes_the_one_that_slept_longest(world: World) -> None:
    first, second, third = await polls(world, 3)
    await send(world, b"1")
    assert list((await first).bodies) == [b"1"]
    assert len(world.broker.service.waiters) == 2 and not second.done()
    await send(world, b"2", b"3")
    assert [list((await one).bodies) for one in (second, third)] == [[b"2"], [b"3"]]


async def test_a_sleeper_takes_all_that_it_asked_for_and_leaves_the_rest(world: World) -> None:
    asleep = await polls(world, 3, count=10)
    await send(world, *[b"x"] * 15)
    assert [len((await one).bodies) for one in asleep[:2]] == [10, 5]
    assert not asleep[2].done()
    asleep[2].cancel()


async def test_a_sleeper_whose_caller_left_takes_nothing(world: World) -> None:
    gone, next_one = await polls(world, 2)
    gone.cancel()
    await until(lambda: len(world.broker.service.waiters) == 1)
    await send(world, b"a")
    got = await next_one
    assert list(got.bodies) == [b"a"] and list(got.receive_counts) == [1]


async def test_what_was_taken_for_a_caller_that_left_comes_back_at_once(world: World, disk: Disk) -> None:
    await send(world, b"a")
    disk.gate.clear()
    gone = asyncio.ensure_future(poll(world))
    await until(lambda: disk.waiting)
    gone.cancel()
    await until(lambda: not disk.waiting)
    disk.gate.set()
    got = await receive(world)
    assert list(got.bodies) == [b"a"] and list(got.receive_counts) == [2]


async def test_sleepers_of_a_deleted_queue_are_told(world: World) -> None:
    asleep = await polls(world, 2)
    await world.queues.DeleteQueue(wire.DeleteQueueRequest(queue="jobs"))
    for one in asleep:
        error = await refusal(one)
        assert isinstance(error, NotFound) and error.code == "QueueDoesNotExist"


async def test_a_sleeper_gives_up_when_its_time_is_over() -> None:
    clock = VirtualClock()
    async with broker_world(clock=clock) as world:
        await make(world, ReceiveMessageWaitTimeSeconds="20")
        asleep = asyncio.ensure_future(world.queues.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs")))
        await until(lambda: len(world.broker.service.waiters))
        await clock.advance(19.9)
        assert len(world.broker.service.waiters) == 1
        await clock.advance(0.2)
        assert not (await asleep).bodies


@pytest.mark.parametrize(("attributes", "after"), [({"DelaySeconds": "9"}, 9.0), ({"VisibilityTimeout": "9"}, 9.0)])
async def test_time_wakes_sleepers_too(attributes: dict[str, str], after: float) -> None:
    clock = VirtualClock()
    async with broker_world(clock=clock) as world:
        await make(world, **attributes)
        await send(world, b"a")
        assert len((await receive(world)).bodies) == ("VisibilityTimeout" in attributes)
        (asleep,) = await polls(world, 1)
        await clock.advance(after - 0.1)
        assert len(world.broker.service.waiters) == 1
        await clock.advance(0.2)
        assert list((await asleep).bodies) == [b"a"]


async def test_a_group_that_is_free_again_wakes_a_sleeper(world: World) -> None:
    await make(world, "orders.fifo", ContentBasedDeduplication="true")
    entries = [wire.SendEntry(body=body, group_id="g") for body in (b"1", b"2")]
    await world.queues.SendMessages(wire.SendMessagesRequest(queue="orders.fifo", entries=entries))
    one = await receive(world, 1, queue="orders.fifo")
    (asleep,) = await polls(world, 1, queue="orders.fifo")
    await world.queues.DeleteMessages(
        wire.DeleteMessagesRequest(queue="orders.fifo", receipt_handles=one.receipt_handles)
    )
    assert list((await asleep).bodies) == [b"2"]


async def test_at_the_limit_of_messages_in_flight(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IN_FLIGHT_MAX", 2)
    await send(world, b"1", b"2", b"3")
    got = await receive(world)
    assert len(got.bodies) == 2
    error = await refusal(receive(world))
    assert isinstance(error, LimitExceeded) and error.code == "OverLimit"
    (asleep,) = await polls(world, 1)
    await world.queues.DeleteMessages(
        wire.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles[:28])
    )
    assert list((await asleep).bodies) == [b"3"]


async def test_a_send_wakes_one_of_a_thousand_sleepers(world: World) -> None:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(world.broker_address, options=options) for _ in range(2)]
    service, stubs = world.broker.service, [world.over(channel) for channel in channels]
    asleep = [asyncio.ensure_future(_wait(stubs[index % 2])) for index in range(1_000)]
    await until(lambda: len(service.waiters) == 1_000)
    spent = []
    for number in range(5):
        cpu = time.process_time()
        await send(world, b"a")
        spent.append(time.process_time() - cpu)
        assert len(service.waiters) == 999 - number
    assert min(spent) < 0.1
    for one in asleep:
        one.cancel()
    await until(lambda: not len(service.waiters))
    for channel in channels:
        await channel.close()


async def _wait(stub: Any) -> Any:
    return await stub.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs", wait_s=20))


# ---------------------------------------------------------------- the disk


async def test_nothing_is_confirmed_before_it_is_on_disk(world: World, disk: Disk) -> None:
    disk.gate.clear()
    sending = asyncio.ensure_future(send(world, b"a"))
    await until(lambda: disk.waiting)
    receiving = asyncio.ensure_future(receive(world))
    await until(lambda: disk.waiting == 2)
    assert not sending.done() and not receiving.done()
    disk.gate.set()
    await sending
    assert list((await receiving).bodies) == [b"a"]


async def test_a_full_disk_refuses_sends_and_nothing_else(world: World, disk: Disk) -> None:
    await send(world, b"a")
    disk.full = True
    request = wire.SendMessagesRequest(queue="jobs", entries=[wire.SendEntry(body=b"c")])
    for call in (send(world, b"b"), world.queues.SendMessages(request)):
        assert isinstance(await refusal(call), InsufficientStorage)
    got = await receive(world)
    assert list(got.bodies) == [b"a"]
    gone = wire.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles)
    assert not (await world.queues.DeleteMessages(gone)).failed
    disk.full = False
    await send(world, b"d")
    assert list((await receive(world)).bodies) == [b"d"]


async def test_a_step_of_time_that_fails_is_tried_again_a_second_later(monkeypatch: pytest.MonkeyPatch) -> None:
    log, clock = MemoryLog(), VirtualClock()
    async with broker_world(log=log, clock=clock) as world:
        dead = await make(world, "dead")
        await make(world, RedrivePolicy=f'{{"deadLetterTargetArn":"{dead.arn}"}}')
        await send(world, *[b"x"] * 10, queue="dead")
        await world.queues.StartMove(wire.StartMoveRequest(source_arn=dead.arn, destination_arn=dead.arn[:-4] + "jobs"))
        append, tries = log.append, 0

        def refuse(frames: list[bytes], *, essential: bool = False) -> list[int]:
            nonlocal tries
            tries += 1
            assert tries < 100, "it is tried again at once, for ever"
            raise InsufficientStorage

        monkeypatch.setattr(log, "append", refuse)
        await clock.advance(10)
        assert 5 <= tries <= 11
        monkeypatch.setattr(log, "append", append)
        await clock.advance(2)
        assert len((await receive(world)).bodies) == 10


async def test_messages_that_the_disk_lost_leave_their_queue(world: World, disk: Disk) -> None:
    await send(world, b"good 1", b"rotten 1", b"good 2", b"rotten 2")
    disk.lost = {b"rotten"}
    got = await receive(world)
    assert list(got.bodies) == [b"good 1", b"good 2"]
    assert len(got.message_ids) == 32 and len(got.receipt_handles) == 56 and len(got.sent_ms) == 2
    gone = wire.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles)
    assert not (await world.queues.DeleteMessages(gone)).failed
    await send(world, *[b"rotten"] * 30)
    assert not (await receive(world)).bodies
    assert world.broker.service.damaged == 32
    counts = (await world.queues.GetQueue(wire.GetQueueRequest(queue="jobs", attribute_names=["All"]))).attributes
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


@pytest.mark.parametrize("failure", [Internal("EIO"), Unavailable("fenced")])
async def test_a_lost_disk_ends_every_call(world: World, disk: Disk, failure: CloudError) -> None:
    await send(world, b"a")
    (asleep,) = await polls(world, 1, queue=(await make(world, "empty")).name)
    disk.gate.clear()
    sending = asyncio.ensure_future(send(world, b"b"))
    await until(lambda: disk.waiting)
    disk.error = failure
    disk.gate.set()
    assert isinstance(await refusal(sending), type(failure))
    for call in (send(world, b"c"), receive(world), make(world, "more")):
        assert isinstance(await refusal(call), Unavailable)
    await world.broker.service.close()
    assert isinstance(await refusal(asleep), Unavailable)
