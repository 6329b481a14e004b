"""Blobs: large things outside the journal (images, function packages), one file each under one directory.

A blob is there whole or not at all: written under a side name, fsynced, renamed, and the directory fsynced, so that
"put returned" means "survives a power cut". A name is replaced in one step; readers of the old content keep it.
Side names begin with a dot and are swept at opening: they are what a crash left behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from minicloud.base.errors import InsufficientStorage, Internal, InvalidParameterValue, NotFound

NAME_BYTES_MAX = 200  # a file system allows 255; the rest is for the side name
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Blobs:
    """Bytes by name. Calls block (disk); run large ones in a thread. Safe for several threads, one process."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in directory.glob(".put-*"):
            left.unlink(missing_ok=True)

    def put(self, name: str, content: bytes | IO[bytes]) -> int:
        """Store bytes, or a file from its present position to its end; returns the size in bytes.

        Raises InvalidParameterValue (name), InsufficientStorage (nothing is stored), Internal (the disk failed),
        and ConnectionError or TimeoutError of the content's source.
        """
        path = self.path(name)
        try:
            return self._put(path, content)
        except (ConnectionError, TimeoutError):
            raise  # of the content's source, not of our disk
        except OSError as error:
            if error.errno in _FULL:
                raise InsufficientStorage() from error
            raise Internal(f"The blob {name} could not be stored: {error.strerror}") from error

    def get(self, name: str) -> bytes:
        """The whole content. Raises NotFound."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> IO[bytes]:
        """The content as a file to read; it stays readable when the name is replaced or deleted. Raises NotFound."""
        try:
            return self.path(name).open("rb")
        except FileNotFoundError:
            raise NotFound(f"There is no blob {name}.") from None

    def delete(self, name: str) -> bool:
        """Whether there was one."""
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            return False
        _sync(self.directory)
        return True

    def list(self) -> Iterator[tuple[str, int]]:
        """Names and sizes in bytes, in order of name."""
        for entry in sorted(os.scandir(self.directory), key=lambda entry: entry.name):
            if _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, entry.stat().st_size

    def path(self, name: str) -> Path:
        """Where a blob of that name lies or would lie. Raises InvalidParameterValue."""
        if not _NAME.fullmatch(name) or len(name) > NAME_BYTES_MAX:
            raise InvalidParameterValue(
                f"a blob's name has 1-{NAME_BYTES_MAX} letters, digits, dots, dashes and underscores", field="name"
            )
        return self.directory / name

    def _put(self, path: Path, content: bytes | IO[bytes]) -> int:
        descriptor, side = tempfile.mkstemp(prefix=".put-", dir=self.directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if isinstance(content, bytes):
                    file.write(content)
                else:
                    shutil.copyfileobj(content, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            os.replace(side, path)
        except BaseException:
            Path(side).unlink(missing_ok=True)
            raise
        _sync(self.directory)
        return size


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
