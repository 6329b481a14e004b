"""What the sandbox tests share: a bench on which real guests are started, and what must be left of them (nothing)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from minicloud.sandbox import bwrap, disk, process
from minicloud.sandbox.cgroup import Cgroup, Cgroups, CpuMemoryLimits
from minicloud.sandbox.plan import LaunchPlan, SandboxSpec
from minicloud.sandbox.probe import HostIsolation, probe
from minicloud.sandbox.spawn import Guest

LIMITS = CpuMemoryLimits(vcpus=1, memory_mib=128, pids=64)
GUEST_S_MAX = 90.0


def isolation_or_skip() -> HostIsolation:
    """This machine's abilities, or a skip that says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("needs root: control groups and network namespaces")
    isolation = probe()
    if isolation.bwrap_path is None:
        pytest.skip(f"needs a working bubblewrap: {isolation.sandbox.text}")
    if isolation.cgroup_version == 0:
        pytest.skip(f"needs control groups: {isolation.cgroups.text}")
    return isolation


@dataclass
class Bench:
    """Starts guests below one directory, each with its own control group, and ends them all."""

    isolation: HostIsolation
    directory: Path
    prefix: str
    groups: Cgroups = field(default_factory=Cgroups.detect)
    guests: dict[str, Guest] = field(default_factory=dict)

    def spec(self, name: str, *init: str, limits: CpuMemoryLimits = LIMITS, **changes: Any) -> SandboxSpec:
        home = self.directory / name
        (home / "control").mkdir(parents=True, exist_ok=True)
        group = self.groups.create(f"{self.prefix}/h/{name}", limits)
        spec = SandboxSpec(
            instance_id=name,
            hostname=name,
            disk_root=home / "disk" / "root",
            control_dir=home / "control",
            console=home / "console",
            init=init,
            limits=limits,
            cgroup_files=group.join_files,
            tmp_mib=8,
        )
        return replace(spec, **changes)

    def plan(self, spec: SandboxSpec, driver: str = "bwrap") -> LaunchPlan:
        disk.prepare(spec, self.isolation.python, isolated=driver == "bwrap")
        if driver == "process":
            return process.build(spec, self.isolation.python)
        assert self.isolation.bwrap_path is not None
        return bwrap.build(spec, self.isolation.bwrap_path, self.isolation.python)

    def start(self, spec: SandboxSpec, driver: str = "bwrap") -> Guest:
        guest = Guest(self.plan(spec, driver).to_json())
        self.guests[spec.instance_id] = guest
        return guest

    def run(self, spec: SandboxSpec, driver: str = "bwrap") -> tuple[int, str]:
        """Exit status and console of a guest that ends by itself."""
        status = self.start(spec, driver).wait(GUEST_S_MAX)
        return status, spec.console.read_text(errors="replace")

    def python(self, name: str, code: str, *arguments: str, **changes: Any) -> SandboxSpec:
        return self.spec(name, self.isolation.python.executable, "-I", "-S", "-c", code, *arguments, **changes)

    def group(self, name: str) -> Cgroup:
        return self.groups.open(f"{self.prefix}/h/{name}")

    def fifo(self, name: str) -> Path:
        """Guests say that they are ready by opening /run/minicloud/ready."""
        control = self.directory / name / "control"
        control.mkdir(parents=True, exist_ok=True)
        os.mkfifo(control / "ready")
        return control / "ready"

    def end(self) -> None:
        self.groups.remove(self.prefix)
        for guest in self.guests.values():
            guest.kill()
            guest.wait(GUEST_S_MAX)


@contextmanager
def bench(isolation: HostIsolation, directory: Path) -> Iterator[Bench]:
    """A bench that leaves nothing behind, and checks it."""
    made = Bench(isolation, directory, f"minicloud-test{os.getpid()}")
    try:
        yield made
    finally:
        made.end()
    assert made.groups.existing(made.prefix) == []
    assert [base for base in bases(made.groups) if (base / made.prefix).exists()] == []
    shutil.rmtree(directory, ignore_errors=True)


def bases(groups: Cgroups) -> tuple[Path, ...]:
    assert groups.hierarchy is not None
    return groups.hierarchy.bases()


def traces() -> dict[str, list[str]]:
    """What networks leave on a machine, to compare before and after."""
    commands = {
        "links": "ip -o link | cut -d: -f2 | sort",
        "namespaces": "ip netns | sort",
        "tables": "nft list tables",
        "forwarding": "cat /proc/sys/net/ipv4/ip_forward",
        "routes": "ip route",
    }
    return {
        name: subprocess.run(command, shell=True, capture_output=True, text=True, check=True).stdout.splitlines()
        for name, command in commands.items()
    }
