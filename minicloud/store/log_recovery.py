"""What opening finds in the directory of a message log.

Theory. A segment that another of the log follows was wholly synced before: what is unreadable in it is damage. The
last one may end in what a power cut left half written, any sectors of it: what lies behind the offset that its last
frame knew as durable was perhaps never acknowledged. There, frames are checked to their last byte; good ones are kept
whatever lies before them, and the others are skipped for ever: the link of the next segment says so.

A segment of a lower epoch than one before it was made by an owner that had lost the log: nothing in it was ever
acknowledged, so it is set aside unread. A segment without a frame was made ahead; it is deleted.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from minicloud.store.log_disk import Disk
from minicloud.store.log_format import (
    CHUNK_BYTES,
    CLOSED,
    HEAD,
    HEAD_BYTES,
    LINK_BYTES_MAX,
    PAGE_BYTES,
    SKIPS_MAX,
    Header,
    Link,
    Read,
    Span,
    check,
    parse_header,
    parse_link,
    scan,
    seed_of,
)
from minicloud.store.log_segments import Remains, Segment, name_of, number_of, reading

Linked = tuple[Segment, Link | None]


class Found(NamedTuple):
    """Segments oldest first, and a number that none of them ever had."""

    segments: list[Segment]
    next_number: int


def floor(disk: Disk) -> tuple[int, int | None]:
    """The highest epoch and the salt that the segments know. Touches nothing. Raises StoreRefused."""
    headers = [header for name in disk.names() if number_of(name) and (header := _header(disk, name))]
    return max((header.epoch for header in headers), default=0), headers[-1].salt if headers else None


def recover(disk: Disk, salt: int, remains: Remains) -> Found:
    """Read the segments. To be called when the fence was taken, not before."""
    numbers = sorted(filter(None, map(number_of, disk.names())))
    used = _chain(disk, _used(disk, [_open(disk, number, salt) for number in numbers], remains))
    for (before, _), (_, link) in pairwise(used):
        _join(disk, before, link, remains)
    segments = [segment for segment, _ in used]
    if segments:
        _finish(disk, segments[-1], remains)
    return Found(segments, max(numbers, default=0) + 1)


def _header(disk: Disk, name: str) -> Header | None:
    file = disk.open(name)
    try:
        return parse_header(disk.read(file, 0, PAGE_BYTES), name)
    finally:
        disk.close(file)


def _open(disk: Disk, number: int, salt: int) -> Linked:
    name = name_of(number)
    file = disk.open(name)
    try:
        page = disk.read(file, 0, PAGE_BYTES + LINK_BYTES_MAX)
        size = disk.size(file)
    finally:
        disk.close(file)
    header = parse_header(page[:PAGE_BYTES], name)
    if header is None or header.number != number:
        header = Header(number, 0, salt)
    segment = Segment(number, seed_of(header.salt, number), header.epoch, size, end=size)
    link = parse_link(page[PAGE_BYTES:], segment.seed)
    if link is not None:
        segment.start += HEAD_BYTES + HEAD.unpack_from(page, PAGE_BYTES)[2]
    return segment, link


def _used(disk: Disk, found: list[Linked], remains: Remains) -> list[Linked]:
    """Without what was made ahead, and what a former owner wrote after it had lost the log."""
    used: list[Linked] = []
    epoch = 0
    for segment, link in found:
        if link is None and _is_unused(disk, segment):
            disk.delete(segment.name)
        elif 0 < segment.epoch < epoch:
            _set_aside(disk, segment)
        else:
            if not segment.epoch:
                remains.note(segment.number, (0, PAGE_BYTES), "the header is damaged")
            epoch = max(epoch, segment.epoch)
            used.append((segment, link))
    return used


def _chain(disk: Disk, used: list[Linked]) -> list[Linked]:
    """Without what a link passes over: it was made when that link's owner had looked, so by one that had lost."""
    chain = used[-1:]
    for before in reversed(used[:-1]):
        link = chain[-1][1]
        if link is not None and link.previous < before[0].number:
            _set_aside(disk, before[0])
        else:
            chain.append(before)
    return chain[::-1]


def _set_aside(disk: Disk, segment: Segment) -> None:
    disk.rename(segment.name, f"{segment.name}.stray")


def _is_unused(disk: Disk, segment: Segment) -> bool:
    """Nothing behind the header, and that is whole or was not yet written."""
    with reading(disk, segment) as read:
        if _length(read, (PAGE_BYTES, segment.size)):
            return False
        return segment.epoch > 0 or not read(0, PAGE_BYTES).strip(b"\0")


def _join(disk: Disk, before: Segment, link: Link | None, remains: Remains) -> None:
    """Where a segment ends: as the link of the next one says."""
    if link is None or link.previous != before.number:
        before.end = _survey(disk, before).end
        if link is not None:
            remains.note(link.previous, (0, 0), "the segment is missing")
        return
    before.end, before.skips = link.end, link.skips
    if before.size < link.end:
        remains.note(before.number, (before.size, link.end), "the file is cut short")
        before.end = max(before.size, before.start)
        before.skips = [skip for skip in before.skips if skip[1] <= before.end]


class _Survey(NamedTuple):
    """`end`: behind the last good head; `durable`: what was on disk when that was written; `damaged`: before `end`.

    `offsets`: of the frames that may have been in flight, from `durable` on.
    """

    end: int
    durable: int
    damaged: list[Span]
    offsets: list[int]


def _survey(disk: Disk, segment: Segment) -> _Survey:
    """Read a segment of which no link says where it ends."""
    damaged: list[Span] = []
    last, durable, offsets = 0, segment.start, list[int]()
    with reading(disk, segment) as read:
        for batch in scan(read, (segment.start, segment.size), segment.seed, 0, damaged):
            last = batch.offsets[-1]
            durable = max(durable, HEAD.unpack(read(last, HEAD_BYTES))[4])
            offsets = [offset for offset in (*offsets, *batch.offsets) if offset >= durable]
        end = segment.size
        if damaged and damaged[-1][1] >= segment.size:
            end = damaged.pop()[0]
        if _is_closed(read, end, segment.seed):
            durable, offsets = end, []
    return _Survey(end, durable, damaged, offsets)


def _is_closed(read: Read, end: int, seed: int) -> bool:
    """Whether the last frame says that everything before it is on disk."""
    at = end - HEAD_BYTES
    head = read(at, HEAD_BYTES) if at >= PAGE_BYTES else b""
    return check(head, 0, seed + at) is not None and HEAD.unpack(head)[1] == CLOSED


def _finish(disk: Disk, segment: Segment, remains: Remains) -> None:
    """The last segment: cut its torn tail, and find what to skip for ever before it."""
    found = _survey(disk, segment)
    size, segment.end = segment.size, found.end
    with reading(disk, segment) as read:
        torn = [span for span in found.damaged if span[0] >= found.durable]
        torn += [span for offset in found.offsets if (span := _bad_body(read, offset, segment.seed))]
        tail = _length(read, (found.end, size))
    for span in found.damaged:
        if span[0] < found.durable:
            remains.note(segment.number, span, "it is no frame")
    for span in sorted(torn):
        remains.note(segment.number, span, "it was not written to its end, or is damaged", torn=True)
    if tail:
        remains.note(segment.number, (found.end, found.end + tail), "the log ends before it", torn=True)
    segment.skips = sorted(torn)
    if len(segment.skips) > SKIPS_MAX:
        segment.end = segment.skips[SKIPS_MAX][0]
        del segment.skips[SKIPS_MAX:]
    _trim(disk, segment, found.end + tail)


def _bad_body(read: Read, offset: int, seed: int) -> Span | None:
    length = HEAD_BYTES + HEAD.unpack(read(offset, HEAD_BYTES))[2]
    return None if check(read(offset, length), 0, seed + offset) is not None else (offset, offset + length)


def _length(read: Read, span: Span) -> int:
    """Without the zeros at the end."""
    start, end = span
    length = 0
    for at in range(start, end, CHUNK_BYTES):
        data = read(at, min(CHUNK_BYTES, end - at)).rstrip(b"\0")
        if data:
            length = at - start + len(data)
    return length


def _trim(disk: Disk, segment: Segment, size: int) -> None:
    """Give back the space that was reserved and never written."""
    file = disk.open(segment.name)
    try:
        disk.truncate(file, size)
    finally:
        disk.close(file)
    segment.size = size
