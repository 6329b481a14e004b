"""A host agent that speaks FleetService for real and runs nothing: for tests of the control plane's side.

It does what it is told at once: a start is reported running, an end is reported ended and answered. `deaf` orders are
kept and not carried out, so that a test can look at what was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc

from minicloud.rpc import fleet_auth
from minicloud.wire import common_pb2, fleet_pb2_grpc
from minicloud.wire import fleet_pb2 as pb


class FakeHost:
    def __init__(self, address: str, secret: bytes, name: str = "host-a", session: str = "node-1") -> None:
        self.name = name
        self.host_id = f"h-{ord(name[-1]):017x}"
        self.session = session
        self.orders: list[pb.HostOrder] = []
        self.guests: dict[str, pb.GuestReport] = {}
        self.deaf = False
        self.welcomed = asyncio.Event()
        self._changed = asyncio.Event()
        self._address = address
        self._secret = secret
        self._task: asyncio.Task[None] | None = None
        self._call: Any = None

    async def __aenter__(self) -> FakeHost:
        self._task = asyncio.create_task(self._run())
        await asyncio.wait_for(self.welcomed.wait(), 60)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
            await self._task

    async def ordered(self, kind: str, count: int = 1) -> list[pb.HostOrder]:
        """The orders of this kind, once there are `count`."""
        while len(found := [one for one in self.orders if one.WhichOneof("order") == kind]) < count:
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), 60)
        return found

    async def say(self, report: pb.HostReport) -> None:
        await self._call.write(report)

    async def report(self, instance_id: str, generation: int, state: str, **fields: Any) -> None:
        guest = pb.GuestReport(instance_id=instance_id, generation=generation, state=state, **fields)
        self.guests[instance_id] = guest
        await self.say(pb.HostReport(guest=guest))

    def hello(self) -> pb.HostHello:
        return pb.HostHello(
            host_id=self.host_id,
            name=self.name,
            zone=f"us-east-1{self.name[-1]}",
            ray_node_id=self.session,
            agent_address="127.0.0.1:9",
            architecture="x86_64",
            capacity=common_pb2.Shape(vcpus=4, memory_mib=16384, disk_gib=100),
            overcommit_cpu=8,
            overcommit_memory=1,
            overcommit_gpu=1,
            guests=self.guests.values(),
        )

    async def knock(self) -> None:
        """Open the stream and listen. Raises what it is refused with: gRPC may hide it from who writes meanwhile."""
        async with grpc.aio.insecure_channel(self._address) as channel:
            await self._open(channel).read()

    def _open(self, channel: grpc.aio.Channel) -> Any:
        metadata = ((fleet_auth.METADATA, fleet_auth.token(self._secret, self.host_id)),)
        return fleet_pb2_grpc.FleetServiceStub(channel).Sync(metadata=metadata)  # type: ignore[no-untyped-call]

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            self._call = self._open(channel)
            await self._call.write(pb.HostReport(hello=self.hello()))
            async for order in self._call:
                await self._take(order)

    async def _take(self, order: pb.HostOrder) -> None:
        self.orders.append(order)
        self._changed.set()
        kind = order.WhichOneof("order")
        if kind == "welcome":
            self.welcomed.set()
        elif self.deaf:
            return
        elif kind == "start":
            spec = order.start.spec
            await self.report(spec.instance_id, spec.generation, "running", private_ip="10.64.0.9")
        elif kind == "end":
            await self.report(order.end.instance_id, order.end.generation, "ended")
            await self.say(pb.HostReport(result=pb.OrderResult(order_id=order.order_id, ok=True)))
        elif kind == "forget":
            self.guests.pop(order.forget.instance_id, None)
