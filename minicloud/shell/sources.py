"""Who reported up to which number, so that a report whose answer was lost is not counted again.

A source numbers its reports upwards and sends one at a time (rpc/reporter.py). The number counted last is written in
the same commit as what was counted: a crash loses both or neither, and the report that comes again after a restart is
counted exactly if it was lost.

    counted in memory first    note -> rows (into the commit of what was counted) -> written(rows)
    counted once on disk       [*rows, row] (into its commit) -> note -> written
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence

SOURCES_MAX = 10_000  # ours: each is one life of a process; the one that was silent longest is forgotten
_BODY = struct.Struct(">Qd")  # the number, and when it was noted

Row = tuple[str, str, bytes | None]


class Sources:
    """`kind`: of their rows in the journal."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._heard: OrderedDict[str, tuple[int, float]] = OrderedDict()  # the one that was silent longest first
        self._unwritten: dict[str, bytes | None] = {}

    def heard(self, source: str, number: int) -> bool:
        """Whether this report was counted."""
        return number <= self._heard.get(source, (0, 0.0))[0]

    def row(self, source: str, number: int, now: float) -> Row:
        return self._kind, source, _BODY.pack(number, now)

    def note(self, source: str, number: int, now: float) -> None:
        self._heard[source] = number, now
        self._heard.move_to_end(source)
        self._unwritten[source] = self.row(source, number, now)[2]
        while len(self._heard) > SOURCES_MAX:
            oldest, _ = self._heard.popitem(last=False)
            self._unwritten[oldest] = None

    def rows(self) -> list[Row]:
        """What is not on disk yet."""
        return [(self._kind, source, body) for source, body in self._unwritten.items()]

    def written(self, rows: Sequence[Row]) -> None:
        """They are on disk; what was noted meanwhile is not."""
        for _, source, body in rows:
            if source in self._unwritten and self._unwritten[source] == body:
                del self._unwritten[source]

    def restore(self, rows: Iterable[tuple[str, bytes]]) -> None:
        for source, (number, at) in sorted(
            ((key, _BODY.unpack(body)) for key, body in rows), key=lambda one: one[1][1]
        ):
            self._heard[source] = number, at
