"""The file operations of the message log, in one place so that tests can lose power, fill up and fail.

Everything raises OSError. Names are relative to the log's directory.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_FLAG_ERRNOS = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
KEPT = "damaged"  # where the remains of what could not be read are kept


class Disk:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._flag = getattr(os, "RWF_DSYNC", 0)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    def names(self) -> list[str]:
        return [entry.name for entry in os.scandir(self.directory) if entry.is_file(follow_symlinks=False)]

    def create(self, name: str, size: int) -> int:
        """A new file of zeros with all of its space reserved. Nothing is left of it when this fails."""
        path = self.directory / name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)
        except OSError:
            os.close(file)
            path.unlink()
            raise
        return file

    def open(self, name: str) -> int:
        return os.open(self.directory / name, os.O_RDWR | os.O_CLOEXEC)

    def write(self, file: int, data: bytes, at: int) -> None:
        """Returns when the bytes are on disk, in space that `create` reserved."""
        if self._flag:
            try:
                done = os.pwritev(file, [data], at, self._flag)
            except OSError as error:
                if error.errno not in _NO_FLAG_ERRNOS:
                    raise
                self._flag = done = 0
            if done == len(data):
                return
        else:
            done = 0
        while done < len(data):
            done += os.pwrite(file, data[done:], at + done)
        os.fdatasync(file)

    def read(self, file: int, at: int, length: int) -> bytes:
        return os.pread(file, length, at)

    def size(self, file: int) -> int:
        return os.fstat(file).st_size

    def truncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)

    def sync(self, file: int) -> None:
        os.fsync(file)

    def close(self, file: int) -> None:
        os.close(file)

    def delete(self, name: str) -> None:
        (self.directory / name).unlink(missing_ok=True)

    def rename(self, name: str, new: str) -> None:
        (self.directory / name).rename(self.directory / new)

    def sync_directory(self) -> None:
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def keep(self, name: str, data: bytes) -> Path:
        """Put remains aside. The first that were kept under a name stay."""
        place = self.directory / KEPT
        place.mkdir(exist_ok=True, mode=0o700)
        path = place / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(data)
        return path
