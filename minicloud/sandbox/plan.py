"""What a guest is to be started with (`SandboxSpec`), and the recipe that starts it (`LaunchPlan`).

The agent of a host writes the plan; the instance's actor, another process, follows it (`spawn.py`). So the plan is
plain JSON: whatever needs this machine's facts is decided before. The caller must not have to know which driver
isolates the guest: `GuestLayout` says where things are as the guest sees them; the caller builds argv and env from it.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from minicloud.base.errors import InvalidParameterValue
from minicloud.sandbox.cgroup import CpuMemoryLimits

BWRAP = "bwrap"
PROCESS = "process"
GUEST_WORKERS = "/opt/minicloud"  # the directory that holds the package minicloud_workers
GUEST_CONTROL = "/run/minicloud"
GUEST_HOME = "/root"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty")
OPEN_FILES_MAX = 65_536
# 0 would not stop a kernel that pipes cores to a program of the host's; 1 stops both (kernel: fs/coredump.c).
CORE_BYTES_MAX = 1


@dataclass(frozen=True, slots=True)
class GuestLayout:
    """Paths as the guest sees them."""

    python: str
    workers: str  # put this on sys.path to import minicloud_workers
    control: str  # the shared directory for unix sockets
    home: str

    def python_module(self, module: str, *arguments: str) -> tuple[str, ...]:
        """An argv that runs a module of minicloud_workers without site-packages and without the guest's PYTHON* env."""
        code = f"import sys,runpy;sys.path.insert(0,{self.workers!r});runpy.run_module({module!r},run_name='__main__')"
        return (self.python, "-I", "-S", "-c", code, *arguments)


@dataclass(frozen=True, slots=True)
class PythonPrefix:
    """The interpreter that guests get, and the directories that must be visible for it to run (none below /usr)."""

    executable: str
    directories: tuple[str, ...]

    @staticmethod
    def current() -> PythonPrefix:
        """This process's interpreter; in a virtual environment the one it was made from."""
        executable = os.path.realpath(sys.executable)
        wanted = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.base_exec_prefix))
        if not any(_below(executable, directory) for directory in wanted):
            wanted[os.path.dirname(executable)] = None
        return PythonPrefix(executable, tuple(path for path in wanted if not _below(path, "/usr")))


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """One guest. Paths are the host's. Raises InvalidParameterValue for what no driver can start."""

    instance_id: str
    hostname: str
    disk_root: Path  # the guest's persistent root, prepared by `disk.prepare`
    control_dir: Path
    console: Path
    init: tuple[str, ...]
    limits: CpuMemoryLimits
    workers_dir: Path = field(default_factory=lambda: workers_package())
    env: dict[str, str] = field(default_factory=dict)
    cgroup_files: tuple[str, ...] = ()  # `Cgroup.join_files`; empty: rlimits stand in
    netns: str | None = None  # `Endpoint.netns_path`
    tmp_mib: int = 512
    disk_gib: int = 0  # no single file may be larger; 0: no such limit
    readonly: tuple[tuple[str, str], ...] = ()  # (host path, guest path)
    devices: tuple[str, ...] = ()  # /dev/nvidia0, ...

    @property
    def device_dir(self) -> Path:
        """Beside the root, so that it goes when the disk goes."""
        return self.disk_root.parent / "dev"

    def __post_init__(self) -> None:
        if not self.init:
            raise InvalidParameterValue("the guest needs a program to run", field="init")
        if not self.hostname or len(self.hostname) > 64 or "/" in self.hostname:
            raise InvalidParameterValue(f"not a host name: {self.hostname!r}", field="hostname")
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise InvalidParameterValue(f"not an environment variable: {name!r}", field="env")
        for device in self.devices:
            if not device.startswith("/dev/"):
                raise InvalidParameterValue(f"not a device: {device!r}", field="devices")
        if self.tmp_mib < 1:
            raise InvalidParameterValue("tmp_mib must be at least 1", field="tmp_mib")


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """How to start a guest; `to_json` is the argument of `spawn.spawn`.

    argv      the program; an item "@name" stands for the number of a descriptor with the content of data[name]
    data      {name: base64}, each becomes a memfd
    env       of the program, complete
    join      control group files to write "0" to before the program starts
    netns     path of the network namespace to start in, or None
    rlimits   [name in the module resource, soft, hard], lowered to what the spawner itself has
    console   file that gets stdout and stderr, appended
    """

    instance_id: str
    driver: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    console: str
    data: dict[str, str] = field(default_factory=dict)
    join: list[str] = field(default_factory=list)
    netns: str | None = None
    rlimits: list[tuple[str, int, int]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # asdict copies every value

    @staticmethod
    def from_json(value: dict[str, Any]) -> LaunchPlan:
        rlimits = [(str(name), int(soft), int(hard)) for name, soft, hard in value["rlimits"]]
        return LaunchPlan(**{**value, "rlimits": rlimits})


def workers_package() -> Path:
    """The directory of the package minicloud_workers. Raises ModuleNotFoundError where it is not installed."""
    spec = importlib.util.find_spec("minicloud_workers")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("minicloud_workers is not installed beside minicloud")
    return Path(spec.submodule_search_locations[0])


def guest_env(layout: GuestLayout, spec: SandboxSpec) -> dict[str, str]:
    """The guest's environment: a login's basics, then what the caller says."""
    return {
        "PATH": f"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{os.path.dirname(layout.python)}",
        "HOME": layout.home,
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "HOSTNAME": spec.hostname,
        **spec.env,
    }


def common_rlimits(spec: SandboxSpec) -> list[tuple[str, int, int]]:
    """Limits that hold with and without control groups."""
    rlimits = [
        ("RLIMIT_CORE", CORE_BYTES_MAX, CORE_BYTES_MAX),
        ("RLIMIT_NOFILE", OPEN_FILES_MAX, OPEN_FILES_MAX),
    ]
    if spec.disk_gib:
        size_bytes = spec.disk_gib * 1024**3
        rlimits.append(("RLIMIT_FSIZE", size_bytes, size_bytes))
    return rlimits


def standin_rlimits(spec: SandboxSpec, *, is_root: bool) -> list[tuple[str, int, int]]:
    """What stands in for a control group: memory per process, not per guest; processes only for ordinary users.

    The kernel counts processes per user of the whole machine, and not at all for root; so the number leaves room for
    the rest of what the user runs.
    """
    size_bytes = spec.limits.memory_mib * 1024 * 1024
    rlimits = [("RLIMIT_DATA", size_bytes, size_bytes)]
    if not is_root:
        count = spec.limits.pids + 4_096
        rlimits.append(("RLIMIT_NPROC", count, count))
    return rlimits


def encode(data: bytes) -> str:
    """Bytes as a JSON string."""
    return base64.b64encode(data).decode()


def _below(path: str, directory: str) -> bool:
    return os.path.commonpath((path, directory)) == directory
