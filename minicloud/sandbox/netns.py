"""Named network namespaces, as `ip netns` keeps them: a file in /run/netns with the namespace mounted on it.

A name keeps the namespace alive without a process, so an agent can prepare it before the guest and find it after a
crash. Everything here acts on the calling thread's namespace for a moment: call it in a thread of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minicloud.sandbox import linux

NETNS_DIR = Path("/run/netns")
# Guests have no capabilities: low ports and ping must be open to everyone inside. IPv6 has no addresses here: off.
SYSCTLS = {
    "ipv4/ip_unprivileged_port_start": "0",
    "ipv4/ping_group_range": "0 2147483647",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}


def path_of(name: str) -> str:
    return str(NETNS_DIR / name)


def names(prefix: str) -> list[str]:
    """Namespaces whose name begins so."""
    with suppress(FileNotFoundError):
        return sorted(entry for entry in os.listdir(NETNS_DIR) if entry.startswith(prefix))
    return []


@contextmanager
def created(name: str) -> Iterator[int]:
    """A new namespace of this name; in the block the calling thread is in it. Gives a descriptor of the one outside.

    The namespace is removed again if the block fails.
    """
    _share_directory()
    outside = os.open(linux.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWNET)
        try:
            _pin(name)
            _set_sysctls()
            yield outside
        except BaseException:
            remove(name)
            raise
        finally:
            linux.setns(outside)
    finally:
        os.close(outside)


def remove(name: str) -> None:
    """Takes the name away; the namespace goes when its last process does. Idempotent."""
    path = path_of(name)
    with suppress(OSError):  # not mounted: a crash between making the file and mounting on it
        linux.unmount(path)
    with suppress(FileNotFoundError):
        os.unlink(path)


def _pin(name: str) -> None:
    path = path_of(name)
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    linux.mount(linux.THREAD_NETNS, path, linux.MS_BIND)


def _set_sysctls() -> None:
    """/proc/sys/net shows the namespace of the thread that looks."""
    for name, value in SYSCTLS.items():
        set_sysctl(name, value)


def set_sysctl(name: str, value: str) -> None:
    """Sets a switch below /proc/sys/net. One that this kernel lacks (IPv6 compiled out) is passed over."""
    with suppress(FileNotFoundError):
        Path(f"/proc/sys/net/{name}").write_text(value)


def _share_directory() -> None:
    """The directory must be a shared mount, so that names appear and vanish in every mount namespace alike."""
    if NETNS_DIR.is_dir() and _is_mount(NETNS_DIR):
        return
    NETNS_DIR.mkdir(mode=0o755, exist_ok=True)
    linux.mount(str(NETNS_DIR), str(NETNS_DIR), linux.MS_BIND | linux.MS_REC)
    linux.mount("none", str(NETNS_DIR), linux.MS_SHARED | linux.MS_REC)


def _is_mount(path: Path) -> bool:
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in mounts)
