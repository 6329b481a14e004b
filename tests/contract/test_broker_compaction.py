"""Disk space comes back while the broker serves: what lives moves, segments go, what is damaged leaves its queue."""

from __future__ import annotations

from pathlib import Path

from minicloud.shell.clock import VirtualClock
from minicloud.store.log import FileLog
from minicloud.wire import queue_pb2 as wire
from tests.contract.broker_world import World, broker_world
from tests.contract.test_broker import make, receive, send
from tests.turns import until

SEGMENT_BYTES = 256 * 1024
BODY = b"x" * 1_000


def opened(path: Path) -> FileLog:
    return FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=8)


async def churn(world: World, rounds: int) -> None:
    """Much is sent and deleted."""
    for _ in range(rounds):
        await send(world, *[BODY] * 200)
        got = await receive(world, 200)
        done = wire.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles)
        assert not (await world.queues.DeleteMessages(done)).failed


async def compacted(world: World, clock: VirtualClock, log: FileLog, segments: int) -> None:
    await clock.advance(1.0)
    await until(lambda: log.stats()["segments"] <= segments)


async def test_what_lives_moves_and_its_segments_go(tmp_path: Path) -> None:
    clock, log = VirtualClock(), opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        await make(world, VisibilityTimeout="600")
        await make(world, "orders.fifo", ContentBasedDeduplication="true")
        await make(world, "kept")
        kept = [f"kept {number}".encode() for number in range(300)]
        ids = await send(world, *kept, queue="kept")
        entry = wire.SendEntry(
            body=b"order", group_id="g", attributes={"a": wire.MessageAttribute(type="String", value=b"v")}
        )
        await world.queues.SendMessages(wire.SendMessagesRequest(queue="orders.fifo", entries=[entry]))
        await churn(world, 12)
        await compacted(world, clock, log, 4)
        assert world.broker.service.compaction.moved >= 300
        await churn(world, 12)
        await compacted(world, clock, log, 4)
    await log.close()
    log = opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        got = await receive(world, 1000, queue="kept")
        assert list(got.bodies) == kept and got.message_ids == ids
        order = await receive(world, queue="orders.fifo")
        assert list(order.bodies) == [b"order"] and order.extras[0].attributes["a"].value == b"v"
        await churn(world, 1)
    await log.close()


async def test_calls_go_on_beside_it(tmp_path: Path) -> None:
    clock, log = VirtualClock(), opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        await make(world, VisibilityTimeout="600")
        await make(world, "kept")
        await send(world, *[BODY] * 900, queue="kept")
        await churn(world, 10)
        await clock.advance(1.0)
        await churn(world, 10)
        await compacted(world, clock, log, 12)
        assert [len((await receive(world, 1000, queue="kept")).bodies)] == [900]
    await log.close()


def rot(folder: Path, word: bytes) -> None:
    """Change the first letter of such a word on the disk."""
    for path in folder.rglob("*.segment"):
        if (found := path.read_bytes().find(word)) >= 0:
            with path.open("r+b") as file:
                file.seek(found)
                file.write(word[:1].swapcase())


async def test_what_is_damaged_does_not_keep_its_segment(tmp_path: Path) -> None:
    """A message leaves its queue; a queue is known by heart, and found again by the next start."""
    clock, log = VirtualClock(), opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        await make(world, VisibilityTimeout="600")
        await make(world, "kept")
        await send(world, b"good", b"rotten", queue="kept")
        rot(tmp_path, b"rotten")
        rot(tmp_path, b"kept")
        await churn(world, 12)
        await compacted(world, clock, log, 4)
        assert world.broker.service.compaction.lost == 1
    await log.close()
    log = opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        assert list((await receive(world, queue="kept")).bodies) == [b"good"]
    await log.close()


async def test_an_idle_broker_looks_at_nothing(tmp_path: Path) -> None:
    clock, log = VirtualClock(), opened(tmp_path)
    async with broker_world(log=log, clock=clock) as world:
        await make(world)
        await clock.advance(60.0)
        assert clock.next_deadline() is None
    await log.close()
