"""Tar streams: pack a file or directory of the guest, unpack one under a directory. Runs in a child of init.

    unpack refuses   absolute names, '..', NUL, devices and pipes; links keep their targets
    unpack never     follows a link that is in the way: it is replaced, as every file is; directories are merged

Every step goes by directory descriptor (openat, O_NOFOLLOW), so a name cannot leave the directory by way of a symbolic
link that was unpacked a moment ago. Modes and modification times are kept, owners are not: a guest has one user.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterator

BLOCK_BYTES = 256 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Refused(Exception):
    """Not possible; `code` is a class name of minicloud.base.errors."""

    def __init__(self, code: str, message: str, field: str = "path") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


def unpack(fd: int, path: str) -> dict[str, int]:
    """Unpack the uncompressed tar on `fd` under the directory `path`; how many files and bytes. Raises Refused."""
    try:
        base = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused("NotFound", f"no directory '{path}' in the guest") from None
    except NotADirectoryError:
        raise Refused("InvalidParameterValue", f"'{path}' is not a directory") from None
    except OSError as error:
        raise Refused("InvalidParameterValue", f"'{path}': {error.strerror}") from None
    try:
        with open(fd, "rb", BLOCK_BYTES, closefd=False) as stream:
            result = _Unpacking(base).run(stream)
            while stream.read(BLOCK_BYTES):  # padding after the end mark
                pass
            return result
    except tarfile.TarError as error:
        raise Refused("InvalidParameterValue", f"not a tar stream: {error}", "chunk") from None
    except OSError as error:
        if error.errno in _FULL:
            raise Refused("InsufficientStorage", "the disk of the guest is full") from None
        raise Refused("Conflict", f"'{error.filename or path}': {error.strerror}") from None
    finally:
        os.close(base)


class _Unpacking:
    def __init__(self, base: int) -> None:
        self._base = base
        self._files = 0
        self._bytes = 0
        self._directories: list[tuple[list[str], tarfile.TarInfo]] = []

    def run(self, stream: object) -> dict[str, int]:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=BLOCK_BYTES) as tar:  # type: ignore[call-overload]
            for member in tar:
                self._unpack(tar, member)
        for parts, member in reversed(self._directories):  # now that nothing more is written below them
            self._finish_directory(parts, member)
        return {"files": self._files, "bytes": self._bytes}

    def _unpack(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise Refused("InvalidParameterValue", f"'{member.name}' is a device or pipe", "chunk")
        if not parts:
            if not member.isdir():
                raise Refused("InvalidParameterValue", f"'{member.name}' is not the name of a file", "chunk")
            return
        parent = self._open(parts[:-1])
        try:
            if member.isdir():
                self._enter(parent, parts[-1])
                self._directories.append((parts, member))
            else:
                self._place(tar, member, parent, parts[-1])
        finally:
            os.close(parent)

    def _place(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        _clear(parent, name)
        self._files += 1
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            self._link(member, parent, name)
        else:
            self._bytes += _write(tar, member, parent, name)

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = _parts(member.linkname)
        if not target:
            raise Refused("InvalidParameterValue", f"'{member.name}' is a link to nothing", "chunk")
        directory = self._open(target[:-1])
        try:
            os.link(target[-1], name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _open(self, parts: list[str]) -> int:
        """A descriptor of the directory, made where it is missing."""
        current = os.dup(self._base)
        for part in parts:
            try:
                self._enter(current, part)
                below = os.open(part, _DIRECTORY, dir_fd=current)
            finally:
                os.close(current)
            current = below
        return current

    def _enter(self, parent: int, name: str) -> None:
        """A directory of this name, and not a link to one, is there."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                _clear(parent, name)
                os.mkdir(name, 0o755, dir_fd=parent)

    def _finish_directory(self, parts: list[str], member: tarfile.TarInfo) -> None:
        directory = self._open(parts)
        try:
            os.fchmod(directory, member.mode & 0o7777)
            os.utime(directory, (member.mtime, member.mtime))
        finally:
            os.close(directory)


def _parts(name: str) -> list[str]:
    if name.startswith("/") or "\0" in name:
        raise Refused("InvalidParameterValue", f"the name '{name}' is absolute", "chunk")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("InvalidParameterValue", f"the name '{name}' leaves the directory", "chunk")
    return parts


def _clear(parent: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise Refused("Conflict", f"'{name}' is a directory in the guest") from None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> int:
    source = tar.extractfile(member)
    if source is None:
        raise Refused("InvalidParameterValue", f"'{member.name}' has no content", "chunk")
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        for block in _blocks(source):
            view = memoryview(block)
            while view:
                view = view[os.write(fd, view) :]
        os.fchmod(fd, member.mode & 0o7777)
        os.utime(fd, (member.mtime, member.mtime))
    finally:
        os.close(fd)
    return member.size


def _blocks(source: object) -> Iterator[bytes]:
    read = source.read  # type: ignore[attr-defined]
    while block := read(BLOCK_BYTES):
        yield block


def pack(path: str, fd: int) -> dict[str, int]:
    """Write a tar of the file or directory to `fd`, its name the last part of `path`. Raises Refused."""
    try:
        real = os.path.realpath(path, strict=True)
    except FileNotFoundError:
        raise Refused("NotFound", f"no file or directory '{path}' in the guest") from None
    except OSError as error:
        raise Refused("InvalidParameterValue", f"'{path}': {error.strerror}") from None
    mode = os.stat(real).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise Refused("InvalidParameterValue", f"'{path}' is neither a file nor a directory")
    packing = _Packing()
    try:
        with (
            open(fd, "wb", BLOCK_BYTES, closefd=False) as stream,
            tarfile.open(fileobj=stream, mode="w|", bufsize=BLOCK_BYTES, format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(real, os.path.basename(os.path.normpath(path)) or ".", filter=packing.see)
    except OSError as error:
        raise Refused("Conflict", f"'{error.filename or path}': {error.strerror or error}") from None
    return {"files": packing.files, "bytes": packing.bytes}


class _Packing:
    """Counts, and leaves out what no other machine could take: devices and pipes (tarfile leaves out sockets)."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0

    def see(self, member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.isdev():
            return None
        if not member.isdir():
            self.files += 1
            self.bytes += member.size
        return member
