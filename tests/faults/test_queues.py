"""Queues under fault: SIGKILL at any moment under load, a full disk, a broker that wakes up after its replacement."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud.base.errors import CloudError, InsufficientStorage, Unavailable
from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import queue_pb2 as wire
from tests.faults.broker_process import BrokerProcess
from tests.faults.queue_history import VISIBILITY_S, Fifo, History, Standard, answered

pytestmark = pytest.mark.timeout(480)

ROUNDS = 20
GROUPS = 6
LONG_S = 200.0  # longer than another broker takes to start
DRAIN_S = 120.0


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with tempfile.TemporaryDirectory(prefix="mcq-") as data:  # a short path: sockets are in it
        made = BrokerProcess(Path(data))
        made.start()
        yield made
        made.kill()


async def make(stub: Any, name: str, **attributes: str) -> None:
    await stub.CreateQueue(wire.CreateQueueRequest(name=name, attributes=attributes))


async def left_in(stub: Any, name: str) -> int:
    shown = await stub.GetQueue(wire.GetQueueRequest(queue=name, attribute_names=["All"]))
    return sum(int(value) for key, value in shown.attributes.items() if key.startswith("ApproximateNumber"))


@asynccontextmanager
async def running(*work: Any) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks that end with the block; what one of them raised is raised here."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in ended:
            task.result()


async def test_nothing_is_lost_doubled_or_made_up_by_twenty_kills(broker: BrokerProcess) -> None:
    seed = int.from_bytes(os.urandom(4))
    rand = random.Random(seed)
    print(f"seed {seed}")
    jobs, orders = Standard("jobs"), Fifo("orders.fifo")
    async with broker.stub() as stub:
        await make(stub, "jobs", VisibilityTimeout=str(VISIBILITY_S))
        await make(stub, "orders.fifo", VisibilityTimeout=str(VISIBILITY_S), FifoQueue="true")
        producers = [jobs.produce(stub, f"p{index}", rand) for index in range(3)]
        producers += [orders.produce(stub, f"g{index}", rand) for index in range(GROUPS)]
        consumers = [history.consume(stub, rand) for history in (jobs, orders) for _ in range(3)]
        async with running(*consumers):
            async with running(*producers) as producing:
                away = [await one_death(broker, stub, rand) for _ in range(ROUNDS)]
                jobs.stop = orders.stop = True
                await asyncio.wait(producing)
            for history in (jobs, orders):
                await drained(stub, history)
    print(f"{ROUNDS} kills; away for {min(away):.2f} to {max(away):.2f} s")
    for history in (jobs, orders):
        print(history.counts())
        history.check()
        assert len(history.acked) > ROUNDS


async def one_death(broker: BrokerProcess, stub: Any, rand: random.Random) -> float:
    """Load for a moment, SIGKILL, start again. Returns how long nobody answered."""
    await asyncio.sleep(rand.uniform(0.05, 0.4))
    broker.kill()
    began = time.monotonic()
    broker.start()
    await answered(stub)
    return time.monotonic() - began


async def drained(stub: Any, history: History) -> None:
    end = time.monotonic() + DRAIN_S
    while await left_in(stub, history.queue):
        assert time.monotonic() < end, f"{await left_in(stub, history.queue)} messages stay in {history.queue}"
        await asyncio.sleep(0.1)


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk() -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mount = Path(tempfile.mkdtemp(prefix="mcq-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)
    mount.rmdir()


async def refusal(call: Any) -> CloudError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return from_rpc_error(failed.value)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65_536))
        except OSError:
            pass


async def test_a_full_disk_stops_sends_alone(small_disk: Path) -> None:
    broker = BrokerProcess(small_disk / "cloud")
    broker.start()
    bulk = wire.SendBulkRequest(queue="jobs", bodies=[b"x" * 100_000] * 30)
    try:
        async with broker.stub() as stub:
            await make(stub, "jobs", VisibilityTimeout="600")
            fill(small_disk / "filler")
            sent = 0
            while (error := await try_send(stub, bulk)) is None:
                sent += len(bulk.bodies)
            assert isinstance(error, InsufficientStorage), error
            got = await stub.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs", max_messages=10))
            assert len(got.bodies) == 10
            done = wire.DeleteMessagesRequest(queue="jobs", receipt_handles=got.receipt_handles)
            assert not (await stub.DeleteMessages(done)).failed
            broker.kill()
            broker.start()
            await answered(stub)
            assert await left_in(stub, "jobs") == sent - 10, "a broker starts on a full disk, and has everything"
            assert isinstance(await try_send(stub, bulk), InsufficientStorage)
            (small_disk / "filler").unlink()
            end = time.monotonic() + 60
            while await try_send(stub, bulk) is not None:
                assert time.monotonic() < end, "sends are taken again"
                await asyncio.sleep(0.05)
            assert await left_in(stub, "jobs") == sent + 20
    finally:
        broker.kill()


async def try_send(stub: Any, bulk: wire.SendBulkRequest) -> CloudError | None:
    try:
        await stub.SendBulk(bulk)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    return None


# ---------------------------------------------------------------- two brokers


async def test_a_broker_that_wakes_up_after_its_replacement_confirms_nothing(broker: BrokerProcess) -> None:
    replacement = broker.beside()
    async with broker.stub() as stale, replacement.stub() as fresh:
        await make(stale, "jobs")
        await stale.SendBulk(wire.SendBulkRequest(queue="jobs", bodies=[b"before"]))
        broker.signal(signal.SIGSTOP)
        late = [
            stale.SendBulk(wire.SendBulkRequest(queue="jobs", bodies=[b"late"]), timeout=LONG_S),
            stale.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs"), timeout=LONG_S),
            stale.PurgeQueue(wire.PurgeQueueRequest(queue="jobs"), timeout=LONG_S),
        ]
        replacement.start()
        try:
            await fresh.SendBulk(wire.SendBulkRequest(queue="jobs", bodies=[b"after"]))
            broker.signal(signal.SIGCONT)
            for call in late:
                assert isinstance(await refusal(call), Unavailable)
            assert broker.process is not None
            await asyncio.to_thread(broker.process.wait, 120)
            got = await fresh.ReceiveMessages(wire.ReceiveMessagesRequest(queue="jobs", max_messages=10))
            assert sorted(got.bodies) == [b"after", b"before"]
        finally:
            replacement.kill()
