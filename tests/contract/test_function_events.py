"""Asynchronous invocations: retries, destinations, dead letters, crashes; on a clock that tests move."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidRequest
from minicloud.function import errors, limits
from minicloud.function.commands import (
    DeleteFunction,
    SetEventInvoke,
    SetReserved,
)
from minicloud.function.invoking import Request
from minicloud.function.links import events
from minicloud.function.ports import Invocation, Outcome
from minicloud.shell import backlog
from minicloud.store.memory import MemoryJournal
from tests.contract.events_bench import BAD, DEAD, DONE, FAILED, GOOD, HOME, Bench
from tests.turns import turn


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = await Bench(tmp_path).start()
    yield made
    await made.stop()


async def test_an_event_runs_once_and_its_result_goes_to_the_destination(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=DONE, on_failure=FAILED))
    request_id = await bench.service.accept(Request(HOME, "f", b'{"n":1}'))
    await bench.until(lambda: len(bench.service.events) == 0)
    ((arn, said, _),) = bench.queues.sent
    assert arn == DONE and said["requestPayload"] == {"n": 1} and said["responsePayload"] == {"ok": True}
    context = said["requestContext"]
    assert (context["requestId"], context["condition"]) == (request_id, "Success")
    assert context["approximateInvokeCount"] == 1 and context["functionArn"].endswith(":f:$LATEST")
    assert [one.payload for one in bench.calls] == [b'{"n":1}']


async def test_a_failing_event_is_tried_after_a_minute_and_after_two_and_then_buried(bench: Bench) -> None:
    await bench.function(run=lambda _: BAD, dead_letter=DEAD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_failure=FAILED))
    request_id = await bench.service.accept(Request(HOME, "f", b'"x"'))
    await bench.until(lambda: len(bench.calls) == 1)
    await bench.clock.advance(59)
    assert len(bench.calls) == 1
    await bench.move(2, lambda: len(bench.calls) == 2)
    await bench.clock.advance(118)
    assert len(bench.calls) == 2
    await bench.move(3, lambda: len(bench.calls) == 3)
    await bench.until(lambda: len(bench.service.events) == 0)
    assert len({one.request_id for one in bench.calls}) == 1
    (record, dead) = bench.queues.sent
    assert record[0] == FAILED and record[1]["requestContext"]["condition"] == "RetriesExhausted"
    assert record[1]["requestContext"]["approximateInvokeCount"] == 3
    assert dead[:2] == (DEAD, "x") and dead[2]["RequestID"] == ("String", request_id.encode())
    assert dead[2]["ErrorMessage"] == ("String", b"no")


async def test_what_was_accepted_survives_a_crash_with_its_count_of_tries(bench: Bench) -> None:
    stuck = asyncio.Event()

    async def hang(_: Invocation) -> Outcome:
        await stuck.wait()
        return GOOD

    await bench.function(run=hang)
    await bench.function("g", run=lambda _: BAD)
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.service.accept(Request(HOME, "g", b"2"))
    await bench.until(lambda: len(bench.calls) == 2)
    await bench.clock.settle()
    await bench.again()
    await bench.until(lambda: len(bench.calls) == 3)
    assert bench.calls[-1].payload == b"1", "the one that failed waits for its minute"
    await bench.move(61, lambda: len(bench.calls) == 4)
    await bench.move(121, lambda: len(bench.calls) == 5)
    stuck.set()
    await bench.until(lambda: len(bench.service.events) == 0)
    await bench.again()
    assert len(bench.service.events) == 0 and len(bench.calls) == 5


async def test_an_event_that_cannot_run_gets_too_old(bench: Bench) -> None:
    await bench.function()
    await bench.service.submit(SetReserved(HOME, "f", 0))
    await bench.service.submit(SetEventInvoke(HOME, "f", age_s=60, on_failure=FAILED))
    await bench.service.accept(Request(HOME, "f", b"1"))
    for _ in range(10):
        await bench.clock.advance(10)
    await bench.until(lambda: bench.queues.sent)
    assert bench.queues.sent[0][1]["requestContext"]["condition"] == "EventAgeExceeded" and not bench.calls


async def test_a_throttled_event_waits_and_runs_when_it_may(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetReserved(HOME, "f", 0))
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.clock.advance(3)
    assert not bench.calls
    await bench.service.submit(SetReserved(HOME, "f", None))
    await bench.move(10, lambda: len(bench.service.events) == 0)
    assert len(bench.calls) == 1


async def test_a_destination_that_is_away_is_told_later_and_one_that_is_gone_never(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=DONE))
    bench.queues.away = 2
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.until(lambda: bench.queues.away == 1)
    await bench.move(1, lambda: bench.queues.away == 0)
    await bench.move(2, lambda: len(bench.service.events) == 0)
    assert len(bench.queues.sent) == 1 and len(bench.calls) == 1
    await bench.function("g", run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=HOME.arn("lambda", "function:g")))
    await bench.service.accept(Request(HOME, "f", b"2"))
    await bench.until(lambda: len(bench.calls) == 3)
    assert json.loads(bench.calls[-1].payload)["requestPayload"] == 2


AWAY = 10_000  # times, more than any test tries


async def test_a_destination_that_is_away_keeps_no_event_of_its_function_from_running(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=DONE))
    bench.queues.away = AWAY
    for number in range(40):
        await bench.service.accept(Request(HOME, "f", str(number).encode()))
    await bench.until(lambda: len(bench.calls) == 40)
    await bench.clock.settle()
    await bench.again()
    assert len(bench.service.events) == 40 and not bench.queues.sent
    bench.queues.away = 0
    await bench.move(400, lambda: len(bench.service.events) == 0)
    assert sorted(said["requestPayload"] for _, said, _ in bench.queues.sent) == list(range(40))
    assert len(bench.calls) == 40, "what is on disk is the result: nothing runs again for it"
    assert not [kind for kind, _ in bench.disk.rows if kind in (events.EVENT, events.TRY, events.LETTER)]


async def test_a_destination_that_does_not_answer_holds_a_few_results_in_memory_and_no_event(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=DONE))
    bench.queues.silent = True
    count = 3 * events.SENT_BESIDE_MAX
    for number in range(count):
        await bench.service.accept(Request(HOME, "f", str(number).encode()))
    await bench.until(lambda: len(bench.calls) == count)
    await bench.clock.settle()
    assert bench.queues.unanswered <= events.SENT_BESIDE_MAX + events.LETTERS_AT_ONCE_MAX
    bench.queues.silent = False
    await bench.again()
    await bench.until(lambda: len(bench.service.events) == 0)
    assert {said["requestPayload"] for _, said, _ in bench.queues.sent} == set(range(count))
    assert len(bench.calls) <= count + events.SENT_BESIDE_MAX, "only what was being sent runs again"


async def test_a_destination_that_is_away_is_tried_with_one_result_after_another(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=DONE))
    bench.queues.away = AWAY
    for _ in range(100):
        await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.until(lambda: len(bench.calls) == 100)
    await bench.clock.settle()
    at_first = AWAY - bench.queues.away
    await bench.clock.advance(30)
    assert at_first <= events.SENT_BESIDE_MAX + events.LETTERS_AT_ONCE_MAX
    assert 1 <= AWAY - bench.queues.away - at_first <= 31
    bench.queues.away = 0
    await bench.move(2, lambda: len(bench.service.events) == 0)


async def test_what_has_two_places_to_go_reaches_the_second_once_though_the_first_is_away(bench: Bench) -> None:
    await bench.function(run=lambda _: BAD, dead_letter=DEAD)
    await bench.service.submit(SetEventInvoke(HOME, "f", retries=0, on_failure=FAILED))
    bench.queues.away = 1
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.until(lambda: bench.queues.sent)
    assert [arn for arn, *_ in bench.queues.sent] == [DEAD] and len(bench.service.events) == 1
    await bench.again()
    await bench.until(lambda: len(bench.service.events) == 0)
    assert [arn for arn, *_ in bench.queues.sent] == [DEAD, FAILED] and len(bench.calls) == 1
    assert bench.queues.sent[0][2]["ErrorMessage"] == ("String", b"no")


async def test_an_account_without_room_hands_on_to_its_functions(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ACCOUNT_EVENTS_MAX", 2)
    await bench.function(run=lambda _: GOOD)
    await bench.function("g", run=lambda _: GOOD)
    await bench.service.submit(SetEventInvoke(HOME, "f", on_success=HOME.arn("lambda", "function:g")))
    await bench.service.submit(SetReserved(HOME, "g", 0))
    for _ in range(2):
        await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.until(lambda: len(bench.calls) == 2)
    await bench.clock.settle()
    await bench.again()
    assert len(bench.service.events) == 2
    await bench.service.submit(SetReserved(HOME, "g", None))
    await bench.move(2, lambda: len(bench.service.events) == 0)
    assert len(bench.calls) == 4


async def test_a_function_that_fails_into_itself_takes_no_more_room_than_its_account_has(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "ACCOUNT_EVENTS_MAX", 5)
    await bench.function(run=lambda _: BAD, dead_letter=DEAD)
    itself = HOME.arn("lambda", "function:f")
    await bench.service.submit(SetEventInvoke(HOME, "f", retries=0, on_failure=itself))
    bench.queues.away = AWAY
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.clock.advance(60)
    assert len(bench.service.events) == 5


async def test_what_its_caller_gave_up_while_it_was_written_runs(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    task = asyncio.create_task(bench.service.accept(Request(HOME, "f", b"{}")))
    await turn()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await bench.until(lambda: bench.calls)
    await bench.until(lambda: len(bench.service.events) == 0)
    assert not [key for kind, key in bench.disk.rows if kind == events.EVENT]


async def test_a_start_holds_no_more_payloads_than_a_page(bench: Bench) -> None:
    await bench.function()
    await bench.service.submit(SetReserved(HOME, "f", 0))
    for _ in range(4 * backlog.PAGE):
        await bench.service.accept(Request(HOME, "f", b'"' + bytes(100_000).replace(b"\0", b"x") + b'"'))
    pages: list[int] = []
    scan = MemoryJournal.scan

    def counted(journal: MemoryJournal, kind: str, **given: Any) -> list[tuple[str, bytes]]:
        found = scan(journal, kind, **given)
        if kind == events.EVENT:
            pages.append(sum(len(raw) for _, raw in found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryJournal, "scan", counted)
        await bench.again()
    assert len(bench.service.events) == 4 * backlog.PAGE
    assert len(pages) >= 4 and max(pages) < 101_000 * backlog.PAGE


async def test_nobodys_backlog_takes_the_room_of_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ACCOUNT_EVENTS_MAX", 2)
    other = Scope("111122223333")
    await bench.function()
    await bench.function(scope=other)
    for scope in (HOME, other):
        await bench.service.submit(SetReserved(scope, "f", 0))
    for _ in range(2):
        await bench.service.accept(Request(HOME, "f", b"1"))
    with pytest.raises(errors.TooManyRequests):
        await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.service.accept(Request(other, "f", b"1"))
    await bench.service.submit(DeleteFunction(HOME, "f"))
    await bench.move(400, lambda: len(bench.service.events) == 1)


async def test_a_dead_letter_that_cannot_be_delivered_is_counted_as_one(bench: Bench) -> None:
    bench.queues.gone = True
    await bench.function(run=lambda _: BAD, dead_letter=DEAD)
    await bench.service.submit(SetEventInvoke(HOME, "f", retries=0))
    await bench.service.accept(Request(HOME, "f", b"{}"))
    await bench.until(lambda: not len(bench.service.events))
    (report,) = bench.service.meter.report(0.0)
    found = {reading.name: list(reading.values) for reading in report.readings}
    assert found["DeadLetterErrors"] == [1.0] and found["DestinationDeliveryFailures"] == [0.0]
    assert found["AsyncEventsReceived"] == [1.0]


async def test_what_functions_did_is_reported_after_a_moment_and_at_the_end_and_silence_is_not(bench: Bench) -> None:
    await bench.function(run=lambda _: BAD)
    await bench.clock.advance(60)
    assert not bench.reports.kept and bench.clock.next_deadline() is None
    for _ in range(3):
        await bench.service.invoke(Request(HOME, "f", b"1"))
    assert not bench.reports.kept
    await bench.clock.advance(5)
    (report,) = bench.reports.kept
    found = {reading.name: list(reading.values) for reading in report.readings}
    assert (report.namespace, report.dimensions) == ("AWS/Lambda", (("FunctionName", "f"),))
    assert found["Invocations"] == [3.0] and found["Errors"] == [3.0] and len(found["Duration"]) == 3
    assert bench.clock.next_deadline() is None
    await bench.service.invoke(Request(HOME, "f", b"1"))
    await bench.again()
    assert len(bench.reports.kept) == 2


async def test_events_are_refused_as_invocations_are(bench: Bench) -> None:
    await bench.function()
    with pytest.raises(InvalidRequest):
        await bench.service.accept(Request(HOME, "f", b"{"))
    with pytest.raises(errors.NoSuchThing):
        await bench.service.accept(Request(HOME, "nobody", b"{}"))
    too_large = b'"' + b"x" * limits.ASYNC_BYTES_MAX + b'"'
    with pytest.raises(Exception, match="must be smaller"):
        await bench.service.accept(Request(HOME, "f", too_large))
    assert len(bench.service.events) == 0
    await bench.service.submit(SetReserved(HOME, "f", 0))
    await bench.service.accept(Request(HOME, "f", b"1"))
    await bench.service.submit(DeleteFunction(HOME, "f"))
    await bench.move(400, lambda: len(bench.service.events) == 0)
