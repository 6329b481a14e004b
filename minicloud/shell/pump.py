"""The pump: carries out effects after their commit, at least once, in order for each key.

Theory. An effect names something that the outside shall do (start a guest, call an endpoint). Effects of one key run
one after another in the order given; keys run beside each other, `concurrency` at most at a time. A retryable error
(`CloudError.retryable`, a lost connection, a timeout) puts the effect back to the head of its key's line and lets the
key rest: exponential backoff with full jitter, so a thousand keys that failed together do not return together. While
a key rests it occupies no slot. Any other error ends the effect: it is counted and told to `on_failure`, never
swallowed, and the key goes on with its next effect.

    waiting (line per key) -> ready (keys in order of arrival) -> running -> done | resting -> ready

The pump keeps nothing on disk: what a crash loses is derived again from the records (see `shell`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from minicloud.base.errors import CloudError, Unavailable
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between tries: a random part of `first_s * 2**n`, at most `max_s`; at least half of it."""

    first_s: float = 0.1
    max_s: float = 30.0

    def pause_s(self, failures: int, rand: random.Random) -> float:
        """After the `failures`-th failure in a row (1, 2, ...)."""
        top = min(self.first_s * 2.0 ** min(failures - 1, 60), self.max_s)
        return top * (0.5 + rand.random() / 2)


@dataclass(frozen=True, slots=True)
class PumpLimits:
    """`tries_max` None: a retryable error is retried until it succeeds or its key is cancelled."""

    concurrency: int = 64
    tries_max: int | None = None
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(slots=True)
class PumpCounters:
    taken: int = 0
    done: int = 0
    retried: int = 0
    failed: int = 0
    cancelled: int = 0


class _Line:
    """The effects of one key, its failures in a row, and what it is doing."""

    __slots__ = ("cancelled", "effects", "failures", "rest", "task")

    def __init__(self) -> None:
        self.effects: deque[Any] = deque()
        self.failures = 0
        self.task: asyncio.Task[Exception | None] | None = None
        self.rest: Timer | None = None
        self.cancelled = False


class Pump:
    """Runs effects in the event loop. `handlers` by the effect's type, `key_of` names what must stay in order.

    `put` takes effects and returns at once; it fits a shell's `on_effects`. An effect without a handler is an error
    of the program: ValueError, nothing of that call is taken.
    """

    def __init__(
        self,
        handlers: Mapping[type, Handler],
        key_of: Callable[[Any], Hashable],
        *,
        clock: Clock,
        rand: random.Random,
        limits: PumpLimits | None = None,
    ) -> None:
        self._handlers = dict(handlers)
        self._key_of = key_of
        self._clock = clock
        self._rand = rand
        self._limits = limits or PumpLimits()
        self._lines: dict[Hashable, _Line] = {}
        self._ready: deque[Hashable] = deque()
        self._running = 0
        self._stopped = False
        self._empty = asyncio.Event()
        self._empty.set()
        self.counters = PumpCounters()
        self.on_failure: Callable[[Any, Exception], None] = _log_failure

    def put(self, effects: Iterable[Any]) -> None:
        """Line effects up behind what their keys already have."""
        effects = list(effects)
        unknown = {type(effect).__name__ for effect in effects if type(effect) not in self._handlers}
        if unknown:
            raise ValueError(f"no handler for effects of type {', '.join(sorted(unknown))}")
        if self._stopped:
            return
        for effect in effects:
            self._put(self._key_of(effect), effect)
        self._spawn()

    def cancel(self, key: Hashable) -> int:
        """Drop what waits under a key and cancel what runs; returns how many effects that were.

        Effects put under the key afterwards start when the cancelled one has really ended.
        """
        line = self._lines.get(key)
        if line is None:
            return 0
        dropped = len(line.effects)
        self.counters.cancelled += dropped
        line.effects.clear()
        line.failures = 0
        if line.task is not None:
            line.cancelled = True
            line.task.cancel()
            return dropped
        if line.rest is not None:
            line.rest.cancel()
        self._remove(key)
        return dropped

    async def drain(self) -> None:
        """Return when no effect waits, rests or runs."""
        await self._empty.wait()

    async def stop(self) -> None:
        """Cancel everything and take nothing more."""
        self._stopped = True
        for key in list(self._lines):
            self.cancel(key)
        await self.drain()

    def backlog(self) -> int:
        """Effects that wait, rest or run."""
        return sum(len(line.effects) for line in self._lines.values())

    # --- lines

    def _put(self, key: Hashable, effect: Any) -> None:
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
            self._ready.append(key)
            self._empty.clear()
        line.effects.append(effect)
        self.counters.taken += 1

    def _spawn(self) -> None:
        while self._ready and self._running < self._limits.concurrency:
            key = self._ready.popleft()
            line = self._lines.get(key)
            # A key that was cancelled while it stood in `ready`, and put again, stands there twice.
            if line is None or line.task is not None or line.rest is not None or not line.effects:
                continue
            self._running += 1
            effect = line.effects[0]
            line.task = asyncio.create_task(self._try(effect))
            line.task.add_done_callback(partial(self._ran, key, line, effect))

    async def _try(self, effect: Any) -> Exception | None:
        try:
            await self._handlers[type(effect)](effect)
        except Exception as error:
            log.debug("effect %r failed", effect, exc_info=True)
            return error
        return None

    def _ran(self, key: Hashable, line: _Line, effect: Any, task: asyncio.Task[Exception | None]) -> None:
        """After one try: rest, or take the effect off its line; then the key goes to the end, so keys take turns."""
        self._running -= 1
        line.task = None
        # A handler that was cancelled from elsewhere did not finish its work: that is worth another try.
        error = Unavailable("The effect was interrupted.") if task.cancelled() else task.result()
        if line.cancelled:
            line.cancelled = False
        elif error is not None and self._again(error, line.failures + 1):
            self._rest(key, line)
        else:
            self._finish(effect, line, error)
        if line.effects and line.rest is None:
            self._ready.append(key)
        elif not line.effects:
            self._remove(key)
        self._spawn()

    def _again(self, error: Exception, tries: int) -> bool:
        top = self._limits.tries_max
        return is_retryable(error) and (top is None or tries < top)

    def _finish(self, effect: Any, line: _Line, error: Exception | None) -> None:
        line.effects.popleft()
        line.failures = 0
        if error is None:
            self.counters.done += 1
            return
        self.counters.failed += 1
        try:
            self.on_failure(effect, error)
        except Exception:
            log.exception("on_failure failed for %r", effect)

    def _rest(self, key: Hashable, line: _Line) -> None:
        line.failures += 1
        self.counters.retried += 1
        when = self._clock.wall() + self._limits.backoff.pause_s(line.failures, self._rand)
        line.rest = self._clock.call_at(when, partial(self._rested, key, line))

    def _rested(self, key: Hashable, line: _Line) -> None:
        line.rest = None
        self._ready.append(key)
        self._spawn()

    def _remove(self, key: Hashable) -> None:
        del self._lines[key]
        if not self._lines:
            self._empty.set()


def is_retryable(error: BaseException) -> bool:
    """A later try may succeed: the error says so, or a connection broke, or time ran out."""
    if isinstance(error, CloudError):
        return error.retryable
    return isinstance(error, (ConnectionError, TimeoutError))


def _log_failure(effect: Any, error: Exception) -> None:
    log.error("effect %r failed for good: %s", effect, error, exc_info=error)
