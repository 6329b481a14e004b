"""Event source mappings and schedules: on a clock that tests move, over queues that they fill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minicloud.function import batches, limits, mappings
from minicloud.function.commands import (
    CreateMapping,
    DeleteSchedule,
    MappingSpec,
    PutSchedule,
    SetReserved,
    UpdateMapping,
)
from minicloud.function.invoking import Request
from minicloud.function.ports import Invocation, Message, Outcome
from tests.contract.events_bench import BAD, GOOD, HOME, QUEUE, Bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench(tmp_path).start()
    yield made
    await made.stop()


# --- mappings


async def mapping(bench: Bench, queue: str = QUEUE, **spec: Any) -> Any:
    return await bench.service.submit(CreateMapping(HOME, "f", queue, MappingSpec(**spec)))


def bodies(invocation: Invocation) -> list[str]:
    return [one["body"] for one in json.loads(invocation.payload)["Records"]]


async def test_batches_are_deleted_when_they_went_well_and_left_when_not(bench: Bench) -> None:
    outcomes = iter((GOOD, BAD))
    await bench.function(run=lambda _: next(outcomes))
    made = await mapping(bench, batch=2)
    bench.queues.fill("a", "b", "c")
    await bench.until(lambda: len(bench.calls) == 2 and not bench.service.polling.running(made))
    assert [bodies(one) for one in bench.calls] == [["a", "b"], ["c"]]
    assert bench.queues.deleted == [b"0", b"1"] and list(bench.queues.hidden) == [b"2"] and not bench.queues.released
    assert bench.service.polling.last_result(made).startswith("PROBLEM")
    record = json.loads(bench.calls[0].payload)["Records"][0]
    assert (record["eventSource"], record["eventSourceARN"]) == ("aws:sqs", QUEUE)
    assert record["md5OfBody"] == "0cc175b9c0f1b6a831c399e269772661"


async def test_a_partial_answer_leaves_what_it_names(bench: Bench) -> None:
    await bench.function(run=lambda _: Outcome(b'{"batchItemFailures":[{"itemIdentifier":"m1"}]}'))
    made = await mapping(bench, partial=True)
    bench.queues.fill("a", "b", "c")
    await bench.until(lambda: bench.calls and not bench.service.polling.running(made))
    assert bench.queues.deleted == [b"0", b"2"] and list(bench.queues.hidden) == [b"1"]


@pytest.mark.parametrize(("queue", "invoked"), [(QUEUE, 2), (f"{QUEUE}.fifo", 1)])
async def test_what_follows_a_failed_part_waits_where_order_counts(bench: Bench, queue: str, invoked: int) -> None:
    outcomes = iter((BAD, GOOD))
    await bench.function(run=lambda _: next(outcomes))
    made = await mapping(bench, queue, batch=2)
    bench.queues.fill("a" * 4 * limits.MIB, "b" * 4 * limits.MIB)  # too large for one invocation
    await bench.until(lambda: bench.calls and not bench.service.polling.running(made))
    assert len(bench.calls) == invoked
    assert list(bench.queues.hidden) == [b"0", b"1"][: 3 - invoked]


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (b"", set()),
        (b"null", set()),
        (b"{}", set()),
        (b'{"batchItemFailures":[]}', set()),
        (b'{"batchItemFailures":null}', set()),
        (b'{"batchItemFailures":[{"itemIdentifier":"a"}]}', {"a"}),
        (b'{"batchItemFailures":[{"itemIdentifier":"x"}]}', {"a", "b"}),
        (b'{"batchItemFailures":[{"itemIdentifier":""}]}', {"a", "b"}),
        (b'{"batchItemFailures":[{"wrong":"a"}]}', {"a", "b"}),
        (b'{"batchItemFailures":"a"}', {"a", "b"}),
        (b"not json", {"a", "b"}),
    ],
)
def test_what_a_partial_answer_means(said: bytes, left: set[str]) -> None:
    """Source: guide, "Success and failure conditions" of partial batch responses."""
    assert batches.failures(said, ["a", "b"]) == left


async def test_never_more_at_once_than_the_mapping_allows(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_: Invocation) -> Outcome:
        await gate.wait()
        return GOOD

    await bench.function(run=slow)
    made = await mapping(bench, batch=1, concurrency=2)
    bench.queues.fill(*"abcdefgh")
    await bench.until(lambda: len(bench.calls) == 2)
    await bench.clock.settle()
    assert len(bench.calls) == 2 and bench.service.polling.running(made) == 2
    gate.set()
    await bench.until(lambda: len(bench.queues.deleted) == 8)


async def test_never_more_at_once_than_allowed_while_the_mapping_changes(bench: Bench) -> None:
    gate = asyncio.Event()

    async def slow(_: Invocation) -> Outcome:
        await gate.wait()
        return GOOD

    await bench.function(run=slow)
    made = await mapping(bench, batch=1, concurrency=2)
    bench.queues.fill(*"abcdefgh")
    await bench.until(lambda: len(bench.calls) == 2)
    await bench.service.submit(UpdateMapping(HOME, made.uuid, MappingSpec(batch=2)))
    await bench.service.submit(UpdateMapping(HOME, made.uuid, MappingSpec(enabled=False)))
    await bench.service.submit(UpdateMapping(HOME, made.uuid, MappingSpec(enabled=True, concurrency=3)))
    for _ in range(5):
        await bench.clock.settle()
    assert len(bench.calls) == 3 and bench.service.polling.running(made) == 3
    gate.set()
    await bench.until(lambda: len(bench.queues.deleted) == 8)


async def test_a_function_that_fails_gets_fewer_batches_at_once_and_more_again_when_it_does_not(bench: Bench) -> None:
    gate, good = asyncio.Event(), False

    async def run(_: Invocation) -> Outcome:
        await gate.wait()
        return GOOD if good else BAD

    await bench.function(run=run)
    made = await mapping(bench, batch=1)
    bench.queues.fill(*"abcdefghij")
    await bench.until(lambda: len(bench.calls) == 5)
    gate.set()
    await bench.until(lambda: len(bench.calls) == 10 and not bench.service.polling.running(made))
    gate.clear()
    good = True
    bench.queues.fill(*"klmnop")
    await bench.clock.settle()
    assert bench.service.polling.running(made) == 1
    gate.set()
    await bench.until(lambda: len(bench.queues.deleted) == 6)
    gate.clear()
    bench.queues.fill(*"qrstuvwxyz")
    await bench.clock.settle()
    assert bench.service.polling.running(made) == 7


async def test_a_batch_that_waits_for_more_ends_at_6_mib_and_where_the_queue_goes_away(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await mapping(bench, batch=10_000, window_s=300)
    bench.queues.fill(*("x" * 1_000_000 for _ in range(20)))
    await bench.until(lambda: len(bench.queues.deleted) == 20)
    bench.queues.fill("y")
    await bench.until(lambda: not bench.queues.waiting)
    bench.queues.broken = True
    bench.queues.arrived.set()
    await bench.until(lambda: len(bench.queues.deleted) == 21)


async def test_filters_delete_what_no_function_is_to_see(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await mapping(bench, filters=('{"body":{"kind":["a"]}}', '{"body":["plain"]}'))
    bench.queues.fill('{"kind":"a"}', '{"kind":"b"}', "plain", "other")
    await bench.until(lambda: len(bench.queues.deleted) == 4)
    assert [body for one in bench.calls for body in bodies(one)] == ['{"kind":"a"}', "plain"]


async def test_what_filters_may_cost_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILTER_TESTS_AT_ONCE", 20)
    monkeypatch.setattr(limits, "FILTER_TESTS_BESIDE", 500)
    monkeypatch.setattr(limits, "FILTER_LOOKS_MAX", 1)
    await bench.function(run=lambda _: GOOD)
    made = await mapping(bench, batch=3, filters=('{"body":{"n":[{"numeric":["=",1]}]}}',))
    long, endless = json.dumps({"n": [0] * 50 + [1]}), json.dumps({"n": [0] * 400 + [1]})
    bench.queues.fill(long, endless, '{"n":1}', "[" * 100_000)
    await bench.until(lambda: bench.calls and len(bench.queues.deleted) == 3)
    assert bodies(bench.calls[0]) == [long, '{"n":1}']
    assert list(bench.queues.hidden) == [b"1"] and "too long" not in bench.calls[0].payload.decode()
    assert bench.service.polling.running(made) == 0


@pytest.mark.parametrize(("queue", "passed"), [(QUEUE, ["1", "2", "3"]), (f"{QUEUE}.fifo", ["2"])])
async def test_what_follows_one_that_costs_too_much_waits_where_order_counts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, queue: str, passed: list[str]
) -> None:
    monkeypatch.setattr(limits, "FILTER_TESTS_AT_ONCE", 20)
    monkeypatch.setattr(limits, "FILTER_TESTS_BESIDE", 500)
    await bench.function(run=lambda _: GOOD)
    await mapping(bench, queue, filters=('{"body":{"n":[{"numeric":[">",0]}]}}',))
    endless = json.dumps({"n": [0] * 400 + [1]})
    for group, text in (("a", endless), ("a", '{"n":1}'), ("b", '{"n":2}'), ("a", '{"n":3}')):
        bench.queues.fill(text)
        bench.queues.waiting[-1].attributes["MessageGroupId"] = group
    await bench.until(lambda: len(bench.queues.deleted) >= len(passed))
    assert [str(json.loads(body)["n"]) for one in bench.calls for body in bodies(one)] == passed
    assert b"0" in bench.queues.hidden and len(bench.queues.hidden) == 4 - len(passed)


async def test_a_window_fills_a_batch(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await mapping(bench, batch=30, window_s=5)
    bench.queues.fill(*(str(number) for number in range(25)))
    await bench.until(lambda: not bench.queues.waiting)
    assert not bench.calls
    await bench.clock.advance(6)
    bench.queues.fill("late")
    await bench.until(lambda: bench.calls)
    assert len(bodies(bench.calls[0])) == 26


async def test_a_throttled_batch_is_given_back(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetReserved(HOME, "f", 0))
    await mapping(bench, batch=2)
    bench.queues.fill("a", "b")
    await bench.until(lambda: bench.queues.hidden)
    for _ in range(20):
        await bench.clock.advance(1)
    await bench.until(lambda: bench.queues.released)
    assert bench.queues.released == [b"0", b"1"] and not bench.queues.deleted and not bench.calls


async def test_a_mapping_that_is_disabled_takes_nothing_more_and_one_of_a_gone_queue_says_so(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    made = await mapping(bench)
    await bench.service.submit(UpdateMapping(HOME, made.uuid, MappingSpec(enabled=False)))
    bench.queues.fill("a")
    await bench.clock.settle()
    assert not bench.calls and bench.queues.waiting
    await bench.service.submit(UpdateMapping(HOME, made.uuid, MappingSpec(enabled=True)))
    await bench.until(lambda: bench.calls)
    await bench.again()
    bench.queues.fill("b")
    await bench.until(lambda: len(bench.calls) == 2)


def test_batches_stay_below_what_an_invocation_may_carry() -> None:
    records = [{"body": "x" * 1_000_000} for _ in range(10)]
    parts = list(batches.batches(records, 10))
    assert [behind - first for first, behind, _ in parts] == [6, 4]
    assert all(len(payload) <= limits.SYNC_BYTES_MAX for _, _, payload in parts)
    assert sum(len(json.loads(payload)["Records"]) for _, _, payload in parts) == 10


def test_a_pattern_sees_bodies_as_json_and_as_text() -> None:
    check = [mappings.compile_pattern('{"body":{"n":[1]}}')]
    assert batches.matches(Message("", b"", '{"n":1}', {}, {}), check)
    assert not batches.matches(Message("", b"", "n", {}, {}), check)
    assert batches.matches(Message("", b"", "n", {}, {}), [])


# --- schedules


async def test_one_schedule_that_breaks_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    await bench.function(run=lambda _: GOOD)
    for name in "ab":
        await bench.service.submit(PutSchedule(HOME, name, "rate(1 minute)", "f", input=f'"{name}"'))
    put = bench.service.events.put

    async def breaks(target: Any, request: Request, request_id: str) -> None:
        if request.payload == b'"a"':
            raise RuntimeError("unforeseen")
        await put(target, request, request_id)

    firing = bench.service._firing
    monkeypatch.setattr(firing, "_out", replace(firing._out, put=breaks))
    await bench.move(60, lambda: bench.calls)
    assert [one.payload for one in bench.calls] == [b'"b"']
    monkeypatch.setattr(firing, "_out", replace(firing._out, put=put))
    await bench.move(10, lambda: len(bench.calls) == 2)


async def test_a_schedule_that_goes_while_others_fire_does_not(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    for name in "ab":
        await bench.service.submit(PutSchedule(HOME, name, "rate(1 minute)", "f", input=f'"{name}"'))
    put = bench.service.events.put

    async def deletes(target: Any, request: Request, request_id: str) -> None:
        await bench.service.submit(DeleteSchedule(HOME, "b"))
        await put(target, request, request_id)

    with pytest.MonkeyPatch.context() as patch:
        firing = bench.service._firing
        patch.setattr(firing, "_out", replace(firing._out, put=deletes))
        await bench.move(60, lambda: bench.calls)
        await bench.clock.settle()
    assert [one.payload for one in bench.calls] == [b'"a"']


async def test_a_schedule_fires_in_its_time_and_once_for_what_was_missed(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(PutSchedule(HOME, "often", "rate(1 minute)", "f", input='{"n":1}'))
    await bench.clock.advance(59)
    assert not bench.calls
    await bench.move(1, lambda: len(bench.calls) == 1)
    await bench.move(60, lambda: len(bench.calls) == 2)
    assert {one.payload for one in bench.calls} == {b'{"n":1}'}
    await bench.service.submit(PutSchedule(HOME, "often", "rate(1 minute)", "f", enabled=False))
    await bench.clock.advance(300)
    assert len(bench.calls) == 2
    await bench.service.submit(PutSchedule(HOME, "often", "rate(1 minute)", "f"))
    await bench.stop()
    await bench.clock.advance(600)
    await bench.start()
    await bench.move(0, lambda: len(bench.calls) == 3)
    await bench.clock.advance(30)
    assert len(bench.calls) == 3
    assert json.loads(bench.calls[-1].payload)["source"] == "aws.scheduler"
