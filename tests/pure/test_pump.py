"""The pump: order within a key, retries that back off, failures that are told, bounded concurrency, cancellation."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from minicloud.base.errors import NotFound, Unavailable
from minicloud.shell.clock import VirtualClock
from minicloud.shell.pump import Backoff, Pump, PumpLimits


@dataclass(frozen=True)
class Do:
    key: str
    number: int
    takes_s: float = 0.0


@dataclass
class World:
    """A pump whose handler takes virtual time and fails as told, and what happened."""

    limits: PumpLimits = field(default_factory=PumpLimits)
    clock: VirtualClock = field(default_factory=VirtualClock)
    log: list[tuple[float, str, int]] = field(default_factory=list)
    failures: dict[tuple[str, int], list[BaseException]] = field(default_factory=dict)
    told: list[tuple[int, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    by_key: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pump = Pump(
            {Do: self.handle}, lambda effect: effect.key, clock=self.clock, rand=random.Random(1), limits=self.limits
        )
        self.pump.on_failure = lambda effect, error: self.told.append((effect.number, type(error).__name__))

    async def handle(self, effect: Do) -> None:
        assert not self.by_key.get(effect.key), "two effects of one key at once"
        self.by_key[effect.key] = 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.clock.sleep(effect.takes_s)
            if errors := self.failures.get((effect.key, effect.number)):
                raise errors.pop(0)
            self.log.append((self.clock.monotonic(), effect.key, effect.number))
        finally:
            self.running -= 1
            self.by_key[effect.key] = 0

    def done(self, key: str) -> list[int]:
        return [number for _, of, number in self.log if of == key]


async def test_effects_of_a_key_run_in_order_keys_beside_each_other() -> None:
    w = World()
    w.pump.put(Do(key, number, 1.0) for number in range(5) for key in "abc")
    await w.clock.run(w.pump.drain())
    assert [w.done(key) for key in "abc"] == [[0, 1, 2, 3, 4]] * 3
    assert w.clock.monotonic() == 5.0
    assert w.pump.backlog() == 0
    assert w.pump.counters.done == w.pump.counters.taken == 15


async def test_no_more_than_the_limit_run_at_a_time() -> None:
    w = World(PumpLimits(concurrency=4))
    w.pump.put(Do(str(number), number, 1.0) for number in range(20))
    await w.clock.run(w.pump.drain())
    assert w.most == 4
    assert w.clock.monotonic() == 5.0


async def test_a_busy_key_does_not_starve_others() -> None:
    w = World(PumpLimits(concurrency=1))
    w.pump.put([*(Do("busy", number, 1.0) for number in range(100)), Do("other", 0, 1.0)])
    await w.clock.advance(2.0)
    assert w.done("other") == [0]


async def test_a_retryable_error_is_retried_with_growing_pauses_and_keeps_the_order() -> None:
    w = World(PumpLimits(backoff=Backoff(first_s=1.0, max_s=8.0)))
    w.failures["a", 0] = [Unavailable(), ConnectionResetError(), TimeoutError(), Unavailable(), Unavailable()]
    w.pump.put([Do("a", 0), Do("a", 1), Do("b", 0)])
    await w.clock.settle()
    assert w.done("b") == [0]
    await w.clock.run(w.pump.drain())
    assert w.done("a") == [0, 1]
    # The pauses are random parts, half at least, of 1, 2, 4, 8, 8 s.
    assert 23 / 2 <= w.clock.monotonic() <= 23
    assert w.pump.counters.retried == 5
    assert w.told == []


async def test_a_resting_key_occupies_no_slot() -> None:
    w = World(PumpLimits(concurrency=1, backoff=Backoff(first_s=100.0, max_s=100.0)))
    w.failures["a", 0] = [Unavailable()]
    w.pump.put([Do("a", 0), Do("b", 0)])
    await w.clock.advance(1.0)
    assert w.done("b") == [0]
    assert w.pump.backlog() == 1


@pytest.mark.parametrize("error", [NotFound(), ValueError("bug")])
async def test_any_other_error_ends_the_effect_and_is_told(error: Exception) -> None:
    w = World()
    w.failures["a", 0] = [error]
    w.pump.put([Do("a", 0), Do("a", 1)])
    await w.clock.run(w.pump.drain())
    assert w.done("a") == [1]
    assert w.told == [(0, type(error).__name__)]
    assert w.pump.counters.failed == 1


async def test_tries_may_be_bounded() -> None:
    w = World(PumpLimits(tries_max=3))
    w.failures["a", 0] = [Unavailable() for _ in range(9)]
    w.pump.put([Do("a", 0), Do("a", 1)])
    await w.clock.run(w.pump.drain())
    assert len(w.failures["a", 0]) == 6
    assert w.told == [(0, "Unavailable")]
    assert w.done("a") == [1]


async def test_a_handler_cancelled_from_elsewhere_is_tried_again() -> None:
    w = World()
    w.failures["a", 0] = [asyncio.CancelledError()]
    w.pump.put([Do("a", 0)])
    await w.clock.run(w.pump.drain())
    assert w.done("a") == [0]


async def test_cancel_drops_what_waits_what_rests_and_what_runs() -> None:
    w = World(PumpLimits(backoff=Backoff(first_s=50.0)))
    w.failures["rests", 0] = [Unavailable()]
    w.pump.put([Do("runs", 0, 10.0), Do("runs", 1), Do("rests", 0), Do("rests", 1), Do("stays", 0, 10.0)])
    await w.clock.advance(1.0)
    assert w.pump.cancel("runs") == 2
    assert w.pump.cancel("rests") == 2
    assert w.pump.cancel("unknown") == 0
    w.pump.put([Do("runs", 2)])  # starts only when the cancelled effect has ended (the handler checks)
    await w.clock.run(w.pump.drain())
    assert sorted((key, number) for _, key, number in w.log) == [("runs", 2), ("stays", 0)]
    assert w.pump.counters.cancelled == 4
    assert w.clock.next_deadline() is None


async def test_a_cancelled_effect_that_cleans_up_slowly_still_comes_before_the_next() -> None:
    clock, log = VirtualClock(), []

    async def handle(effect: Do) -> None:
        try:
            log.append(f"begin {effect.number}")
            await clock.sleep(100.0)
        except asyncio.CancelledError:
            await clock.sleep(5.0)
            raise
        finally:
            log.append(f"end {effect.number}")

    pump = Pump({Do: handle}, lambda effect: effect.key, clock=clock, rand=random.Random(1))
    pump.put([Do("a", 0)])
    await clock.advance(1.0)
    pump.cancel("a")
    pump.put([Do("a", 1)])
    await clock.run(pump.drain())
    assert log == ["begin 0", "end 0", "begin 1", "end 1"]


async def test_stop_cancels_everything_and_takes_no_more() -> None:
    w = World()
    w.pump.put([Do("a", 0, 10.0), Do("a", 1)])
    await w.clock.advance(1.0)
    await w.pump.stop()
    w.pump.put([Do("b", 0)])
    await w.clock.advance(100.0)
    assert w.log == []
    assert w.running == 0


async def test_an_effect_without_a_handler_is_refused_and_nothing_is_taken() -> None:
    w = World()
    effects: list[Any] = [Do("a", 0), "what is this"]
    with pytest.raises(ValueError, match="str"):
        w.pump.put(effects)
    assert w.pump.backlog() == 0
    await w.pump.drain()


def test_backoff_stays_within_its_bounds() -> None:
    rand, backoff = random.Random(1), Backoff(first_s=0.1, max_s=30.0)
    for failures in (1, 2, 5, 10, 100, 10_000):
        pauses = [backoff.pause_s(failures, rand) for _ in range(100)]
        top = min(0.1 * 2.0 ** min(failures - 1, 60), 30.0)
        assert top / 2 <= min(pauses) < max(pauses) <= top
