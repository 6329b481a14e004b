"""Crashes of a broker with topics: what was accepted reaches everyone who matched, what was confirmed stays confirmed.

A crash is a broker that is left as it is, and another one over what its log holds. Prints counts.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.cloud_topics import TopicParts, Topics
from minicloud.queue.core import Broker
from minicloud.queue.service import Ask, Ports, QueueService
from minicloud.shell.clock import VirtualClock
from minicloud.sim.log import MemoryLog
from minicloud.store.log import FileLog
from minicloud.topic import tokens
from minicloud.topic.message import Entry
from minicloud.topic.model import Subscription
from minicloud.topic.publish import Accepted
from tests.contract.topic_world import KEY

pytestmark = pytest.mark.asyncio

SCOPE = Scope()
SECRET = b"t" * 32
QUEUES = ("q0", "q1", "q2")
URL = "http://x.test/hook"


class FlakyPoster:
    """Answers by chance and sometimes late; keeps what it took. `gone`: it belongs to a broker that crashed."""

    def __init__(self, rand: random.Random, clock: VirtualClock) -> None:
        self.rand = rand
        self.clock = clock
        self.taken: Counter[str] = Counter()
        self.gone = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        if self.gone:
            return 0
        status = self.rand.choice([200, 200, 500, 0, 429])
        if status == 200 and headers["x-amz-sns-message-type"] == "Notification":
            self.taken[json.loads(body)["Message"]] += 1
        await self.clock.sleep(self.rand.choice([0, 0, 0, 3]))
        return status

    async def close(self) -> None:
        pass


class Life:
    """One broker process, without its doors."""

    def __init__(self, log: Any, epoch: int, clock: VirtualClock, rand: random.Random, poster: FlakyPoster) -> None:
        core = Broker(log, b"r" * 32, epoch)
        core.replay()
        core.start(clock.wall())
        topics = Topics(TopicParts(key=KEY, poster=poster))
        self.queues = QueueService(core, Ports(log, clock, rand, topics.render))
        self.topics = topics.over(self.queues, clock, rand, SECRET)
        self.core = core

    async def start(self) -> None:
        await self.topics.start(list(self.core.book.hidden))

    async def drain(self, name: str) -> Counter[str]:
        found: Counter[str] = Counter()
        queue = self.core.find(SCOPE, name)
        while bodies := (await self.queues.receive(queue, Ask(100, 600, 0))).bodies:
            found.update(json.loads(body)["Message"] for body in bodies)
        return found


async def set_up(life: Life, now: float) -> Subscription:
    for name in QUEUES:
        await life.queues.create_queue(SCOPE, name, {}, {})
    await life.topics.create_topic(SCOPE, "news", {}, {})
    await life.topics.subscribe(SCOPE, "news", ("sqs", "q0"), {})
    odd = {"FilterPolicy": '{"odd": [true]}', "FilterPolicyScope": "MessageBody"}
    await life.topics.subscribe(SCOPE, "news", ("sqs", "q1"), odd)
    retry = json.dumps({"healthyRetryPolicy": {"numRetries": 100, "minDelayTarget": 1, "maxDelayTarget": 1}})
    pending = await life.topics.subscribe(SCOPE, "news", ("http", URL), {"DeliveryPolicy": retry})
    return await life.topics.confirm(pending.topic_arn, tokens.issue(SECRET, pending.id, now), known=True)


def message_of(number: int) -> str:
    return json.dumps({"n": number, "odd": number % 2 == 1})


async def publish(life: Life, numbers: list[int]) -> list[int]:
    """Those that were accepted."""
    entries = [Entry(message_of(number).encode()) for number in numbers]
    results = await life.topics.publish(SCOPE, "news", entries)
    return [number for number, result in zip(numbers, results, strict=True) if isinstance(result, Accepted)]


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_accepted_arrives_whenever_the_broker_crashes(seed: int) -> None:
    rand, log, clock = random.Random(seed), MemoryLog(), VirtualClock()
    poster = FlakyPoster(rand, clock)
    life = Life(log, 1, clock, rand, poster)
    await life.start()
    confirmed = await set_up(life, clock.wall())
    accepted: list[int] = []
    taken: Counter[str] = Counter()
    crashes = 0
    for step in range(30):
        accepted += await publish(life, list(range(step * 10, step * 10 + rand.randint(1, 6))))
        await clock.advance(rand.choice([0, 0, 0.5, 2]))
        if rand.random() < 0.2:
            crashes += 1
            poster.gone = True  # whatever it still says is not heard
            taken += poster.taken
            poster = FlakyPoster(rand, clock)
            log = copy_of(log)
            life = Life(log, crashes + 1, clock, rand, poster)
            await life.start()
    await clock.advance(150)
    taken += poster.taken
    everything = {message_of(number) for number in accepted}
    assert await life.drain("q0") == Counter(everything)
    assert await life.drain("q1") == Counter(one for one in everything if json.loads(one)["odd"])
    assert set(taken) == everything, "each message reached the endpoint, and none from thin air"
    assert life.topics.state.subscriptions[confirmed.id].state == "confirmed"
    print(f"seed {seed}: {len(accepted)} accepted, {crashes} crashes, {sum(taken.values())} posts taken")
    await life.topics.stop()


def copy_of(log: MemoryLog) -> MemoryLog:
    """What the dead broker still writes does not count."""
    twin = MemoryLog()
    frames = [frame for _, frame in log.replay()]
    twin.append(frames)
    return twin


async def test_topics_survive_on_a_real_disk(tmp_path: Path) -> None:
    clock, rand = VirtualClock(), random.Random(3)
    accepted: list[int] = []
    for start in range(3):
        log = FileLog.open(tmp_path / "log", "test")
        life = Life(log, log.epoch, clock, rand, FlakyPoster(rand, clock))
        await life.start()
        if not start:
            await set_up(life, clock.wall())
        accepted += await publish(life, list(range(start * 100, start * 100 + 100)))
        if start == 2:
            assert await life.drain("q0") == Counter(map(message_of, accepted))
            assert len(accepted) == 300
        await life.topics.stop()
        await log.close()


async def test_a_call_that_fails_on_the_disk_is_not_there_after_a_crash() -> None:
    rand, log, clock = random.Random(5), MemoryLog(), VirtualClock()
    life = Life(log, 1, clock, rand, FlakyPoster(rand, clock))
    await life.start()
    await set_up(life, clock.wall())
    before = dict(life.topics.state.subscriptions)
    log.full = True
    for call in (
        life.topics.subscribe(SCOPE, "news", ("http", "http://y.test/"), {}),
        life.topics.subscribe(SCOPE, "news", ("sqs", "q2"), {}),
        life.topics.create_topic(SCOPE, "more.fifo", {"FifoTopic": "true"}, {}),
        life.topics.set_topic(SCOPE, "news", {"DisplayName": "x"}),
    ):
        with pytest.raises(CloudError):
            await call
    again = Life(copy_of(log), 2, clock, rand, FlakyPoster(rand, clock))
    for one in (life, again):
        assert one.topics.state.subscriptions == before
        assert list(one.topics.state.topics) == [SCOPE.arn("sns", "news")]
        assert not one.topics.state.topics[SCOPE.arn("sns", "news")].attributes
        assert len(one.core.book.hidden) == 1
    await life.topics.stop()
