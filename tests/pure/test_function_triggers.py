"""What feeds functions by itself: event source mappings and schedules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from minicloud.function import commands as ask
from minicloud.function.mappings import compile_pattern
from minicloud.function.schedules import next_time
from minicloud.shell.patterns import Whole
from tests.pure.function_bench import HOME, QUEUE, STRANGER, Bench

INVALID, MODEL, MISSING, TAKEN = (
    "InvalidParameterValueException",
    "ValidationException",
    "ResourceNotFoundException",
    "ResourceConflictException",
)
FIFO = f"{QUEUE}.fifo"


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.function()
    return made


def test_a_mapping_has_the_defaults_of_the_api(bench: Bench) -> None:
    made = bench.mapping()
    assert (made.batch, made.window_s, made.enabled, made.partial, made.concurrency) == (10, 0, True, False, None)
    bench.refused(TAKEN, ask.CreateMapping(HOME, "f", QUEUE, ask.MappingSpec()), made.uuid)
    after = bench.submit(ask.UpdateMapping(HOME, made.uuid, ask.MappingSpec(enabled=False, concurrency=2)))
    assert (after.enabled, after.concurrency, after.batch) == (False, 2, 10)
    assert bench.submit(ask.UpdateMapping(HOME, made.uuid, ask.MappingSpec(concurrency=0))).concurrency is None
    bench.refused(MISSING, ask.DeleteMapping(STRANGER, made.uuid))
    bench.submit(ask.DeleteMapping(HOME, made.uuid))
    bench.refused(MISSING, ask.DeleteMapping(HOME, made.uuid))


@pytest.mark.parametrize(
    ("source", "fields", "code", "text"),
    [
        (QUEUE, {"batch": 11}, INVALID, "must be greater than 0 if maximum batch size is greater than 10"),
        (QUEUE, {"batch": 10_001, "window_s": 1}, MODEL, "less than or equal to 10000"),
        (QUEUE, {"window_s": 301}, MODEL, "300"),
        (QUEUE, {"concurrency": 1}, MODEL, "greater than or equal to 2"),
        (QUEUE, {"filters": ("[]",)}, INVALID, "not an object"),
        (QUEUE, {"filters": ('{"body": "x"}',)}, INVALID, "must be an object or an array"),
        (QUEUE, {"filters": ("{}",) * 6}, INVALID, "At most 5"),
        (FIFO, {"window_s": 1}, INVALID, "not supported for FIFO"),
        (FIFO, {"batch": 11}, INVALID, "at most 10"),
        ("arn:aws:kinesis:us-east-1:000000000000:stream/s", {}, INVALID, "Unrecognized event source"),
        ("arn:aws:sqs:us-east-1:111111111111:jobs", {}, INVALID, "account and region"),
    ],
)
def test_mappings_that_are_refused(bench: Bench, source: str, fields: dict[str, Any], code: str, text: str) -> None:
    bench.refused(code, ask.CreateMapping(HOME, "f", source, ask.MappingSpec(**fields)), text)


def test_patterns_look_into_events() -> None:
    pattern = compile_pattern('{"body": {"kind": ["a", {"prefix": "b"}], "size": [{"numeric": [">", 3]}]}}')
    assert pattern.weight == 8

    def test(body: object) -> bool:
        return pattern.takes(Whole({"body": body}, 10), 100)

    assert test({"kind": "bc", "size": 4})
    assert not test({"kind": "bc", "size": 3})
    assert not test({"kind": "c", "size": 4})
    assert not test("text")
    assert compile_pattern("{}").takes(Whole({"anything": 1}, 1), 100)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("expression", "zone", "expected"),
    [
        ("rate(5 minutes)", "", "2026-11-25T10:05"),
        ("rate(1 hour)", "", "2026-11-25T11:00"),
        ("rate(2 days)", "", "2026-11-27T10:00"),
        ("cron(0 18 * * ? *)", "", "2026-11-25T18:00"),
        ("cron(0 18 * * ? *)", "America/New_York", "2026-11-25T23:00"),
        ("at(2026-12-01T00:00:00)", "Asia/Tokyo", "2026-11-30T15:00"),
    ],
)
def test_times_of_schedules(expression: str, zone: str, expected: str) -> None:
    now = at("2026-11-25T10:00")
    assert next_time(expression, zone, now, now) == at(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "rate(1 minutes)",
        "rate(5 minute)",
        "rate(0 minutes)",
        "rate(1 week)",
        "cron(0 18 * * *)",
        "at(soon)",
        "x",
        "",
    ],
)
def test_expressions_that_are_none(bench: Bench, expression: str) -> None:
    bench.refused(MODEL, ask.PutSchedule(HOME, "s", expression, "f"), "Invalid Schedule Expression")


def test_a_schedule_fires_and_goes_on(bench: Bench) -> None:
    made = bench.submit(ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", input='{"a": 1}'))
    assert bench.state.next_schedule() == made.next == bench.now + 60
    assert not bench.state.due_schedules(bench.now + 59)
    assert bench.state.due_schedules(bench.now + 60) == [made]
    bench.now += 150  # two were due; one fires
    bench.submit(ask.ScheduleFired(made.arn, made.next))
    assert bench.state.next_schedule() == made.next + 120
    bench.submit(ask.ScheduleFired(made.arn, made.next))  # heard twice
    assert bench.state.next_schedule() == made.next + 120
    bench.submit(ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", enabled=False))
    assert bench.state.next_schedule() is None
    bench.submit(ask.DeleteSchedule(HOME, "s"))
    bench.refused(MISSING, ask.DeleteSchedule(HOME, "s"))


def test_a_schedule_keeps_to_its_dates_and_goes_with_its_last_time(bench: Bench) -> None:
    now = bench.now
    ask_it = ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", start=now + 90, end=now + 160, ends=True)
    made = bench.submit(ask_it)
    assert made.next == now + 90
    bench.now = now + 90
    bench.submit(ask.ScheduleFired(made.arn, made.next))
    assert bench.state.schedules[made.arn].next == now + 150
    bench.now = now + 150
    bench.submit(ask.ScheduleFired(made.arn, now + 150))
    assert made.arn not in bench.state.schedules
    late = bench.submit(ask.PutSchedule(HOME, "late", "cron(0 12 * * ? *)", "f", start=bench.now + 40 * 86_400))
    assert bench.now + 40 * 86_400 <= late.next < bench.now + 41 * 86_400
    kept = bench.submit(ask.PutSchedule(HOME, "kept", "rate(1 hour)", "f", end=bench.now + 60))
    assert kept.next is None and kept.arn in bench.state.schedules
    bench.refused(MODEL, ask.PutSchedule(HOME, "x", "rate(1 hour)", "f", start=9.0, end=8.0), "after the start")
    bench.refused(MODEL, ask.PutSchedule(HOME, "x", "rate(0 hours)", "f", start=bench.now + 9), "Invalid Schedule")


def test_a_schedule_is_made_once_and_changed_where_it_is(bench: Bench) -> None:
    create = ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", token="one", only=ask.CREATE)
    made = bench.submit(create)
    bench.now += 5
    assert bench.submit(create) == made, "the same request again"
    bench.refused("ConflictException", replace(create, token="two"), "already exists")
    bench.refused("ConflictException", replace(create, expression="rate(2 minutes)"))
    changed = bench.submit(replace(create, token="", only=ask.UPDATE, description="d"))
    assert (changed.created, changed.modified, changed.description) == (made.created, bench.now, "d")
    bench.refused(MISSING, replace(create, name="t", only=ask.UPDATE))


def test_schedules_that_are_refused(bench: Bench) -> None:
    bench.refused(MODEL, ask.PutSchedule(HOME, "a b", "rate(1 minute)", "f"))
    bench.refused(MODEL, ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", zone="Mars/Base"))
    bench.refused(MISSING, ask.PutSchedule(HOME, "s", "rate(1 minute)", "g"))
    bench.refused(INVALID, ask.PutSchedule(HOME, "s", "rate(1 minute)", "f", input="{"))
