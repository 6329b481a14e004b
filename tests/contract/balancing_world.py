"""BalancerService at its own door and Locate at another, over the machine alone: no HAProxy, no journal.

async with balancing_world() as world:
    world.client()                 # an AsyncClient of account 000000000000
    world.instances["i-..."] = Place("10.0.0.1", "us-east-1a")
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

from minicloud.balancer.commands import RegisterTargets
from minicloud.balancer.machine import Balancers
from minicloud.balancer.ports import Place
from minicloud.balancer.rpc import DESCRIPTOR, BalancerServicer
from minicloud.balancer.state import State
from minicloud.base.arn import Caller, Scope
from minicloud.base.machine import Context
from minicloud.client import AsyncClient
from minicloud.rpc.door import Entry, Metadata, door
from minicloud.rpc.locate import BALANCING, Listening, Locator, visitors
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import BALANCERS, ticket_door

SECRET = bytes(range(32))


@dataclass
class BareService:
    """What `BalancerServicer` needs of `BalancerService`."""

    instances: dict[str, Place] = field(default_factory=dict)
    machine: Balancers = field(default_factory=Balancers)
    plane: Any = field(default_factory=lambda: SimpleNamespace(left_out={}))
    _rand: random.Random = field(default_factory=lambda: random.Random(3))

    async def submit(self, command: Any) -> Any:
        if isinstance(command, RegisterTargets):
            found = [(spec, self.instances.get(spec.id)) for spec in command.targets]
            specs = [replace(spec, address=at.address, zone=at.zone) if at else spec for spec, at in found]
            command = replace(command, targets=tuple(specs))
        outcome = self.machine.decide(command, Context(time.time(), self._rand))
        for record in outcome.records:
            self.machine.apply(record)
        return outcome.reply

    async def served(self, command: Any) -> Any:
        return await self.submit(command)

    def read(self, look: Callable[[State], Any]) -> Any:
        return look(self.machine.state)

    async def shown(self, look: Callable[[State], Any]) -> Any:
        return self.read(look)

    async def settled(self) -> None:
        pass


@dataclass
class World:
    service: BareService
    address: str

    @property
    def instances(self) -> dict[str, Place]:
        return self.service.instances

    def client(self, account: str = "000000000000") -> AsyncClient:
        """The front door of this world takes the name of a key for an account."""
        return AsyncClient(self.address, access_key_id=account, secret_access_key="s")


@asynccontextmanager
async def balancing_world() -> AsyncIterator[World]:
    service = BareService()
    servicer = BalancerServicer(service, b"pages")  # type: ignore[arg-type]
    shard = RpcServer(
        [door(servicer, DESCRIPTOR, Entry(ticket_door(BALANCERS, SECRET, 0, time.time), _id))], _id, Listen()
    )
    locator = Locator(BALANCERS, Listening("127.0.0.1", (await shard.start(),)), SECRET, time.time)
    front = RpcServer([door(locator, BALANCING, Entry(visitors(_admit), _id))], _id, Listen())
    port = await front.start()
    try:
        yield World(service, f"127.0.0.1:{port}")
    finally:
        await front.stop(0)
        await shard.stop(0)


def _id() -> str:
    return "id"


def _admit(metadata: Metadata) -> Caller:
    return Caller(Scope(str(metadata["authorization"]).removeprefix("Bearer ").partition(":")[0]))
