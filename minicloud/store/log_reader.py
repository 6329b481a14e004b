"""Reading a message log's segments: single frames, neighbours at once, whole segments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from minicloud.store.log_disk import Disk
from minicloud.store.log_format import (
    HEAD,
    HEAD_BYTES,
    OFFSET_MASK,
    PREFIX_BYTES,
    SEGMENT_SHIFT,
    Span,
    check,
    prefix_of,
    scan,
)
from minicloud.store.log_segments import DamagedFrame, Remains, Segment, reading

FILES_OPEN_MAX = 64
RUN_BYTES_MAX = 1024 * 1024  # read at once where frames lie side by side
RUN_GAP_MAX = 4096


class Shelf:
    """The segments of a log, oldest first. Their files are opened when they are read, the least used ones closed."""

    def __init__(self, disk: Disk, segments: list[Segment], remains: Remains) -> None:
        self.segments = {segment.number: segment for segment in segments}
        self._disk = disk
        self._remains = remains
        self._files: OrderedDict[int, int] = OrderedDict()

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

    def scan(
        self, segment: Segment, end: int, prefix: int | None, *, count: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        """Frames up to offset `end`, whole (None) or their first bytes; damaged ones are noted and left out."""
        damaged: list[Span] = []
        whole = prefix is None or prefix > PREFIX_BYTES
        base = segment.number << SEGMENT_SHIFT
        if count:
            segment.frames = 0
        with reading(self._disk, segment) as read:
            for start, stop in segment.spans():
                for batch in scan(read, (start, min(stop, end)), segment.seed, prefix or 0, damaged):
                    if count:
                        segment.frames += len(batch.offsets)
                    addresses = [base + offset for offset in batch.offsets]
                    if whole:
                        yield from self._wholes(addresses, batch.lengths, prefix)
                    else:
                        yield from zip(addresses, batch.prefixes, strict=True)
        for span in damaged:
            self._remains.note(segment.number, span, "it is no frame")

    def _wholes(self, addresses: list[int], lengths: list[int], prefix: int | None) -> Iterator[tuple[int, bytes]]:
        for address, frame in zip(addresses, self.load_all(addresses, lengths), strict=True):
            if not isinstance(frame, DamagedFrame):
                yield address, frame[:prefix]

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
        file = self._files.get(segment.number, -1)
        if file < 0:
            file = self._files[segment.number] = self._disk.open(segment.name)
            if len(self._files) > FILES_OPEN_MAX:
                self._disk.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(segment.number)
        return self._disk.read(file, at, length)


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
