"""Metrics, alarms and logs at one door, Locate at another, over journals in memory and a virtual clock.

async with monitoring_world() as world:
    world.client()                 # an AsyncClient of account 000000000000
    await world.clock.advance(60)  # alarms are evaluated
    world.doer.acts                # what alarms did
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from minicloud.base.arn import Caller, Scope
from minicloud.client import AsyncClient
from minicloud.cloud_logs import logs_of
from minicloud.logs.rpc import DESCRIPTOR as LOGS
from minicloud.logs.rpc import LogServicer
from minicloud.logs.service import LogService
from minicloud.metric.actions import Act
from minicloud.metric.rpc import ALARMS, METRICS, REPORTS, AlarmServicer, MetricServicer, ReportServicer
from minicloud.metric.service import MetricService
from minicloud.rpc import fleet_auth
from minicloud.rpc.door import Entry, Metadata, door
from minicloud.rpc.locate import AUTOSCALING, Listening, Locator, visitors
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import AUTOSCALERS, ticket_door
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryJournal

SECRET = bytes(range(32))


@dataclass
class FakeDoer:
    acts: list[Act] = field(default_factory=list)

    async def act(self, act: Act) -> None:
        self.acts.append(act)


@dataclass
class World:
    service: MetricService
    clock: VirtualClock
    doer: FakeDoer
    address: str
    shard: str
    logs: LogService

    def client(self, account: str = "000000000000") -> AsyncClient:
        """The front door of this world takes the name of a key for an account."""
        return AsyncClient(self.address, access_key_id=account, secret_access_key="s")


@asynccontextmanager
async def monitoring_world() -> AsyncIterator[World]:
    clock, doer = VirtualClock(float(int(time.time()))), FakeDoer()
    service = MetricService(MemoryJournal(), doer, clock=clock, rand=random.Random(1), secret=SECRET)
    await service.start()
    logs = LogService(MemoryJournal(), clock=clock, rand=random.Random(1), secret=SECRET)
    await logs.start()
    entry = Entry(ticket_door(AUTOSCALERS, SECRET, 0, time.time), _id)
    own = Entry(fleet_auth.fleet_door(SECRET), _id)
    doors = [
        door(MetricServicer(service), METRICS, entry),
        door(AlarmServicer(service), ALARMS, entry),
        door(ReportServicer(service, logs_of(logs)), REPORTS, own),
        door(LogServicer(logs), LOGS, entry),
    ]
    shard = RpcServer(doors, _id, Listen())
    shard_port = await shard.start()
    locator = Locator(AUTOSCALERS, Listening("127.0.0.1", (shard_port,)), SECRET, time.time)
    front = RpcServer([door(locator, AUTOSCALING, Entry(visitors(_admit), _id))], _id, Listen())
    port = await front.start()
    try:
        yield World(service, clock, doer, f"127.0.0.1:{port}", f"127.0.0.1:{shard_port}", logs)
    finally:
        await front.stop(0)
        await shard.stop(0)
        await service.stop()
        await logs.stop()


def _id() -> str:
    return "id"


def _admit(metadata: Metadata) -> Caller:
    named = str(metadata.get("authorization", "")).removeprefix("Bearer ").partition(":")[0]
    return Caller(Scope(named or "000000000000"))
