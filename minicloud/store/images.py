"""The tars of images, one file per image id under one directory. Implements compute's port ImageStore.

A tar arrives as a stream into a temporary file, is checked whole, and only then takes its name (fsync, rename, fsync of
the directory). So a half-received image is never an image.

Checked: it is a tar (plain or gzip), and every member is a plain file, directory or link with a relative name that
does not leave the root. Where links point is checked again where it is unpacked (minicloud.host.images).
"""

from __future__ import annotations

import asyncio
import errno
import os
import tarfile
from collections.abc import AsyncIterator, Collection
from pathlib import Path, PurePosixPath

from minicloud.base.errors import CloudError, InsufficientStorage, Internal, InvalidParameterValue, LimitExceeded
from minicloud.base.limits import IMAGE_BYTES_MAX

MEMBERS_MAX = 1_000_000  # ours: an image of more files than that is refused


class ImageFiles:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in folder.glob("*.part"):  # of a store that a crash cut short
            part.unlink(missing_ok=True)

    def path(self, image_id: str) -> Path:
        return self._folder / f"{image_id}.tar"

    async def store(self, image_id: str, chunks: AsyncIterator[bytes]) -> int:
        """Whole or not at all; the size in bytes. Raises InvalidParameterValue, LimitExceeded, InsufficientStorage."""
        part = self._folder / f"{image_id}.part"
        try:
            size = await self._receive(part, chunks)
            await asyncio.to_thread(check, part)
            await asyncio.to_thread(self._settle, part, self.path(image_id))
        except BaseException as error:
            part.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _typed(error) from None
            raise
        return size

    def keep(self, image_ids: Collection[str]) -> list[str]:
        """Delete the files of every other image; returns their names. For a start, before anybody stores here."""
        strays = [path for path in self._folder.glob("ami-*") if path.stem not in image_ids]
        for path in strays:
            path.unlink(missing_ok=True)
        return [path.name for path in strays]

    async def delete(self, image_id: str) -> None:
        await asyncio.to_thread(self.path(image_id).unlink, True)

    async def _receive(self, part: Path, chunks: AsyncIterator[bytes]) -> int:
        size = 0
        with part.open("wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > IMAGE_BYTES_MAX:
                    raise LimitExceeded(f"an image has at most {IMAGE_BYTES_MAX} bytes", field="chunk")
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_sync, file.fileno())
        return size

    def _settle(self, part: Path, path: Path) -> None:
        part.rename(path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def check(path: Path) -> None:
    """Raises InvalidParameterValue naming the first member that is not allowed, LimitExceeded."""
    size = 0
    try:
        with tarfile.open(path) as archive:
            for count, member in enumerate(archive, 1):
                if count > MEMBERS_MAX:
                    raise LimitExceeded(f"an image has at most {MEMBERS_MAX} files", field="chunk")
                size += member.size
                if size > IMAGE_BYTES_MAX:  # gzip and holes make a thousand times of what was sent
                    raise LimitExceeded(f"the files of an image have at most {IMAGE_BYTES_MAX} bytes", field="chunk")
                _check_member(member)
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps them all otherwise
    except (tarfile.TarError, EOFError) as error:
        raise InvalidParameterValue(f"the image is not a readable tar: {error}", field="chunk") from None


def _check_member(member: tarfile.TarInfo) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise InvalidParameterValue(f"the tar has a name that leaves its root: '{member.name[:200]}'", field="chunk")
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise InvalidParameterValue(
            f"'{member.name[:200]}' is a device or a pipe; an image has files, directories and links", field="chunk"
        )


def _typed(error: OSError) -> CloudError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientStorage()
    return Internal(f"the image could not be stored: {error.strerror}")
