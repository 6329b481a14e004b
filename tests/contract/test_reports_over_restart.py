"""Reports whose answer was lost with the process that took them: what they carry is counted once, and not lost."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import InsufficientStorage, Unavailable
from minicloud.cloud_logs import logs_of
from minicloud.logs.service import LogService, Which
from minicloud.metric.journal import FLUSH_S
from minicloud.metric.model import Metric
from minicloud.metric.query import StatisticsQuery
from minicloud.metric.rpc import ReportServicer
from minicloud.metric.service import MetricService
from minicloud.shell import sources
from minicloud.shell.clock import VirtualClock
from minicloud.shell.sources import Sources
from minicloud.store.memory import MemoryDisk, MemoryJournal
from minicloud.wire import fleet_pb2 as wire
from tests.turns import turn

SCOPE = Scope("111122223333", "eu-west-1")
WHERE = Which("/aws/lambda/f")


class Nobody:
    async def act(self, act: object) -> None:
        raise AssertionError(act)


@dataclass
class Life:
    """One life of the autoscaler's stores; the next one gets the same disks. Ends as a crash does: by being left."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(1_790_000_000.0))
    metric_disk: MemoryDisk = field(default_factory=MemoryDisk)
    log_disk: MemoryDisk = field(default_factory=MemoryDisk)

    async def start(self) -> Life:
        rand = random.Random(1)
        self.metric_journal, self.log_journal = MemoryJournal(self.metric_disk), MemoryJournal(self.log_disk)
        self.metrics = MetricService(self.metric_journal, Nobody(), clock=self.clock, rand=rand, secret=b"s" * 32)
        self.logs = LogService(self.log_journal, clock=self.clock, rand=rand, secret=b"s" * 32)
        await self.metrics.start()
        await self.logs.start()
        self.door = ReportServicer(self.metrics, logs_of(self.logs))
        return self

    async def next(self) -> Life:
        return await Life(self.clock, self.metric_disk, self.log_disk).start()

    async def report(self, number: int, source: str = "functions-0/ab") -> None:
        """A value of 5 and two lines."""
        now = self.clock.wall()
        metric = wire.MetricReport(
            account=SCOPE.account,
            region=SCOPE.region,
            namespace="AWS/Lambda",
            dimensions=["FunctionName", "f"],
            time=now,
            readings=[wire.MetricReading(name="Invocations", unit="Count", values=[5.0])],
        )
        lines = wire.LogReport(account=SCOPE.account, region=SCOPE.region, group=WHERE.group, stream="s")
        lines.times_ms.extend([round(now * 1000)] * 2)
        lines.messages.extend([f"{source} {number} one", f"{source} {number} two"])
        await self.door.Report(wire.ReportRequest(source=source, number=number, metrics=[metric], logs=[lines]), "")

    async def counted(self) -> tuple[float, list[str]]:
        metric = Metric(SCOPE, "AWS/Lambda", "Invocations", (("FunctionName", "f"),))
        now = self.clock.wall()
        points = self.metrics.get_statistics(StatisticsQuery(metric, ("Sum",), 3_600, now - 7_200, now + 60))
        shown, _ = await self.logs.filter(SCOPE, WHERE)
        return sum(point.values["Sum"] for point in points), [one.event.message for one in shown]

    async def stop(self) -> None:
        await self.metrics.stop()
        await self.logs.stop()


ONE = [f"functions-0/ab 1 {which}" for which in ("one", "two")]


@pytest.mark.parametrize("flushed", [True, False])
async def test_a_report_that_comes_again_after_a_crash_is_counted_once(flushed: bool) -> None:
    """Whether what it carried was on disk by then or not."""
    life = await Life().start()
    await life.report(1)
    await life.clock.advance(FLUSH_S * 2 if flushed else FLUSH_S / 2)
    after = await life.next()
    await after.report(1)
    assert await after.counted() == (5.0, ONE)
    await after.report(1)
    await after.report(2)
    assert (await after.counted())[0] == 10.0
    await after.report(1, "functions-0/cd")
    total, lines = await after.counted()
    assert total == 15.0 and len(lines) == 6, "another life of who reports has numbers of its own"
    await after.stop()
    last = await after.next()
    await last.report(2)
    assert (await last.counted())[0] == 15.0
    await last.stop()


async def test_a_number_is_never_on_disk_without_its_points() -> None:
    life = await Life().start()
    life.metric_journal.fail(InsufficientStorage())
    await life.report(1)
    await life.clock.advance(FLUSH_S + 1)
    after = await life.next()
    await after.report(1)
    assert (await after.counted())[0] == 5.0
    await after.stop()


async def test_an_error_while_writing_is_not_the_end_of_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    life = await Life().start()
    await life.report(1)
    collect, broken = life.metrics._persistence.collect, [True]

    def stumbles(now: float) -> Any:
        if broken:
            broken.pop()
            raise RuntimeError("unforeseen")
        return collect(now)

    monkeypatch.setattr(life.metrics._persistence, "collect", stumbles)
    await life.clock.advance(FLUSH_S * 2 + 1)
    after = await life.next()
    assert (await after.counted())[0] == 5.0
    await after.stop()


async def test_lines_that_nobody_waited_for_any_more_are_there_once() -> None:
    """The call is given up while the disk hangs; the same report comes again while it still does."""
    life = await Life().start()
    life.log_journal.hold()
    first = asyncio.create_task(life.report(1))
    await turn(20)
    first.cancel()
    await asyncio.wait([first])
    again = asyncio.create_task(life.report(1))
    await turn(20)
    assert not again.done()
    life.log_journal.release()
    await again
    assert await life.counted() == (5.0, ONE)
    await life.stop()
    after = await life.next()
    await after.report(1)
    assert await after.counted() == (5.0, ONE)
    await after.stop()


async def test_lines_for_which_there_is_no_room_are_dropped_and_the_metrics_count() -> None:
    life = await Life().start()
    await life.report(1)
    life.log_journal.fail(InsufficientStorage())
    await life.report(2)
    assert await life.counted() == (10.0, ONE)
    await life.stop()


async def test_a_store_that_ends_counts_nothing() -> None:
    life = await Life().start()
    await life.report(1)
    await life.stop()
    with pytest.raises(Unavailable):
        await life.report(2)
    after = await life.next()
    await after.report(2)
    assert (await after.counted())[0] == 10.0
    await after.stop()


def test_sources_are_bounded_and_the_silent_ones_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES_MAX", 3)
    one = Sources("k")
    for at, name in enumerate(("a", "b", "c", "a", "d")):
        one.note(name, at + 1, float(at))
    disk = {name: body for _, name, body in one.rows() if body is not None}
    assert set(disk) == {"a", "c", "d"} and ("k", "b", None) in one.rows()
    rows = one.rows()
    one.note("c", 9, 9.0)
    one.written(rows)
    assert [name for _, name, _ in one.rows()] == ["c"], "what was noted meanwhile is not on disk"
    again = Sources("k")
    again.restore(disk.items())
    assert again.heard("a", 4) and not again.heard("a", 5) and not again.heard("b", 1)
    again.note("e", 1, 10.0)
    assert not again.heard("c", 3), "after a restart too"
