"""Whether another process serves, by its health stream; and what the cloud's health makes of its brokers."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minicloud.cloud import ControlPlane
from minicloud.rpc.peer import Peer
from minicloud.rpc.server import Listen, RpcServer
from minicloud.settings import BrokerSettings, CloudSettings
from tests.contract.fake_host import FakeHost
from tests.contract.test_control_plane import SECRET, Actors


@pytest.fixture
def folder() -> Iterator[Path]:
    """With a short path: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="mcp-") as made:
        yield Path(made)


async def soon(what: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0)


async def server(path: Path) -> RpcServer:
    made = RpcServer([], lambda: "id", Listen(socket=str(path)))
    await made.start()
    return made


async def test_a_peer_is_up_as_long_as_it_says_so(folder: Path) -> None:
    peer = Peer(f"unix:{folder}/s")
    peer.start()
    first = await server(folder / "s")
    await soon(lambda: peer.up)
    first.health.set_all(False)
    await soon(lambda: not peer.up)
    first.health.set_all(True)
    await soon(lambda: peer.up)
    await first.stop(0)
    await soon(lambda: not peer.up)
    assert peer.seen
    second = await server(folder / "s")
    await soon(lambda: peer.up)
    await peer.close()
    await second.stop(0)


async def test_a_cloud_is_ready_when_its_brokers_answered_and_degraded_when_one_is_away(folder: Path) -> None:
    settings = CloudSettings("0" * 8, str(folder), brokers=(BrokerSettings(1, 2), BrokerSettings(3, 4)))
    settings.socket_path.mkdir(parents=True)
    plane = ControlPlane(settings, SECRET, Actors())
    plane.cloud = replace(settings, control_port=await plane.start())
    async with FakeHost(f"127.0.0.1:{plane.cloud.control_port}", SECRET, "host-a", "node-1"):
        await soon(lambda: any(host.state == "up" for host in plane.compute.state.hosts.values()))
        first = await server(settings.broker_socket(0))
        await soon(lambda: plane.brokers[0].up)
        health = await plane.health()
        assert (health.ready, health.status, health.brokers) == (False, "starting", ("up", "down"))
        second = await server(settings.broker_socket(1))
        await soon(lambda: plane.brokers[1].up)
        assert ((await plane.health()).ready, (await plane.health()).status) == (True, "ok")
        await second.stop(0)
        await soon(lambda: not plane.brokers[1].up)
        health = await plane.health()
        assert (health.ready, health.status, health.brokers) == (True, "degraded", ("up", "down"))
        await first.stop(0)
    await plane.stop()
