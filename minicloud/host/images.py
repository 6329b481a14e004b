"""Images on a host: from tar to a guest's disk, and from a disk to a tar.

Where host and control plane share a disk (`shared`), the tars under <data>/images are read and written in place. Else
they are fetched into a cache (FetchImage) and sent back (StoreImage); fetches of one image are shared, and the cache
keeps the CACHED_IMAGES_MAX used last.

A tar may come from any user. Nothing of it lands outside the disk, whatever its names and links say; devices and FIFOs
are refused. What is inside keeps its owner and mode: only guests, behind their sandbox, run it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import IO, Protocol

from minicloud.base.errors import Conflict, InvalidParameterValue, LimitExceeded, NotFound
from minicloud.base.limits import IMAGE_BYTES_MAX, STREAM_CHUNK_BYTES_MAX

CACHED_IMAGES_MAX = 16


class ImageLine(Protocol):
    """How image bytes travel between this host and the control plane."""

    def fetch(self, image_id: str) -> AsyncIterator[bytes]: ...

    async def store(self, image_id: str, chunks: AsyncIterator[bytes]) -> int:
        """Returns the bytes stored there."""
        ...


class Images:
    """`folder`: the shared images, or this host's cache. `line` None: the folder is shared with the control plane."""

    def __init__(self, folder: Path, line: ImageLine | None) -> None:
        self._folder = folder
        self._line = line
        self._fetching: dict[str, asyncio.Task[Path]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def unpack(self, image_id: str, root: Path, cancelled: threading.Event) -> None:
        """Fill the empty directory `root` from the image. Whole or not at all.

        Raises NotFound, InvalidParameterValue (an unsafe or damaged tar), LimitExceeded, Conflict (cancelled), OSError.
        """
        tar = await self._tar(image_id)
        await asyncio.to_thread(_unpack, tar, root, cancelled)

    async def pack(self, root: Path, image_id: str, thaw: Callable[[], Awaitable[None]]) -> int:
        """Make the image from a disk; returns the size of the tar in bytes. `thaw` is awaited once the disk is read.

        Raises LimitExceeded (larger than an image may be), OSError.
        """
        tar = self._path(image_id)
        try:
            size = await asyncio.to_thread(_pack, root, tar)
        finally:
            await thaw()
        if self._line is not None:
            try:
                await self._line.store(image_id, _read_chunks(tar))
            finally:
                tar.unlink(missing_ok=True)
        return size

    async def _tar(self, image_id: str) -> Path:
        path = self._path(image_id)
        if path.exists():
            await asyncio.to_thread(os.utime, path)
            return path
        if self._line is None:
            raise NotFound(f"image {image_id} has no content on this host", code="InvalidAMIID.NotFound")
        task = self._fetching.get(image_id)
        if task is None:
            task = asyncio.ensure_future(self._fetch(self._line, image_id, path))
            self._fetching[image_id] = task
            task.add_done_callback(lambda _: self._fetching.pop(image_id, None))
        return await asyncio.shield(task)

    async def _fetch(self, line: ImageLine, image_id: str, path: Path) -> Path:
        await asyncio.to_thread(self._make_room)
        scratch = path.with_suffix(".part")
        size = 0
        try:
            with scratch.open("wb") as file:
                async for chunk in line.fetch(image_id):
                    size += len(chunk)
                    if size > IMAGE_BYTES_MAX:
                        raise LimitExceeded(f"image {image_id} is larger than {IMAGE_BYTES_MAX} bytes")
                    await asyncio.to_thread(file.write, chunk)
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)
        return path

    def _make_room(self) -> None:
        tars = sorted(self._folder.glob("*.tar"), key=lambda tar: tar.stat().st_mtime)
        for tar in tars[: max(0, len(tars) - CACHED_IMAGES_MAX + 1)]:
            tar.unlink(missing_ok=True)

    def _path(self, image_id: str) -> Path:
        if "/" in image_id or not image_id.startswith("ami-"):
            raise InvalidParameterValue(f"not an image id: {image_id[:64]!r}", field="image_id")
        return self._folder / f"{image_id}.tar"


async def _read_chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, STREAM_CHUNK_BYTES_MAX):
            yield chunk


# ---------------------------------------------------------------- tar to disk


def _unpack(tar: Path, root: Path, cancelled: threading.Event) -> None:
    """Into a sibling first: a disk is either whole or absent."""
    scratch = root.with_name(root.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o755, parents=True)
    try:
        with tarfile.open(tar) as archive:
            for member in archive:
                if cancelled.is_set():
                    raise Conflict("the launch was ended while its disk was made")
                archive.extract(member, scratch, filter=_safe)
        root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if root.exists():
            root.rmdir()
        scratch.rename(root)
    except (tarfile.TarError, EOFError) as error:
        raise InvalidParameterValue(f"the image cannot be unpacked: {error}", field="image_id") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _safe(member: tarfile.TarInfo, destination: str) -> tarfile.TarInfo:
    """Names and links stay inside (tarfile's own check); owner and mode are kept; no devices, no FIFOs."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.SpecialFileError(member)
    tarfile.tar_filter(member, destination)
    return member.replace(name=member.name.lstrip("/") or ".", deep=False)


# ---------------------------------------------------------------- disk to tar


def _pack(root: Path, tar: Path) -> int:
    """The tar appears under its name only when it is whole and on disk."""
    scratch = tar.with_suffix(".packing")  # not `.part`: that is the control plane's, which may start just now
    try:
        with scratch.open("wb") as raw:
            with tarfile.open(fileobj=_Bounded(raw), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                _add_tree(archive, root)
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(scratch, tar)
        folder = os.open(tar.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        scratch.unlink(missing_ok=True)
    return tar.stat().st_size


def _add_tree(archive: tarfile.TarFile, root: Path) -> None:
    """By directory descriptors, never by path: a running guest may swap a directory for a link to the host's files."""
    for folder, folders, files, fd in os.fwalk(root, follow_symlinks=False):
        folders.sort()
        inside = os.path.relpath(folder, root)
        for name in sorted(files) + folders:
            with contextlib.suppress(FileNotFoundError):
                _add(archive, os.path.normpath(os.path.join(inside, name)), name, fd)


def _add(archive: tarfile.TarFile, inside: str, name: str, fd: int) -> None:
    """One entry. What vanishes meanwhile is left out, what shrinks is filled with zeros (the guest may be running)."""
    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    if stat.S_ISREG(status.st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(name, flags, dir_fd=fd), "rb") as content:
            member = archive.gettarinfo(arcname=inside, fileobj=content)
            if member.isreg():  # it may have been swapped since the stat
                archive.addfile(member, _Padded(content))
            elif member.islnk():
                archive.addfile(member)
        return
    member = tarfile.TarInfo(inside)
    member.mode, member.mtime = stat.S_IMODE(status.st_mode), status.st_mtime
    member.uid, member.gid = status.st_uid, status.st_gid
    if stat.S_ISDIR(status.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=fd)
    else:
        return  # a socket, a device, a FIFO: they belong to processes, not to disks
    archive.addfile(member)


class _Padded(io.RawIOBase):
    """Reads as many bytes as it is asked for, zeros where the file has ended."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        return data + b"\0" * (size - len(data))


class _Bounded(io.RawIOBase):
    """Refuses to grow over what an image may be."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]
        self._bytes += view.nbytes
        if self._bytes > IMAGE_BYTES_MAX:
            raise LimitExceeded(f"an image can have at most {IMAGE_BYTES_MAX} bytes")
        return self._file.write(view)
