"""The message log on disk: an append-only log of opaque frames in segments, with group commit.

What it promises (tests/contract/test_message_log.py, tests/faults/test_message_log*.py):

    flushed means on disk          `flushed` returns after the sync of everything appended before (power cuts, SIGKILL)
    one owner                      after every sync the epoch is looked at before anybody is told (Fenced)
    no trust after a lie           after a failed write or sync nothing is acknowledged: `error`, `ended`
    a full disk stops only sends   space is reserved ahead, one segment of it for what must go on
    damage is found, never hidden  checksums over every byte; the frame is named, its bytes put aside, the rest served

How it works. `append` gives each frame its place and checksum and queues it for the writer's thread; it never waits.
Frames stay in memory until they are written, and the newest of them for a while longer, so a queue whose consumers
keep up is never read from disk. A segment is never written by two owners: every opening starts a new one, whose first
frame says where the one before it ends.

Only the oldest segments are ever deleted: `compactable` names the one that is worth rewriting, `frames` reads it,
`release` deletes what holds nothing live, once all that was appended before is on disk.

Everything but the writer's thread runs on the caller's thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from minicloud.base.errors import CloudError, Fenced, InsufficientStorage, Internal, Throttled, Unavailable
from minicloud.store.log_disk import FULL_ERRNOS, Disk
from minicloud.store.log_fence import Fence
from minicloud.store.log_format import (
    CLOSED,
    FRAME_BYTES_MAX,
    HEAD_BYTES,
    LINK_BYTES_MAX,
    PAGE_BYTES,
    SEGMENT_SHIFT,
    Header,
    Link,
    encode,
    encode_link,
    encode_note,
)
from minicloud.store.log_reader import Shelf
from minicloud.store.log_recovery import floor, recover
from minicloud.store.log_segments import Damage, DamagedFrame, Remains, Segment, make_segment
from minicloud.store.log_writer import Chunk, Done, Ended, LogWriter

SEGMENT_BYTES = 64 * 1024 * 1024
SEGMENT_BYTES_MAX = 1 << 28  # queue.ports: addresses have so many bits for the offset
AHEAD = 2  # segments made ahead
RESERVE = 1  # of them, for what must go on when the disk is full
RECENT_BYTES_MAX = 32 * 1024 * 1024  # of written frames that stay in memory
PENDING_BYTES_MAX = 48 * 1024 * 1024  # of frames that wait for the disk; beyond it senders are told to slow down
GARBAGE_SEGMENTS = 4  # dead bytes that are left alone, in segments: most of them die out unread
WORTH_LIVE = 0.25  # beyond that, an oldest segment with so little alive is rewritten even if most of the log lives
WORTH_LIVE_FULL = 0.9  # the same while the disk is full


class FileLog:
    """`queue.ports.MessageLog` on a directory. `open` it, `replay`, then use it; `close` ends the thread.

    `damage`: what could not be read so far. `error`: why the log has failed; then `ended` is set.
    """

    def __init__(self, disk: Disk, fence: Fence, remains: Remains, shelf: Shelf, writer: LogWriter) -> None:
        """Use `open`."""
        self.epoch = fence.epoch
        self.ended = Ended(writer)
        self._disk = disk
        self._fence = fence
        self._remains = remains
        self._shelf = shelf
        self._writer = writer
        self._active = next(reversed(shelf.segments.values()))
        self._segment_bytes = writer.segment_bytes
        self._counted = len(shelf.segments) == 1
        self._ticket = 0
        self._appended_bytes = 0
        self._records = 0
        self._recent: dict[int, bytes] = {}
        self._recent_bytes = 0
        self._calls: deque[tuple[int, list[int], int]] = deque()  # ticket, addresses, bytes of what is in _recent
        self._closed = False

    @classmethod
    def open(
        cls,
        path: Path,
        owner: str,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        ahead: int = AHEAD,
        disk: Disk | None = None,
    ) -> Self:
        """Become the one owner of the log in this directory; whoever had it before is fenced.

        Raises StoreRefused (a newer format; nothing is touched), InsufficientStorage, Fenced, Internal.
        """
        if segment_bytes > SEGMENT_BYTES_MAX:
            raise ValueError(f"a segment has up to {SEGMENT_BYTES_MAX} bytes")
        try:
            disk = disk or Disk(path)
            fence = Fence(path, owner, floor(disk))
            remains = Remains(disk)
            if fence.was_damaged:
                remains.note(0, (0, 0), "the EPOCH file was damaged or missing")
            shelf = Shelf(disk, _begin(disk, fence, remains, segment_bytes), remains)
            active = next(reversed(shelf.segments.values()))
            writer = LogWriter(disk, fence, active, segment_bytes, ahead)
            writer.start()
        except OSError as error:
            if error.errno in FULL_ERRNOS:
                raise InsufficientStorage() from error
            raise Internal(f"The message log in {path} cannot be opened: {error}") from error
        return cls(disk, fence, remains, shelf, writer)

    @property
    def damage(self) -> list[Damage]:
        return self._remains.damage

    @property
    def error(self) -> CloudError | None:
        return self._writer.error

    # --- writing

    def append(self, frames: list[bytes], *, essential: bool = False) -> list[int]:
        """See the port. Raises Throttled too, where the disk cannot keep up with what is not essential."""
        writer, active = self._writer, self._active
        if writer.error is not None:
            raise writer.error.copy(writer.error)
        if self._closed:
            raise Unavailable("The message log is closed.")
        size = sum(map(len, frames)) + HEAD_BYTES * len(frames)
        if not essential:
            self._admit()
        self._forget()
        if size <= active.room:
            return self._put(active, frames, size)
        addresses: list[int] = []
        for part in self._divide(frames, essential):
            if part:
                addresses += self._put(self._active, part, sum(map(len, part)) + HEAD_BYTES * len(part))
            if len(addresses) < len(frames):
                self._rotate()
        return addresses

    async def flushed(self) -> None:
        """Return when everything that was appended before the call is on disk. Raises Fenced, Internal."""
        self._look()
        await self._writer.wait(self._ticket)

    def after_flush(self, done: Done) -> None:
        """The same for who does not wait: `done` is called from the running event loop, with the error or None."""
        self._look()
        self._writer.then(self._ticket, done)

    def _look(self) -> None:
        """Whoever asks is the owner still, or the log fails. The writer looks too, but for who only reads that may have
        been before it asked.
        """
        if not self._closed and not self._fence.held():
            self._writer.fail(Fenced())

    def seal(self) -> bool:
        """Begin a new segment, so that the present one can be compacted. False where there is none to begin."""
        if self._writer.error is not None or len(self._writer.spares) <= RESERVE or self._active.frames == 0:
            return False
        self._rotate()
        return True

    async def close(self) -> None:
        """Write what is queued, end the thread, give back the space that was made ahead. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            await self._writer.wait(self._ticket)
            if self._active.room >= HEAD_BYTES:
                active = self._active
                note = encode_note(CLOSED, b"", active.end, active.seed, active.end)
                self._queue(active, [note], len(note))
        except CloudError:
            pass  # it is in `error`
        self._writer.end()
        await asyncio.to_thread(self._writer.stop)
        for segment in self._shelf.segments.values():
            if segment.file >= 0:
                self._disk.close(segment.file)
                segment.file = -1
        self._shelf.close()
        self._fence.close()

    def _admit(self) -> None:
        """Raises InsufficientStorage, Throttled."""
        if self._appended_bytes - self._writer.bytes_written > PENDING_BYTES_MAX:
            raise Throttled("Too many messages wait for the disk; slow down and retry.")
        if len(self._writer.spares) < RESERVE:
            raise self._no_room()

    def _no_room(self) -> CloudError:
        if self._writer.full:
            self._writer.nudge()
            return InsufficientStorage()
        return Throttled("The disk is being prepared for more messages; retry.")

    def _divide(self, frames: list[bytes], essential: bool) -> list[list[bytes]]:
        """What goes into the active segment and into each of the next ones. Raises where these are not there."""
        room_new = self._segment_bytes - PAGE_BYTES - LINK_BYTES_MAX
        room, parts = self._active.room, list[list[bytes]]([[]])
        for frame in frames:
            size = HEAD_BYTES + len(frame)
            if size > min(room_new, FRAME_BYTES_MAX):
                raise ValueError(f"a frame of {len(frame)} bytes does not fit into a segment")
            if size > room:
                parts.append([])
                room = room_new
            parts[-1].append(frame)
            room -= size
        if len(parts) - 1 > len(self._writer.spares) - (0 if essential else RESERVE):
            raise self._no_room()
        return parts

    def _put(self, segment: Segment, frames: list[bytes], size: int) -> list[int]:
        durable = self._writer.durable
        mark = durable.offset if durable.segment == segment.number else 0
        offsets, pieces = encode(frames, segment.end, segment.seed, mark)
        base = segment.number << SEGMENT_SHIFT
        addresses = [base + offset for offset in offsets]
        segment.frames += len(frames)
        self._records += len(frames)
        self._queue(segment, pieces, size)
        self._recent.update(zip(addresses, frames, strict=True))
        self._recent_bytes += size
        self._calls.append((self._ticket, addresses, size))
        return addresses

    def _queue(self, segment: Segment, pieces: list[bytes], size: int) -> None:
        self._ticket += 1
        self._appended_bytes += size
        self._writer.put(Chunk(segment, segment.end, pieces, size, self._ticket))
        segment.end += size

    def _rotate(self) -> None:
        before, self._active = self._active, self._writer.spares.popleft()
        link = encode_link(Link(before.number, before.end, []), self._active.seed)
        self._shelf.segments[self._active.number] = self._active
        self._queue(self._active, [link], len(link))
        self._active.start = self._active.end

    def _forget(self) -> None:
        """Let go of frames that are on disk, the oldest first, while there are too many."""
        synced = self._writer.synced
        while self._recent_bytes > RECENT_BYTES_MAX and self._calls[0][0] <= synced:
            _, addresses, size = self._calls.popleft()
            self._recent_bytes -= size
            for address in addresses:
                del self._recent[address]

    # --- reading

    def read(self, address: int, start: int, length: int) -> bytes:
        """See the port. Raises DamagedFrame."""
        frame = self._recent.get(address)
        if frame is None:
            frame = self._shelf.load(address, start + length)
        return frame[start : start + length]

    def read_all(self, addresses: Sequence[int], lengths: Sequence[int]) -> list[bytes | DamagedFrame]:
        """Whole frames, whose lengths are known. The fast way for many; each is there or is its error."""
        frames: list[Any] = list(map(self._recent.get, addresses))
        if None in frames:
            missing = [index for index, frame in enumerate(frames) if frame is None]
            loaded = self._shelf.load_all([addresses[i] for i in missing], [lengths[i] for i in missing])
            for index, frame in zip(missing, loaded, strict=True):
                frames[index] = frame
        return frames

    def replay(self, prefix: int | None = None) -> Iterator[tuple[int, bytes]]:
        """See the port. Damaged frames are noted and left out; bodies are checked only where they are read."""
        durable = self._writer.durable
        for segment in list(self._shelf.segments.values()):
            if segment.number <= durable.segment:
                end = durable.offset if segment.number == durable.segment else segment.end
                yield from self._shelf.replay(segment, end, prefix)
        self._counted = True
        point = durable.segment << SEGMENT_SHIFT | durable.offset
        for address, frame in list(self._recent.items()):
            if address >= point:
                yield address, frame[:prefix]

    # --- live frames and space

    def keep(self, address: int, count: int = 1) -> None:
        self._shelf.segments[address >> SEGMENT_SHIFT].live += count

    def drop(self, address: int, count: int = 1) -> None:
        segment = self._shelf.segments[address >> SEGMENT_SHIFT]
        segment.live -= count
        if segment.live < 0:
            raise AssertionError(f"segment {segment.number} has {segment.live} live frames")

    def compactable(self) -> int | None:
        """The oldest segment, where rewriting what lives in it is worth it. Not before a whole replay."""
        oldest = self._shelf.oldest()
        if oldest is self._active or not self._counted:
            return None
        if not oldest.live:
            return oldest.number
        used = sum(segment.end - segment.start for segment in self._shelf.segments.values())
        living = sum(map(_live_bytes, self._shelf.segments.values()))
        share = _live_bytes(oldest) / max(oldest.end - oldest.start, 1)
        if self._writer.full:  # half of what is left is not for us
            left_bytes = (self._active.room + len(self._writer.spares) * self._segment_bytes) // 2
            return oldest.number if share <= WORTH_LIVE_FULL and _live_bytes(oldest) < left_bytes else None
        garbage = used - living
        if garbage <= GARBAGE_SEGMENTS * self._segment_bytes:
            return None
        return oldest.number if garbage > living or share <= WORTH_LIVE else None

    def frames(self, segment: int, wanted: Callable[[int, bytes], bool]) -> Iterator[list[tuple[int, bytes]]]:
        """The whole frames of a sealed segment whose address and first bytes are wanted, step by step, for rewriting.

        Ends when nothing in it is live any more.
        """
        found = self._shelf.segments.get(segment)
        if found is None or not found.live:
            return
        for some in self._shelf.frames(found, wanted):
            yield some
            if not found.live:
                return

    def live(self, segment: int) -> int:
        """Live frames in a segment; 0 where it is gone."""
        found = self._shelf.segments.get(segment)
        return found.live if found is not None else 0

    def release(self) -> int:
        """Delete the oldest segments while they hold nothing live, once all that was appended is on disk.

        Returns how many. Not before a whole replay.
        """
        gone: list[Segment] = []
        while self._counted and (oldest := self._shelf.oldest()) is not self._active and not oldest.live:
            gone.append(self._shelf.remove(oldest.number))
        if gone:
            self._writer.discard(gone)
        return len(gone)

    def stats(self) -> dict[str, int]:
        """bytes (used on disk), segments, live, frames, records (appended), syncs, pending_bytes, full, damaged."""
        segments = self._shelf.segments.values()
        return {
            "bytes": sum(segment.end for segment in segments),
            "segments": len(segments),
            "live": sum(segment.live for segment in segments),
            "frames": sum(segment.frames for segment in segments),
            "records": self._records,
            "syncs": self._writer.syncs,
            "pending_bytes": self._appended_bytes - self._writer.bytes_written,
            "full": int(self._writer.full),
            "damaged": self._remains.count,
        }


def _live_bytes(segment: Segment) -> int:
    """An estimate: frames of a segment are taken to be of one size, and a frame with several owners counts once."""
    return (segment.end - segment.start) * min(segment.live, segment.frames) // max(segment.frames, 1)


def _begin(disk: Disk, fence: Fence, remains: Remains, segment_bytes: int) -> list[Segment]:
    """What is there, and a new segment to write to."""
    while True:
        found = recover(disk, fence.salt, remains)
        last = found.segments[-1] if found.segments else None
        try:
            active = _first(disk, Header(found.next_number, fence.epoch, fence.salt), segment_bytes)
        except FileExistsError:
            if fence.held():
                continue  # an owner that was fenced in this moment made it: look again
            raise Fenced() from None
        link = Link(last.number, last.end, last.skips) if last else Link(0, 0, [])
        content = encode_link(link, active.seed)
        disk.write(active.file, content, PAGE_BYTES)
        active.start = active.end = PAGE_BYTES + len(content)
        if not fence.held():
            raise Fenced()
        return [*found.segments, active]


def _first(disk: Disk, header: Header, segment_bytes: int) -> Segment:
    """The first segment of an opening; a smaller one where the disk is full. Raises InsufficientStorage."""
    size = segment_bytes
    while True:
        try:
            return make_segment(disk, header, size)
        except OSError as error:
            if error.errno not in FULL_ERRNOS:
                raise
            size //= 2
            if size < segment_bytes // 16:
                raise InsufficientStorage() from error
