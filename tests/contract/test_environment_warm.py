"""Invocations that an environment takes at once (`Environments.begin`): told once each, in time, whatever happens."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.function.ports import EnvironmentSpec, Invocation, Outcome
from tests.contract.function_bench import Bench, invocation, opened

CODE = """
import os, time
def handler(event, context):
    if event == "die":
        os._exit(3)
    if event == "raise":
        raise KeyError("k")
    if event == "large":
        return "x" * 6_300_000
    if event == "closes":
        os.closerange(3, 64)
        time.sleep(60)
    time.sleep(event or 0)
    return os.getpid()
"""


class Told(list[Outcome | BaseException]):
    """What was said of one invocation."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._bench = bench

    def __call__(self, said: Outcome | BaseException) -> None:
        self.append(said)
        self._bench.lines.changed.set()

    def only(self) -> Outcome:
        (said,) = self
        assert isinstance(said, Outcome)
        return said


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as made:
        yield made


async def warm(bench: Bench, **changes: object) -> EnvironmentSpec:
    spec = bench.spec(CODE, **changes)
    await bench.result(spec)
    await idle(bench, spec)
    return spec


async def idle(bench: Bench, spec: EnvironmentSpec) -> None:
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 1, 0))


async def begun(bench: Bench, spec: EnvironmentSpec, event: object = None) -> Outcome:
    told = Told(bench)
    assert bench.host.begin(spec, invocation(spec, event), told)
    assert bench.host.counts(spec.arn).idle == 0
    await bench.until(lambda: bool(told))
    return told.only()


async def test_one_after_the_other_in_the_same_environment_each_with_its_own_time(bench: Bench) -> None:
    spec = await warm(bench, timeout_s=3)
    pids = set()
    for _ in range(3):  # together longer than one may take
        outcome = await begun(bench, spec, 1.1)
        assert not outcome.function_error and outcome.init_ms is None and outcome.tail.startswith(b"START RequestId: ")
        pids.add(json.loads(outcome.payload))
        await idle(bench, spec)
    assert len(pids) == 1
    began = time.monotonic()
    late = await begun(bench, spec, 60)
    assert json.loads(late.payload)["errorType"] == "Sandbox.Timedout" and 2.99 < time.monotonic() - began < 30
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, 0, 0))


@pytest.mark.parametrize(
    ("event", "kind", "lives"),
    [
        ("die", "Runtime.ExitError", False),
        ("closes", "Runtime.ExitError", False),
        ("raise", "KeyError", True),
        ("large", "Function.ResponseSizeTooLarge", True),
    ],
)
async def test_failures_are_told_once(bench: Bench, event: str, kind: str, lives: bool) -> None:
    spec = await warm(bench, memory_mib=1024)
    told = Told(bench)
    assert bench.host.begin(spec, invocation(spec, event), told)
    await bench.until(lambda: bool(told))
    assert json.loads(told.only().payload)["errorType"] == kind
    await bench.until(lambda: bench.host.counts(spec.arn) == (0, int(lives), 0))
    assert len(told) == 1
    assert await bench.result(spec)


async def test_what_it_does_not_take_it_leaves_alone(bench: Bench) -> None:
    spec, told = await warm(bench), Told(bench)

    class Sink:
        async def open(self, content_type: str) -> None: ...

        async def write(self, chunk: bytes) -> None: ...

    streamed: Invocation = replace(invocation(spec), sink=Sink())
    assert not bench.host.begin(spec, streamed, told)
    assert not bench.host.begin(replace(spec, revision="2"), invocation(spec), told)
    assert bench.host.begin(spec, invocation(spec, 0.2), told)
    assert not bench.host.begin(spec, invocation(spec), told)  # busy
    await bench.until(lambda: bool(told))
    await idle(bench, spec)
    await bench.host.retire(spec.arn)
    assert not bench.host.begin(spec, invocation(spec), told)
    assert len(told) == 1


async def test_a_host_that_closes_tells_who_waits(tmp_path: Path) -> None:
    async with opened(tmp_path) as bench:
        spec, told = await warm(bench), Told(bench)
        assert bench.host.begin(spec, invocation(spec, 60), told)
        assert not told
    assert told.only().function_error
