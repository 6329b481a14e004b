"""EventBridge Scheduler by boto3: schedules of functions, made, shown, changed, listed, fired."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from minicloud.aws.call import Door
from minicloud.function import limits
from minicloud.function.aws.scheduler import Scheduler
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world, refused
from tests.contract.events_bench import GOOD, HOME, Bench

ROLE = "arn:aws:iam::000000000000:role/r"
TARGET = {"Arn": HOME.arn("lambda", "function:f"), "RoleArn": ROLE}
OFF = {"Mode": "OFF"}


@dataclass
class World:
    bench: Bench
    aws: AwsWorld
    boto: AsyncBoto

    async def make(self, name: str = "s", **more: Any) -> Any:
        given = {"ScheduleExpression": "rate(1 minute)", "Target": TARGET, "FlexibleTimeWindow": OFF, **more}
        return await self.boto.create_schedule(Name=name, **given)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    bench = await Bench(tmp_path).start()
    await bench.function(run=lambda _: GOOD)
    async with aws_world(Door("scheduler", Scheduler(bench.service, b"pages"))) as aws:
        yield World(bench, aws, aws.client("scheduler"))
    await bench.stop()


async def test_a_schedule_is_made_shown_and_fires(world: World) -> None:
    start = datetime.fromtimestamp(world.bench.clock.wall() + 30, UTC)
    made = await world.make(
        Target={**TARGET, "Input": '{"n":1}'},
        StartDate=start,
        Description="d",
        ScheduleExpressionTimezone="Europe/Berlin",
    )
    shown = await world.boto.get_schedule(Name="s")
    assert shown["Arn"] == made["ScheduleArn"] == HOME.arn("scheduler", "schedule/default/s")
    assert shown["Target"] == {**TARGET, "Input": '{"n":1}'} and shown["StartDate"] == start
    assert (shown["State"], shown["GroupName"], shown["Description"]) == ("ENABLED", "default", "d")
    assert (shown["ScheduleExpressionTimezone"], shown["ActionAfterCompletion"]) == ("Europe/Berlin", "NONE")
    await world.bench.move(30, lambda: world.bench.calls)
    assert world.bench.calls[0].payload == b'{"n":1}'
    await world.boto.delete_schedule(Name="s")
    with refused("ResourceNotFoundException", "Schedule s does not exist"):
        await world.boto.get_schedule(Name="s")


async def test_a_schedule_is_made_once_and_changed_as_a_whole(world: World) -> None:
    await world.make(Description="d", ClientToken="one")
    await world.make(Description="d", ClientToken="one")
    with refused("ConflictException"):
        await world.make(Description="d", ClientToken="two")
    await world.boto.update_schedule(
        Name="s", ScheduleExpression="rate(5 minutes)", Target=TARGET, FlexibleTimeWindow=OFF, State="DISABLED"
    )
    shown = await world.boto.get_schedule(Name="s")
    assert (shown["ScheduleExpression"], shown["State"]) == ("rate(5 minutes)", "DISABLED")
    assert "Description" not in shown and shown["ScheduleExpressionTimezone"] == "UTC"
    with refused("ResourceNotFoundException"):
        await world.boto.update_schedule(
            Name="t", ScheduleExpression="rate(5 minutes)", Target=TARGET, FlexibleTimeWindow=OFF
        )


async def test_what_there_is_not_is_refused_by_name(world: World) -> None:
    for given, name in (
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 5}}, "FlexibleTimeWindow"),
        ({"Target": {**TARGET, "RetryPolicy": {"MaximumRetryAttempts": 1}}}, "Target.RetryPolicy"),
        ({"Target": {"Arn": HOME.arn("sqs", "q"), "RoleArn": ROLE}}, "Target.Arn"),
        ({"KmsKeyArn": "arn:aws:kms:us-east-1:000000000000:key/1"}, "KmsKeyArn"),
        ({"ScheduleExpression": "rate(0 minutes)"}, "Invalid Schedule Expression"),
        ({"ScheduleExpressionTimezone": "Mars/Base"}, "time zone"),
        ({"Target": {**TARGET, "Input": "{"}}, "JSON"),
    ):
        with refused("ValidationException", name):
            await world.make(**given)
    with refused("ResourceNotFoundException", "group x"):
        await world.make(GroupName="x")
    with refused("ResourceNotFoundException"):
        await world.make(Target={**TARGET, "Arn": HOME.arn("lambda", "function:none")})
    assert (await world.boto.list_schedules())["Schedules"] == []


async def test_lists_have_pages_prefixes_states_and_one_account(world: World) -> None:
    for name in ("a1", "a2", "b1"):
        await world.make(name, State="DISABLED" if name == "a2" else "ENABLED")
    pages = world.boto.boto.get_paginator("list_schedules")
    found = await world.aws.run(
        lambda: [one["Name"] for page in pages.paginate(PaginationConfig={"PageSize": 2}) for one in page["Schedules"]]
    )
    assert found == ["a1", "a2", "b1"]
    assert [
        one["Name"] for one in (await world.boto.list_schedules(NamePrefix="a", State="DISABLED"))["Schedules"]
    ] == ["a2"]
    assert [one["Name"] for one in (await world.boto.list_schedule_groups())["ScheduleGroups"]] == ["default"]
    assert (await world.boto.get_schedule_group(Name="default"))["State"] == "ACTIVE"
    assert [
        one["Name"] for one in (await world.boto.list_schedules(GroupName="default", MaxResults=1))["Schedules"]
    ] == ["a1"]
    stranger = world.aws.client("scheduler", account="111122223333")
    assert (await stranger.list_schedules())["Schedules"] == []
    with refused("ResourceNotFoundException"):
        await stranger.delete_schedule(Name="a1")


async def test_groups_hold_schedules_and_take_them_along(world: World) -> None:
    made = await world.boto.create_schedule_group(Name="g", Tags=[{"Key": "k", "Value": "v"}], ClientToken="one")
    assert made["ScheduleGroupArn"] == HOME.arn("scheduler", "schedule-group/g")
    assert await world.boto.create_schedule_group(Name="g", Tags=[{"Key": "k", "Value": "v"}], ClientToken="one")
    for name in ("g", "default"):
        with refused("ConflictException", f"Schedule group {name} already exists"):
            await world.boto.create_schedule_group(Name=name)
    await world.make()
    assert (await world.make(GroupName="g"))["ScheduleArn"] == HOME.arn("scheduler", "schedule/g/s")
    await world.make("t", GroupName="g", State="DISABLED")
    shown = await world.boto.get_schedule(Name="s", GroupName="g")
    assert (shown["GroupName"], shown["Name"]) == ("g", "s")
    listed = (await world.boto.list_schedules())["Schedules"]
    assert [(one["GroupName"], one["Name"]) for one in listed] == [("default", "s"), ("g", "s"), ("g", "t")]
    assert [one["Name"] for one in (await world.boto.list_schedules(GroupName="g"))["Schedules"]] == ["s", "t"]
    await world.bench.move(60, lambda: len(world.bench.calls) == 2)
    assert {json.loads(one.payload)["resources"][0] for one in world.bench.calls} == {one["Arn"] for one in listed[:2]}
    await world.boto.delete_schedule_group(Name="g")
    for call in (world.boto.get_schedule_group, world.boto.delete_schedule_group):
        with refused("ResourceNotFoundException", "Schedule group g does not exist"):
            await call(Name="g")
    with refused("ResourceNotFoundException", "group g"):
        await world.boto.list_schedules(GroupName="g")
    assert [one["Arn"] for one in (await world.boto.list_schedules())["Schedules"]] == [listed[0]["Arn"]]
    with refused("ValidationException", "default schedule group cannot be deleted"):
        await world.boto.delete_schedule_group(Name="default")


async def test_groups_have_tags_pages_and_one_account(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x1", "x2", "y"):
        await world.boto.create_schedule_group(Name=name)
    pages = world.boto.boto.get_paginator("list_schedule_groups")
    found = await world.aws.run(
        lambda: [
            one["Name"] for page in pages.paginate(PaginationConfig={"PageSize": 2}) for one in page["ScheduleGroups"]
        ]
    )
    assert found == ["default", "x1", "x2", "y"]
    assert [one["Name"] for one in (await world.boto.list_schedule_groups(NamePrefix="x"))["ScheduleGroups"]] == [
        "x1",
        "x2",
    ]
    for name in ("x1", "default"):
        arn = HOME.arn("scheduler", f"schedule-group/{name}")
        await world.boto.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
        await world.boto.untag_resource(ResourceArn=arn, TagKeys=["a"])
        assert (await world.boto.list_tags_for_resource(ResourceArn=arn))["Tags"] == [{"Key": "b", "Value": "2"}]
        with refused("ValidationException", "aws:"):
            await world.boto.tag_resource(ResourceArn=arn, Tags=[{"Key": "aws:a", "Value": "1"}])
    stranger = world.aws.client("scheduler", account="111122223333")
    with refused("ResourceNotFoundException"):
        await stranger.tag_resource(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}])
    with refused("ResourceNotFoundException"):
        await stranger.list_tags_for_resource(ResourceArn=HOME.arn("scheduler", "schedule-group/x1"))
    assert [one["Name"] for one in (await stranger.list_schedule_groups())["ScheduleGroups"]] == ["default"]
    monkeypatch.setattr(limits, "SCHEDULE_GROUPS_MAX", 4)
    with refused("ServiceQuotaExceededException"):
        await world.boto.create_schedule_group(Name="z")
