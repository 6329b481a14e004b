"""Changes of files as events (inotify), so that nothing has to look again and again.

One `Notify` serves any number of watches with one descriptor of the event loop. With `batch_s` it takes events at most
that often: a guest that writes its console in a tight loop costs its host a bounded number of wake-ups. When the queue
in the kernel overflows every watch is called once, so a callback must look at the file and not count its calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path

MODIFY = 0x00000002
MOVED_TO = 0x00000080
CREATE = 0x00000100
_Q_OVERFLOW = 0x00004000
_IGNORED = 0x00008000
_MASK_ADD = 0x20000000
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """A callback on one path. `close` is idempotent."""

    __slots__ = ("_notify", "callback", "wd")

    def __init__(self, notify: Notify, wd: int, callback: Callable[[], None]) -> None:
        self._notify = notify
        self.wd = wd
        self.callback = callback

    def close(self) -> None:
        self._notify.remove(self)


class Notify:
    """Needs a running event loop. Raises OSError when the kernel gives no inotify instance."""

    def __init__(self, batch_s: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self._batch_s = batch_s
        self._watches: dict[int, set[Watch]] = {}
        self._resume: asyncio.TimerHandle | None = None
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify_init1")
        self._loop.add_reader(self._fd, self._read)

    def watch(self, path: Path, mask: int, callback: Callable[[], None]) -> Watch:
        """Call back after changes of `path` (a file, or a directory's entries). Raises OSError."""
        wd = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), mask | _MASK_ADD), str(path))
        watch = Watch(self, wd, callback)
        self._watches.setdefault(wd, set()).add(watch)
        return watch

    def remove(self, watch: Watch) -> None:
        watches = self._watches.get(watch.wd)
        if watches is None or watch not in watches:
            return
        watches.discard(watch)
        if not watches:
            del self._watches[watch.wd]
            _libc.inotify_rm_watch(self._fd, watch.wd)  # fails when the file is gone, and the watch with it

    def close(self) -> None:
        if self._fd < 0:
            return
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        self._watches.clear()

    def _read(self) -> None:
        changed: set[Watch] = set()
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._fd, _READ_BYTES):
                self._collect(data, changed)
                if self._batch_s:
                    break
        if self._batch_s:
            self._loop.remove_reader(self._fd)
            self._resume = self._loop.call_later(self._batch_s, self._listen_again)
        for watch in changed:
            watch.callback()

    def _listen_again(self) -> None:
        self._loop.add_reader(self._fd, self._read)

    def _collect(self, data: bytes, changed: set[Watch]) -> None:
        offset = 0
        while offset < len(data):
            wd, mask, _cookie, size = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + size
            if mask & _Q_OVERFLOW:
                changed.update(*self._watches.values())
            elif mask & _IGNORED:
                changed.update(self._watches.pop(wd, ()))
            else:
                changed.update(self._watches.get(wd, ()))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        hint = " (fs.inotify limits of this machine)" if number in (errno.EMFILE, errno.ENOSPC) else ""
        raise OSError(number, os.strerror(number) + hint, what)
    return result
