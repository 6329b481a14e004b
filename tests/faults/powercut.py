"""An apsw VFS that knows what a power cut would leave, and that fails on demand.

For every file it keeps what was synced, and the writes since then. `cut(directory)` writes the files as a power cut at
this moment could leave them: everything synced, and of the rest any part, in sectors of 512 bytes. Files deleted
without a sync of their directory may be back.

`script(op, file)` is called before each write, sync, truncate and delete; it may raise an apsw error to inject it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512
Script = Callable[[str, str], None]


class _File:
    """What is on the platter, and what is only in the cache: writes (offset, data) and truncations (size, None)."""

    def __init__(self, content: bytes) -> None:
        self.synced = bytearray(content)
        self.cached: list[tuple[int, bytes | None]] = []
        self.unnamed = False  # its directory does not durably have it yet

    def sync(self) -> None:
        for at, data in self.cached:
            _put(self.synced, at, data)
        self.cached.clear()

    def survivors(self, rand: random.Random) -> bytes:
        """One state that a cut may leave. The whole cache lost or kept are states too."""
        image, keep = bytearray(self.synced), rand.choice((0.0, 0.3, 0.7, 1.0))
        for at, data in self.cached:
            if data is None:
                if rand.random() < keep:
                    _put(image, at, None)
                continue
            for start in range(0, len(data), SECTOR):
                if rand.random() < keep:
                    _put(image, at + start, data[start : start + SECTOR])
        return bytes(image)


def _put(image: bytearray, at: int, data: bytes | None) -> None:
    if data is None:
        del image[at:]
        image.extend(bytes(at - len(image)))
        return
    image.extend(bytes(max(at - len(image), 0)))
    image[at : at + len(data)] = data


class PowerVfs(apsw.VFS):
    """Register under a name, open the journal with `vfs=name`, and `cut` whenever the light goes out."""

    def __init__(self, name: str, script: Script | None = None) -> None:
        self.script: Script = script or (lambda op, file: None)
        self.files: dict[str, _File] = {}
        self.deleted: dict[str, _File] = {}
        self.syncs = 0
        self.name = name
        super().__init__(name, "", maxpathname=1024)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _Handle(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self.script("delete", Path(filename).name)
        super().xDelete(filename, syncdir)
        file = self.files.pop(filename, None)
        if file is not None and not file.unnamed:
            self.deleted[filename] = file
        if syncdir:
            self.sync_directory()

    def excepthook(self, kind: Any, error: Any, trace: Any) -> bool:
        """Injected errors are meant, so nothing is printed; SQLite gets their code."""
        return True

    def sync_directory(self) -> None:
        self.deleted.clear()
        for file in self.files.values():
            file.unnamed = False

    def cut(self, directory: Path, rand: random.Random) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for filename, file in self.files.items():
            if file.unnamed and rand.random() < 0.5:
                continue
            (directory / Path(filename).name).write_bytes(file.survivors(rand))
        for filename, file in self.deleted.items():
            if filename not in self.files and rand.random() < 0.5:
                (directory / Path(filename).name).write_bytes(bytes(file.synced))


class _Handle(apsw.VFSFile):
    def __init__(self, vfs: PowerVfs, name: Any, flags: list[int]) -> None:
        self.vfs = vfs
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        path = Path(self.path)
        if self.path not in vfs.files:
            vfs.files[self.path] = _File(path.read_bytes() if path.exists() else b"")
            vfs.files[self.path].unnamed = not path.exists()
        self.file = vfs.files[self.path]
        super().__init__("", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:
        self.vfs.script("write", Path(self.path).name)
        super().xWrite(data, offset)
        self.file.cached.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self.vfs.script("truncate", Path(self.path).name)
        super().xTruncate(size)
        self.file.cached.append((size, None))

    def xSync(self, flags: int) -> None:
        self.vfs.script("sync", Path(self.path).name)
        self.file.sync()  # the disk of these tests is this object: no fsync of the real one
        if self.file.unnamed:
            self.vfs.sync_directory()
        self.vfs.syncs += 1


def io_error(code: int) -> apsw.IOError:
    """An I/O error with an extended result code, to raise from a script."""
    error = apsw.IOError(f"injected {code}")
    vars(error).update(result=code & 0xFF, extendedresult=code)
    return error
