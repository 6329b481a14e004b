"""Metrics and alarms in one event loop: the store in memory, the alarm machine in a shell, both on one journal.

    put, get, list        the store, at once; what came is on disk after the next flush (journal.py: FLUSH_S)
    alarm commands        the shell: durable before the answer
    actions               handed to the `Doer` one by one, and reported done to the machine; again after a crash

A flush that fails for want of space is tried again with the next; meanwhile points are taken until ROWS_UNWRITTEN_MAX
wait, then refused. One that fails otherwise ends the service, as it ends the shell: its owner starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Fenced, InsufficientStorage, Internal, Throttled
from minicloud.base.machine import Journal
from minicloud.metric import describe as describing
from minicloud.metric import limits, query
from minicloud.metric.actions import Act
from minicloud.metric.alarm import HistoryItem, MetricAlarm
from minicloud.metric.alarms import ActionDone, Alarms
from minicloud.metric.dashboards import Dashboard
from minicloud.metric.describe import Asked, AskedHistory, Shown
from minicloud.metric.journal import CHUNK, FLUSH_S, SERIES, SOURCE, TAIL, Persistence
from minicloud.metric.model import Metric
from minicloud.metric.registry import Where
from minicloud.metric.requests import GivenDatum, check_put
from minicloud.metric.store import Store
from minicloud.shell.clock import Clock, Timer
from minicloud.shell.shell import Shell
from minicloud.shell.sources import Row

T = TypeVar("T")
log = logging.getLogger(__name__)

ROWS_UNWRITTEN_MAX = 1_000_000  # ours: 56 MB
ACTS_MAX = 64  # ours: actions carried out at once
ACTS_WAITING_MAX = 10_000  # ours: beyond it repeated ones are left out, and others have failed, as the history says
_SCAN = 1_000


class Doer(Protocol):
    """Carries actions out: tells topics, scaling policies, instances. Raises CloudError."""

    async def act(self, act: Act) -> None: ...


class RawJournal(Journal, Protocol):
    """A journal with raw rows beside records (store/sqlite.py, store/memory.py)."""

    async def commit_raw(self, rows: Sequence[Row]) -> None: ...

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]: ...

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]: ...


class _JournalChunks:
    """The port of the store on the journal."""

    def __init__(self, journal: RawJournal) -> None:
        self._journal = journal

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return self._journal.read(CHUNK, keys)

    def oldest(self, prefix: str, limit: int) -> list[str]:
        return [key for key, _ in self._journal.scan(CHUNK, prefix=prefix, limit=limit)]


class MetricService:
    def __init__(self, journal: RawJournal, doer: Doer, *, clock: Clock, rand: random.Random, secret: bytes) -> None:
        self._journal = journal
        self._doer = doer
        self._clock = clock
        self._secret = secret
        self._store = Store(_JournalChunks(journal), clock.wall())
        self._persistence = Persistence(self._store)
        self._machine = Alarms(self._store)
        self.shell = Shell(self._machine, journal, clock=clock, rand=rand, on_effects=self._on_effects)
        self._timer: Timer | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._acting: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(ACTS_MAX)
        self._running = False

    async def start(self, owner: str = "") -> None:
        """Take the journal over, rebuild store and alarms, do what is owed. Raises what the journal raises."""
        await self.shell.start(owner)
        self._persistence.restore(self._all(SERIES), self._all(TAIL), self._all(SOURCE))
        self._running = True
        self._arm()
        self._on_effects(self._machine.redo())

    async def stop(self) -> None:
        """Refuse calls, write what was taken. Idempotent."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        if self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self.shell.error is None:
            await self._flush()
        await self.shell.stop()
        for task in self._acting:
            task.cancel()
        if self._acting:
            await asyncio.wait(self._acting)

    # --- metrics

    def put(self, scope: Scope, namespace: str, data: Sequence[GivenDatum], *, service: bool = False) -> None:
        """PutMetricData. Not on disk yet when it returns. Raises what requests.check_put raises, LimitExceeded,
        Throttled (the disk does not take what came before), Unavailable."""
        now = self._clock.wall()
        checked = check_put(namespace, data, now, service)
        self._read(lambda: self._take(scope, namespace, checked, now))

    def counted(self, source: str, number: int) -> bool:
        """Whether this report of a process of the cloud was counted, in this life or before it."""
        return self._persistence.sources.heard(source, number)

    def count(self, source: str, number: int) -> None:
        """A report was put, in one go with this call: its number comes to disk with its points."""
        self._persistence.sources.note(source, number, self._clock.wall())

    def _take(self, scope: Scope, namespace: str, checked: Any, now: float) -> None:
        if self.waiting > ROWS_UNWRITTEN_MAX:
            raise Throttled("Too many data points wait for the disk; slow down and retry.")
        self._store.put(scope, namespace, checked, now)

    def get_data(
        self, queries: Sequence[query.Query], start: float, end: float, newest_first: bool = True
    ) -> list[query.Result]:
        """GetMetricData. See query.get_data."""
        now = self._clock.wall()
        return self._read(lambda: query.get_data(self._store, queries, start, end, now, newest_first))

    def get_statistics(self, asked: query.StatisticsQuery) -> list[query.Point]:
        """GetMetricStatistics. See query.get_statistics."""
        return self._read(lambda: query.get_statistics(self._store, asked, self._clock.wall()))

    def list_metrics(self, scope: Scope, where: Where, token: str = "") -> tuple[list[Metric], str]:
        """ListMetrics: a page and the token of the next one. Raises InvalidPageToken."""
        context = f"metrics/{scope.key()}/{where}"
        after = pages.redeem(self._secret, context, token) if token else ""
        found, last = self._read(lambda: self._store.registry.find(scope, where, after, self._clock.wall()))
        return found, pages.issue(self._secret, context, last) if last else ""

    # --- alarms

    async def submit(self, command: Any) -> Any:
        """A command of alarms.py; its reply, once it is durable. Raises what the machine and the shell raise."""
        return await self.shell.submit(command)

    async def describe(self, scope: Scope, asked: Asked, token: str = "", most: int = 50) -> tuple[list[Shown], str]:
        """DescribeAlarms: a page and the token of the next one. Raises ValidationError, InvalidPageToken."""
        context = f"alarms/{scope.key()}/{asked}"
        after = pages.redeem(self._secret, context, token) if token else ""
        found, last = await self.shell.shown(lambda: describing.alarms(self._machine.roster, scope, asked, after, most))
        return found, pages.issue(self._secret, context, last) if last else ""

    async def history(
        self, scope: Scope, asked: AskedHistory, token: str = "", most: int = 100
    ) -> tuple[list[HistoryItem], str]:
        """DescribeAlarmHistory, as `describe`."""
        context = f"history/{scope.key()}/{asked}"
        after = pages.redeem(self._secret, context, token) if token else ""
        found, last = await self.shell.shown(
            lambda: describing.history(self._machine.roster, scope, asked, after, most)
        )
        return found, pages.issue(self._secret, context, last) if last else ""

    async def alarms_for_metric(self, metric: Metric, stat: str = "", period: int = 0, unit: str = "") -> list[Shown]:
        return await self.shell.shown(
            lambda: describing.alarms_for_metric(self._machine.roster, metric, stat, period, unit)
        )

    # --- dashboards

    async def dashboard(self, account: str, name: str) -> Dashboard:
        """Raises NotFound."""
        return await self.shell.shown(lambda: self._machine.dashboards.get(account, name))

    async def list_dashboards(self, account: str, prefix: str, token: str = "") -> tuple[list[Dashboard], str]:
        """A page and the token of the next one. Raises InvalidPageToken."""
        dashboards, context = self._machine.dashboards, f"dashboards/{account}/{prefix}"

        def look() -> tuple[list[Dashboard], str]:
            keys = dashboards.named(account, prefix)
            some, after = pages.cut(self._secret, context, keys, token, limits.DASHBOARDS_PAGE)
            return [dashboards.found[key] for key in some], after

        return await self.shell.shown(look)

    def newest(self, alarm_key: str) -> tuple[tuple[float, ...], float] | None:
        """What a metric alarm compares, of its newest periods, and with what; None: it is none, or there is no data."""
        alarm = self._machine.roster.alarms.get(alarm_key)
        if not isinstance(alarm, MetricAlarm):
            return None
        now = self._clock.wall()
        start = now - (alarm.periods + limits.EVALUATION_EXTRA) * alarm.period
        found = self._read(lambda: query.get_data(self._store, alarm.queries, start, now, now, newest_first=False))
        values = tuple(found[0].values[-alarm.periods :]) if found else ()
        return (values, alarm.threshold) if values else None

    # --- for the metrics page

    @property
    def size(self) -> int:
        """Metrics, by unit."""
        return len(self._store.registry)

    @property
    def waiting(self) -> int:
        """Points that are not on disk yet."""
        return sum(len(rows) for _, rows in self._store.parts)

    def alarm_states(self) -> Counter[str]:
        return Counter(state.value for state in self._machine.roster.states.values())

    # --- within

    def _read(self, look: Callable[[], T]) -> T:
        return self.shell.read(look)

    def _all(self, kind: str) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while True:
            page = self._journal.scan(kind, after=found[-1][0] if found else "", limit=_SCAN)
            found += page
            if len(page) < _SCAN:
                return found

    def _arm(self) -> None:
        if self._running:
            self._timer = self._clock.call_at(self._clock.wall() + FLUSH_S, self._ring)

    def _ring(self) -> None:
        self._flushing = asyncio.create_task(self._flush_and_arm())

    async def _flush_and_arm(self) -> None:
        on = True
        try:
            on = await self._flush()
        except Exception:  # what was not confirmed is in the next batch again
            log.exception("metrics are written later")
        if on:
            self._arm()
        self._flushing = None

    async def _flush(self) -> bool:
        """Write until nothing is left. Whether to go on: not where the journal is another's, or broken."""
        more = True
        while more:
            batch = self._persistence.collect(self._clock.wall())
            try:
                await self._journal.commit_raw(batch.rows)
            except InsufficientStorage as error:
                log.warning("metrics wait for space on the disk: %s", error)
                return True
            except (Fenced, Internal) as error:
                log.error("metrics cannot be written any more: %s", error)
                await self.shell.stop()
                return False
            self._persistence.confirm(batch, self._clock.wall())
            more = batch.more
        return True

    def _on_effects(self, acts: Sequence[Act]) -> None:
        for act in acts:
            full = len(self._acting) >= ACTS_WAITING_MAX
            if act.repeated and full:
                continue  # the next minute has it again
            work = self._record(act, "Too many actions wait to be carried out.") if full else self._act(act)
            task = asyncio.create_task(work)
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)

    async def _act(self, act: Act) -> None:
        error = ""
        async with self._room:
            try:
                await self._doer.act(act)
            except CloudError as failed:
                error = failed.message
            except Exception:
                log.exception("the action %s failed", act.arn)
                error = "An internal error occurred."
        await self._record(act, error)

    async def _record(self, act: Act, error: str) -> None:
        try:
            await self.shell.submit(ActionDone(act, error))
        except CloudError as failed:
            log.warning("it is not recorded that the action %s was carried out: %s", act.arn, failed)
