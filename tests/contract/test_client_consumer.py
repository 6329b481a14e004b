"""Consumers against a message broker in this process, and against one that is told what to answer."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from minicloud import AsyncClient
from minicloud.base import errors
from minicloud.client.consumer import AsyncConsumer, AsyncDelivery
from minicloud.client.queue_handle import AsyncQueueHandle
from minicloud.client.queues import AsyncQueues
from minicloud.wire import queue_pb2
from tests.contract.broker_world import broker_world
from tests.contract.fake_cloud import Call, FakeCloud
from tests.turns import turn

pytestmark = pytest.mark.asyncio
SOON_S = 60


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    async with broker_world() as world, AsyncClient(world.address) as made:
        yield made


async def filled(client: AsyncClient, count: int, name: str = "jobs") -> AsyncQueueHandle:
    await client.queues.create(name)
    await client.queues.send_batch(name, [f"{number}" for number in range(count)])
    return client.queues.bound(name)


async def counts(queue: AsyncQueueHandle) -> tuple[int, int]:
    """Visible and invisible messages."""
    attributes = (await AsyncQueues(queue._broker).get(queue.queue)).attributes
    return (
        int(attributes["ApproximateNumberOfMessages"]),
        int(attributes["ApproximateNumberOfMessagesNotVisible"]),
    )


async def test_a_handler_gets_every_message_once(client: AsyncClient) -> None:
    queue = await filled(client, 500)
    seen: Counter[str] = Counter()
    busy = most = 0
    consumer = queue.consumer()

    async def handle(message: AsyncDelivery) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        await turn()
        seen[message.text] += 1
        busy -= 1
        if seen.total() == 500:
            await consumer.stop()

    await asyncio.wait_for(consumer.run(handle, concurrency=7), SOON_S)
    assert seen == Counter(f"{number}" for number in range(500))
    assert 2 <= most <= 7
    assert (consumer.handled, consumer.failures) == (500, 0)
    assert await counts(queue) == (0, 0)  # also the message whose handler stopped it all


async def test_iterating_and_saying_done(client: AsyncClient) -> None:
    queue = await filled(client, 40)
    seen = []
    async with queue.consumer(wait_s=1) as consumer:
        async for message in consumer:
            await message.done()
            await message.done()  # once is enough
            seen.append(message.text)
            if len(seen) == 40:
                await consumer.stop()
    assert sorted(seen, key=int) == [f"{number}" for number in range(40)]
    assert await counts(queue) == (0, 0)


async def test_what_was_not_handled_goes_back(client: AsyncClient) -> None:
    queue = await filled(client, 100)
    async with queue.consumer(prefetch=64) as consumer:
        first = await anext(consumer)
        await first.done()
        second = await anext(consumer)
        assert not second.lost
    assert await counts(queue) == (99, 0)
    with pytest.raises(StopAsyncIteration):
        await anext(consumer)


async def test_a_closed_client_closes_its_consumers() -> None:
    async with broker_world() as world, AsyncClient(world.address) as other:
        queue = await filled(other, 30)
        async with AsyncClient(world.address) as client:
            async for message in client.queues.consumer("jobs"):
                await message.done()
                break
        assert await counts(queue) == (29, 0)


async def test_a_failed_message_comes_again(client: AsyncClient) -> None:
    queue = await filled(client, 20)
    tries: Counter[str] = Counter()
    consumer = queue.consumer(backoff_s=(0, 0))

    async def handle(message: AsyncDelivery) -> None:
        tries[message.text] += 1
        assert message.receive_count == tries[message.text]
        if int(message.text) % 2 and tries[message.text] < 3:
            raise ValueError("not yet")
        if consumer.handled == 19:
            await consumer.stop()

    await asyncio.wait_for(consumer.run(handle), SOON_S)
    assert set(tries.values()) == {1, 3} and consumer.failures == 20
    assert await counts(queue) == (0, 0)


async def test_the_back_off_doubles_with_each_receive(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    queue = await filled(client, 1)
    asked: list[int] = []
    change = AsyncQueueHandle._change

    async def spy(self: AsyncQueueHandle, handles: Any, timeout_s: int) -> Any:
        asked.append(timeout_s)
        return await change(self, handles, 0)  # as if so much time had passed

    monkeypatch.setattr(AsyncQueueHandle, "_change", spy)
    async with queue.consumer(backoff_s=(1.5, 5)) as consumer:
        for _ in range(4):
            message = await anext(consumer)
            with pytest.raises(ValueError):
                async with message:
                    raise ValueError
        last = await anext(consumer)
        await last.retry(delay_s=77)
    assert asked[:5] == [2, 3, 5, 5, 77]  # it came again at once, so the end gave it back too


async def test_a_plain_function_runs_in_a_thread(client: AsyncClient) -> None:
    queue = await filled(client, 5)
    threads = []
    consumer = queue.consumer(wait_s=1)

    def handle(message: AsyncDelivery) -> None:
        threads.append((message.text, threading.current_thread()))
        if len(threads) == 5:
            asyncio.run_coroutine_threadsafe(consumer.stop(), loop)

    loop = asyncio.get_running_loop()
    await asyncio.wait_for(consumer.run(handle), SOON_S)
    assert len(threads) == 5 and threading.current_thread() not in {thread for _, thread in threads}


async def test_a_cancelled_run_gives_back_what_was_being_handled(client: AsyncClient) -> None:
    queue = await filled(client, 30)
    begun = asyncio.Event()

    async def handle(message: AsyncDelivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.ensure_future(queue.consumer().run(handle, concurrency=3))
    await asyncio.wait_for(begun.wait(), SOON_S)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await counts(queue) == (30, 0)


async def test_a_close_waits_for_handlers_only_so_long(client: AsyncClient) -> None:
    queue = await filled(client, 30)
    begun = asyncio.Event()

    async def handle(message: AsyncDelivery) -> None:
        begun.set()
        await asyncio.Event().wait()

    consumer = queue.consumer(grace_s=0)
    running = asyncio.ensure_future(consumer.run(handle, concurrency=3))
    await asyncio.wait_for(begun.wait(), SOON_S)
    await asyncio.wait_for(consumer.close(), SOON_S)
    await asyncio.gather(running, return_exceptions=True)
    assert await counts(queue) == (30, 0)


async def test_a_queue_that_is_not_there_ends_it(client: AsyncClient) -> None:
    async def handle(message: AsyncDelivery) -> None:
        raise AssertionError

    with pytest.raises(errors.NotFound):
        await asyncio.wait_for(client.queues.consumer("nowhere").run(handle), SOON_S)
    async with client.queues.consumer("nowhere") as consumer:
        with pytest.raises(errors.NotFound):
            await anext(consumer)


async def named(client: AsyncClient, name: str) -> AsyncQueueHandle:
    fifo = {"FifoQueue": True, "ContentBasedDeduplication": True} if name.endswith(".fifo") else {}
    await client.queues.create(name, fifo)
    return client.queues.bound(name)


async def produce(queue: AsyncQueueHandle, total: int) -> None:
    """In seven groups."""
    for start in range(0, total, 20):
        sends = (queue.send(f"{n % 7} {n}", group_id=f"g{n % 7}") for n in range(start, start + 20))
        await asyncio.gather(*sends)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["jobs", "steps.fifo"])
async def test_consumers_that_come_and_go_handle_each_message_once(client: AsyncClient, name: str, seed: int) -> None:
    """Nothing crashes here, and handlers are quick, so a message that is done twice is a fault.

    A poll that is cancelled just while it is answered hides its messages for `visibility_s`, seldom.
    """
    rand = random.Random(seed)
    queue, total = await named(client, name), 400
    done: dict[str, list[int]] = defaultdict(list)
    running: set[AsyncConsumer] = set()

    async def handle(consumer: AsyncConsumer, message: AsyncDelivery) -> None:
        await turn()
        if rand.random() < 0.1:
            raise ValueError("by chance")
        group, _, number = message.text.partition(" ")
        done[group].append(int(number))
        if rand.random() < 0.03:
            await consumer.stop()
        if sum(map(len, done.values())) == total:
            for each in running:
                await each.stop()

    async def consume() -> None:
        while sum(map(len, done.values())) < total:
            consumer = queue.consumer(prefetch=rand.randint(1, 60), backoff_s=(0, 0), visibility_s=10)
            running.add(consumer)
            await consumer.run(partial(handle, consumer), concurrency=rand.randint(1, 9))
            running.remove(consumer)

    async with asyncio.timeout(90):
        await asyncio.gather(produce(queue, total), *(consume() for _ in range(3)))
    assert sorted(number for numbers in done.values() for number in numbers) == list(range(total))
    if queue.fifo:
        assert all(numbers == sorted(numbers) for numbers in done.values())
    assert await counts(queue) == (0, 0)


# ---------------------------------------------------------------- FIFO


async def steps(client: AsyncClient, groups: int, each: int) -> AsyncQueueHandle:
    await client.queues.create("steps.fifo", {"FifoQueue": True, "ContentBasedDeduplication": True})
    queue = client.queues.bound("steps.fifo")
    for number in range(each):
        await asyncio.gather(*(queue.send(f"{group} {number}", group_id=f"g{group}") for group in range(groups)))
    return queue


async def test_each_group_keeps_its_order_and_groups_run_side_by_side(client: AsyncClient) -> None:
    queue = await steps(client, groups=6, each=15)
    seen: dict[str, list[int]] = defaultdict(list)
    busy: Counter[str] = Counter()
    side_by_side = 0
    consumer = queue.consumer()

    async def handle(message: AsyncDelivery) -> None:
        nonlocal side_by_side
        group, _, number = message.text.partition(" ")
        busy[group] += 1
        assert busy[group] == 1, "two of a group at once"
        side_by_side = max(side_by_side, busy.total())
        await turn()
        seen[group].append(int(number))
        busy[group] -= 1
        if sum(map(len, seen.values())) == 90:
            await consumer.stop()

    await asyncio.wait_for(consumer.run(handle, concurrency=20), SOON_S)
    assert dict(seen) == {f"{group}": list(range(15)) for group in range(6)}
    assert side_by_side > 1
    assert await counts(queue) == (0, 0)


async def test_a_failure_holds_its_group_and_no_other(client: AsyncClient) -> None:
    queue = await steps(client, groups=3, each=10)
    seen: dict[str, list[int]] = defaultdict(list)
    failed = 0
    consumer = queue.consumer(backoff_s=(0, 0))

    async def handle(message: AsyncDelivery) -> None:
        nonlocal failed
        group, _, number = message.text.partition(" ")
        if group == "1" and number == "4" and failed < 3:
            failed += 1
            raise ValueError("again")
        seen[group].append(int(number))
        if sum(map(len, seen.values())) == 30:
            await consumer.stop()

    await asyncio.wait_for(consumer.run(handle, concurrency=5), SOON_S)
    assert dict(seen) == {f"{group}": list(range(10)) for group in range(3)}
    assert failed == 3 and await counts(queue) == (0, 0)


async def test_failures_of_all_that_fills_the_buffer_make_room(client: AsyncClient) -> None:
    queue = await steps(client, groups=2, each=20)
    async with queue.consumer(prefetch=8, backoff_s=(0, 0)) as consumer, asyncio.timeout(SOON_S):
        for _ in range(5):
            both = [await anext(consumer), await anext(consumer)]
            waiting = asyncio.ensure_future(anext(consumer))
            await turn(20)  # the fetchers look, too, and find no room: the rest of both groups is in it
            await asyncio.gather(*(message.retry() for message in both))
            message = await waiting
            assert message.text in ("0 0", "1 0")
            await message.retry()


# ---------------------------------------------------------------- a broker that does as it is told


def handles(count: int, first: int = 0) -> bytes:
    return b"".join(number.to_bytes(28, "big") for number in range(first, first + count))


class Told:
    """Hands out `count` messages once; then there is nothing."""

    def __init__(self, cloud: FakeCloud, count: int) -> None:
        cloud.serve_broker()
        self.cloud = cloud
        self.left = count
        self.extended = threading.Event()
        self.refused: set[int] = set()
        cloud.on("QueueService/ReceiveMessages", self.receive)
        cloud.on("QueueService/ChangeVisibility", self.change)
        cloud.on("QueueService/DeleteMessages", lambda request, call: queue_pb2.BatchReply())

    async def receive(self, request: Any, call: Call) -> queue_pb2.ReceiveMessagesReply:
        if not self.left:
            await asyncio.Event().wait()
        count, self.left = self.left, 0
        return queue_pb2.ReceiveMessagesReply(
            bodies=[b"x"] * count,
            receipt_handles=handles(count),
            message_ids=bytes(16 * count),
            receive_counts=[1] * count,
            sent_ms=[1] * count,
            first_received_ms=[1] * count,
        )

    def change(self, request: Any, call: Call) -> queue_pb2.BatchReply:
        if request.timeouts_s[0]:
            self.extended.set()
        raw = request.receipt_handles
        asked = [int.from_bytes(raw[at : at + 28], "big") for at in range(0, len(raw), 28)]
        failed = [index for index, number in enumerate(asked) if number in self.refused]
        return queue_pb2.BatchReply(failed=[queue_pb2.EntryError(index=index, code="gone") for index in failed])

    async def heartbeat(self) -> None:
        self.extended.clear()
        assert await asyncio.to_thread(self.extended.wait, SOON_S)

    def changes(self) -> list[tuple[int, int]]:
        calls = self.cloud.seen("QueueService/ChangeVisibility")
        return [(len(call.request.timeouts_s), call.request.timeouts_s[0]) for call in calls]


async def test_messages_in_hand_and_in_the_buffer_are_kept_invisible(fake_cloud: FakeCloud) -> None:
    told = Told(fake_cloud, 10)
    client = AsyncClient(fake_cloud.address)
    async with client, client.queues.consumer("jobs", visibility_s=1) as consumer:
        message = await anext(consumer)
        await told.heartbeat()
        await told.heartbeat()
        await message.done()
        await told.heartbeat()
        await told.heartbeat()
        assert not message.lost
    changes = told.changes()
    assert changes[:2] == [(10, 1), (10, 1)]
    assert changes[-2:] == [(9, 1), (9, 0)]  # the last heartbeat; the end


async def test_a_message_that_was_lost_is_dropped_or_says_so(fake_cloud: FakeCloud) -> None:
    told = Told(fake_cloud, 3)
    told.refused = {0, 1}
    client = AsyncClient(fake_cloud.address)
    async with client, client.queues.consumer("jobs", visibility_s=1) as consumer:
        first = await anext(consumer)
        await told.heartbeat()
        await told.heartbeat()  # the first has been answered by then
        third = await anext(consumer)
        assert first.lost and not third.lost
        assert third.handle == handles(1, 2)
    assert told.changes()[-1] == (1, 0)


async def test_a_broker_that_is_away_for_long_is_waited_for(
    fake_cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minicloud.client.consumer._AWAY_S", 0.01)
    told = Told(fake_cloud, 1)
    away = 20

    async def receive(request: Any, call: Call) -> Any:
        nonlocal away
        away -= 1
        if away > 0:
            raise errors.Unavailable("restarting")
        return await told.receive(request, call)

    fake_cloud.on("QueueService/ReceiveMessages", receive)
    client = AsyncClient(fake_cloud.address, retry=0)
    async with client, client.queues.consumer("jobs") as consumer:
        assert (await asyncio.wait_for(anext(consumer), SOON_S)).body == b"x"


async def test_deletes_share_calls(fake_cloud: FakeCloud) -> None:
    Told(fake_cloud, 200)
    async with AsyncClient(fake_cloud.address) as client:
        consumer = client.queues.consumer("jobs", prefetch=1000)

        async def handle(message: AsyncDelivery) -> None:
            if consumer.handled == 199:
                await consumer.stop()

        await consumer.run(handle, concurrency=50)
    calls = fake_cloud.seen("QueueService/DeleteMessages")
    gone = b"".join(call.request.receipt_handles for call in calls)
    assert len(gone) == 200 * 28 and len(calls) < 20


@pytest.mark.parametrize(
    "options",
    [
        {"prefetch": 0},
        {"visibility_s": 0},
        {"wait_s": 21},
        {"backoff_s": (5, 1)},
        {"grace_s": -1},
    ],
)
async def test_options_name_their_field(client: AsyncClient, options: Any) -> None:
    with pytest.raises(errors.InvalidParameterValue) as caught:
        client.queues.consumer("jobs", **options)
    assert caught.value.field == next(iter(options))
    with pytest.raises(TypeError):
        AsyncConsumer(client.queues.bound("jobs"), nonsense=1)  # type: ignore[call-arg]
