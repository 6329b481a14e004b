"""Topics under fault: SIGKILL of the broker at any moment under load. What was accepted reaches every subscriber.

A standard topic feeds a raw queue, one that gets documents, and one whose filter looks into the body for every third
message; a FIFO topic feeds a FIFO queue and a standard one.

every queue    has each accepted message that is meant for it at least once, and nothing that was not published
documents      are signed by the key that the broker had from its first start on
FIFO queue     the laws of queue_history.Fifo: order within a group, one message for a deduplication id however often
               it was published
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.wire import topic_pb2 as wire
from tests.contract.topic_world import NOTIFICATION, verify
from tests.faults.broker_process import BrokerProcess
from tests.faults.queue_history import PAUSE_S, VISIBILITY_S, Fifo, History, attempt, body_of, name_of
from tests.faults.test_queues import drained, make, one_death, running

ROUNDS = 12
GROUPS = 3


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with tempfile.TemporaryDirectory(prefix="mct-") as data:  # a short path: sockets are in it
        made = BrokerProcess(Path(data))
        made.start()
        yield made
        made.kill()


def message_of(name: str) -> bytes:
    return json.dumps({"text": body_of(name).decode(), "third": is_third(name)}).encode()


def is_third(name: str) -> bool:
    return int(name.rpartition("-")[2]) % 3 == 0


class Raw(History):
    def name(self, body: bytes) -> str:
        return name_of(json.loads(body)["text"].encode())


class Thirds(Raw):
    def name(self, body: bytes) -> str:
        found = super().name(body)
        if not is_third(found):
            self.broken.append(f"{found} passed the filter")
        return found


class Documents(Raw):
    """`last`: the newest document."""

    last: dict[str, str]

    def name(self, body: bytes) -> str:
        self.last = json.loads(body)
        return super().name(self.last["Message"].encode())


async def publish(topics: Any, ears: tuple[History, ...], publisher: str, rand: random.Random) -> None:
    """In bulk and one by one; a call whose answer was lost is not made again."""
    number = 0
    while not ears[0].stop:
        names = [f"{publisher}-{number + at}" for at in range(rand.randint(1, 30))]
        number += len(names)
        note(ears, names, "tried")
        bodies = list(map(message_of, names))
        entries = [wire.PublishEntry(message=body) for body in bodies]
        many = wire.PublishBulkRequest(topic="news", messages=bodies)
        each = wire.PublishMessagesRequest(topic="news", entries=entries)
        call = topics.PublishBulk(many) if rand.random() < 0.5 else topics.PublishMessages(each)
        if await attempt(call) is not None:
            note(ears, names, "acked")
        await asyncio.sleep(PAUSE_S)


def note(ears: tuple[History, ...], names: list[str], column: str) -> None:
    for ear in ears:
        meant = filter(is_third, names) if isinstance(ear, Thirds) else names
        getattr(ear, column).update(meant)


async def publish_in_order(topics: Any, ears: tuple[History, ...], group: str, rand: random.Random) -> None:
    """Every message until it is accepted, under the same deduplication id."""
    number = 0
    while not ears[0].stop:
        names = [f"{group}-{number + at}" for at in range(rand.randint(1, 10))]
        number += len(names)
        note(ears, names, "tried")
        entries = [wire.PublishEntry(message=body_of(name), group_id=group, deduplication_id=name) for name in names]
        request = wire.PublishMessagesRequest(topic="orders.fifo", entries=entries)
        while (reply := await attempt(topics.PublishMessages(request))) is None:  # noqa: ASYNC110 - another process
            await asyncio.sleep(PAUSE_S)
        assert not any(result.error.code for result in reply.results), reply
        note(ears, names, "acked")
        await asyncio.sleep(PAUSE_S)


async def connect(queues: Any, topics: Any, topic: str, *ears: History) -> None:
    fifo = {"FifoTopic": "true"} if topic.endswith(".fifo") else {}
    await topics.CreateTopic(wire.CreateTopicRequest(name=topic, attributes=fifo))
    for ear in ears:
        fifo = {"FifoQueue": "true"} if ear.queue.endswith(".fifo") else {}
        await make(queues, ear.queue, VisibilityTimeout=str(VISIBILITY_S), **fifo)
        given = {} if isinstance(ear, Documents) else {"RawMessageDelivery": "true"}
        if isinstance(ear, Thirds):
            given |= {"FilterPolicyScope": "MessageBody", "FilterPolicy": '{"third": [true]}'}
        await topics.Subscribe(wire.SubscribeRequest(topic=topic, protocol="sqs", endpoint=ear.queue, attributes=given))


async def test_what_was_accepted_reaches_every_subscriber_over_twelve_kills(broker: BrokerProcess) -> None:
    seed = int.from_bytes(os.urandom(4))
    rand = random.Random(seed)
    print(f"seed {seed}")
    documents = Documents("documents")
    news = (Raw("raw"), documents, Thirds("thirds"))
    orders = (Fifo("lines.fifo"), History("lines"))
    ears = (*news, *orders)
    async with broker.stubs() as (queues, topics):
        await connect(queues, topics, "news", *news)
        await connect(queues, topics, "orders.fifo", *orders)
        publishers = [publish(topics, news, f"p{index}", rand) for index in range(2)]
        publishers += [publish_in_order(topics, orders, f"g{index}", rand) for index in range(GROUPS)]
        async with running(*(ear.consume(queues, rand) for ear in ears for _ in range(2))):
            async with running(*publishers) as publishing:
                away = [await one_death(broker, queues, rand) for _ in range(ROUNDS)]
                news[0].stop = orders[0].stop = True
                await asyncio.wait(publishing)
            for ear in ears:
                await drained(queues, ear)
    print(f"{ROUNDS} kills; away for {min(away):.2f} to {max(away):.2f} s")
    for ear in ears:
        print(ear.counts())
        ear.check()
        assert len(ear.acked) > ROUNDS
    verify(documents.last, NOTIFICATION, broker.settings.signing_key_path(0).read_bytes())
