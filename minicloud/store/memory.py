"""A journal in memory that keeps every promise of the port but durability. For tests, the simulator and its users.

`MemoryDisk` is what would survive a crash: give the same disk to a second journal and it is a restart, or a second
owner that fences the first. The journal can be told to fail:

    journal.fail(InsufficientStorage())        the next group
    journal.fail(Internal(), after=3)          the fourth group from now
    journal.hold() ... journal.release()       groups neither fail nor finish: a disk that hangs

Bodies are kept encoded, as on a real disk, so a machine that changes a body after committing it is found out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from minicloud.base.errors import CloudError, Fenced, Internal, Unavailable
from minicloud.base.machine import Record
from minicloud.store.rows import JSON, RAW, Damage, Row, flaw_of_body, record_of, row_of, seal
from minicloud.store.writer import WriterCounters


class MemoryDisk:
    """What is durable: rows by (kind, key), the epoch, and how often "fsync" was called."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.epoch = 0
        self.owner = ""
        self.syncs = 0


class MemoryJournal:
    """`base.machine.Journal` over a MemoryDisk, in one event loop. Groups as the real one: flush at once when idle."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.damage: list[Damage] = []
        self.counters = WriterCounters()
        self._epoch: int | None = None
        self._stopped_by: CloudError | None = None
        self._failures: list[tuple[int, CloudError]] = []
        self._waiting: list[tuple[list[Row], asyncio.Future[None]]] = []
        self._closed = False
        self._flushing: asyncio.Task[None] | None = None
        self._free = asyncio.Event()
        self._free.set()

    # --- the port

    def acquire(self, owner: str) -> int:
        self.disk.epoch += 1
        self.disk.owner = owner
        self._epoch, self._stopped_by = self.disk.epoch, None
        return self.disk.epoch

    def load(self, kinds: Iterable[str]) -> Iterator[Record]:
        for kind in sorted(set(kinds)):
            for row in self._rows(kind):
                if row.version != JSON:
                    raise ValueError(f"rows of kind {kind!r} hold raw bytes: read them with scan")
                yield record_of(row.kind, row.key, row.body or b"")

    async def commit(self, records: list[Record]) -> None:
        if records:
            await self._put([row_of(record) for record in records])

    async def commit_raw(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None:
        if rows:
            await self._put([seal(kind, key, body, RAW) for kind, key, body in rows])

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]:
        found = [(row.key, row.body or b"") for row in self._rows(kind) if row.key.startswith(prefix)]
        return [(key, body) for key, body in found if key > after or not after][:limit]

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]:
        rows = {row.key: row.body for row in self._rows(kind)} if keys else {}
        return [rows.get(key) for key in keys]

    def close(self) -> None:
        self._closed = True

    # --- faults

    def fail(self, error: CloudError, *, after: int = 0) -> None:
        """The group that comes after `after` further groups raises `error`, and nothing of it is stored."""
        self._failures.append((self.disk.syncs + after, error))

    def hold(self) -> None:
        """From now on groups wait."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    # --- inside

    def _rows(self, kind: str) -> list[Row]:
        rows = sorted((row for (of, _), row in self.disk.rows.items() if of == kind), key=lambda row: row.key.encode())
        for row in rows:
            why = flaw_of_body(row)
            found = Damage(row.kind, row.key, why, "memory")
            if why and found not in self.damage:
                self.damage.append(found)
        return [row for row in rows if not flaw_of_body(row)]

    async def _put(self, rows: list[Row]) -> None:
        if self._closed:
            raise Unavailable("The store is closed.")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((rows, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def _flush(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                await self._free.wait()
                error = self._store([row for rows, _ in group for row in rows], len(group))
                for _, done in group:
                    _settle(done, error)
        finally:
            self._flushing = None

    def _store(self, rows: list[Row], calls: int) -> CloudError | None:
        if self._stopped_by is None and self._epoch != self.disk.epoch:
            self._stopped_by = Fenced()
        if self._stopped_by is not None:
            return self._stopped_by
        self.disk.syncs += 1
        for failure in self._failures:
            if failure[0] < self.disk.syncs:
                self._failures.remove(failure)
                self.counters.failures += 1
                if isinstance(failure[1], Internal):
                    self._stopped_by = failure[1]
                return failure[1]
        self._apply(rows)
        self.counters.transactions += 1
        self.counters.calls += calls
        self.counters.rows += len(rows)
        self.counters.group_calls_max = max(self.counters.group_calls_max, calls)
        return None

    def _apply(self, rows: list[Row]) -> None:
        for row in rows:
            if row.body is None:
                self.disk.rows.pop((row.kind, row.key), None)
            else:
                self.disk.rows[row.kind, row.key] = row


def _settle(done: asyncio.Future[None], error: CloudError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error.copy())
