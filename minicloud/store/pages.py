"""Reading a damaged store file page by page, without SQLite: every record that can still be proven right.

Theory (SQLite's file format, https://sqlite.org/fileformat2.html). The file is an array of pages; the log holds newer
images of some. `entity` is WITHOUT ROWID, so its rows lie in an index b-tree rooted at `ENTITY_ROOT`: leaves (type 10)
and interior pages (type 2) both hold rows, and a row too long for its page goes on in a chain of overflow pages.

A row is believed when its checksum (see `rows`) is right, whatever the pages around it say. So:

1. walk the tree from its root; where the bookkeeping of a page does not add up, its content area is searched byte by
   byte for further rows;
2. if an interior page was damaged, its children may be out of reach: read every b-tree page that the walk did not
   reach and that is not on the list of free pages. Only then: a page out of reach may hold rows of another time.

Freed rows are zeroed (PRAGMA secure_delete) or lie outside the content area, so deleted rows do not come back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minicloud.store.rows import Stored, flaw

PAGE_BYTES = 4_096  # SQLite's default; a store is made with it
ENTITY_ROOT = 3  # the second table that `schema.TABLES` makes; meta is 2, the schema is 1
INTERIOR, LEAF = 2, 10
MAGIC = b"SQLite format 3\0"
_INT_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_LOG_HEADER = 32
_FRAME_HEADER = 24


class Log(NamedTuple):
    """What is in a log (WAL): images of pages, the last frame of each transaction (1-based), and how much is whole."""

    head: bytes
    frames: list[tuple[int, int]]  # page number, offset of its image in the log
    commits: list[int]
    whole: int  # leading frames whose checksums are right: what SQLite takes in
    pages: int  # size of the database after the last transaction


def read_log(path: Path) -> Log:
    """The frames of the log's present round, whether or not their checksums are right.

    A round is written from the front and its frames carry its salts, so everything before the last commit frame with
    the right salts belongs to it. Where the log's header is damaged, its first frame names the salts.
    """
    data = path.read_bytes() if path.exists() else b""
    step = _FRAME_HEADER + PAGE_BYTES
    count = max(len(data) - _LOG_HEADER, 0) // step
    if not count:
        return Log(data[:_LOG_HEADER], [], [], 0, 0)
    order = ">" if data[3] & 1 else "<"
    head_sums = _sums(np.frombuffer(data, f"{order}u4", 6)[np.newaxis])
    head_is_whole = _chain(head_sums[0], 3, (0, 0)) == struct.unpack_from(">II", data, 24)
    salts = data[16:24] if head_is_whole else data[_LOG_HEADER + 8 : _LOG_HEADER + 16]
    frames, commits, pages = [], [], 0
    for index in range(count):
        at = _LOG_HEADER + index * step
        number, size = struct.unpack_from(">II", data, at)
        frames.append((number, at + _FRAME_HEADER))
        if size and data[at + 8 : at + 16] == salts:
            commits.append(index + 1)
            pages = size
    frames = frames[: commits[-1] if commits else 0]
    whole = _whole_frames(data, order, salts, len(frames)) if head_is_whole else 0
    return Log(data[:_LOG_HEADER], frames, commits, whole, pages)


def _whole_frames(data: bytes, order: str, salts: bytes, count: int) -> int:
    """How many leading frames carry the right checksum: each goes on from the one before ("WAL File Format")."""
    step = _FRAME_HEADER + PAGE_BYTES
    table = np.frombuffer(data, np.uint8, count * step, _LOG_HEADER).reshape(count, step)
    words = np.concatenate((table[:, :8], table[:, _FRAME_HEADER:]), axis=1).view(f"{order}u4")
    sums = _sums(words)
    before: tuple[int, int] = struct.unpack_from(">II", data, 24)
    for index in range(count):
        at = _LOG_HEADER + index * step
        before = _chain(sums[index], words.shape[1] // 2, before)
        if data[at + 8 : at + 16] != salts or before != struct.unpack_from(">II", data, at + 16):
            return index
    return count


def _sums(words: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """The checksum of each row of 32-bit words, begun from (0, 0).

    The sum is a linear recurrence modulo 2**32 (s1 += x0 + s2; s2 += x1 + s1), so the weight of each word is a
    Fibonacci number, and all frames are one multiplication.
    """
    pairs = words.shape[1] // 2
    fibonacci = _fibonacci(2 * pairs + 1)
    ones = fibonacci[2 * pairs - 1 :: -1]  # weights in s1: F(2n-1), F(2n-2), ..., of x0 and x1 in turn
    twos = fibonacci[2 * pairs : 0 : -1]
    weights = np.stack((ones, twos), axis=1)
    totals = words.astype(np.uint32) @ weights
    return [(int(first), int(second)) for first, second in totals]


def _fibonacci(count: int) -> np.ndarray[Any, Any]:
    """F(0), F(1), ... modulo 2**32."""
    values = [0, 1]
    while len(values) < count:
        values.append((values[-1] + values[-2]) & 0xFFFFFFFF)
    return np.array(values[:count], np.uint32)


def _chain(sums: tuple[int, int], pairs: int, start: tuple[int, int]) -> tuple[int, int]:
    """The checksum of `pairs` words begun from `start` instead of (0, 0)."""
    fibonacci = _fibonacci(2 * pairs + 2)
    low, mid, high = (int(fibonacci[2 * pairs + i]) for i in (-1, 0, 1))
    first = sums[0] + low * start[0] + mid * start[1]
    second = sums[1] + mid * start[0] + high * start[1]
    return first & 0xFFFFFFFF, second & 0xFFFFFFFF


class Image:
    """The pages of a store file with its log laid over them. Reads both files whole pages at a time."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._bytes = path.stat().st_size
        log_path = path.with_name(path.name + "-wal")
        log = read_log(log_path)
        self._log = log_path.read_bytes() if log.frames else b""
        self._newer = dict(log.frames)
        self.count = max(-(-self._bytes // PAGE_BYTES), log.pages)

    def close(self) -> None:
        self._file.close()

    def page(self, number: int) -> bytes:
        """The newest image; what the file lacks reads as zeros."""
        at = self._newer.get(number)
        if at is not None:
            return self._log[at : at + PAGE_BYTES]
        self._file.seek((number - 1) * PAGE_BYTES)
        return self._file.read(PAGE_BYTES).ljust(PAGE_BYTES, b"\0")

    def free_pages(self) -> set[int]:
        """The list of free pages, as far as it can be followed."""
        trunk = struct.unpack_from(">I", self.page(1), 32)[0]
        free: set[int] = set()
        while 0 < trunk <= self.count and trunk not in free:
            free.add(trunk)
            page = self.page(trunk)
            trunk, leaves = struct.unpack_from(">II", page)
            free.update(struct.unpack_from(f">{min(leaves, PAGE_BYTES // 4 - 2)}I", page, 8))
        return free


class _Cell(NamedTuple):
    row: Stored
    end: int  # offset behind the cell's part on its page
    overflow: list[int]


@dataclass(slots=True)
class Harvest:
    """What a reading met besides good rows: rows with a wrong checksum, and pages whose bookkeeping is broken."""

    flawed: list[tuple[Stored, str]] = field(default_factory=list)
    bad_pages: list[int] = field(default_factory=list)
    lost_children: bool = False
    used: set[int] = field(default_factory=set)


def harvest(image: Image, met: Harvest) -> Iterator[Stored]:
    """Every row that can be proven right; `met` fills while reading. A key may come twice: the first is the newer."""
    stack = [ENTITY_ROOT]
    while stack:
        number = stack.pop()
        if not 0 < number <= image.count or number in met.used:
            met.lost_children = True
            continue
        met.used.add(number)
        yield from _read_page(image, number, met, stack)
    if met.lost_children:
        yield from _out_of_reach(image, met)


def _out_of_reach(image: Image, met: Harvest) -> Iterator[Stored]:
    free = image.free_pages()
    for number in range(ENTITY_ROOT + 1, image.count + 1):
        if number not in met.used and number not in free and image.page(number)[0] in (INTERIOR, LEAF):
            yield from _read_page(image, number, Harvest(used=met.used), [])


def _read_page(image: Image, number: int, met: Harvest, stack: list[int]) -> Iterator[Stored]:
    """The rows of one b-tree page; its children go on the stack."""
    page = image.page(number)
    interior = page[0] == INTERIOR
    head, cell_head = (12, 4) if interior else (8, 0)
    count = min(struct.unpack_from(">H", page, 3)[0], (PAGE_BYTES - head) // 2)
    known: dict[int, int] = {}  # where cells begin and end
    for start in struct.unpack_from(f">{count}H", page, head):
        if interior and start + 4 <= PAGE_BYTES:
            stack.append(struct.unpack_from(">I", page, start)[0])
        cell = _cell(image, page, start + cell_head)
        if cell is None:
            continue
        known[start] = cell.end
        if why := flaw(cell.row):
            met.flawed.append((cell.row, why))
        else:
            met.used.update(cell.overflow)
            yield cell.row
    if interior:
        stack.append(struct.unpack_from(">I", page, 8)[0])
    if page[0] in (INTERIOR, LEAF) and len(known) == count and _adds_up(page, known):
        return
    met.bad_pages.append(number)
    met.lost_children = met.lost_children or page[0] != LEAF
    yield from _search(image, page, met, known)


def _adds_up(page: bytes, known: dict[int, int]) -> bool:
    """Whether cells, free blocks and counted fragments fill the content area exactly, so that no cell is missing."""
    block, _count, content, fragments = struct.unpack_from(">HHHB", page, 1)
    parts = {start: max(end, start + 4) for start, end in known.items()}
    for _ in range(PAGE_BYTES // 4):
        if not block or block + 4 > PAGE_BYTES:
            break
        after, size = struct.unpack_from(">HH", page, block)
        parts[block] = block + size
        block = after
    filled = sum(end - start for start, end in parts.items())
    return bool(filled + fragments == PAGE_BYTES - (content or PAGE_BYTES))


def _search(image: Image, page: bytes, met: Harvest, known: dict[int, int]) -> Iterator[Stored]:
    """Every row that begins at any byte of the content area, outside the cells that are known.

    Below the content area lie copies of rows that were moved or deleted. The area begins with its lowest cell, so
    where its recorded beginning is no cell, that record is what is damaged, and the lowest known cell counts.
    """
    content = struct.unpack_from(">H", page, 5)[0]
    lowest = min(known, default=8)
    at = content if content in known or _is_cell(image, page, content) or not known else lowest
    while at < PAGE_BYTES - 8:
        if at in known:
            at = max(known[at], at + 1)
            continue
        cell = _cell(image, page, at)
        if cell is None or flaw(cell.row):
            at += 1
            continue
        met.used.update(cell.overflow)
        yield cell.row
        at = cell.end


def _is_cell(image: Image, page: bytes, at: int) -> bool:
    """Whether a row begins here, on a leaf or (behind its child's number) on an interior page."""
    cells = (_cell(image, page, at + head) for head in (0, 4))
    return any(cell is not None and not flaw(cell.row) for cell in cells)


def _cell(image: Image, page: bytes, at: int) -> _Cell | None:
    """The row whose payload begins at an offset; None: there is none."""
    size, start = _varint(page, at)
    if not 8 <= size <= image.count * PAGE_BYTES or start + 8 > PAGE_BYTES or page[start] > 32:
        return None
    local = _local_bytes(size)
    end = start + local
    overflow: list[int] = []
    if end + (4 if local < size else 0) > PAGE_BYTES:
        return None
    payload = page[start:end]
    if local < size:
        rest = _overflow(image, struct.unpack_from(">I", page, end)[0], size - local, overflow)
        payload += rest
        end += 4
    row = _row(payload) if len(payload) == size else None
    return _Cell(row, end, overflow) if row else None


def _overflow(image: Image, number: int, left: int, pages: list[int]) -> bytes:
    parts = []
    while left > 0 and 0 < number <= image.count and len(pages) <= image.count:
        pages.append(number)
        page = image.page(number)
        parts.append(page[4 : 4 + min(left, PAGE_BYTES - 4)])
        left -= len(parts[-1])
        number = struct.unpack_from(">I", page)[0]
    return b"".join(parts)


def _local_bytes(size: int) -> int:
    """How much of a payload lies on its own page (index b-tree, "B-tree Cell Format")."""
    most = (PAGE_BYTES - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (PAGE_BYTES - 12) * 32 // 255 - 23
    local = least + (size - least) % (PAGE_BYTES - 4)
    return local if local <= most else least


def _row(payload: bytes) -> Stored | None:
    """The five columns of an entity row; None where the payload is not of that form."""
    head, at = _varint(payload, 0)
    types: list[int] = []
    while at < head and len(types) < 6:
        kind, at = _varint(payload, at)
        types.append(kind)
    if at != head or len(types) != 5:
        return None
    sizes = [_column_bytes(kind) for kind in types]
    if head + sum(sizes) != len(payload):
        return None
    values: list[bytes | int | None] = []
    for kind, size in zip(types, sizes, strict=True):
        values.append(_column(kind, payload[head : head + size]))
        head += size
    return Stored(*values)


def _column_bytes(kind: int) -> int:
    return (kind - 12) // 2 if kind >= 12 else _INT_BYTES.get(kind, 0)


def _column(kind: int, data: bytes) -> bytes | int | None:
    """Text and blobs as bytes, integers as they are, anything else (NULL, REAL, reserved) as None."""
    if kind >= 12:
        return data
    if kind in (8, 9):
        return kind - 8
    return int.from_bytes(data, "big", signed=True) if kind in _INT_BYTES else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer and the offset behind it (0 and the end of the data where it is cut off)."""
    value = 0
    for index in range(9):
        if at + index >= len(data):
            return 0, len(data)
        byte = data[at + index]
        if index == 8:
            return (value << 8) | byte, at + 9
        value = (value << 7) | (byte & 0x7F)
        if byte < 0x80:
            return value, at + index + 1
    raise AssertionError("unreachable")
