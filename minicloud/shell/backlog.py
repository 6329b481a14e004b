"""What waits on disk for its turn, in lines: each line runs so many at once, and what was in vain comes again later.

    put --on disk--> ready --room in its line, and its account's--> run --> let go, or into another line
                       ^                                             |
                       +------------ later, after a pause <----------+

Bodies stay on disk, as rows of a journal; in memory a thing that waits is a few numbers. A line has the ARN of what is
waited for: a function, a target. A run that fails is done again after a pause that doubles; whatever has a row is
restored after a crash, and runs again: nothing is lost.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from minicloud.base.errors import CloudError, DeadlineExceeded, Fenced, Internal, Unavailable
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)

PAGE = 64  # ours: bodies of up to 1 MiB that are read at once

Rows = Sequence[tuple[str, str, bytes | None]]


class RawJournal(Protocol):
    """A journal with raw rows beside records (store/sqlite.py)."""

    async def commit_raw(self, rows: Rows) -> None: ...

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]: ...

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]: ...


@dataclass(slots=True)
class Waiting:
    """A thing that waits, in memory. `key`: of its row, growing. `delays`: how often in a row it was put off."""

    key: str
    line: str
    delays: int = 0


W = TypeVar("W", bound=Waiting)


@dataclass(slots=True)
class Line(Generic[W]):
    """What may run now. `most`: at once; 0: it rests until the first of those that were put off comes again."""

    most: int
    ready: deque[W] = field(default_factory=deque)
    running: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """`line`: of one line at once, at first. `account`: of one account at once. `pauses_s`: the first, the longest."""

    line: int
    account: int
    pauses_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Outside:
    """`lost` is called when the journal takes no more."""

    journal: RawJournal
    clock: Clock
    lost: Callable[[], None]


class Backlog(Generic[W]):
    """`run` ends each thing: `gone`, `again`, `later`; one that raises is done again."""

    def __init__(self, outside: Outside, bounds: Bounds, run: Callable[[Line[W], W], Awaitable[None]]) -> None:
        self._journal = outside.journal
        self._clock = outside.clock
        self._lost = outside.lost
        self._bounds = bounds
        self._run_one = run
        self._lines: dict[str, Line[W]] = {}
        self._later: list[tuple[float, int, W]] = []
        self._turn = itertools.count()  # of equal times the first comes first
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()  # of each account
        self._at_once: Counter[str] = Counter()  # running, of each account
        self._held: dict[str, dict[str, None]] = {}  # lines of an account that wait until it has fewer running
        self._next = 0
        self._running = False

    def __len__(self) -> int:
        return self._counts.total()

    def count(self, account: str) -> int:
        return self._counts[account]

    def busy(self, line: str) -> bool:
        """Something of this line is ready, runs, or rests."""
        return line in self._lines

    # --- from start to stop

    def stored(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """(key, body) of all rows. A page at a time: bodies of all that wait are more than memory holds."""
        after = ""
        while page := self._journal.scan(kind, after=after, limit=PAGE):
            yield from page
            after = page[-1][0]

    def restore(self, waiting: W, delay_s: float = 0.0) -> None:
        """Its row is on disk. Before `start`."""
        self._next = max(self._next, int(waiting.key) + 1)
        self._counts[account_of(waiting)] += 1
        self.later(waiting, delay_s)

    def start(self) -> None:
        self._running = True
        for line in list(self._lines):
            self._pump(line)
        self._arm()

    async def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- how things come and go

    def keys(self, count: int) -> list[str]:
        first, self._next = self._next, self._next + count
        return [f"{number:020d}" for number in range(first, self._next)]

    async def put(self, rows: Rows, new: Sequence[W] = (), kept: Callable[[], None] | None = None) -> None:
        """On disk when it returns, then they wait. It goes on when its caller goes away: what is on disk runs.

        kept: called once it is on disk, before anything runs. Raises Unavailable, and what the journal raises.
        """
        if not self._running:
            raise Unavailable("The process starts again; retry.")
        self._counts.update(map(account_of, new))
        await asyncio.shield(self._spawn(self._keep(rows, new, kept)))

    async def _keep(self, rows: Rows, new: Sequence[W], kept: Callable[[], None] | None) -> None:
        try:
            await self.commit(rows)
        except BaseException:
            for one in new:
                self.drop(one)
            raise
        if kept is not None:
            kept()
        for one in new:
            self.later(one, 0.0)

    async def commit(self, rows: Rows) -> None:
        try:
            await self._journal.commit_raw(rows)
        except (Fenced, Internal):
            self._lost()
            raise

    async def gone(self, waiting: W, rows: Rows) -> None:
        """rows: its own, which end."""
        await self.commit(rows)
        self.drop(waiting)

    def drop(self, waiting: W) -> None:
        """It waits no more: its row has ended."""
        account = account_of(waiting)
        self._counts[account] -= 1
        if not self._counts[account]:
            del self._counts[account]

    # --- when they run

    def later(self, waiting: W, delay_s: float) -> None:
        if delay_s > 0:
            heapq.heappush(self._later, (self._clock.monotonic() + delay_s, next(self._turn), waiting))
            self._arm()
            return
        self._line(waiting.line).ready.append(waiting)
        self._pump(waiting.line)

    def again(self, waiting: W, *, rest: bool = False) -> None:
        """After a pause, which doubles. rest: its line does not run meanwhile, for what it is for is away."""
        waiting.delays += 1
        first_s, longest_s = self._bounds.pauses_s
        self.later(waiting, min(first_s * 2.0 ** min(waiting.delays - 1, 30), longest_s))
        if rest:
            self._line(waiting.line).most = 0

    def beside(self, waiting: W, work: Coroutine[Any, Any, None]) -> None:
        """The rest of a run that takes no place in its line any more."""
        self._spawn(self._guarded(waiting, work))

    def _line(self, name: str) -> Line[W]:
        found = self._lines.get(name)
        if found is None:
            found = self._lines[name] = Line(self._bounds.line)
        return found

    def _pump(self, name: str) -> None:
        line = self._lines.get(name)
        if line is None or not self._running:
            return
        account = _account(name)
        while line.ready and line.running < line.most:
            if self._at_once[account] >= self._bounds.account:
                self._held.setdefault(account, {})[name] = None
                return
            line.running += 1
            self._at_once[account] += 1
            self._spawn(self._run(name, line, line.ready.popleft()))
        if not line.ready and not line.running and line.most:
            del self._lines[name]

    async def _run(self, name: str, line: Line[W], waiting: W) -> None:
        try:
            await self._guarded(waiting, self._run_one(line, waiting))
        finally:
            line.running -= 1
            self._let_others(name)

    async def _guarded(self, waiting: W, work: Awaitable[None]) -> None:
        try:
            await work
        except CloudError as error:  # the disk, or a place that does not answer
            log.warning("what waits for %s is tried again: %s", waiting.line, error)
            self.again(waiting)
        except Exception:  # of one: all others of all accounts go on
            log.exception("what waits for %s is tried again", waiting.line)
            self.again(waiting)

    def _let_others(self, name: str) -> None:
        """Others may run: of lines that were held, in turn, or of the same one."""
        account = _account(name)
        self._at_once[account] -= 1
        while (held := self._held.get(account)) and self._at_once[account] < self._bounds.account:
            first = next(iter(held))
            del held[first]
            self._pump(first)
        self._pump(name)
        if not self._held.get(account):
            self._held.pop(account, None)
        if not self._at_once[account]:
            del self._at_once[account]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and self._running:
            wait_s = max(0.0, self._later[0][0] - self._clock.monotonic())
            self._timer = self._clock.call_at(self._clock.wall() + wait_s, self._ring)

    def _ring(self) -> None:
        now = self._clock.monotonic()
        lines = set()
        while self._later and self._later[0][0] <= now:
            waiting = heapq.heappop(self._later)[2]
            line = self._line(waiting.line)
            line.most = line.most or 1
            line.ready.append(waiting)
            lines.add(waiting.line)
        for name in sorted(lines):
            self._pump(name)
        self._arm()


def may_pass(error: CloudError) -> bool:
    """Where something may arrive twice: what failed so may go well later."""
    return error.retryable or isinstance(error, DeadlineExceeded | Internal)


def account_of(waiting: Waiting) -> str:
    return _account(waiting.line)


def _account(line: str) -> str:
    return line.split(":")[4]
