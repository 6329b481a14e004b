"""GroupService and PolicyService at one door and Locate at another, over a compute that is played and a virtual clock.

async with scaling_doors() as world:
    world.client()                 # an AsyncClient of account 000000000000
    await world.run(30)            # seconds pass: instances boot, reports arrive, metrics are read
    world.cloud.compute, .targets, .metrics
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from minicloud.base.arn import Caller, Scope
from minicloud.client import AsyncClient
from minicloud.rpc.door import Entry, Metadata, door
from minicloud.rpc.locate import AUTOSCALING, Listening, Locator, visitors
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import AUTOSCALERS, ticket_door
from minicloud.scaling.ports import MetricReader
from minicloud.scaling.rpc import groups, policies
from minicloud.scaling.state import State
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk
from tests.pure.test_scaling_service import Cloud, Compute, end

SECRET = bytes(range(32))


@dataclass
class World:
    """`again`: the autoscaler's door falls shut and opens again, on the same port."""

    cloud: Cloud
    address: str
    again: Callable[[], Awaitable[None]]

    def client(self, account: str = "000000000000") -> AsyncClient:
        """The front door of this world takes the name of a key for an account."""
        return AsyncClient(self.address, access_key_id=account, secret_access_key="s")

    async def run(self, seconds: float) -> None:
        await self.cloud.run(seconds)


@asynccontextmanager
async def scaling_doors(
    clock: VirtualClock | None = None, reader: Callable[[State], MetricReader] | None = None
) -> AsyncIterator[World]:
    """reader: of metrics, in the place of the played ones."""
    clock = clock or VirtualClock(float(int(time.time())))
    cloud = await Cloud(clock, MemoryDisk(), Compute(clock), reader).start()
    entry = Entry(ticket_door(AUTOSCALERS, SECRET, 0, time.time), _id)
    doors = [
        door(groups.GroupServicer(cloud.service, b"pages"), groups.DESCRIPTOR, entry),
        door(policies.PolicyServicer(cloud.service, b"pages"), policies.DESCRIPTOR, entry),
    ]
    shard = RpcServer(doors, _id, Listen())
    port = await shard.start()
    locator = Locator(AUTOSCALERS, Listening("127.0.0.1", (port,)), SECRET, time.time)

    async def again(shard_port: int = port) -> None:
        nonlocal shard
        await shard.stop(0)
        shard = RpcServer(doors, _id, Listen(port=shard_port))
        await shard.start()

    front = RpcServer([door(locator, AUTOSCALING, Entry(visitors(_admit), _id))], _id, Listen())
    port = await front.start()
    try:
        yield World(cloud, f"127.0.0.1:{port}", again)
    finally:
        await front.stop(0)
        await shard.stop(0)
        await end(cloud)


def _id() -> str:
    return "id"


def _admit(metadata: Metadata) -> Caller:
    named = str(metadata.get("authorization", "")).removeprefix("Bearer ").partition(":")[0]
    return Caller(Scope(named or "000000000000"))
