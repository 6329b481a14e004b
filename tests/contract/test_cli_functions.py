"""`minicloud function` and the packages that the SDK makes, against a function service in this process."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import minicloud
from minicloud.base.errors import InvalidParameterValue
from minicloud.cli.functions.triggers import settings_of
from minicloud.client import Client
from minicloud.client.deploy import guess, pack_callable, pack_path
from minicloud.client.function_models import FunctionMapping
from minicloud.client.functions import FunctionFailed
from minicloud.function.ports import Outcome
from tests.contract.function_world import World, failed, function_world
from tests.contract.test_cli_queues import Shell

MODULE = """
import minicloud
from minicloud import Client

@minicloud.function(memory_mib=256)
def add(a, b=2):
    return a + b

def outer():
    def inner(): ...
    return inner
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with function_world(tmp_path / "world") as made:
        yield made


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world.address, capsys)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "hello"
    (made / "lib").mkdir(parents=True)
    (made / "__pycache__").mkdir()
    (made / "__pycache__" / "x.pyc").write_bytes(b"x")
    (made / "app.py").write_text("def handler(event, context): return event")
    (made / "lib" / "more.py").write_text("")
    return made


async def test_a_payload_comes_from_standard_input(shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await shell("function", "deploy", str(folder))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"piped": 1}')))
    assert await shell("function", "invoke", "hello", "-") == '{"piped": 1}\n'
    assert await shell("function", "invoke", "hello", "@/nowhere/event.json", code=2) == ""
    assert "cannot read /nowhere/event.json" in shell.err


async def test_deploy_invoke_show_delete(shell: Shell, world: World, folder: Path, tmp_path: Path) -> None:
    made = await shell.json("function", "deploy", str(folder), "--memory", "256", "--env", "AB=1")
    assert (made[0]["name"], made[0]["handler"], made[0]["memory_mib"]) == ("hello", "app.handler", 256)
    assert made[0]["runtime"] == f"python3.{sys.version_info.minor}"
    again = await shell.json("function", "deploy", str(folder), "--memory", "256", "--env", "AB=1")
    assert again[0]["revision_id"] == made[0]["revision_id"]  # nothing was changed
    assert await shell("function", "invoke", "hello", '{"a": 1}', "--tail") == '{"a": 1}\n'
    assert shell.err == "tail"
    (tmp_path / "event.json").write_text("[1]")
    assert await shell("function", "invoke", "hello", f"@{tmp_path / 'event.json'}") == "[1]\n"
    assert await shell("function", "invoke", "hello", "--dry-run") == "it could be invoked\n"
    world.runs["hello"] = lambda _: failed("Unhandled", "no")
    assert "no" in await shell("function", "invoke", "hello", code=1)
    assert "Unhandled" in shell.err
    assert "app.handler" in await shell("function", "list")
    assert "AB" in await shell("function", "show", "hello")
    (folder / "app.py").write_text("def handler(event, context): return 2")
    assert (await shell.json("function", "deploy", str(folder), "--publish"))[0]["version"] == "1"
    assert [one["version"] for one in await shell.json("function", "versions", "hello")] == ["$LATEST", "1"]
    logged = ("--log-format", "JSON", "--log-level", "WARN", "--system-log-level", "DEBUG", "--log-group", "/mine")
    await shell("function", "deploy", str(folder), *logged, "--tracing", "Active")
    shown = await shell.json("function", "show", "hello")
    assert (shown["log_format"], shown["application_log_level"], shown["system_log_level"]) == ("JSON", "WARN", "DEBUG")
    assert (shown["log_group"], shown["tracing"]) == ("/mine", "Active")
    await shell("function", "versions", "hello", "--publish")
    (shared,) = await shell.json("function", "alias", "hello", "prod", "1", "--weight", "2=0.25")
    assert (shared["version"], shared["weights"]) == ("1", {"2": 0.25})
    await shell("function", "alias", "hello", "prod", "1", "--weight", "2=much", code=2)
    await shell("function", "alias", "hello", "prod", "1")
    moved = await shell.json("function", "alias", "hello", "prod", "$LATEST")
    assert moved[0]["version"] == "$LATEST"
    await shell("function", "alias", "hello", "prod", "--delete")
    url = await shell.json("function", "url", "hello", "--public")
    assert url[0]["auth"] == "NONE"
    assert (await shell.json("function", "concurrency", "hello", "--reserve", "5"))["reserved"] == 5
    await shell("function", "delete", "hello")
    await shell("function", "show", "hello", code=1)
    assert "Function not found" in shell.err


def test_what_a_folder_says_of_its_runtime(tmp_path: Path, folder: Path) -> None:
    assert guess(folder)[1] == "app.handler"
    (folder / "bootstrap").write_text("#!/bin/sh")
    assert guess(folder) == ("provided.al2023", "bootstrap")
    (tmp_path / "empty").mkdir()
    assert guess(tmp_path / "empty") == ("", "")
    (folder / "bootstrap").chmod(0o755)
    raw = pack_path(folder)
    assert raw == pack_path(folder)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        assert archive.namelist() == ["app.py", "bootstrap", "lib/more.py"]
        assert archive.getinfo("bootstrap").external_attr >> 16 & 0o777 == 0o755


def imported(path: Path) -> ModuleType:
    path.write_text(MODULE)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


async def test_a_callable_is_deployed_and_called(world: World, tmp_path: Path) -> None:
    module = imported(tmp_path / "sums_of_test.py")
    seen = []

    def run(invocation: object) -> Outcome:
        seen.append(json.loads(invocation.payload))  # type: ignore[attr-defined]
        return Outcome(b"3")

    world.runs["add"] = run  # type: ignore[assignment]
    add = module.add
    assert add(1) == 3 and add.__name__ == "add"
    with Client(world.address, access_key_id="000000000000", secret_access_key="s") as cloud:
        add._client = cloud
        assert await asyncio.to_thread(add.remote, 1, b=2) == 3
        assert await asyncio.to_thread(add.remote, 1) == 3
        assert seen == [{"args": [1], "kwargs": {"b": 2}}, {"args": [1], "kwargs": {}}]
        spec = world.environments.calls[0][0]
        assert (spec.name, spec.memory_mib, spec.handler) == ("add", 256, "_minicloud_entry.handler")
        world.runs["add"] = lambda _: failed("Unhandled", "bad sum")
        with pytest.raises(FunctionFailed, match="bad sum"):
            await asyncio.to_thread(add.remote, 1)
        with pytest.raises(InvalidParameterValue, match="JSON"):
            await asyncio.to_thread(add.remote, object())


@pytest.mark.parametrize("with_sdk", [True, False])
async def test_the_package_of_a_callable_runs_with_and_without_the_sdk(tmp_path: Path, with_sdk: bool) -> None:
    module = imported(tmp_path / "sums_of_test.py")
    with zipfile.ZipFile(io.BytesIO(pack_callable(module.add._called))) as archive:
        archive.extractall(tmp_path / "unpacked")
    program = "import _minicloud_entry as e; print(e.handler({'args': [1], 'kwargs': {'b': 4}}, None))"
    assert await unpacked(tmp_path / "unpacked", program, with_sdk) == (0, "5\n", "")


async def unpacked(folder: Path, program: str, with_sdk: bool) -> tuple[int | None, str, str]:
    """Exit code, output and errors of a program beside what was unpacked."""
    hide = "" if with_sdk else "import sys; sys.modules['minicloud'] = None; "
    root = str(Path(minicloud.__file__).parents[1])
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hide + program, cwd=folder, stdout=pipe, stderr=pipe, env={"PYTHONPATH": root}
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("with_sdk", [True, False])
async def test_a_module_that_calls_itself_while_it_is_imported_is_told_so(tmp_path: Path, with_sdk: bool) -> None:
    module = imported(tmp_path / "sums_of_test.py")
    with zipfile.ZipFile(io.BytesIO(pack_callable(module.add._called))) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "unpacked" / "sums_of_test.py").write_text(MODULE + "\nadd.remote(1)\n")
    code, _, err = await unpacked(tmp_path / "unpacked", "import _minicloud_entry", with_sdk)
    assert code == 1 and "under `if __name__ == '__main__':`" in err.splitlines()[-1]


def test_a_failure_is_told_in_the_words_of_the_function() -> None:
    story = {"errorType": "KeyError", "errorMessage": "'a'", "stackTrace": ['  File "f.py", line 1\n']}
    told = str(FunctionFailed("Unhandled", json.dumps(story).encode()))
    assert told.splitlines() == ["Unhandled: KeyError: 'a'", '  File "f.py", line 1']
    for payload in (b"no json", b"[1]", b'"text"', b'{"errorMessage": "m"}'):
        assert str(FunctionFailed("Handled", payload)) == f"Handled: {payload.decode()}"


def test_a_queue_that_feeds_a_function_shows_how() -> None:
    given: dict[str, Any] = {"batch_size": 10, "window_s": 2, "concurrency": 5, "report_failures": True}
    given |= {"filters": ("{}",), "modified_time": None, "last_result": "", "tags": {}}
    mapping = FunctionMapping(uuid="u", arn="a", source_arn="s", function_arn="f", state="Enabled", **given)
    assert settings_of(mapping) == "batch 10, window 2 s, concurrency 5, filters 1, reports failures"


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    module = imported(tmp_path / "sums_of_test.py")
    with pytest.raises(InvalidParameterValue, match="top of its module"):
        pack_callable(module.outer())
    with pytest.raises(InvalidParameterValue, match="in no file"):
        pack_callable(len)  # not print: Ray puts a function of its own in its place
