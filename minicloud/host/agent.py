"""The host agent: everything between an order of the control plane and a running guest, on one host.

    control plane <── sync.py (orders, reports, beats) ──> agent ──> guests.py ──> life.py (one task per guest)
    instance actors ── instances.py (unix socket) ──────────┘           └──> builder, walls, watch: ports, see ports.py
    users' streams ── GuestService (guest_rpc.py), on a port of its own
    guests ── metadata service (imds.py)

One asyncio loop, no Ray. State that must outlive the process is in the guests' records and in `agent.json` (the highest
lease epoch seen). The agent may be killed at any moment: guests and actors go on, its successor adopts them.

An agent that is told to go (`stop`) leaves its guests alone. One that is fenced (its host was given up; others may run
its instances) ends every guest first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc
import grpc.aio

from minicloud.base.errors import CloudError, Internal, InvalidRequest
from minicloud.base.shape import Overcommit, Shape
from minicloud.host import firewall
from minicloud.host.guests import Guests, report_of
from minicloud.host.images import Images
from minicloud.host.instances import DoorEnds, InstanceDoor
from minicloud.host.life import LifeTools
from minicloud.host.orders import Answer, OrderBook
from minicloud.host.ports import Credits, GuestBuilder, GuestMeter, GuestWalls, GuestWatch, WorkerPool
from minicloud.host.records import GuestRecord, RecordFiles
from minicloud.host.sampler import Sampler, SamplerParts
from minicloud.host.sync import ControlLine, LineEnds, cancel_all
from minicloud.rpc.errors import from_rpc_error
from minicloud.wire import common_pb2, fleet_pb2_grpc, instance_pb2
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.host.agent")

# Carried out again whenever they come: they name a wanted state. The others (reboot, snapshot) are done once per id.
REPEATABLE = frozenset({"start", "end", "update", "forget", "warm"})


@dataclass(frozen=True, slots=True)
class HostAgentConfig:
    """Who this host is, and where things are.

    host_dir: <data>/hosts/<name>. socket_dir: short (unix socket paths have 107 bytes), made mode 0700.
    images_dir: the control plane's image tars where the disk is shared; None: they are fetched.
    agent_address: host:port of GuestService as users reach it. agent_epoch: new for every agent process.
    """

    cloud_id: str
    host_id: str
    name: str
    zone: str
    ray_node_id: str
    host_dir: Path
    socket_dir: Path
    control_address: str
    fleet_token: str
    cluster_secret: bytes = field(repr=False)
    agent_address: str
    agent_epoch: str
    architecture: str
    capacity: Shape
    overcommit: Overcommit = field(default_factory=Overcommit)
    images_dir: Path | None = None

    @property
    def agent_socket(self) -> Path:
        return agent_socket(self.socket_dir)


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What `cloud.py` plugs in. `isolation`: what guests of this host get, for the hello.

    builder(images) makes the guest builder. memory_enforced: the kernel limits the guests' memory. wall(): Unix s.
    """

    builder: Callable[[Images], GuestBuilder]
    watch: GuestWatch
    walls: GuestWalls
    meter: GuestMeter
    isolation: instance_pb2.Isolation
    memory_enforced: bool
    disk_root: Callable[[str], Path]
    wall: Callable[[], float]
    credits: Credits | None = None
    pool: WorkerPool | None = None


def agent_socket(socket_dir: Path) -> Path:
    """Where the actors of this host find their agent; the launcher computes the same path."""
    return socket_dir / "agent.sock"


class HostAgent:
    """Make it and run it on one event loop. `guests` and `record_changed` are for the doors beside it."""

    def __init__(self, config: HostAgentConfig, parts: AgentParts) -> None:
        self.config = config
        self._parts = parts
        for folder in (config.host_dir, config.socket_dir):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _check_ours(folder)
        self.line = ControlLine(
            config.control_address,
            config.fleet_token,
            LineEnds(self._hello, self._on_welcome, self._on_fence, self._on_order),
        )
        shared = config.images_dir
        self._images = Images(
            shared or config.host_dir / "images-cache", None if shared is not None else _ImagesOverGrpc(self.line)
        )
        files = RecordFiles(config.host_dir / "guests")
        self._builder = parts.builder(self._images)
        tools = LifeTools(self._builder, parts.watch, parts.walls, files, self._on_changed, self._on_begun)
        self.guests = Guests(tools) if parts.credits is None else Guests(tools, parts.credits.check)
        self._door = InstanceDoor(
            config.agent_socket,
            config.cluster_secret,
            DoorEnds(self.guests.actor_came, self.guests.actor_said, self.guests.actor_left),
        )
        self._sampler = Sampler(
            SamplerParts(
                parts.meter,
                parts.watch,
                files,
                parts.credits,
                parts.memory_enforced,
                config.host_dir,
                parts.wall,
            ),
            self.guests.lives,
            self.line.beat,
            lambda: parts.pool.idle if parts.pool is not None else 0,
        )
        self._book = OrderBook(self._read_epoch())
        self._work: set[asyncio.Task[None]] = set()
        self._fenced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.warnings: list[str] = []

    async def run(self, stop: asyncio.Event) -> Literal["stopped", "fenced"]:
        """Serve until told to stop (guests stay) or fenced (guests are ended). Raises what a part of it raised."""
        self.warnings += self.guests.load()
        self.warnings += await self._builder.take_over(self.guests.live())
        for warning in self.warnings:
            log.warning("%s", warning)
        await self._door.open()
        parts: list[Awaitable[object]] = [self.line.run(), self._sampler.run(), stop.wait(), self._fenced]
        if self._parts.pool is not None:
            parts.append(self._parts.pool.run())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if self._fenced.done():
                log.warning("fenced: %s; every guest is ended", self._fenced.result())
                await self.guests.end_all()
        finally:
            await cancel_all([*tasks, *self._work])
            await self.guests.leave()
            await self._door.close()
            self._builder.close()
        return "fenced" if self._fenced.done() and not self._fenced.cancelled() else "stopped"

    # ------------------------------------------------------------ the line's ends

    def _hello(self) -> wire.HostHello:
        config = self.config
        capacity, overcommit = config.capacity, config.overcommit
        return wire.HostHello(
            host_id=config.host_id,
            name=config.name,
            zone=config.zone,
            ray_node_id=config.ray_node_id,
            agent_address=config.agent_address,
            architecture=config.architecture,
            capacity=common_pb2.Shape(
                vcpus=capacity.vcpus,
                memory_mib=capacity.memory_mib,
                gpus=capacity.gpus,
                disk_gib=capacity.disk_gib,
            ),
            overcommit_cpu=overcommit.cpu,
            overcommit_memory=overcommit.memory,
            overcommit_gpu=overcommit.gpu,
            guests=self.guests.reports(),
            isolation=self._isolation(),
            agent_epoch=config.agent_epoch,
        )

    def _isolation(self) -> instance_pb2.Isolation:
        isolation = instance_pb2.Isolation()
        isolation.CopyFrom(self._parts.isolation)
        isolation.warnings.extend(self.warnings)
        return isolation

    def _on_welcome(self, welcome: wire.Welcome) -> bool:
        if welcome.cloud_id != self.config.cloud_id:
            log.error("the control plane at %s is of another cloud", self.config.control_address)
            return False
        if not self._book.welcome(welcome.epoch):
            log.error("a control plane of epoch %d is fenced, %d was seen", welcome.epoch, self._book.epoch)
            return False
        self._write_epoch()
        return True

    def _on_fence(self, reason: str) -> None:
        if not self._fenced.done():
            self._fenced.set_result(reason)

    def _on_changed(self, record: GuestRecord) -> None:
        self.line.report(wire.HostReport(guest=report_of(record)))
        if self._parts.pool is not None:
            self._parts.pool.busy()
            self._parts.pool.under_way(self.guests.coming())

    def _on_begun(self, record: GuestRecord) -> None:
        begun = wire.GuestBegun(instance_id=record.instance_id, generation=record.generation)
        self.line.report(wire.HostReport(begun=begun))

    # ------------------------------------------------------------ orders

    def _on_order(self, order: wire.HostOrder) -> None:
        kind = order.WhichOneof("order")
        if kind is None:
            self._answer(Answer(order.order_id, False, InvalidRequest.default_code, "an order that is not known here"))
            return
        verdict = self._book.admit(order.order_id, repeatable=kind in REPEATABLE)
        if isinstance(verdict, Answer):
            self._answer(verdict)
        elif verdict == "new":
            task = asyncio.ensure_future(self._carry_out(kind, order))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _carry_out(self, kind: str, order: wire.HostOrder) -> None:
        try:
            size = await self._do(kind, order)
            answer = Answer(order.order_id, size_bytes=size)
        except CloudError as error:
            answer = Answer(order.order_id, False, error.code, error.message)
        except OSError as error:
            answer = Answer(order.order_id, False, Internal.default_code, str(error))
        except Exception as error:
            log.exception("order %s", order.order_id)
            answer = Answer(order.order_id, False, Internal.default_code, f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            self._book.dropped(order.order_id)
            raise
        self._book.done(answer)
        self._answer(answer)

    async def _do(self, kind: str, order: wire.HostOrder) -> int:
        """Returns the size of an image made, else 0. Raises CloudError, OSError."""
        if kind == "start":
            if self._parts.pool is not None:
                self._parts.pool.launched()
            await self.guests.start(order.start.spec)
            if self._parts.pool is not None:
                self._parts.pool.under_way(self.guests.coming())
        elif kind == "end":
            await self.guests.end(order.end)
        elif kind == "reboot":
            await self.guests.reboot(order.reboot.instance_id, order.reboot.generation)
        elif kind == "update":
            await self._update(order.update)
        elif kind == "forget":
            self.guests.forget(order.forget.instance_id, order.forget.generation)
        elif kind == "warm" and self._parts.pool is not None:
            self._parts.pool.set_floor(order.warm.workers)
        elif kind == "snapshot":
            return await self._snapshot(order.snapshot)
        return 0

    async def _update(self, order: wire.UpdateGuest) -> None:
        walled = "firewall" in self.guests.find(order.instance_id).spec
        record = self.guests.update(order)
        self._sampler.options_changed(order.instance_id)
        if walled or order.HasField("firewall"):
            await asyncio.to_thread(firewall.enforce, record)

    async def _snapshot(self, order: wire.SnapshotGuest) -> int:
        record = self.guests.find(order.instance_id)
        walls, frozen = self._parts.walls, False
        if order.freeze and record.phase == "running":
            frozen = await walls.freeze(record)

        async def thaw() -> None:
            nonlocal frozen
            if frozen:
                frozen = False
                await walls.thaw(record)

        try:
            return await self._images.pack(self._parts.disk_root(order.instance_id), order.image_id, thaw)
        finally:
            await asyncio.shield(thaw())

    def _answer(self, answer: Answer) -> None:
        self.line.report(
            wire.HostReport(
                result=wire.OrderResult(
                    order_id=answer.order_id,
                    ok=answer.ok,
                    error=common_pb2.Reason(code=answer.code, message=answer.message) if not answer.ok else None,
                    size_bytes=answer.size_bytes,
                )
            )
        )

    # ------------------------------------------------------------ the epoch

    def _read_epoch(self) -> int:
        """What cannot be understood counts as nothing seen: the control plane's own lease still holds."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads((self.config.host_dir / "agent.json").read_text())["epoch"])
        return 0

    def _write_epoch(self) -> None:
        path = self.config.host_dir / "agent.json"
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps({"epoch": self._book.epoch}))
        os.replace(scratch, path)


class _ImagesOverGrpc:
    """FetchImage and StoreImage of the control plane."""

    def __init__(self, line: ControlLine) -> None:
        self._line = line

    async def fetch(self, image_id: str) -> AsyncIterator[bytes]:
        async with self._line.channel() as channel:
            stub = fleet_pb2_grpc.FleetServiceStub(channel)  # type: ignore[no-untyped-call]
            call = stub.FetchImage(wire.FetchImageRequest(image_id=image_id), metadata=self._line.metadata)
            try:
                async for chunk in call:
                    yield chunk.data
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None

    async def store(self, image_id: str, chunks: AsyncIterator[bytes]) -> int:
        async def requests() -> AsyncIterator[wire.ImageChunk]:
            yield wire.ImageChunk(image_id=image_id)
            async for data in chunks:
                yield wire.ImageChunk(data=data)

        async with self._line.channel() as channel:
            stub = fleet_pb2_grpc.FleetServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                result = await stub.StoreImage(requests(), metadata=self._line.metadata)
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
        return int(result.size_bytes)


def _check_ours(folder: Path) -> None:
    """A directory under /tmp could have been made by somebody else. Raises Internal."""
    status = folder.stat(follow_symlinks=False)
    if status.st_uid != os.geteuid():
        raise Internal(f"{folder} belongs to another user")
    if status.st_mode & 0o077:
        folder.chmod(0o700)
