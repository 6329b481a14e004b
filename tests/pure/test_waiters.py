"""Waiters: no nudge is lost, none is swallowed by a sleeper that left, nothing is left behind."""

from __future__ import annotations

import asyncio
import random

import pytest

from minicloud.base.errors import Throttled
from minicloud.shell.clock import VirtualClock
from minicloud.shell.waiters import Waiters


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def waiters(clock: VirtualClock) -> Waiters:
    return Waiters(clock)


async def test_a_nudge_between_entering_and_waiting_is_kept(waiters: Waiters) -> None:
    async with waiters.watch("q") as watch:
        assert waiters.notify("q") == 1
        assert await watch.wait(0) is True
        assert await watch.wait(0) is False


async def test_everybody_on_the_topic_wakes_and_nobody_else(waiters: Waiters, clock: VirtualClock) -> None:
    async def sleeper(key: str) -> bool:
        async with waiters.watch(key) as watch:
            return await watch.wait(20.0)

    tasks = [asyncio.create_task(sleeper(key)) for key in ("a", "a", "b")]
    await clock.settle()
    assert waiters.notify("a") == 2
    await clock.settle()
    assert [task.done() for task in tasks] == [True, True, False]
    assert await clock.run(asyncio.gather(*tasks)) == [True, True, False]
    assert clock.monotonic() == 20.0
    assert len(waiters) == 0
    assert waiters._idle == {}
    assert clock.next_deadline() is None


async def test_many_nudges_before_the_wake_are_one(waiters: Waiters) -> None:
    async with waiters.watch("q") as watch:
        for _ in range(5):
            waiters.notify("q")
        assert await watch.wait(0) is True
        assert await watch.wait(0) is False


async def test_counted_nudges_go_to_those_who_waited_longest(waiters: Waiters, clock: VirtualClock) -> None:
    woken: list[int] = []

    async def sleeper(number: int) -> None:
        async with waiters.watch("q") as watch:
            if await watch.wait(100.0):
                woken.append(number)

    tasks = [asyncio.create_task(sleeper(number)) for number in range(5)]
    await clock.settle()
    assert waiters.notify("q", count=2) == 2
    assert waiters.notify("q", count=1) == 1
    await clock.settle()
    assert woken == [0, 1, 2]
    assert waiters.notify("q", count=9) == 2
    await asyncio.gather(*tasks)
    assert woken == [0, 1, 2, 3, 4]
    assert waiters.notify("q", count=1) == 0


async def test_a_counted_nudge_to_a_cancelled_sleeper_goes_to_the_next(waiters: Waiters, clock: VirtualClock) -> None:
    woken: list[str] = []

    async def sleeper(name: str) -> None:
        async with waiters.watch("q") as watch:
            if await watch.wait(100.0):
                woken.append(name)

    first, second = asyncio.create_task(sleeper("first")), asyncio.create_task(sleeper("second"))
    await clock.settle()
    waiters.notify("q", count=1)
    first.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    assert woken == ["second"]


async def test_one_watch_on_several_topics_wakes_for_any(waiters: Waiters) -> None:
    async with waiters.watch("a", "b") as watch:
        waiters.notify("b")
        assert waiters.notify("a") == 0  # it stands in no line until it has looked
        assert await watch.wait(0) is True
        waiters.notify("a")
        assert await watch.wait(0) is True
    assert waiters._idle == {}


async def test_notify_all_wakes_everybody(waiters: Waiters, clock: VirtualClock) -> None:
    async def sleeper(key: int) -> bool:
        async with waiters.watch(key, "common") as watch:
            return await watch.wait()

    tasks = [asyncio.create_task(sleeper(key)) for key in range(10)]
    await clock.settle()
    waiters.notify_all()
    assert await asyncio.gather(*tasks) == [True] * 10


async def test_the_number_of_sleepers_is_bounded(clock: VirtualClock) -> None:
    waiters = Waiters(clock, watches_max=2)
    async with waiters.watch("a"), waiters.watch("b"):
        with pytest.raises(Throttled):
            async with waiters.watch("c"):
                pass
    async with waiters.watch("c"):
        assert len(waiters) == 1
    with pytest.raises(ValueError, match="topic"):
        waiters.watch()


class Market:
    """A queue fed one by one, and takers that come, time out and are cancelled."""

    def __init__(self, seed: int) -> None:
        self.rand = random.Random(seed)
        self.clock = VirtualClock(settle_rounds=3)
        self.waiters = Waiters(self.clock)
        self.messages: list[int] = []
        self.taken: list[int] = []
        self.sent = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def taker(self) -> None:
        async with self.waiters.watch("q") as watch:
            while not self.messages:
                if not await watch.wait(self.rand.uniform(0, 5)):
                    return
            self.taken.append(self.messages.pop(0))

    def send(self) -> None:
        self.messages.append(self.sent)
        self.sent += 1
        self.waiters.notify("q", count=1)

    async def step(self) -> None:
        match self.rand.randrange(5):
            case 0 | 1:
                self.tasks.append(asyncio.create_task(self.taker()))
            case 2:
                self.send()
            case 3 if self.tasks:
                self.rand.choice(self.tasks).cancel()
            case _:
                await self.clock.advance(self.rand.uniform(0, 2))


@pytest.mark.parametrize("seed", range(30))
async def test_no_message_lies_beside_sleepers(seed: int) -> None:
    market = Market(seed)
    for _ in range(200):
        await market.step()
        if market.rand.random() < 0.3:
            await market.clock.settle()
            await market.clock.settle()
            assert not (market.messages and len(market.waiters)), "a message lies beside a sleeper"
    for task in market.tasks:
        task.cancel()
    await asyncio.gather(*market.tasks, return_exceptions=True)
    assert sorted(market.taken + market.messages) == list(range(market.sent))
    assert market.waiters._idle == {}
    assert len(market.waiters) == 0
