"""Runs as a guest: tries to get out by every way we know of, prints what came of it as one JSON object.

argv: a file of the host's, a pid of the host's. Arguments of system calls are such that nothing is broken where a call
is allowed after all: then the kernel finds them wrong, and the check says ALLOWED.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
X86 = platform.machine() == "x86_64"
NUMBERS = {  # name: (x86_64, aarch64)
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "bpf": (321, 280),
    "io_uring": (425, 425),
    "perf": (298, 241),
    "userfaultfd": (323, 282),
    "keyctl": (250, 219),
    "module": (175, 105),
    "kexec": (246, 104),
    "reboot": (169, 142),
    "setns": (308, 268),
    "new_mount_api": (430, 430),
    "pivot_root": (155, 41),
    "handle": (304, 265),
    "quota": (179, 60),
    "swap": (168, 225),
    "kernel_log": (103, 116),
    "clone3": (435, 435),
    "clock": (164, 170),
}
results: dict[str, str] = {}


def expect_denied(name: str, attempt: Callable[[], object], *errors: int) -> None:
    try:
        outcome = attempt()
    except OSError as error:
        known = error.errno in (errors or (errno.EPERM,))
        results[name] = f"{'denied' if known else 'ALLOWED'}: {error}"
    else:
        results[name] = f"ALLOWED: {outcome!r}"


def call(function: Callable[..., int], *arguments: object) -> int:
    ctypes.set_errno(0)
    result = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def syscall(name: str, *arguments: int) -> Callable[[], int]:
    return lambda: call(LIBC.syscall, ctypes.c_long(NUMBERS[name][0 if X86 else 1]), *map(ctypes.c_long, arguments))


def expect(name: str, holds: bool, seen: object) -> None:
    results[name] = f"{'denied' if holds else 'ALLOWED'}: {seen!r}"


def writable_in_proc() -> list[str]:
    """Files in /proc, outside of the processes' own directories, that we could open for writing."""
    found = []
    for top, directories, files in os.walk("/proc"):
        directories[:] = [name for name in directories if not name.isdigit() and name not in ("self", "thread-self")]
        for name in files:
            try:
                os.close(os.open(f"{top}/{name}", os.O_WRONLY))
            except OSError:
                continue
            found.append(f"{top}/{name}")
    return found


def clone_with_user_namespace() -> int:
    CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
    number = 56 if X86 else 220
    pid = call(LIBC.syscall, ctypes.c_long(number), ctypes.c_long(CLONE_NEWUSER | SIGCHLD), *[ctypes.c_long(0)] * 4)
    if pid == 0:
        os._exit(0)
    return pid


def main(secret: str, host_pid: int) -> None:
    nothing = (errno.ENOENT,)
    expect_denied("host_file", lambda: Path(secret).read_text(), *nothing)
    expect_denied("host_shadow", lambda: Path("/etc/shadow").read_text(), *nothing)
    expect_denied("sysfs", lambda: os.listdir("/sys"), *nothing)
    expect("cgroupfs", "cgroup" not in Path("/proc/mounts").read_text(), "cgroup in /proc/mounts")
    expect_denied("usr_write", lambda: Path("/usr/x").write_text(""), errno.EROFS)
    expect_denied(
        "kernel_switch", lambda: os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY), errno.EROFS, errno.EACCES
    )
    expect("proc_writable", not (found := writable_in_proc()), found)

    for name in ("ptrace", "process_vm_readv", "bpf", "io_uring", "perf", "userfaultfd", "keyctl", "module", "kexec"):
        expect_denied(name, syscall(name, 0, 0, 0, 0, 0))
    for name in ("reboot", "setns", "new_mount_api", "pivot_root", "handle", "quota", "swap", "kernel_log"):
        expect_denied(name, syscall(name, 0, 0, 0, 0))
    expect_denied("clone3", syscall("clone3", 0, 0), errno.ENOSYS)
    expect_denied("clone_user", clone_with_user_namespace)
    expect_denied("unshare_user", lambda: call(LIBC.unshare, 0x10000000))
    expect_denied("unshare_net", lambda: call(LIBC.unshare, 0x40000000))
    expect_denied("mount", lambda: call(LIBC.mount, b"none", b"/tmp", b"tmpfs", 0, None))
    expect_denied("umount", lambda: call(LIBC.umount2, b"/tmp", 0))
    expect_denied("mknod", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(254, 0)))
    expect_denied("chroot", lambda: os.chroot("/tmp"))
    expect_denied("hostname", lambda: socket.sethostname("x"))
    expect_denied("clock", syscall("clock", 0, 0))

    families = (errno.EAFNOSUPPORT,)
    expect_denied("raw_socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    expect_denied("vsock", lambda: socket.socket(40, socket.SOCK_STREAM), *families)
    expect_denied("crypto", lambda: socket.socket(38, socket.SOCK_SEQPACKET), *families)
    expect_denied("packet", lambda: socket.socket(17, socket.SOCK_RAW), *families)
    expect_denied("tty_injection", lambda: fcntl.ioctl(0, 0x5412, b"x"))

    expect_denied("host_process", lambda: os.kill(host_pid, 0), errno.ESRCH)
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    expect("pids_seen", pids == [os.getpid()] == [1], pids)
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    caps = {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
    expect("capabilities", not any(caps.values()), caps)
    expect("no_new_privileges", (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), status["NoNewPrivs"])
    # The directory being listed has a descriptor of its own.
    files = {name: os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")}
    extra = [
        name for name in os.listdir("/proc/self/fd") if name not in files and os.path.exists(f"/proc/self/fd/{name}")
    ]
    expect("inherited_files", not extra and files["0"] == "/dev/null", (files, extra))
    expect("host_env", "MINICLOUD_TEST_SECRET" not in os.environ, sorted(os.environ))
    print(json.dumps(results))


main(sys.argv[1], int(sys.argv[2]))
