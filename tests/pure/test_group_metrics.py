"""What policies read of the metric store: which metrics, which periods, and what is late."""

from __future__ import annotations

import random

import pytest

from minicloud import cloud_group_metrics
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue
from minicloud.cloud_group_metrics import (
    GROUP,
    GROUPS,
    IN_SERVICE,
    OURS,
    GroupReports,
    PolicyMetrics,
    load_of,
    queries_of,
    target_group_of,
)
from minicloud.metric.model import Metric
from minicloud.metric.query import StatisticsQuery, plan
from minicloud.metric.requests import GivenDatum
from minicloud.metric.service import MetricService
from minicloud.scaling import commands as c
from minicloud.scaling.group_metrics import values
from minicloud.scaling.model import Group
from minicloud.scaling.predictive import Predictive
from minicloud.scaling.tracking import TargetTracking
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.pure.scaling_world import SCOPE, World

KEY = SCOPE.key("web")
LABEL = "app/front/0123456789abcdef/targetgroup/web/fedcba9876543210"


class Nobody:
    async def act(self, act: object) -> None:
        raise AssertionError(act)


def group(world: World) -> Group:
    return world.machine.state.groups[KEY]


@pytest.fixture
def world() -> World:
    made = World()
    made.create(desired=2)
    made.work()
    return made


@pytest.mark.parametrize(
    ("rule", "namespace", "name", "dimensions", "stat"),
    [
        (TargetTracking(50, "ASGAverageCPUUtilization"), "AWS/EC2", "CPUUtilization", {GROUP: "web"}, "Average"),
        (TargetTracking(50, "ASGAverageNetworkIn"), "AWS/EC2", "NetworkIn", {GROUP: "web"}, "Average"),
        (TargetTracking(50, "ASGAverageNetworkOut"), "AWS/EC2", "NetworkOut", {GROUP: "web"}, "Average"),
        (
            TargetTracking(50, "ALBRequestCountPerTarget", LABEL),
            "AWS/ApplicationELB",
            "RequestCountPerTarget",
            {"TargetGroup": "targetgroup/web/fedcba9876543210"},
            "Sum",
        ),
        (
            TargetTracking(50, "SQSBacklogPerInstance", "arn:aws:sqs:us-east-1:000000000000:jobs"),
            "AWS/SQS",
            "ApproximateNumberOfMessagesVisible",
            {"QueueName": "jobs"},
            "Average",
        ),
    ],
)
def test_predefined_metrics(
    world: World, rule: TargetTracking, namespace: str, name: str, dimensions: dict[str, str], stat: str
) -> None:
    (query,) = queries_of(group(world), rule)
    assert query.metric is not None
    assert (query.metric.namespace, query.metric.name, dict(query.metric.dimensions)) == (namespace, name, dimensions)
    assert (query.metric.scope, query.stat, query.period) == (SCOPE, stat, 60)


def test_high_resolution_is_read_by_ten_seconds(world: World) -> None:
    (query,) = queries_of(group(world), TargetTracking(50, "ASGAverageCPUUtilizationHighResolution"))
    assert query.period == 10


def test_metric_math_of_a_policy_is_a_plan(world: World) -> None:
    metric = {
        "Namespace": "N",
        "MetricName": "M",
        "Dimensions": [{"Name": "b", "Value": "1"}, {"Name": "a", "Value": "2"}],
    }
    document = {
        "Metrics": [
            {"Id": "m", "MetricStat": {"Metric": metric, "Stat": "Sum"}, "ReturnData": False},
            {"Id": "e", "Expression": "m / 2"},
        ]
    }
    made = plan(queries_of(group(world), TargetTracking(50, customized=document)))
    assert [one.id for one, _ in made.metrics] == ["m"] and made.period == 60
    assert made.metrics[0][0].metric is not None
    assert made.metrics[0][0].metric.dimensions == (("a", "2"), ("b", "1"))


@pytest.mark.parametrize("label", ["web", "app/front/1", ""])
def test_a_label_that_names_no_target_group(label: str) -> None:
    with pytest.raises(InvalidParameterValue, match="resource label"):
        target_group_of(label)


@pytest.mark.parametrize("pair", ["ASGCPUUtilization", "ASGNetworkIn", "ASGNetworkOut", "ALBRequestCount"])
def test_the_load_of_a_forecast_is_one_line(world: World, pair: str) -> None:
    made = load_of(group(world), Predictive(50, pair, LABEL if pair.startswith("ALB") else ""))
    assert sum(one.returned for one in made) == 1
    assert plan(made).period == 300


async def test_a_window_ends_where_its_data_end(world: World) -> None:
    clock = VirtualClock()
    service = MetricService(MemoryJournal(MemoryDisk()), Nobody(), clock=clock, rand=random.Random(1), secret=b"s")
    await service.start()
    document = {"Namespace": "N", "MetricName": "M", "Statistic": "Average"}
    config = {"target": 50.0, "customized": document}
    world.do(c.PutPolicy(SCOPE, "web", "p", "TargetTrackingScaling", config))
    (key,) = world.machine.state.rosters[KEY].policies
    reader = PolicyMetrics(service, world.machine.state, clock)
    end = (int(clock.wall()) // 60 + 10) * 60
    await clock.advance(end - clock.wall() + 1)
    for back in (2, 3, 4):
        service.put(SCOPE, "N", [GivenDatum("M", timestamp=end - back * 60.0, value=float(back))])
    late = await reader.read(KEY, key, 3)
    assert late.values == (4.0, 3.0, 2.0) and late.at == end - 60
    service.put(SCOPE, "N", [GivenDatum("M", timestamp=end - 60.0, value=1.0)])
    there = await reader.read(KEY, key, 3)
    assert there.values == (3.0, 2.0, 1.0) and there.at == end
    await clock.advance(120)
    assert (await reader.read(KEY, key, 3)).values == (1.0, None, None)  # no data is not late data
    await service.stop()


def test_what_a_group_says_of_itself(world: World) -> None:
    found = values(group(world), world.machine.state.rosters[KEY])
    assert (found["GroupDesiredCapacity"], found["GroupInServiceInstances"], found["GroupTotalInstances"]) == (2, 2, 2)
    assert found["WarmPoolDesiredCapacity"] == found["GroupPendingInstances"] == 0
    world.do(c.PutWarmPool(SCOPE, "web", min_size=1, max_prepared=3))
    world.work()
    found = values(group(world), world.machine.state.rosters[KEY])
    assert (found["WarmPoolDesiredCapacity"], found["WarmPoolWarmedCapacity"]) == (1, 1)
    assert found["GroupAndWarmPoolTotalCapacity"] == 3


async def reported(world: World, namespace: str, name: str, seconds: float = 180) -> dict[str, int]:
    """How many points of a metric each group has after so long."""
    clock = VirtualClock()
    service = MetricService(MemoryJournal(MemoryDisk()), Nobody(), clock=clock, rand=random.Random(1), secret=b"s")
    await service.start()
    put = service.put

    def broken_for_broken(scope: Scope, namespace: str, data: list[GivenDatum], *, service: bool = False) -> None:
        if data[0].dimensions == {GROUP: "broken"}:
            raise RuntimeError("unforeseen")
        put(scope, namespace, data, service=service)

    service.put = broken_for_broken  # type: ignore[method-assign, assignment]
    reports = GroupReports(service, world.machine.state, clock)
    reports.start()
    await clock.advance(seconds)
    await reports.close()
    now, found = clock.wall(), {}
    for one in world.machine.state.groups.values():
        metric = Metric(SCOPE, namespace, name, ((GROUP, one.name),))
        found[one.name] = len(service.get_statistics(StatisticsQuery(metric, ("Sum",), 60, now - 600, now + 60)))
    await service.stop()
    return found


async def test_a_group_that_cannot_report_keeps_no_other_from_it(world: World) -> None:
    for name in ("broken", "api"):
        world.create(name)
        world.do(c.CollectMetrics(SCOPE, name, ("GroupDesiredCapacity",)))
    assert await reported(world, GROUPS, "GroupDesiredCapacity") == {"web": 0, "broken": 0, "api": 3}


@pytest.mark.parametrize(("most", "counted"), [(500, {"web": 3, "api": 3}), (1, {"web": 0, "api": 3})])
async def test_what_a_forecast_will_need_is_counted_before_it(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int, counted: dict[str, int]
) -> None:
    monkeypatch.setattr(cloud_group_metrics, "COUNTED_MAX", most)
    world.create("api")
    world.do(c.PutPolicy(SCOPE, "api", "ahead", "PredictiveScaling", {"target": 50.0, "pair": "ASGCPUUtilization"}))
    assert await reported(world, OURS, IN_SERVICE) == counted
