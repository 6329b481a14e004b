"""Short ways to a broker's topics in tests: rpcs, a poster that answers as told, links, signatures.

async with offline() as (world, poster, clock):     # time stands still, posts go to the fake
    await topic(world); await queue(world, "a"); await subscribe(world, "a")
    await publish(world, "hello"); await take(world, "a")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from minicloud.base.errors import CloudError
from minicloud.cloud_topics import TopicParts
from minicloud.rpc.errors import from_rpc_error
from minicloud.shell.clock import VirtualClock
from minicloud.sim.log import MemoryLog
from minicloud.topic.seal import SigningKey
from minicloud.wire import queue_pb2, topic_pb2
from tests.contract.broker_world import World, broker_world
from tests.turns import turn

KEY = SigningKey()
ARN = "arn:aws:sns:us-east-1:000000000000:news"
NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


async def refusal(call: Any) -> CloudError:
    with pytest.raises(grpc.RpcError) as failed:
        await call
    return from_rpc_error(failed.value)


async def topic(world: World, name: str = "news", **attributes: str) -> topic_pb2.Topic:
    if name.endswith(".fifo"):
        attributes["FifoTopic"] = "true"
    request = topic_pb2.CreateTopicRequest(name=name, attributes=attributes)
    return await world.topics.CreateTopic(request)  # type: ignore[no-any-return]


async def queue(world: World, name: str) -> str:
    attributes = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    made = await world.queues.CreateQueue(queue_pb2.CreateQueueRequest(name=name, attributes=attributes))
    return str(made.arn)


async def subscribe(world: World, endpoint: str, topic: str = "news", **attributes: str) -> topic_pb2.Subscription:
    protocol = endpoint.split(":")[0] if "://" in endpoint else "lambda" if ":function:" in endpoint else "sqs"
    request = topic_pb2.SubscribeRequest(topic=topic, protocol=protocol, endpoint=endpoint, attributes=attributes)
    return await world.topics.Subscribe(request)  # type: ignore[no-any-return]


async def publish(world: World, *messages: str, topic: str = "news", **options: Any) -> topic_pb2.PublishMessagesReply:
    entries = [topic_pb2.PublishEntry(message=message.encode(), **options) for message in messages]
    request = topic_pb2.PublishMessagesRequest(topic=topic, entries=entries)
    return await world.topics.PublishMessages(request)  # type: ignore[no-any-return]


async def take(world: World, name: str, most: int = 100) -> queue_pb2.ReceiveMessagesReply:
    request = queue_pb2.ReceiveMessagesRequest(queue=name, max_messages=most)
    return await world.queues.ReceiveMessages(request)  # type: ignore[no-any-return]


async def metrics(world: World) -> dict[str, float]:
    reply = await world.topics.GetTopicMetrics(topic_pb2.GetTopicMetricsRequest(topic="news"))
    return {name.removeprefix("NumberOf"): value for name, value in reply.values.items() if value}


def verify(document: Mapping[str, str], names: tuple[str, ...], certificate: bytes) -> None:
    """As AWS says: the lines of the fields that are there, the hash of the version, the certificate's public key."""
    text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
    algorithm = {"1": hashes.SHA1, "2": hashes.SHA256}[document["SignatureVersion"]]()
    public = x509.load_pem_x509_certificate(certificate).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    public.verify(base64.b64decode(document["Signature"]), text.encode(), padding.PKCS1v15(), algorithm)


async def fetch(world: World, url: str, method: str = "GET") -> tuple[int, bytes]:
    """A link of the broker, as the front door passes it on."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection("127.0.0.1", world.broker.http_port)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


class Post:
    def __init__(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        self.url, self.headers, self.body = url, {name.lower(): value for name, value in headers.items()}, body

    @property
    def document(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)
        return found


class FakePoster:
    """A poster that answers as told: `answers` in turn, then 200. `stalled`: URLs that never answer."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: list[int] = []
        self.stalled: set[str] = set()
        self.at_once = 0
        self.at_once_max = 0
        self._news = asyncio.Event()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.posts.append(Post(url, headers, body))
        self._news.set()
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            if url in self.stalled:
                await asyncio.Event().wait()
            await turn()
        finally:
            self.at_once -= 1
        return self.answers.pop(0) if self.answers else 200

    async def close(self) -> None:
        pass

    async def got(self, count: int) -> list[Post]:
        async with asyncio.timeout(60):
            while len(self.posts) < count:
                self._news.clear()
                await self._news.wait()
        return self.posts


@contextlib.asynccontextmanager
async def offline(
    log: MemoryLog | None = None, poster: FakePoster | None = None
) -> AsyncIterator[tuple[World, Any, Any]]:
    """A broker whose time stands still, and whose posts go to a fake."""
    clock, poster = VirtualClock(), poster or FakePoster()
    async with broker_world(log=log, clock=clock, topics=TopicParts(key=KEY, poster=poster)) as world:
        yield world, poster, clock


async def confirmed(world: World, poster: FakePoster, url: str = "http://x.test/hook", **attributes: str) -> str:
    """An endpoint that has confirmed; its subscription's ARN."""
    before = len(poster.posts)
    pending = await subscribe(world, url, **attributes)
    assert pending.arn == "PendingConfirmation"
    token = (await poster.got(before + 1))[-1].document["Token"]
    request = topic_pb2.ConfirmSubscriptionRequest(topic="news", token=token)
    found = await world.topics.ConfirmSubscription(request)
    poster.posts.clear()
    return str(found.arn)
