"""Invocations of a client share a stream: answers find their callers, errors are typed, a break fails all on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import CloudError, DeadlineExceeded, InvalidRequest, NotFound, Unavailable
from minicloud.client import invocations, invoke_request
from minicloud.function import limits, names
from minicloud.function.errors import throttled
from minicloud.function.invoking import Answer, Request
from minicloud.function.ports import Invocation, Outcome
from minicloud.function.rpc import many
from minicloud.function.service import Told
from minicloud.wire import invocation_pb2 as wire
from minicloud.wire.function_pb2 import InvokeRequest
from tests.contract.function_world import World, function_world, packed
from tests.turns import turn

ANSWER = Answer("", "$LATEST", Outcome(b"1"))


def held(world: World) -> tuple[asyncio.Event, asyncio.Event]:
    """The function f runs until it is let go: the events of its beginning, and for its end."""
    began, gate = asyncio.Event(), asyncio.Event()

    async def run(_: Invocation) -> Outcome:
        began.set()
        await gate.wait()
        return Outcome(b"1")

    world.runs["f"] = run
    return began, gate


async def test_many_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        gate = asyncio.Event()
        waiting = 0

        async def run(invocation: Invocation) -> Outcome:
            nonlocal waiting
            waiting += 1
            if waiting == 50:
                gate.set()
            await gate.wait()  # all are there at once
            return Outcome(invocation.payload)

        world.runs["f"] = run
        answers = await asyncio.gather(*(client.functions.invoke("f", number) for number in range(50)))
        assert [answer.json() for answer in answers] == list(range(50))
        big = "x" * 3_000_000  # an answer of its own message
        world.runs["f"] = lambda invocation: Outcome(f'"{big}"'.encode())
        assert (await client.functions.invoke("f")).json() == big


async def test_errors_are_typed_and_cost_the_others_nothing(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        found = await asyncio.gather(
            client.functions.invoke("f", 1), client.functions.invoke("nowhere", 2), return_exceptions=True
        )
        assert not isinstance(found[0], BaseException)
        assert isinstance(found[1], NotFound)
        assert found[1].code == "ResourceNotFoundException"
        asked = 0

        def full(invocation: Invocation) -> Outcome:
            nonlocal asked
            asked += 1
            if asked < 3:
                raise throttled("ConcurrentInvocationLimitExceeded")
            return Outcome(b"1")

        world.runs["f"] = full
        assert (await client.functions.invoke("f")).json() == 1  # throttled calls are made again


async def test_what_is_beyond_the_limits_does_not_leave_and_fails_nobody_else(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        began, gate = held(world)
        stays = asyncio.ensure_future(client.functions.invoke("f", 1))
        await began.wait()
        line = client.functions._invocations._line
        functions = client.functions
        refused = [
            (functions.invoke("f", client_context={"a": "x" * 9_000_000}), "InvalidParameterValueException"),
            (functions.invoke_async("f", client_context={"a": "x" * 2_700}), "InvalidParameterValueException"),
            (functions.invoke("f" * 9_000_000), "ValidationException"),
            (functions.invoke("f", "x" * limits.SYNC_BYTES_MAX), "RequestTooLargeException"),
            (functions.invoke_async("f", "x" * limits.ASYNC_BYTES_MAX), "RequestTooLargeException"),
            (functions.invoke("f", client_context={"a": object()}), "InvalidParameterValue"),
        ]
        for call, code in refused:
            with pytest.raises(InvalidRequest) as error:
                await call
            assert error.value.code == code
        with pytest.raises(InvalidRequest):
            await anext(functions.invoke_stream("f", client_context={"a": "x" * 2_700}))
        gate.set()
        assert (await stays).json() == 1
        assert client.functions._invocations._line is line, "the stream is the same"
        most = {"a": "x" * (limits.CLIENT_CONTEXT_BYTES_MAX * 3 // 4 - len('{"a": ""}'))}
        assert (await functions.invoke("f", client_context=most)).json() == 1
        with pytest.raises(InvalidRequest):
            await functions.invoke("f", client_context={"a": most["a"] + "x"})


def test_the_client_knows_the_limits_of_the_cloud() -> None:
    for name in ("SYNC_BYTES_MAX", "ASYNC_BYTES_MAX", "CLIENT_CONTEXT_BYTES_MAX"):
        assert getattr(invoke_request, name) == getattr(limits, name)
    assert invoke_request.NAME_CHARS_MAX == names._CHARS_MAX


async def test_what_is_on_a_stream_that_breaks_fails_and_the_next_has_another(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        began = asyncio.Event()

        async def run(invocation: Invocation) -> Outcome:
            if invocation.payload == b'"wait"':
                began.set()
                await asyncio.Event().wait()
            return Outcome(b"1")

        world.runs["f"] = run
        slow = asyncio.ensure_future(client.functions.invoke("f", "wait"))
        await began.wait()
        line = client.functions._invocations._line
        assert line is not None
        line._call.cancel()
        with pytest.raises(Unavailable):
            await slow
        assert (await client.functions.invoke("f")).json() == 1


async def test_a_caller_that_goes_away_leaves_the_stream_to_the_others(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        began, gate = held(world)
        gone, stays = (asyncio.ensure_future(client.functions.invoke("f")) for _ in range(2))
        await began.wait()
        gone.cancel()
        gate.set()
        assert (await stays).json() == 1
        with pytest.raises((asyncio.CancelledError, CloudError)):
            await gone


async def test_who_does_not_read_the_answers_is_not_asked_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "CALLS_MAX", 3)
    asked = 0

    class Service:
        def begin(self, request: Request, told: Told) -> None:
            nonlocal asked
            asked += 1
            asyncio.get_running_loop().call_soon(told, ANSWER)

    async def batches() -> AsyncIterator[wire.InvokeBatch]:
        for number in range(10):
            yield wire.InvokeBatch(calls=[wire.InvokeCall(number=number)])

    line = many._Line(cast(Any, Service()), Caller(Scope("000000000000", "us-east-1")))
    reading = asyncio.create_task(line.read(batches()))
    await turn(50)
    assert asked == 3
    numbers = [one.number async for batch in line.answers(reading) for one in batch.answers]
    assert sorted(numbers) == list(range(10))


async def test_answers_that_are_there_together_leave_together_and_wait_for_no_other() -> None:
    waiting: list[Told] = []

    class Service:
        def begin(self, request: Request, told: Told) -> None:
            waiting.append(told)

    async def batches() -> AsyncIterator[wire.InvokeBatch]:
        yield wire.InvokeBatch(calls=[wire.InvokeCall(number=number) for number in range(4)])

    line = many._Line(cast(Any, Service()), Caller(Scope("000000000000", "us-east-1")))
    reading = asyncio.create_task(line.read(batches()))
    answers = line.answers(reading)
    first = asyncio.ensure_future(anext(answers))
    await turn(5)
    waiting[0](ANSWER)
    await turn(1)
    waiting[1](ANSWER)  # a turn later, but before the first has left
    assert [one.number for one in (await first).answers] == [0, 1]  # two still run
    waiting[2](ANSWER)
    waiting[3](ANSWER)
    rest = [one.number async for batch in answers for one in batch.answers]
    assert rest == [2, 3]


async def test_many_large_ones_at_once_go_in_more_than_one_message(tmp_path: Path) -> None:
    async with function_world(tmp_path) as world:
        client = world.client()
        await client.functions.create("f", packed(), runtime="python3.11", handler="app.handler")
        world.runs["f"] = lambda invocation: Outcome(b"%d" % len(invocation.payload))
        payload = b'"%s"' % (b"x" * 60_000)
        answers = await asyncio.gather(*(client.functions.invoke("f", payload) for _ in range(300)))
        assert [answer.json() for answer in answers] == [len(payload)] * 300


async def test_what_nobody_waits_for_any_more_is_not_sent() -> None:
    class Call:
        def __init__(self) -> None:
            self.sent: list[int] = []
            self.room = asyncio.Event()

        async def write(self, batch: wire.InvokeBatch) -> None:
            self.sent += [one.number for one in batch.calls]
            await self.room.wait()

        async def __aiter__(self) -> AsyncIterator[wire.InvokedBatch]:
            await asyncio.Event().wait()
            yield wire.InvokedBatch()

        def cancel(self) -> None: ...

    call, loop = Call(), asyncio.get_running_loop()
    line = invocations._Line(call)
    calls = [asyncio.ensure_future(line.call(InvokeRequest(), loop.time() + 60))]
    await turn(3)
    calls += [asyncio.ensure_future(line.call(InvokeRequest(), loop.time() + wait_s)) for wait_s in (60, 60, 0.001)]
    await turn(3)
    calls[1].cancel()
    with pytest.raises(DeadlineExceeded):
        await calls[3]
    call.room.set()
    await turn(3)
    assert call.sent == [1, 3]
    for one in (*calls, line._reading):
        one.cancel()
