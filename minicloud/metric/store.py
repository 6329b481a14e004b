"""The points of all metrics: taken in batches, summed into pages, rolled up, written in chunks, read as arrays.

    put -> rows (a flat array) -> settle: pages of 60 s (and of 1 s) -> roll: pages of 300 s and 3,600 s

A point of any metric is in its 60 s period; one that came with a storage resolution of 1 s is in its second, too.
Coarser periods are computed from the 60 s ones when those are written, or read; assigned, never added, so that doing
it again changes nothing, and data that comes late (two weeks at most; 60 s periods stay 15 days) ends up everywhere.

What is kept on disk, by `journal.py`:

    tail     the rows of one flush, numbered. Written every few seconds: what a crash loses is younger than that
    chunk    one row of one page, with the number of the last tail in it
    series   the name of an ordinal

A page is written once it is over; a tail is deleted when no page needs it any more. Replaying a tail skips the rows
whose chunk has it already, but has them rolled up again, so a crash between any two writes loses and doubles nothing.

Memory: a series costs 3,840 bytes and its sketch (16 bytes a bucket: 1,920 where one value comes a minute) in each page
that is resident: the page of 60 s that runs and the one before, and the running pages of 300 s and 3,600 s; 20 to 40 KB
in all, however long it is kept. Chunks that were read or written lately are held packed, CACHE_BYTES at the most.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from minicloud.base.arn import Scope
from minicloud.metric import limits
from minicloud.metric.model import Datum
from minicloud.metric.page import SLOTS, Chunk, Page, empty_points, row_codes, unpack
from minicloud.metric.ports import Chunks
from minicloud.metric.registry import Registry
from minicloud.metric.sketch import BUCKET_BITS, Floats, Ints, buckets_of

BASE = 60
FINE = 1
COARSE = (300, 3_600)
ROW = 7  # ordinal, time, width, count, sum, minimum, maximum
ROWS_WAITING_MAX = 65_536  # ours: then they are settled without being asked for
CACHE_BYTES = 64 * 1024 * 1024  # ours
_CACHE_ENTRY_BYTES = 200  # what a key and its place cost beside the chunk


def chunk_key(width: int, number: int, ordinal: int) -> str:
    """Oldest first within a width."""
    return f"{width:04d}/{number:08x}/{ordinal:08x}"


class Store:
    """`now`: when it starts; what was written before is looked for in `chunks`."""

    def __init__(self, chunks: Chunks, now: float, series_max: int = limits.SERIES_MAX) -> None:
        self.registry = Registry(series_max)
        self.pages: dict[tuple[int, int], Page] = {}
        self.cache = _Cache(chunks)
        self.seq = 1  # of the tail that will hold what is not yet in one
        self.parts: list[tuple[int, Floats]] = []  # settled rows that are in no tail yet, and the tail they belong to
        self._rows = array("d")
        self.now = now
        # Pages from here on were not written before this start; later ones that were are in `written`.
        self._fresh = {width: _number(now + limits.FUTURE_S_MAX, width) + 1 for width in limits.RETENTION_S}
        self.written: set[tuple[int, int]] = set()

    # --- taking

    def put(self, scope: Scope, namespace: str, data: Sequence[Datum], now: float) -> None:
        """Take checked points. Raises LimitExceeded (too many metrics), and takes none then."""
        ordinals = self.registry.open(scope, namespace, data, now)
        self.now = max(self.now, now)
        rows = self._rows
        for ordinal, datum in zip(ordinals, data, strict=True):
            _, _, _, time, values, counts, summary, width = datum
            if summary is not None:
                rows.extend((ordinal, time, width, *summary))
                continue
            for value, count in zip(values, counts, strict=True):
                rows.extend((ordinal, time, width, count, value * count, value, value))
        if len(rows) > ROWS_WAITING_MAX * ROW:
            self.settle()

    def settle(self) -> None:
        """Bring everything taken into the pages."""
        if self._rows:
            rows = np.frombuffer(self._rows).reshape(-1, ROW)
            self._rows = array("d")
            self.parts.append((self.seq, rows))
            self.apply(rows, self.seq)

    def apply(self, rows: Floats, seq: int, replay: bool = False) -> None:
        self._apply(rows, BASE, seq, replay)
        fine = rows[(rows[:, 2] == FINE) & (rows[:, 1] >= self.now - limits.RETENTION_S[FINE])]
        if len(fine):
            self._apply(fine, FINE, seq, replay)

    def _apply(self, rows: Floats, width: int, seq: int, replay: bool) -> None:
        periods = (rows[:, 1] // width).astype(np.int64)
        numbers = periods // SLOTS
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            page = self.page(width, number)
            ordinals, inverse = np.unique(rows[mine, 0].astype(np.int64), return_inverse=True)
            at = self.open_rows(page, ordinals)
            old = replay & (page.seq[at] >= seq)
            page.touch(at, seq)
            page.seq[at] = np.maximum(page.seq[at], seq)
            new = ~old[inverse]
            _add(page, at[inverse][new], periods[mine][new] % SLOTS, rows[mine][new, 3:].T)

    # --- pages

    def page(self, width: int, number: int) -> Page:
        page = self.pages.get((width, number))
        if page is None:
            page = self.pages[width, number] = Page(width, number)
        return page

    def open_rows(self, page: Page, ordinals: Ints) -> Ints:
        """The rows of these series in a page; what was written of them is there."""
        wanted = ordinals.tolist()
        missing = [one for one in wanted if one not in page.rows]
        if missing and self._may_be_written(page.width, page.number):
            stored = self.cache.read([chunk_key(page.width, page.number, one) for one in missing])
            for ordinal, chunk in zip(missing, stored, strict=True):
                if chunk is not None:
                    page.load(ordinal, unpack(chunk))
        return np.array([page.open(one) for one in wanted], np.int64)

    def _may_be_written(self, width: int, number: int) -> bool:
        return number < self._fresh[width] or (width, number) in self.written

    def roll(self, page: Page, rows: Ints) -> None:
        """Bring rows of 60 s periods into the coarser pages, where they are not as they are now."""
        rows = rows[page.rolled[rows] != page.changes[rows]]
        if not len(rows):
            return
        cuts = [page.cut(row, 0, SLOTS) for row in rows.tolist()]
        codes = np.concatenate([codes for codes, _ in cuts])
        weights = np.concatenate([weights for _, weights in cuts])
        owner = np.repeat(np.arange(len(rows)), [len(codes) for codes, _ in cuts])
        ordinals = np.array([page.ordinals[row] for row in rows.tolist()])
        for width in COARSE:
            many = width // BASE
            period = page.start // width
            upper = self.page(width, period // SLOTS)
            at = self.open_rows(upper, ordinals)
            points = reduced(page.points[:, rows].reshape(4, -1), many).reshape(4, len(rows), -1)
            slots = (codes >> BUCKET_BITS) // many + period % SLOTS
            places = row_codes(at[owner], slots, codes & ((1 << BUCKET_BITS) - 1))
            upper.replace(at, period % SLOTS, points, places, weights)
            upper.touch(at, np.maximum(page.since[rows], 1))
        page.rolled[rows] = page.changes[rows]

    # --- reading

    def window(self, ordinal: int, width: int, first: int, count: int, sketch: bool = False) -> Chunk:
        """`count` periods from period `first` (time // width) on; codes: slot from there << 16 | bucket."""
        if self._rows:
            self.settle()
        last = first + count
        if width in COARSE:
            self._roll_dirty(ordinal, first * width, last * width)
        points = empty_points(1, count)[:, 0]
        found: list[tuple[Ints, Floats]] = []
        for number, chunk in self._chunks(ordinal, width, first // SLOTS, (last - 1) // SLOTS, sketch):
            start = number * SLOTS
            low, high = max(first, start), min(last, start + SLOTS)
            points[:, low - first : high - first] = chunk.points[:, low - start : high - start]
            if sketch and len(chunk.codes):
                bounds = ((low - start) << BUCKET_BITS, (high - start) << BUCKET_BITS)
                cut = slice(*np.searchsorted(chunk.codes, bounds))
                found.append((chunk.codes[cut] + ((start - first) << BUCKET_BITS), chunk.weights[cut]))
        codes = np.concatenate([one for one, _ in found]) if found else np.zeros(0, np.int64)
        weights = np.concatenate([one for _, one in found]) if found else np.zeros(0)
        return Chunk(0, points, codes, weights)

    def _chunks(self, ordinal: int, width: int, first: int, last: int, sketch: bool) -> list[tuple[int, Chunk]]:
        found: list[tuple[int, Chunk]] = []
        away: list[int] = []
        oldest = self.registry.first[ordinal] // (width * SLOTS)
        for number in range(first, last + 1):
            page = self.pages.get((width, number))
            row = None if page is None else page.rows.get(ordinal)
            if page is not None and row is not None:
                codes = page.cut(row, 0, SLOTS) if sketch else _NO_SKETCH
                found.append((number, Chunk(0, page.points[:, row], *codes)))
            elif number >= oldest and self._may_be_written(width, number):
                away.append(number)
        if away:
            stored = self.cache.read([chunk_key(width, number, ordinal) for number in away])
            found += [(number, unpack(raw)) for number, raw in zip(away, stored, strict=True) if raw is not None]
            found.sort(key=lambda one: one[0])
        return found

    def _roll_dirty(self, ordinal: int, start: int, end: int) -> None:
        pages = [page for page in self.pages.values() if page.width == BASE and page.start < end and page.end > start]
        for page in pages:
            row = page.rows.get(ordinal)
            if row is not None and page.since[row]:
                self.roll(page, np.array([row]))


_NO_SKETCH = (np.zeros(0, np.int64), np.zeros(0))


def reduced(points: Floats, many: int) -> Floats:
    """Columns (4 x n) over `many` periods each; n is a multiple of it."""
    count, total, low, high = points.reshape(4, -1, many)
    return np.stack((count.sum(1), total.sum(1), low.min(1), high.max(1)))


def _number(time: float, width: int) -> int:
    return int(time // (width * SLOTS))


def _add(page: Page, rows: Ints, slots: Ints, columns: Floats) -> None:
    """Add columns (count, sum, minimum, maximum) that may name one period several times."""
    if not len(rows):
        return
    count, total, low, high = columns
    known = (low == high) & (low >= 0)  # a statistic set over different values says nothing about ranks
    page.add_buckets(rows[known], slots[known], buckets_of(low[known]), count[known])
    places = rows * SLOTS + slots
    order = np.argsort(places, kind="stable")
    places = places[order]
    starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
    sums = np.stack(
        (
            np.add.reduceat(count[order], starts),
            np.add.reduceat(total[order], starts),
            np.minimum.reduceat(low[order], starts),
            np.maximum.reduceat(high[order], starts),
        )
    )
    page.add(places[starts] // SLOTS, places[starts] % SLOTS, sums)


class _Cache:
    """Packed chunks that were read or written lately, and which ones there are not."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self._held: OrderedDict[str, bytes] = OrderedDict()  # empty: there is none
        self._bytes = 0

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        away = [key for key in keys if key not in self._held]
        fresh = dict(zip(away, self.chunks.read(away), strict=True)) if away else {}
        found = [fresh[key] if key in fresh else self._held[key] or None for key in keys]
        for key in keys:
            self.put(key, fresh.get(key) or b"" if key in fresh else self._held.get(key, b""))
        return found

    def put(self, key: str, chunk: bytes) -> None:
        self.drop(key)
        self._held[key] = chunk
        self._bytes += len(chunk) + _CACHE_ENTRY_BYTES
        while self._bytes > CACHE_BYTES:
            _, old = self._held.popitem(last=False)
            self._bytes -= len(old) + _CACHE_ENTRY_BYTES

    def drop(self, key: str) -> None:
        old = self._held.pop(key, None)
        if old is not None:
            self._bytes -= len(old) + _CACHE_ENTRY_BYTES
