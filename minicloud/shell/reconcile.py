"""The reconcile loop: brings each key from what is observed to what is desired, in small idempotent steps.

Theory. `step(key, now)` looks at one key, does one thing at most, and returns when it wants to look again (Unix
seconds) or None (only when woken). It is never told what happened: it looks. So a wake-up may come too often, may merge
with others, and may come late, and the result is the same; "everything fails all the time" is this loop.

One run of a key at a time: a wake during a run makes one more run after it. At most `concurrency` steps run at a time;
further keys wait in the order in which they became due. A step that raises is run again after a backoff that grows
with the failures of that key; a wake does not shorten it (the cause of the failure is not healed by being in a hurry).
A step that asks for the past or the present, or that wakes its own key in every run, is run again after
`PAUSE_S_MIN`: no mistake of a step becomes a busy loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from minicloud.base.errors import CloudError
from minicloud.shell.clock import Clock, Timer
from minicloud.shell.pump import Backoff

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)

CONCURRENCY = 32  # ours: steps at a time
PAUSE_S_MIN = 0.01  # between two runs of a key that asks to be run at once
BACKOFF = Backoff(first_s=0.2, max_s=60.0)


@dataclass(slots=True)
class _Entry:
    """What the loop knows of a key."""

    failures: int = 0
    not_before: float = 0.0
    timer: Timer | None = None
    queued: bool = False
    task: asyncio.Task[float | Exception | None] | None = None
    woken: bool = False
    hurried: bool = False  # the last run followed a wake without a pause; the next one may not
    forgotten: bool = False


@dataclass(slots=True)
class ReconcileCounters:
    runs: int = 0
    errors: int = 0


class Reconciler(Generic[Key]):
    """Runs `step` for keys that are woken or due, from `start` until `stop`. One event loop."""

    def __init__(
        self,
        step: Callable[[Key, float], Awaitable[float | None]],
        *,
        clock: Clock,
        rand: random.Random,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._step = step
        self._clock = clock
        self._rand = rand
        self._concurrency = concurrency
        self._entries: dict[Key, _Entry] = {}
        self._queue: deque[tuple[Key, _Entry]] = deque()
        self._running = 0
        self._on = False
        self.counters = ReconcileCounters()

    def __len__(self) -> int:
        """Keys that run, wait to run or wait for a time."""
        return len(self._entries)

    def start(self) -> None:
        """Begin to run what was woken; earlier wakes are kept. Needs the running event loop."""
        self._on = True
        self._spawn()

    async def stop(self) -> None:
        """Cancel the running steps, forget every key."""
        self._on = False
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for key in list(self._entries):
            self.forget(key)
        if tasks:
            await asyncio.wait(tasks)

    def wake(self, key: Key) -> None:
        """Run the step for this key soon: at once, after its running step, or after its backoff."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
        if entry.task is not None:
            entry.woken = True
        elif not entry.queued and entry.not_before <= self._clock.wall():
            self._enqueue(key, entry)

    def forget(self, key: Key) -> None:
        """Stop looking at a key: cancel its running step and its timer. A later wake starts afresh, after that step."""
        entry = self._entries.get(key)
        if entry is None:
            return
        entry.failures, entry.not_before, entry.woken = 0, 0.0, False
        entry.forgotten = True
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.task is not None:
            entry.task.cancel()
        else:
            del self._entries[key]

    def _enqueue(self, key: Key, entry: _Entry) -> None:
        if entry.timer is not None:
            entry.timer.cancel()
            entry.timer = None
        entry.queued = True
        self._queue.append((key, entry))
        self._spawn()

    def _spawn(self) -> None:
        while self._on and self._queue and self._running < self._concurrency:
            key, entry = self._queue.popleft()
            if entry.forgotten:
                continue
            entry.queued = False
            self._running += 1
            self.counters.runs += 1
            entry.task = asyncio.create_task(self._try(key, entry))
            entry.task.add_done_callback(partial(self._ran, key, entry))

    async def _try(self, key: Key, entry: _Entry) -> float | Exception | None:
        entry.woken = False  # what woke it before it began, it will see
        try:
            return await self._step(key, self._clock.wall())
        except CloudError as error:
            log.info("step of %r failed: %s", key, error)
            return error
        except Exception as error:
            log.exception("step of %r failed", key)
            return error

    def _ran(self, key: Key, entry: _Entry, task: asyncio.Task[float | Exception | None]) -> None:
        self._running -= 1
        entry.task = None
        if not entry.forgotten:
            self._after(key, entry, self._next(entry, task))
        else:
            del self._entries[key]
            if entry.woken:
                self.wake(key)
        self._spawn()

    def _next(self, entry: _Entry, task: asyncio.Task[float | Exception | None]) -> float | None:
        """When the step wants to run again; a step that failed or was interrupted: after its backoff."""
        again = None if task.cancelled() else task.result()
        if task.cancelled() or isinstance(again, Exception):
            return self._failed(entry)
        entry.failures = 0
        return again

    def _failed(self, entry: _Entry) -> float:
        self.counters.errors += 1
        entry.failures += 1
        return self._clock.wall() + BACKOFF.pause_s(entry.failures, self._rand)

    def _after(self, key: Key, entry: _Entry, again: float | None) -> None:
        """Set the key's next run: when the step said, or at once if it was woken meanwhile; never before a backoff."""
        now = self._clock.wall()
        woken, hurried = entry.woken and not entry.failures, entry.hurried
        entry.woken, entry.hurried = False, woken
        entry.not_before = again if entry.failures and again is not None else 0.0
        if woken and not hurried:
            self._enqueue(key, entry)
        elif again is None and not woken:
            del self._entries[key]
        else:
            when = now if woken or again is None else again
            entry.timer = self._clock.call_at(max(when, now + PAUSE_S_MIN), partial(self._due, key, entry))

    def _due(self, key: Key, entry: _Entry) -> None:
        entry.timer = None
        entry.not_before = 0.0
        if entry.task is None and not entry.queued and not entry.forgotten:
            self._enqueue(key, entry)
