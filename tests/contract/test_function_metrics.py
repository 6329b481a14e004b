"""What is measured of functions: by invocation, as AWS/Lambda has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.function.commands import SetReserved
from minicloud.function.errors import TooManyRequests
from minicloud.function.invoking import Request
from minicloud.function.ports import Invocation, Outcome
from tests.contract.events_bench import HOME, Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench(tmp_path).start()
    yield made
    await made.stop()


async def measured(bench: Bench) -> dict[str, list[float]]:
    bench.reports.kept.clear()
    await bench.clock.advance(5)
    (report,) = bench.reports.kept
    assert (report.namespace, report.dimensions) == ("AWS/Lambda", (("FunctionName", "f"),))
    return {reading.name: list(reading.values) for reading in report.readings}


async def test_what_a_function_did_is_measured(bench: Bench) -> None:
    gate, outcomes = asyncio.Event(), iter([Outcome(b"1", "", b"", 12.5, 43, 30.0), Outcome(b"1", "", b"", 7.5, 8)])

    async def slow(_: Invocation) -> Outcome:
        await gate.wait()
        return next(outcomes)

    await bench.function(run=slow)
    await bench.service.submit(SetReserved(HOME, "f", 2))
    calls = [asyncio.ensure_future(bench.service.invoke(Request(HOME, "f", b"1"))) for _ in range(2)]
    await bench.until(lambda: len(bench.calls) == 2)
    for _ in range(3):
        with pytest.raises(TooManyRequests):
            await bench.service.invoke(Request(HOME, "f", b"1"))
    gate.set()
    await asyncio.gather(*calls)
    found = await measured(bench)
    assert sorted(found["Duration"]) == [7.5, 12.5]  # each of them: percentiles are made of these
    assert found["InitDuration"] == [30.0]  # of the one that was cold
    assert found["ConcurrentExecutions"] == [2.0]
    assert (found["Invocations"], found["Errors"], found["Throttles"]) == ([2.0], [0.0], [3.0])


async def test_one_that_stays_throttled_is_no_invocation(bench: Bench) -> None:
    await bench.function()
    await bench.service.submit(SetReserved(HOME, "f", 0))
    with pytest.raises(TooManyRequests):
        await bench.service.invoke(Request(HOME, "f", b"1"))
    found = await measured(bench)
    assert (found["Invocations"], found["Throttles"]) == ([0.0], [1.0])
    assert not {"Duration", "InitDuration", "ConcurrentExecutions"} & set(found)
