"""Compiled modules are used as long as they are of these very sources, and for this Python; else nothing of them is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import compiled_build
from minicloud import compiled

NAME = "minicloud.queue.ranges"


def offered(folder: Path, source: str, **changes: object) -> compiled.Compiled:
    """A build of one module, whose source is next to it."""
    (folder / "ranges.py").write_text(source)
    made = folder / "made"
    made.mkdir()
    known = {"ranges.py": compiled.digest(folder / "ranges.py")}
    manifest = {"suffix": compiled.SUFFIX, "modules": [NAME], "sources": known, **changes}
    (made / compiled.MANIFEST).write_text(json.dumps(manifest))
    (made / f"{NAME}{compiled.SUFFIX}").touch()
    return compiled.Compiled(made, folder)


def test_what_was_built_of_these_sources_is_found(tmp_path: Path) -> None:
    spec = offered(tmp_path, "x = 1").find_spec(NAME)
    assert spec is not None and spec.origin == str(tmp_path / "made" / f"{NAME}{compiled.SUFFIX}")


def test_other_modules_are_not_looked_for(tmp_path: Path) -> None:
    assert offered(tmp_path, "x = 1").find_spec("minicloud.queue.rows") is None


def test_a_source_that_changed_makes_all_of_it_stale(tmp_path: Path) -> None:
    one = offered(tmp_path, "x = 1")
    (tmp_path / "ranges.py").write_text("x = 2")
    assert not one.is_fresh() and one.find_spec(NAME) is None


def test_a_source_that_is_gone_makes_all_of_it_stale(tmp_path: Path) -> None:
    one = offered(tmp_path, "x = 1")
    (tmp_path / "ranges.py").unlink()
    assert one.find_spec(NAME) is None


def test_a_build_of_which_a_part_is_gone_is_none(tmp_path: Path) -> None:
    """As one that is being replaced, or cleaned away."""
    one = offered(tmp_path, "x = 1")
    (tmp_path / "made" / f"{NAME}{compiled.SUFFIX}").unlink()
    assert not one.is_fresh() and one.find_spec(NAME) is None


def test_what_was_built_for_another_python_is_not_found(tmp_path: Path) -> None:
    assert offered(tmp_path, "x = 1", suffix=".cpython-39-x86_64-linux-gnu.so").find_spec(NAME) is None


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"suffix": 1}'])
def test_a_manifest_that_cannot_be_read_is_none(tmp_path: Path, manifest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.SWITCH)
    (tmp_path / compiled.MANIFEST).write_text(manifest)
    before = list(sys.meta_path)
    compiled.offer(tmp_path)
    assert sys.meta_path == before


def test_it_can_be_switched_off() -> None:
    """And then every module comes from its source."""
    program = f"import {NAME} as one, minicloud.compiled as c; print(one.__file__, c.in_use())"
    done = subprocess.run(
        [sys.executable, "-c", program], env={compiled.SWITCH: "0"}, capture_output=True, text=True, check=True
    )
    file, in_use = done.stdout.split()
    assert file.endswith("minicloud/queue/ranges.py") and in_use == "False"


def test_a_build_depends_on_all_that_its_modules_import() -> None:
    """Constants of others become part of the machine code."""
    names = {str(path.relative_to(compiled_build.ROOT)) for path in compiled_build.sources()}
    assert {"minicloud/queue/rows.py", "minicloud/queue/limits.py", "minicloud/base/errors.py"} <= names
    assert all(compiled_build.file_of(module) is not None for module in compiled_build.HOT)
