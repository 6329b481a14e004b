"""Clocks: virtual time jumps from deadline to deadline; the steady wall does not follow the system's."""

from __future__ import annotations

import asyncio
import time

import pytest

from minicloud.shell import clock as clock_module
from minicloud.shell.clock import SteadyClock, SystemClock, VirtualClock


async def test_timers_ring_in_order_of_time_then_of_asking() -> None:
    clock, rung = VirtualClock(100.0), []
    for when, name in ((130.0, "c"), (110.0, "a"), (130.0, "d"), (120.0, "b")):
        clock.call_at(when, lambda name=name: rung.append((clock.wall(), name)))  # type: ignore[misc]
    clock.call_at(115.0, lambda: rung.append((0, "cancelled"))).cancel()
    await clock.advance(25.0)
    assert rung == [(110.0, "a"), (120.0, "b")]
    assert clock.wall() == 125.0
    await clock.advance(100.0)
    assert rung[2:] == [(130.0, "c"), (130.0, "d")]
    assert (clock.wall(), clock.monotonic(), clock.next_deadline()) == (225.0, 125.0, None)


async def test_a_timer_for_the_past_rings_at_the_next_step_and_never_at_once() -> None:
    clock, rung = VirtualClock(), []
    clock.call_at(0.0, lambda: rung.append(clock.monotonic()))
    assert rung == []
    await clock.advance(0.0)
    assert rung == [0.0]


async def test_sleepers_wake_in_virtual_time() -> None:
    clock, woken = VirtualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(clock.monotonic())

    began = time.monotonic()
    await clock.run(asyncio.gather(sleeper(1800.0), sleeper(0.5), sleeper(0.0), sleeper(86_400.0)))
    assert woken == [0.0, 0.5, 1800.0, 86_400.0]
    assert time.monotonic() - began < 5.0


async def test_a_cancelled_sleep_leaves_no_deadline() -> None:
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(10.0))
    await clock.settle()
    task.cancel()
    await clock.settle()
    assert clock.next_deadline() is None


async def test_running_work_that_nobody_will_wake_is_a_deadlock_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="no timer"):
        await VirtualClock().run(asyncio.Event().wait())


async def test_run_hands_over_result_and_error() -> None:
    clock = VirtualClock()
    assert await clock.run(asyncio.sleep(0, "done")) == "done"

    async def failing() -> None:
        await clock.sleep(5.0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await clock.run(failing())


class _Moved(SystemClock):
    """A system clock whose wall somebody sets."""

    offset = 0.0

    def wall(self) -> float:
        return time.time() + self.offset


async def test_a_wall_timer_rings_at_its_wall_time_also_when_the_wall_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock_module, "LOOK_AGAIN_S_MAX", 0.01)
    clock, rung = _Moved(), asyncio.Event()
    clock.call_at(clock.wall() + 3600.0, rung.set)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rung.wait(), 0.03)
    clock.offset = 3600.0
    await asyncio.wait_for(rung.wait(), 5.0)


async def test_a_cancelled_wall_timer_does_not_ring() -> None:
    rung: list[int] = []
    clock = SystemClock()
    clock.call_at(clock.wall(), lambda: rung.append(1)).cancel()
    later = asyncio.Event()
    clock.call_at(clock.wall() + 0.001, later.set)
    await later.wait()
    assert rung == []


def test_the_steady_wall_ignores_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteadyClock()
    before = clock.wall()
    assert abs(before - time.time()) < 1.0
    monkeypatch.setattr(time, "time", lambda: before + 3600.0)
    assert abs(clock.wall() - before) < 60.0
