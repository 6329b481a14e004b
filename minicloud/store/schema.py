"""The tables of a store file, its format version, and the way from older formats to this one.

    meta        name, value              'format' is the version of everything below
    entity      kind, key -> body        the newest body of every live key, checksummed (see `rows`)
    lease       name -> owner, epoch     who may write; every transaction reads it again
    quarantine  damaged rows as found    never read by machines, never deleted by us

A store of an older format is brought forward step by step in one transaction, so a crash leaves the old or the new
one. A store of a newer format is refused before anything in it is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw

from minicloud.base.errors import Conflict

APPLICATION_ID = 0x6D636C64  # "mcld": tells a store from any other SQLite file

# Reading a damaged file (see `pages`) relies on the page size, and on `entity` being the second table made.
FILE_PRAGMAS = ("page_size = 4096", "auto_vacuum = NONE", "encoding = 'UTF-8'")

TABLES = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE entity(
    kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, crc INTEGER NOT NULL, version INTEGER NOT NULL,
    PRIMARY KEY(kind, key)
) WITHOUT ROWID;
CREATE TABLE lease(name TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, acquired_at REAL NOT NULL);
CREATE TABLE quarantine(
    id INTEGER PRIMARY KEY, kind BLOB, key BLOB, body BLOB, crc BLOB, version BLOB, reason TEXT NOT NULL,
    found_at REAL NOT NULL
);
"""

Migration = Callable[[apsw.Connection], None]

# MIGRATIONS[n] brings format n+1 to format n+2. Append only: a released step never changes.
MIGRATIONS: list[Migration] = []


class StoreRefused(Conflict):
    """The file is not a store that this version can open; nothing in it was changed."""

    default_code = "StoreRefused"


def check(connection: apsw.Connection, path: Path) -> None:
    """Read only. Raises StoreRefused (not ours, or newer), CorruptError (damaged)."""
    if not _tables(connection):
        return
    found, newest = format_of(connection, path.name), len(MIGRATIONS) + 1
    if found > newest:
        raise StoreRefused(
            f"{path.name} was written by a newer minicloud (store format {found}, this one knows formats up to "
            f"{newest}). Install that version again, or use another data directory. Nothing was changed.",
            details={"format": str(found), "format_max": str(newest)},
        )
    if _definitions(connection) != _expected(found):
        raise apsw.CorruptError("the table definitions are damaged")
    for (line,) in connection.execute("PRAGMA quick_check(1)"):
        if line != "ok":
            raise apsw.CorruptError(str(line))


def prepare(connection: apsw.Connection) -> None:
    """Make the tables, or bring them to the newest format, in one transaction. `check` came first."""
    found = format_of(connection, "") if _tables(connection) else 0
    if found < len(MIGRATIONS) + 1:
        with connection:
            migrate(connection, found)


def format_of(connection: apsw.Connection, name: str) -> int:
    """The format version. Raises StoreRefused where this is no store, CorruptError where it is a damaged one."""
    tables = _tables(connection)
    identity = connection.execute("PRAGMA application_id").fetchall()[0][0]
    if identity != APPLICATION_ID and not {"meta", "entity"} <= tables:
        raise StoreRefused(f"{name} is a database, but not a minicloud store. Nothing was changed.")
    if "meta" not in tables:
        raise apsw.CorruptError("the table of the format version is missing")
    found = [str(row[0]) for row in connection.execute("SELECT value FROM meta WHERE name = 'format'")]
    if len(found) != 1 or not found[0].isdigit():
        raise apsw.CorruptError("the format version is missing")
    return int(found[0])


def migrate(connection: apsw.Connection, found: int, target: int | None = None) -> None:
    """Bring format `found` (0: empty) to `target` (the newest) inside the caller's transaction."""
    newest = len(MIGRATIONS) + 1 if target is None else target
    if found == 0:
        connection.execute(TABLES)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        found = 1
    for step in MIGRATIONS[found - 1 : newest - 1]:
        step(connection)
    connection.execute("INSERT OR REPLACE INTO meta(name, value) VALUES('format', ?)", (str(newest),))
    connection.execute(f"PRAGMA user_version = {newest}")


def format_in_header(page: bytes) -> int:
    """The format as the file's header (page 1) has it, for a file whose tables cannot be read."""
    found = int.from_bytes(page[60:64], "big")
    return found if 0 < found <= len(MIGRATIONS) + 1 else len(MIGRATIONS) + 1


def _tables(connection: apsw.Connection) -> set[str]:
    return {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def _definitions(connection: apsw.Connection) -> list[str]:
    return sorted(
        str(row[0])
        for row in connection.execute("SELECT type || name || tbl_name || sql FROM sqlite_schema WHERE sql IS NOT NULL")
    )


def _expected(format_version: int) -> list[str]:
    """The definitions that an undamaged store of this format has."""
    model = apsw.Connection(":memory:")
    for pragma in FILE_PRAGMAS:
        model.execute(f"PRAGMA {pragma}").fetchall()
    migrate(model, 0, format_version)
    return _definitions(model)
