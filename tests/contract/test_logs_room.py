"""Room in the logs for everybody: what one account has of groups, streams and followers leaves some to the others."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import LimitExceeded, Throttled
from minicloud.logs import limits
from minicloud.logs.limits import DAY_S
from minicloud.logs.machine import CreateGroup, CreateStream, DeleteGroup, DeleteStream
from minicloud.logs.service import LogService, Which
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryJournal

HOME, OTHER = Scope(), Scope("111122223333")
ELSEWHERE = Scope(region="eu-west-1")


@pytest.fixture
async def logs() -> AsyncIterator[LogService]:
    made = LogService(MemoryJournal(), clock=VirtualClock(), rand=random.Random(1), secret=b"s" * 32)
    await made.start()
    for scope in (HOME, OTHER):
        await made.submit(CreateGroup(scope, "g"))
    yield made
    await made.stop()


async def test_streams_of_an_account(logs: LogService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_STREAMS_MAX", 3)
    await logs.submit(CreateGroup(ELSEWHERE, "g"))
    for scope, name in ((HOME, "a"), (HOME, "b"), (ELSEWHERE, "a")):
        await logs.submit(CreateStream(scope, "g", name))
    with pytest.raises(LimitExceeded):
        await logs.submit(CreateStream(HOME, "g", "c"))
    assert (await logs.submit(CreateStream(HOME, "g", "a", unless=True))).name == "a"
    await logs.submit(CreateStream(OTHER, "g", "a"))
    await logs.submit(DeleteStream(HOME, "g", "a"))
    await logs.submit(CreateStream(HOME, "g", "c"))


async def test_an_account_that_is_full_forgets_what_is_silent_though_others_have_room(
    logs: LogService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_STREAMS_MAX", 10)
    clock = logs._clock
    assert isinstance(clock, VirtualClock)
    await logs.submit(CreateStream(OTHER, "g", "kept"))
    for number in range(10):
        await logs.submit(CreateStream(HOME, "g", f"s{number}"))
        await clock.advance(1)
    await clock.advance(DAY_S + limits.SWEEP_S)
    assert logs._forgetting is not None
    await logs._forgetting
    assert [one.name for one in logs._state.streams.values()] == ["kept", *(f"s{number}" for number in range(2, 10))]


async def test_groups_of_an_account(logs: LogService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_GROUPS_MAX", 2)
    await logs.submit(CreateGroup(ELSEWHERE, "g"))
    with pytest.raises(LimitExceeded):
        await logs.submit(CreateGroup(HOME, "h"))
    await logs.submit(CreateGroup(OTHER, "h"))
    await logs.submit(DeleteGroup(HOME, "g"))
    await logs.submit(CreateGroup(HOME, "h"))


async def test_followers_of_an_account(logs: LogService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ACCOUNT_TAILS_MAX", 2)
    tails = [logs.tail(scope, Which("g")) for scope in (HOME, HOME, OTHER)]
    for tail in tails:
        assert await anext(tail) == ([], 0)
    with pytest.raises(Throttled):
        await anext(logs.tail(HOME, Which("g")))
    await tails[0].aclose()  # type: ignore[attr-defined]
    again = logs.tail(HOME, Which("g"))
    assert await anext(again) == ([], 0)
    for tail in (*tails[1:], again):
        await tail.aclose()  # type: ignore[attr-defined]
