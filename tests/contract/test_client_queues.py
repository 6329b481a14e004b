"""The SDK's queues against a message broker in this process, and its manners against a server that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from minicloud import AsyncClient, Client
from minicloud.base import digests, errors
from minicloud.client import models
from minicloud.client.broker import MESSAGES
from minicloud.client.messages import Message, handle_text
from minicloud.client.queues import AsyncQueues
from minicloud.wire import queue_pb2
from tests.contract.broker_world import broker_world
from tests.contract.fake_cloud import Call, FakeCloud
from tests.turns import turn

pytestmark = pytest.mark.asyncio

KINDS = [
    ("text", "String", b"text", "text"),
    (5, "Number", b"5", 5),
    (0.1, "Number", b"0.1", Decimal("0.1")),
    (Decimal("1E+3"), "Number", b"1E+3", Decimal(1000)),
    (b"\x00\xff", "Binary", b"\x00\xff", b"\x00\xff"),
    (("Number.int", 7), "Number.int", b"7", 7),
    (("Binary.png", b"x"), "Binary.png", b"x", b"x"),
    (models.MessageAttribute("String.json", b"{}"), "String.json", b"{}", "{}"),
]


@pytest.fixture
async def queues() -> AsyncIterator[AsyncQueues]:
    async with broker_world() as world, AsyncClient(world.address) as client:
        yield client.queues


# ---------------------------------------------------------------- queues


async def test_a_queue_from_its_making_to_its_end(queues: AsyncQueues) -> None:
    made = await queues.create("jobs", {"VisibilityTimeout": 45}, tags={"team": "a"})
    assert (made.name, made.attributes["VisibilityTimeout"], dict(made.tags)) == ("jobs", "45", {"team": "a"})
    assert made.arn == "arn:aws:sqs:us-east-1:000000000000:jobs" and not made.fifo
    assert (await queues.create("jobs", {"VisibilityTimeout": 45})).arn == made.arn
    with pytest.raises(errors.AlreadyExists) as caught:
        await queues.create("jobs", {"VisibilityTimeout": 46})
    assert (caught.value.code, caught.value.field) == ("QueueNameExists", "VisibilityTimeout")
    changed = await queues.set_attributes(made.url, {"DelaySeconds": 1})
    assert changed.attributes["DelaySeconds"] == "1"
    assert await queues.tag(made.arn, {"b": "c"}) == {"team": "a", "b": "c"}
    assert await queues.untag("jobs", "team", "never") == {"b": "c"}
    assert dict((await queues.get("jobs", ["DelaySeconds"])).attributes) == {"DelaySeconds": "1"}
    await queues.delete("jobs")
    with pytest.raises(errors.NotFound) as gone:
        await queues.get("jobs")
    assert gone.value.code == "QueueDoesNotExist"


async def test_lists_fetch_their_pages(queues: AsyncQueues) -> None:
    for number in range(5):
        await queues.create(f"q-{number}")
    await queues.create("other")
    assert [queue.name async for queue in queues.list("q-", page_size=2)] == [f"q-{number}" for number in range(5)]


async def test_dead_letters_their_sources_and_the_way_back(queues: AsyncQueues) -> None:
    dead = await queues.create("dead")
    policy = {"deadLetterTargetArn": dead.arn, "maxReceiveCount": 1}
    source = await queues.create("source", {"RedrivePolicy": policy, "VisibilityTimeout": 0})
    assert [arn async for arn in queues.dead_letter_sources("dead")] == [source.arn]
    await queues.send("source", "poison")
    assert len(await queues.receive("source")) == 1
    assert await queues.receive("source") == ()
    (letter,) = await queues.receive("dead", visibility_timeout_s=0)
    assert letter.dead_letter_source_arn == source.arn and letter.receive_count == 2
    task = await queues.start_move(dead.arn, max_per_second=500)
    assert (task.status, task.source_arn, task.max_per_second) == ("RUNNING", dead.arn, 500)
    (back,) = await queues.receive("source", wait_s=10)
    assert back.text == "poison"
    (listed,) = await queues.list_moves(dead.arn)
    assert (listed.status, listed.moved) == ("COMPLETED", 1)
    with pytest.raises(errors.CloudError):
        await queues.cancel_move(task.task_handle)


async def test_purge_tells_how_many(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    await queues.send_batch("jobs", ["a"] * 7)
    assert await queues.purge("jobs") == 7
    with pytest.raises(errors.Conflict):
        await queues.purge("jobs")


# ---------------------------------------------------------------- messages


async def test_a_message_has_all_that_it_was_sent_with(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    attributes = {f"a{number}": kind[0] for number, kind in enumerate(KINDS)}
    sent = await queues.send("jobs", "grüße", attributes=attributes, trace_header="Root=1", group_id="g")
    (message,) = await queues.receive("jobs")
    assert (message.text, message.body, message.message_id) == ("grüße", "grüße".encode(), sent.message_id)
    assert len(message.message_id) == 36 and message.message_id[14] == "8"
    assert (message.receive_count, message.group_id, message.trace_header) == (1, "g", "Root=1")
    assert message.sender_id and message.sequence_number == message.dead_letter_source_arn == ""
    assert message.md5_of_body == "fee40dc24d0ad6a90c608052aa4e9e66"
    assert message.md5_of_attributes == digests.md5_of_attributes(message.attributes) != ""
    assert abs(message.sent_time - datetime.now(UTC)) < timedelta(seconds=30)
    assert message.first_received_time >= message.sent_time
    for number, (_, kind, raw, data) in enumerate(KINDS):
        found = message.attributes[f"a{number}"]
        assert (found.type, found.value, found.data) == (kind, raw, data) and type(found.data) is type(data)


async def test_every_field_of_the_wire_can_be_read() -> None:
    """So that a received message cannot fall behind the proto."""
    names = {"bodies": "body", "receipt_handles": "receipt_handle", "message_ids": "message_id"}
    names |= {"receive_counts": "receive_count", "sent_ms": "sent_time", "first_received_ms": "first_received_time"}
    fields = [names.get(field.name, field.name) for field in queue_pb2.ReceiveMessagesReply.DESCRIPTOR.fields]
    fields += [field.name for field in queue_pb2.MessageExtras.DESCRIPTOR.fields]
    assert set(fields) - {"extras"} <= {name for name, item in vars(Message).items() if isinstance(item, property)}


@pytest.mark.parametrize(
    ("body", "options", "field"),
    [
        (5, {}, "body"),
        ("\ud800", {}, "body"),
        ("a", {"attributes": {"n": float("nan")}}, "attributes.n"),
        ("a", {"attributes": {"n": True}}, "attributes.n"),
        ("a", {"attributes": {"n": None}}, "attributes.n"),
        ("", {}, "MessageBody"),
        ("\x00", {}, "MessageBody"),
        ("a", {"delay_s": 901}, "DelaySeconds"),
        ("a", {"attributes": {"aws.x": "y"}}, "MessageAttributes"),
    ],
)
async def test_what_cannot_be_sent_names_its_field(queues: AsyncQueues, body: Any, options: Any, field: str) -> None:
    await queues.create("jobs")
    with pytest.raises(errors.InvalidRequest) as caught:
        await queues.send("jobs", body, **options)
    assert caught.value.field == field
    with pytest.raises(TypeError, match="delay_s"):
        await queues.send("jobs", "a", delay=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("number", [-(1 << 40), -1, 1 << 40])
async def test_numbers_that_are_none_of_the_wires_name_their_field(queues: AsyncQueues, number: int) -> None:
    dead = (await queues.create("jobs")).arn
    calls = {
        "max_messages": lambda: queues.receive("jobs", number),
        "wait_s": lambda: queues.receive("jobs", wait_s=number),
        "visibility_timeout_s": lambda: queues.receive("jobs", visibility_timeout_s=number),
        "delay_s": lambda: queues.send("jobs", "x", delay_s=number),
        "timeout_s": lambda: queues.change_visibility("jobs", b"x" * 28, number),
        "max_per_second": lambda: queues.start_move(dead, max_per_second=number),
    }
    for field, call in calls.items():
        with pytest.raises(errors.InvalidRequest) as caught:
            await call()
        assert number == -1 or caught.value.field == field


async def test_each_of_many_gets_its_own_answer(queues: AsyncQueues) -> None:
    """One that is refused among plain ones: the call that carries them all cannot be all or nothing for its callers."""
    await queues.create("jobs")
    bodies = [f"m{number}" if number != 3 else "\x00" for number in range(6)]
    results = await asyncio.gather(*(queues.send("jobs", body) for body in bodies), return_exceptions=True)
    assert [isinstance(result, errors.InvalidRequest) for result in results] == [number == 3 for number in range(6)]
    assert isinstance(results[3], errors.CloudError) and results[3].code == "InvalidMessageContents"
    got = await queues.receive("jobs", 100)
    by_id = {message.message_id: message.text for message in got}
    sent = {result.message_id: body for result, body in zip(results, bodies, strict=True) if not is_error(result)}
    assert by_id == sent and len(sent) == 5
    assert (await queues.delete_messages("jobs", got)) == ()


def is_error(result: object) -> bool:
    return isinstance(result, BaseException)


async def test_a_batch_answers_for_each_entry(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    batch = ["a", b"b", models.SendEntry("c", attributes={"n": 1}), models.SendEntry("", delay_s=3)]
    results = await queues.send_batch("jobs", batch)
    assert [bool(result.error) for result in results] == [False, False, False, True]
    assert isinstance(results[3].error, errors.MissingParameter) and results[3].message_id == ""
    assert len({result.message_id for result in results}) == 4
    many = await queues.send_batch("jobs", ["x" * 1000] * 5_000)  # more than fits into one call
    assert len({result.message_id for result in many}) == 5_000


async def test_handles_of_any_form_delete_and_wrong_ones_are_refused(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    await queues.send_batch("jobs", ["a", "b", "c"])
    first, second, third = await queues.receive("jobs", 3)
    await asyncio.gather(queues.delete_message("jobs", first), queues.delete_message("jobs", second.handle))
    await queues.delete_message("jobs", third.receipt_handle)
    attributes = (await queues.get("jobs")).attributes
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
    for wrong in ("nonsense", b"x" * 27, handle_text(b"\xff" * 28)):
        with pytest.raises(errors.InvalidRequest) as caught:
            await queues.delete_message("jobs", wrong)
        assert caught.value.code == "ReceiptHandleIsInvalid"
    (failed,) = await queues.delete_messages("jobs", [b"\xff" * 28])
    assert (failed.index, failed.code, failed.sender_fault) == (0, "ReceiptHandleIsInvalid", True)


async def test_visibility_can_be_changed(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    await queues.send_batch("jobs", ["a", "b"])
    got = await queues.receive("jobs", visibility_timeout_s=600)
    assert await queues.receive("jobs") == ()
    await queues.change_visibility("jobs", got[0], 0)
    (again,) = await queues.receive("jobs")
    assert again.message_id == got[0].message_id and again.receive_count == 2
    assert await queues.change_visibilities("jobs", [got[1]], 0) == ()
    await queues.delete_message("jobs", again)
    with pytest.raises(errors.CloudError):
        await queues.change_visibility("jobs", again, 10)


async def test_fifo_messages_arrive_in_the_order_of_their_sends(queues: AsyncQueues) -> None:
    await queues.create("steps.fifo", {"FifoQueue": True})
    jobs = queues.bound("steps.fifo")
    sends = [jobs.send(f"{number}", group_id="g", deduplication_id=f"d{number}") for number in range(200)]
    results = await asyncio.gather(*sends)
    numbers = [int(result.sequence_number) for result in results]
    assert numbers == sorted(numbers) and len(set(numbers)) == 200
    again = await jobs.send("other", group_id="g", deduplication_id="d7")
    assert again.message_id == results[7].message_id
    got = await jobs.receive(1000)
    assert [message.text for message in got] == [str(number) for number in range(len(got))]
    assert got[0].group_id == "g" and got[0].deduplication_id == "d0"
    with pytest.raises(errors.MissingParameter):
        await jobs.send("no group")


async def test_a_long_poll_hears_of_a_send(queues: AsyncQueues) -> None:
    await queues.create("jobs")
    poll = asyncio.ensure_future(queues.receive("jobs", wait_s=20))
    await turn()
    await queues.send("jobs", "here")
    (message,) = await asyncio.wait_for(poll, 60)
    assert message.text == "here"


async def test_the_sync_twin_does_the_same() -> None:
    def work(address: str) -> None:
        with Client(address) as client:
            queue = client.queues.create("jobs")
            handle = client.queues.bound(queue.name)
            assert handle.send("a").message_id
            client.queues.send("jobs", "b", attributes={"n": 1})
            seen = []
            with handle.consumer(wait_s=1) as consumer:
                for message in consumer:
                    with message:
                        seen.append((message.text, {name: item.data for name, item in message.attributes.items()}))
                    if len(seen) == 2:
                        break
            assert sorted(seen, key=str) == [("a", {}), ("b", {"n": 1})]
            assert client.queues.get("jobs").attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
            assert [item.name for item in client.queues.list()] == ["jobs"]

    async with broker_world() as world:
        await asyncio.to_thread(work, world.address)


# ---------------------------------------------------------------- the way to the broker


@pytest.fixture
def broker(fake_cloud: FakeCloud) -> FakeCloud:
    fake_cloud.serve_broker()
    return fake_cloud


def bulk(request: Any, call: Call) -> queue_pb2.SendBulkReply:
    return queue_pb2.SendBulkReply(message_ids=bytes(16 * len(request.bodies)))


async def test_the_broker_is_asked_for_once_and_shown_its_ticket(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", bulk)
    async with AsyncClient(broker.address) as client:
        await asyncio.gather(*(client.queues.send(f"q{number}", "a") for number in range(20)))
        await client.with_options(timeout=5).queues.send("q1", "b")
    assert len(broker.seen("MessagingService/Locate")) == 1
    assert {call.metadata["x-minicloud-ticket"] for call in broker.seen("QueueService/SendBulk")} == {"ticket-1"}


async def test_sends_of_the_same_moment_are_one_call(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", bulk)
    async with AsyncClient(broker.address) as client:
        jobs = client.queues.bound("jobs")
        await asyncio.gather(*(jobs.send(f"{number}") for number in range(1_500)))
    sizes = [len(call.request.bodies) for call in broker.seen("QueueService/SendBulk")]
    assert sizes == [1000, 500]


async def test_a_ticket_that_is_not_taken_is_renewed(broker: FakeCloud) -> None:
    tickets = iter(["old", "new"])
    broker.on("MessagingService/Locate", lambda request, call: endpoint(broker, next(tickets)))

    def choosy(request: Any, call: Call) -> queue_pb2.SendBulkReply:
        if call.metadata["x-minicloud-ticket"] == "old":
            raise errors.Unauthenticated("the ticket has expired")
        return bulk(request, call)

    broker.on("QueueService/SendBulk", choosy)
    async with AsyncClient(broker.address) as client:
        await client.queues.send("jobs", "a")
    assert len(broker.seen("QueueService/SendBulk")) == 2


async def test_who_may_not_come_in_hears_it(broker: FakeCloud) -> None:
    def refuse(request: Any, call: Call) -> None:
        raise errors.Unauthenticated("no")

    broker.on("QueueService/SendBulk", refuse)
    async with AsyncClient(broker.address) as client:
        with pytest.raises(errors.Unauthenticated):
            await client.queues.send("jobs", "a")
    assert len(broker.seen("QueueService/SendBulk")) == 2  # with the old ticket and a new one
    broker.on("MessagingService/Locate", refuse)
    async with AsyncClient(broker.address) as client:
        with pytest.raises(errors.Unauthenticated):
            await client.queues.send("jobs", "a")


async def test_a_ticket_is_renewed_before_it_ends(broker: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.on("QueueService/SendBulk", bulk)
    async with AsyncClient(broker.address) as client:
        await client.queues.send("jobs", "a")
        client._transport.place(MESSAGES).renew_at = 0.0
        await client.queues.send("jobs", "b")  # goes on with the old one
        asking = client._transport.place(MESSAGES).asking
        if asking is not None:
            await asking
    assert len(broker.seen("MessagingService/Locate")) == 2


def endpoint(cloud: FakeCloud, ticket: str) -> queue_pb2.BrokerEndpoint:
    return queue_pb2.BrokerEndpoint(address=cloud.address, ticket=ticket, expires_ms=4 * 10**12)


def failing(times: int, then: Callable[[Any, Call], Any], error: Callable[[], errors.CloudError]) -> Any:
    left = [times]

    def answer(request: Any, call: Call) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return then(request, call)

    return answer


async def test_a_broker_that_is_away_is_waited_for_and_looked_for(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", failing(5, bulk, errors.Unavailable))
    async with AsyncClient(broker.address) as client:
        await client.queues.send("jobs", "a")
    assert len(broker.seen("QueueService/SendBulk")) == 6
    assert len(broker.seen("MessagingService/Locate")) == 2


async def test_sends_outlive_a_restart_of_the_broker(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", bulk)
    async with AsyncClient(broker.address) as client:
        jobs = client.queues.bound("jobs")
        await jobs.send("a")
        port = int(broker.address.rpartition(":")[2])
        await asyncio.to_thread(broker.stop)
        waiting = [asyncio.ensure_future(jobs.send("b")) for _ in range(20)]
        await turn()
        await asyncio.to_thread(broker.start, port)
        await asyncio.gather(*waiting)


async def test_waiting_ends_with_its_time(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", failing(10**6, bulk, errors.Throttled))
    async with AsyncClient(broker.address, retry=0.3) as client:
        with pytest.raises(errors.Throttled):
            await client.queues.send("jobs", "a")
    broker.on("MessagingService/Locate", failing(10**6, bulk, errors.Unavailable))
    async with AsyncClient(broker.address, retry=0.3) as client:
        with pytest.raises(errors.Unavailable):
            await client.queues.send("jobs", "a")


async def test_a_disk_that_is_full_is_told_at_once(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", failing(10**6, bulk, errors.InsufficientStorage))
    async with AsyncClient(broker.address) as client:
        with pytest.raises(errors.InsufficientStorage):
            await client.queues.send("jobs", "a")
    assert len(broker.seen("QueueService/SendBulk")) == 1


async def test_a_receive_from_a_fifo_queue_can_be_repeated(broker: FakeCloud) -> None:
    reply = queue_pb2.ReceiveMessagesReply()
    broker.on("QueueService/ReceiveMessages", failing(1, lambda request, call: reply, errors.Unavailable))
    async with AsyncClient(broker.address) as client:
        await client.queues.receive("steps.fifo")
        await client.queues.receive("steps.fifo")
    ids = [call.request.attempt_id for call in broker.seen("QueueService/ReceiveMessages")]
    assert ids[0] == ids[1] != ids[2] and all(ids)


async def test_a_call_that_waits_has_time_for_it(broker: FakeCloud) -> None:
    left: list[float] = []

    def empty(request: Any, call: Call) -> queue_pb2.ReceiveMessagesReply:
        left.append(call.context.time_remaining())
        return queue_pb2.ReceiveMessagesReply()

    broker.on("QueueService/ReceiveMessages", empty)
    async with AsyncClient(broker.address, timeout=5) as client:
        await client.queues.receive("jobs", wait_s=20)
    assert 20 < left[0] <= 25.5


async def test_handles_of_queues_that_were_used_once_are_not_kept_for_ever(broker: FakeCloud) -> None:
    broker.on("QueueService/SendBulk", bulk)
    async with AsyncClient(broker.address) as client:
        for number in range(2_000):
            client.queues.bound(f"q{number}")
        assert len(client.queues._handles) <= 1_024
