"""EventBridge by boto3: rules, targets, events, tags, the one bus; what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ParamValidationError

from minicloud.aws.call import Door
from minicloud.event.aws import EventBridge
from tests.contract.aws_world import AsyncBoto, AwsWorld, aws_world, refused
from tests.contract.rule_bench import DEAD, FUNCTION, HOME, PATTERN, QUEUE, Bench

BUS = HOME.arn("events", "event-bus/default")


@dataclass
class World:
    bench: Bench
    aws: AwsWorld
    boto: AsyncBoto


@pytest.fixture
async def world() -> AsyncIterator[World]:
    bench = await Bench().start()
    async with aws_world(Door("events", EventBridge(bench.service, b"pages"))) as aws:
        yield World(bench, aws, aws.client("events"))
    await bench.stop()


async def test_a_rule_from_its_making_to_its_end(world: World) -> None:
    boto = world.boto
    made = await boto.put_rule(
        Name="r", EventPattern=PATTERN, Description="d", State="ENABLED", Tags=[{"Key": "a", "Value": "b"}]
    )
    assert made["RuleArn"] == HOME.arn("events", "rule/r")
    shown = await boto.describe_rule(Name="r", EventBusName="default")
    assert {name: shown[name] for name in shown if name != "ResponseMetadata"} == {
        "Name": "r",
        "Arn": made["RuleArn"],
        "EventPattern": PATTERN,
        "State": "ENABLED",
        "Description": "d",
        "EventBusName": "default",
        "CreatedBy": HOME.account,
    }
    await boto.disable_rule(Name="r")
    assert (await boto.describe_rule(Name="r"))["State"] == "DISABLED"
    await boto.enable_rule(Name="r", EventBusName=BUS)
    assert (await boto.describe_rule(Name="r"))["State"] == "ENABLED"
    await boto.put_rule(Name="r", ScheduleExpression="cron(0 18 ? * MON-FRI *)", State="DISABLED")
    shown = await boto.describe_rule(Name="r")
    assert (shown["ScheduleExpression"], shown["State"]) == ("cron(0 18 ? * MON-FRI *)", "DISABLED")
    assert "EventPattern" not in shown and "Description" not in shown
    await boto.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": QUEUE}])
    with refused("ValidationException", "Rule can't be deleted since it has targets."):
        await boto.delete_rule(Name="r")
    await boto.remove_targets(Rule="r", Ids=["q", "other"])
    await boto.delete_rule(Name="r")
    await boto.delete_rule(Name="r")
    for call in (boto.describe_rule, boto.enable_rule, boto.disable_rule):
        with refused("ResourceNotFoundException", "Rule r does not exist on EventBus default."):
            await call(Name="r")


async def test_targets_are_shown_as_they_were_given(world: World) -> None:
    await world.boto.put_rule(Name="r", EventPattern=PATTERN)
    targets = [
        {
            "Id": "1",
            "Arn": FUNCTION,
            "InputTransformer": {"InputPathsMap": {"s": "$.source"}, "InputTemplate": '{"s": <s>}'},
            "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
            "DeadLetterConfig": {"Arn": DEAD},
        },
        {"Id": "2", "Arn": QUEUE + ".fifo", "SqsParameters": {"MessageGroupId": "g"}, "Input": '{"a": 1}'},
        {"Id": "3", "Arn": HOME.arn("sns", "news"), "InputPath": "$.detail"},
        {"Id": "4", "Arn": QUEUE},
    ]
    done = await world.boto.put_targets(Rule="r", Targets=targets)
    assert (done["FailedEntryCount"], done["FailedEntries"]) == (0, [])
    assert (await world.boto.list_targets_by_rule(Rule="r"))["Targets"] == targets
    pages = world.boto.boto.get_paginator("list_targets_by_rule")
    found = await world.aws.run(
        lambda: [
            one["Id"] for page in pages.paginate(Rule="r", PaginationConfig={"PageSize": 3}) for one in page["Targets"]
        ]
    )
    assert found == ["1", "2", "3", "4"]
    await world.boto.put_rule(Name="s", EventPattern=PATTERN)
    await world.boto.put_targets(Rule="s", Targets=[{"Id": "x", "Arn": QUEUE}])
    assert (await world.boto.list_rule_names_by_target(TargetArn=QUEUE))["RuleNames"] == ["r", "s"]
    assert (await world.boto.list_rule_names_by_target(TargetArn=FUNCTION))["RuleNames"] == ["r"]
    assert (await world.boto.list_rule_names_by_target(TargetArn=DEAD))["RuleNames"] == []
    with refused("LimitExceededException"):
        await world.boto.put_targets(Rule="r", Targets=[{"Id": "5", "Arn": QUEUE}, {"Id": "6", "Arn": QUEUE}])


async def test_what_there_is_not_is_refused_by_name(world: World) -> None:
    boto = world.boto
    for given, name in (
        ({"RoleArn": "arn:aws:iam::000000000000:role/r"}, "RoleArn"),
        ({"State": "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS"}, "State"),
    ):
        with refused("ValidationException", name):
            await boto.put_rule(Name="r", EventPattern=PATTERN, **given)
    with refused("ValidationException", "EventPattern or ScheduleExpression must be specified"):
        await boto.put_rule(Name="r")
    with refused("InvalidEventPatternException", "Event pattern is not valid. Reason: "):
        await boto.put_rule(Name="r", EventPattern='{"source": "a"}')
    assert (await boto.list_rules())["Rules"] == []
    await boto.put_rule(Name="r", EventPattern=PATTERN)
    for target, name in (
        ({"RoleArn": "arn:aws:iam::000000000000:role/r"}, "Targets.RoleArn"),
        ({"EcsParameters": {"TaskDefinitionArn": "arn"}}, "Targets.EcsParameters"),
        ({"HttpParameters": {"PathParameterValues": []}}, "Targets.HttpParameters"),
        ({"Arn": "arn:aws:kinesis:us-east-1:000000000000:stream/x"}, "functions, queues and topics"),
        ({"SqsParameters": {"MessageGroupId": "g"}}, "SqsParameters"),
    ):
        with refused("ValidationException", name):
            await boto.put_targets(Rule="r", Targets=[{"Id": "a", "Arn": QUEUE, **target}])
    with refused("ValidationException", "Force"):
        await boto.delete_rule(Name="r", Force=True)
    with refused("ValidationException", "Force"):
        await boto.remove_targets(Rule="r", Ids=["a"], Force=True)
    with refused("ValidationException", "Entries.TraceHeader"):
        await boto.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}", "TraceHeader": "Root=1"}])
    with refused("ValidationException", "NextToken"):
        await boto.list_rules(NextToken="nothing")


async def test_there_is_one_bus(world: World) -> None:
    boto = world.boto
    shown = await boto.describe_event_bus()
    assert (shown["Name"], shown["Arn"]) == ("default", BUS)
    assert (await boto.describe_event_bus(Name=BUS))["Name"] == "default"
    assert (await boto.list_event_buses())["EventBuses"] == [{"Name": "default", "Arn": BUS}]
    assert (await boto.list_event_buses(NamePrefix="x", Limit=1))["EventBuses"] == []
    await boto.put_rule(Name="r", EventPattern=PATTERN)
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    for call, given in (
        (boto.describe_event_bus, {"Name": "mine"}),
        (boto.put_rule, {"Name": "x", "EventPattern": PATTERN, "EventBusName": "mine"}),
        (boto.describe_rule, {"Name": "r", "EventBusName": BUS.replace("us-east-1", "eu-west-1")}),
        (boto.list_rules, {"EventBusName": "mine"}),
        (boto.put_targets, {"Rule": "r", "EventBusName": "mine", "Targets": [{"Id": "a", "Arn": QUEUE}]}),
        (boto.put_events, {"Entries": [{**entry, "EventBusName": "mine"}]}),
    ):
        with refused("ResourceNotFoundException", "Event bus"):
            await call(**given)
    with refused("UnknownOperationException"):
        await boto.create_event_bus(Name="mine")


async def test_events_are_put_and_arrive(world: World) -> None:
    await world.boto.put_rule(Name="r", EventPattern=PATTERN)
    await world.boto.put_targets(Rule="r", Targets=[{"Id": "q", "Arn": QUEUE}])
    when = datetime(2026, 11, 25, 12, tzinfo=UTC)
    done = await world.boto.put_events(
        Entries=[
            {"Source": "my.app", "DetailType": "Order", "Detail": '{"n": 1}', "Resources": ["arn:x"], "Time": when},
            {"Source": "my.app", "DetailType": "Order", "Detail": "no"},
            {"Source": "aws.ec2", "DetailType": "Order", "Detail": "{}", "EventBusName": "default"},
            {"DetailType": "Order", "Detail": "{}"},
        ]
    )
    assert done["FailedEntryCount"] == 3
    codes = [one.get("ErrorCode") for one in done["Entries"]]
    assert codes == [None, "MalformedDetail", "NotAuthorizedForSourceException", "InvalidArgument"]
    await world.bench.until(lambda: world.bench.world.arrived)
    (event,) = world.bench.world.events()
    assert (event["id"], event["time"]) == (done["Entries"][0]["EventId"], "2026-11-25T12:00:00Z")
    assert (event["detail-type"], event["resources"], event["detail"]) == ("Order", ["arn:x"], {"n": 1})
    with refused("ValidationException"):
        await world.boto.put_events(Entries=[{"Source": "s"}] * 11)
    with refused("ValidationException", "Total size of the entries in the request is over the limit."):
        big = json.dumps({"a": "x" * 140_000})
        await world.boto.put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": big}] * 2)


async def test_a_pattern_is_tried(world: World) -> None:
    event = {
        "id": "1",
        "account": "1",
        "source": "aws.ec2",
        "time": "t",
        "region": "r",
        "resources": [],
        "detail-type": "d",
        "detail": {"state": "running"},
    }
    for pattern, matches in (({"source": ["aws.ec2"]}, True), ({"detail": {"state": ["stopped"]}}, False)):
        done = await world.boto.test_event_pattern(EventPattern=json.dumps(pattern), Event=json.dumps(event))
        assert done["Result"] is matches
    with refused("ValidationException", "Parameter Event is not valid."):
        await world.boto.test_event_pattern(EventPattern=PATTERN, Event="{}")
    with refused("InvalidEventPatternException"):
        await world.boto.test_event_pattern(EventPattern="{}", Event=json.dumps(event))


async def test_rules_have_tags(world: World) -> None:
    arn = (await world.boto.put_rule(Name="r", EventPattern=PATTERN))["RuleArn"]
    await world.boto.tag_resource(ResourceARN=arn, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    await world.boto.untag_resource(ResourceARN=arn, TagKeys=["a", "z"])
    assert (await world.boto.list_tags_for_resource(ResourceARN=arn))["Tags"] == [{"Key": "b", "Value": "2"}]
    with refused("ResourceNotFoundException"):
        await world.boto.tag_resource(ResourceARN=BUS, Tags=[{"Key": "a", "Value": "1"}])
    with refused("ValidationException", "reserved"):
        await world.boto.tag_resource(ResourceARN=arn, Tags=[{"Key": "aws:a", "Value": "1"}])


async def test_lists_have_pages_prefixes_and_one_account(world: World) -> None:
    for name in ("a1", "a2", "b1"):
        await world.boto.put_rule(Name=name, EventPattern=PATTERN)
    pages = world.boto.boto.get_paginator("list_rules")
    found = await world.aws.run(
        lambda: [one["Name"] for page in pages.paginate(PaginationConfig={"PageSize": 2}) for one in page["Rules"]]
    )
    assert found == ["a1", "a2", "b1"]
    assert [one["Name"] for one in (await world.boto.list_rules(NamePrefix="a"))["Rules"]] == ["a1", "a2"]
    stranger = world.aws.client("events", account="111122223333")
    assert (await stranger.list_rules())["Rules"] == []
    with refused("ResourceNotFoundException"):
        await stranger.describe_rule(Name="a1")
    elsewhere = world.aws.client("events", region="eu-west-1")
    assert (await elsewhere.list_rules())["Rules"] == []
    with pytest.raises(ParamValidationError):
        await world.boto.put_rule()
