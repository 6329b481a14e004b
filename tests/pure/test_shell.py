"""The shell: order of decide, apply, commit, reply, effects; undo; the timer. A memory journal that fails on demand."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import Conflict, Fenced, InsufficientStorage, Internal, NotFound, Throttled, Unavailable
from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.shell import shell as shell_module
from minicloud.shell.clock import VirtualClock
from minicloud.shell.shell import Shell
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.turns import turn


@dataclass(frozen=True)
class Add:
    key: str
    amount: int
    effect: str = ""


@dataclass(frozen=True)
class Many:
    """Several records in one command; a None amount ends the key."""

    changes: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True)
class Get:
    key: str


class Counting:
    """A machine of named sums. `alarms` are keys with a due time: a Tick ends those that are due."""

    kinds = frozenset({"sum", "alarm"})

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, Any]] = {}
        self.alarms: dict[str, dict[str, Any]] = {}
        self.stuck = False

    def decide(self, command: Any, context: Context) -> Outcome:
        if isinstance(command, Get):
            return Outcome(self.sums.get(command.key, {"n": 0})["n"], effects=[f"got {command.key}"])
        if isinstance(command, Tick):
            return self._tick(context.now)
        if isinstance(command, Many):
            bodies = [Record("sum", key, None if n is None else {"n": n}) for key, n in command.changes]
            return Outcome(len(bodies), bodies)
        if command.amount < 0:
            raise Conflict("negative")
        if command.key.startswith("alarm"):
            return Outcome(None, [Record("alarm", command.key, {"at": context.now + command.amount})])
        n = self.sums.get(command.key, {"n": 0})["n"] + command.amount
        return Outcome(n, [Record("sum", command.key, {"n": n})], [command.effect] if command.effect else [])

    def _tick(self, now: float) -> Outcome:
        if self.stuck:
            return Outcome()
        ended = [key for key, body in self.alarms.items() if body["at"] <= now]
        return Outcome(None, [Record("alarm", key, None) for key in ended], [f"rang {key}" for key in ended])

    def apply(self, record: Record) -> None:
        table = self.sums if record.kind == "sum" else self.alarms
        if record.body is None:
            table.pop(record.key, None)
        else:
            table[record.key] = record.body

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return (self.sums if kind == "sum" else self.alarms).get(key)

    def due(self) -> float | None:
        return min((body["at"] for body in self.alarms.values()), default=None)


class World:
    """A shell on a memory disk, with what it emitted."""

    def __init__(self, disk: MemoryDisk | None = None, clock: VirtualClock | None = None) -> None:
        self.machine = Counting()
        self.journal = MemoryJournal(disk)
        self.clock = clock or VirtualClock()
        self.effects: list[str] = []
        self.shell = Shell(
            self.machine, self.journal, clock=self.clock, rand=random.Random(1), on_effects=self.effects.extend
        )

    async def started(self) -> World:
        await self.shell.start()
        return self

    def replayed(self) -> Counting:
        """The machine that a restart would rebuild from what is on the disk."""
        twin = Counting()
        for record in MemoryJournal(self.journal.disk).load(twin.kinds):
            twin.apply(record)
        return twin


async def world() -> World:
    return await World().started()


async def test_reply_comes_after_the_commit_and_effects_after_that() -> None:
    w = await world()
    w.journal.hold()
    call = asyncio.create_task(w.shell.submit(Add("a", 2, "sent")))
    await turn(10)
    assert w.machine.sums == {"a": {"n": 2}}
    assert not call.done()
    assert w.effects == []
    w.journal.release()
    assert await call == 2
    assert w.effects == ["sent"]
    assert w.replayed().sums == w.machine.sums


async def test_a_refusal_changes_nothing_and_commits_nothing() -> None:
    w = await world()
    with pytest.raises(Conflict):
        await w.shell.submit(Add("a", -1))
    assert w.machine.sums == {}
    assert w.journal.disk.syncs == 0


async def test_calls_that_come_during_a_commit_share_the_next_one_in_order() -> None:
    w = await world()
    w.journal.hold()
    calls = [asyncio.create_task(w.shell.submit(Add("a", 1, "e0")))]
    await turn(10)
    calls += [asyncio.create_task(w.shell.submit(Add("a", 1, f"e{i}"))) for i in range(1, 50)]
    await turn(10)
    assert w.shell.pending() == 50
    w.journal.release()
    assert await asyncio.gather(*calls) == list(range(1, 51))
    assert w.shell.counters.commits == 2
    assert w.shell.counters.group_calls_max == 49
    assert w.effects == [f"e{i}" for i in range(50)]


async def test_a_read_command_waits_for_what_it_saw() -> None:
    w = await world()
    assert await w.shell.submit(Get("a")) == 0
    w.journal.hold()
    write = asyncio.create_task(w.shell.submit(Add("a", 5)))
    await turn(10)
    read = asyncio.create_task(w.shell.submit(Get("a")))
    await turn(10)
    assert not read.done()
    assert w.machine.sums["a"]["n"] == 5
    assert w.effects == ["got a"]
    w.journal.release()
    assert (await write, await read) == (5, 5)
    assert w.effects == ["got a", "got a"]


async def test_a_read_command_fails_with_what_it_saw() -> None:
    w = await world()
    w.journal.hold()
    w.journal.fail(InsufficientStorage())
    calls = [asyncio.create_task(w.shell.submit(command)) for command in (Add("a", 5), Get("a"), Get("b"))]
    await turn(10)
    w.journal.release()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [InsufficientStorage] * 3
    assert w.effects == []
    assert await w.shell.submit(Get("a")) == 0


async def test_barrier_waits_only_where_something_is_not_durable() -> None:
    w = await world()
    await w.shell.barrier()
    assert w.journal.disk.syncs == 0
    w.journal.hold()
    write = asyncio.create_task(w.shell.submit(Add("a", 1)))
    await turn(10)
    barrier = asyncio.create_task(w.shell.barrier())
    await turn(10)
    assert not barrier.done()
    w.journal.release()
    await barrier
    assert await write == 1


async def test_what_is_shown_is_on_disk_also_where_it_is_a_refusal() -> None:
    w = await world()
    await w.shell.submit(Add("a", 1))
    w.journal.hold()
    w.journal.fail(InsufficientStorage())

    def look() -> int:
        if "a" not in w.machine.sums:
            raise NotFound("a")
        return int(w.machine.sums["a"]["n"])

    change = asyncio.create_task(w.shell.submit(Many((("a", None),))))
    await turn(10)
    shown = asyncio.create_task(w.shell.shown(look))
    await turn(10)
    assert not shown.done() and w.machine.sums == {}
    w.journal.release()
    assert await shown == 1
    with pytest.raises(InsufficientStorage):
        await change
    await w.shell.submit(Many((("a", None),)))
    with pytest.raises(NotFound):
        await w.shell.shown(look)


async def test_a_failed_commit_undoes_it_and_everything_decided_on_it_then_goes_on() -> None:
    w = await world()
    await w.shell.submit(Add("a", 1))
    w.journal.hold()
    w.journal.fail(InsufficientStorage())
    first = asyncio.create_task(w.shell.submit(Add("a", 10)))
    await turn(10)
    later = [asyncio.create_task(w.shell.submit(command)) for command in (Add("a", 100), Many((("a", None), ("b", 7))))]
    await turn(10)
    assert w.machine.sums == {"b": {"n": 7}}
    w.journal.release()
    results = await asyncio.gather(first, *later, return_exceptions=True)
    assert [type(result) for result in results] == [InsufficientStorage] * 3
    assert len({id(result) for result in results}) == 3
    assert w.machine.sums == {"a": {"n": 1}} == w.replayed().sums
    assert await w.shell.submit(Add("a", 1)) == 2
    assert w.shell.counters.calls_undone == 3


async def test_a_record_that_cannot_be_encoded_fails_its_call_and_the_shell_goes_on() -> None:
    w = await world()
    with pytest.raises(Internal):
        await w.shell.submit(Many((("a", object()),)))  # type: ignore[arg-type]
    assert w.machine.sums == {}
    assert await w.shell.submit(Add("a", 1)) == 1


async def test_a_machine_that_cannot_apply_its_record_is_undone() -> None:
    w = await world()
    await w.shell.submit(Add("a", 1))
    honest = w.machine.apply

    def failing(record: Record) -> None:
        honest(record)
        if record.key == "bad" and record.body is not None:
            raise RuntimeError("bug")

    w.machine.apply = failing  # type: ignore[method-assign]
    with pytest.raises(Internal):
        await w.shell.submit(Many((("a", 9), ("bad", 1), ("c", 1))))
    assert w.machine.sums == {"a": {"n": 1}}


async def test_a_shell_that_cannot_undo_stops() -> None:
    w = await world()
    w.journal.fail(InsufficientStorage())
    honest = w.machine.apply

    def failing(record: Record) -> None:
        if record.body is None:
            raise RuntimeError("bug")
        honest(record)

    w.machine.apply = failing  # type: ignore[method-assign]
    with pytest.raises(InsufficientStorage):
        await w.shell.submit(Add("a", 1))
    assert w.shell.ended.is_set()
    with pytest.raises(Unavailable):
        await w.shell.submit(Get("a"))


async def test_fenced_ends_the_shell_and_fails_everything_pending() -> None:
    w = await world()
    await w.shell.submit(Add("a", 1))
    other = await World(w.journal.disk).started()
    calls = [asyncio.create_task(w.shell.submit(Add("a", 10))) for _ in range(3)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Fenced] * 3
    assert all(isinstance(result, Unavailable) for result in results)
    assert w.shell.fenced.is_set()
    assert w.shell.ended.is_set()
    assert isinstance(w.shell.error, Fenced)
    for refused in (w.shell.submit(Get("a")), w.shell.submit(Add("a", 1))):
        with pytest.raises(Unavailable):
            await refused
    with pytest.raises(Unavailable):
        await w.shell.shown(lambda: None)
    assert await other.shell.submit(Add("a", 1)) == 2
    assert other.replayed().sums == {"a": {"n": 2}}


async def test_a_failed_disk_ends_the_shell() -> None:
    w = await world()
    w.journal.fail(Internal("fsync failed"))
    with pytest.raises(Internal):
        await w.shell.submit(Add("a", 1))
    assert w.shell.ended.is_set()
    assert not w.shell.fenced.is_set()
    with pytest.raises(Unavailable, match="fsync failed"):
        await w.shell.submit(Add("a", 1))
    assert w.machine.sums == {}


async def test_a_cancelled_caller_does_not_stop_its_commit() -> None:
    w = await world()
    w.journal.hold()
    call = asyncio.create_task(w.shell.submit(Add("a", 1, "sent")))
    other = asyncio.create_task(w.shell.submit(Add("a", 1)))
    await turn(10)
    call.cancel()
    await turn(10)
    w.journal.release()
    assert await other == 2
    assert w.effects == ["sent"]
    assert w.replayed().sums == {"a": {"n": 2}}


async def test_effects_that_are_not_taken_do_not_fail_the_reply() -> None:
    w = await world()
    w.shell._on_effects = lambda effects: 1 / 0  # type: ignore[assignment]
    assert await w.shell.submit(Add("a", 1, "sent")) == 1
    assert await w.shell.submit(Add("a", 1, "sent")) == 2


async def test_restart_finds_the_same_state_and_fences_the_old_shell() -> None:
    w = await world()
    await asyncio.gather(*(w.shell.submit(Add(f"k{i}", i)) for i in range(2_500)))
    again = await World(w.journal.disk).started()
    assert again.machine.sums == w.machine.sums
    assert again.shell.epoch == w.shell.epoch + 1


async def test_stop_lets_accepted_calls_finish_and_refuses_new_ones() -> None:
    w = await world()
    w.journal.hold()
    call = asyncio.create_task(w.shell.submit(Add("a", 1)))
    await turn(10)
    stop = asyncio.create_task(w.shell.stop())
    await turn(10)
    with pytest.raises(Unavailable):
        await w.shell.submit(Add("a", 1))
    w.journal.release()
    assert await call == 1
    await stop
    assert w.shell.ended.is_set()


async def test_too_many_pending_calls_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell_module, "CALLS_PENDING_MAX", 3)
    w = await world()
    w.journal.hold()
    calls = [asyncio.create_task(w.shell.submit(Add("a", 1))) for _ in range(4)]
    await turn(10)
    with pytest.raises(Throttled):
        await calls[3]
    w.journal.release()
    assert await asyncio.gather(*calls[:3]) == [1, 2, 3]


# --- the timer


async def test_a_tick_comes_when_the_machine_is_due() -> None:
    w = await world()
    await w.shell.submit(Add("alarm-b", 60))
    await w.shell.submit(Add("alarm-a", 30))
    await w.clock.advance(29.9)
    assert w.effects == []
    await w.clock.advance(0.2)
    assert w.effects == ["rang alarm-a"]
    await w.clock.advance(3600)
    assert w.effects == ["rang alarm-a", "rang alarm-b"]
    assert w.clock.next_deadline() is None
    assert w.shell.counters.ticks == 2


async def test_what_was_due_while_the_shell_was_down_ticks_after_start() -> None:
    w = await world()
    await w.shell.submit(Add("alarm-a", 30))
    await w.shell.stop()
    later = VirtualClock(w.clock.wall() + 1000)
    again = await World(w.journal.disk, later).started()
    await later.advance(0.0)
    assert again.effects == ["rang alarm-a"]


async def test_a_failed_tick_is_repeated_after_growing_pauses() -> None:
    w = await world()
    await w.shell.submit(Add("alarm-a", 1))
    for _ in range(4):
        w.journal.fail(InsufficientStorage())
    await w.clock.advance(1.0)
    assert (w.shell.counters.ticks, w.effects) == (1, [])
    await w.clock.advance(10.0)
    assert w.shell.counters.ticks == 5
    assert w.effects == ["rang alarm-a"]


async def test_a_machine_that_stays_due_does_not_spin() -> None:
    w = await world()
    w.machine.stuck = True
    await w.shell.submit(Add("alarm-a", 1))
    await w.clock.advance(101.0)
    assert 20 <= w.shell.counters.ticks <= 30  # 0.05 s doubling to 5 s, then every 5 s
    assert w.clock.next_deadline() is not None


async def test_an_undone_alarm_takes_its_timer_with_it() -> None:
    w = await world()
    w.journal.fail(InsufficientStorage())
    with pytest.raises(InsufficientStorage):
        await w.shell.submit(Add("alarm-a", 1))
    assert w.clock.next_deadline() is None


# --- undo against a dumb twin

keys = st.sampled_from("abc")
command = st.one_of(
    st.builds(Add, keys, st.integers(-1, 5)),
    st.builds(Get, keys),
    st.builds(Many, st.lists(st.tuples(keys, st.none() | st.integers(0, 9)), max_size=4).map(tuple)),
)
step = st.one_of(
    st.tuples(st.just("submit"), command),
    st.tuples(st.just("run"), st.integers(0, 12)),
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("fail"), st.integers(0, 3)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(step, max_size=60))
def test_after_any_failures_the_state_is_what_was_committed(steps: list[tuple[str, Any]]) -> None:
    asyncio.run(_check(steps))


async def _check(steps: list[tuple[str, Any]]) -> None:
    w = await world()
    calls: list[tuple[Any, asyncio.Task[Any]]] = []
    for name, value in steps:
        if name == "submit":
            calls.append((value, asyncio.create_task(w.shell.submit(value))))
        elif name == "run":
            await turn(value)
        elif name == "hold":
            w.journal.hold() if value else w.journal.release()
        else:
            w.journal.fail(InsufficientStorage(), after=value)
    w.journal.release()
    results = await asyncio.gather(*(task for _, task in calls), return_exceptions=True)
    dumb = Counting()
    for (value, _), result in zip(calls, results, strict=True):
        if isinstance(result, InsufficientStorage):
            continue
        try:
            expected = dumb.decide(value, Context(0.0, random.Random(0)))
        except Conflict:
            assert isinstance(result, Conflict)
            continue
        assert result == expected.reply
        for record in expected.records:
            dumb.apply(record)
    assert w.machine.sums == dumb.sums == w.replayed().sums
    assert w.shell.pending() == 0
