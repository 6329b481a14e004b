"""Asynchronous invocations, event source mappings, schedules: on a clock that tests move, over queues they fill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidRequest, Unavailable
from minicloud.function import batches, errors, limits, mappings
from minicloud.function.commands import (
    CreateFunction,
    CreateMapping,
    DeleteFunction,
    Given,
    MappingSpec,
    PutSchedule,
    SetEventInvoke,
    SetReserved,
    UpdateMapping,
)
from minicloud.function.invoking import Request
from minicloud.function.model import Code
from minicloud.function.ports import Invocation, Message, Outcome
from minicloud.function.service import FunctionService, Ports
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.contract.function_world import FakeEnvironments, failed, packed

HOME = Scope()
QUEUE = HOME.arn("sqs", "jobs")
DONE, FAILED, DEAD = HOME.arn("sqs", "done"), HOME.arn("sns", "failed"), HOME.arn("sqs", "dead")
GOOD = Outcome(b'{"ok":true}')
BAD = failed("Unhandled", "no")


@dataclass
class Queues:
    """One queue to receive from, and what was sent anywhere."""

    sent: list[tuple[str, Any, dict[str, tuple[str, bytes]]]] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    hidden: dict[bytes, Message] = field(default_factory=dict)
    deleted: list[bytes] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    away: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def fill(self, *bodies: str) -> None:
        for body in bodies:
            number = len(self.waiting) + len(self.hidden) + len(self.deleted)
            self.waiting.append(Message(f"m{number}", str(number).encode(), body, {}, {}))
        self.arrived.set()

    async def send(self, scope: Scope, arn: str, body: bytes, attributes: Mapping[str, tuple[str, bytes]]) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.sent.append((arn, json.loads(body), dict(attributes)))

    async def receive(self, scope: Scope, queue: str, most: int, wait_s: int) -> list[Message]:
        if not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        found, self.waiting = self.waiting[:most], self.waiting[most:]
        self.hidden |= {one.handle: one for one in found}
        return found

    async def delete(self, scope: Scope, queue: str, handles: Sequence[bytes]) -> None:
        for handle in handles:
            del self.hidden[handle]
            self.deleted.append(handle)

    async def release(self, scope: Scope, queue: str, handles: Sequence[bytes], after_s: int) -> None:
        self.released += handles


class Bench:
    """A service on a clock that tests move, which can be killed and started again on what is on its disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = MemoryDisk()
        self.clock = VirtualClock(1_790_000_000.0)
        self.environments = FakeEnvironments()
        self.queues = Queues()
        self.service: FunctionService

    async def start(self) -> Bench:
        self._journal = MemoryJournal(self.disk)
        ports = Ports(self.environments, messages=self.queues, clock=self.clock)
        self.service = FunctionService(self._journal, self.folder / "packages", ports)
        await self.service.start()
        return self

    async def stop(self) -> None:
        await self.service.stop()
        self._journal.close()

    async def again(self) -> None:
        await self.stop()
        await self.start()

    async def function(self, name: str = "f", run: Callable[[Invocation], Any] | None = None, **given: Any) -> None:
        if run is not None:
            self.environments.runs[name] = run
        settings = Given("python3.11", "main.run", "arn:aws:iam::000000000000:role/r", **given)
        command = CreateFunction(HOME, name, settings, Code("", 0, 0))
        await self.service.with_package(packed(main="def run(e, c): pass"), command)

    async def until(self, true: Callable[[], Any]) -> None:
        """Without moving the clock."""
        for _ in range(1_000):
            if true():
                return
            await self.clock.settle()
        raise AssertionError("it does not come true")

    async def move(self, seconds: float, true: Callable[[], Any]) -> None:
        await self.clock.advance(seconds)
        await self.until(true)

    @property
    def calls(self) -> list[Invocation]:
        return [invocation for _, invocation in self.environments.calls]


@pytest.fixture
async def bench(tmp_path: Path) -> Any:
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


async def test_filters_delete_what_no_function_is_to_see(bench: Bench) -> None:
    await bench.function(run=lambda _: GOOD)
    await mapping(bench, filters=('{"body":{"kind":["a"]}}', '{"body":["plain"]}'))
    bench.queues.fill('{"kind":"a"}', '{"kind":"b"}', "plain", "other")
    await bench.until(lambda: len(bench.queues.deleted) == 4)
    assert [body for one in bench.calls for body in bodies(one)] == ['{"kind":"a"}', "plain"]


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
