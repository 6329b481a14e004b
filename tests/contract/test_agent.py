"""The host agent with real guests and without Ray: the actor is a plain process with the actor's loop, the control
plane is a gRPC server in this process that says what a test tells it to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from minicloud.base.shape import Shape
from minicloud.host.agent import AgentParts, HostAgent, HostAgentConfig
from minicloud.host.building import BootFacts, Builder, BuilderParts, Isolation
from minicloud.host.console import Consoles
from minicloud.host.guest import Command, Exit, Guest, Output
from minicloud.host.hearing import Hearing
from minicloud.host.instances import instance_secret
from minicloud.host.places import Places
from minicloud.host.walls import Walls
from minicloud.host.watch import ProcessWatch, identify
from minicloud.sandbox import probe as probing
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.network import NetworkConfig, open_network
from minicloud.wire import fleet_pb2, fleet_pb2_grpc, instance_pb2

pytestmark = pytest.mark.timeout(60)
SECRET = b"k" * 32
TOKEN = "fleet-token"
ACCOUNT = "000000000000"


class ControlPlane(fleet_pb2_grpc.FleetServiceServicer):  # type: ignore[misc]
    """Says welcome, keeps what agents report, sends what tests order."""

    def __init__(self, cloud_id: str) -> None:
        self.cloud_id = cloud_id
        self.epoch = 1
        self.hellos: list[fleet_pb2.HostHello] = []
        self.guests: dict[tuple[str, int], list[fleet_pb2.GuestReport]] = {}
        self.results: dict[str, fleet_pb2.OrderResult] = {}
        self.beats: list[fleet_pb2.HostBeat] = []
        self.images: dict[str, bytes] = {}
        self.port = 0
        self._orders: asyncio.Queue[fleet_pb2.HostOrder] = asyncio.Queue()
        self._news = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self._sent = 0

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.http2.min_ping_interval_without_data_ms", 1_000)])
        fleet_pb2_grpc.add_FleetServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)

    async def Sync(self, requests: Any, context: Any) -> AsyncIterator[fleet_pb2.HostOrder]:
        assert dict(context.invocation_metadata())["x-minicloud-fleet"] == TOKEN
        first = await anext(requests)
        await self._note(first)
        yield fleet_pb2.HostOrder(
            order_id="welcome", welcome=fleet_pb2.Welcome(cloud_id=self.cloud_id, epoch=self.epoch)
        )
        reading = asyncio.ensure_future(self._read(requests))
        try:
            while True:
                yield await self._orders.get()
        finally:
            reading.cancel()

    async def FetchImage(self, request: Any, context: Any) -> AsyncIterator[fleet_pb2.ImageChunk]:
        data = self.images.get(request.image_id)
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such image")
        for start in range(0, len(data), 65536):
            yield fleet_pb2.ImageChunk(data=data[start : start + 65536])

    async def StoreImage(self, requests: Any, context: Any) -> fleet_pb2.StoreImageResult:
        chunks = [chunk async for chunk in requests]
        self.images[chunks[0].image_id] = b"".join(chunk.data for chunk in chunks)
        return fleet_pb2.StoreImageResult(size_bytes=len(self.images[chunks[0].image_id]))

    async def _read(self, requests: Any) -> None:
        async for report in requests:
            await self._note(report)

    async def _note(self, report: fleet_pb2.HostReport) -> None:
        async with self._news:
            kind = report.WhichOneof("report")
            if kind == "hello":
                self.hellos.append(report.hello)
                for guest in report.hello.guests:
                    self.guests.setdefault((guest.instance_id, guest.generation), []).append(guest)
            elif kind == "guest":
                self.guests.setdefault((report.guest.instance_id, report.guest.generation), []).append(report.guest)
            elif kind == "result":
                self.results[report.result.order_id] = report.result
            elif kind == "beat":
                self.beats.append(report.beat)
            self._news.notify_all()

    def send(self, order_id: str = "", **order: Any) -> str:
        self._sent += 1
        order_id = order_id or f"order-{self._sent}"
        self._orders.put_nowait(fleet_pb2.HostOrder(order_id=order_id, **order))
        return order_id

    async def until(self, fact: Callable[[], Any], seconds: float = 20.0) -> Any:
        async with asyncio.timeout(seconds), self._news:
            while not (found := fact()):
                await self._news.wait()
        return found

    def last(self, instance_id: str, generation: int = 1) -> fleet_pb2.GuestReport | None:
        reports = self.guests.get((instance_id, generation))
        return reports[-1] if reports else None

    async def until_state(self, instance_id: str, state: str, generation: int = 1, seconds: float = 20.0) -> Any:
        def there() -> Any:
            report = self.last(instance_id, generation)
            return report if report is not None and report.state == state else None

        return await self.until(there, seconds)

    async def result(self, order_id: str, seconds: float = 20.0) -> fleet_pb2.OrderResult:
        await self.until(lambda: order_id in self.results, seconds)
        return self.results[order_id]


@dataclass
class Host:
    """One host: its folders, its agent (which can be replaced), the processes that stand for actors."""

    folder: Path
    control: ControlPlane
    isolation: probing.HostIsolation
    agent: HostAgent | None = None
    actors: dict[tuple[str, int], asyncio.subprocess.Process] = field(default_factory=dict)
    images_dir: Path | None = None
    floor: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[str] | None = None
    _parts: list[Any] = field(default_factory=list)

    @property
    def places(self) -> Places:
        return Places(self.folder / "host", self.folder / "s")

    @property
    def prefix(self) -> str:
        return f"minicloud-{self.control.cloud_id}/host-a"

    async def start_agent(self) -> None:
        found = self.isolation
        cgroups = Cgroups.detect() if found.cgroup_version else Cgroups(0, frozenset(), "none in this test")
        walls = Walls(cgroups, self.prefix)
        services = NetworkConfig(self.control.cloud_id, "host-a", nft=found.nft_path or "nft", spare_count=1)
        network = await asyncio.to_thread(open_network, services, found.network)
        consoles, hearing = Consoles(), Hearing(self.places.init_socket)
        isolation = Isolation(
            found.driver, found.bwrap_path, found.python, found.cgroup_version, found.seccomp.works, found.warnings
        )

        def builder(images: Any) -> Builder:
            return Builder(BuilderParts(self.places, isolation, network, walls, images, consoles, boot_document))

        config = HostAgentConfig(
            cloud_id=self.control.cloud_id,
            host_id="h-00000000000000001",
            name="host-a",
            zone="us-east-1a",
            ray_node_id="n1",
            host_dir=self.places.host_dir,
            socket_dir=self.places.socket_dir,
            control_address=f"127.0.0.1:{self.control.port}",
            fleet_token=TOKEN,
            cluster_secret=SECRET,
            agent_address="127.0.0.1:1",
            agent_epoch=f"epoch-{len(self._parts)}",
            architecture="x86_64",
            capacity=Shape(2.0, 4096, 0, 10),
            images_dir=self.images_dir,
        )
        parts = AgentParts(
            builder,
            hearing,
            walls,
            walls,
            instance_pb2.Isolation(driver=found.driver),
            walls.memory_enforced,
            self.places.root,
            time.time,
        )
        self.agent = HostAgent(config, parts)
        self._stop = asyncio.Event()
        self._task = asyncio.ensure_future(self.agent.run(self._stop))
        self._parts = [network, consoles, hearing]

    async def stop_agent(self) -> str:
        """As a killed agent leaves things, but for its open descriptors."""
        self._stop.set()
        assert self._task is not None
        outcome = await self._task
        for part in self._parts:
            part.close()
        return outcome

    async def start_actor(self, instance_id: str, generation: int = 1) -> None:
        secret = instance_secret(SECRET, instance_id, generation)
        code = (
            "import sys; from minicloud.cluster.instance_loop import InstanceLoop\n"
            "sys.exit(InstanceLoop(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]).run())"
        )
        self.actors[instance_id, generation] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, instance_id, str(generation), str(self.places.socket_dir / "agent.sock"), secret
        )

    async def launch(self, instance_id: str, generation: int = 1, **more: Any) -> fleet_pb2.GuestReport:
        """Order and actor; returns the report that it runs."""
        self.control.send(start=fleet_pb2.StartGuest(spec=guest_spec(instance_id, generation, **more)))
        await self.start_actor(instance_id, generation)
        return await self.control.until_state(instance_id, "running", generation)

    def end(self, instance_id: str, generation: int = 1, **more: Any) -> str:
        fields = {"grace_s": 5.0, **more}
        order = fleet_pb2.EndGuest(instance_id=instance_id, generation=generation, **fields)
        return self.control.send(end=order)

    def guest(self, instance_id: str) -> Guest:
        return Guest(self.places.control(instance_id) / "init.sock")

    def record(self, instance_id: str) -> dict[str, Any]:
        return json.loads((self.places.host_dir / "guests" / f"{instance_id}.json").read_text())

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            for key in list(self.actors):
                await self.control.result(self.end(*key, force=True, delete_disk=True))
            await self.stop_agent()
        for actor in self.actors.values():
            with contextlib.suppress(ProcessLookupError):
                actor.kill()
            await actor.wait()
        if self.isolation.cgroup_version:
            Cgroups.detect().remove(self.prefix)
        if self.isolation.network == "bridge":
            network = open_network(NetworkConfig(self.control.cloud_id, "host-a"), "bridge")
            network.cleanup_all()
            network.close()


def guest_spec(instance_id: str, generation: int = 1, **more: Any) -> fleet_pb2.GuestSpec:
    memory_mib = more.pop("memory_mib", 256)
    spec = fleet_pb2.GuestSpec(
        instance_id=instance_id,
        generation=generation,
        account=ACCOUNT,
        region="us-east-1",
        zone="us-east-1a",
        type="t3.nano",
        image_id="ami-00000000000000001",
        image_builtin=True,
        hostname=instance_id,
        architecture="x86_64",
        first_boot=generation == 1,
        **more,
    )
    spec.shape.vcpus, spec.shape.memory_mib, spec.shape.disk_gib = 1.0, memory_mib, 1
    return spec


def boot_document(facts: BootFacts) -> bytes:
    return json.dumps(
        {
            "instance_id": facts.spec.instance_id,
            "hostname": facts.spec.hostname,
            "isolated": facts.isolated,
            "root": facts.root,
            "addresses": list(facts.addresses),
            "env": facts.env,
            "public_key": facts.spec.public_key,
            "user_data": {"kind": "script", "text": facts.spec.user_data} if facts.spec.user_data else None,
        }
    ).encode()


@pytest.fixture(scope="module")
def isolation() -> probing.HostIsolation:
    return probing.probe()


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcg", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
async def host(folder: Path, isolation: probing.HostIsolation) -> AsyncIterator[Host]:
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    one = Host(folder, control, isolation)
    await one.start_agent()
    await control.until(lambda: control.hellos)
    yield one
    await one.close()
    await control.stop()


async def run(guest: Guest, *argv: str) -> tuple[int, str]:
    out = b""
    async with await guest.exec(Command(argv)) as session:
        async for event in session:
            if isinstance(event, Output):
                out += event.data
            elif isinstance(event, Exit):
                return event.code, out.decode()
    raise AssertionError("no exit")


async def gone(pid: int, seconds: float = 5.0) -> None:
    process = identify(pid)
    if process is not None:
        over = asyncio.Event()
        watch = ProcessWatch(process, over.set)
        try:
            await asyncio.wait_for(over.wait(), seconds)
        finally:
            watch.close()


# ---------------------------------------------------------------- start and end


async def test_a_guest_runs_with_its_own_address_and_leaves_nothing_but_its_disk(host: Host) -> None:
    report = await host.launch("i-0001")
    assert report.private_ip and report.isolation.driver == host.isolation.driver
    code, said = await run(host.guest("i-0001"), "/bin/sh", "-c", "hostname; echo kept > /root/file; cat /root/file")
    assert (code, said.split()[-1]) == (0, "kept")
    guest, actor = host.record("i-0001")["guest"][0], host.actors["i-0001", 1]
    result = await host.control.result(host.end("i-0001"))
    assert result.ok
    ended = host.control.last("i-0001")
    assert ended is not None and (ended.state, ended.reason.code) == ("ended", "Stopped")
    assert identify(guest) is None and await actor.wait() == 0
    assert (host.places.root("i-0001") / "root/file").read_text() == "kept\n"
    assert not host.places.control("i-0001").exists()
    if host.isolation.cgroup_version:
        assert Cgroups.detect().existing(host.prefix) == []
    result = await host.control.result(host.end("i-0001", delete_disk=True))
    assert result.ok and not host.places.disk("i-0001").exists()


async def test_the_actor_may_come_before_the_order(host: Host) -> None:
    assert host.agent is not None
    came = asyncio.Event()
    accept = host.agent._door._ends.on_hello
    host.agent._door._ends = dataclasses.replace(
        host.agent._door._ends, on_hello=lambda link: (accept(link), came.set())[0]
    )
    await host.start_actor("i-0002")
    await came.wait()
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0002")))
    await host.control.until_state("i-0002", "running")


async def test_an_order_that_comes_twice_starts_one_guest_and_a_stale_one_none(host: Host) -> None:
    await host.launch("i-0003", 2)
    guest = host.record("i-0003")["guest"]
    again = host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0003", 2)))
    assert (await host.control.result(again)).ok
    stale = host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0003", 1)))
    assert not (await host.control.result(stale)).ok
    assert (await host.control.result(host.end("i-0003", 1, force=True))).ok  # generation 1 is over, 2 goes on
    assert host.record("i-0003")["guest"] == guest and identify(guest[0]) is not None


async def test_a_newer_generation_takes_the_place_of_an_older_one(host: Host) -> None:
    await host.launch("i-0004", 1)
    report = await host.launch("i-0004", 2)
    ended = host.control.last("i-0004", 1)
    assert ended is not None and ended.state == "ended"
    assert report.generation == 2


async def test_an_end_before_the_actor_came_leaves_nothing_and_the_actor_is_dismissed(host: Host) -> None:
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0005")))
    assert (await host.control.result(host.end("i-0005"))).ok
    await host.start_actor("i-0005")
    assert await asyncio.wait_for(host.actors["i-0005", 1].wait(), 10) == 0


async def test_an_unknown_guest_is_ended_at_once(host: Host) -> None:
    assert (await host.control.result(host.end("i-none", 3, delete_disk=True))).ok


async def test_an_actor_with_a_wrong_secret_gets_no_plan(host: Host) -> None:
    host.control.send(start=fleet_pb2.StartGuest(spec=guest_spec("i-0006")))
    reader, writer = await asyncio.open_unix_connection(str(host.places.socket_dir / "agent.sock"))
    hello = {
        "op": "hello",
        "instance_id": "i-0006",
        "generation": 1,
        "secret": "x",
        "gpu_ids": [],
        "boot": 0,
        "guest": 0,
    }
    writer.write(json.dumps(hello).encode() + b"\n")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


# ---------------------------------------------------------------- how guests end by themselves


async def test_a_guest_that_shuts_itself_down(host: Host) -> None:
    await host.launch("i-0010")
    await run(host.guest("i-0010"), "/bin/sh", "-c", "kill -TERM 1") if host.isolation.driver == "bwrap" else None
    report = await host.control.until_state("i-0010", "ended")
    assert (report.reason.code, report.exit_code) == ("Client.InstanceInitiatedShutdown", 0)
    assert await host.actors["i-0010", 1].wait() == 0


async def test_a_guest_that_is_killed_shows_its_exit_code(host: Host) -> None:
    await host.launch("i-0011")
    began = time.monotonic()
    os.kill(host.record("i-0011")["guest"][0], signal.SIGKILL)
    report = await host.control.until_state("i-0011", "ended", seconds=1.0)
    print(f"guest killed -> reported: {1000 * (time.monotonic() - began):.0f} ms")
    assert (report.reason.code, report.exit_code) == ("GuestExited", 137)


async def test_a_killed_actor_takes_its_guest_along(host: Host) -> None:
    await host.launch("i-0012")
    guest = host.record("i-0012")["guest"][0]
    began = time.monotonic()
    host.actors["i-0012", 1].kill()
    report = await host.control.until_state("i-0012", "ended", seconds=10.0)
    print(f"actor killed -> reported: {1000 * (time.monotonic() - began):.0f} ms")
    assert report.reason.code == "Server.ActorDied"
    assert identify(guest) is None


async def test_a_guest_out_of_memory_ends_alone(host: Host) -> None:
    if "memory" not in (Cgroups.detect().enforces if host.isolation.cgroup_version else ()):
        pytest.skip("memory is not limited here")
    await host.launch("i-0013", memory_mib=64)
    await host.launch("i-0014", memory_mib=64)
    with contextlib.suppress(Exception):
        await run(host.guest("i-0013"), host.isolation.python.executable, "-c", "x = bytearray(200 << 20)")
    report = await host.control.until_state("i-0013", "ended")
    assert report.reason.code == "OutOfMemory" and "64 MiB" in report.reason.message
    assert (await run(host.guest("i-0014"), "/bin/true"))[0] == 0


async def test_user_data_is_reported(host: Host) -> None:
    await host.launch("i-0015", user_data="#!/bin/sh\necho hello from user data\nexit 3\n")
    report = await host.control.until(
        lambda: (r := host.control.last("i-0015")) is not None and r.user_data_status == "failed" and r
    )
    assert report.user_data_exit == 3
    assert b"hello from user data" in host.places.console("i-0015").read_bytes()


# ---------------------------------------------------------------- reboot, options, images


async def test_a_reboot_keeps_disk_and_actor(host: Host) -> None:
    await host.launch("i-0020")
    before = host.record("i-0020")
    await run(host.guest("i-0020"), "/bin/sh", "-c", "echo kept > /root/file; echo lost > /tmp/file")
    order = host.control.send(reboot=fleet_pb2.RebootGuest(instance_id="i-0020", generation=1))
    assert (await host.control.result(order)).ok
    after = host.record("i-0020")
    assert after["boot"] == 2 and after["guest"] != before["guest"] and after["actor"] == before["actor"]
    assert after["private_ip"] == before["private_ip"]
    code, said = await run(host.guest("i-0020"), "/bin/sh", "-c", "cat /root/file")
    assert (code, said) == (0, "kept\n")
    if host.isolation.driver == "bwrap":
        assert (await run(host.guest("i-0020"), "/bin/sh", "-c", "test -e /tmp/file"))[0] == 1
    repeated = host.control.send(order, reboot=fleet_pb2.RebootGuest(instance_id="i-0020", generation=1))
    assert (await host.control.result(repeated)).ok
    assert host.record("i-0020")["boot"] == 2  # the same order id: done once


async def test_a_reboot_of_nothing_is_refused(host: Host) -> None:
    order = host.control.send(reboot=fleet_pb2.RebootGuest(instance_id="i-none", generation=1))
    result = await host.control.result(order)
    assert (result.ok, result.error.code) == (False, "InvalidInstanceID.NotFound")


async def test_new_options_are_in_the_record_at_once(host: Host) -> None:
    await host.launch("i-0021", tags={"old": "1"})
    options = instance_pb2.MetadataOptions(http_tokens="required", http_endpoint="enabled")
    order = fleet_pb2.UpdateGuest(instance_id="i-0021", metadata_options=options, tags={"new": "2"})
    assert (await host.control.result(host.control.send(update=order))).ok
    spec = host.record("i-0021")["spec"]
    assert (spec["tags"], spec["metadataOptions"]["httpTokens"]) == ({"new": "2"}, "required")


@pytest.mark.parametrize("shared", [True, False])
async def test_an_image_of_a_running_guest_boots_another(host: Host, shared: bool) -> None:
    if shared:
        await host.stop_agent()
        host.images_dir = host.folder / "images"
        await host.start_agent()
    await host.launch("i-0022")
    await run(host.guest("i-0022"), "/bin/sh", "-c", "echo from the first > /root/file; ln -s /etc/passwd /root/link")
    order = host.control.send(
        snapshot=fleet_pb2.SnapshotGuest(instance_id="i-0022", image_id="ami-00000000000000009", freeze=True)
    )
    result = await host.control.result(order)
    assert result.ok and result.size_bytes > 0
    assert (await run(host.guest("i-0022"), "/bin/true"))[0] == 0  # thawed
    spec = guest_spec("i-0023")
    spec.image_id, spec.image_builtin = "ami-00000000000000009", False
    host.control.send(start=fleet_pb2.StartGuest(spec=spec))
    await host.start_actor("i-0023")
    await host.control.until_state("i-0023", "running")
    assert await run(host.guest("i-0023"), "/bin/cat", "/root/file") == (0, "from the first\n")


async def test_a_snapshot_that_fails_thaws_the_guest(host: Host) -> None:
    await host.launch("i-0024")
    order = host.control.send(
        snapshot=fleet_pb2.SnapshotGuest(instance_id="i-0024", image_id="../../etc/passwd", freeze=True)
    )
    assert not (await host.control.result(order)).ok
    assert (await run(host.guest("i-0024"), "/bin/true"))[0] == 0


async def test_an_image_that_is_not_there_is_why_the_launch_failed(host: Host) -> None:
    spec = guest_spec("i-0025")
    spec.image_id, spec.image_builtin = "ami-00000000000000007", False
    host.control.send(start=fleet_pb2.StartGuest(spec=spec))
    await host.start_actor("i-0025")
    report = await host.control.until_state("i-0025", "ended")
    assert report.reason.code == "PrepareFailed"
    assert await asyncio.wait_for(host.actors["i-0025", 1].wait(), 10) == 0


# ---------------------------------------------------------------- agents and control planes that come and go


async def test_a_new_agent_adopts_what_goes_on_and_reports_what_ended_meanwhile(host: Host) -> None:
    await host.launch("i-0030")
    await host.launch("i-0031")
    guests = {name: host.record(name)["guest"] for name in ("i-0030", "i-0031")}
    await host.stop_agent()
    assert identify(guests["i-0030"][0]) is not None
    os.kill(guests["i-0031"][0], signal.SIGKILL)
    await host.start_agent()
    report = await host.control.until_state("i-0031", "ended")
    assert (report.reason.code, report.exit_code) == ("GuestExited", 137)
    assert host.record("i-0030")["guest"] == guests["i-0030"]
    assert (await run(host.guest("i-0030"), "/bin/true"))[0] == 0
    assert (await host.control.result(host.end("i-0030"))).ok
    assert identify(guests["i-0030"][0]) is None
    assert await host.actors["i-0030", 1].wait() == 0


async def test_a_guest_whose_actor_died_without_an_agent_is_buried_by_the_next(host: Host) -> None:
    await host.launch("i-0032")
    await host.stop_agent()
    host.actors["i-0032", 1].kill()
    await host.actors["i-0032", 1].wait()
    await host.start_agent()
    report = await host.control.until_state("i-0032", "ended")
    assert report.reason.code == "Server.ActorDied"
    if host.isolation.cgroup_version:
        assert Cgroups.detect().existing(host.prefix) == []


async def test_leftovers_of_guests_that_nobody_knows_are_removed(host: Host) -> None:
    await host.launch("i-0033")
    await host.stop_agent()
    (host.places.host_dir / "guests" / "i-0033.json").unlink()
    await host.start_agent()
    assert await asyncio.wait_for(host.actors["i-0033", 1].wait(), 10) == 0
    assert not host.places.control("i-0033").exists()
    assert host.places.root("i-0033").exists()  # a disk is deleted by order only
    if host.isolation.cgroup_version:
        assert Cgroups.detect().existing(host.prefix) == []


async def test_ended_guests_are_told_until_they_are_forgotten(host: Host) -> None:
    await host.launch("i-0034")
    assert (await host.control.result(host.end("i-0034"))).ok
    await host.stop_agent()
    await host.start_agent()
    await host.control.until(lambda: len(host.control.hellos) == 2)
    assert [guest.state for guest in host.control.hellos[-1].guests] == ["ended"]
    forget = host.control.send(forget=fleet_pb2.ForgetGuest(instance_id="i-0034", generation=1))
    assert (await host.control.result(forget)).ok
    await host.stop_agent()
    await host.start_agent()
    await host.control.until(lambda: len(host.control.hellos) == 3)
    assert list(host.control.hellos[-1].guests) == []


async def test_guests_do_not_notice_a_restarted_control_plane_and_a_fenced_one_is_not_heard(host: Host) -> None:
    await host.launch("i-0035")
    guest = host.record("i-0035")["guest"]
    await host.control.stop()
    host.control.epoch = 5
    await host.control.start()
    await host.control.until(lambda: len(host.control.hellos) >= 2)
    assert [report.state for report in host.control.hellos[-1].guests] == ["running"]
    await host.control.until(lambda: host.control.beats)
    await host.control.stop()
    host.control.epoch = 4
    order = host.end("i-0035", force=True)
    heard = len(host.control.hellos)
    await host.control.start()
    await host.control.until(lambda: len(host.control.hellos) >= heard + 2)  # it hung up and tried again
    assert order not in host.control.results and identify(guest[0]) is not None
    host.control.epoch = 6
    heard = len(host.control.hellos)
    await host.control.until(lambda: len(host.control.hellos) > heard)
    assert (await host.control.result(host.end("i-0035", force=True))).ok


async def test_a_fence_ends_every_guest_and_the_agent(host: Host) -> None:
    await host.launch("i-0036")
    guest = host.record("i-0036")["guest"]
    host.control.send(fence=fleet_pb2.Fence(reason="given up"))
    assert host._task is not None
    assert await asyncio.wait_for(host._task, 10) == "fenced"
    assert identify(guest[0]) is None and await host.actors["i-0036", 1].wait() == 0
    assert host.places.root("i-0036").exists()
    for part in host._parts:
        part.close()


# ---------------------------------------------------------------- samples, and hosts without privilege


async def test_samples_say_what_a_guest_uses(host: Host) -> None:
    await host.launch("i-0040")
    busy = asyncio.ensure_future(run(host.guest("i-0040"), host.isolation.python.executable, "-c", "while True: pass"))

    def seen() -> Any:
        samples = [s for beat in host.control.beats for s in beat.samples if s.instance_id == "i-0040"]
        return next((s for s in samples if s.cpu_percent > 30 and s.memory_bytes > 0 and s.answers), None)

    sample = await host.control.until(seen)
    assert sample.generation == 1
    busy.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await busy


async def test_without_any_privilege_guests_are_plain_processes_and_memory_is_watched(
    folder: Path, isolation: probing.HostIsolation
) -> None:
    control = ControlPlane(os.urandom(4).hex())
    await control.start()
    plain = dataclasses.replace(isolation, driver="process", network="loopback", cgroup_version=0)
    host = Host(folder, control, plain)
    await host.start_agent()
    try:
        report = await host.launch("i-0050", memory_mib=48)
        assert report.private_ip.startswith("127.") and report.isolation.cgroup == "none"
        code = "import time\nparts=[bytearray(20 << 20) for _ in range(1)]\ntime.sleep(60)"
        eaters = [
            asyncio.ensure_future(run(host.guest("i-0050"), host.isolation.python.executable, "-c", code))
            for _ in range(3)
        ]
        ended = await control.until_state("i-0050", "ended")
        assert ended.reason.code == "OutOfMemory"
        await asyncio.gather(*eaters, return_exceptions=True)
    finally:
        await host.close()
        await control.stop()
