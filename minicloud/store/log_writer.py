"""The thread that puts a message log on disk: group commit, space ahead, deletion.

Theory of group commit as in `writer`: the thread takes everything that waits and writes it with one call that returns
when it is on disk, so an idle log flushes at once and a busy one collects while the disk works. After the write it
looks at the fence, and only then tells those who wait.

Space. Segments are made ahead with all of their space reserved, so a write never meets a full disk. One of them is the
reserve for what must go on. When there is no space for another, `full` is set; a nudge (an append that was refused,
after a pause; a deletion) tries again.

No trust after a lie. When a write or sync fails the log has failed for good: what the kernel could not write it may
have dropped, and a second sync would succeed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import chain
from queue import Empty, SimpleQueue
from typing import NamedTuple

from minicloud.base.errors import CloudError, Fenced, Internal
from minicloud.store.log_disk import FULL_ERRNOS, Disk
from minicloud.store.log_fence import Fence
from minicloud.store.log_format import Header
from minicloud.store.log_segments import Segment, make_segment

log = logging.getLogger(__name__)

GROUP_BYTES_MAX = 8 * 1024 * 1024  # bounds how long one write keeps the calls behind it waiting
RETRY_S = 0.5  # how often a full disk is tried again, and only while appends come


class Chunk(NamedTuple):
    """What one append call puts into one segment. `ticket` counts the calls."""

    segment: Segment
    at: int
    pieces: list[bytes]
    size: int
    ticket: int


class Point(NamedTuple):
    """Up to where the log is on disk."""

    segment: int
    offset: int


_Waiter = tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]
_Item = Chunk | Callable[[], None]


class Ended:
    """As an asyncio.Event that is set when the log has failed; for any event loop."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer

    def is_set(self) -> bool:
        return self._writer.error is not None

    async def wait(self) -> None:
        await self._writer.watch()


class LogWriter:
    """`spares`: segments made ahead, oldest first; whoever needs the next one takes it from the left."""

    def __init__(self, disk: Disk, fence: Fence, start: Segment, segment_bytes: int, ahead: int) -> None:
        self.disk = disk
        self.error: CloudError | None = None
        self.durable = Point(start.number, start.end)
        self.synced = 0
        self.spares: deque[Segment] = deque()
        self.full = False
        self.syncs = 0
        self.bytes_written = 0
        self._fence = fence
        self._current = start
        self.segment_bytes = segment_bytes
        self._last_number = start.number
        self._ahead = ahead
        self._retry_at = 0.0
        self._queue: SimpleQueue[_Item] = SimpleQueue()
        self._next: _Item | None = None
        self._lock = threading.Lock()
        self._waiters: deque[_Waiter] = deque()
        self._watchers: list[_Waiter] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"log {disk.directory.name}", daemon=True)

    def start(self) -> None:
        """Make the first spares, then run."""
        self._make_spares()
        self._thread.start()

    def put(self, chunk: Chunk) -> None:
        self._queue.put(chunk)

    def nudge(self) -> None:
        """Try again to make space ahead, unless that was tried a moment ago."""
        if time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + RETRY_S
            self._queue.put(self._make_spares)

    def discard(self, segments: list[Segment]) -> None:
        """Delete the files, oldest first, when everything that was put before is on disk."""
        self._queue.put(lambda: self._discard(segments))

    def stop(self) -> None:
        """Write what is queued, end the thread, give back what was made ahead."""
        self._queue.put(self._stop)
        self._thread.join()
        while self.spares:
            spare = self.spares.popleft()
            self.disk.close(spare.file)
            if self.error is None:
                self.disk.delete(spare.name)
        if self.error is None:
            self.disk.truncate(self._current.file, self._current.end)

    # --- waiting

    async def wait(self, ticket: int) -> None:
        """Until the call of that ticket is on disk. Raises Internal, Fenced."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.error is not None:
                raise self.error.copy(self.error)
            if self.synced >= ticket:
                return
            future = loop.create_future()
            self._waiters.append((ticket, loop, future))
        await future

    async def watch(self) -> None:
        """Until the log has failed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.error is not None:
                return
            future = loop.create_future()
            self._watchers.append((0, loop, future))
        await future

    def fail(self, error: CloudError) -> None:
        """From any thread. Nothing is written or acknowledged any more."""
        with self._lock:
            if self.error is None:
                self.error = error
                log.error("%s: %s", self.disk.directory, error)
            waiters, self._waiters = self._waiters, deque()
            watchers, self._watchers = self._watchers, []
        _tell(waiters, self.error)
        _tell(watchers, None)

    # --- the thread

    def _run(self) -> None:
        while not self._stopping:
            item = self._next or self._queue.get()
            self._next = None
            try:
                if isinstance(item, Chunk):
                    self._write(self._collect(item))
                else:
                    item()
            except CloudError as error:
                self.fail(error)
            except Exception as error:
                log.exception("%s: the log failed", self.disk.directory)
                failure = Internal(f"The message log failed and takes no more until it is reopened: {error}")
                failure.__cause__ = error
                self.fail(failure)

    def _collect(self, first: Chunk) -> list[Chunk]:
        """Everything that waits, up to the group's limit or to the first item that does not go with it."""
        group, size = [first], first.size
        while size < GROUP_BYTES_MAX:
            try:
                item = self._queue.get_nowait()
            except Empty:
                break
            if not isinstance(item, Chunk) or item.segment is not first.segment:
                self._next = item
                break
            group.append(item)
            size += item.size
        return group

    def _write(self, group: list[Chunk]) -> None:
        if self.error is not None:
            return
        first, last = group[0], group[-1]
        self._enter(first.segment)
        data = b"".join(chain.from_iterable([chunk.pieces for chunk in group]))
        self.disk.write(first.segment.file, data, first.at)
        self.syncs += 1
        self.bytes_written += len(data)
        if not self._fence.in_place():
            raise Fenced()
        self._told(Point(last.segment.number, last.at + last.size), last.ticket)
        if len(self.spares) < self._ahead and not self.full:
            self._make_spares()

    def _told(self, durable: Point, ticket: int) -> None:
        ready: list[_Waiter] = []
        with self._lock:
            self.durable, self.synced = durable, ticket
            while self._waiters and self._waiters[0][0] <= ticket:
                ready.append(self._waiters.popleft())
        _tell(ready, None)

    def _enter(self, segment: Segment) -> None:
        """The segment before is complete: what was reserved and not used of it goes back."""
        before, self._current = self._current, segment
        if before is not segment:
            self.disk.truncate(before.file, before.end)
            self.disk.close(before.file)
            before.size, before.file = before.end, -1

    def _make_spares(self) -> None:
        while len(self.spares) < self._ahead and self.error is None:
            if not self._fence.held():
                raise Fenced()
            header = Header(self._last_number + 1, self._fence.epoch, self._fence.salt)
            try:
                self.spares.append(make_segment(self.disk, header, self.segment_bytes))
            except FileExistsError:
                raise Fenced() from None
            except OSError as error:
                if error.errno not in FULL_ERRNOS:
                    raise
                self._set_full(True)
                return
            self._last_number = header.number
        self._set_full(False)

    def _set_full(self, full: bool) -> None:
        if full:
            self._retry_at = time.monotonic() + RETRY_S
        if full != self.full:
            self.full = full
            log.warning("%s: %s", self.disk.directory, "the disk is full" if full else "there is space again")

    def _discard(self, segments: list[Segment]) -> None:
        if self.error is not None or not self._fence.held():
            return
        for segment in segments:
            self.disk.delete(segment.name)
            self.disk.sync_directory()  # one by one: after a power cut an older one must not be back without a newer
        self._make_spares()

    def _stop(self) -> None:
        self._stopping = True


def _tell(waiters: Iterable[_Waiter], error: CloudError | None) -> None:
    """Wake who waits: one hop into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for _, loop, future in waiters:
        loops.setdefault(loop, []).append(future)
    for loop, futures in loops.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, error)
        except RuntimeError:
            log.debug("the event loop of a caller closed before its call was on disk")


def _resolve(futures: list[asyncio.Future[None]], error: CloudError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error.copy(error))
