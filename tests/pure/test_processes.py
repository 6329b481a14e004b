"""Knowing our own processes again, and ending exactly these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.cluster import processes as p
from minicloud.settings import CloudSettings


@pytest.fixture
def cloud(tmp_path: Path) -> CloudSettings:
    return CloudSettings(cloud_id=os.urandom(4).hex(), data_dir=str(tmp_path))


@pytest.fixture
def spawn() -> Iterator[object]:
    children: list[subprocess.Popen[bytes]] = []

    def start(code: str = "print(flush=True); input()", **marks: str) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", code], env=marks, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()  # it runs, so its environment is the new one
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def test_recorded_process_is_found_and_ended(tmp_path: Path, spawn) -> None:  # type: ignore[no-untyped-def]
    child, other = spawn(), spawn()
    table = p.ProcessTable(tmp_path / "processes.json")
    record = table.add("raylet", child.pid)
    assert record is not None
    assert p.read_table(tmp_path / "processes.json") == [record]
    assert p.end([record]) == []
    assert child.wait() == -9
    assert other.poll() is None
    assert p.read_table(tmp_path / "processes.json") == []


def test_grace_lets_a_process_end_by_itself(spawn) -> None:  # type: ignore[no-untyped-def]
    code = "import signal,sys; signal.signal(15, lambda *_: sys.exit(7)); print(flush=True); input()"
    child = spawn(code)
    record = p.ProcessRecord("x", child.pid, p.start_ticks(child.pid) or 0)
    assert p.end([record], grace_s=60) == []
    assert child.wait() == 7


def test_deaf_process_is_killed_after_grace(spawn) -> None:  # type: ignore[no-untyped-def]
    child = spawn("import signal; signal.signal(15, signal.SIG_IGN); print(flush=True); input()")
    record = p.ProcessRecord("x", child.pid, p.start_ticks(child.pid) or 0)
    assert p.end([record], grace_s=0.05) == []
    assert child.wait() == -9


def test_reused_pid_is_not_touched(spawn) -> None:  # type: ignore[no-untyped-def]
    child = spawn()
    stale = p.ProcessRecord("raylet", child.pid, (p.start_ticks(child.pid) or 0) - 1)
    assert p.end([stale]) == []
    assert child.poll() is None


def test_zombie_is_not_alive(spawn) -> None:  # type: ignore[no-untyped-def]
    child = spawn()
    record = p.ProcessRecord("x", child.pid, p.start_ticks(child.pid) or 0)
    p.end([record])
    assert not p.is_alive(record)  # nobody has waited for it yet


def test_table_of_an_earlier_boot_is_void(tmp_path: Path, spawn) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "processes.json"
    p.ProcessTable(path).add("raylet", spawn().pid)
    assert len(p.read_table(path)) == 1
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot": "another"}))
    assert p.read_table(path) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"boot": 1, "processes": 3}'])
def test_damaged_table_records_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "processes.json").write_text(text)
    assert p.read_table(tmp_path / "processes.json") == []


def test_discarded_process_is_forgotten(tmp_path: Path, spawn) -> None:  # type: ignore[no-untyped-def]
    table = p.ProcessTable(tmp_path / "t")
    child = spawn()
    table.add("gcs", child.pid)
    table.discard(child.pid)
    assert table.all() == p.read_table(tmp_path / "t") == []
    assert table.add("gcs", 2**22 + 1) is None


def test_marked_processes_of_this_cloud_only(cloud: CloudSettings, spawn) -> None:  # type: ignore[no-untyped-def]
    mine = spawn(**p.marks(cloud))
    copy = spawn(**p.marks(replace(cloud, data_dir=cloud.data_dir + "2")))  # same id: a copied data directory
    half = spawn(**{p.MARK_ID: cloud.cloud_id})
    assert [record.pid for record in p.marked(cloud)] == [mine.pid]
    assert p.end_marked(cloud) == []
    assert mine.wait() == -9
    assert copy.poll() is None and half.poll() is None
