"""The composition root of a message broker: its log, the core over it, and the doors in front.

Another half of `cloud.py`, apart from it so that a broker, which Ray restarts in a hurry, imports only what it needs.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import uvloop

from minicloud import settings
from minicloud.aws.call import Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.forward import Place
from minicloud.aws.services import BROKER
from minicloud.base import limits
from minicloud.cloud_calls import Calls
from minicloud.cloud_feeds import Reporting, way_to_metrics
from minicloud.cloud_gateway import AwsFace, Entrance, entrance, new_request_id
from minicloud.cloud_topic_functions import FunctionPoster
from minicloud.cloud_topics import TopicParts, Topics
from minicloud.proxy.front_door import TOPICS_PATH
from minicloud.queue.aws import QueueApi
from minicloud.queue.core import Broker
from minicloud.queue.metering import QueueMeter
from minicloud.queue.rpc import DESCRIPTOR as QUEUES
from minicloud.queue.rpc import Door as QueueDoor
from minicloud.queue.rpc import QueueServicer
from minicloud.queue.service import DurableLog, Ports, QueueService
from minicloud.rpc import broker_counters
from minicloud.rpc.broker_counters import Readings
from minicloud.rpc.door import Entry, door
from minicloud.rpc.reporter import Reporter
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import BROKERS, ticket_door
from minicloud.rpc.tls import server_credentials
from minicloud.settings import MESSAGE_BROKER, SHARD_KINDS, CloudSettings
from minicloud.shell.clock import Clock, SteadyClock, SystemClock
from minicloud.shell.reports import MINUTE_S, Report
from minicloud.shell.webhook import Webhooks
from minicloud.store.log import FileLog
from minicloud.topic.aws.api import TopicApi
from minicloud.topic.rpc import DESCRIPTOR as TOPICS
from minicloud.topic.rpc import TopicServicer
from minicloud.topic.seal import SigningKey

log = logging.getLogger("minicloud.broker")

GARBAGE = (20_000, 20, 50)  # many short-lived objects, few cycles: looking for them less often saves 2% of the CPU
TOPIC_TOTALS = {  # name on the metrics page: SNS's
    "published": "NumberOfMessagesPublished",
    "delivered": "NumberOfNotificationsDelivered",
    "failed": "NumberOfNotificationsFailed",
}


@dataclass(frozen=True, slots=True)
class BrokerParts:
    """What a broker is made of. `clock`: from the moment that it must not start before; `wall`: what tickets go by."""

    number: int
    secret: bytes
    listen: Listen
    base_url: str
    rand: random.Random
    clock: Callable[[float], Clock] = SteadyClock
    wall: Callable[[], float] = time.time
    topics: TopicParts = field(default_factory=TopicParts)
    log_stats: Callable[[], Mapping[str, int]] = dict
    entrance: Entrance = field(default_factory=lambda: Entrance(open_admit()))
    way_to_metrics: Reporter | None = None


class MessageBroker:
    """Everything that runs in a broker's process, around one log. Also what tests start without Ray."""

    def __init__(self, log: DurableLog, epoch: int, parts: BrokerParts) -> None:
        """Replays the log: O(frames)."""
        self.core = Broker(log, derived(parts.secret, "receipts"), epoch)
        self.core.replay()
        clock = parts.clock(self.core.latest())
        self.core.start(clock.wall())
        self.topics = Topics(parts.topics)
        self.service = QueueService(self.core, Ports(log, clock, parts.rand, self.topics.render))
        self.topics.over(self.service, clock, parts.rand, derived(parts.secret, "topic tokens"))
        entry = Entry(ticket_door(BROKERS, parts.secret, parts.number, parts.wall), lambda: secrets.token_hex(16))
        pages = derived(parts.secret, "pages")
        queues = door(QueueServicer(self.service, QueueDoor(pages, parts.base_url)), QUEUES, entry)
        topics = door(TopicServicer(self.topics.service, pages), TOPICS, entry)
        own: Entry[None] = Entry(broker_counters.internal_door(parts.secret), entry.new_request_id)
        counters = door(broker_counters.CountersServicer(self.readings), broker_counters.DESCRIPTOR, own)
        self._log_stats = parts.log_stats
        aws = [Door("sqs", QueueApi(self.service, pages)), Door("sns", TopicApi(self.topics.service, pages))]
        self.face = AwsFace(aws, parts.entrance)
        self.server = RpcServer([queues, topics, counters], entry.new_request_id, parts.listen)
        self._meter = QueueMeter(self.core.book)
        self._reporting = Reporting(parts.way_to_metrics, self.measured, SystemClock())

    def readings(self) -> Readings:
        """For the metrics page. Queues that carry deliveries to HTTP endpoints count as queues."""
        totals: dict[str, float] = {f"queue_messages.{name}": count for name, count in self.core.counters().items()}
        topics, stats = self.topics.service.totals, self._log_stats()
        totals |= {f"topic_messages.{name}": topics[metric] for name, metric in TOPIC_TOTALS.items()}
        totals |= {f"log_writes.{name}": stats[name] for name in ("syncs", "records") if name in stats}
        totals |= {f"broker_lost.{name}": count for name, count in self._reporting.lost().items()}
        gauges = {f"queue_depth.{name}": count for name, count in self.core.depths().items()}
        gauges |= {f"log_size.{name}": stats[name] for name in ("bytes", "segments", "pending_bytes") if name in stats}
        return Readings(totals, gauges)

    @staticmethod
    def of(log: FileLog, epoch: int, cloud: CloudSettings, number: int) -> MessageBroker:
        """Broker `number` of a cloud."""
        listen = Listen(
            broker_bind(cloud),
            cloud.brokers[number].port,
            None if cloud.tls is None else server_credentials(cloud.tls.cert, cloud.tls.key),
            calls_max=limits.GRPC_BROKER_CALLS_MAX,
            socket=str(cloud.shard_socket(MESSAGE_BROKER, number)),
        )
        base_url = cloud.endpoints["http"]
        secret = settings.read_secret(cloud)
        topics = TopicParts(
            key=SigningKey(cloud.signing_key_path(number)),
            poster=FunctionPoster(Webhooks(own_ports(cloud)), Calls(cloud, secret, MESSAGE_BROKER.called(number))),
            base_url=f"{base_url}{TOPICS_PATH}/{number}",
        )
        parts = BrokerParts(
            number,
            secret,
            listen,
            base_url,
            random.SystemRandom(),
            topics=topics,
            log_stats=log.stats,
            entrance=entrance(cloud, Place(BROKER, number)),
            way_to_metrics=way_to_metrics(cloud, secret, MESSAGE_BROKER.called(number)),
        )
        return MessageBroker(log, epoch, parts)

    async def start(self) -> int:
        """Serve. Returns the gRPC port."""
        await self.topics.start()
        await self.face.start(self.topics.links(new_request_id))
        port = await self.server.start()
        self.server.health.set_all(True)
        self._reporting.start()
        return port

    async def measured(self, moment: int) -> list[Report]:
        """What queues and topics did in the minute that ends now."""
        found = self.topics.service.report(moment - MINUTE_S)
        for part in self._meter.report(moment - MINUTE_S):
            found += part
            await asyncio.sleep(0)
        return found

    @property
    def http_port(self) -> int:
        """Where SQS, SNS and the links in messages are served."""
        return self.face.port

    async def stop(self, grace_s: float = 2.0) -> None:
        await self._reporting.close()
        await self.face.stop(grace_s)
        await self.topics.stop()
        await self.service.close()
        await self.server.stop(grace_s)


def broker_bind(cloud: CloudSettings) -> str:
    """Where brokers serve users: where the front door does."""
    return "127.0.0.1" if cloud.bind == "localhost" else cloud.bind


def own_ports(cloud: CloudSettings) -> frozenset[int]:
    """Ports of the cloud itself that no endpoint of a topic can be on: users have the front door."""
    own = {cloud.control_port, cloud.control_http_port}
    own |= {shard.http_port for kind in SHARD_KINDS for shard in cloud.shards(kind)}
    return frozenset(own - {0})


def run_message_broker(cloud: CloudSettings, number: int) -> None:
    """Blocks until the log is lost to another owner or the disk fails; then the actor ends and Ray restarts it."""
    uvloop.run(_message_broker(cloud, number))


async def _message_broker(cloud: CloudSettings, number: int) -> None:
    began = time.monotonic()
    store = FileLog.open(cloud.messages_path(number), f"message-broker-{number}")
    try:
        broker = MessageBroker.of(store, store.epoch, cloud, number)
        gc.set_threshold(*GARBAGE)
        gc.freeze()  # queues stay: looking for garbage among 100,000 of them stops every call for a tenth of a second
        for damage in store.damage:
            log.error("messages/%d: %s", number, damage)
        port = await broker.start()
        log.info("serves on port %d after %.2f s", port, time.monotonic() - began)
        try:
            await store.ended.wait()
            log.error("the message broker ends: %s", store.error)
        finally:
            await broker.stop(0)
    finally:
        await store.close()


def derived(secret: bytes, use: str) -> bytes:
    return hmac.new(secret, use.encode(), hashlib.sha256).digest()
