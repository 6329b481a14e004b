"""Instances on a real Ray: the actor and its loop, the launcher, the warm pool. The host agent is played by a socket.

One small Ray whose driver is pytest: own directory, own token (conftest.py), own ports. What is started here is ended
here, by pid.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.errors import CloudError, InsufficientCapacity, Unavailable
from minicloud.host.instances import ActorLink, DoorEnds, InstanceDoor, instance_secret

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SECRET = b"s" * 32


@pytest.fixture(scope="module")
def node_id() -> Iterator[str]:
    """A Ray of one node, with two GPUs that are only said to be there."""
    with tempfile.TemporaryDirectory(prefix="mcr", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray

        ray.init(
            num_cpus=2,
            num_gpus=2,
            _memory=2 * 1024**3,
            object_store_memory=80 * 1024 * 1024,
            _temp_dir=folder,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            namespace="minicloud",
        )
        yield str(ray.nodes()[0]["NodeID"])
        ray.shutdown()


class Agent:
    """The other end of the instances' socket: notes what comes, says what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "agent.sock"
        self.links: dict[str, ActorLink] = {}
        self.said: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()
        self.door = InstanceDoor(self.path, SECRET, DoorEnds(self._came, self._said, self._left))

    def _came(self, link: ActorLink) -> None:
        self.links[link.hello.instance_id] = link
        self._news.set()

    def _said(self, link: ActorLink, message: dict[str, Any]) -> None:
        self.said.append((link.hello.instance_id, message))
        self._news.set()

    def _left(self, link: ActorLink) -> None:
        self.links.pop(link.hello.instance_id, None)
        self._news.set()

    async def until(self, fact: Any, seconds: float = 120.0) -> None:
        async with asyncio.timeout(seconds):
            while not fact():
                self._news.clear()
                await self._news.wait()

    def word(self, instance_id: str, op: str) -> dict[str, Any] | None:
        return next((said for who, said in self.said if who == instance_id and said["op"] == op), None)


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    with tempfile.TemporaryDirectory(prefix="mca", dir="/tmp") as folder:
        one = Agent(Path(folder))
        await one.door.open()
        yield one
        await one.door.close()


Failures = list[tuple[str, int, CloudError]]


@pytest.fixture
async def launcher(agent: Agent, node_id: str) -> AsyncIterator[tuple[Any, Failures]]:
    from minicloud.cluster.launcher import LauncherPorts, RayLauncher

    failures: Failures = []
    one = RayLauncher(
        LauncherPorts(
            lambda instance_id, generation: instance_secret(SECRET, instance_id, generation),
            lambda host_name: str(agent.path),
            lambda *failure: failures.append(failure),
        ),
        place_s_max=120.0,
    )
    yield one, failures
    await one.close()


def spec(node_id: str, instance_id: str, generation: int = 1, **more: Any) -> Any:
    from minicloud.cluster.launcher import LaunchSpec

    fields = {"cpus": 0.1, "memory_bytes": 64 * 1024**2, **more}
    return LaunchSpec(instance_id, generation, "host-a", node_id, **fields)


def plan(folder: Path, *argv: str) -> dict[str, Any]:
    from minicloud.sandbox.plan import LaunchPlan

    return LaunchPlan(
        instance_id="i",
        driver="process",
        argv=list(argv),
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        console=str(folder / "console"),
    ).to_json()


def sleeper(folder: Path) -> dict[str, Any]:
    code = "import ctypes,time; ctypes.CDLL(None).prctl(1,9); print('up',flush=True); time.sleep(600)"
    return plan(folder, sys.executable, "-c", code)


def written(console: Path) -> None:
    while "up" not in console.read_text():
        time.sleep(0.05)


def alive(pid: int) -> bool:
    from minicloud.host.watch import identify

    return identify(pid) is not None


async def gone(pid: int, seconds: float = 60.0) -> None:
    from minicloud.host.watch import ProcessWatch, identify

    process = identify(pid)
    if process is not None:
        over = asyncio.Event()
        watch = ProcessWatch(process, over.set)
        try:
            await asyncio.wait_for(over.wait(), seconds)
        finally:
            watch.close()


async def test_an_instance_spawns_its_guest_and_frees_its_resources_when_dismissed(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str, tmp_path: Path
) -> None:
    import ray

    one, failures = launcher
    await one.launch(spec(node_id, "i-1", cpus=1.5, gpus=1.0))
    await one.launch(spec(node_id, "i-1", cpus=1.5, gpus=1.0))  # the same again changes nothing
    await agent.until(lambda: "i-1" in agent.links)
    link = agent.links["i-1"]
    assert len(link.hello.gpu_ids) == 1
    link.send({"op": "plan", "boot": 1, "plan": sleeper(tmp_path)})
    await agent.until(lambda: agent.word("i-1", "started"))
    pid = agent.word("i-1", "started")["pid"]
    assert alive(pid) and failures == []
    link.send({"op": "exit"})
    await gone(link.hello.process.pid)
    assert not alive(pid)
    await until(lambda: ray.available_resources().get("CPU", 0) > 1.9)


async def test_a_guest_that_ends_is_told_with_its_status_and_can_be_booted_again(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str, tmp_path: Path
) -> None:
    one, _ = launcher
    await one.launch(spec(node_id, "i-2"))
    await agent.until(lambda: "i-2" in agent.links)
    agent.links["i-2"].send({"op": "plan", "boot": 1, "plan": plan(tmp_path, "/bin/sh", "-c", "exit 7")})
    await agent.until(lambda: agent.word("i-2", "exited"))
    assert agent.word("i-2", "exited") == {"op": "exited", "boot": 1, "status": 7}
    agent.said.clear()
    agent.links["i-2"].send({"op": "plan", "boot": 2, "plan": sleeper(tmp_path)})
    await agent.until(lambda: agent.word("i-2", "started"))
    assert agent.word("i-2", "started")["boot"] == 2
    agent.links["i-2"].send({"op": "exit"})
    await agent.until(lambda: "i-2" not in agent.links)


async def test_the_guest_dies_with_a_killed_actor_and_the_actor_finds_a_new_agent(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str, tmp_path: Path
) -> None:
    one, _ = launcher
    await one.launch(spec(node_id, "i-3"))
    await agent.until(lambda: "i-3" in agent.links)
    agent.links["i-3"].send({"op": "plan", "boot": 1, "plan": sleeper(tmp_path)})
    await agent.until(lambda: agent.word("i-3", "started"))
    pid = agent.word("i-3", "started")["pid"]
    await agent.door.close()
    await agent.until(lambda: "i-3" not in agent.links)
    await agent.door.open()
    await agent.until(lambda: "i-3" in agent.links)
    assert (agent.links["i-3"].hello.boot, agent.links["i-3"].hello.guest) == (1, pid)
    await asyncio.to_thread(written, tmp_path / "console")  # it has asked to die with its parent
    os.kill(agent.links["i-3"].hello.process.pid, 9)
    await gone(pid)


async def test_kill_ends_actor_and_guest_and_is_idempotent(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str, tmp_path: Path
) -> None:
    one, _ = launcher
    await one.launch(spec(node_id, "i-4"))
    await agent.until(lambda: "i-4" in agent.links)
    agent.links["i-4"].send({"op": "plan", "boot": 1, "plan": sleeper(tmp_path)})
    await agent.until(lambda: agent.word("i-4", "started"))
    pid = agent.word("i-4", "started")["pid"]
    await one.kill("i-4", 1)
    await gone(pid)
    await one.kill("i-4", 1)
    await one.kill("i-none", 1)


async def test_the_next_control_plane_finds_the_actors_of_the_one_before(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str, tmp_path: Path
) -> None:
    from minicloud.cluster.launcher import LauncherPorts, RayLauncher

    one, _ = launcher
    await one.launch(spec(node_id, "i-n", cpus=1.5))
    await agent.until(lambda: "i-n" in agent.links)
    pid = agent.links["i-n"].hello.process.pid
    failures: Failures = []
    ports = LauncherPorts(lambda *_: "", lambda _: str(agent.path), lambda *failure: failures.append(failure))
    after = RayLauncher(ports, place_s_max=1.0)
    await after.launch(spec(node_id, "i-n", cpus=1.5))  # a second one would find no room, and be told of
    await after.launch(spec(node_id, "i-n", cpus=1.5))
    await asyncio.sleep(2.0)
    assert agent.links["i-n"].hello.process.pid == pid and failures == []
    await after.kill("i-n", 2)
    assert alive(pid)
    await after.kill("i-n", 1)
    await gone(pid)
    await agent.until(lambda: "i-n" not in agent.links)
    await one.launch(spec(node_id, "i-n", cpus=1.5))  # the one that it made is over
    await agent.until(lambda: "i-n" in agent.links)
    await one.kill("i-n", 1)
    await after.close()


async def test_an_actor_that_waits_for_room_is_found_and_given_up_by_the_next_control_plane(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str
) -> None:
    from minicloud.cluster.launcher import LauncherPorts, RayLauncher

    one, _ = launcher
    await one.launch(spec(node_id, "i-r", cpus=2.0))
    await agent.until(lambda: "i-r" in agent.links)
    await one.launch(spec(node_id, "i-s", cpus=1.0))
    await until(lambda: one._table.living().get("i-s:1"))
    failures: Failures = []
    ports = LauncherPorts(lambda *_: "", lambda _: str(agent.path), lambda *failure: failures.append(failure))
    after = RayLauncher(ports, place_s_max=0.5)
    await after.launch(spec(node_id, "i-s", cpus=1.0))
    await until(lambda: failures)
    assert [(who, type(error)) for who, _, error in failures] == [("i-s", InsufficientCapacity)]
    await until(lambda: "i-s:1" not in one._table.living())
    await one.kill("i-r", 1)
    await after.close()


async def test_what_cannot_be_placed_is_refused_with_the_reason(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str
) -> None:
    one, failures = launcher
    with pytest.raises(InsufficientCapacity, match="has 2 CPU in Ray, 3 are needed"):
        await one.launch(spec(node_id, "i-5", cpus=3.0))
    with pytest.raises(Unavailable, match="left the Ray cluster"):
        await one.launch(spec("f" * 56, "i-6"))
    await one.launch(spec(node_id, "i-7", cpus=2.0))
    await agent.until(lambda: "i-7" in agent.links)
    one._place_s_max = 1.0
    await one.launch(spec(node_id, "i-8", cpus=1.0))
    await until(lambda: failures)
    assert [(who, generation, type(error)) for who, generation, error in failures] == [("i-8", 1, InsufficientCapacity)]
    assert "1 CPU" in failures[0][2].message
    await one.kill("i-7", 1)


async def test_the_warm_pool_makes_workers_that_our_actors_use(
    agent: Agent, launcher: tuple[Any, Failures], node_id: str
) -> None:
    import ray

    from minicloud.cluster.warm import LocalRaylet, WarmPool, count_workers

    raylet = await asyncio.to_thread(LocalRaylet, node_id)
    raylet_pid = ray_pid()
    raylet.workers = lambda: count_workers(raylet_pid)  # type: ignore[method-assign]
    pool = WarmPool(raylet, floor=3)
    task = asyncio.ensure_future(pool.run())
    await until(lambda: pool.idle >= 3)
    task.cancel()
    one, _ = launcher
    idle = worker_pids(raylet_pid)
    began = time.monotonic()
    for number in range(3):
        await one.launch(spec(node_id, f"i-w{number}"))
    await agent.until(lambda: sum(name.startswith("i-w") for name in agent.links) == 3)
    print(f"three actors from warm workers: {1000 * (time.monotonic() - began):.0f} ms")
    used = {link.hello.process.pid for name, link in agent.links.items() if name.startswith("i-w")}
    assert used <= idle
    for number in range(3):
        await one.kill(f"i-w{number}", 1)
    await raylet.close()
    assert ray.is_initialized()


async def until(fact: Any, seconds: float = 120.0) -> None:
    """For what nothing announces."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def ray_pid() -> int:
    """The raylet that this driver started."""
    import psutil

    return next(p.pid for p in psutil.Process().children(recursive=True) if p.name() == "raylet")


def worker_pids(raylet_pid: int) -> set[int]:
    import psutil

    children = psutil.Process(raylet_pid).children()
    return {child.pid for child in children if child.cmdline() and child.cmdline()[0].startswith("ray::IDLE")}


def test_the_modules_of_the_launch_path_are_light() -> None:
    """In a Ray worker, which has these loaded: json, socket, threading, subprocess, base64, ctypes."""
    import subprocess

    code = (
        "import json,socket,threading,subprocess,base64,ctypes,select,signal,contextlib,resource,time\n"
        "began=time.perf_counter()\n"
        "import minicloud.cluster.instance_loop, minicloud.sandbox.spawn\n"
        "print(json.dumps((time.perf_counter()-began)*1000))\n"
    )
    times = [json.loads(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    assert min(times) < 15.0, times


class CountingRaylet:
    """No worker ever comes of what is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def workers(self) -> tuple[int, int]:
        return 0, 0

    def free_bytes(self) -> float:
        return float("inf")

    async def prestart(self, count: int) -> None:
        self.asked.append(count)


async def test_the_warm_pool_is_not_filled_while_launches_are_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from minicloud.cluster import warm

    monkeypatch.setattr(warm, "QUIET_S", 0.01)
    raylet = CountingRaylet()
    pool = warm.WarmPool(raylet, floor=3)
    for _ in range(5):
        pool.launched()
    pool.under_way(5)
    task = asyncio.ensure_future(pool.run())
    await asyncio.sleep(0.1)
    pool.under_way(1)
    await asyncio.sleep(0.1)
    assert raylet.asked == []
    pool.under_way(0)
    await until(lambda: raylet.asked)
    assert raylet.asked[0] == 5
    monkeypatch.setattr(warm, "HELD_S_MAX", 0.3)  # one that is stuck
    pool.under_way(1)
    raylet.asked.clear()
    await until(lambda: raylet.asked)
    task.cancel()
