"""Segments of a message log, and the notes about what in them could not be read."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Self

from minicloud.base.errors import Internal
from minicloud.store.log_disk import Disk
from minicloud.store.log_format import PAGE_BYTES, SEGMENT_SHIFT, Header, Read, Span, header_page, seed_of

log = logging.getLogger(__name__)

_NAME = re.compile(r"(\d{8,12})\.segment")
DAMAGE_LISTED_MAX = 1_000
KEPT_BYTES_MAX = 64 * 1024 * 1024  # of all remains together; the rest stays where it is until its segment is deleted


class DamagedFrame(Internal):
    """A stored message cannot be read: its bytes on disk are damaged, or its segment is gone."""

    def __init__(self, address: int, prefix: bytes = b"", reason: str = "the checksum does not match") -> None:
        """`prefix`: the first bytes of the frame where these are good."""
        super().__init__(f"The frame at {address >> SEGMENT_SHIFT}/{address % (1 << SEGMENT_SHIFT)}: {reason}.")
        self.address = address
        self.prefix = prefix
        self.reason = reason

    def copy(self, cause: BaseException | None = None) -> Self:
        twin = type(self)(self.address, self.prefix, self.reason)
        twin.__cause__ = cause
        return twin


class Damage(NamedTuple):
    """One thing that could not be read: where, why, and where its bytes are kept ("": nowhere).

    `torn`: perhaps only what a power cut left of frames that were never acknowledged.
    """

    segment: int
    offset: int
    length: int
    reason: str
    torn: bool = False
    kept: str = ""

    def __str__(self) -> str:
        kept = f"; kept in {self.kept}" if self.kept else ""
        return f"segment {self.segment}, {self.length} bytes at {self.offset}: {self.reason}{kept}"


@dataclass(slots=True, eq=False)
class Segment:
    """`start`, `end`: of its frames; `size`: of the space reserved for it; `file`: while it is written, else -1."""

    number: int
    seed: int
    epoch: int
    size: int
    start: int = PAGE_BYTES
    end: int = PAGE_BYTES
    skips: list[Span] = field(default_factory=list)
    frames: int = 0
    live: int = 0
    file: int = -1

    @property
    def name(self) -> str:
        return name_of(self.number)

    @property
    def room(self) -> int:
        return self.size - self.end

    def spans(self) -> list[Span]:
        """The readable parts."""
        edges = [self.start, *(edge for skip in self.skips for edge in skip), self.end]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]


def name_of(number: int) -> str:
    return f"{number:08d}.segment"


def number_of(name: str) -> int:
    """0 where the file is no segment."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else 0


def make_segment(disk: Disk, header: Header, size: int) -> Segment:
    """A new empty one, durably there with all of its space. Raises OSError; then nothing of it is there."""
    name = name_of(header.number)
    file = disk.create(name, size)
    try:
        disk.write(file, header_page(header), 0)
        disk.sync(file)
        disk.sync_directory()
    except OSError:
        disk.close(file)
        disk.delete(name)
        raise
    return Segment(header.number, seed_of(header.salt, header.number), header.epoch, size, file=file)


@contextlib.contextmanager
def reading(disk: Disk, segment: Segment) -> Iterator[Read]:
    """A file of its own, for whoever reads a whole segment."""
    file = disk.open(segment.name)
    try:
        yield partial(disk.read, file)
    finally:
        disk.close(file)


class Remains:
    """Every damage is noted once, and its bytes are put aside before anything may delete them."""

    def __init__(self, disk: Disk) -> None:
        self.damage: list[Damage] = []
        self.count = 0
        self._disk = disk
        self._seen: set[tuple[int, int]] = set()
        self._kept_bytes = 0

    def note(self, segment: int, span: Span, reason: str, *, torn: bool = False) -> None:
        start, end = span
        if (segment, start) in self._seen:
            return
        self._seen.add((segment, start))
        self.count += 1
        found = Damage(segment, start, end - start, reason, torn, self._keep(segment, span))
        log.warning("%s: %s", self._disk.directory, found)
        if len(self.damage) < DAMAGE_LISTED_MAX:
            self.damage.append(found)

    def _keep(self, segment: int, span: Span) -> str:
        start, end = span
        if start == end or self._kept_bytes + end - start > KEPT_BYTES_MAX:
            return ""
        try:
            file = self._disk.open(name_of(segment))
            try:
                data = self._disk.read(file, start, end - start).rstrip(b"\0")
            finally:
                self._disk.close(file)
            self._kept_bytes += len(data)
            return str(self._disk.keep(f"{segment:08d}-{start}", data)) if data else ""
        except OSError as error:
            log.warning("%s: the remains could not be kept: %s", self._disk.directory, error)
            return ""
