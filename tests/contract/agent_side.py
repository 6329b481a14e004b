"""What surrounds a host agent in its contract tests: a control plane that says what it is told to say, and one host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minicloud.base.shape import Shape
from minicloud.host.agent import AgentParts, HostAgent, HostAgentConfig
from minicloud.host.ahead import AHEAD
from minicloud.host.building import BootFacts, Builder, BuilderParts, Isolation, tmp_mib
from minicloud.host.console import Consoles
from minicloud.host.guest import Command, Exit, Guest, Output
from minicloud.host.hearing import Hearing
from minicloud.host.instances import instance_secret
from minicloud.host.places import Places
from minicloud.host.ports import Credits
from minicloud.host.walls import Walls
from minicloud.host.watch import ProcessWatch, identify
from minicloud.sandbox import probe as probing
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.network import NetworkConfig, open_network
from minicloud.wire import fleet_pb2, fleet_pb2_grpc, instance_pb2

SECRET = b"k" * 32
TOKEN = "fleet-token"
ACCOUNT = "000000000000"
MEMORY_MIB = 256


class ControlPlane(fleet_pb2_grpc.FleetServiceServicer):  # type: ignore[misc]
    """Says welcome, keeps what agents report, sends what tests order."""

    def __init__(self, cloud_id: str) -> None:
        self.cloud_id = cloud_id
        self.epoch = 1
        self.hellos: list[fleet_pb2.HostHello] = []
        self.guests: dict[tuple[str, int], list[fleet_pb2.GuestReport]] = {}
        self.results: dict[str, fleet_pb2.OrderResult] = {}
        self.begun: list[str] = []
        self.beats: list[fleet_pb2.HostBeat] = []
        self.images: dict[str, bytes] = {}
        self.port = 0
        self.hung_up = asyncio.Event()  # no stream is left that could take an order with it
        self._orders: deque[fleet_pb2.HostOrder] = deque()
        self._ordered = asyncio.Event()
        self._stream = 0
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
        self._stream += 1  # the newest stream alone takes orders: an older one may not have noticed its end yet
        mine = self._stream
        self._ordered.set()
        self.hung_up.clear()
        reading = asyncio.ensure_future(self._read(requests, first))
        try:
            yield fleet_pb2.HostOrder(
                order_id="welcome", welcome=fleet_pb2.Welcome(cloud_id=self.cloud_id, epoch=self.epoch)
            )
            while self._stream == mine:
                if self._orders:
                    yield self._orders.popleft()
                    continue
                self._ordered.clear()
                await self._ordered.wait()
        finally:
            reading.cancel()
            if self._stream == mine:
                self.hung_up.set()

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

    async def _read(self, requests: Any, first: fleet_pb2.HostReport) -> None:
        await self._note(first)
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
            elif kind == "begun":
                self.begun.append(report.begun.instance_id)
            self._news.notify_all()

    def send(self, order_id: str = "", **order: Any) -> str:
        self._sent += 1
        order_id = order_id or f"order-{self._sent}"
        self._orders.append(fleet_pb2.HostOrder(order_id=order_id, **order))
        self._ordered.set()
        return order_id

    async def until(self, fact: Callable[[], Any], seconds: float = 60.0) -> Any:
        async with asyncio.timeout(seconds), self._news:
            while not (found := fact()):
                await self._news.wait()
        return found

    def last(self, instance_id: str, generation: int = 1) -> fleet_pb2.GuestReport | None:
        reports = self.guests.get((instance_id, generation))
        return reports[-1] if reports else None

    async def until_state(self, instance_id: str, state: str, generation: int = 1, seconds: float = 60.0) -> Any:
        def there() -> Any:
            report = self.last(instance_id, generation)
            return report if report is not None and report.state == state else None

        return await self.until(there, seconds)

    async def result(self, order_id: str, seconds: float = 60.0) -> fleet_pb2.OrderResult:
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
    credits: Credits | None = None
    started_ahead: bool = False
    builder: Builder | None = None
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
            secret = partial(instance_secret, SECRET) if self.started_ahead else None
            self.builder = Builder(
                BuilderParts(self.places, isolation, network, walls, images, consoles, boot_document, secret)
            )
            return self.builder

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
            self.credits,
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
        await self.control.hung_up.wait()
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
        await self.guest_ahead(more.get("memory_mib", MEMORY_MIB))
        self.control.send(start=fleet_pb2.StartGuest(spec=guest_spec(instance_id, generation, **more)))
        await self.start_actor(instance_id, generation)
        return await self.control.until_state(instance_id, "running", generation)

    async def guest_ahead(self, memory_mib: int = MEMORY_MIB) -> bool:
        """Where guests are started ahead on this host: returns when one waits that fits."""
        ahead = self.builder.ahead if self.builder is not None else None
        if ahead is None:
            return False
        size = tmp_mib(guest_spec("i-any", memory_mib=memory_mib))
        while not ahead.count(size):
            ahead._asked.append((time.monotonic(), size))
            ahead.refill()
            assert ahead._filling is not None
            await ahead._filling
        return True

    @property
    def groups(self) -> list[str]:
        """Control groups of guests that are or were an instance's; who waits for one, or is being made, is left out."""
        if not self.isolation.cgroup_version:
            return []
        names = {name.rpartition("/")[2] for name in Cgroups.detect().existing(self.prefix)}
        records = (json.loads(path.read_text()) for path in (self.places.host_dir / "guests").glob("*.json"))
        known = {record["group"] for record in records}
        return sorted(name for name in names if name in known or not name.startswith(AHEAD))

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
        await asyncio.get_running_loop().shutdown_default_executor()  # a thread may still make what is removed here
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
    memory_mib = more.pop("memory_mib", MEMORY_MIB)
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


async def run(guest: Guest, *argv: str) -> tuple[int, str]:
    out = b""
    async with await guest.exec(Command(argv)) as session:
        async for event in session:
            if isinstance(event, Output):
                out += event.data
            elif isinstance(event, Exit):
                return event.code, out.decode()
    raise AssertionError("no exit")


async def gone(pid: int, seconds: float = 60.0) -> None:
    process = identify(pid)
    if process is not None:
        over = asyncio.Event()
        watch = ProcessWatch(process, over.set)
        try:
            await asyncio.wait_for(over.wait(), seconds)
        finally:
            watch.close()
