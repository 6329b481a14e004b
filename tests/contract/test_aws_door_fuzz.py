"""Doors take whatever botocore's models allow, and nothing of it fails inside: EC2, SSM, IAM, STS, EventBridge,
CloudWatch and its Logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from minicloud.aws.call import Door
from minicloud.cloud_aws import control_doors
from minicloud.event.aws import EventBridge
from minicloud.logs.aws import CloudWatchLogs
from minicloud.metric.aws import CloudWatch
from tests.contract.aws_door_fuzz import DoorFuzz
from tests.contract.monitoring_world import monitoring_world
from tests.contract.rule_bench import HOME, PATTERN, QUEUE, Bench
from tests.contract.test_control_plane import cloud_on


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_fails_inside(tmp_path: Path, seed: int) -> None:
    async with cloud_on(tmp_path) as cloud, cloud.host():
        fuzz = DoorFuzz(control_doors(cloud.plane), seed)
        start = {"ImageId": "ami-0abcdef1234567890", "InstanceType": "t3.micro", "MinCount": 2, "MaxCount": 2}
        await fuzz.ask("ec2", "RunInstances", start)
        for _ in range(700):
            await fuzz.one()
        done = sum(count for key, count in fuzz.seen.items() if key.endswith(" 200"))
        assert done > 100, fuzz.seen


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_to_rules_fails_inside(seed: int) -> None:
    bench = await Bench().start()
    fuzz = DoorFuzz([Door("events", EventBridge(bench.service, b"pages"))], seed)
    await fuzz.ask("events", "PutRule", {"Name": "web", "EventPattern": PATTERN})
    await fuzz.ask("events", "PutTargets", {"Rule": "web", "Targets": [{"Id": "a", "Arn": QUEUE}]})
    fuzz.known += [
        PATTERN,
        QUEUE,
        "rate(1 minute)",
        "my.app",
        "$.detail",
        '{"a": <x>}',
        HOME.arn("events", "rule/web"),
    ] * 8
    for _ in range(1_500):
        await fuzz.one()
    await bench.stop()
    done = sum(count for key, count in fuzz.seen.items() if key.endswith(" 200"))
    assert done > 100, fuzz.seen


@pytest.mark.parametrize("seed", range(3))
async def test_no_request_to_metrics_and_logs_fails_inside(seed: int) -> None:
    async with monitoring_world() as world:
        doors = [Door("cloudwatch", CloudWatch(world.service)), Door("logs", CloudWatchLogs(world.logs))]
        fuzz = DoorFuzz(doors, seed)
        await fuzz.ask("logs", "CreateLogGroup", {"logGroupName": "web"})
        await fuzz.ask("logs", "CreateLogStream", {"logGroupName": "web", "logStreamName": "web"})
        now = round(world.clock.wall() * 1000)
        events = [{"timestamp": now, "message": "x"}]
        await fuzz.ask("logs", "PutLogEvents", {"logGroupName": "web", "logStreamName": "web", "logEvents": events})
        for _ in range(1_500):
            await fuzz.one()
        done = sum(count for key, count in fuzz.seen.items() if key.endswith(" 200"))
        assert done > 100, fuzz.seen
