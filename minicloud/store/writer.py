"""The writer: one thread that turns many waiting calls into few transactions.

Theory of group commit. Calls put their batch into a queue. The thread takes the first one and, without waiting for
more, everything else that is there: an idle writer flushes at once, a busy one collects what arrives while the disk
works. So latency is one fsync when calm, and throughput grows with load instead of the number of fsyncs.

Everything that touches the writing connection runs on this thread, between two groups (`call`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from minicloud.base.errors import CloudError, Internal, Throttled, Unavailable
from minicloud.store.rows import Row

T = TypeVar("T")
log = logging.getLogger(__name__)

GROUP_ROWS_MAX = 16_384  # bounds how long one transaction keeps the calls behind it waiting
ROWS_PENDING_MAX = 1_000_000  # ours: rows that wait for the disk; beyond it callers are told to slow down


@dataclass(slots=True)
class WriterCounters:
    """Written by the writer thread alone; reading from others is safe and may be one group behind."""

    transactions: int = 0
    calls: int = 0
    rows: int = 0
    group_calls_max: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Batch:
    rows: Sequence[Row]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


_Item = _Batch | Callable[[], None]


class Writer:
    """Runs `flush(rows)` for groups on its own thread; `after` runs when a group's callers were told.

    `flush` raises CloudError when nothing of the group was stored.
    """

    def __init__(self, name: str, flush: Callable[[list[Row]], None], after: Callable[[], None]) -> None:
        self._flush = flush
        self._after = after
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._pending = 0
        self._lock = threading.Lock()
        self._closed = False
        self._ended = False
        self.counters = WriterCounters()
        self._thread = threading.Thread(target=self._run, name=f"journal {name}", daemon=True)
        self._thread.start()

    async def put(self, rows: Sequence[Row]) -> None:
        """Return when the rows are on disk. Raises what the flush of their group raised."""
        loop = asyncio.get_running_loop()
        batch = _Batch(rows, loop, loop.create_future())
        with self._lock:
            if self._closed:
                raise Unavailable("The store is closed.")
            if self._pending and self._pending + len(rows) > ROWS_PENDING_MAX:
                raise Throttled("Too many records wait for the disk; slow down and retry.")
            self._pending += len(rows)
            self._queue.put(batch)
        await batch.done

    def call(self, work: Callable[[], T]) -> T:
        """Run `work` on the writer's thread, after what is queued. Blocks; raises what it raised."""
        if threading.current_thread() is self._thread:
            return work()
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Unavailable("The store is closed.")
            self._queue.put(lambda: _settle(future, work))
        return future.result()

    def stop(self) -> None:
        """Flush what is queued, then end the thread. Idempotent."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(self._end)
        self._thread.join()

    def _end(self) -> None:
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            item = self._queue.get()
            if not isinstance(item, _Batch):
                item()
                continue
            group, work = self._collect(item)
            self._run_group(group)
            if work is not None:
                work()

    def _collect(self, first: _Batch) -> tuple[list[_Batch], Callable[[], None] | None]:
        """Everything that waits, up to the group's limit or to the first item that is not a batch."""
        group, size = [first], len(first.rows)
        while size < GROUP_ROWS_MAX:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(item, _Batch):
                return group, item
            group.append(item)
            size += len(item.rows)
        return group, None

    def _run_group(self, group: list[_Batch]) -> None:
        size = sum(len(batch.rows) for batch in group)
        error = self._flush_group(group, size)
        with self._lock:
            self._pending -= size
        _tell(group, error)
        if error is None:
            self._try_after()

    def _flush_group(self, group: list[_Batch], size: int) -> CloudError | None:
        try:
            self._flush([row for batch in group for row in batch.rows])
        except CloudError as error:
            self.counters.failures += 1
            return error
        except Exception as error:
            log.exception("the journal failed")
            self.counters.failures += 1
            wrapped = Internal("The journal failed.")
            wrapped.__cause__ = error
            return wrapped
        self.counters.transactions += 1
        self.counters.calls += len(group)
        self.counters.rows += size
        self.counters.group_calls_max = max(self.counters.group_calls_max, len(group))
        return None

    def _try_after(self) -> None:
        try:
            self._after()
        except Exception:
            log.exception("the journal's upkeep failed")


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - handed to the caller, who raises it
        future.set_exception(error)


def _tell(group: list[_Batch], error: CloudError | None) -> None:
    """Wake the callers: one hop into each event loop, however many wait there."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for batch in group:
        loops.setdefault(batch.loop, []).append(batch.done)
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, error)
        except RuntimeError:
            log.debug("a caller's event loop closed before its commit was done")


def _resolve(futures: list[asyncio.Future[None]], error: CloudError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error.copy(error))
