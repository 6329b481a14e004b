"""A message log in memory: what queue.ports.MessageLog asks for, with small segments, for tests and simulations.

It counts live frames exactly, and can be full. `compact` frees the oldest segments as the real one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from minicloud.base.errors import CloudError, InsufficientStorage
from minicloud.queue.ports import SEGMENT_SHIFT


class MemoryLog:
    def __init__(self, segment_bytes: int = 1 << 16) -> None:
        self.frames: dict[int, bytes] = {}
        self.live: dict[int, int] = {}
        self.full = False
        self.error: CloudError | None = None  # set: the disk has failed
        self.ended = asyncio.Event()
        self.epoch = 1
        self._segment_bytes = segment_bytes
        self._segment = 1
        self._offset = 0
        self._flushing: set[asyncio.Task[None]] = set()

    def append(self, frames: list[bytes], *, essential: bool = False) -> list[int]:
        if self.full and not essential:
            raise InsufficientStorage
        addresses = []
        for frame in frames:
            if self._offset >= self._segment_bytes:
                self._segment, self._offset = self._segment + 1, 0
            address = self._segment << SEGMENT_SHIFT | self._offset
            self.frames[address] = bytes(frame)
            self._offset += len(frame)
            addresses.append(address)
        return addresses

    async def flushed(self) -> None:
        if self.error is not None:
            raise self.error

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        task = asyncio.ensure_future(self.flushed())
        self._flushing.add(task)

        def told(task: asyncio.Task[None]) -> None:
            self._flushing.discard(task)
            if not task.cancelled():
                error = task.exception()
                assert error is None or isinstance(error, CloudError)
                done(error)

        task.add_done_callback(told)

    async def close(self) -> None:
        pass

    def keep(self, address: int, count: int = 1) -> None:
        segment = address >> SEGMENT_SHIFT
        self.live[segment] = self.live.get(segment, 0) + count

    def drop(self, address: int, count: int = 1) -> None:
        segment = address >> SEGMENT_SHIFT
        self.live[segment] -= count
        if self.live[segment] < 0:
            raise AssertionError(f"segment {segment} has {self.live[segment]} live frames")

    def read(self, address: int, start: int, length: int) -> bytes:
        return self.frames[address][start : start + length]

    def read_all(self, addresses: Sequence[int], lengths: Sequence[int]) -> list[bytes | CloudError]:
        out: list[bytes | CloudError] = []
        for address, length in zip(addresses, lengths, strict=True):
            try:
                out.append(self.read(address, 0, length))
            except CloudError as error:
                out.append(error)
        return out

    def compactable(self) -> int | None:
        return None  # `compact` does it

    def release(self) -> int:
        return 0

    def replay(self, prefix: int | None = None) -> Iterator[tuple[int, bytes]]:
        for address, frame in list(self.frames.items()):
            yield address, frame if prefix is None else frame[:prefix]

    def reopened(self) -> MemoryLog:
        """What a new process finds: the same frames, nothing counted, a new segment."""
        twin = MemoryLog(self._segment_bytes)
        twin.frames = dict(self.frames)
        twin._segment = self._segment + 1
        return twin

    def compact(self, rewrite: Callable[[int, bytes], list[bytes]], apply: Callable[[bytes, int], None]) -> None:
        """Rewrite what lives in the oldest segment, then delete the oldest segments that hold nothing live."""
        oldest = next(iter(self.frames), 0) >> SEGMENT_SHIFT
        if oldest == self._segment:
            self._segment, self._offset = self._segment + 1, 0
        for address in [address for address in self.frames if address >> SEGMENT_SHIFT == oldest]:
            for frame in rewrite(address, self.frames[address]):
                apply(frame, self.append([frame], essential=True)[0])
        while self.frames:
            oldest = next(iter(self.frames)) >> SEGMENT_SHIFT
            if oldest == self._segment or self.live.get(oldest, 0):
                break
            for address in [address for address in self.frames if address >> SEGMENT_SHIFT == oldest]:
                del self.frames[address]
            self.live.pop(oldest, None)
