"""Giving disk space back: what is still alive in the oldest segment of the log moves behind the newest frame.

It looks some time after there was something to do, never in an idle broker. A step moves a little and then waits for
the disk, so calls of users come in between and the log never fills with rewrites. Moving a frame is deciding,
appending and applying without giving way (replay.py). A segment in which nothing lives any more is deleted.

A message whose frame cannot be read can neither move nor be received: it leaves its queue, counted and logged. A
queue's own frame is written again from memory. Should a segment stay alive after all of this, it is left alone until
the next start, and the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from minicloud.base.errors import CloudError
from minicloud.queue import codec
from minicloud.queue.book import Queue
from minicloud.queue.core import Broker
from minicloud.queue.ports import SEGMENT_SHIFT, MessageLog
from minicloud.shell.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 0.5  # after the first call since the last look
STEP_BYTES = 256 * 1024
STEP_S = 0.002
RETRY_S = 1.0


class SegmentedLog(MessageLog, Protocol):
    """A log whose oldest segments can be rewritten and deleted."""

    async def flushed(self) -> None: ...

    def compactable(self) -> int | None:
        """The oldest segment, where rewriting what lives in it is worth it."""
        ...

    def frames(self, segment: int, wanted: Callable[[int, bytes], bool]) -> Iterator[list[tuple[int, bytes]]]:
        """(address, frame), whole, of those whose address and first bytes are wanted; a list for each step."""
        ...

    def live(self, segment: int) -> int:
        """How many live frames it has; 0 where it is gone."""
        ...

    def release(self) -> int:
        """Delete the oldest segments while they hold nothing live. Returns how many."""
        ...


class Compaction:
    """Call `stir` whenever something happened."""

    def __init__(self, core: Broker, log: SegmentedLog, clock: Clock) -> None:
        self.moved = 0
        self.lost = 0
        self._core = core
        self._log = log
        self._clock = clock
        self._stuck: int | None = None
        self._due = False
        self._task: asyncio.Task[None] | None = None

    def stir(self) -> None:
        if not self._due:
            self._due = True
            self._clock.call_at(self._clock.wall() + LOOK_S, self._look)

    def _look(self) -> None:
        self._due = False
        if (self._task is None or self._task.done()) and self._next() is not None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        self._due = True  # no more looks
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _next(self) -> int | None:
        segment = self._log.compactable()
        return segment if segment != self._stuck else None

    async def _run(self) -> None:
        try:
            while (segment := self._next()) is not None:
                await self._empty(segment)
                if not self._log.release():
                    self._stuck = segment
                    log.error("segment %d keeps %d live frames that cannot move", segment, self._log.live(segment))
        except CloudError as error:
            log.warning("compaction pauses: %s", error)
            self._due = True
            self._clock.call_at(self._clock.wall() + RETRY_S, self._look)

    async def _empty(self, segment: int) -> None:
        """Nothing lives in it afterwards."""
        size, monotonic = 0, self._clock.monotonic
        until = monotonic() + STEP_S
        for some in self._log.frames(segment, self._core.may_live):
            size += sum(self._move(address, frame) for address, frame in some)
            if size >= STEP_BYTES or monotonic() >= until:
                await self._log.flushed()
                await asyncio.sleep(0)
                size, until = 0, monotonic() + STEP_S
        if self._log.live(segment):
            await self._salvage(segment)
        await self._log.flushed()

    def _move(self, address: int, frame: bytes) -> int:
        """Returns how many bytes it took."""
        size = 0
        for moved in self._core.rewrite(address, frame):
            (new,) = self._log.append([moved], essential=True)
            self._core.apply(moved, new)
            self.moved += 1
            size += len(moved)
        return size

    async def _salvage(self, segment: int) -> None:
        """What did not come is damaged. O(messages), and rare."""
        for queue in list(self._core.book.queues.values()):
            if queue.address >> SEGMENT_SHIFT == segment:
                self._move(queue.address, codec.blob(codec.QUEUE, queue.number, 0, b""))
            for seq in self._left(queue, segment):
                log.error("a message of %s is lost: its frame in segment %d is damaged", queue.arn, segment)
                self._core.expel(queue, seq, self._clock.wall())
                self.lost += 1
            await asyncio.sleep(0)

    @staticmethod
    def _left(queue: Queue, segment: int) -> list[int]:
        return [seq for chunk, row, seq in queue.rows.walk() if chunk.address[row] >> SEGMENT_SHIFT == segment]
