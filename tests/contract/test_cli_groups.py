"""`minicloud group` and `minicloud policy` against an autoscaler in this process."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest

from minicloud.cli.alarm import arns
from minicloud.cli.groups.watch import History, line, picture
from minicloud.cli.session import Session
from tests.contract.scaling_doors import World, scaling_doors
from tests.contract.test_cli_queues import Shell


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with scaling_doors() as made:
        yield made


@pytest.fixture
def shell(world: World, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(world.address, capsys)


async def test_a_group_from_its_making_to_its_end(world: World, shell: Shell) -> None:
    out = await shell("group", "create", "web", "web", "--min", "1", "--max", "4", "--desired", "2", "--warmup", "30s",
                      "--health", "ELB", "--grace", "1m", "--tag", "a=b", "--end-first", "OldestInstance")  # fmt: skip
    assert "lt-1:$Default" in out and "us-east-1a" in out
    await world.run(40)
    shown = await shell.json("group", "show", "web")
    assert (shown["desired"], shown["warmup_s"], shown["health_types"], shown["grace_s"]) == (2, 30, ["ELB"], 60)
    assert (await shell.json("group", "update", "web", "--version", "7"))[0]["template"]["version"] == "7"
    assert (await shell.json("group", "set-desired", "web", "3"))[0]["desired"] == 3
    await world.run(40)
    members = await shell.json("group", "instances", "web")
    assert [one["lifecycle_state"] for one in members] == ["InService"] * 3
    assert "explicitly set group desired" in await shell("group", "activities", "web")
    assert len(await shell.json("group", "activities", "--limit", "2")) == 2
    await shell("group", "suspend", "web", "Launch")
    assert "no Launch" in await shell("group", "list")
    await shell("group", "resume", "web")
    assert await shell.json("group", "tag", "web", "c=d", "--local") == {"a": "b", "c": "d"}
    assert await shell.json("group", "untag", "web", "c") == {"a": "b"}
    assert await shell.json("group", "metrics", "web", "GroupMinSize") == {"metrics": ["GroupMinSize"]}
    topic = "arn:aws:sns:us-east-1:000000000000:ops"
    assert len((await shell.json("group", "notify", "web", topic))[0]["events"]) == 4
    assert await shell.json("group", "notify", "web", topic, "--stop") == []
    await shell("group", "delete", "web", code=1)
    assert "ResourceInUse" in shell.err and "--force" in shell.err
    assert "ending" in await shell("group", "delete", "web", "--force")
    await world.run(20)
    assert await shell.json("group", "list") == []


async def test_instances_hooks_and_pools(world: World, shell: Shell) -> None:
    await shell("group", "create", "web", "lt-1", "--min", "0", "--max", "5", "--desired", "2")
    await world.run(40)
    first, second = [one["instance_id"] for one in await shell.json("group", "instances", "web")]
    await shell("group", "standby", "web", first, code=2)
    await shell("group", "standby", "web", first, "--decrement")
    await world.run(3)
    assert "Standby" in await shell("group", "instances")
    assert (await shell.json("group", "return", "web", first))[0]["desired"] == 2
    assert (await shell.json("group", "protect", "web", first))[0]["protected"]
    assert not (await shell.json("group", "protect", "web", first, "--off"))[0]["protected"]
    await shell("group", "set-health", second, "Unhealthy")
    await world.run(30)
    assert second not in world.cloud.compute.alive()
    await shell("group", "hook", "put", "web", "boot", "launching", "--timeout", "10m", "--default", "CONTINUE")
    assert (await shell.json("group", "hook", "list", "web"))[0]["timeout_s"] == 600
    await shell("group", "set-desired", "web", "3")
    await world.run(30)
    (waiting,) = [one for one in await shell.json("group", "instances", "web") if one["waits"]]
    await shell("group", "hook", "heartbeat", "web", "boot", waiting["instance_id"])
    assert "CONTINUE" in await shell("group", "hook", "complete", "web", "boot", waiting["waits"][0]["token"])
    await shell("group", "hook", "delete", "web", "boot")
    assert "Running" in await shell("group", "warm-pool", "put", "web", "--min", "1", "--state", "Running", "--reuse")
    await shell("group", "warm-pool", "delete", "web")
    await shell("group", "terminate", first, "--decrement")
    await world.run(10)
    third = next(one["instance_id"] for one in await shell.json("group", "instances", "web"))
    assert (await shell.json("group", "detach", "web", third, "--decrement"))[0]["desired"] == 1
    await world.run(5)
    assert (await shell.json("group", "attach", "web", third))[0]["desired"] == 2


async def test_a_refresh(world: World, shell: Shell) -> None:
    await shell("group", "create", "web", "lt-1", "--min", "0", "--max", "4", "--desired", "2", "--warmup", "0",
                "--version", "1")  # fmt: skip
    await world.run(40)
    begun = await shell(
        "group", "refresh", "start", "web", "--template", "lt-2", "--version", "2", "--min-healthy", "50"
    )
    assert "InProgress" in begun and "lt-2:2" in begun
    assert "RollbackInProgress" in await shell("group", "refresh", "rollback", "web")
    await world.run(100)
    assert (await shell.json("group", "refresh", "list", "web"))[0]["status"] == "RollbackSuccessful"
    await shell("group", "refresh", "cancel", "web", code=1)
    assert "refresh list" in shell.err


async def test_policies_and_schedules(world: World, shell: Shell) -> None:
    await shell("group", "create", "web", "lt-1", "--min", "1", "--max", "8", "--warmup", "0")
    await world.run(40)
    assert "ASGAverageCPUUtilization at 50" in await shell("policy", "put", "target-tracking", "web", "cpu", "50")
    arn = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/app/0123456789abcdef"
    requests = ["--metric", "ALBRequestCountPerTarget", "--target-group", arn]
    made = await shell.json("policy", "put", "target-tracking", "web", "requests", "100", *requests)
    assert made[0]["target_tracking"]["label"] == "targetgroup/app/0123456789abcdef"
    await shell("policy", "delete", "web", "requests")
    own = json.dumps({"MetricName": "Load", "Namespace": "My/App", "Statistic": "Average"})
    await shell("policy", "put", "target-tracking", "web", "own", "5", "--customized", own, "--disabled")
    steps = await shell("policy", "put", "step", "web", "steps", "--step", "0:10=1", "--step", "10:=2")
    assert "0:10=1, 10:=2" in steps
    await shell("policy", "put", "step", "web", "steps", "--step", "one", code=2)
    await shell("policy", "put", "simple", "web", "one", "1", "--cooldown", "1m")
    await shell("policy", "put", "predictive", "web", "ahead", "100", "--buffer", "1m", "--over-max", "10")
    assert [one["name"] for one in await shell.json("policy", "list")] == ["ahead", "cpu", "one", "own", "steps"]
    assert (await shell.json("policy", "show", "web", "ahead"))["predictive"]["max_buffer_percent"] == 10
    assert (await shell.json("policy", "execute", "web", "one"))[0]["desired"] == 2
    await world.run(5)
    assert len(await shell.json("policy", "forecast", "web", "ahead")) == 192
    drawn = await shell("policy", "forecast", "web", "ahead", "--plot", "--width", "60", "--height", "10")
    assert drawn.startswith("load\n") and "\ncapacity\n" in drawn
    assert len((await shell("policy", "forecast", "web", "ahead")).splitlines()) == 193
    await shell("policy", "delete", "web", "ahead")
    await shell("policy", "show", "web", "ahead", code=1)
    assert "policy list" in shell.err
    await shell(
        "policy", "schedule", "web", "nine", "--cron", "0 9 * * *", "--time-zone", "Europe/Berlin", "--min", "2"
    )
    assert "0 9 * * * Europe/Berlin" in await shell("policy", "schedules")
    await shell("policy", "schedule", "web", "bad", "--cron", "61 * * * *", "--min", "2", code=1)
    assert "five fields" in shell.err
    await shell("policy", "unschedule", "web", "nine")
    assert await shell.json("policy", "schedules", "web") == []


async def test_a_group_is_watched(world: World, shell: Shell) -> None:
    await shell("group", "create", "web", "lt-1", "--min", "0", "--max", "4", "--desired", "2", "--warmup", "0")
    await shell("policy", "put", "target-tracking", "web", "cpu", "50")
    world.cloud.metrics.load = 40.0
    await world.run(130)
    once = await shell("group", "watch", "web", "--once")
    assert "in service 2" in once and "ASGAverageCPUUtilization 20 of 50" in once
    shown = json.loads(await shell("group", "watch", "web", "--once", "-o", "json"))
    assert len(shown["members"]) == 2 and shown["loads"][0]["target"] == 50
    async with asyncio.timeout(60):
        task = asyncio.create_task(shell("group", "watch", "web"))
        said = ""
        while not task.done():
            await world.run(2)
            said += shell.so_far()
            if "in service 2" not in said:
                continue
            async with world.client() as cloud:
                if [one async for one in cloud.groups.list("web")]:
                    await cloud.groups.delete("web", force=True)
    assert (said + task.result()).startswith("desired 2 (0-4), in service 2")  # and it ended with the group


async def test_the_picture_of_a_group(world: World) -> None:
    from rich.console import Console

    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=4, desired=2, warmup_s=0)
        await cloud.policies.put_target_tracking("web", "cpu", 50.0, metric="ASGAverageCPUUtilization")
        world.cloud.metrics.load = 40.0
        await world.run(130)
        view = await anext(cloud.groups.watch("web"))
        await cloud.groups.start_refresh("web", min_healthy=50)
        during = await anext(cloud.groups.watch("web"))
    assert line(view).startswith("desired 2 (0-4), in service 2; ASG")
    assert "; refresh InProgress, 50 % done, 1 left; " in line(during)
    history = History()
    history.add(view)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(picture(view, history))
    text = console.export_text()
    assert "●●··" in text and "InService" in text and "20 of 50  ▄" in text and "Successful" in text
    console.print(picture(during, history))
    assert "refresh InProgress, 50 % done, 1 left" in console.export_text()


async def test_what_makes_no_sense_is_told_so(shell: Shell) -> None:
    await shell("group", "create", "web", "lt-1", code=2)
    assert "--min" in shell.err
    await shell("group", "create", "web", "lt-1", "--min", "3", "--max", "1", code=1)
    assert "ValidationError" in shell.err
    await shell("group", "create", "web", "nothing", "--min", "0", "--max", "1", code=1)
    assert "template list" in shell.err
    await shell("group", "show", "nothing", code=1)
    assert "group list" in shell.err
    await shell("group", "create", "web", "lt-1", "--min", "0", "--max", "1", "--warmup", "soon", code=2)
    assert "duration" in shell.err


async def test_an_alarm_may_name_a_policy(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=1)
        made = await cloud.policies.put_simple("web", "one", 1)
    session = Session(endpoint=world.address)
    topic = "arn:aws:sns:us-east-1:000000000000:ops"
    assert await asyncio.to_thread(arns, session, ["policy:web/one", topic]) == [made.arn, topic]
    await asyncio.to_thread(session.close)
