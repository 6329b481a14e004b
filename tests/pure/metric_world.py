"""A metric store with a disk that can fail and a process that can crash, and the plain twin it is held against."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from minicloud.base.arn import Scope
from minicloud.metric.journal import CHUNK, SERIES, TAIL, Persistence
from minicloud.metric.model import Datum, Dimensions, Metric
from minicloud.metric.reading import Span
from minicloud.metric.store import Store

SCOPE = Scope()
NOW = 1_700_000_000.0  # 800 s into an hour


class Disk:
    """What survives: rows by kind and key."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], bytes] = {}
        self.keys: list[str] = []  # of chunks, sorted
        self.reads = 0

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        self.reads += len(keys)
        return [self.rows.get((CHUNK, key)) for key in keys]

    def oldest(self, prefix: str, limit: int) -> list[str]:
        at = bisect_left(self.keys, prefix)
        return [key for key in self.keys[at : at + limit] if key.startswith(prefix)]

    def commit(self, rows: list[tuple[str, str, bytes | None]]) -> None:
        for kind, key, body in rows:
            if kind == CHUNK:
                at = bisect_left(self.keys, key)
                there = at < len(self.keys) and self.keys[at] == key
                if body is None and there:
                    del self.keys[at]
                elif body is not None and not there:
                    insort(self.keys, key)
            if body is None:
                self.rows.pop((kind, key), None)
            else:
                self.rows[kind, key] = body

    def of(self, kind: str) -> list[tuple[str, bytes]]:
        return [(key, body) for (one, key), body in self.rows.items() if one == kind]


class World:
    """put -> flush (or a failed one) -> crash -> ... with the clock in the test's hands."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now
        self.disk = Disk()
        self.start()

    def start(self) -> None:
        self.store = Store(self.disk, self.now)
        self.persistence = Persistence(self.store)
        self.persistence.restore(self.disk.of(SERIES), self.disk.of(TAIL))

    def put(self, *data: Datum, namespace: str = "N") -> None:
        self.store.put(SCOPE, namespace, data, self.now)

    def flush(self, fails: bool = False, most: int = 1_000) -> None:
        for _ in range(most):
            batch = self.persistence.collect(self.now)
            if fails:
                return
            self.disk.commit(batch.rows)
            self.persistence.confirm(batch, self.now)
            if not batch.more:
                return

    def crash(self) -> None:
        self.start()


def datum(name: str, time: float, *values: float, width: int = 60, dims: Dimensions = (), unit: str = "None") -> Datum:
    return Datum(name, dims, unit, time, values, (1.0,) * len(values), None, width)


def metric(name: str, dims: Dimensions = (), namespace: str = "N") -> Metric:
    return Metric(SCOPE, namespace, name, dims)


class Twin:
    """Every value in a list."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, float, int]] = []

    def put(self, *data: Datum) -> None:
        self.points += [(one.name, int(one.time), value, one.width) for one in data for value in one.values]

    def values(self, name: str, span: Span) -> list[list[float]]:
        found: list[list[float]] = [[] for _ in range(span.count)]
        for who, time, value, width in self.points:
            if span.period < 60 and width != 1:
                continue
            place = time if span.period < 60 else time // 60 * 60
            at = (place - span.start) // span.period
            if who == name and 0 <= at < span.count:
                found[at].append(value)
        return found


def nearest_rank(values: list[float], q: float) -> float:
    """The least value at or below which q of the values lie."""
    ordered = sorted(values)
    rank = next(rank for rank in range(1, len(ordered) + 1) if rank >= q * len(ordered) - 1e-9)
    return ordered[rank - 1]
