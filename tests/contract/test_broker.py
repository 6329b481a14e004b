"""The message broker on a real socket: every rpc, its errors, and whose queues a ticket opens."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    InvalidPageToken,
    InvalidParameterValue,
    InvalidRequest,
    Unauthenticated,
)
from minicloud.queue.service import Ask
from minicloud.rpc import shard_ticket
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.locate import host_of
from minicloud.rpc.ticket import TICKET_METADATA
from minicloud.shell.clock import VirtualClock
from minicloud.sim.log import MemoryLog
from minicloud.store.log import FileLog
from minicloud.wire import queue_pb2 as wire
from minicloud.wire import queue_pb2_grpc
from tests.contract.broker_world import SECRET, World, broker_world, handles

OTHER = "111122223333"
MIB = 1 << 20
SEGMENT_BYTES = 4 * MIB


@pytest.fixture(params=["memory", "disk"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    log = MemoryLog() if request.param == "memory" else FileLog.open(tmp_path, "test", segment_bytes=SEGMENT_BYTES)
    async with broker_world(log=log) as made:
        yield made
    await log.close()


async def refusal(call: Any) -> CloudError:
    with pytest.raises(grpc.RpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def make(world: World, name: str = "jobs", stub: Any = None, **attributes: str) -> wire.Queue:
    if name.endswith(".fifo"):
        attributes["FifoQueue"] = "true"
    made: wire.Queue = await (stub or world.queues).CreateQueue(
        wire.CreateQueueRequest(name=name, attributes=attributes, tags={"team": "blue"})
    )
    return made


async def send(world: World, *bodies: bytes, queue: str = "jobs") -> bytes:
    return bytes((await world.queues.SendBulk(wire.SendBulkRequest(queue=queue, bodies=bodies))).message_ids)


async def receive(world: World, count: int = 10, queue: str = "jobs", **more: Any) -> wire.ReceiveMessagesReply:
    request = wire.ReceiveMessagesRequest(queue=queue, max_messages=count, **more)
    reply: wire.ReceiveMessagesReply = await world.queues.ReceiveMessages(request)
    return reply


# ---------------------------------------------------------------- queues


async def test_a_queue_is_made_described_changed_and_ended(world: World) -> None:
    made = await make(world, VisibilityTimeout="7")
    assert made.arn == "arn:aws:sqs:us-east-1:000000000000:jobs"
    assert made.url == "http://127.0.0.1:4566/000000000000/jobs"
    assert made.attributes["VisibilityTimeout"] == "7"
    assert await make(world, VisibilityTimeout="7") == made
    error = await refusal(make(world, VisibilityTimeout="8"))
    assert isinstance(error, AlreadyExists) and error.code == "QueueNameExists"
    named = await world.queues.GetQueue(wire.GetQueueRequest(queue=made.url))
    assert not named.attributes and named.tags == {"team": "blue"}
    one = await world.queues.GetQueue(wire.GetQueueRequest(queue="jobs", attribute_names=["DelaySeconds"]))
    assert dict(one.attributes) == {"DelaySeconds": "0"}
    changed = wire.SetQueueAttributesRequest(queue=made.arn, attributes={"DelaySeconds": "3"})
    assert (await world.queues.SetQueueAttributes(changed)).attributes["DelaySeconds"] == "3"
    tagged = await world.queues.TagQueue(wire.TagQueueRequest(queue="jobs", tags={"a": "b"}, remove=["team"]))
    assert dict(tagged.tags) == {"a": "b"}
    await world.queues.DeleteQueue(wire.DeleteQueueRequest(queue="jobs"))
    error = await refusal(world.queues.GetQueue(wire.GetQueueRequest(queue="jobs")))
    assert (error.code, error.message) == ("QueueDoesNotExist", "The specified queue does not exist.")
    error = await refusal(make(world))
    assert isinstance(error, Conflict) and error.code == "QueueDeletedRecently"


async def test_queues_are_listed_in_pages_that_belong_to_their_account(world: World) -> None:
    for name in ("a-1", "a-2", "a-3", "b-1"):
        await make(world, name)
    first = await world.queues.ListQueues(wire.ListQueuesRequest(prefix="a", page_size=2))
    assert [queue.name for queue in first.queues] == ["a-1", "a-2"]
    assert first.queues[0].url.endswith("/000000000000/a-1") and first.queues[0].arn.endswith(":a-1")
    token = first.next_page_token
    rest = await world.queues.ListQueues(wire.ListQueuesRequest(prefix="a", page_token=token))
    assert [queue.name for queue in rest.queues] == ["a-3"] and not rest.next_page_token
    for stub, prefix in ((world.queues, "b"), (world.stub(OTHER), "a")):
        error = await refusal(stub.ListQueues(wire.ListQueuesRequest(prefix=prefix, page_token=token)))
        assert isinstance(error, InvalidPageToken)
    error = await refusal(world.queues.ListQueues(wire.ListQueuesRequest(page_size=1001)))
    assert isinstance(error, InvalidParameterValue) and error.field == "page_size"


async def test_purge_empties_a_queue_once_a_minute(world: World) -> None:
    await make(world)
    await send(world, b"a", b"b")
    assert (await world.queues.PurgeQueue(wire.PurgeQueueRequest(queue="jobs"))).purged == 2
    assert not (await receive(world)).bodies
    error = await refusal(world.queues.PurgeQueue(wire.PurgeQueueRequest(queue="jobs")))
    assert isinstance(error, Conflict) and error.code == "PurgeQueueInProgress"


@pytest.mark.parametrize(
    ("name", "attributes", "code"),
    [
        ("", {}, "InvalidParameterValue"),
        ("a b", {}, "InvalidParameterValue"),
        ("x" * 81, {}, "InvalidParameterValue"),
        ("x.fifo", {}, "InvalidParameterValue"),
        ("x", {"Nonsense": "1"}, "InvalidAttributeName"),
        ("x", {"DelaySeconds": "901"}, "InvalidAttributeValue"),
    ],
)
async def test_what_is_no_queue_is_refused(world: World, name: str, attributes: dict[str, str], code: str) -> None:
    error = await refusal(world.queues.CreateQueue(wire.CreateQueueRequest(name=name, attributes=attributes)))
    assert error.code == code
    assert not (await world.queues.ListQueues(wire.ListQueuesRequest())).queues


# ---------------------------------------------------------------- messages


async def test_plain_messages_go_through_in_bulk(world: World) -> None:
    queue = await make(world)
    for reference in (queue.name, queue.url, queue.arn):
        ids = await send(world, b"a", b"b", queue=reference)
        got = await receive(world, queue=reference)
        assert list(got.bodies) == [b"a", b"b"]
        assert got.message_ids == ids and uuid.UUID(bytes=ids[:16]).version == 8
        assert list(got.receive_counts) == [1, 1]
        assert list(got.sent_ms) <= list(got.first_received_ms)
        assert len(set(handles(got))) == 2
        assert not got.extras
        gone = wire.DeleteMessagesRequest(queue=reference, receipt_handles=got.receipt_handles)
        assert not (await world.queues.DeleteMessages(gone)).failed
    counts = (await world.queues.GetQueue(wire.GetQueueRequest(queue="jobs", attribute_names=["All"]))).attributes
    assert counts["ApproximateNumberOfMessages"] == counts["ApproximateNumberOfMessagesNotVisible"] == "0"


async def test_a_thousand_messages_keep_their_columns_together(world: World) -> None:
    await make(world, VisibilityTimeout="0")
    bodies = [f"message {index}".encode() for index in range(700)]
    ids = await send(world, *bodies)
    seen = {}
    for attempt in (1, 2):
        got = await receive(world, 1000)
        parts = [got.message_ids[at : at + 16] for at in range(0, len(got.message_ids), 16)]
        assert len(parts) == len(handles(got)) == 700 and set(got.receive_counts) == {attempt}
        seen = dict(zip(parts, got.bodies, strict=True))
    assert seen == {ids[at * 16 : at * 16 + 16]: body for at, body in enumerate(bodies)}


async def test_everything_that_a_message_can_carry_comes_back(world: World) -> None:
    await make(world, "orders.fifo")
    attributes = {
        "n": wire.MessageAttribute(type="Number", value=b"1"),
        "b": wire.MessageAttribute(type="Binary.gif", value=b"\0\xff"),
    }
    entry = wire.SendEntry(
        body="grün".encode(), attributes=attributes, group_id="g", deduplication_id="d", trace_header="Root=1-2-3"
    )
    request = wire.SendMessagesRequest(queue="orders.fifo", entries=[entry, entry])
    sent = (await world.queues.SendMessages(request)).results
    assert sent[0].message_id == sent[1].message_id and sent[0].sequence_number == sent[1].sequence_number
    got = await receive(world, queue="orders.fifo")
    assert list(got.bodies) == ["grün".encode()]
    assert str(uuid.UUID(bytes=got.message_ids)) == sent[0].message_id
    extras = got.extras[0]
    assert dict(extras.attributes) == attributes
    assert (extras.group_id, extras.deduplication_id, extras.trace_header) == ("g", "d", "Root=1-2-3")
    assert extras.sequence_number == sent[0].sequence_number
    assert extras.sender_id == "000000000000"


async def test_each_entry_of_a_batch_has_a_result_of_its_own(world: World) -> None:
    await make(world)
    bad = wire.MessageAttribute(type="Sound", value=b"x")
    entries = [
        wire.SendEntry(body=b"fine"),
        wire.SendEntry(body=b""),
        wire.SendEntry(body=b"bell \x07"),
        wire.SendEntry(body=b"x", delay_s=901),
        wire.SendEntry(body=b"x", attributes={"a": bad}),
        wire.SendEntry(body=b"x", deduplication_id="only FIFO"),
        wire.SendEntry(body=b"fine too", delay_s=0),
    ]
    results = (await world.queues.SendMessages(wire.SendMessagesRequest(queue="jobs", entries=entries))).results
    assert [result.error.code for result in results] == [
        "", "MissingParameter", "InvalidMessageContents", "InvalidParameterValue", "InvalidParameterValue",
        "InvalidParameterValue", "",
    ]  # fmt: skip
    assert [result.error.index for result in results if result.error.code] == [1, 2, 3, 4, 5]
    assert all(result.error.sender_fault for result in results if result.error.code)
    assert sorted((await receive(world)).bodies) == [b"fine", b"fine too"]


@pytest.mark.parametrize("bodies", [[], [b"ok", b""], [b"ok", b"\x00"], [b"\xff\xfe"], [b"x"] * 1001])
async def test_a_bulk_send_is_all_or_nothing(world: World, bodies: list[bytes]) -> None:
    await make(world)
    error = await refusal(world.queues.SendBulk(wire.SendBulkRequest(queue="jobs", bodies=bodies)))
    assert isinstance(error, InvalidRequest)
    assert not (await receive(world)).bodies


async def test_a_message_larger_than_its_queue_takes(world: World) -> None:
    await make(world, MaximumMessageSize="1024")
    error = await refusal(send(world, b"x" * 1025))
    assert "shorter than 1024 bytes" in error.message
    assert len(await send(world, b"x" * 1024)) == 16


async def test_big_messages_come_in_several_answers(world: World) -> None:
    await make(world)
    for _ in range(5):
        await send(world, b"x" * MIB)
    counts = []
    while (got := await receive(world)).bodies:
        assert set(got.receive_counts) == {1}
        counts.append(len(got.bodies))
    assert sum(counts) == 5 and max(counts) < 4


async def test_handles_that_are_not_good(world: World) -> None:
    await make(world)
    await make(world, "other")
    await send(world, b"a", b"b")
    got = await receive(world)
    good, foreign = handles(got)[0], b"\1" * 28
    request = wire.DeleteMessagesRequest(queue="jobs", receipt_handles=good + foreign)
    (failed,) = (await world.queues.DeleteMessages(request)).failed
    assert (failed.index, failed.code, failed.sender_fault) == (1, "ReceiptHandleIsInvalid", True)
    elsewhere = wire.DeleteMessagesRequest(queue="other", receipt_handles=good)
    (failed,) = (await world.queues.DeleteMessages(elsewhere)).failed
    assert failed.code == "ReceiptHandleIsInvalid"
    many = good * 1001
    for broken, code in (
        (b"", "EmptyBatchRequest"),
        (b"short", "InvalidParameterValue"),
        (many, "InvalidParameterValue"),
    ):
        error = await refusal(
            world.queues.DeleteMessages(wire.DeleteMessagesRequest(queue="jobs", receipt_handles=broken))
        )
        assert error.code == code


async def test_visibility_is_changed_one_by_one(world: World) -> None:
    await make(world)
    await send(world, b"a", b"b", b"c")
    got = await receive(world, visibility_timeout_s=600)
    request = wire.ChangeVisibilityRequest(
        queue="jobs", receipt_handles=got.receipt_handles, timeouts_s=[0, 43_201, 60]
    )
    (failed,) = (await world.queues.ChangeVisibility(request)).failed
    assert (failed.index, failed.code) == (1, "InvalidParameterValue")
    again = await receive(world)
    assert list(again.bodies) == [b"a"] and list(again.receive_counts) == [2]
    request.timeouts_s.pop()
    error = await refusal(world.queues.ChangeVisibility(request))
    assert error.field == "timeouts_s"


@pytest.mark.parametrize(
    "more",
    [
        {"max_messages": 0},
        {"max_messages": 1001},
        {"visibility_timeout_s": -1},
        {"wait_s": 21},
        {"wait_s": -1},
        {"attempt_id": "x"},
    ],
)
async def test_receives_that_can_never_succeed(world: World, more: dict[str, Any]) -> None:
    await make(world)
    error = await refusal(world.queues.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs", **more)))
    assert isinstance(error, InvalidParameterValue)


async def test_a_fifo_receive_whose_answer_was_lost_is_repeated(world: World) -> None:
    await make(world, "orders.fifo", ContentBasedDeduplication="true")
    entries = [wire.SendEntry(body=body, group_id="g") for body in (b"1", b"2")]
    await world.queues.SendMessages(wire.SendMessagesRequest(queue="orders.fifo", entries=entries))
    first = await receive(world, 1, queue="orders.fifo", attempt_id="a")
    assert await receive(world, 1, queue="orders.fifo", attempt_id="a") == first
    assert not (await receive(world, 1, queue="orders.fifo", attempt_id="b")).bodies


async def test_what_a_repeated_receive_was_given_is_not_taken_back_for_the_first() -> None:
    """A slow disk: the first caller gives up, asks again, and both answers come from one sync."""
    clock = VirtualClock(time.time())
    async with broker_world(clock=clock) as world:
        await make(world, "orders.fifo", ContentBasedDeduplication="true")
        entries = [wire.SendEntry(body=b"1", group_id="g")]
        await world.queues.SendMessages(wire.SendMessagesRequest(queue="orders.fifo", entries=entries))
        service = world.broker.service
        queue = service.core.find(Scope("000000000000", "us-east-1"), "orders.fifo")
        first = service.receive_now(queue, Ask(attempt_id="a"))
        await clock.advance(2)
        second = service.receive_now(queue, Ask(attempt_id="a"))
        assert first is not None and second is not None and first.bodies == second.bodies == [b"1"]
        service.give_back(first)
        assert not (await receive(world, queue="orders.fifo")).bodies
        service.give_back(second)
        assert (await receive(world, queue="orders.fifo")).bodies == [b"1"]


# ---------------------------------------------------------------- dead letters


async def dead_letter(world: World) -> wire.Queue:
    """A message that was received twice lies in the queue `dead`, and came from `jobs`."""
    dead = await make(world, "dead")
    policy = f'{{"deadLetterTargetArn":"{dead.arn}","maxReceiveCount":"1"}}'
    await make(world, VisibilityTimeout="0", RedrivePolicy=policy)
    await send(world, b"poison")
    assert (await receive(world)).bodies
    assert not (await receive(world)).bodies
    return dead


async def test_dead_letters_and_their_way_back(world: World) -> None:
    dead = await dead_letter(world)
    sources = await world.queues.ListDeadLetterSources(wire.ListDeadLetterSourcesRequest(queue="dead"))
    assert list(sources.arns) == ["arn:aws:sqs:us-east-1:000000000000:jobs"]
    got = await receive(world, queue="dead", visibility_timeout_s=0)
    assert list(got.bodies) == [b"poison"] and list(got.receive_counts) == [2]
    assert got.extras[0].dead_letter_source_arn == "arn:aws:sqs:us-east-1:000000000000:jobs"
    task = await world.queues.StartMove(wire.StartMoveRequest(source_arn=dead.arn))
    assert (task.status, task.to_move, task.source_arn) == ("RUNNING", 1, dead.arn) and task.task_handle
    back = await receive(world, wait_s=5)
    assert list(back.bodies) == [b"poison"] and list(back.receive_counts) == [1]
    assert back.message_ids != got.message_ids
    (ended,) = (await world.queues.ListMoves(wire.ListMovesRequest(source_arn=dead.arn))).tasks
    assert (ended.moved, ended.task_handle) == (1, "")


async def test_a_move_is_cancelled_by_its_handle_alone(world: World) -> None:
    dead = await dead_letter(world)
    await send(world, *[b"x"] * 100, queue="dead")
    task = await world.queues.StartMove(wire.StartMoveRequest(source_arn=dead.arn, max_per_second=1))
    for stub, handle, code in (
        (world.queues, "", "MissingParameter"),
        (world.queues, task.task_handle[:-2], "InvalidParameterValue"),
        (world.queues, "bm9uc2Vuc2U", "InvalidParameterValue"),
        (world.stub(OTHER), task.task_handle, "ResourceNotFoundException"),
    ):
        assert (await refusal(stub.CancelMove(wire.CancelMoveRequest(task_handle=handle)))).code == code
    ended = await world.queues.CancelMove(wire.CancelMoveRequest(task_handle=task.task_handle))
    assert ended.status == "CANCELLED"
    error = await refusal(world.queues.CancelMove(wire.CancelMoveRequest(task_handle=task.task_handle)))
    assert error.code == "ResourceNotFoundException"
    for call in (world.stub(OTHER).StartMove, world.queues.StartMove):
        arn = dead.arn if call is not world.queues.StartMove else dead.arn + "x"
        assert (await refusal(call(wire.StartMoveRequest(source_arn=arn)))).code == "ResourceNotFoundException"


# ---------------------------------------------------------------- whose queues


async def test_another_accounts_queue_does_not_exist(world: World) -> None:
    mine = await make(world)
    theirs = world.stub(OTHER)
    missing = await refusal(theirs.GetQueue(wire.GetQueueRequest(queue="never made")))
    for reference in (mine.name, mine.url, mine.arn):
        for call in (
            theirs.GetQueue(wire.GetQueueRequest(queue=reference)),
            theirs.SendBulk(wire.SendBulkRequest(queue=reference, bodies=[b"x"])),
            theirs.ReceiveMessages(wire.ReceiveMessagesRequest(queue=reference)),
            theirs.DeleteQueue(wire.DeleteQueueRequest(queue=reference)),
        ):
            error = await refusal(call)
            assert (error.code, error.message) == (missing.code, missing.message)
    own = await make(world, stub=theirs)
    assert own.arn != mine.arn
    assert not (await world.stub("000000000000", "eu-west-1").ListQueues(wire.ListQueuesRequest())).queues
    error = await refusal(world.queues.GetQueue(wire.GetQueueRequest()))
    assert error.code == "MissingParameter"


def ticket(number: int = 0, secret: bytes = SECRET, account: str = OTHER, expires: float = 9e9) -> str:
    return shard_ticket.issue(shard_ticket.BROKERS, secret, number, Scope(account), expires)


@pytest.mark.parametrize(
    ("proof", "text"),
    [
        (None, "no ticket"),
        ("", "not valid"),
        (ticket(number=1), "not valid"),
        (ticket(secret=b"another" * 5), "not valid"),
        (ticket(account=OTHER).replace(OTHER, "000000000000"), "not valid"),
        (ticket(expires=1_000), "expired"),
        (ticket().replace("us-east-1", "eu-west-1"), "not valid"),
    ],
)
async def test_tickets_that_open_nothing(world: World, proof: str | None, text: str) -> None:
    stub: Any = queue_pb2_grpc.QueueServiceStub(world.channel)  # type: ignore[no-untyped-call]
    metadata = ((TICKET_METADATA, proof),) if proof is not None else ()
    error = await refusal(stub.ListQueues(wire.ListQueuesRequest(), metadata=metadata))
    assert isinstance(error, Unauthenticated) and text in error.message


def test_a_ticket_ends_also_when_it_was_used_before() -> None:
    now = 1_000.0
    admit = shard_ticket.ticket_door(shard_ticket.BROKERS, SECRET, 0, lambda: now)
    metadata = {TICKET_METADATA: ticket(expires=1_500)}
    assert admit(metadata).scope == Scope(OTHER) == admit(metadata).scope
    now = 1_500.0
    with pytest.raises(Unauthenticated, match="expired"):
        admit(metadata)


# ---------------------------------------------------------------- where brokers are


async def test_the_control_plane_says_where_and_hands_out_a_ticket(world: World) -> None:
    place = await world.messaging.Locate(wire.LocateRequest())
    assert place.address == world.broker_address and not place.tls
    stub: Any = queue_pb2_grpc.QueueServiceStub(world.channel)  # type: ignore[no-untyped-call]
    await stub.ListQueues(wire.ListQueuesRequest(), metadata=((TICKET_METADATA, place.ticket),))
    introduced = await world.messaging.Locate(
        wire.LocateRequest(), metadata=(("x-minicloud-reached-as", "10.1.2.1:7077"),)
    )
    assert introduced.address == "10.1.2.1:" + world.broker_address.rpartition(":")[2]


async def test_without_a_credential_there_is_no_ticket() -> None:
    async with broker_world(locked=True) as world:
        assert isinstance(await refusal(world.messaging.Locate(wire.LocateRequest())), Unauthenticated)


@pytest.mark.parametrize(
    ("authority", "host"),
    [("localhost:7077", "localhost"), ("10.0.0.1", "10.0.0.1"), ("[::1]:7077", "[::1]"), ("[::1]", "[::1]"), ("", "")],
)
def test_hosts(authority: str, host: str) -> None:
    assert host_of(authority) == host


def test_an_account_has_one_broker_and_accounts_are_dealt_evenly() -> None:
    shares = [0] * 4
    for account in range(4_000):
        shares[shard_ticket.shard_of(Scope(f"{account:012d}"), 4)] += 1
    assert min(shares) > 850
    assert shard_ticket.shard_of(Scope(), 4) == shard_ticket.shard_of(Scope(), 4) != 4
    assert [shard_ticket.shard_of(Scope(f"{account:012d}"), 1) for account in range(9)] == [0] * 9
