"""Console logs of guests: one append-only file each, bounded by the agent, read by offset.

A guest's init writes to its console file with O_APPEND and knows of no bound. Whoever `keep`s the console (the agent)
gives the head of the file back to the file system once CONSOLE_BYTES_MAX + TRIM_BYTES are kept, by punching a hole: the
writer notices nothing, and offsets stay true for readers, who never look before `size - CONSOLE_BYTES_MAX`. Where the
file system cannot punch holes the file is emptied at twice the bound, and readers begin anew. While no agent runs
nothing trims; the next one does, at once.

All of it is driven by inotify: no reader and no trimmer looks at a file that has not changed.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from minicloud.base.errors import NotFound
from minicloud.base.limits import CONSOLE_BYTES_MAX, STREAM_CHUNK_BYTES_MAX
from minicloud.host.notify import MODIFY, Notify, Watch

log = logging.getLogger("minicloud.host")

TRIM_BYTES = 1024 * 1024
BATCH_S = 0.02
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class _Console:
    """One file, while somebody keeps or follows it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept = False
        self.ended = False
        self.trimmed = 0
        self.watch: Watch | None = None
        self.followers: set[asyncio.Event] = set()

    def wake(self) -> None:
        for event in self.followers:
            event.set()


class Consoles:
    """Every console of a host. Needs a running event loop; close it."""

    def __init__(self) -> None:
        self._notify = Notify(BATCH_S)
        self._consoles: dict[Path, _Console] = {}

    def close(self) -> None:
        for path in list(self._consoles):
            self.end(path)
        self._notify.close()

    def keep(self, path: Path) -> None:
        """Bound this file from now on. Makes it where it is missing. Raises OSError."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        console = self._watched(path)
        console.kept = True
        self._changed(console)

    def end(self, path: Path) -> None:
        """The guest is gone: nothing more will be written. Followers get the rest, then end. Idempotent."""
        console = self._consoles.pop(path, None)
        if console is None:
            return
        console.ended = True
        if console.watch is not None:
            console.watch.close()
        console.wake()

    def tail(self, path: Path, size: int) -> bytes:
        """The last `size` bytes that are kept. Raises NotFound."""
        fd = _open(path)
        try:
            end = os.fstat(fd).st_size
            start = max(end - min(size, CONSOLE_BYTES_MAX), 0)
            return os.pread(fd, end - start, start)
        finally:
            os.close(fd)

    async def read(self, path: Path, tail_bytes: int = 0, follow: bool = False) -> AsyncGenerator[bytes, None]:
        """Chunks of what is kept (its last `tail_bytes`, 0: all), and with `follow` of what comes. Raises NotFound."""
        fd = _open(path)
        offset = max(os.fstat(fd).st_size - min(tail_bytes or CONSOLE_BYTES_MAX, CONSOLE_BYTES_MAX), 0)
        async with aclosing(self._read(path, fd, offset, (STREAM_CHUNK_BYTES_MAX, follow))) as chunks:
            async for _, chunk in chunks:
                yield chunk

    async def read_from(self, path: Path, offset: int, size: int) -> AsyncGenerator[tuple[int, bytes], None]:
        """Chunks of up to `size` bytes from an offset on, and what comes: where each begins, which is later than where
        the one before ended if that is not kept any more; at the start again if the file was emptied. Raises NotFound.
        """
        async with aclosing(self._read(path, _open(path), offset, (size, True))) as chunks:
            async for found in chunks:
                yield found

    async def _read(
        self, path: Path, fd: int, offset: int, how: tuple[int, bool]
    ) -> AsyncGenerator[tuple[int, bytes], None]:
        """How: the largest chunk, and whether to follow. Closes `fd`."""
        size, follow = how
        console = self._watched(path) if follow else None
        event = asyncio.Event()
        try:
            if console is not None:
                console.followers.add(event)
            while True:
                event.clear()
                ended = console is None or console.ended
                while True:
                    chunk, offset = _next(fd, offset, size)
                    if not chunk:
                        break
                    yield offset - len(chunk), chunk
                if ended:
                    return
                await event.wait()
        finally:
            os.close(fd)
            if console is not None:
                self._left(console, event)

    def _watched(self, path: Path) -> _Console:
        console = self._consoles.get(path)
        if console is None:
            console = _Console(path)
            console.watch = self._notify.watch(path, MODIFY, lambda: self._changed(console))
            self._consoles[path] = console
        return console

    def _left(self, console: _Console, event: asyncio.Event) -> None:
        console.followers.discard(event)
        if not console.followers and not console.kept and not console.ended:
            self.end(console.path)

    def _changed(self, console: _Console) -> None:
        if console.kept:
            try:
                _trim(console)
            except OSError as error:
                log.warning("console %s cannot be bounded: %s", console.path, error)
        console.wake()


def _next(fd: int, offset: int, most: int) -> tuple[bytes, int]:
    """What is kept at `offset` or after, and where that ends; b'' at the present end."""
    size = os.fstat(fd).st_size
    if offset > size:  # it was emptied
        offset = 0
    offset = max(offset, size - CONSOLE_BYTES_MAX)
    chunk = os.pread(fd, most, offset)
    return chunk, offset + len(chunk)


def _trim(console: _Console) -> None:
    size = os.stat(console.path).st_size
    if size < console.trimmed:
        console.trimmed = 0
    surplus = size - CONSOLE_BYTES_MAX
    if surplus - console.trimmed < TRIM_BYTES:
        return
    fd = os.open(console.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, 0, surplus) == 0:
            console.trimmed = surplus
            return
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(number, os.strerror(number))
        if size >= 2 * CONSOLE_BYTES_MAX:
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        raise NotFound("the instance has no console log") from None
