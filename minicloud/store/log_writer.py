"""The thread that puts a message log on disk: group commit, space ahead, deletion.

Theory of group commit as in `writer`: the thread takes everything that waits and writes it with one call that returns
when it is on disk, so an idle log flushes at once and a busy one collects while the disk works. After the write it
looks at the fence, and only then tells those who wait.

Waking a thread costs more than most calls: the two pass Python's lock to and fro. So what is put in one turn of the
event loop goes to the thread together, when the turn ends, and all who wait in a loop are told in one call.

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
from collections.abc import Callable
from functools import partial
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


NEVER = 1 << 63  # the ticket of who comes when the log has failed
Done = Callable[[CloudError | None], None]
_Line = deque[tuple[int, Done]]
_Watcher = tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]
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
        self._queue: SimpleQueue[list[_Item]] = SimpleQueue()
        self._put: list[_Item] = []  # in this turn of the event loop
        self._turn: asyncio.AbstractEventLoop | None = None  # the loop that is to hand it over
        self._taken: deque[_Item] = deque()  # by the thread
        self._lock = threading.Lock()
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}  # who waits, by ticket; touched in their own loop
        self._watchers: list[_Watcher] = []
        self._stopping = False
        self._runner = threading.Thread(target=self._run, name=f"log {disk.directory.name}", daemon=True)

    def start(self) -> None:
        """Make the first spares, then run."""
        self._make_spares()
        self._runner.start()

    def put(self, chunk: Chunk) -> None:
        self._put.append(chunk)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._hand_over()
            return
        if self._turn is not loop:
            self._turn = loop
            loop.call_soon(self._hand_over)

    def nudge(self) -> None:
        """Try again to make space ahead, unless that was tried a moment ago."""
        if time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + RETRY_S
            self._order(self._make_spares)

    def discard(self, segments: list[Segment]) -> None:
        """Delete the files, oldest first, when everything that was put before is on disk."""
        self._order(lambda: self._discard(segments))

    def _order(self, work: Callable[[], None]) -> None:
        self._put.append(work)
        self._hand_over()

    def _hand_over(self) -> None:
        self._turn = None
        if self._put:
            put, self._put = self._put, []
            self._queue.put(put)

    def end(self) -> None:
        """Write what is queued, and no more: `stop` waits for that."""
        self._order(self._stop)

    def stop(self) -> None:
        """Wait for the end of the thread, give back what was made ahead. From any thread."""
        self._runner.join()
        while self.spares:
            spare = self.spares.popleft()
            self.disk.close(spare.file)
            if self.error is None:
                self.disk.delete(spare.name)
        if self.error is None:
            self.disk.truncate(self._current.file, self._current.end)

    # --- waiting

    def then(self, ticket: int, done: Done) -> None:
        """Call `done(None)` in the running event loop once the call of that ticket is on disk; `done(error)`: it never
        will be. Never within this call; `done` does not raise.
        """
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            line = self._lines[loop] = deque()
        line.append((ticket if self.error is None else NEVER, done))
        if self.synced >= ticket or self.error is not None:  # looked at after standing in line: nobody is forgotten
            loop.call_soon(self._serve, line)

    async def wait(self, ticket: int) -> None:
        """Until the call of that ticket is on disk. Raises Internal, Fenced."""
        if self.error is not None:
            raise self.error.copy(self.error)
        if self.synced < ticket:
            future = asyncio.get_running_loop().create_future()
            self.then(ticket, partial(_resolve, future))
            await future

    async def watch(self) -> None:
        """Until the log has failed."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self.error is not None:
                return
            future = loop.create_future()
            self._watchers.append((loop, future))
        await future

    def fail(self, error: CloudError) -> None:
        """From any thread. Nothing is written or acknowledged any more."""
        with self._lock:
            if self.error is None:
                self.error = error
                log.error("%s: %s", self.disk.directory, error)
            watchers, self._watchers = self._watchers, []
        self._wake()
        for loop, future in watchers:
            _call_in(loop, partial(_resolve, future, None))

    def _wake(self) -> None:
        """One hop into each event loop in which somebody waits."""
        for loop, line in list(self._lines.items()):
            if line and not _call_in(loop, partial(self._serve, line)):
                del self._lines[loop]

    def _serve(self, line: _Line) -> None:
        """Tell those whose time has come; after a failure everybody."""
        while line and (line[0][0] <= self.synced or self.error is not None):
            ticket, done = line.popleft()
            error: CloudError | None = self.error if ticket > self.synced else None
            try:
                done(error if error is None else error.copy(error))
            except Exception:
                log.exception("who waited for the disk failed")

    # --- the thread

    def _run(self) -> None:
        while not self._stopping:
            if not self._taken:
                self._taken.extend(self._queue.get())
            item = self._taken.popleft()
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
            if not self._taken:
                try:
                    self._taken.extend(self._queue.get_nowait())
                except Empty:
                    break
            item = self._taken[0]
            if not isinstance(item, Chunk) or item.segment is not first.segment:
                break
            self._taken.popleft()
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
        self.durable, self.synced = durable, ticket
        self._wake()

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


def _call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> bool:
    """False: that loop is closed, and whoever waited in it is gone."""
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:
        log.debug("the event loop of a caller closed before its call was on disk")
        return False
    return True


def _resolve(future: asyncio.Future[None], error: CloudError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
