"""`minicloud queue` and `minicloud topic` against a message broker in this process."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minicloud.cli.main import run
from tests.contract.broker_world import broker_world

pytestmark = pytest.mark.asyncio
ARN = "arn:aws:sns:us-east-1:000000000000:news"


class Shell:
    """Runs command lines against one cloud."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys
        self.err = ""

    async def __call__(self, *args: str, code: int = 0) -> str:
        got = await asyncio.to_thread(run, ["--endpoint", self.address, *args])
        captured = self._capsys.readouterr()
        self.err = captured.err
        assert got == code, captured.err or captured.out
        return captured.out

    def so_far(self) -> str:
        """What a command that runs has printed since it was asked last."""
        return self._capsys.readouterr().out

    async def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(await self(*args, "-o", "json", code=code))


@pytest.fixture
async def shell(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Shell]:
    async with broker_world() as world:
        yield Shell(world.address, capsys)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


# ---------------------------------------------------------------- queues


async def test_a_queue_from_its_making_to_its_end(shell: Shell) -> None:
    out = await shell("queue", "create", "jobs", "-a", "VisibilityTimeout=45", "--tag", "a=b")
    assert out.splitlines()[0].split() == ["NAME", "ARN", "URL"] and "arn:aws:sqs:" in out
    await shell("queue", "create", "steps.fifo", "--fifo")
    assert [item["name"] for item in await shell.json("queue", "list")] == ["jobs", "steps.fifo"]
    assert [item["name"] for item in await shell.json("queue", "list", "st")] == ["steps.fifo"]
    shown = await shell.json("queue", "show", "jobs")
    assert shown["attributes"]["VisibilityTimeout"] == "45" and shown["tags"] == {"a": "b"}
    lines = (await shell("queue", "set", "jobs", "VisibilityTimeout=50")).splitlines()
    assert ["attributes.VisibilityTimeout", "50"] in [line.split() for line in lines]
    assert await shell.json("queue", "tag", "jobs", "c=d") == {"a": "b", "c": "d"}
    assert await shell.json("queue", "untag", "jobs", "a") == {"c": "d"}
    assert await shell.json("queue", "delete", "jobs") == {"deleted": "jobs"}
    await shell("queue", "show", "jobs", code=1)
    assert "QueueDoesNotExist" in shell.err and "queue list" in shell.err


async def test_messages_go_in_and_come_out(shell: Shell) -> None:
    await shell("queue", "create", "jobs")
    sent = await shell.json("queue", "send", "jobs", "one", "two", "-a", "n:Number.int=5", "-a", "s=x", "--group", "g")
    assert [bool(item["message_id"]) for item in sent] == [True, True] and sent[0]["error"] == ""
    (got,) = await shell.json("queue", "receive", "jobs")
    assert (got["body"], got["message_id"], got["group_id"]) == ("one", sent[0]["message_id"], "g")
    assert got["attributes"] == {"n": {"type": "Number.int", "value": "5"}, "s": {"type": "String", "value": "x"}}
    assert got["receive_count"] == 1 and got["sent_time"].endswith("Z")
    await shell("queue", "change-visibility", "jobs", got["receipt_handle"], "0")
    both = {item["body"]: item for item in await shell.json("queue", "receive", "jobs", "-n", "10")}
    assert {body: item["receive_count"] for body, item in both.items()} == {"one": 2, "two": 1}
    await shell("queue", "delete-message", "jobs", both["one"]["receipt_handle"])
    await shell("queue", "change-visibility", "jobs", both["two"]["receipt_handle"], "0")
    assert await shell("queue", "receive", "jobs", "--raw", "--delete", "-n", "10") == "two\n"
    assert await shell.json("queue", "receive", "jobs") == []
    await shell("queue", "delete-message", "jobs", "-" + "x" * 37, code=1)
    assert "ReceiptHandleIsInvalid" in shell.err


async def test_standard_input_is_one_message_or_many(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    await shell("queue", "create", "jobs")
    stdin(monkeypatch, "grüße\nzwei\n".encode())
    await shell("queue", "send", "jobs", "--body", "-")
    (got,) = await shell.json("queue", "receive", "jobs", "--delete")
    assert got["body"] == "grüße\nzwei\n"
    stdin(monkeypatch, b"".join(b"line %d\r\n" % number for number in range(2_500)))
    assert await shell("queue", "send", "jobs", "--lines") == "2500 sent, 0 failed\n"
    out = await shell("queue", "receive", "jobs", "--raw", "-n", "1000")
    assert out.splitlines()[:2] == ["line 0", "line 1"]
    stdin(monkeypatch, b"good\n\nalso good\n")
    assert await shell.json("queue", "send", "jobs", "--lines", code=1) == {"sent": 2, "failed": 1}
    assert "message 2: MissingParameter" in shell.err
    assert await shell("queue", "purge", "jobs") == "2502 messages deleted\n"


async def test_dead_letters(shell: Shell) -> None:
    await shell("queue", "create", "dead")
    policy = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 1})
    await shell("queue", "create", "jobs", "-a", f"RedrivePolicy={policy}", "-a", "VisibilityTimeout=0")
    assert await shell.json("queue", "sources", "dead") == ["arn:aws:sqs:us-east-1:000000000000:jobs"]
    await shell("queue", "send", "jobs", "poison")
    await shell("queue", "receive", "jobs")
    assert await shell.json("queue", "receive", "jobs") == []
    (task,) = await shell.json("queue", "redrive", "dead", "--rate", "100")
    assert (task["status"], task["max_per_second"]) == ("RUNNING", 100)
    (back,) = await shell.json("queue", "receive", "jobs", "--wait", "10")
    assert back["body"] == "poison"
    (task,) = await shell.json("queue", "moves", "dead")
    assert (task["status"], task["moved"]) == ("COMPLETED", 1)
    await shell("queue", "redrive", "dead", "--cancel", code=1)
    assert "nothing is being moved" in shell.err


@pytest.mark.parametrize(
    "args",
    [
        ("send", "jobs"),
        ("send", "jobs", "a", "--lines"),
        ("send", "jobs", "a", "b", "--dedup", "x"),
        ("send", "jobs", "a", "-a", "noequals"),
        ("send", "jobs", "a", "-a", "b:Binary=not base64"),
        ("receive", "jobs", "-n", "1001"),
        ("tag", "jobs", "noequals"),
    ],
)
async def test_what_is_not_understood(shell: Shell, args: tuple[str, ...]) -> None:
    await shell("queue", *args, code=2)


@pytest.mark.parametrize("delete", [False, True])
async def test_tail_shows_messages_as_they_come(shell: Shell, delete: bool) -> None:
    await shell("queue", "create", "jobs", "-a", "VisibilityTimeout=0")
    await shell("queue", "send", "jobs", "early")
    args = [sys.executable, "-m", "minicloud.cli.main", "--endpoint", shell.address, "queue", "tail", "jobs", "--raw"]
    args += ["--delete"] if delete else ["--visibility", "600"]
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    ran = await asyncio.to_thread(subprocess.Popen, args, **pipes)
    assert ran.stdout is not None
    assert await asyncio.to_thread(ran.stdout.readline) == b"early\n"
    await shell("queue", "send", "jobs", "late")
    assert await asyncio.to_thread(ran.stdout.readline) == b"late\n"
    attributes = (await shell.json("queue", "show", "jobs"))["attributes"]
    if not delete:
        assert attributes["ApproximateNumberOfMessagesNotVisible"] == "2"
    ran.send_signal(signal.SIGINT)
    _, err = await asyncio.to_thread(ran.communicate, None, 30)
    assert (ran.returncode, err.strip()) == (130, b"")


# ---------------------------------------------------------------- topics


async def test_a_topic_from_its_making_to_its_end(shell: Shell) -> None:
    assert ARN in await shell("topic", "create", "news", "-a", "DisplayName=News", "--tag", "a=b")
    await shell("topic", "create", "steps.fifo", "--fifo")
    assert [item["name"] for item in await shell.json("topic", "list")] == ["news", "steps.fifo"]
    shown = await shell.json("topic", "show", "news")
    assert shown["attributes"]["DisplayName"] == "News" and shown["tags"] == {"a": "b"}
    shown = await shell.json("topic", "set", "news", "DisplayName=Old")
    assert shown["attributes"]["DisplayName"] == "Old"
    assert await shell.json("topic", "tag", "news", "c=d") == {"a": "b", "c": "d"}
    assert await shell.json("topic", "untag", "news", "a") == {"c": "d"}
    assert await shell.json("topic", "delete", "news") == {"deleted": "news"}
    await shell("topic", "show", "news", code=1)
    assert "topic list" in shell.err


async def test_who_is_subscribed_gets_what_is_published(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    await shell("topic", "create", "news")
    await shell("queue", "create", "jobs")
    (made,) = await shell.json(
        "topic", "subscribe", "news", "sqs", "jobs", "--raw", "--filter", '{"kind": [{"prefix": "or"}]}'
    )
    arn = made["arn"]
    assert made["attributes"]["RawMessageDelivery"] == "true"
    (sent,) = await shell.json("topic", "publish", "news", "hello", "-a", "kind=order", "-a", "n:Number=5")
    assert sent["message_id"] and not sent["error"]
    await shell("topic", "publish", "news", "unheard", "--subject", "s")
    (got,) = await shell.json("queue", "receive", "jobs", "-n", "10", "--delete")
    assert got["body"] == "hello" and got["attributes"]["n"] == {"type": "Number", "value": "5"}
    stdin(monkeypatch, b"good\n\n")
    assert await shell("topic", "publish", "news", "--lines", "-a", "kind=or", code=1) == "1 sent, 1 failed\n"
    assert "message 2: " in shell.err
    found = await shell.json("topic", "metrics", "news")
    assert found["values"]["NumberOfMessagesPublished"] == 3
    lines = [line.split() for line in (await shell("topic", "metrics", "news")).splitlines()]
    assert [arn, "NumberOfNotificationsFilteredOut", "1"] in lines
    assert (await shell.json("topic", "subscriptions", "news"))[0]["arn"] == arn
    assert (await shell.json("topic", "subscriptions", arn))["endpoint"] == "arn:aws:sqs:us-east-1:000000000000:jobs"
    assert "FilterPolicy" not in (await shell.json("topic", "set", arn, "FilterPolicy="))["attributes"]
    await shell("topic", "unsubscribe", arn)
    assert await shell.json("topic", "subscriptions") == []
    await shell("topic", "confirm", "news", "no such token", code=1)
    await shell("topic", "subscribe", "news", "email", "x@y", code=2)
    await shell("topic", "publish", "news", "--body", "a", "--lines", code=2)


async def test_a_message_in_each_protocols_words(shell: Shell) -> None:
    await shell("topic", "create", "news")
    await shell("queue", "create", "jobs")
    await shell("topic", "subscribe", "news", "sqs", "jobs", "--raw")
    await shell("topic", "publish", "news", '{"default": "all", "sqs": "queues"}', "--json-structure")
    assert await shell("queue", "receive", "jobs", "--raw") == "queues\n"
