"""Repairing a damaged store: what can be proven right goes into a fresh file, the damaged one is kept aside.

Nothing is ever deleted because it could not be read. After a repair, next to `state.db`:

    state.db.damaged-<n>, -wal      the file and its log as they were found

The repair can be cut off at any point. The fresh file is built under a side name; once complete and on disk it is
renamed to `state.db.repaired`, and from then on `install` (which runs at every opening) finishes the exchange.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import apsw

from minicloud.base.errors import InsufficientStorage
from minicloud.store import schema
from minicloud.store.pages import MAGIC, Harvest, Image, harvest, read_log
from minicloud.store.rows import Damage, text_of

log = logging.getLogger(__name__)

_INSERT = (
    "INSERT OR IGNORE INTO entity(kind, key, body, crc, version) VALUES(CAST(? AS TEXT), CAST(? AS TEXT), ?, ?, ?)"
)
_QUARANTINE = (
    "INSERT INTO quarantine(kind, key, body, crc, version, reason, found_at) VALUES(?,?,?,?,?,?, unixepoch('subsec'))"
)
# The old epoch may be unreadable. Any owner's epoch is far below the time of day, so this one is new.
_LEASE = "INSERT INTO lease(name, owner, epoch, acquired_at) VALUES('journal', '', unixepoch(), unixepoch('subsec'))"


def salvage(path: Path, why: str) -> list[Damage]:
    """Exchange a damaged file for a fresh one with every readable row; says what was found.

    Raises StoreRefused where the file never was a store, InsufficientStorage where the fresh one has no room; both
    leave everything as it was.
    """
    log.error("%s is damaged (%s): reading out what is whole", path, why)
    fresh = _side(path, ".fresh")
    for name in (fresh, _side(path, ".fresh-journal")):
        name.unlink(missing_ok=True)
    image, met = Image(path), Harvest()
    try:
        kept = _fill(fresh, image, met)
        if not kept and image.page(1)[:16] != MAGIC:
            raise schema.StoreRefused(f"{path.name} is not a minicloud store. Nothing was changed.")
    except apsw.FullError as error:
        raise InsufficientStorage(f"{path.name} is damaged, and its repair needs free space on the disk.") from error
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    finally:
        image.close()
    _sync(fresh)
    os.replace(fresh, _side(path, ".repaired"))
    _sync(path.parent)
    aside = install(path)
    return list(_report(path, aside, why, kept, met))


def install(path: Path) -> str:
    """Finish an exchange that was begun, if one was; returns the name of the file that was put aside."""
    repaired = _side(path, ".repaired")
    if not repaired.exists():
        return ""
    aside = next(side for n in itertools.count(1) if not (side := _side(path, f".damaged-{n}")).exists())
    # The log first: a fresh file beside an old log would be read together with it.
    _move(_side(path, "-wal"), _side(aside, "-wal"))
    _side(path, "-shm").unlink(missing_ok=True)
    _move(path, aside)
    _sync(path.parent)
    os.replace(repaired, path)
    _sync(path.parent)
    return aside.name


def check_log(path: Path) -> list[Damage]:
    """Whether SQLite will take in the whole log; where acknowledged transactions are cut off, `salvage`.

    SQLite reads a log up to the first frame with a wrong checksum. Every transaction is on disk before the next one
    begins, so only the last may be cut off by a power failure; more than one means that the log is damaged.
    """
    log_path = _side(path, "-wal")
    found = read_log(log_path)
    cut_off = sum(commit > found.whole for commit in found.commits)
    if not cut_off or read_log(log_path) != found:  # a log that changes has a live owner, who will be fenced
        return []
    if cut_off > 1:
        return salvage(path, f"the log is damaged: {cut_off} transactions in it cannot be reached")
    aside = next(side for n in itertools.count(1) if not (side := _side(path, f".damaged-{n}-wal")).exists())
    shutil.copyfile(log_path, aside)
    reason = "the last transaction of the log is not whole: the power failed before it was acknowledged, or it rotted"
    log.warning("%s: %s", path, reason)
    return [Damage("", "", reason, aside.name)]


def _fill(fresh: Path, image: Image, met: Harvest) -> int:
    """Write the fresh file; returns how many rows it got."""
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(str(fresh))
    try:
        for pragma in schema.FILE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()
        with connection:
            # Rows are in the layout of the format that they were written in; opening migrates them as ever.
            schema.migrate(connection, 0, schema.format_in_header(image.page(1)))
            connection.execute(_LEASE)
            connection.executemany(_INSERT, harvest(image, met))
            connection.executemany(_QUARANTINE, ((*row, why) for row, why in met.flawed))
        return int(connection.execute("SELECT count(*) FROM entity").get)
    finally:
        connection.close()


def _report(path: Path, aside: str, why: str, kept: int, met: Harvest) -> Iterable[Damage]:
    pages = f", pages {', '.join(map(str, met.bad_pages[:20]))}" if met.bad_pages else ""
    yield Damage("", "", f"{why}{pages}; {kept} records were read out of it into a fresh file", aside)
    for row, reason in met.flawed:
        yield Damage(text_of(row.kind), text_of(row.key), reason, f"{path.name}, table quarantine")


def _side(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _move(source: Path, target: Path) -> None:
    if source.exists():
        os.replace(source, target)


def _sync(path: Path) -> None:
    """Make a file's content, or a directory's names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
