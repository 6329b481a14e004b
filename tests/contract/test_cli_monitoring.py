"""`minicloud metric` and `minicloud alarm` against an autoscaler in this process."""

from __future__ import annotations

import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.monitoring_world import monitoring_world
from tests.contract.test_cli_queues import Shell

TOPIC = "arn:aws:sns:us-east-1:000000000000:pages"


@pytest.fixture
async def shell(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    async with monitoring_world() as world:
        yield Shell(world.address, capsys)


async def test_metrics_are_put_listed_and_read(shell: Shell) -> None:
    for ago, value in (("3m", "10"), ("2m", "30"), ("1m", "20")):
        await shell("metric", "put", "My/App", "Load", value, "-d", "Host=a", "--ago", ago)
    await shell("metric", "put", "My/App", "Other", "1", "2", "--unit", "Seconds", "--fine")
    listed = await shell.json("metric", "list", "My/App")
    assert [(one["name"], one["dimensions"]) for one in listed] == [("Load", {"Host": "a"}), ("Other", {})]
    assert len(await shell.json("metric", "list", "-d", "Host")) == 1
    line, most = await shell.json(
        "metric", "get", "My/App", "Load", "-d", "Host=a", "--stat", "Sum", "--stat", "Maximum"
    )
    assert line["values"] == most["values"] == [10, 30, 20]
    out = (await shell("metric", "get", "My/App", "Load", "-d", "Host=a", "--stat", "Sum", "-e", "m1 * 2")).split("\n")
    assert out[0].split() == ["TIME", "m1", "*", "2"] and [row.split()[-1] for row in out[1:4]] == ["20", "60", "40"]
    await shell("metric", "get", "My/App", "Load", "--period", "1y", code=2)
    assert "duration" in shell.err
    await shell("metric", "put", "AWS/EC2", "x", "1", code=1)
    assert "Namespace" in shell.err


async def test_a_metric_is_drawn(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for minute in range(1, 31):
        await shell("metric", "put", "My/App", "Load", str(minute % 10 * 100), "--ago", f"{minute}m")
    drawn = (
        await shell("metric", "plot", "My/App", "Load", "--stat", "Sum", "--height", "12", "--width", "60")
    ).splitlines()
    assert drawn[0].startswith("900 ┤") and drawn[9].split()[0] == "0" and drawn[-1] == "Sum"
    assert sum(0x2800 < ord(character) < 0x2900 for row in drawn for character in row) > 40
    picture = tmp_path / "load.png"
    await shell("metric", "plot", "My/App", "Load", "--png", str(picture), "--width", "640", "--height", "300")
    raw = picture.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">II", raw[16:24]) == (640, 300)
    await shell("metric", "plot", "My/App", "Nothing", code=1)
    assert "no data" in shell.err
    monkeypatch.setitem(sys.modules, "PIL", None)
    await shell("metric", "plot", "My/App", "Load", "--png", str(picture), code=1)
    assert "minicloud[plot]" in shell.err


async def test_an_alarm_from_its_making_to_its_end(shell: Shell) -> None:
    made = await shell(
        "alarm", "put", "hot", "--metric", "My/App", "Load", "-d", "Host=a", "--when", "> 80",
        "--periods", "3", "--datapoints", "2", "--action", TOPIC,
    )  # fmt: skip
    assert "Average Load > 80, 2 of 3 periods of 60 s" in made and "INSUFFICIENT_DATA" in made
    await shell("alarm", "put", "any", "--rule", "ALARM(hot)")
    assert (await shell.json("alarm", "show", "hot"))["alarm_actions"] == [TOPIC]
    await shell("alarm", "set-state", "hot", "ALARM")
    assert [one["name"] for one in await shell.json("alarm", "list", "--state", "ALARM")] == ["any", "hot"]
    assert [item["kind"] for item in await shell.json("alarm", "history", "hot")][-2:] == [
        "StateUpdate",
        "ConfigurationUpdate",
    ]
    await shell("alarm", "disable", "hot")
    assert "disabled" in await shell("alarm", "list", "--prefix", "ho")
    await shell("alarm", "enable", "hot")
    assert await shell.json("alarm", "tag", "hot", "a=b") == {"a": "b"}
    assert await shell.json("alarm", "untag", "hot", "a") == {}
    assert await shell.json("alarm", "delete", "hot", "any") == {"deleted": ["hot", "any"]}
    await shell("alarm", "show", "hot", code=1)
    assert "ResourceNotFound" in shell.err and "alarm list" in shell.err


async def test_an_alarm_that_makes_no_sense_is_told_so(shell: Shell) -> None:
    await shell("alarm", "put", "hot", code=2)
    await shell("alarm", "put", "hot", "--metric", "N", "m", code=2)
    assert "--when" in shell.err
    await shell("alarm", "put", "hot", "--metric", "N", "m", "--when", "80", code=2)
    await shell("alarm", "put", "hot", "--metric", "N", "m", "--when", ">80", "--period", "45s", code=1)
    assert "Period" in shell.err


async def test_logs_are_written_read_and_filtered(shell: Shell) -> None:
    await shell("log", "create", "/app", "--retention", "7", "--tag", "a=b")
    await shell("log", "create", "/app", "one")
    assert "7 d" in await shell("log", "groups", "/a")
    assert (await shell.json("log", "put", "/app", "one", "ERROR a", "fine b"))["put"] == 2
    assert [line.split(" ", 2)[2] for line in (await shell("log", "get", "/app", "one")).splitlines()] == [
        "ERROR a",
        "fine b",
    ]
    out = await shell("log", "filter", "/app", "ERROR", "--since", "1h")
    assert out.rstrip().endswith("one ERROR a") and len(out.splitlines()) == 1
    assert (await shell("log", "tail", "/app", "-n", "1")).rstrip().endswith("one fine b")
    assert [one["name"] for one in await shell.json("log", "streams", "/app", "--by-time")] == ["one"]
    assert (await shell.json("log", "retention", "/app", "0"))[0]["retention_days"] == 0
    assert await shell.json("log", "tag", "/app", "c=d") == {"a": "b", "c": "d"}
    assert await shell.json("log", "untag", "/app", "a") == {"c": "d"}
    assert await shell.json("log", "delete", "/app", "one") == {"deleted": "one"}
    await shell("log", "delete", "/app")
    await shell("log", "streams", "/app", code=1)
    assert "ResourceNotFoundException" in shell.err and "log groups" in shell.err
