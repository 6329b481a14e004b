"""Reading a message log's segments: single frames, neighbours at once, whole segments.

A reader that goes through a segment in order, as a queue's consumers do, is found out by its second read: from then on
a block is read at a time and frames are cut from it. What is read at random is read exactly.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

from minicloud.store.log_disk import Disk
from minicloud.store.log_format import (
    CHUNK_BYTES,
    HEAD,
    HEAD_BYTES,
    OFFSET_MASK,
    PREFIX_BYTES,
    SEGMENT_SHIFT,
    Batch,
    Span,
    check,
    prefix_of,
    scan,
)
from minicloud.store.log_segments import DamagedFrame, Remains, Segment, reading

FILES_OPEN_MAX = 64
RUN_BYTES_MAX = 1024 * 1024  # read at once where frames lie side by side
RUN_GAP_MAX = 4096
BLOCK_BYTES = 128 * 1024  # read ahead
STEP_BYTES = 64 * 1024  # of a segment that is read between other work


class Shelf:
    """The segments of a log, oldest first. Their files are opened when they are read, the least used ones closed."""

    def __init__(self, disk: Disk, segments: list[Segment], remains: Remains) -> None:
        self.segments = {segment.number: segment for segment in segments}
        self._disk = disk
        self._remains = remains
        self._files: OrderedDict[int, int] = OrderedDict()
        self._block = (0, 0, b"")  # segment, offset, bytes
        self._last = (0, 0, 0)  # segment, offset and end of the last read

    def oldest(self) -> Segment:
        return next(iter(self.segments.values()))

    def remove(self, number: int) -> Segment:
        file = self._files.pop(number, -1)
        if file >= 0:
            self._disk.close(file)
        return self.segments.pop(number)

    def close(self) -> None:
        while self._files:
            self._disk.close(self._files.popitem()[1])

    def load(self, address: int, want: int) -> bytes:
        """A whole frame; `want` bytes of it are expected. Raises DamagedFrame."""
        segment, at = self._locate(address)
        try:
            buffer = self._read(segment, at, HEAD_BYTES + max(want, PREFIX_BYTES))
            content = check(buffer, 0, segment.seed + at)
            if content is None and self._block[2]:
                self._block = (0, 0, b"")  # perhaps older than the frame
                buffer = self._read(segment, at, HEAD_BYTES + max(want, PREFIX_BYTES))
                content = check(buffer, 0, segment.seed + at)
            if content is None and prefix_of(buffer, 0, segment.seed + at) is not None:
                buffer = self._read(segment, at, HEAD_BYTES + HEAD.unpack_from(buffer)[2])
                content = check(buffer, 0, segment.seed + at)
        except OSError as error:
            raise DamagedFrame(address, reason=f"it cannot be read ({error.strerror})") from error
        if content is None:
            raise self._damaged(segment, at, buffer)
        return content

    def load_all(self, addresses: Sequence[int], lengths: Sequence[int]) -> list[bytes | DamagedFrame]:
        """Whole frames of known lengths; neighbours are read with one call."""
        out: list[bytes | DamagedFrame] = []
        index, count = 0, len(addresses)
        while index < count:
            run = _run(addresses, lengths, index)
            out += self._load_run(addresses[index:run], lengths[index:run])
            index = run
        return out

    def replay(self, segment: Segment, end: int, prefix: int | None) -> Iterator[tuple[int, bytes]]:
        """Frames up to offset `end`, whole (None) or their first bytes; damaged ones are noted and left out."""
        whole = prefix is None or prefix > PREFIX_BYTES
        count = 0
        for addresses, batch in self._batches(segment, end, prefix or PREFIX_BYTES, CHUNK_BYTES):
            count += len(addresses)
            yield from self._wholes(addresses, batch, prefix) if whole else zip(addresses, batch.prefixes, strict=True)
        if end == segment.end:
            segment.frames = count

    def frames(self, segment: Segment, wanted: Callable[[int, bytes], bool]) -> Iterator[list[tuple[int, bytes]]]:
        """Whole frames whose address and first bytes are wanted; a list for each small step that it reads."""
        for addresses, batch in self._batches(segment, segment.end, PREFIX_BYTES, STEP_BYTES):
            some = [index for index, head in enumerate(batch.prefixes) if wanted(addresses[index], head)]
            yield list(self._wholes([addresses[index] for index in some], _part(batch, some), None))

    def _batches(self, segment: Segment, end: int, take: int, step: int) -> Iterator[tuple[list[int], Batch]]:
        damaged: list[Span] = []
        base = segment.number << SEGMENT_SHIFT
        with reading(self._disk, segment) as read:
            for start, stop in segment.spans():
                span = start, min(stop, end)
                for batch in scan(read, span, segment.seed, take, damaged, step):
                    yield [base + offset for offset in batch.offsets], batch
        for span in damaged:
            self._remains.note(segment.number, span, "it is no frame")

    def _wholes(self, addresses: list[int], batch: Batch, prefix: int | None) -> Iterator[tuple[int, bytes]]:
        """Long frames are read again, now with their bodies."""
        lengths = batch.lengths
        frames: list[bytes | DamagedFrame] = [*batch.prefixes]
        long = [index for index, length in enumerate(lengths) if length > PREFIX_BYTES]
        loaded = self.load_all([addresses[i] for i in long], [lengths[i] for i in long])
        for index, frame in zip(long, loaded, strict=True):
            frames[index] = frame
        for address, one in zip(addresses, frames, strict=True):
            if not isinstance(one, DamagedFrame):
                yield address, one[:prefix]

    def _locate(self, address: int) -> tuple[Segment, int]:
        segment = self.segments.get(address >> SEGMENT_SHIFT)
        if segment is None:
            raise DamagedFrame(address, reason="its segment is gone")
        return segment, address & OFFSET_MASK

    def _load_run(self, addresses: Sequence[int], lengths: Sequence[int]) -> list[bytes | DamagedFrame]:
        first = addresses[0]
        try:
            segment, base = self._locate(first)
            size = addresses[-1] - first + HEAD_BYTES + lengths[-1]
            buffer, seed = self._read(segment, base, size), segment.seed + base
        except (DamagedFrame, OSError):
            return [self._alone(address, length) for address, length in zip(addresses, lengths, strict=True)]
        out: list[bytes | DamagedFrame] = []
        for address, length in zip(addresses, lengths, strict=True):
            index = address - first
            content = check(buffer, index, seed + index)
            out.append(content if content is not None else self._alone(address, length))
        return out

    def _alone(self, address: int, length: int) -> bytes | DamagedFrame:
        try:
            return self.load(address, length)
        except DamagedFrame as error:
            return error

    def _damaged(self, segment: Segment, at: int, buffer: bytes) -> DamagedFrame:
        prefix = prefix_of(buffer, 0, segment.seed + at)
        length = HEAD.unpack_from(buffer)[2] if prefix is not None else 0
        self._remains.note(segment.number, (at, at + HEAD_BYTES + length), "the checksum does not match")
        return DamagedFrame((segment.number << SEGMENT_SHIFT) + at, prefix or b"")

    def _read(self, segment: Segment, at: int, length: int) -> bytes:
        number, base, block = self._block
        index = at - base
        if number == segment.number and index >= 0 and index + length <= len(block):
            return block[index : index + length]
        file = self._file(segment)
        number, before, end = self._last
        self._last = segment.number, at, at + length
        if number == segment.number and before < at <= end + RUN_GAP_MAX and length < BLOCK_BYTES:
            with contextlib.suppress(OSError):  # then what is wanted may still be readable
                block = self._disk.read(file, at, BLOCK_BYTES)
                self._block = segment.number, at, block
                self._last = segment.number, at, at + len(block)
                return block[:length]
        return self._disk.read(file, at, length)

    def _file(self, segment: Segment) -> int:
        file = self._files.get(segment.number, -1)
        if file < 0:
            file = self._files[segment.number] = self._disk.open(segment.name)
            if len(self._files) > FILES_OPEN_MAX:
                self._disk.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(segment.number)
        return file


def _run(addresses: Sequence[int], lengths: Sequence[int], index: int) -> int:
    """The end of the run of neighbours that starts at `index`."""
    first = end = addresses[index]
    while index < len(addresses):
        address, length = addresses[index], lengths[index]
        near = end <= address <= end + RUN_GAP_MAX and address + length - first <= RUN_BYTES_MAX
        if not near and address != first:
            break
        end = address + HEAD_BYTES + length
        index += 1
    return index


def _part(batch: Batch, indexes: list[int]) -> Batch:
    return Batch(
        [batch.offsets[index] for index in indexes],
        [batch.lengths[index] for index in indexes],
        [batch.prefixes[index] for index in indexes],
    )
