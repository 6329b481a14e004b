"""What an execution environment stands in: a root of its own, namespaces, limits, no privileges.

A zygote (zygote.py) calls `found` once, in a mount namespace of its own: that makes the *base*, a small read-only root
with the host's /usr, interpreters and devices, which every environment shares and nobody can write to. A child of the
zygote calls `furnish`: it gets a copy of that mount tree (a kernel structure, no files) and puts in what is its own.

    /                 the base, in memory, read-only          /proc       its own processes
    /usr, /lib*, ...  the host's, read-only                   /tmp        in memory, of the size asked for
    /var/task         the function's code, read-only          /opt        its layers, read-only
    /var/runtime      minicloud_workers, read-only            /dev        null, zero, full, random, urandom, tty

Namespaces: mount, pid, ipc, uts, cgroup, network (loopback only, unless a network namespace is handed in). Under root
there is no user namespace: the environment runs as a user of its own that owns nothing on the host, and its namespaces
belong to the host's root, out of its reach. Without root the zygote is the root of a user namespace, and the
environment drops all capabilities in it. In both cases: no new privileges, seccomp (seccomp.py), no setuid.
Where neither can be had (`isolated` false) it is a plain process in a directory.

Standard library only: it runs in the zygote, which is started without site-packages.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
from typing import Any

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
MNT_DETACH = 2
# What a bind mount of a file system with these flags must keep (statvfs flag: mount flag).
KEPT = {os.ST_NOSUID: MS_NOSUID, os.ST_NODEV: MS_NODEV, os.ST_NOEXEC: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
CAPABILITIES_MAX = 64
_NUMBERS = {"x86_64": {"pivot_root": 155, "capset": 126}, "aarch64": {"pivot_root": 41, "capset": 91}}
_MOUNT_SETATTR = 442
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1
STORE = "/mnt/store"  # the host's directory with code and layers, while an environment is furnished
TASK, OPT, RUNTIME = "/var/task", "/opt", "/var/runtime"
API_PORT = 9001
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LIBC = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    _check(_LIBC.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_LIBC.setns(fd, kind), "setns")


def prctl(option: int, *arguments: int) -> None:
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_LIBC.prctl(option, *words), f"prctl {option}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode() or None)
    _check(_LIBC.mount(*arguments), f"mount {target}")


def bind(source: str, target: str, *, writable: bool = False, devices: bool = False) -> None:
    """With all that is mounted below it; read-only, without setuid and devices unless said otherwise."""
    mount(source, target, "none", MS_BIND | MS_REC)
    attributes = (0 if writable else 1) | 2 | (0 if devices else 4)  # MOUNT_ATTR_RDONLY, _NOSUID, _NODEV
    wanted = struct.pack("=QQQQ", attributes, 0, 0, 0)
    at_fdcwd, recursive = -100, 0x8000
    if _LIBC.syscall(_MOUNT_SETATTR, at_fdcwd, target.encode(), recursive, wanted, len(wanted)) == 0:
        return
    # A kernel without mount_setattr: the top mount alone, keeping the flags that it has.
    kept = sum(flag for have, flag in KEPT.items() if os.statvfs(target).f_flag & have)
    mount("none", target, "none", MS_REMOUNT | MS_BIND | attributes | kept)


def unmount(target: str) -> None:
    _check(_LIBC.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def _pivot(new: str, old: str) -> None:
    _check(_LIBC.syscall(_NUMBERS[os.uname().machine]["pivot_root"], new.encode(), old.encode()), "pivot_root")


# ---------------------------------------------------------------- the base, made once by the zygote


def begin(is_root: bool) -> None:
    """Namespaces of the zygote itself; its next child is the first process of a pid namespace."""
    if not is_root:
        uid, gid = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC)


def found(config: dict[str, Any]) -> None:
    """Makes the base and makes it "/". Nothing of the host's tree can be reached afterwards but the store."""
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    base = config["work"]
    mount("tmpfs", base, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=0755")
    for path in ("proc", "dev", "tmp", "var/task", "var/runtime", "opt", "etc", "mnt", "old", "run", "root"):
        os.makedirs(f"{base}/{path}", 0o755)
    os.makedirs(f"{base}/var/lang")
    for name, target in config["links"].items():
        os.symlink(target, f"{base}/{name}")
    for name, text in config["etc"].items():
        with open(f"{base}/etc/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    os.symlink("/tmp", f"{base}/var/tmp")
    for source, target in config["binds"]:
        _place(source, base + target)
        bind(source, base + target)
    _devices(base)
    mount("tmpfs", f"{base}/mnt", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0700")
    os.mkdir(base + STORE)
    bind(config["store"], base + STORE)
    if not config["is_root"]:  # the kernel lets a user namespace mount /proc only beside one that is whole
        os.mkdir(f"{base}/mnt/proc")
        mount("/proc", f"{base}/mnt/proc", "none", MS_BIND | MS_REC)
    os.chdir(base)
    _pivot(".", "old")
    os.chdir("/")
    unmount("/old")
    for path in ("/dev", "/"):
        mount("none", path, "none", MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | (MS_NODEV if path == "/" else 0))


def _place(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        with open(target, "a", encoding="ascii"):
            pass


def _devices(base: str) -> None:
    """Nodes of our own where we may make them; an environment's user could not chmod the host's either way."""
    mount("tmpfs", f"{base}/dev", "tmpfs", MS_NOSUID, "size=64k,mode=0755")
    for name in DEVICES:
        path = f"{base}/dev/{name}"
        try:
            os.mknod(path, 0o020666, os.stat(f"/dev/{name}").st_rdev)
            os.chmod(path, 0o666)
        except PermissionError:
            _place(f"/dev/{name}", path)
            mount(f"/dev/{name}", path, "none", MS_BIND)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{base}/dev/{name}")
    os.symlink("/tmp", f"{base}/dev/shm")


# ---------------------------------------------------------------- one environment


def furnish(order: dict[str, Any], config: dict[str, Any], fds: dict[str, int]) -> list[socket.socket]:
    """From a child of the zygote to the first process of an environment, unprivileged.

    Returns listeners in its network: of its Runtime API, then of the cloud's doors.
    """
    for name, fd in fds.items():
        if name.startswith("join"):
            os.write(fd, b"0")
    os.setsid()
    os.umask(0o022)
    if config["isolated"]:
        unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWCGROUP | (0 if "netns" in fds else CLONE_NEWNET))
        if "netns" in fds:
            setns(fds["netns"], CLONE_NEWNET)
        else:
            _loopback_up()
        socket.sethostname("function")
        _mounts(order)
    _limits(order)
    listeners = [_listen(order["address"], port) for port in (order["port"], *order["doors"])]
    if "log" in fds and config["is_root"]:
        os.fchown(fds["log"], order["uid"], order["uid"])  # or /dev/stdout could not be opened
    _stdio(fds)
    os.chdir(order["task"])
    _drop(order, config)
    return listeners


def _mounts(order: dict[str, Any]) -> None:
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | 8)
    for path in ("/proc/sys", "/proc/pressure"):  # some files there can be opened for writing by anybody
        if os.path.isdir(path):
            bind(path, path)
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, f"size={order['tmp_mib']}m,mode=1777,nr_inodes=200000")
    bind(f"{STORE}/{order['code']}", TASK)
    if order["layers"]:
        bind(f"{STORE}/{order['layers']}", OPT)
    unmount("/mnt")


def _limits(order: dict[str, Any]) -> None:
    wanted = [("RLIMIT_CORE", 1), ("RLIMIT_NOFILE", 1024), *order["rlimits"]]
    for name, size in wanted:
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        size = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(kind, (size, size))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _listen(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(64)
    return sock


def _stdio(fds: dict[str, int]) -> None:
    nothing = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((nothing, 0), (fds["log"], 1), (fds["log"], 2)):
        os.dup2(source, target)


def _drop(order: dict[str, Any], config: dict[str, Any]) -> None:
    """The last step. What follows runs with the rights of a stranger."""
    for number in range(CAPABILITIES_MAX):
        with contextlib.suppress(OSError):
            prctl(PR_CAPBSET_DROP, number)
    if config["is_root"] and order["uid"]:
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _check(_LIBC.syscall(_NUMBERS[os.uname().machine]["capset"], header, none), "capset")
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    program = config["seccomp_program"]
    if program:
        lines = ctypes.create_string_buffer(program, len(program))
        fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(lines))
        _check(_LIBC.prctl(PR_SET_SECCOMP, 2, fprog, 0, 0), "seccomp")
    prctl(PR_SET_DUMPABLE, 1)
