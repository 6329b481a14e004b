"""Who may write to a message log: the EPOCH file, one sector that every new owner overwrites.

A new owner first writes its own line (a higher epoch, a random token) and only then looks at the segments. The owner
before it compares the line with its own after every sync and before it tells anybody. So what it wrote was either
there when the new owner looked, or is never acknowledged; however long it slept, and without any lock.

The file is mapped: a look costs no system call, so no hand-over of Python's lock to a busy event loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import time
from pathlib import Path
from typing import Any

from minicloud.store.log_format import FORMAT, line, parse_line

NAME = "EPOCH"
LINE_BYTES = 512
LOCK_S = 1.0  # a frozen process may hold the lock; the token keeps two owners apart even then
IN_PLACE_S = 1.0
OWNER_CHARS_MAX = 100


class Fence:
    """Taken at once. `floor` is (epoch, salt) as the segments know them, for a file that is damaged or gone."""

    def __init__(self, directory: Path, owner: str, floor: tuple[int, int | None]) -> None:
        self.path = directory / NAME
        self.was_damaged = False
        self._looked = time.monotonic()
        new = not self.path.exists()
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            fields = self._next(os.pread(file, LINE_BYTES, 0), owner, floor)
            self.epoch: int = fields["epoch"]
            self.salt: int = fields["salt"]
            self._line = line(fields, LINE_BYTES)
            os.pwrite(file, self._line, 0)
            os.fsync(file)
            if new:
                _sync_directory(directory)
            self._inode = os.fstat(file).st_ino
            self._map = mmap.mmap(file, LINE_BYTES, access=mmap.ACCESS_READ)
        finally:
            _unlock(file)  # closing is not enough: the map has a copy of the file
            os.close(file)

    def held(self) -> bool:
        """Whether this still is the owner."""
        return self._map[:LINE_BYTES] == self._line

    def in_place(self) -> bool:
        """As `held`, and now and then whether the file is still the one under its name: an `rm` may have been there."""
        now = time.monotonic()
        if now - self._looked >= IN_PLACE_S:
            self._looked = now
            try:
                if os.stat(self.path).st_ino != self._inode:
                    return False
            except OSError:
                return False
        return self.held()

    def close(self) -> None:
        self._map.close()

    def _next(self, found: bytes, owner: str, floor: tuple[int, int | None]) -> dict[str, Any]:
        before = parse_line(found, NAME)
        if before is not None:
            epoch, salt = max(before["epoch"], floor[0]), before["salt"]
        else:
            epoch, salt = floor
            self.was_damaged = bool(found) or epoch > 0
        return {
            "format": FORMAT,
            "epoch": epoch + 1,
            "salt": secrets.randbits(32) if salt is None else salt,
            "token": secrets.token_hex(8),
            "owner": owner.encode("ascii", "replace").decode()[:OWNER_CHARS_MAX],
        }


def _lock(file: int) -> None:
    """Two owners that open at the same moment take turns, where the file system can lock."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return
            time.sleep(0.01)
        except OSError:
            return
        else:
            return


def _unlock(file: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)


def _sync_directory(directory: Path) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
