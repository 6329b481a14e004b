"""What is measured of functions: by invocation, as AWS/Lambda has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.function.commands import CreateAlias, PublishVersion, SetReserved, UpdateCode
from minicloud.function.errors import TooManyRequests
from minicloud.function.invoking import Request
from minicloud.function.model import Code
from minicloud.function.ports import Invocation, Outcome
from tests.contract.events_bench import HOME, Bench
from tests.contract.function_world import packed


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


async def test_qualified_ones_are_measured_by_what_they_were_asked_for_too(bench: Bench) -> None:
    await bench.function(run=lambda _: Outcome(b"1", duration_ms=1.0))
    for _ in range(2):
        await bench.service.submit(PublishVersion(HOME, "f"))
        await bench.service.with_package(packed(main="x = 1"), UpdateCode(HOME, "f", Code("", 0, 0)))
    await bench.service.submit(CreateAlias(HOME, "f", "live", "1", weights={"2": 1.0}))
    await bench.service.submit(CreateAlias(HOME, "f", "plain", "1"))
    for name, count in (("f", 1), ("f:1", 2), ("f:live", 3), ("f:plain", 4)):
        for _ in range(count):
            await bench.service.invoke(Request(HOME, name, b"1"))
    await bench.clock.advance(5)
    counts = {
        tuple(f"{key}={value}" for key, value in report.dimensions): {
            reading.name: list(reading.values) for reading in report.readings
        }["Invocations"]
        for report in bench.reports.kept
    }
    assert counts == {
        ("FunctionName=f",): [10.0],
        ("FunctionName=f", "Resource=f:1"): [2.0],
        ("FunctionName=f", "Resource=f:live"): [3.0],
        ("ExecutedVersion=2", "FunctionName=f", "Resource=f:live"): [3.0],
        ("FunctionName=f", "Resource=f:plain"): [4.0],
    }


async def test_one_that_stays_throttled_is_no_invocation(bench: Bench) -> None:
    await bench.function()
    await bench.service.submit(SetReserved(HOME, "f", 0))
    with pytest.raises(TooManyRequests):
        await bench.service.invoke(Request(HOME, "f", b"1"))
    found = await measured(bench)
    assert (found["Invocations"], found["Throttles"]) == ([0.0], [1.0])
    assert not {"Duration", "InitDuration", "ConcurrentExecutions"} & set(found)
