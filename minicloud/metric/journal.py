"""What of a store goes to disk, when, and how it comes back. Pure: the service carries the rows to the journal.

    collect -> Batch(rows) -> one commit -> confirm(batch)       every FLUSH_S seconds, and again while there is more

A batch is: the tail of what came since the last one, who reported it up to which number (shell/sources.py), names of
new series, chunks of pages that are over, tails that nobody needs any more, chunks that have expired. A batch whose
commit failed is not confirmed: the next one has the same again. Metrics are acknowledged before they are on disk: a
crash loses those of the last FLUSH_S seconds (and the commit in flight), nothing older, and nothing twice. Alarms,
their states and their history are not here: they are records of the machine, durable before anybody is told.

On disk a day of a series with one random value a minute is 19 KB of 60 s chunks (kept 15 days), 11 KB of 300 s ones (63
days) and 3 KB of 3,600 s ones (455 days); values of few digits take two thirds of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from minicloud.metric import limits
from minicloud.metric.page import SLOTS, Page, pack
from minicloud.metric.sketch import Floats
from minicloud.metric.store import BASE, COARSE, FINE, ROW, Store, chunk_key
from minicloud.shell.sources import Row, Sources

TAIL, CHUNK, SERIES, SOURCE = "metric_tail", "metric_chunk", "metric_series", "metric_source"  # the kinds of rows
FLUSH_S = 5.0  # ours
CHUNKS_PER_BATCH = 100  # ours: of a commit, some 200 KB and 20 ms of work
DELETES_PER_BATCH = 500
GRACE_S = {BASE: 600, FINE: 60}  # ours: a page is written this long after its end
HOT_S = {BASE: 7_200, FINE: 600, 300: 0, 3_600: 0}  # ours: and stays in memory this long
EXPIRY_S = 3_600  # ours
CROWDED_EXPIRY_S = 600  # ours: the same while there are many metrics
_FORMAT = b"1"


class _Written(NamedTuple):
    page: Page
    row: int
    changes: int
    key: str
    chunk: bytes


@dataclass(slots=True)
class Batch:
    """Rows (kind, key, body; None: it ends) that belong into one commit. `more`: another batch is due at once."""

    rows: list[Row] = field(default_factory=list)
    more: bool = False
    seqs: list[int] = field(default_factory=list)
    series: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    chunks: list[_Written] = field(default_factory=list)
    sources: list[Row] = field(default_factory=list)
    tails: list[int] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)


class Persistence:
    """Of one store. One batch at a time: confirm or give up a batch before the next `collect`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.sources = Sources(SOURCE)
        self._tails: list[int] = []  # on disk, in order
        self._expiry = 0.0  # when to look again for what has expired

    # --- writing

    def collect(self, now: float) -> Batch:
        """What should be written now; no rows: nothing."""
        store = self._store
        store.settle()
        batch = Batch(seqs=sorted({seq for seq, _ in store.parts}), series=sorted(store.registry.unsaved))
        for seq in batch.seqs:
            batch.rows.append((TAIL, _tail_key(seq), _pack_tail([rows for one, rows in store.parts if one == seq])))
        store.seq += bool(batch.seqs)  # what comes from now on belongs to another tail
        batch.sources = self.sources.rows()
        batch.rows += batch.sources
        self._chunks(batch, now)
        self._tails_done(batch)
        self._expired(batch, now)
        named = {*batch.series, *(one.page.ordinals[one.row] for one in batch.chunks if one.page.width == BASE)}
        for ordinal in sorted(named - set(batch.dropped)):
            if store.registry.known(ordinal):
                batch.rows.append((SERIES, _series_key(ordinal), store.registry.body(ordinal)))
        return batch

    def confirm(self, batch: Batch, now: float) -> None:
        """The rows of the batch are on disk."""
        store = self._store
        store.registry.unsaved.difference_update(batch.series)
        self.sources.written(batch.sources)
        self._tails += batch.seqs
        store.parts = [part for part in store.parts if part[0] not in batch.seqs]
        for page, row, changes, key, chunk in batch.chunks:
            store.cache.put(key, chunk)
            store.written.add((page.width, page.number))
            if page.changes[row] == changes:
                page.since[row] = 0
        gone = set(batch.tails)
        self._tails = [seq for seq in self._tails if seq not in gone]
        for key in batch.expired:
            store.cache.drop(key)
        for ordinal in batch.dropped:
            if store.registry.heard[ordinal] >= now - limits.SILENT_S_MIN:
                store.registry.unsaved.add(ordinal)  # it was put again while the batch was on its way
            else:
                store.registry.drop(ordinal)
        self._evict(now)

    def _chunks(self, batch: Batch, now: float) -> None:
        """Finest first, so that what they are rolled up into follows in the same batch or a later one."""
        for page in self._over(now):
            self._write_dirty(batch, page)
        for page in [page for page in self._store.pages.values() if page.width in COARSE]:  # rolling makes some
            self._write_dirty(batch, page)

    def _write_dirty(self, batch: Batch, page: Page) -> None:
        """As many rows as there is room for."""
        room = CHUNKS_PER_BATCH - len(batch.chunks)
        rows = page.dirty()
        batch.more |= len(rows) > room
        if page.width == BASE and room and len(rows):
            self._store.roll(page, rows[:room])
        for row in rows[:room].tolist():
            self._write(batch, page, row)

    def _over(self, now: float) -> list[Page]:
        pages = [page for page in self._store.pages.values() if page.width in GRACE_S]
        return sorted((one for one in pages if one.end + GRACE_S[one.width] <= now), key=lambda one: one.start)

    def _write(self, batch: Batch, page: Page, row: int) -> None:
        key = chunk_key(page.width, page.number, page.ordinals[row])
        chunk = pack(page.chunk(row))
        batch.chunks.append(_Written(page, row, int(page.changes[row]), key, chunk))
        batch.rows.append((CHUNK, key, chunk))

    def _tails_done(self, batch: Batch) -> None:
        """The newest one stays, as the memory of how far the numbers went."""
        needed = [seq for page in self._store.pages.values() if (seq := page.needs())]
        keep = min([*needed, self._store.seq])
        batch.tails = [seq for seq in self._tails[:-1] if seq < keep][:DELETES_PER_BATCH]
        batch.rows += [(TAIL, _tail_key(seq), None) for seq in batch.tails]

    def _expired(self, batch: Batch, now: float) -> None:
        if now < self._expiry:
            return
        for width in limits.RETENTION_S:
            keys = self._store.cache.chunks.oldest(f"{width:04d}/", DELETES_PER_BATCH)
            batch.expired += [key for key in keys if int(key.split("/")[1], 16) < _oldest(width, now)]
        batch.rows += [(CHUNK, key, None) for key in batch.expired]
        old = now - limits.RETENTION_S[3_600] - COARSE[-1] * SLOTS
        registry = self._store.registry
        doomed = [*registry.idle(old), *registry.surplus(now - limits.SILENT_S_MIN)]
        batch.dropped = list(dict.fromkeys(doomed))[:DELETES_PER_BATCH]
        batch.rows += [(SERIES, _series_key(ordinal), None) for ordinal in batch.dropped]
        more = bool(batch.expired or batch.dropped)
        batch.more |= more
        self._expiry = now if more else now + (CROWDED_EXPIRY_S if registry.is_crowded() else EXPIRY_S)

    def _evict(self, now: float) -> None:
        for place, page in list(self._store.pages.items()):
            expired = page.end < now - limits.RETENTION_S[page.width]
            if expired or (page.end + HOT_S[page.width] < now and not page.needs()):
                del self._store.pages[place]

    # --- coming back

    def restore(
        self,
        series: Iterable[tuple[str, bytes]],
        tails: Iterable[tuple[str, bytes]],
        sources: Iterable[tuple[str, bytes]] = (),
    ) -> None:
        """Rebuild an empty store. All in any order; points of series that are not there are left out."""
        store = self._store
        self.sources.restore(sources)
        store.registry.restore(series)
        known = np.array([store.registry.known(one) for one in range(len(store.registry.first))], bool)
        for key, body in sorted(tails):
            seq = int(key, 16)
            rows = self._alive(_unpack_tail(body), known)
            if len(rows):
                store.apply(rows, seq, replay=True)
                self._replayed(rows)
            self._tails.append(seq)
            store.seq = seq + 1

    def _replayed(self, rows: Floats) -> None:
        order = np.argsort(rows[:, 0], kind="stable")
        ordinals, times = rows[order, 0].astype(np.int64), rows[order, 1]
        starts = np.flatnonzero(np.concatenate(([True], ordinals[1:] != ordinals[:-1])))
        first, newest = np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)
        for ordinal, low, high in zip(ordinals[starts].tolist(), first.tolist(), newest.tolist(), strict=True):
            self._store.registry.replayed(ordinal, low, high)

    def _alive(self, rows: Floats, known: npt.NDArray[np.bool_]) -> Floats:
        """Rows whose series are there, and whose 60 s chunk cannot have expired: it would look as if it never was."""
        rows = rows[rows[:, 1] // (BASE * SLOTS) >= _oldest(BASE, self._store.now)]
        at = rows[:, 0].astype(np.int64)
        inside = at < len(known)
        return rows[inside][known[at[inside]]]


def _oldest(width: int, now: float) -> int:
    """The first page of which something is still kept."""
    return int((now - limits.RETENTION_S[width]) // (width * SLOTS))


def _tail_key(seq: int) -> str:
    return f"{seq:016x}"


def _series_key(ordinal: int) -> str:
    return f"{ordinal:08x}"


def _pack_tail(parts: list[Floats]) -> bytes:
    """By column, because a column's numbers are alike."""
    return _FORMAT + zlib.compress(np.concatenate(parts).T.tobytes(), 1)


def _unpack_tail(body: bytes) -> Floats:
    """Raises ValueError where the format is unknown."""
    if body[:1] != _FORMAT:
        raise ValueError(f"a metric tail of format {body[:1]!r}")
    return np.frombuffer(zlib.decompress(body[1:])).reshape(ROW, -1).T
