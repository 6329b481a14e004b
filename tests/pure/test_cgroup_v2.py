"""Control groups version 2 against a tree of plain files: which directory is chosen, and what is written where."""

from __future__ import annotations

import os
import select
from pathlib import Path

import pytest

from minicloud.base.errors import InvalidParameterValue, UnsupportedOperation
from minicloud.sandbox.cgroup import Cgroups, CpuMemoryLimits, Usage, own_paths

SESSION = "user.slice/user-1000.slice/session-1.scope"
LIMITS = CpuMemoryLimits(vcpus=1.5, memory_mib=256, pids=64, cpu_weight=150)


def group(path: Path, controllers: str = "cpu io memory pids", handed_down: str = "") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "cgroup.controllers").write_text(controllers + "\n")
    (path / "cgroup.subtree_control").write_text(handed_down)
    (path / "cgroup.procs").write_text("")
    return path


def busy(path: Path) -> Path:
    """A group that has processes in it refuses to hand controllers down; here: by a file that nobody can write."""
    (path / "cgroup.subtree_control").unlink()
    (path / "cgroup.subtree_control").symlink_to("/proc/version")
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A systemd machine: the session's own group is busy, the slice above it hands cpu, memory and pids down."""
    group(tmp_path, handed_down="cpu memory pids")
    group(tmp_path / "user.slice", handed_down="cpu memory pids")
    group(tmp_path / "user.slice/user-1000.slice", handed_down="cpu memory pids")
    group(tmp_path / SESSION)
    return tmp_path


def detect(tree: Path, own: str = f"/{SESSION}") -> Cgroups:
    return Cgroups.detect(tree, f"0::{own}\n")


def test_the_nearest_ancestor_that_hands_down_is_chosen(tree: Path) -> None:
    found = detect(tree)
    assert found.version == 2
    assert found.enforces == frozenset({"cpu", "memory", "pids", "freeze"})
    assert found.hierarchy is not None
    assert found.hierarchy.bases() == (tree / "user.slice/user-1000.slice",)
    assert (tree / SESSION / "cgroup.subtree_control").read_text() == "", "the session's own group was touched"


def test_one_that_can_be_switched_on_is_chosen_only_then(tree: Path) -> None:
    for path in (tree, tree / "user.slice", tree / "user.slice/user-1000.slice"):
        group(path, handed_down="memory pids")
    busy(tree / SESSION)
    found = detect(tree)
    assert found.hierarchy is not None
    assert found.hierarchy.bases() == (tree / "user.slice/user-1000.slice",)
    assert (tree / "user.slice/user-1000.slice/cgroup.subtree_control").read_text() == "+cpu"


def test_nothing_usable_is_explained(tree: Path) -> None:
    group(tree / "user.slice/user-1000.slice", controllers="memory pids")
    for path in (tree, tree / "user.slice", tree / SESSION):
        busy(path)
    found = detect(tree)
    assert found.version == 0
    assert "user-1000.slice lacks cpu" in found.reason
    assert "cannot hand controllers down" in found.reason
    assert "systemd-run" in found.reason
    with pytest.raises(UnsupportedOperation, match="control groups cannot be used here"):
        found.create("minicloud-a/h/i-1", LIMITS)
    assert found.existing("minicloud-a/h") == []


def test_the_own_path_of_an_outer_namespace_falls_back_to_the_root(tree: Path) -> None:
    found = detect(tree, "/../../elsewhere-not-here")
    assert found.hierarchy is not None
    assert found.hierarchy.bases() == (tree,)


def test_limits_are_written_at_the_leaf_and_controllers_handed_down_above_it(tree: Path) -> None:
    made = detect(tree).create("minicloud-a/h/i-1", LIMITS)
    leaf = tree / "user.slice/user-1000.slice/minicloud-a/h/i-1"
    written = {path.name: path.read_text() for path in leaf.iterdir()}
    assert written == {
        "cpu.max": "150000 100000",
        "cpu.weight": "150",
        "memory.max": str(256 * 1024 * 1024),
        "memory.oom.group": "1",
        "pids.max": "64",
    }
    for above in (leaf.parent, leaf.parent.parent):
        assert (above / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert made.join_files == (str(leaf / "cgroup.procs"),)


def test_throttling_changes_cpu_alone_and_never_below_what_the_kernel_takes(tree: Path) -> None:
    made = detect(tree).create("minicloud-a/h/i-1", LIMITS)
    leaf = tree / "user.slice/user-1000.slice/minicloud-a/h/i-1"
    made.throttle(0.1)
    assert (leaf / "cpu.max").read_text() == "10000 100000"
    assert (leaf / "memory.max").read_text() == str(256 * 1024 * 1024)
    made.throttle(0.0001)
    assert (leaf / "cpu.max").read_text() == "1000 100000"


def test_usage_reads_what_there_is(tree: Path) -> None:
    made = detect(tree).create("minicloud-a/h/i-1", LIMITS)
    assert made.usage() == Usage()
    leaf = tree / "user.slice/user-1000.slice/minicloud-a/h/i-1"
    files = {
        "cpu.stat": "usage_usec 2500000\nuser_usec 1\nthrottled_usec 1000000\n",
        "memory.current": "1000\n",
        "memory.stat": "anon 1\ninactive_file 300\n",
        "memory.events": "low 0\nmax 3\noom 2\noom_kill 1\n",
        "pids.current": "7\n",
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=1\n8:16 rbytes=1 wbytes=2 rios=1\n",
    }
    for name, text in files.items():
        (leaf / name).write_text(text)
    assert made.usage() == Usage(
        cpu_s=2.5,
        throttled_s=1.0,
        memory_bytes=1000,
        working_set_bytes=700,
        pids=7,
        oom_kills=1,
        io_read_bytes=11,
        io_write_bytes=22,
    )


def test_memory_events_wake_a_descriptor(tree: Path) -> None:
    made = detect(tree).create("minicloud-a/h/i-1", LIMITS)
    events = tree / "user.slice/user-1000.slice/minicloud-a/h/i-1/memory.events"
    events.write_text("oom_kill 0\n")
    fd = made.oom_events()
    try:
        assert select.select([fd], [], [], 0)[0] == []
        events.write_text("oom_kill 1\n")
        assert select.select([fd], [], [], 1)[0] == [fd]
    finally:
        os.close(fd)


def test_leftovers_are_listed_by_cloud_and_host(tree: Path) -> None:
    groups = detect(tree)
    for name in ("minicloud-a/h/i-1", "minicloud-a/h/i-2", "minicloud-a/h2/i-3", "minicloud-b/h/i-4"):
        groups.create(name, LIMITS)
    assert groups.existing("minicloud-a/h") == ["minicloud-a/h/i-1", "minicloud-a/h/i-2"]
    assert groups.existing("minicloud-a") == ["minicloud-a/h/i-1", "minicloud-a/h/i-2", "minicloud-a/h2/i-3"]
    assert groups.existing("minicloud-c") == []


@pytest.mark.parametrize("name", ["", "../up", "a//b", "a/./b", "a/cgroup.procs"])
def test_names_that_leave_the_tree_are_refused(tree: Path, name: str) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        detect(tree).create(name, LIMITS)
    assert caught.value.field == "name"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": float("nan")}, "vcpus"),
        ({"memory_mib": 1}, "memory_mib"),
        ({"pids": 0}, "pids"),
        ({"cpu_weight": 10_001}, "cpu_weight"),
    ],
)
def test_impossible_limits_are_refused(fields: dict[str, float], field: str) -> None:
    good = {"vcpus": 1, "memory_mib": 64, "pids": 10}
    with pytest.raises(InvalidParameterValue) as caught:
        CpuMemoryLimits(**{**good, **fields})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_membership_of_both_versions_is_read() -> None:
    assert own_paths("4:memory:/a\n2:cpu,cpuacct:/b\n1:name=systemd:/\n0::/c\n") == {
        "memory": "/a",
        "cpu": "/b",
        "cpuacct": "/b",
        "name=systemd": "/",
        "": "/c",
    }
