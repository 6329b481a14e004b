"""The driver that isolates: bubblewrap makes the namespaces, we say what is in them.

What a guest sees, from the bottom up (later mounts lie on top):

    /                its disk, read-write, persistent
    /usr             the host's, read-only; /bin, /sbin, /lib* as the host has them (links into /usr, or binds)
    /etc             the disk's; ld.so.cache, alternatives and certificates are the host's, read-only
    /proc            its own processes only; the kernel's switches in it read-only
    /dev             null, zero, full, random, urandom, tty, pts, shm, and its accelerators
    /tmp /dev/shm    in memory, of limited size; counted as the guest's memory
    /run             in memory; /run/minicloud is shared with the host agent
    the interpreter  at its own path, read-only; /opt/minicloud/minicloud_workers read-only

Namespaces: user, pid, ipc, uts, cgroup, mount; the network namespace is made by the agent and entered before. The
guest's uid 0 has no capability and cannot get one (no setuid, no user namespaces below it).

Under an agent that runs as root, the guest's uid 0 is the host's uid 0 without capabilities, and owns what root owns
wherever it can see it. Measured: such a guest could set kernel.core_pattern (the kernel asks for uid 0, not for a
capability, and bubblewrap leaves /proc/sys writable), and could chmod the host's /dev/null. Hence: /proc/sys and its
like are read-only, kernel tables in /proc are masked as runc does, device nodes are the guest's own
(`disk.device_nodes`), and what is bound from the host is chosen narrowly (/etc/ssl/certs, never /etc/ssl/private).

The guest is PID 1 of its namespace: when it ends, all its processes end; when the process that started bwrap ends, it
ends. Environment and options travel through a descriptor, so no secret appears in a process list.
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace

from minicloud.base.errors import UnsupportedOperation
from minicloud.sandbox import seccomp
from minicloud.sandbox.keeper import GATE
from minicloud.sandbox.plan import (
    BWRAP,
    DEVICES,
    GUEST_CONTROL,
    GUEST_HOME,
    GUEST_WORKERS,
    GuestLayout,
    LaunchPlan,
    PythonPrefix,
    SandboxSpec,
    common_rlimits,
    encode,
    guest_env,
    standin_rlimits,
)

NAMESPACES = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"),
    *("--disable-userns", "--uid", "0", "--gid", "0", "--cap-drop", "ALL"),
    *("--die-with-parent", "--new-session", "--as-pid-1", "--clearenv"),
)
TOP_LEVEL = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
# Bound, because they follow the host's /usr; what does not change is copied at the first boot (disk.COPIED_ETC).
HOST_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/ssl/certs", "/etc/pki/tls/certs", "/etc/pki/ca-trust")
# Docker's lists, without what bubblewrap does itself (/proc/irq, /proc/bus, /proc/sysrq-trigger) and what asks for a
# capability anyway. Each mount costs 0.2 ms of a launch.
PROC_READONLY = ("/proc/sys", "/proc/fs", "/proc/pressure")
PROC_MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats")
PROC_MASKED_DIRECTORIES = ("/proc/acpi", "/proc/asound", "/proc/scsi")
RUN_MIB = 64


def layout(python: PythonPrefix) -> GuestLayout:
    """Where a guest of this driver finds things."""
    return GuestLayout(python.executable, GUEST_WORKERS, GUEST_CONTROL, GUEST_HOME)


def build(spec: SandboxSpec, bwrap_path: str, python: PythonPrefix) -> LaunchPlan:
    """The plan for one guest. Raises UnsupportedOperation where there is no seccomp table for this machine."""
    machine = platform.machine()
    if machine not in seccomp.architectures():
        raise UnsupportedOperation(f"no seccomp table for {machine}")
    options = [*NAMESPACES, "--hostname", spec.hostname, *_mounts(spec, python), *_environment(spec, python)]
    return LaunchPlan(
        instance_id=spec.instance_id,
        driver=BWRAP,
        argv=[bwrap_path, "--args", "@options", "--seccomp", "@seccomp", "--", *spec.init],
        env={},
        cwd="/",
        console=str(spec.console),
        data={
            "options": encode(b"".join(option.encode() + b"\0" for option in options)),
            "seccomp": encode(seccomp.program(machine)),
        },
        join=list(spec.cgroup_files),
        netns=spec.netns,
        rlimits=rlimits(spec),
    )


def rlimits(spec: SandboxSpec) -> list[tuple[str, int, int]]:
    """Of the guest's first process."""
    limits = common_rlimits(spec)
    return limits if spec.cgroup_files else limits + standin_rlimits(spec, is_root=os.geteuid() == 0)


def started_ahead(plan: LaunchPlan) -> LaunchPlan:
    """The plan of a guest whose init waits at the descriptor `gate` (`minicloud.sandbox.keeper`) for its boot."""
    end = plan.argv.index("--")
    gate = ["--setenv", "MINICLOUD_GATE", f"@{GATE}"]
    return replace(plan, argv=[*plan.argv[:end], *gate, *plan.argv[end:]])


def mount_points(spec: SandboxSpec, python: PythonPrefix) -> list[tuple[str, bool]]:
    """(guest path, is a directory) of everything that is mounted over the disk: `disk.prepare` makes them."""
    binds = [(target, os.path.isdir(source)) for _, source, target in _binds(spec, python) if target != "/"]
    fixed = [(path, True) for path in ("/proc", "/dev", "/tmp", "/run")]
    return [(path, is_dir) for path, is_dir in (*fixed, *binds) if not path.startswith(("/run/", "/tmp/", "/dev/"))]


def _mounts(spec: SandboxSpec, python: PythonPrefix) -> list[str]:
    size = str(spec.tmp_mib * 1024 * 1024)
    fresh = [
        *("--proc", "/proc", "--dev", "/dev"),
        *_narrowed_proc(),
        *("--perms", "1777", "--size", size, "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", size, "--tmpfs", "/tmp"),
        *("--perms", "0755", "--size", str(RUN_MIB * 1024 * 1024), "--tmpfs", "/run"),
    ]
    root, *others = [list(bind) for bind in _binds(spec, python)]
    return [*root, *fresh, *(word for bind in others for word in bind), "--chdir", "/"]


def _narrowed_proc() -> list[str]:
    words: list[str] = []
    for path in filter(os.path.exists, PROC_READONLY):
        words += ("--ro-bind", path, path)
    for path in filter(os.path.exists, PROC_MASKED_FILES):
        words += ("--ro-bind", "/dev/null", path)
    for path in filter(os.path.exists, PROC_MASKED_DIRECTORIES):
        words += ("--tmpfs", path, "--remount-ro", path)
    return words


def _binds(spec: SandboxSpec, python: PythonPrefix) -> list[tuple[str, str, str]]:
    """(option, host path, guest path), in mounting order; the first is the root."""
    readonly = [
        ("/usr", "/usr"),
        *((f"/{name}", f"/{name}") for name in TOP_LEVEL if _is_real_directory(f"/{name}")),
        *((path, path) for path in HOST_ETC if os.path.exists(path)),
        *((path, path) for path in python.directories),
        (str(spec.workers_dir), f"{GUEST_WORKERS}/minicloud_workers"),
        *spec.readonly,
    ]
    return [
        ("--bind", str(spec.disk_root), "/"),
        *(("--ro-bind", source, target) for source, target in readonly),
        ("--bind", str(spec.control_dir), GUEST_CONTROL),
        *(("--dev-bind", source, device) for device, source in _devices(spec).items()),
    ]


def _devices(spec: SandboxSpec) -> dict[str, str]:
    """{guest path: host path} of device nodes: the guest's own where it has some, else the accelerators' own."""
    own = {device: str(spec.device_dir / device.removeprefix("/dev/")) for device in (*DEVICES, *spec.devices)}
    if os.path.exists(own["/dev/null"]):
        return own
    return {device: device for device in spec.devices}


def top_level_links() -> dict[str, str]:
    """{name: target} of /bin and friends where the host has them as links into /usr."""
    return {name: os.readlink(f"/{name}") for name in TOP_LEVEL if os.path.islink(f"/{name}")}


def _environment(spec: SandboxSpec, python: PythonPrefix) -> list[str]:
    env = guest_env(layout(python), spec)
    return [word for name, value in env.items() for word in ("--setenv", name, value)]


def _is_real_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)
