"""Target tracking by every metric that a policy may name: values in the real store, and the group they make."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from minicloud.cloud_group_metrics import ALB, EC2, GROUP, QUEUES, PolicyMetrics
from minicloud.shell.clock import VirtualClock
from tests.contract.scaling_doors import World, scaling_doors
from tests.contract.test_forecast_from_history import START, Store, opened
from tests.pure.scaling_world import SCOPE

MINE = {"MetricName": "Jobs", "Namespace": "My/App", "Statistic": "Sum"}
MATH = {
    "Metrics": [
        {
            "Id": "jobs",
            "MetricStat": {"Metric": {"Namespace": "My/App", "MetricName": "Jobs"}, "Stat": "Sum"},
            "ReturnData": False,
        },
        {"Id": "each", "Expression": "jobs / 2"},
    ]
}
LABEL = "app/front/0123456789abcdef/targetgroup/web/fedcba9876543210"
OF_GROUP = {GROUP: "web"}
OF_TARGETS = {"TargetGroup": "targetgroup/web/fedcba9876543210"}


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[tuple[World, Store]]:
    clock = VirtualClock(START)
    journal, metrics = await opened(tmp_path / "metrics.db", clock)
    store = Store(tmp_path / "metrics.db", clock, metrics, journal)
    async with scaling_doors(clock, lambda state: PolicyMetrics(metrics, state, clock)) as world:
        yield world, store
    await metrics.stop()
    journal.close()


@pytest.mark.parametrize(
    ("policy", "where", "total"),
    [
        ({"metric": "ASGAverageCPUUtilization"}, (EC2, "CPUUtilization", OF_GROUP), False),
        ({"metric": "ASGAverageNetworkIn"}, (EC2, "NetworkIn", OF_GROUP), False),
        ({"metric": "ASGAverageNetworkOut"}, (EC2, "NetworkOut", OF_GROUP), False),
        ({"metric": "ALBRequestCountPerTarget", "label": LABEL}, (ALB, "RequestCountPerTarget", OF_TARGETS), False),
        ({"customized": MINE}, ("My/App", "Jobs", {}), False),
        (
            {"metric": "SQSBacklogPerInstance", "label": SCOPE.arn("sqs", "jobs")},
            (QUEUES, "ApproximateNumberOfMessagesVisible", {"QueueName": "jobs"}),
            True,
        ),
    ],
)
async def test_a_group_follows_what_is_measured(
    made: tuple[World, Store], policy: dict[str, Any], where: tuple[str, str, dict[str, str]], total: bool
) -> None:
    """A load of 300 at a target of 50 for one instance, then one of 60; `total`: not divided by who serves it."""
    world, store = made
    size = 0 if total else 1
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=size, max_size=9, warmup_s=30)
        await world.run(60)
        await cloud.policies.put_target_tracking("web", "even", 50.0, **policy)

        async def follows(load: float, minutes: int) -> int:
            for _ in range(minutes):
                await world.run(60)
                serving = 1 if total else max(1, world.cloud.metrics.in_service)
                put(world, store, where, load / serving)
            return (await cloud.groups.get("web")).desired

        assert await follows(300.0, 8) == 6
        world.cloud.check()
        assert await follows(60.0, 40) == 2
        world.cloud.check()


def put(world: World, store: Store, where: tuple[str, str, dict[str, str]], value: float) -> None:
    """A metric of the group is one of its instances too."""
    at = store.clock.wall() - 5
    store.put(*where, (at, value))
    for one in world.cloud.members() if where[2] == OF_GROUP else ():
        if one.in_service is not None:
            store.put(*where[:2], {"InstanceId": one.instance_id}, (at, value))


async def test_what_warms_up_does_not_count(made: tuple[World, Store]) -> None:
    """Guide, "instance warmup": one at 90 % beside one that still boots is 90 %, not 45: three are needed for 30."""
    world, store = made
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=9, warmup_s=1_200)
        await world.run(1_500)
        (busy,) = world.cloud.members()
        await cloud.groups.set_desired("web", 2)
        await world.run(60)
        await cloud.policies.put_target_tracking("web", "even", 30.0, metric="ASGAverageCPUUtilization")
        for _ in range(5):
            await world.run(60)
            for one in world.cloud.members():
                own = {"InstanceId": one.instance_id}
                store.put(EC2, "CPUUtilization", own, (store.clock.wall() - 5, 90.0 if one.key == busy.key else 0.0))
            store.put(EC2, "CPUUtilization", OF_GROUP, (store.clock.wall() - 5, 45.0))
        assert (await cloud.groups.get("web")).desired == 3
        world.cloud.check()


async def test_metric_math_of_a_policy_is_worked_out(made: tuple[World, Store]) -> None:
    world, store = made
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=9, warmup_s=30)
        await world.run(60)
        await cloud.policies.put_target_tracking("web", "even", 50.0, customized=MATH)
        for _ in range(8):
            await world.run(60)
            store.put("My/App", "Jobs", {}, (store.clock.wall() - 5, 400.0 / max(1, world.cloud.metrics.in_service)))
        assert (await cloud.groups.get("web")).desired == 4
