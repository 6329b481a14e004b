"""The embedded journal: one SQLite file (WAL, synchronous=FULL), one writer thread, checksummed rows.

What it promises (tests/contract/test_journal.py, tests/faults):

    acknowledged means on disk     a commit returns after the fsync of its transaction (power cuts, SIGKILL)
    all or nothing                 concurrent commits share a transaction; a full disk fails exactly those calls
    one owner                      every transaction reads the lease again in the same transaction (Fenced)
    damage is found, never hidden  checksums per row, structure checked at opening; the rest goes on being served
    no trust after a lie           after a failed fsync nothing is acknowledged until the file is reopened

The log (WAL) is copied into the file by the writer itself, after the callers of a group were told, whenever it holds
`WAL_PAGES` pages; so it stays bounded and no caller waits for it but those of the next group.

Rows go down 64 to a statement: a statement is where SQLite lets go of Python's lock, and a busy event loop may keep
it for milliseconds before handing it back, so few statements matter more than short ones.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import apsw

from minicloud.base.errors import CloudError, Fenced, Internal
from minicloud.base.machine import Record
from minicloud.store import repair, schema
from minicloud.store.faults import meaning
from minicloud.store.rows import JSON, RAW, Damage, Row, Stored, flaw, record_of, row_of, seal, text_of
from minicloud.store.writer import Writer, WriterCounters

log = logging.getLogger(__name__)

LEASE = "journal"
DAMAGED = (apsw.CorruptError, apsw.NotADBError)
ROWS_PER_STATEMENT = 64
WAL_PAGES = 4_096  # 16 MiB of log before it is copied into the file
WAL_PAGES_HARD = 8 * WAL_PAGES  # a reader that holds the log up for so long is waited for
BUSY_MS = 5_000
CACHE_KIB = 16 * 1024
PAGE_ROWS = 1_000  # rows read at a time

_UPSERT_HEAD = "INSERT INTO entity(kind, key, body, crc, version) VALUES "
_UPSERT_TAIL = (
    " ON CONFLICT(kind, key) DO UPDATE SET body = excluded.body, crc = excluded.crc, version = excluded.version"
)
_UPSERT = _UPSERT_HEAD + "(?,?,?,?,?)" + _UPSERT_TAIL
_UPSERT_MANY = _UPSERT_HEAD + ",".join(["(?,?,?,?,?)"] * ROWS_PER_STATEMENT) + _UPSERT_TAIL
_DELETE = "DELETE FROM entity WHERE kind = ? AND key = ?"
_DELETE_MANY = f"DELETE FROM entity WHERE (kind, key) IN (VALUES {','.join(['(?,?)'] * ROWS_PER_STATEMENT)})"
_COLUMNS = "SELECT CAST(kind AS BLOB), CAST(key AS BLOB), body, crc, version FROM entity"
_EVERY_ROW = _COLUMNS.replace(" FROM", ", typeof(kind) = 'text' AND typeof(key) = 'text' FROM")
_PAGE_FROM = f"{_COLUMNS} WHERE kind = ?1 AND key >= CAST(?2 AS TEXT) ORDER BY key LIMIT ?3"
_PAGE_AFTER = f"{_COLUMNS} WHERE kind = ?1 AND key > CAST(?2 AS TEXT) ORDER BY key LIMIT ?3"
_ONE = f"{_COLUMNS} WHERE kind = ?1 AND key = CAST(?2 AS TEXT)"
_NAMED = "WHERE kind = CAST(?{} AS TEXT) AND key = CAST(?{} AS TEXT) AND crc IS ?{}"
_QUARANTINE = (
    "INSERT INTO quarantine(kind, key, body, crc, version, reason, found_at)"
    " SELECT kind, key, body, crc, version, ?1, unixepoch('subsec') FROM entity " + _NAMED.format(2, 3, 4)
)
_EXPEL = "DELETE FROM entity " + _NAMED.format(1, 2, 3)
_TAKE_LEASE = (
    "INSERT INTO lease(name, owner, epoch, acquired_at) VALUES(?, ?, 1, unixepoch('subsec'))"
    " ON CONFLICT(name) DO UPDATE SET owner = excluded.owner, epoch = epoch + 1, acquired_at = excluded.acquired_at"
)


class SqliteJournal:
    """`base.machine.Journal` on one file. Opening creates, migrates or repairs it; `close` ends the writer.

    `damage` lists what could not be read, as found at opening and while loading. `vfs` names an apsw VFS (tests).
    Raises StoreRefused where the file is not ours or newer than we know.
    """

    def __init__(self, path: Path, *, vfs: str | None = None) -> None:
        self.path = path
        self.damage: list[Damage] = []
        self._vfs = vfs
        self._epoch: int | None = None
        self._stopped_by: CloudError | None = None
        self._wal_pages = 0
        self._inode = 0
        self._flawed: list[tuple[Stored, str]] = []
        self._connections: list[apsw.Connection] = []
        self._reading = threading.Lock()
        self._open()
        self._writer = Writer(path.name, self._flush, self._upkeep)

    @property
    def counters(self) -> WriterCounters:
        return self._writer.counters

    # --- the port

    def acquire(self, owner: str) -> int:
        """Become the one writer; the new epoch fences every earlier owner of this file, in any process."""
        return self._writer.call(partial(self._acquire, owner))

    def load(self, kinds: Iterable[str]) -> Iterator[Record]:
        """Stream the live records. Damaged rows are set aside and reported in `damage`, the rest comes."""
        for kind in sorted(set(kinds)):
            for key, body, version in self._rows(kind, ""):
                if version != JSON:
                    raise ValueError(f"rows of kind {kind!r} hold raw bytes: read them with scan")
                yield record_of(kind, key, body)

    async def commit(self, records: list[Record]) -> None:
        """See the port. Raises TypeError where a body is not JSON-able (nothing is stored then)."""
        if records:
            await self._writer.put([row_of(record) for record in records])

    # --- beyond the port: raw bodies and ranges, for engines with many small rows

    async def commit_raw(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None:
        """Commit (kind, key, bytes; None: the key ends) without a codec. Groups and fails as `commit` does."""
        if rows:
            await self._writer.put([seal(kind, key, body, RAW) for kind, key, body in rows])

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = PAGE_ROWS) -> list[tuple[str, bytes]]:
        """Up to `limit` (key, body) of a kind in key order: keys that begin with `prefix` and lie behind `after`.

        Bodies are bytes as stored (a record's are JSON). Fewer than `limit` means that there are no more.
        """
        found: list[tuple[str, bytes]] = []
        for key, body, _version in self._rows(kind, after, prefix, min(limit, PAGE_ROWS)):
            if not key.startswith(prefix):
                break
            found.append((key, body))
            if len(found) == limit:
                break
        return found

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]:
        """The bodies under these keys as stored, None where there is none, or one that is damaged (set aside then)."""
        found: list[bytes | None] = []
        for key in keys:
            rows = [row for row in self._page((kind, key.encode()), _ONE) if text_of(row.key) == key]
            damaged = [(row, why) for row in rows if (why := flaw(row))]
            if damaged:
                self._set_aside(damaged)
            found.append(rows[0].body if rows and not damaged else None)
        return found

    def close(self) -> None:
        """Flush what is queued, copy the log into the file, end the writer. Idempotent."""
        self._writer.stop()
        with self._reading:
            self._disconnect(trusted=self._stopped_by is None)

    # --- opening

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        repair.install(self.path)
        self.damage += repair.check_log(self.path)
        try:
            self._connect()
        except DAMAGED as error:
            self.damage += repair.salvage(self.path, str(error))
            self._connect()

    def _connect(self) -> None:
        """Open, check and, where it is older, migrate. The file is ours alone: it holds secrets."""
        _create(self.path)
        self._inode = os.stat(self.path).st_ino
        try:
            self._write = self._connection("cell_size_check = ON", *schema.FILE_PRAGMAS)
            schema.check(self._write, self.path)
            _pragmas(self._write, "journal_mode = WAL", "synchronous = FULL", "secure_delete = FAST")
            _pragmas(self._write, f"cache_size = -{CACHE_KIB}")
            self._write.set_wal_hook(self._on_wal)
            schema.prepare(self._write)
            self._check_rows()
            self._read = self._connection("query_only = ON")
        except BaseException as error:
            errno = self._connections[0].system_errno if self._connections else 0
            self._disconnect(trusted=False)
            if isinstance(error, apsw.Error) and not isinstance(error, DAMAGED):
                raise meaning(error, errno) from error
            raise

    def _check_rows(self) -> None:
        """Read every row once. Raises CorruptError where they are out of order: a search would miss some.

        A row with a wrong checksum in its right place hides no other; it is set aside when we own the file.
        """
        before: tuple[Any, Any] | None = None
        self._flawed = []
        for *columns, named in self._write.execute(_EVERY_ROW):
            row = Stored(*columns)
            if why := flaw(row):
                self._flawed.append((row, why))
            name = (row.kind, row.key)
            if not named or (before is not None and not before < name):
                raise apsw.CorruptError("the rows are out of order")
            before = name
        self._report(self._flawed)

    def _connection(self, *pragmas: str) -> apsw.Connection:
        connection = apsw.Connection(str(self.path), vfs=self._vfs)
        self._connections.append(connection)
        _pragmas(connection, f"busy_timeout = {BUSY_MS}", *pragmas)
        return connection

    def _disconnect(self, *, trusted: bool) -> None:
        """Close; a file that is not trusted is left exactly as it is, log included."""
        for connection in self._connections:
            if not trusted:
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            connection.close()
        self._connections = []

    # --- on the writer's thread

    def _acquire(self, owner: str) -> int:
        if isinstance(self._stopped_by, Internal):
            raise self._stopped_by
        try:
            self._write.execute("BEGIN IMMEDIATE")
            self._write.execute(_TAKE_LEASE, (LEASE, owner))
            epoch = self._held_epoch()
            self._write.execute("COMMIT")
        except apsw.Error as error:
            raise self._failed(error) from error
        self._epoch, self._stopped_by = epoch, None
        if self._flawed:
            self._quarantine(self._flawed)
            self._flawed = []
        return epoch

    def _held_epoch(self) -> int:
        found: list[Any] = self._write.execute("SELECT epoch FROM lease WHERE name = ?", (LEASE,)).fetchall()
        return int(found[0][0]) if found else 0

    def _flush(self, rows: list[Row]) -> None:
        """One transaction; nothing of it is stored when it raises."""
        if self._stopped_by is not None:
            raise self._stopped_by
        newest = {(row.kind, row.key): row for row in rows}
        upserts = [row for row in newest.values() if row.body is not None]
        ends = [name for name, row in newest.items() if row.body is None]
        try:
            self._write.execute("BEGIN IMMEDIATE")
            self._check_owner()
            _execute_many(self._write, (_UPSERT, _UPSERT_MANY), upserts)
            _execute_many(self._write, (_DELETE, _DELETE_MANY), ends)
            self._write.execute("COMMIT")
        except apsw.Error as error:
            raise self._failed(error) from error

    def _check_owner(self) -> None:
        """Raises Fenced (and ends the transaction) unless this journal still is the file's one writer."""
        if self._epoch is not None and self._held_epoch() == self._epoch and self._in_place():
            return
        self._write.execute("ROLLBACK")
        self._stopped_by = Fenced()
        raise self._stopped_by

    def _in_place(self) -> bool:
        """Whether the open file still is the one under its name: a repair or an `rm` may have replaced it."""
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _failed(self, error: apsw.Error) -> CloudError:
        meant = meaning(error, self._write.system_errno)
        if isinstance(meant, Internal):
            log.error("%s: %s", self.path, meant.message)
            self._stopped_by = meant
        if self._write.in_transaction:
            try:
                self._write.execute("ROLLBACK")
            except apsw.Error as again:
                self._stopped_by = meant = Internal(f"The store could not roll back: {again}")
        return meant

    def _on_wal(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _upkeep(self) -> None:
        """Copy the log into the file when it is long. Runs between groups, when callers have their answer."""
        if self._wal_pages < WAL_PAGES:
            return
        # RESTART waits for readers, so it is for the case that one of them held the log up for very long.
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE if self._wal_pages < WAL_PAGES_HARD else apsw.SQLITE_CHECKPOINT_RESTART
        try:
            self._write.wal_checkpoint(mode=mode)
        except apsw.Error as error:
            # Full or busy: the log still has everything, and the next group tries again.
            meant = meaning(error, self._write.system_errno)
            if isinstance(meant, Internal):
                self._stopped_by = meant
            log.warning("%s: the log could not be copied into the file: %s", self.path, error)

    # --- reading

    def _rows(self, kind: str, after: str, prefix: str = "", size: int = 0) -> Iterator[tuple[str, bytes, int]]:
        """Checked rows of a kind in key order, page by page: no reader holds the log up."""
        size = size or PAGE_ROWS
        last, inclusive = max(prefix, after).encode(), prefix > after or not after
        while True:
            page = self._page((kind, last, size), _PAGE_FROM if inclusive else _PAGE_AFTER)
            damaged = [(row, why) for row in page if (why := flaw(row))]
            if damaged:
                self._set_aside(damaged)
            bad = {row.key for row, _ in damaged}
            for row in page:
                if row.key not in bad:
                    yield row.key.decode(), row.body, row.version
            if len(page) < size:
                return
            last, inclusive = page[-1].key, False

    def _page(self, given: tuple[str | bytes | int, ...], sql: str) -> list[Stored]:
        for _ in range(2):
            try:
                with self._reading:
                    return [Stored(*row) for row in self._read.execute(sql, given).fetchall()]
            except DAMAGED as error:
                self._writer.call(partial(self._repair, str(error)))
            except apsw.Error as error:
                raise meaning(error, self._read.system_errno) from error
        raise Internal(f"{self.path.name} is damaged again right after its repair.")

    def _repair(self, why: str) -> None:
        """Rebuild the file under a new epoch, in place of the damaged one. On the writer's thread."""
        with self._reading:
            self._disconnect(trusted=False)
            self.damage += repair.salvage(self.path, why)
            self._connect()
        if self._epoch is not None:
            self._acquire("repair")

    def _set_aside(self, damaged: list[tuple[Stored, str]]) -> None:
        """Report damaged rows, and move them to quarantine if we may write."""
        self._report(damaged)
        if damaged and self._epoch is not None and self._stopped_by is None:
            self._writer.call(partial(self._quarantine, damaged))

    def _report(self, damaged: list[tuple[Stored, str]]) -> None:
        for row, why in damaged:
            found = Damage(text_of(row.kind), text_of(row.key), why, self.path.name)
            if found not in self.damage:
                self.damage.append(found)
                log.error("%s: %s", self.path, found)

    def _quarantine(self, damaged: list[tuple[Stored, str]]) -> None:
        """Move rows as they are to their own table. A row that cannot be moved now is found again at the next load."""
        try:
            self._write.execute("BEGIN IMMEDIATE")
            self._check_owner()
            for row, why in damaged:
                self._write.execute(_QUARANTINE, (why, row.kind, row.key, row.crc))
                self._write.execute(_EXPEL, (row.kind, row.key, row.crc))
            self._write.execute("COMMIT")
        except apsw.Error as error:
            log.warning("%s: damaged rows stay where they are: %s", self.path, self._failed(error))
        except Fenced:
            log.warning("%s: damaged rows stay where they are: another owner took over", self.path)


def _create(path: Path) -> None:
    """An empty file that only we may read. An existing one is left alone: to close it drops SQLite's locks on it."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _pragmas(connection: apsw.Connection, *pragmas: str) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _execute_many(connection: apsw.Connection, statements: tuple[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Run a statement for each row: as many rows as possible by the wide form, the rest by the narrow one."""
    one, many = statements
    wide = len(rows) - len(rows) % ROWS_PER_STATEMENT
    for first in range(0, wide, ROWS_PER_STATEMENT):
        connection.execute(many, list(chain.from_iterable(rows[first : first + ROWS_PER_STATEMENT])))
    for row in rows[wide:]:
        connection.execute(one, row)
