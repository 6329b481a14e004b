"""A message broker in this process, on real sockets: QueueService at its own door, MessagingService at another.

    async with broker_world() as world:                 # log in memory, authentication off
        world.address                                   # as a MINICLOUD_ENDPOINT: serves MessagingService.Locate
        await world.queues.CreateQueue(...)             # a stub that shows a ticket with every call

    await world.topics.CreateTopic(...)             # and so do topics

`locked=True` asks for credentials at the endpoint (identity's machine, `world.machine`). `log`: another log than one in
memory; `clock`: a VirtualClock, for instance; `topics`: what the topics are made of.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc

from minicloud.base.arn import Scope
from minicloud.cloud_broker import BrokerParts, MessageBroker
from minicloud.cloud_topics import TopicParts
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.rpc import DESCRIPTOR as IDENTITY
from minicloud.identity.rpc import IdentityRpc
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity
from minicloud.rpc.auth import locked_door, open_door
from minicloud.rpc.door import Entry, door
from minicloud.rpc.locate import MESSAGING, Listening, Locator, visitors
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import BROKERS, issue
from minicloud.rpc.ticket import TICKET_METADATA
from minicloud.shell.clock import Clock, SteadyClock
from minicloud.sim.log import MemoryLog
from minicloud.wire import queue_pb2, queue_pb2_grpc, topic_pb2_grpc
from tests.contract.door_world import MemoryShell

SECRET = bytes(range(32))
TICKET_S = 600.0


@dataclass(slots=True)
class World:
    """`queues`: a stub of account 000000000000. `stub(account)`: another's."""

    broker: MessageBroker
    machine: IdentityMachine
    address: str
    broker_address: str
    channel: grpc.aio.Channel
    queues: Any
    messaging: Any
    topics: Any

    def stub(self, account: str, region: str = "us-east-1") -> Any:
        return queue_pb2_grpc.QueueServiceStub(self.as_account(account, region))  # type: ignore[no-untyped-call]

    def over(self, channel: grpc.aio.Channel) -> Any:
        """The same over another connection."""
        return queue_pb2_grpc.QueueServiceStub(self.as_account("000000000000", channel=channel))  # type: ignore[no-untyped-call]

    def topic_stub(self, account: str, region: str = "us-east-1") -> Any:
        return topic_pb2_grpc.TopicServiceStub(self.as_account(account, region))  # type: ignore[no-untyped-call]

    def as_account(self, account: str, region: str = "us-east-1", channel: Any = None) -> Any:
        """A channel to the broker whose calls show a ticket of that account."""
        proof = issue(BROKERS, SECRET, 0, Scope(account, region), self.broker.service.now() + TICKET_S)
        return _Ticketed(channel or self.channel, proof)


class _Ticketed:
    """A channel that adds a ticket to every call: what stubs need of one."""

    def __init__(self, channel: Any, proof: str) -> None:
        self._channel = channel
        self._metadata = ((TICKET_METADATA, proof),)

    def unary_unary(self, *what: Any, **options: Any) -> Any:
        call = self._channel.unary_unary(*what, **options)

        def start(request: Any, **given: Any) -> Any:
            return call(request, metadata=(*self._metadata, *given.pop("metadata", ())), **given)

        return start


@contextlib.asynccontextmanager
async def broker_world(
    locked: bool = False, log: Any = None, clock: Clock | None = None, topics: TopicParts | None = None
) -> AsyncIterator[World]:
    ids = itertools.count(1)
    log = log if log is not None else MemoryLog()
    time_at = clock or SteadyClock()
    parts = BrokerParts(
        0,
        SECRET,
        Listen(),
        "http://127.0.0.1:4566",
        random.Random(7),
        lambda _latest: time_at,
        time_at.wall,
        topics or TopicParts(),
    )
    broker = MessageBroker(log, log.epoch, parts)
    broker_port = await broker.start()
    machine = IdentityMachine(AesGcmSeal(b"s" * 32))
    shell = MemoryShell(machine)
    admit = locked_door(machine.authenticate) if locked else open_door()
    users = Entry(admit, lambda: f"made-{next(ids)}")
    messaging = Locator(BROKERS, Listening("127.0.0.1", (broker_port,)), SECRET, time_at.wall)
    control = RpcServer(
        [
            door(IdentityRpc(Identity(machine, shell, shell, b"p"), "1.2.3"), IDENTITY, users),
            door(messaging, MESSAGING, Entry(visitors(admit), users.new_request_id)),
        ],
        users.new_request_id,
        Listen(),
    )
    port = await control.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{broker_port}")
    front = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
    try:
        stub: Any = queue_pb2_grpc.MessagingServiceStub(front)  # type: ignore[no-untyped-call]
        world = World(broker, machine, f"127.0.0.1:{port}", f"127.0.0.1:{broker_port}", channel, None, stub, None)
        world.queues = world.stub("000000000000")
        world.topics = world.topic_stub("000000000000")
        yield world
    finally:
        await front.close()
        await channel.close()
        await control.stop(0)
        await broker.stop(0)


def handles(reply: queue_pb2.ReceiveMessagesReply) -> list[bytes]:
    """The receipt handles of a reply, one by one."""
    joined = reply.receipt_handles
    return [joined[at : at + 28] for at in range(0, len(joined), 28)]
