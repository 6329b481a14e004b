"""A disk for the message log that knows what a power cut would leave, and that fails on demand.

For every file it keeps what was synced, and the writes since then. `cut(directory)` writes the files as a power cut at
this moment could leave them: everything synced, and of the rest any part, in sectors of 512 bytes. Files made without
a sync of their directory may be missing, files deleted without one may be back.

`script(op, name)` is called before each create, write, sync, truncate and delete; it may raise OSError to inject it.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from minicloud.store.log_disk import Disk
from minicloud.store.log_fence import NAME

SECTOR = 512
Script = Callable[[str, str], None]


class FastDisk(Disk):
    """Syncs nothing: for tests in which no power is lost."""

    def write(self, file: int, data: bytes, at: int) -> None:
        os.pwrite(file, data, at)

    def sync(self, file: int) -> None:
        pass

    def sync_directory(self) -> None:
        pass


class _File:
    """What is on the platter, and what is only in the cache: writes (offset, data) and sizes (size, None)."""

    def __init__(self) -> None:
        self.synced = bytearray()
        self.cached: list[tuple[int, bytes | None]] = []
        self.unnamed = True  # its directory does not durably have it yet

    def sync(self) -> None:
        for at, data in self.cached:
            _put(self.synced, at, data)
        self.cached.clear()

    def survivors(self, rand: random.Random) -> bytes:
        """One state that a cut may leave. The whole cache lost or kept are states too."""
        image, keep = bytearray(self.synced), rand.choice((0.0, 0.3, 0.7, 0.95, 1.0))
        for at, data in self.cached:
            if data is None:
                if rand.random() < keep:
                    _put(image, at, None)
                continue
            start = at
            while start < at + len(data):
                stop = min((start // SECTOR + 1) * SECTOR, at + len(data))
                if rand.random() < keep:
                    _put(image, start, data[start - at : stop - at])
                start = stop
        return bytes(image)


def _put(image: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del image[at:]
        image.extend(bytes(at - len(image)))
        return
    image.extend(bytes(max(at - len(image), 0)))
    image[at : at + len(data)] = data


class PowerDisk(FastDisk):
    """Give it to FileLog.open, and `cut` whenever the light goes out."""

    def __init__(self, directory: Path, script: Script | None = None, *, lies: bool = False) -> None:
        """`lies`: a write returns before it is on the platter."""
        super().__init__(directory)
        self.script: Script = script or (lambda op, name: None)
        self.lies = lies
        self.files: dict[str, _File] = {}
        self.deleted: dict[str, _File] = {}
        self._names: dict[int, str] = {}

    def create(self, name: str, size: int) -> int:
        self.script("create", name)
        file = super().create(name, size)
        self._names[file] = name
        self.files[name] = _File()
        self.files[name].cached.append((size, None))
        return file

    def open(self, name: str) -> int:
        file = super().open(name)
        self._names[file] = name
        return file

    def write(self, file: int, data: bytes, at: int) -> None:
        name = self._names[file]
        self.script("write", name)
        super().write(file, data, at)
        self.files[name].cached.append((at, data))
        if not self.lies:
            self.sync(file)

    def truncate(self, file: int, size: int) -> None:
        self.script("truncate", self._names[file])
        super().truncate(file, size)
        self.files[self._names[file]].cached.append((size, None))

    def sync(self, file: int) -> None:
        self.script("sync", self._names[file])
        self.files[self._names[file]].sync()

    def delete(self, name: str) -> None:
        self.script("delete", name)
        super().delete(name)
        file = self.files.pop(name)
        if not file.unnamed:
            self.deleted[name] = file

    def sync_directory(self) -> None:
        self.script("sync", ".")
        self.deleted.clear()
        for file in self.files.values():
            file.unnamed = False

    def cut(self, directory: Path, rand: random.Random) -> None:
        directory.mkdir(parents=True)
        shutil.copy(self.directory / NAME, directory / NAME)
        for name, file in self.files.items():
            if not file.unnamed or rand.random() < 0.5:
                (directory / name).write_bytes(file.survivors(rand))
        for name, file in self.deleted.items():
            if rand.random() < 0.5:
                (directory / name).write_bytes(file.survivors(rand))
