"""The Linux calls that Python 3.11's standard library does not wrap, with errors as OSError.

All of them act on the calling thread or process only. Namespaces are per thread in Linux: whoever calls `setns` or
`unshare` does so in a thread made for it, never in one that others share.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

CLONE_NEWNET = 0x40000000
CLONE_NEWUTS = 0x04000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SHARED = 1 << 20
MNT_DETACH = 2
IN_MODIFY = 0x2
IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC
THREAD_NETNS = "/proc/thread-self/ns/net"
THREAD_UTS = "/proc/thread-self/ns/uts"


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Moves the calling thread into the namespace behind `fd`."""
    _check(_libc().setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Gives the calling thread namespaces of its own."""
    _check(_libc().unshare(flags), "unshare")


def mount(source: str, target: str, flags: int) -> None:
    """Bind mounts and propagation changes: no file system type, no options."""
    _check(_libc().mount(source.encode(), target.encode(), b"none", ctypes.c_ulong(flags), None), f"mount {target}")


def unmount(target: str) -> None:
    """Detaches a mount now; it goes away when nobody uses it any more."""
    _check(_libc().umount2(target.encode(), MNT_DETACH), f"umount {target}")


def watch_file(path: Path) -> int:
    """An inotify descriptor that becomes readable when the file at `path` changes."""
    fd: int = _check(_libc().inotify_init1(IN_NONBLOCK_CLOEXEC), "inotify_init1")
    try:
        _check(_libc().inotify_add_watch(fd, str(path).encode(), IN_MODIFY), f"inotify_add_watch {path}")
    except OSError:
        os.close(fd)
        raise
    return fd


def eventfd() -> int:
    """A non-blocking event counter."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


@contextmanager
def inside_netns(path: str) -> Iterator[None]:
    """The calling thread is in the network namespace at `path` for the length of the block."""
    with _inside(path, THREAD_NETNS, CLONE_NEWNET):
        yield


def set_hostname(pid: int, name: str) -> None:
    """Of the UTS namespace that the process `pid` is in. Raises OSError."""
    with _inside(f"/proc/{pid}/ns/uts", THREAD_UTS, CLONE_NEWUTS):
        socket.sethostname(name)


@contextmanager
def _inside(path: str, own: str, kind: int) -> Iterator[None]:
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        home = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        os.close(target)
        raise
    try:
        setns(target, kind)
        try:
            yield
        finally:
            setns(home, kind)
    finally:
        os.close(target)
        os.close(home)
