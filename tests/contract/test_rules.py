"""Rules by the SDK, with tickets, and by `minicloud rule`: every rpc, every verb, tenants apart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from minicloud.base import errors
from minicloud.client.rule_models import EventTarget
from tests.contract.function_world import World, function_world, packed
from tests.contract.test_cli_queues import Shell

OTHER = "111122223333"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:jobs"
PATTERN = {"source": ["my.app"], "detail": {"n": [{"numeric": [">", 1]}]}}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with function_world(tmp_path) as made:
        yield made


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world.address, capsys)


async def test_a_rule_by_the_sdk(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.rules.put("r", pattern=PATTERN, description="d", tags={"a": "1"})
        assert json.loads(made.pattern) == PATTERN and made.enabled and made.next_time is None
        assert made == await cloud.rules.get("r") == await cloud.rules.get(made.arn)
        target = EventTarget("q", QUEUE, paths={"n": "$.detail.n"}, template="<n>", retries=0, dead_letter_arn=QUEUE)
        after = await cloud.rules.put_targets("r", target, EventTarget("f", QUEUE + ".fifo", group_id="g"))
        assert after.targets[0] == target and after.targets[1].retries is None
        with pytest.raises(errors.InvalidRequest, match="since it has targets"):
            await cloud.rules.delete("r")
        assert [one.id for one in (await cloud.rules.remove_targets("r", "f")).targets] == ["q"]
        assert not (await cloud.rules.disable("r")).enabled
        assert (await cloud.rules.enable("r")).enabled
        assert (await cloud.rules.tag("r", {"b": "2"})).tags == {"a": "1", "b": "2"}
        assert (await cloud.rules.untag("r", ["a"])).tags == {"b": "2"}
        hourly = await cloud.rules.put("hourly", expression="rate(1 hour)")
        assert hourly.next_time is not None and hourly.next_time > datetime.now(UTC)
        assert [one.name async for one in cloud.rules.list(page_size=1)] == ["hourly", "r"]
        assert [one.name async for one in cloud.rules.list(prefix="h")] == ["hourly"]
        assert [one.name async for one in cloud.rules.list(target_arn=QUEUE)] == ["r"]
        await cloud.rules.delete("hourly")
        with pytest.raises(errors.NotFound, match="Rule hourly does not exist"):
            await cloud.rules.get("hourly")


async def test_events_by_the_sdk(world: World) -> None:
    async with world.client() as cloud:
        await cloud.rules.put("r", pattern=PATTERN)
        await cloud.rules.put_targets("r", EventTarget("q", QUEUE))
        sent = await cloud.rules.send("my.app", "Order", {"n": 2}, resources=["x"], time=datetime.now(UTC))
        assert len(sent.event_id) == 36 and not sent.error_code
        bad = await cloud.rules.send("aws.ec2", "Order", "{}")
        assert bad.error_code == "NotAuthorizedForSourceException" and not bad.event_id
        event = dict.fromkeys(("id", "account", "time", "region", "resources", "detail-type"), "x")
        assert await cloud.rules.test_pattern(PATTERN, {**event, "source": "my.app", "detail": {"n": 2}})
        assert not await cloud.rules.test_pattern(PATTERN, {**event, "source": "my.app", "detail": {"n": 1}})
        with pytest.raises(errors.InvalidRequest) as caught:
            await cloud.rules.put("bad", pattern="{")
        assert caught.value.code == "InvalidEventPatternException"


async def test_another_account_sees_none_of_it(world: World) -> None:
    async with world.client() as mine, world.client(OTHER) as other:
        arn = (await mine.rules.put("r", pattern=PATTERN)).arn
        assert [one async for one in other.rules.list()] == []
        for call in (
            other.rules.get(arn),
            other.rules.disable(arn),
            other.rules.put_targets(arn, EventTarget("q", QUEUE)),
            other.rules.remove_targets(arn, "q"),
            other.rules.tag(arn, {"a": "b"}),
        ):
            with pytest.raises(errors.NotFound):
                await call
        await other.rules.delete(arn)
        assert (await mine.rules.get(arn)).enabled


async def test_the_command_line(shell: Shell, world: World) -> None:
    async with world.client() as cloud:
        await cloud.functions.create("f", packed(main="x = 1"), runtime="python3.11", handler="main.run")
    (made,) = await shell.json("rule", "put", "up", "--instance-state", "running", "--tag", "a=b")
    assert json.loads(made["pattern"]) == {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["running"]},
    }
    await shell("rule", "put", "x", "--pattern", "{}", "--instance-state", "running", code=2)
    await shell("rule", "put", "nightly", "--schedule", "cron(0 3 * * ? *)", "--disabled")
    out = await shell("rule", "list")
    assert out.splitlines()[0].split() == ["NAME", "STATE", "PATTERN", "SCHEDULE", "TARGETS"] and "nightly" in out
    assert [one["name"] for one in await shell.json("rule", "list", "--prefix", "n")] == ["nightly"]
    assert (await shell.json("rule", "enable", "nightly"))[0]["enabled"]
    assert not (await shell.json("rule", "disable", "nightly"))[0]["enabled"]
    args = ("rule", "target", "add", "up", "--function", "f", "--template", '{"id": <id>}', "--path", "id=$.id")
    (target,) = await shell.json(*args, "--retries", "3", "--age", "60")
    assert (target["id"], target["template"], target["paths"]) == ("f", '{"id": <id>}', {"id": "$.id"})
    assert (await shell.json(*args, "--id", "second"))[1]["id"] == "second"  # the permission is there already
    async with world.client() as cloud:
        policy = await cloud.triggers.policy("f")
        assert [(one.principal, one.source_arn) for one in policy.statements] == [("events.amazonaws.com", made["arn"])]
    assert [one["name"] for one in await shell.json("rule", "list", "--target", target["arn"])] == ["up"]
    assert len(await shell.json("rule", "target", "list", "up")) == 2
    assert (await shell.json("rule", "show", "up"))["targets"][0]["id"] == "f"
    assert len(await shell.json("rule", "target", "remove", "up", "second")) == 1
    await shell("rule", "target", "add", "up", code=2)
    assert await shell.json("rule", "tag", "up", "c=d") == {"a": "b", "c": "d"}
    assert await shell.json("rule", "untag", "up", "a") == {"c": "d"}
    assert (await shell.json("rule", "send", "my.app", "Order", '{"n": 1}', "--resource", "x"))["event_id"]
    assert (await shell.json("rule", "send", "aws.x", "Order", code=1))["error_code"]
    event = json.dumps(dict.fromkeys(("id", "account", "source", "time", "region", "resources", "detail-type"), "x"))
    assert await shell("rule", "test-pattern", '{"source": ["x"]}', event) == "it matches\n"
    assert await shell("rule", "test-pattern", '{"source": ["y"]}', event, code=1) == "it does not match\n"
    await shell("rule", "delete", "up", code=1)
    assert "since it has targets" in shell.err
    await shell("rule", "delete", "up", "--force")
    await shell("rule", "delete", "nightly")
    assert await shell.json("rule", "list") == []
