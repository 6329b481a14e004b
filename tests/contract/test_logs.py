"""Logs by the SDK, through Locate and with tickets: every rpc; what comes while others read; crashes; tenants."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from minicloud.base import errors
from minicloud.base.arn import Scope
from minicloud.client import AsyncClient
from minicloud.client.log_models import LogEvent
from minicloud.logs import limits
from minicloud.logs.block import BLOCK
from minicloud.logs.listing import Streams
from minicloud.logs.machine import CreateGroup, CreateStream, DeleteStream
from minicloud.logs.model import Given
from minicloud.logs.service import Lines, LogService, Which
from minicloud.rpc.reporter import Reporter
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from minicloud.store.sqlite import SqliteJournal
from tests.contract.monitoring_world import SECRET, World, monitoring_world
from tests.turns import until

OTHER = "111122223333"
HOME = Scope()
DAY_S = 86_400


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with monitoring_world() as made:
        yield made


@pytest.fixture
async def cloud(world: World) -> AsyncIterator[AsyncClient]:
    async with world.client() as client:
        await client.logs.create_group("/app")
        await client.logs.create_stream("/app", "one")
        yield client


def texts(events: Sequence[LogEvent]) -> list[str]:
    return [event.message for event in events]


async def test_groups_and_streams_from_their_making_to_their_end(world: World) -> None:
    async with world.client() as cloud:
        logs = cloud.logs
        made = await logs.create_group("/aws/lambda/hello", retention_days=7, tags={"a": "b"})
        assert made.arn == "arn:aws:logs:us-east-1:000000000000:log-group:/aws/lambda/hello" and made.tags == {"a": "b"}
        assert (await logs.set_retention(made.name, 0)).retention_days == 0
        assert await logs.tag(made.name, {"c": "d"}) == {"a": "b", "c": "d"}
        assert await logs.untag(made.name, "a", "x") == {"c": "d"}
        for number in range(55):
            await logs.create_group(f"many/{number:02}")
        assert (
            len([one async for one in logs.groups()]) == 56 and len([one async for one in logs.groups("many/")]) == 55
        )
        assert [one.name async for one in logs.groups(pattern="LAMBDA")] == [made.name]
        for name in ("b", "a", "c"):
            await logs.create_stream(made.name, name)
        await logs.put(made.name, "a", ["x"])
        assert [one.name async for one in logs.streams(made.name)] == ["a", "b", "c"]
        (newest, *_) = [one async for one in logs.streams(made.name, by_time=True, descending=True)]
        assert (newest.name, newest.stored_bytes) == ("a", 27) and newest.arn.endswith(":log-stream:a")
        await logs.delete_stream(made.name, "a")
        assert [one.name async for one in logs.streams(made.name, "b")] == ["b"]
        for call in (logs.create_group(made.name), logs.create_stream(made.name, "b")):
            with pytest.raises(errors.AlreadyExists):
                await call
        await logs.delete_group(made.name)
        for call in (logs.delete_group(made.name), logs.create_stream(made.name, "x"), logs.put(made.name, "b", ["x"])):
            with pytest.raises(errors.NotFound) as caught:
                await call
            assert caught.value.code == "ResourceNotFoundException"


async def test_what_is_written_is_read_page_by_page_both_ways(cloud: AsyncClient) -> None:
    now = datetime.now(UTC).timestamp()
    assert not await cloud.logs.put("/app", "one", [(now - 100 + at, f"m{at}") for at in range(10)])
    page = await cloud.logs.get("/app", "one", limit=4)
    assert texts(page.events) == ["m6", "m7", "m8", "m9"]
    back = await cloud.logs.get("/app", "one", limit=4, token=page.backward_token)
    assert texts(back.events) == ["m2", "m3", "m4", "m5"]
    first = await cloud.logs.get("/app", "one", limit=4, token=back.backward_token)
    assert texts(first.events) == ["m0", "m1"]
    none = await cloud.logs.get("/app", "one", token=first.backward_token)
    assert none.events == () and none.backward_token == first.backward_token
    assert texts((await cloud.logs.get("/app", "one", token=none.forward_token)).events) == [
        f"m{at}" for at in range(10)
    ]
    end = await cloud.logs.get("/app", "one", token=page.forward_token)
    assert end.events == () and end.forward_token == page.forward_token
    await cloud.logs.put("/app", "one", ["new"])
    assert texts((await cloud.logs.get("/app", "one", token=end.forward_token)).events) == ["new"]
    some = await cloud.logs.get("/app", "one", start=now - 98, end=now - 95, from_head=True)
    assert texts(some.events) == ["m2", "m3", "m4"] and some.events[0].time.timestamp() == pytest.approx(
        now - 98, abs=0.01
    )
    with pytest.raises(errors.InvalidPageToken):
        await cloud.logs.get("/app", "one", token="x" * 40)


async def test_many_streams_are_filtered_in_the_order_of_time(cloud: AsyncClient) -> None:
    now = datetime.now(UTC).timestamp()
    await cloud.logs.create_stream("/app", "two")
    for at in range(40):  # by turns, each alone: enough to be merged meanwhile
        await cloud.logs.put("/app", ("one", "two")[at % 2], [(now - 100 + at, f"{'ERROR' if at % 3 else 'ok'} {at}")])
    found = [event async for event in cloud.logs.filter("/app")]
    assert texts(found) == [f"{'ERROR' if at % 3 else 'ok'} {at}" for at in range(40)]
    assert len({event.id for event in found}) == 40 and {event.stream for event in found} == {"one", "two"}
    assert texts([event async for event in cloud.logs.filter("/app", "ok", streams=["two"])]) == [
        f"ok {at}" for at in range(3, 40, 6)
    ]
    some = cloud.logs.filter("/app", "-ok", stream_prefix="t", start=now - 100 + 10, end=now - 100 + 20)
    assert texts([event async for event in some]) == [f"ERROR {at}" for at in (11, 13, 17, 19)]
    with pytest.raises(errors.InvalidParameterValue):
        [event async for event in cloud.logs.filter("/app", "{ $.a ")]
    with pytest.raises(errors.NotFound):
        [event async for event in cloud.logs.filter("/app", streams=["nine"])]


async def test_who_follows_hears_what_comes_and_nothing_else(world: World, cloud: AsyncClient) -> None:
    await cloud.logs.create_stream("/app", "two")
    await cloud.logs.put("/app", "one", ["before"])
    heard: list[str] = []

    async def follow() -> None:
        async for event in cloud.logs.tail("/app", "-debug", streams=["one"]):
            heard.append(event.message)
            if event.message == "end":
                return

    task = asyncio.create_task(follow())
    async with asyncio.timeout(60):
        await until(lambda: len(world.logs._followers) == 1)
        await cloud.logs.put("/app", "two", ["elsewhere"])
        await cloud.logs.put("/app", "one", ["a", "debug b", "c"])
        await cloud.logs.put("/app", "one", ["end"])
        await task
    assert heard == ["a", "c", "end"]
    async with asyncio.timeout(60):
        await until(lambda: not world.logs._followers)


async def followed(cloud: AsyncClient, count: int, start: datetime) -> list[str]:
    heard: list[str] = []
    async with asyncio.timeout(60):
        async for event in cloud.logs.tail("/app", start=start):
            heard.append(event.message)
            if len(heard) == count:
                break
    return heard


async def test_who_follows_from_a_time_on_hears_each_event_once(world: World, cloud: AsyncClient) -> None:
    begun = datetime.now(UTC)
    await cloud.logs.put("/app", "one", [(begun.timestamp() - 60, "long ago")])
    await cloud.logs.put("/app", "one", [f"before {number}" for number in range(2_500)])
    task = asyncio.create_task(followed(cloud, 2_600, begun))
    await until(lambda: world.logs._followers)
    for number in range(100):
        await cloud.logs.put("/app", "one", [f"after {number}"])
    heard = await task
    assert sorted(heard) == sorted([f"before {n}" for n in range(2_500)] + [f"after {n}" for n in range(100)])


async def test_who_is_too_slow_reads_again_what_was_left_out(
    world: World, cloud: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TAIL_WAITING_MAX", 5)
    task = asyncio.create_task(followed(cloud, 100, datetime.now(UTC)))
    await until(lambda: world.logs._followers)
    await cloud.logs.put("/app", "one", [str(number) for number in range(100)])
    assert await task == [str(number) for number in range(100)]


async def test_streams_are_listed_by_name_both_ways_page_by_page(cloud: AsyncClient) -> None:
    names = [f"a{number:03}" for number in range(60)]
    for name in (*names, "b1"):
        await cloud.logs.create_stream("/app", name)

    async def listed(**asked: Any) -> list[str]:
        return [one.name async for one in cloud.logs.streams("/app", **asked)]

    assert await listed(prefix="a") == names and await listed(prefix="a", descending=True) == names[::-1]
    assert await listed() == [*names, "b1", "one"] and await listed(descending=True) == ["one", "b1", *names[::-1]]
    await cloud.logs.put("/app", "a007", ["x"])
    assert (await listed(by_time=True))[-1] == (await listed(by_time=True, descending=True))[0] == "a007"
    assert len(set(await listed(by_time=True))) == 62


async def test_what_cannot_be_taken_is_told_or_refused(cloud: AsyncClient) -> None:
    now = datetime.now(UTC).timestamp()
    rejected = await cloud.logs.put("/app", "one", [(now, "a"), (now + 3 * 3_600, "b")])
    assert rejected and rejected.too_new_from == 1
    rejected = await cloud.logs.put("/app", "one", [(now - 15 * DAY_S, "c")])
    assert rejected.too_old_until == 1 and texts((await cloud.logs.get("/app", "one")).events) == ["a"]
    for batch in (
        [],
        [(now, "b"), (now - 1, "a")],
        [""],
        [(now - 2 * DAY_S, "a"), (now, "b")],
        ["x"] * 10_001,
        ["x" * 2**20],
    ):
        with pytest.raises(errors.InvalidParameterValue) as caught:
            await cloud.logs.put("/app", "one", batch)  # type: ignore[arg-type]
        assert caught.value.code == "InvalidParameterException"
    for name in ("", "a b", "x" * 513, "\u00e9"):
        with pytest.raises(errors.InvalidParameterValue):
            await cloud.logs.create_group(name)
    for name in ("", "a:b", "a*", "x" * 513):
        with pytest.raises(errors.InvalidParameterValue):
            await cloud.logs.create_stream("/app", name)
    with pytest.raises(errors.InvalidParameterValue):
        await cloud.logs.set_retention("/app", 2)


async def test_another_account_sees_and_touches_nothing(world: World, cloud: AsyncClient) -> None:
    await cloud.logs.put("/app", "one", ["mine"])
    page = await cloud.logs.get("/app", "one", limit=1)
    async with world.client(OTHER) as other:
        assert [one async for one in other.logs.groups()] == []
        for call in (
            other.logs.get("/app", "one"),
            other.logs.put("/app", "one", ["x"]),
            other.logs.delete_group("/app"),
            other.logs.set_retention("/app", 1),
            other.logs.tag("/app", {"a": "b"}),
            other.logs.delete_stream("/app", "one"),
        ):
            with pytest.raises(errors.NotFound):
                await call
        with pytest.raises(errors.NotFound):
            [event async for event in other.logs.tail("/app")]
        await other.logs.create_group("/app")
        await other.logs.create_stream("/app", "one")
        with pytest.raises(errors.InvalidPageToken):
            await other.logs.get("/app", "one", token=page.forward_token)
        assert (await other.logs.get("/app", "one")).events == ()


async def test_lines_of_the_cloud_itself_make_their_group_and_stream(world: World) -> None:
    now = world.clock.wall()
    reporter = Reporter(world.shard, SECRET, "functions-0")
    reporter.start()
    lines = [(now + 1, "second"), (now, "first"), (now + 2, ""), (now + 3, "a\ud800b")]
    for part in (lines[:1], lines[1:]):
        reporter.write(HOME, "/aws/lambda/f", "2026/01/01/[$LATEST]ab", part)
    await reporter.close()
    async with world.client() as cloud:
        events = [event async for event in cloud.logs.filter("/aws/lambda/f")]
        assert texts(events) == ["first", "second", "a?b"]
        assert events[0].stream == "2026/01/01/[$LATEST]ab"
    assert reporter.dropped == 0


# ---------------------------------------------------------------- the service alone: merges, retention, crashes


async def service(journal: MemoryJournal | SqliteJournal, clock: VirtualClock) -> LogService:
    made = LogService(journal, clock=clock, rand=random.Random(1), secret=SECRET)
    await made.start()
    await made.submit(CreateGroup(HOME, "g", unless=True))
    await made.submit(CreateStream(HOME, "g", "s", unless=True))
    return made


async def everything(one: LogService) -> list[str]:
    found, token = await one.filter(HOME, Which("g"))
    while token:
        more, token = await one.filter(HOME, Which("g"), token)
        found += more
    return [shown.event.message for shown in found]


def sizes(one: LogService) -> dict[str, int]:
    """What groups hold, summed up anew; it is what the index says."""
    summed: dict[str, int] = {}
    for number, kept in one._index.streams.items():
        group = one._state.by_number[number].group
        summed[group] = summed.get(group, 0) + sum(head.text for head in kept.heads)
    found = {group: size for group, size in summed.items() if size}
    assert dict(one._index.texts) == found
    return found


async def put(one: LogService, clock: VirtualClock, *messages: str) -> None:
    await one.put(HOME, "g", "s", [Given(round(clock.wall() * 1000), message) for message in messages])


async def merged(one: LogService) -> None:
    while one._merging._tasks:
        await asyncio.gather(*one._merging._tasks, return_exceptions=True)


async def test_many_small_batches_are_few_blocks_and_the_same_events(tmp_path: Path) -> None:
    clock, journal = VirtualClock(), SqliteJournal(tmp_path / "logs.db")
    one = await service(journal, clock)
    count = 600
    for first in range(0, count, 50):
        await asyncio.gather(*(put(one, clock, f"m{number}") for number in range(first, first + 50)))
    await merged(one)
    assert sorted(await everything(one)) == sorted(f"m{number}" for number in range(count))
    kept = one._index.streams[1]
    assert len(kept.heads) < 3 * limits.MERGED_AT
    assert len(journal.scan(BLOCK)) == len(kept.heads), "what was merged is gone from the disk"
    await one.stop()
    journal.close()
    journal = SqliteJournal(tmp_path / "logs.db")
    again = await service(journal, clock)
    assert sorted(await everything(again)) == sorted(f"m{number}" for number in range(count))
    assert again._index.streams[1].next == count
    await again.stop()
    journal.close()


async def test_lines_are_cut_between_characters_and_a_batch_spans_a_day_at_most() -> None:
    clock = VirtualClock(1_790_000_000.0)
    one = await service(MemoryJournal(MemoryDisk()), clock)
    now = round(clock.wall() * 1000)
    long = "a" * (limits.EVENT_BYTES_MAX - 1) + "\U0001f600"
    await one.report("a", 1, [Lines(HOME, "g", "s", [Given(now, long), Given(now, "b")])])
    await one.report("a", 2, [Lines(HOME, "g", "s", [Given(now - 2 * 86_400_000, "old"), Given(now, "new")])])
    assert await everything(one) == ["old", long[:-1], "b", "new"]
    await one.stop()


async def test_what_waits_for_a_slow_follower_is_bounded_by_its_size() -> None:
    clock = VirtualClock(1_790_000_000.0)
    one = await service(MemoryJournal(MemoryDisk()), clock)
    tail = one.tail(HOME, Which("g"))
    assert await anext(tail) == ([], 0)
    first = asyncio.create_task(anext(tail))
    (follower,) = one._followers
    await put(one, clock, "first")
    assert len((await first)[0]) == 1
    for _ in range(30):
        await put(one, clock, "x" * 1_000_000)
    waiting = sum(len(shown.event.message) for shown in follower.waiting)
    assert 0 < waiting == follower.chars <= limits.TAIL_CHARS_MAX
    shown, left_out = await anext(tail)
    assert left_out == 30 - waiting // 1_000_000 and shown
    await tail.aclose()
    await one.stop()


async def test_who_writes_most_makes_room_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, other = VirtualClock(), Scope("111122223333")
    one = await service(MemoryJournal(MemoryDisk()), clock)
    await one.submit(CreateGroup(other, "g", unless=True))
    await one.submit(CreateStream(other, "g", "s", unless=True))
    await one.put(other, "g", "s", [Given(round(clock.wall() * 1000), "mine, and the oldest of all")])
    rand = random.Random(1)
    for number in range(8):
        await clock.advance(1)
        await put(one, clock, f"{number} " + rand.randbytes(10_000).hex())
    monkeypatch.setattr(limits, "STORED_BYTES_MAX", one._index.size // 2)
    await clock.advance(limits.SWEEP_S)
    await merged(one)
    left = await everything(one)
    assert left and [text.split()[0] for text in left] == [str(number) for number in range(8 - len(left), 8)]
    assert len(left) < 8
    found, _ = await one.filter(other, Which("g"))
    assert [shown.event.message for shown in found] == ["mine, and the oldest of all"]
    await one.stop()


async def test_what_its_group_keeps_no_longer_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, journal = VirtualClock(), MemoryJournal()
    one = await service(journal, clock)
    await one.submit(CreateGroup(HOME, "short", retention_days=1))
    await one.submit(CreateStream(HOME, "short", "s"))
    for group in ("g", "short"):
        await one.put(HOME, group, "s", [Given(round(clock.wall() * 1000), "old")])
    await clock.advance(DAY_S + 2 * limits.SWEEP_S)
    await merged(one)
    assert [key.split("/")[0] for key, _ in journal.scan(BLOCK)] == [f"{1:012x}"]
    assert await everything(one) == ["old"] and len(sizes(one)) == 1
    await put(one, clock, "new")
    monkeypatch.setattr(limits, "STORED_BYTES_MAX", one._index.size - 1)
    await clock.advance(limits.SWEEP_S)
    await merged(one)
    assert await everything(one) == ["new"]
    await one.stop()


async def test_where_there_are_too_many_streams_those_silent_longest_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, journal = VirtualClock(), MemoryJournal()
    one = await service(journal, clock)
    other = Scope(OTHER)
    await one.submit(CreateGroup(other, "g"))
    await one.submit(CreateStream(other, "g", "kept"))
    for number in range(10):
        await one.submit(CreateStream(HOME, "g", f"s{number}"))
        await clock.advance(1)
    await clock.advance(DAY_S)
    await one.put(HOME, "g", "s0", [Given(round(clock.wall() * 1000), "it speaks")])
    monkeypatch.setattr(limits, "STREAMS_MAX", 10)
    await clock.advance(limits.SWEEP_S)
    assert one._forgetting is not None
    await one._forgetting
    names = [stream.name for stream in (await one.streams(HOME, Streams("g")))[0]]
    assert names == ["s0", "s4", "s5", "s6", "s7", "s8", "s9"], "eight are left, of the one who has most"
    assert [stream.name for stream in (await one.streams(other, Streams("g")))[0]] == ["kept"]
    assert await everything(one) == ["it speaks"] and list(sizes(one).values()) == [len("it speaks") + 26]
    await one.submit(DeleteStream(HOME, "g", "s0"))
    assert sizes(one) == {}
    await one.stop()


async def test_what_a_crash_left_of_a_deleted_stream_goes_at_the_next_start() -> None:
    clock, disk = VirtualClock(), MemoryDisk()
    journal = MemoryJournal(disk)
    one = await service(journal, clock)
    await put(one, clock, "a")
    one._merging.end = lambda heads: None  # type: ignore[method-assign]  # it dies before it has cleared away
    await one.submit(DeleteStream(HOME, "g", "s"))
    assert len(journal.scan(BLOCK)) == 1
    again = await service(MemoryJournal(disk), clock)
    await merged(again)
    assert journal.scan(BLOCK) == [] and await everything(again) == []
    await put(again, clock, "b")
    assert await everything(again) == ["b"], "a new stream of the same name has nothing of the old one"
    await again.stop()


async def test_a_batch_that_the_disk_does_not_take_is_not_there() -> None:
    clock, journal = VirtualClock(), MemoryJournal()
    one = await service(journal, clock)
    await put(one, clock, "a")
    journal.fail(errors.InsufficientStorage())
    with pytest.raises(errors.InsufficientStorage):
        await put(one, clock, "b")
    await put(one, clock, "c")
    assert await everything(one) == ["a", "c"]
    await one.stop()


async def test_a_damaged_block_is_passed_over() -> None:
    clock, journal = VirtualClock(), MemoryJournal()
    one = await service(journal, clock)
    for message in ("a", "b"):
        await put(one, clock, message)
    (key, _), _ = journal.scan(BLOCK)
    del journal.disk.rows[(BLOCK, key)]
    assert await everything(one) == ["b"]
    await one.stop()
