"""The shell: makes one pure machine durable and prompt. One event loop, no locks.

    submit(command):  decide -> apply in memory -> journal -> reply -> effects

Theory. Decisions are taken against the applied state, which may run ahead of the disk. While one commit is in flight,
further calls decide and apply at once and wait in the queue; when the commit returns, everything that waited becomes
the next one. So there is at most one commit in flight, calls become durable in the order in which they were decided,
and a slow disk makes groups larger instead of replies wrong.

    decided, applied, not durable:   [ group in flight | queue ]

What can never happen: a reply before the disk has everything that the decision saw. That is why a command without
records waits too where it saw something undurable, and why a failed commit takes down the group in flight *and* the
queue behind it: those calls were decided on a state that did not become true. Their applies are undone newest first,
each by putting back the body that stood there before, so keys that several calls touched come out right.

    InsufficientStorage    undone, the calls fail, the shell goes on
    Fenced                 undone, the calls fail, the shell ends: another owner has taken over
    Internal               undone, the calls fail, the shell ends: the disk lies, only a restart reads what it holds
    any other exception    undone, the calls fail with Internal, the shell goes on (a record that cannot be encoded)

Effects are handed over after the commit. A crash in between loses them, so whatever must happen is derived again from
the records after `start` (the machine's Tick, or a reconcile loop over what is desired).
"""

from __future__ import annotations

import asyncio
import logging
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minicloud.base.errors import CloudError, Fenced, Internal, Throttled, Unavailable
from minicloud.base.machine import Context, Journal, Machine, Outcome, Record, Tick
from minicloud.shell.clock import Clock, Timer

T = TypeVar("T")
log = logging.getLogger(__name__)

CALLS_PENDING_MAX = 65_536  # ours: calls that wait for the disk; beyond it callers are told to slow down
LOAD_BATCH = 1_000  # records applied between two turns of the event loop while starting
TICK_PAUSE_S_MIN = 0.05  # after a tick that failed or changed nothing although due; doubles
TICK_PAUSE_S_MAX = 5.0
COMMIT_S_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)  # histogram; one more bucket above


@dataclass(slots=True)
class Counters:
    """What a shell did since its start; read by the metrics page, never by rules."""

    calls: int = 0
    commits: int = 0
    commits_failed: int = 0
    records: int = 0
    calls_undone: int = 0
    ticks: int = 0
    ticks_failed: int = 0
    group_calls_last: int = 0
    group_calls_max: int = 0
    commit_s_last: float = 0.0
    commit_s_max: float = 0.0
    commit_s_sum: float = 0.0
    commit_s_buckets: list[int] = field(default_factory=lambda: [0] * (len(COMMIT_S_BOUNDS) + 1))

    def committed(self, calls: int, records: int, seconds: float) -> None:
        self.commits += 1
        self.records += records
        self.group_calls_last = calls
        self.group_calls_max = max(self.group_calls_max, calls)
        self.commit_s_last = seconds
        self.commit_s_max = max(self.commit_s_max, seconds)
        self.commit_s_sum += seconds
        self.commit_s_buckets[bisect_left(COMMIT_S_BOUNDS, seconds)] += 1


class _Call:
    """One accepted command: decided and applied; `done` says when it is durable (None: it already was)."""

    __slots__ = ("done", "outcome", "undo")

    def __init__(self, outcome: Outcome, done: asyncio.Future[None] | None) -> None:
        self.outcome = outcome
        self.done = done
        self.undo: list[Record] = []


class Shell:
    """Runs one machine on one journal in the running event loop.

    `on_effects` is called in the loop, after the commit, with the effects of one group in order; it must not block.
    `fenced` is set when another owner has taken over, `ended` when the shell stopped for any reason (`error` says it).
    """

    def __init__(
        self,
        machine: Machine,
        journal: Journal,
        *,
        clock: Clock,
        rand: random.Random,
        on_effects: Callable[[list[Any]], None],
    ) -> None:
        self._machine = machine
        self._journal = journal
        self._clock = clock
        self._rand = rand
        self._on_effects = on_effects
        self._queue: list[_Call] = []
        self._group: list[_Call] = []
        self._flushing: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._armed: float | None = None
        self._tick: asyncio.Task[None] | None = None
        self._tick_pause_s = 0.0
        self._tick_after = 0.0
        self._running = False
        self.epoch = 0
        self.error: CloudError | None = None
        self.fenced = asyncio.Event()
        self.ended = asyncio.Event()
        self.counters = Counters()

    async def start(self, owner: str = "") -> None:
        """Take the journal over, rebuild the machine from it, arm its timer. Raises what the journal raises."""
        self.epoch = self._journal.acquire(owner or f"shell-{self._rand.getrandbits(64):016x}")
        for count, record in enumerate(self._journal.load(self._machine.kinds), 1):
            self._machine.apply(record)
            if count % LOAD_BATCH == 0:
                await asyncio.sleep(0)
        self._running = True
        self._rearm()

    async def stop(self) -> None:
        """Refuse further calls, wait for those accepted, cancel the timer. Idempotent."""
        self._running = False
        self._disarm()
        while self._flushing is not None:
            await asyncio.wait([self._flushing])
        if self._tick is not None:
            await asyncio.wait([self._tick])
        self.ended.set()

    async def submit(self, command: Any) -> Any:
        """The machine's reply, once everything that it rests on is on disk.

        Raises what `decide` raises (nothing changed then), the journal's error when the commit failed (undone),
        Throttled when too many calls wait, Unavailable when the shell does not run. A caller that is cancelled
        while waiting does not stop its commit.
        """
        call = self._accept(command)
        if call.done is not None:
            await call.done
        return call.outcome.reply

    def read(self, look: Callable[[], T]) -> T:
        """What `look` sees now in the machine: immediate, and possibly ahead of the disk. For work inside, not for
        replies: see `shown`."""
        if not self._running:
            raise self._refusal()
        return look()

    async def shown(self, look: Callable[[], T]) -> T:
        """What `look` sees in the machine, or raises, once all of it is on disk: nobody is shown what a crash or a full
        disk could take back. It looks again where some of it was undone.

        Raises Unavailable where the shell does not run.
        """
        while self._running:
            refused: CloudError | None = None
            try:
                seen = look()
            except CloudError as error:
                refused = error
            try:
                await self.barrier()
            except CloudError:
                continue
            if refused is not None:
                raise refused
            return seen
        raise self._refusal()

    def settled(self) -> bool:
        """What `read` sees now is on disk: it may be shown without waiting."""
        return self._running and not self._undurable()

    async def barrier(self) -> None:
        """Return once everything accepted so far is on disk. Raises as `submit` does, if it did not get there."""
        if self._undurable():
            call = self._enqueue(Outcome())
            assert call.done is not None
            await call.done

    def pending(self) -> int:
        """Calls that wait for the disk."""
        return len(self._group) + len(self._queue)

    # --- accepting

    def _accept(self, command: Any) -> _Call:
        if not self._running:
            raise self._refusal()
        if self.pending() >= CALLS_PENDING_MAX:
            raise Throttled("Too many requests wait for the disk; slow down and retry.")
        self.counters.calls += 1
        outcome = self._machine.decide(command, Context(self._clock.wall(), self._rand))
        if not outcome.records and not self._undurable():
            if outcome.effects:
                self._emit(outcome.effects)
            return _Call(outcome, None)
        return self._enqueue(outcome)

    def _refusal(self) -> CloudError:
        if self.error is None:
            return Unavailable("The service is starting or shutting down; retry.")
        if isinstance(self.error, Fenced):
            return self.error.copy()
        return Unavailable(f"The service stopped ({self.error.message}); it answers again after its restart.")

    def _undurable(self) -> bool:
        return bool(self._queue or self._group)

    def _enqueue(self, outcome: Outcome) -> _Call:
        call = _Call(outcome, asyncio.get_running_loop().create_future())
        if outcome.records:
            self._apply(call)
        self._queue.append(call)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        if outcome.records:
            self._rearm()
        return call

    def _apply(self, call: _Call) -> None:
        try:
            for record in call.outcome.records:
                call.undo.append(Record(record.kind, record.key, self._machine.lookup(record.kind, record.key)))
                self._machine.apply(record)
        except Exception as error:
            log.exception("the machine could not apply its own record")
            self._undo([call])
            raise Internal() from error

    # --- committing

    async def _flush(self) -> None:
        """Commit what waits, then what arrived meanwhile, until nothing waits."""
        try:
            while self._queue:
                self._group, self._queue = self._queue, []
                error = await self._commit([record for call in self._group for record in call.outcome.records])
                if error is None:
                    self._settle()
                else:
                    self._fail(error)
        finally:
            self._flushing = None

    async def _commit(self, records: list[Record]) -> Exception | None:
        if not records:
            return None
        began = self._clock.monotonic()
        try:
            await self._journal.commit(records)
        except CloudError as error:
            log.warning("commit of %d records failed: %s", len(records), error)
            return error
        except Exception as error:
            log.exception("commit of %d records failed", len(records))
            return error
        self.counters.committed(len(self._group), len(records), self._clock.monotonic() - began)
        return None

    def _settle(self) -> None:
        """The group is durable: reply, then hand its effects over."""
        group, self._group = self._group, []
        effects: list[Any] = []
        for call in group:
            if call.done is not None and not call.done.done():
                call.done.set_result(None)
            effects += call.outcome.effects
        if effects:
            self._emit(effects)

    def _emit(self, effects: list[Any]) -> None:
        try:
            self._on_effects(effects)
        except Exception:
            log.exception("%d effects were not taken", len(effects))

    def _fail(self, cause: Exception) -> None:
        """Undo and fail everything that is not durable; end the shell where the journal says so."""
        lost = self._group + self._queue
        self._group, self._queue = [], []
        self.counters.commits_failed += 1
        self.counters.calls_undone += len(lost)
        error = cause if isinstance(cause, CloudError) else Internal("The change could not be recorded.")
        if isinstance(error, (Fenced, Internal)) and error is cause:
            self._end(error)
        self._undo(lost)
        for call in lost:
            if call.done is not None and not call.done.done():
                call.done.set_exception(error.copy(cause))
        self._rearm()

    def _undo(self, calls: list[_Call]) -> None:
        try:
            for call in reversed(calls):
                for before in reversed(call.undo):
                    self._machine.apply(before)
        except Exception:
            # The memory no longer is what the journal says: only a restart, which replays it, is safe.
            log.exception("the machine could not undo; the service stops")
            self._end(Internal("The state in memory is not what is on disk."))

    def _end(self, error: CloudError) -> None:
        self.error = self.error or error
        self._running = False
        self._disarm()
        if isinstance(error, Fenced):
            self.fenced.set()
        self.ended.set()

    # --- the one timer

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._armed = None

    def _rearm(self) -> None:
        """Set the timer to the machine's due time, not before a pause that the last tick earned."""
        if not self._running or self._tick is not None:
            return
        due = self._machine.due()
        when = None if due is None else max(due, self._tick_after)
        if when == self._armed:
            return
        self._disarm()
        if when is not None:
            self._armed = when
            self._timer = self._clock.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = self._armed = None
        self._tick = asyncio.create_task(self._run_tick())

    async def _run_tick(self) -> None:
        progress = False
        try:
            self.counters.ticks += 1
            call = self._accept(Tick())
            if call.done is not None:
                await call.done
            due = self._machine.due()
            progress = bool(call.outcome.records) or due is None or due > self._clock.wall()
            if not progress:
                log.warning("a tick changed nothing, yet the machine is still due at %s", due)
        except CloudError as error:
            log.warning("tick failed: %s", error)
        except Exception:
            log.exception("tick failed")
        finally:
            self._tick = None
            self._pace(progress)
            self._rearm()

    def _pace(self, progress: bool) -> None:
        """A tick that failed, or that leaves the machine due as before, may not spin."""
        if progress:
            self._tick_pause_s = self._tick_after = 0.0
            return
        self.counters.ticks_failed += 1
        self._tick_pause_s = min(max(self._tick_pause_s * 2, TICK_PAUSE_S_MIN), TICK_PAUSE_S_MAX)
        self._tick_after = self._clock.wall() + self._tick_pause_s
