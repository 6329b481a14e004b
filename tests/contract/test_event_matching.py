"""What an event may cost: long ones are matched beside the event loop, so long and no longer, so many an account."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator

import pytest

from minicloud.base.errors import InsufficientStorage, InvalidRequest, Throttled
from minicloud.event import limits
from minicloud.event.events import Entry, Flaw
from minicloud.event.links.matching import Matching, takes
from minicloud.event.model import Target
from minicloud.event.patterns import compile_pattern
from minicloud.shell.patterns import TooMuch, Whole
from tests.contract.rule_bench import HOME, QUEUE, Bench
from tests.turns import turn, until

TO_QUEUE = Target("q", QUEUE)
NUMBERS = {"numbers": [1] * 2_000}
BELOW = json.dumps({"detail": {"numbers": [{"numeric": ["<", -number]} for number in range(1, 9)]}})


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = await Bench().start()
    yield made
    await made.stop()


async def test_a_long_event_is_matched_beside_the_loop(bench: Bench) -> None:
    await bench.rule(TO_QUEUE, name="below", pattern=BELOW)
    await bench.rule(TO_QUEUE, pattern='{"detail":{"numbers":[{"numeric":[">",0]}]}}')
    with pytest.raises(TooMuch):
        takes(compile_pattern(BELOW), Whole({"detail": NUMBERS}, limits.TESTS_AT_ONCE), 0)
    (event_id,) = await bench.send(**NUMBERS)
    await until(lambda: bench.world.arrived)
    assert [event["id"] for event in bench.world.events()] == [event_id]


async def test_an_event_that_costs_too_much_is_told_and_holds_up_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TESTS_AT_ONCE", 100)
    monkeypatch.setattr(limits, "TESTS_BESIDE", 1_000)
    await bench.rule(TO_QUEUE, pattern=BELOW)
    await bench.rule(TO_QUEUE, name="other")
    flaw, event_id = await bench.service.put_events(
        HOME, [Entry("my.app", "t", json.dumps(NUMBERS)), Entry("my.app", "t", "{}")]
    )
    assert isinstance(flaw, Flaw) and flaw.code == "InvalidArgument"
    await until(lambda: bench.world.arrived)
    assert [event["id"] for event in bench.world.events()] == [event_id]
    event = {**bench.world.events()[0], "detail": NUMBERS}
    with pytest.raises(InvalidRequest):
        await bench.service.tested(HOME, BELOW, json.dumps(event))


async def test_what_is_on_its_way_to_the_disk_counts_in_the_backlog(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_DELIVERIES_MAX", 3)
    await bench.rule(TO_QUEUE)
    bench.journal.fail(InsufficientStorage("full"))
    with pytest.raises(InsufficientStorage):
        await bench.send()
    bench.journal.hold()
    sending = [asyncio.create_task(bench.send()) for _ in range(3)]
    await bench.clock.settle()
    with pytest.raises(Throttled):
        await bench.send()
    bench.journal.release()
    await asyncio.gather(*sending)
    await bench.until(lambda: len(bench.world.arrived) == 3 and not len(bench.service.deliveries))
    await bench.send()


async def test_an_account_has_so_many_long_events_matched_at_a_time_and_another_ones_goes_on() -> None:
    matching, gate = Matching(), threading.Event()

    def slow(tests: int) -> int:
        if tests == limits.TESTS_AT_ONCE:
            raise TooMuch
        gate.wait(10)
        return tests

    theirs = [asyncio.create_task(matching.look("a", slow)) for _ in range(limits.BESIDE_MAX)]
    await turn()
    with pytest.raises(Throttled):
        await matching.look("a", slow)
    ours = asyncio.create_task(matching.look("b", slow))
    await turn()
    gate.set()
    assert {*await asyncio.gather(*theirs, ours)} == {limits.TESTS_BESIDE}
    await until(lambda: not matching._looking._waiting)
    assert await matching.look("a", slow) == limits.TESTS_BESIDE
    matching.close()
