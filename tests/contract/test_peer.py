"""Whether another process serves, by its health stream; and what the cloud's health makes of its brokers."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from prometheus_client import generate_latest

from minicloud.base.arn import Scope
from minicloud.cloud import ControlPlane
from minicloud.cloud_broker import BrokerParts, MessageBroker
from minicloud.rpc.broker_counters import ask
from minicloud.rpc.peer import Peer
from minicloud.rpc.server import Listen, RpcServer
from minicloud.settings import MESSAGE_BROKER, CloudSettings, ShardSettings
from minicloud.sim.log import MemoryLog
from tests.contract.fake_host import FakeHost
from tests.contract.test_control_plane import SECRET, Actors
from tests.machine_time import within
from tests.turns import until


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="mcp-") as made:
        yield Path(made)


async def server(path: Path) -> RpcServer:
    made = RpcServer([], lambda: "id", Listen(socket=str(path)))
    await made.start()
    return made


async def test_a_peer_is_up_as_long_as_it_says_so(folder: Path) -> None:
    peer = Peer(f"unix:{folder}/s")
    peer.start()
    first = await server(folder / "s")
    await until(lambda: peer.up)
    first.health.set_all(False)
    await until(lambda: not peer.up)
    first.health.set_all(True)
    await until(lambda: peer.up)
    await first.stop(0)
    await until(lambda: not peer.up)
    assert peer.seen
    second = await server(folder / "s")
    await until(lambda: peer.up)
    await peer.close()
    await second.stop(0)


async def test_a_cloud_is_ready_when_its_brokers_answered_and_degraded_when_one_is_away(folder: Path) -> None:
    settings = CloudSettings("0" * 8, str(folder), brokers=(ShardSettings(1, 2), ShardSettings(3, 4)))
    settings.socket_path.mkdir(parents=True)
    plane = ControlPlane(settings, SECRET, Actors())
    plane.cloud = replace(settings, control_port=await plane.start())
    async with FakeHost(f"127.0.0.1:{plane.cloud.control_port}", SECRET, "host-a", "node-1"):
        await until(lambda: any(host.state == "up" for host in plane.compute.state.hosts.values()))
        first = await server(settings.shard_socket(MESSAGE_BROKER, 0))
        await until(lambda: plane.shards["brokers"][0].up)
        health = await plane.health()
        assert (health.ready, health.status, health.shards["brokers"]) == (False, "starting", ("up", "down"))
        second = await server(settings.shard_socket(MESSAGE_BROKER, 1))
        await until(lambda: plane.shards["brokers"][1].up)
        assert ((await plane.health()).ready, (await plane.health()).status) == (True, "ok")
        await second.stop(0)
        await until(lambda: not plane.shards["brokers"][1].up)
        health = await plane.health()
        assert (health.ready, health.status, health.shards["brokers"]) == (True, "degraded", ("up", "down"))
        await first.stop(0)
    await plane.stop()


async def test_the_metrics_page_shows_what_brokers_count_and_does_not_wait_for_one_that_stands_still(
    folder: Path,
) -> None:
    settings = CloudSettings("0" * 8, str(folder), brokers=(ShardSettings(1, 2), ShardSettings(3, 4)))
    settings.socket_path.mkdir(parents=True)
    plane = ControlPlane(settings, SECRET, Actors())
    await plane.start()
    log = MemoryLog()
    listen = Listen(socket=str(settings.shard_socket(MESSAGE_BROKER, 0)))
    stats: dict[str, int] = {"bytes": 4096, "segments": 1, "syncs": 7, "pending_bytes": 0}
    parts = BrokerParts(0, SECRET, listen, "http://h", random.Random(7), log_stats=lambda: stats)
    broker = MessageBroker(log, log.epoch, parts)
    await broker.start()
    await until(lambda: plane.shards["brokers"][0].up)
    queue = await broker.service.act(lambda now: broker.core.create_queue(Scope(), "q", now, random.Random(1)))
    await broker.service.act(lambda now: broker.core.send_many(queue, [b"one", b"two"], now))
    broker.topics.service.totals["NumberOfMessagesPublished"] = 3
    operations = plane.operations(lambda: None)
    with within(1.0):
        await operations.refresh()
    page = generate_latest(operations.registry).decode()
    for line in (
        'minicloud_broker_answers{broker="0"} 1.0',
        'minicloud_broker_answers{broker="1"} 0.0',
        'minicloud_queue_messages_total{broker="0",what="sent"} 2.0',
        'minicloud_queue_messages_total{broker="0",what="dead_lettered"} 0.0',
        'minicloud_queue_depth{broker="0",what="visible"} 2.0',
        'minicloud_topic_messages_total{broker="0",what="published"} 3.0',
        'minicloud_log_writes_total{broker="0",what="syncs"} 7.0',
        'minicloud_log_size{broker="0",what="bytes"} 4096.0',
    ):
        assert line in page.splitlines(), page
    async with grpc.aio.insecure_channel(f"127.0.0.1:{broker.server.port}") as channel:
        assert await ask(channel, SECRET) is not None
        assert await ask(channel, bytes(32)) is None
    await broker.stop(0)
    await plane.stop()
