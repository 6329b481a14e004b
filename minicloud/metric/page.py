"""Pages: the points of many series over 120 periods of one width, as matrices.

    width      60 s -> a page is 2 hours; 1 s -> 2 minutes; 300 s -> 10 hours; 3,600 s -> 5 days
    row        one series
    columns    count, sum, minimum, maximum of each period (count 0: there is nothing)
    sketch     (row, slot, bucket) -> weight for percentiles, in sorted runs that are merged as they grow

One row costs 4 x 8 x 120 = 3,840 bytes, and 16 bytes for each filled bucket. Adding is vectorised over all series.

A row knows `seq`, the last batch that is in it, and `since`, the first batch that is in it and not in its chunk on
disk (0: none): so replaying batches after a crash adds each once, and a batch is kept as long as a row needs it.
`changes` counts, so that whoever wrote a row knows whether it is still the same; `rolled` is the count at which it went
into the coarser pages.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np

from minicloud.metric.sketch import BUCKET_BITS, Floats, Ints, merge

SLOTS = 120
_SLOT_CODES = 1 << BUCKET_BITS
_ROW_CODES = SLOTS * _SLOT_CODES
_HEAD = struct.Struct("<BQHI")
_FORMAT = 1
_COLUMNS = 4
_EMPTY = np.zeros(0, np.int64)
_NOTHING = np.zeros(0, np.float64)


class Chunk(NamedTuple):
    """One row of one page by itself: points (4 x 120: count, sum, minimum, maximum), sketch (slot << 16 | bucket)."""

    seq: int
    points: Floats
    codes: Ints
    weights: Floats


def row_codes(rows: Ints, slots: Ints, buckets: Ints) -> Ints:
    """The places in a page's sketch."""
    found: Ints = rows * _ROW_CODES + slots * _SLOT_CODES + buckets
    return found


def empty_points(rows: int, slots: int = SLOTS) -> Floats:
    points = np.zeros((_COLUMNS, rows, slots))
    points[2], points[3] = np.inf, -np.inf
    return points


def pack(chunk: Chunk) -> bytes:
    """The bytes of a row on disk; filled periods only."""
    used = np.flatnonzero(chunk.points[0])
    head = _HEAD.pack(_FORMAT, chunk.seq, len(used), len(chunk.codes))
    parts = (
        used.astype(np.uint8).tobytes(),
        chunk.points[:, used].tobytes(),
        chunk.codes.astype(np.uint32).tobytes(),
        chunk.weights.tobytes(),
    )
    return head + zlib.compress(b"".join(parts), 1)


def unpack(raw: bytes) -> Chunk:
    """Raises ValueError where the format is unknown."""
    version, seq, used, buckets = _HEAD.unpack_from(raw)
    if version != _FORMAT:
        raise ValueError(f"a metric chunk of format {version}")
    body = zlib.decompress(raw[_HEAD.size :])
    slots = np.frombuffer(body, np.uint8, used)
    columns = np.frombuffer(body, np.float64, _COLUMNS * used, used).reshape(_COLUMNS, used)
    at = used + columns.nbytes
    codes = np.frombuffer(body, np.uint32, buckets, at).astype(np.int64)
    points = empty_points(1)[:, 0]
    points[:, slots] = columns
    return Chunk(seq, points, codes, np.frombuffer(body, np.float64, buckets, at + codes.nbytes // 2))


class Page:
    def __init__(self, width: int, number: int) -> None:
        self.width = width
        self.number = number
        self.rows: dict[int, int] = {}  # ordinal of a series -> row
        self.ordinals: list[int] = []
        self.points = np.zeros((_COLUMNS, 16, SLOTS))  # a row is made empty when it is opened
        self.seq = np.zeros(16, np.int64)
        self.since = np.zeros(16, np.int64)
        self.changes = np.zeros(16, np.int64)
        self.rolled = np.full(16, -1, np.int64)
        self._runs: list[tuple[Ints, Floats]] = []

    @property
    def start(self) -> int:
        """Unix seconds of its first period."""
        return self.number * SLOTS * self.width

    @property
    def end(self) -> int:
        return self.start + SLOTS * self.width

    @property
    def nbytes(self) -> int:
        return self.points.nbytes + sum(codes.nbytes + weights.nbytes for codes, weights in self._runs)

    # --- rows

    def open(self, ordinal: int) -> int:
        """The row of a series, a new one where it has none."""
        row = self.rows.get(ordinal)
        if row is None:
            row = self.rows[ordinal] = len(self.ordinals)
            self.ordinals.append(ordinal)
            if row == self.points.shape[1]:
                self._grow()
            self.points[2, row], self.points[3, row] = np.inf, -np.inf
        return row

    def _grow(self) -> None:
        size = self.points.shape[1]
        grown = np.zeros((_COLUMNS, 2 * size, SLOTS))  # a large page is tens of MB: what is not used is not touched
        grown[:, :size] = self.points
        self.points = grown
        self.seq = np.concatenate((self.seq, np.zeros(size, np.int64)))
        self.since = np.concatenate((self.since, np.zeros(size, np.int64)))
        self.changes = np.concatenate((self.changes, np.zeros(size, np.int64)))
        self.rolled = np.concatenate((self.rolled, np.full(size, -1, np.int64)))

    def load(self, ordinal: int, chunk: Chunk) -> int:
        """Put a row back that was on disk."""
        row = self.open(ordinal)
        self.points[:, row] = chunk.points
        self.seq[row] = chunk.seq
        self._add_run(chunk.codes + row * _ROW_CODES, chunk.weights)
        return row

    def chunk(self, row: int) -> Chunk:
        codes, weights = self.cut(row, 0, SLOTS)
        return Chunk(int(self.seq[row]), self.points[:, row], codes, weights)

    # --- changing

    def add(self, rows: Ints, slots: Ints, columns: Floats) -> None:
        """Add points: (row, slot) pairs, each once, and their count, sum, minimum, maximum (4 x n)."""
        points = self.points
        points[0, rows, slots] += columns[0]
        points[1, rows, slots] += columns[1]
        points[2, rows, slots] = np.minimum(points[2, rows, slots], columns[2])
        points[3, rows, slots] = np.maximum(points[3, rows, slots], columns[3])

    def add_buckets(self, rows: Ints, slots: Ints, buckets: Ints, weights: Floats) -> None:
        self._add_run(*merge(row_codes(rows, slots, buckets), weights))

    def replace(self, rows: Ints, first: int, points: Floats, codes: Ints, weights: Floats) -> None:
        """Set the periods of rows (each once) from `first` on. points: 4 x rows x periods; codes: of this page."""
        last = first + points.shape[2]
        self.points[:, rows, first:last] = points
        low = rows * _ROW_CODES + first * _SLOT_CODES
        high = rows * _ROW_CODES + last * _SLOT_CODES
        for run_codes, run_weights in self._runs:
            starts, ends = np.searchsorted(run_codes, low), np.searchsorted(run_codes, high)
            for at in np.flatnonzero(ends > starts).tolist():
                run_weights[starts[at] : ends[at]] = 0.0
        self._add_run(*merge(codes, weights))

    def touch(self, rows: Ints, seq: int | Ints) -> None:
        """Batch `seq` changed these rows (each once)."""
        since = self.since[rows]
        self.since[rows] = np.where(since == 0, seq, np.minimum(since, seq))
        self.changes[rows] += 1

    def dirty(self) -> Ints:
        """The rows whose chunk on disk is older than they are."""
        return np.flatnonzero(self.since)

    def needs(self) -> int:
        """The first batch that this page needs after a crash; 0: none."""
        since = self.since[self.since > 0]
        return int(since.min()) if len(since) else 0

    # --- the sketch

    def _add_run(self, codes: Ints, weights: Floats) -> None:
        if not len(codes):
            return
        self._runs.append((codes, weights.copy()))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 2 * len(self._runs[-1][0]):
            (codes_a, weights_a), (codes_b, weights_b) = self._runs[-2:]
            merged = merge(np.concatenate((codes_a, codes_b)), np.concatenate((weights_a, weights_b)))
            self._runs[-2:] = [merged]

    def _range(self, row: int, first: int, last: int) -> tuple[int, int]:
        return row * _ROW_CODES + first * _SLOT_CODES, row * _ROW_CODES + last * _SLOT_CODES

    def cut(self, row: int, first: int, last: int) -> tuple[Ints, Floats]:
        """The sketch of some periods of a row. Codes: slot of the page << 16 | bucket."""
        low, high = self._range(row, first, last)
        found = []
        for codes, weights in self._runs:
            start, end = np.searchsorted(codes, (low, high))
            if end > start:
                found.append((codes[start:end], weights[start:end]))
        if not found:
            return _EMPTY, _NOTHING
        codes = np.concatenate([codes for codes, _ in found]) - row * _ROW_CODES
        return merge(codes, np.concatenate([weights for _, weights in found]))
