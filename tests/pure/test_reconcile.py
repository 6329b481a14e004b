"""The reconcile loop: one run of a key at a time, wakes merge, failures back off, nothing spins."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from minicloud.base.errors import Unavailable
from minicloud.shell.clock import VirtualClock
from minicloud.shell.reconcile import Reconciler


@dataclass
class World:
    """A loop whose step takes `takes_s` of virtual time and returns what `script` says for its n-th run of the key."""

    concurrency: int = 8
    takes_s: float = 0.0
    clock: VirtualClock = field(default_factory=VirtualClock)
    runs: list[tuple[float, str]] = field(default_factory=list)
    inside: set[str] = field(default_factory=set)
    most: int = 0
    script: Callable[[str, int, float], float | None] = lambda key, run, now: None

    def __post_init__(self) -> None:
        self.loop: Reconciler[str] = Reconciler(
            self.step, clock=self.clock, rand=random.Random(1), concurrency=self.concurrency
        )
        self.loop.start()

    async def step(self, key: str, now: float) -> float | None:
        assert key not in self.inside, "two runs of a key at once"
        self.inside.add(key)
        self.most = max(self.most, len(self.inside))
        self.runs.append((self.clock.monotonic(), key))
        try:
            await self.clock.sleep(self.takes_s)
            return self.script(key, self.times(key), now)
        finally:
            self.inside.discard(key)

    def times(self, key: str) -> int:
        return sum(1 for _, of in self.runs if of == key)


async def test_a_woken_key_runs_once_and_is_forgotten() -> None:
    w = World()
    w.loop.wake("a")
    w.loop.wake("a")
    await w.clock.advance(100.0)
    assert w.runs == [(0.0, "a")]
    assert len(w.loop) == 0


async def test_a_step_says_when_it_wants_to_run_again() -> None:
    w = World(script=lambda key, run, now: now + 10.0 if run < 4 else None)
    w.loop.wake("a")
    await w.clock.advance(1000.0)
    assert [when for when, _ in w.runs] == [0.0, 10.0, 20.0, 30.0]


async def test_a_wake_comes_before_the_time_and_takes_its_place() -> None:
    w = World(script=lambda key, run, now: now + 10.0 if run < 3 else None)
    w.loop.wake("a")
    await w.clock.advance(4.0)
    w.loop.wake("a")
    await w.clock.advance(1000.0)
    assert [when for when, _ in w.runs] == [0.0, 4.0, 14.0]


async def test_a_wake_during_a_run_makes_one_more_run_after_it() -> None:
    w = World(takes_s=5.0)
    w.loop.wake("a")
    await w.clock.advance(1.0)
    for _ in range(3):
        w.loop.wake("a")
    await w.clock.advance(100.0)
    assert [when for when, _ in w.runs] == [0.0, 5.0]


async def test_no_more_than_the_limit_run_and_the_rest_wait_in_order() -> None:
    w = World(concurrency=2, takes_s=1.0)
    for key in "abcdef":
        w.loop.wake(key)
    await w.clock.advance(10.0)
    assert w.most == 2
    assert w.runs == [(0.0, "a"), (0.0, "b"), (1.0, "c"), (1.0, "d"), (2.0, "e"), (2.0, "f")]


async def test_failures_back_off_per_key_and_a_wake_does_not_shorten_it() -> None:
    def script(key: str, run: int, now: float) -> float | None:
        if key == "bad" and run <= 4:
            raise Unavailable() if run % 2 else ValueError("bug")
        return None

    w = World(script=script)
    w.loop.wake("bad")
    await w.clock.settle()
    w.loop.wake("bad")
    w.loop.wake("good")
    await w.clock.settle()
    assert (w.times("bad"), w.times("good")) == (1, 1)
    await w.clock.advance(60.0)
    whens = [when for when, key in w.runs if key == "bad"]
    pauses = [after - before for before, after in pairwise(whens)]
    assert len(pauses) == 4
    for pause, top in zip(pauses, (0.2, 0.4, 0.8, 1.6), strict=True):
        assert top / 2 <= pause <= top + 1e-6
    assert w.loop.counters.errors == 4
    assert len(w.loop) == 0


async def test_a_wake_during_a_run_that_fails_waits_for_the_backoff() -> None:
    def script(key: str, run: int, now: float) -> float | None:
        if run == 1:
            raise Unavailable()
        return None

    w = World(takes_s=1.0, script=script)
    w.loop.wake("a")
    await w.clock.advance(0.5)
    w.loop.wake("a")
    await w.clock.advance(10.0)
    assert [key for _, key in w.runs] == ["a", "a"]
    assert w.runs[1][0] >= 1.1


@pytest.mark.parametrize("mistake", ["past", "now", "wakes itself"])
async def test_no_mistake_of_a_step_becomes_a_busy_loop(mistake: str) -> None:
    w = World()

    def script(key: str, run: int, now: float) -> float | None:
        if mistake == "wakes itself":
            w.loop.wake(key)
            return None
        return now if mistake == "now" else 0.0

    w.script = script
    w.loop.wake("a")
    await w.clock.advance(1.0)
    assert 50 <= len(w.runs) <= 103


async def test_a_forgotten_key_is_cancelled_and_can_be_woken_afresh() -> None:
    w = World(takes_s=5.0, script=lambda key, run, now: now + 10.0)
    for key in ("runs", "waits"):
        w.loop.wake(key)
    await w.clock.advance(6.0)
    w.loop.wake("runs")
    await w.clock.advance(1.0)
    w.loop.forget("runs")
    w.loop.forget("waits")
    w.loop.forget("unknown")
    await w.clock.advance(100.0)
    assert len(w.runs) == 3
    assert len(w.loop) == 0
    assert w.clock.next_deadline() is None
    w.loop.wake("runs")
    await w.clock.settle()
    w.loop.forget("runs")
    w.loop.wake("runs")  # runs after the cancelled step has ended (the step checks)
    await w.clock.advance(1.0)
    assert len(w.runs) == 5


async def test_before_start_wakes_are_kept_and_after_stop_nothing_runs() -> None:
    w = World(takes_s=5.0)
    await w.loop.stop()
    w.loop.wake("a")
    await w.clock.advance(10.0)
    assert w.runs == []
    w.loop.start()
    await w.clock.advance(1.0)
    assert w.runs == [(10.0, "a")]
    await w.loop.stop()
    await w.clock.advance(100.0)
    assert (len(w.runs), len(w.loop), w.inside) == (1, 0, set())
