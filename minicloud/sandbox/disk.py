"""A guest's root directory on the host, written to as what it is: a place that a stranger arranges.

Between two boots a guest may leave any link anywhere in its disk. So nothing here follows one: every step goes through
directory descriptors with O_NOFOLLOW, and a link or file that stands where we need a directory is moved aside. Call it
only while no process of the guest is alive.

The directory above the root is mode 0700: a guest can make setuid files that belong to the host's root (they do nothing
inside), and no other user of the host may be able to reach them.

Disk space is not limited by the guest's type: the guest can fill the file system that holds the data directory. What is
limited: the size of one file (RLIMIT_FSIZE, the type's disk), /tmp, /run and /dev/shm.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from minicloud.base.errors import Conflict
from minicloud.sandbox import bwrap
from minicloud.sandbox.plan import DEVICES, PythonPrefix, SandboxSpec

NAMING = ("hosts", "hostname")  # of the files in /etc
ASIDE = ".before-boot"
MOVED_ASIDE_MAX = 100
HOSTS_BYTES_MAX = 1 << 20  # ours: a longer /etc/hosts is the guest's own affair
_DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
COPIED_ETC = ("services", "protocols", "localtime", "ssl/openssl.cnf", "crypto-policies/back-ends/opensslcnf.config")
RESOLV_FILES = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


def prepare(
    spec: SandboxSpec,
    python: PythonPrefix,
    address: str | None = None,
    *,
    names: Mapping[str, str] | None = None,
    isolated: bool = True,
) -> None:
    """Makes the disk ready for a boot: its directories, and at the first boot the files of /etc. Idempotent.

    `address`: the guest's own, for /etc/hosts; `names`: what else is in there, kept true at every boot.
    `isolated`: for the bwrap driver, whose mount points must exist.
    """
    spec.disk_root.mkdir(parents=True, exist_ok=True)
    spec.disk_root.parent.chmod(0o700)
    spec.disk_root.chmod(0o755)
    with _opened(spec.disk_root) as root:
        for path in ("root", "home", "srv", "mnt", "var/tmp", "etc", "tmp"):
            os.close(_directory(root, path))
        os.chmod("tmp", 0o1777, dir_fd=root)
        if isolated:
            device_nodes(spec)
            _link_top_level(root)
            for path, is_directory in bwrap.mount_points(spec, python):
                _mount_point(root, path.strip("/"), is_directory)
            for name, text in etc_files(spec.hostname, address, nameservers()).items():
                _write_if_absent(root, f"etc/{name}", text.encode())
            for name in COPIED_ETC:
                if os.path.isfile(f"/etc/{name}"):
                    _write_if_absent(root, f"etc/{name}", Path(f"/etc/{name}").read_bytes())
            if names:
                with suppress(OSError):  # the guest has arranged it otherwise
                    _point(root, names)


def _point(root: int, names: Mapping[str, str]) -> None:
    """Lets /etc/hosts lead these names to these addresses, whatever it said of them: on another host, in an image.

    Raises OSError.
    """
    etc = _directory(root, "etc")
    try:
        fd = os.open("hosts", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=etc)
    finally:
        os.close(etc)
    with os.fdopen(fd, "r+b") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return
        before = file.read(HOSTS_BYTES_MAX)
        if file.read(1):
            return
        ours = {name.encode() for name in names}
        lines = [line for line in before.splitlines() if not ours & set(line.partition(b"#")[0].split()[1:])]
        after = b"".join(line + b"\n" for line in lines) + hosts_lines(names).encode()
        if after != before:
            file.seek(0)
            file.truncate()
            file.write(after)


def hosts_lines(names: Mapping[str, str]) -> str:
    """Lines of /etc/hosts from {name: address}."""
    return "".join(f"{address} {name}\n" for name, address in names.items())


def give_name(root: Path, hostname: str, address: str, names: Mapping[str, str]) -> None:
    """For a disk that `prepare` made under another name, and no guest has seen. `names`: see `prepare`."""
    files = etc_files(hostname, address, [])
    files["hosts"] += hosts_lines(names)
    with _opened(root / "etc") as fd:
        for name in NAMING:
            file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=fd)
            with os.fdopen(file, "wb") as out:
                out.write(files[name].encode())


def etc_files(hostname: str, address: str | None, servers: list[str]) -> dict[str, str]:
    """{name below /etc: content} of a new disk."""
    return {
        "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
        "hosts": f"127.0.0.1 localhost\n{address or '127.0.1.1'} {hostname}\n",
        "hostname": f"{hostname}\n",
        "resolv.conf": "".join(f"nameserver {server}\n" for server in servers),
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    }


def nameservers(files: tuple[str, ...] = RESOLV_FILES) -> list[str]:
    """The host's name servers that a guest can reach too: a stub on the host's loopback is not one."""
    for path in files:
        try:
            lines = Path(path).read_text().splitlines()
        except OSError:
            continue
        words = (line.split() for line in lines)
        servers = [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
        reachable = [server for server in servers if not server.startswith(("127.", "::1"))]
        if reachable:
            return reachable
    return []


def guest_socket(control_dir: Path, name: str) -> tuple[str, int]:
    """A path that connects to the unix socket `name` in a control directory, and the descriptor that it goes through.

    The guest can replace the socket by a link to one of the host's; this refuses links. The caller closes the
    descriptor after connecting. Raises FileNotFoundError, and Conflict where the name is not a socket.
    """
    with _opened(control_dir) as directory:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        os.close(fd)
        raise Conflict(f"{name} in the guest's control directory is not a socket")
    return f"/proc/self/fd/{fd}", fd


def device_nodes(spec: SandboxSpec) -> str:
    """Makes device nodes that are the guest's own, so that its uid 0 has nothing of the host's to chmod. Idempotent.

    Only under root is that needed, or possible. Returns why there are none, or "": the guest then gets the host's.
    """
    if os.geteuid() != 0:
        return ""
    try:
        for device in (*DEVICES, *spec.devices):
            node = spec.device_dir / device.removeprefix("/dev/")
            node.parent.mkdir(parents=True, exist_ok=True)
            if not node.exists():
                os.mknod(node, 0o666 | stat.S_IFCHR, os.stat(device).st_rdev)
                node.chmod(0o666)
    except OSError as error:
        return f"device nodes cannot be made: {error.strerror}"
    if os.statvfs(spec.device_dir).f_flag & os.ST_NODEV:
        shutil.rmtree(spec.device_dir)
        return f"{spec.device_dir} is on a file system mounted nodev"
    return ""


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _DIR_FLAGS)
    try:
        yield fd
    finally:
        os.close(fd)


def _directory(root: int, path: str) -> int:
    """Descriptor of the directory `path` below `root`; made where it is missing, cleared where something else is."""
    fd = os.dup(root)
    for name in path.split("/"):
        try:
            below = _enter(fd, name)
        finally:
            os.close(fd)
        fd = below
    return fd


def _enter(fd: int, name: str) -> int:
    try:
        return os.open(name, _DIR_FLAGS, dir_fd=fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        _move_aside(fd, name)
    os.mkdir(name, 0o755, dir_fd=fd)
    return os.open(name, _DIR_FLAGS, dir_fd=fd)


def _mount_point(root: int, path: str, is_directory: bool) -> None:
    if is_directory:
        os.close(_directory(root, path))
        return
    parent, _, name = path.rpartition("/")
    fd = _directory(root, parent) if parent else os.dup(root)
    try:
        if _kind(fd, name) not in (None, stat.S_IFREG):
            _move_aside(fd, name)
        with suppress(FileExistsError):
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd))
    finally:
        os.close(fd)


def _link_top_level(root: int) -> None:
    for name, target in bwrap.top_level_links().items():
        kind = _kind(root, name)
        if kind == stat.S_IFLNK and os.readlink(name, dir_fd=root) == target:
            continue
        if kind is not None:
            _move_aside(root, name)
        os.symlink(target, name, dir_fd=root)


def _write_if_absent(root: int, path: str, data: bytes) -> None:
    parent, _, name = path.rpartition("/")
    fd = _directory(root, parent)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(name, flags, 0o644, dir_fd=fd)
    except FileExistsError:
        return
    finally:
        os.close(fd)
    with os.fdopen(file, "wb") as out:
        out.write(data)


def _move_aside(fd: int, name: str) -> None:
    for count in range(MOVED_ASIDE_MAX):
        free = f"{name}{ASIDE}-{count}"
        if _kind(fd, free) is None:
            os.rename(name, free, src_dir_fd=fd, dst_dir_fd=fd)
            return
    raise Conflict(f"the guest's disk has {MOVED_ASIDE_MAX} entries {name}{ASIDE}-*: remove them")


def _kind(fd: int, name: str) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None
