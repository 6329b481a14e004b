"""Predictive scaling from what was recorded: two weeks of metrics in the real store, on disk, over a restart; a policy
put by the SDK; the forecast by rpc; and a group that has its instances before the load is there."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minicloud.cloud_group_metrics import ALB, EC2, GROUP, IN_SERVICE, OURS, GroupReports, PolicyMetrics
from minicloud.metric.requests import GivenDatum
from minicloud.metric.service import MetricService
from minicloud.shell.clock import VirtualClock
from minicloud.store.sqlite import SqliteJournal
from tests.contract.scaling_doors import World, scaling_doors
from tests.pure.scaling_world import SCOPE

DAY, HOUR = 86_400, 3_600
START = 20_378 * DAY + 6.0 * HOUR  # six in the morning, UTC, of a busy day: the load rises
LABEL = "app/front/0123456789abcdef/targetgroup/web/fedcba9876543210"
TARGET = 20.0  # of CPU in per cent, or requests a minute, for one instance


def load(at: float) -> float:
    """The total: a day's wave between 100 and 400, half of it on two days a week."""
    wave = 250 - 150 * math.cos(2 * math.pi * at / DAY)
    return wave * (0.5 if int(at // DAY) % 7 in (5, 6) else 1.0)


class Nobody:
    async def act(self, act: object) -> None:
        raise AssertionError(act)


@dataclass
class Store:
    """The metric service on a disk; `again` is its next life."""

    path: Path
    clock: VirtualClock
    metrics: MetricService
    journal: SqliteJournal

    async def again(self) -> None:
        await self.metrics.stop()
        self.journal.close()
        self.journal, self.metrics = await opened(self.path, self.clock)

    def put(self, namespace: str, name: str, dimensions: dict[str, str], *points: tuple[float, float]) -> None:
        data = [GivenDatum(name, dimensions, at, value) for at, value in points]
        for first in range(0, len(data), 1_000):
            self.metrics.put(
                SCOPE, namespace, data[first : first + 1_000], service=namespace.startswith("AWS/") or namespace == OURS
            )


async def opened(path: Path, clock: VirtualClock) -> tuple[SqliteJournal, MetricService]:
    journal = SqliteJournal(path)
    made = MetricService(journal, Nobody(), clock=clock, rand=random.Random(1), secret=b"s" * 32)
    await made.start()
    return journal, made


Record = Callable[[Store, list[float]], None]


def cpu(store: Store, times: list[float]) -> None:
    """As hosts and the autoscaler report it: the mean of the instances, and how many there are."""
    counts = [(at, float(max(1, math.ceil(load(at) / TARGET)))) for at in times]
    store.put(EC2, "CPUUtilization", {GROUP: "web"}, *((at, load(at) / count) for at, count in counts))
    store.put(OURS, IN_SERVICE, {GROUP: "web"}, *counts)


def requests(store: Store, times: list[float]) -> None:
    dimensions = {"TargetGroup": "targetgroup/web/fedcba9876543210"}
    store.put(ALB, "RequestCount", dimensions, *((at, load(at) * 5) for at in times))


def own(store: Store, times: list[float]) -> None:
    store.put("My/App", "Jobs", {}, *((at, load(at)) for at in times))


QUERY = {"Id": "jobs", "MetricStat": {"Metric": {"Namespace": "My/App", "MetricName": "Jobs"}, "Stat": "Average"}}
OWN = {"CustomizedLoadMetricSpecification": {"MetricDataQueries": [QUERY]}}


@asynccontextmanager
async def recorded(path: Path, record: Record, days: int = 15) -> AsyncIterator[tuple[World, Store]]:
    """So many days of history, written in two sittings: the API takes no points that are older than two weeks."""
    clock = VirtualClock(START - 7 * DAY)
    journal, metrics = await opened(path, clock)
    store = Store(path, clock, metrics, journal)
    times = [START - back * 300.0 for back in range(days * DAY // 300, 0, -1)]
    record(store, [at for at in times if at < START - 7 * DAY])
    await store.metrics.stop()
    journal.close()
    await clock.advance(7 * DAY)
    store.journal, store.metrics = await opened(path, clock)
    record(store, [at for at in times if at >= START - 7 * DAY])
    await store.again()
    try:
        async with scaling_doors(clock, lambda state: PolicyMetrics(store.metrics, state, clock)) as world:
            yield world, store
    finally:
        await store.metrics.stop()
        store.journal.close()


@pytest.mark.parametrize(
    ("record", "policy"),
    [
        (cpu, {"pair": "ASGCPUUtilization"}),
        (requests, {"pair": "ALBRequestCount", "label": LABEL}),
        (own, {"customized": OWN}),
    ],
)
async def test_a_forecast_is_made_from_what_was_recorded(
    tmp_path: Path, record: Record, policy: dict[str, Any]
) -> None:
    async with recorded(tmp_path / "metrics.db", record) as (world, _), world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=20)
        await cloud.policies.put_predictive("web", "ahead", TARGET, **policy)
        await world.run(10)
        found = await cloud.policies.forecast("web", "ahead")
        assert len(found.times) == 192 and START <= found.times[0] <= START + 900
        truth = [load(at + 450) for at in found.times]
        wrong = sum(abs(guess - true) for guess, true in zip(found.load, truth, strict=True)) / sum(truth)
        assert wrong < 0.05
        assert found.capacity == tuple(math.ceil(guess / TARGET - 1e-9) for guess in found.load)
        assert (await cloud.groups.get("web")).desired == 1, "a policy that only forecasts changes nothing"
        part = await cloud.policies.forecast("web", "ahead", start=START + 12 * HOUR, end=START + 13 * HOUR)
        assert len(part.times) == 4 and part.load == found.load[48:52]


async def test_less_than_a_day_of_history_gives_none(tmp_path: Path) -> None:
    def lately(store: Store, times: list[float]) -> None:
        cpu(store, [at for at in times if at > START - 20 * HOUR])

    async with recorded(tmp_path / "metrics.db", lately) as (world, _), world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=20)
        await cloud.policies.put_predictive("web", "ahead", TARGET, pair="ASGCPUUtilization", mode="ForecastAndScale")
        await world.run(70)
        assert (await cloud.policies.forecast("web", "ahead")).times == ()
        assert (await cloud.groups.get("web")).desired == 1


async def minute(world: World, store: Store, more: float = 1.0) -> tuple[float, int, float]:
    """A minute passes and is reported as hosts report it. Returns its end, who is in service by then, the load."""
    await world.run(60)
    now = world.cloud.clock.wall()
    count, total = world.cloud.metrics.in_service, load(now) * more
    store.put(EC2, "CPUUtilization", {GROUP: "web"}, (now, total / max(1, count)))
    return now, count, total


async def test_a_group_has_its_instances_before_the_load_is_there(tmp_path: Path) -> None:
    async with recorded(tmp_path / "metrics.db", cpu) as (world, store), world.client() as cloud:
        reports = GroupReports(store.metrics, world.cloud.machine.state, world.cloud.clock)
        reports.start()
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=20)
        await cloud.policies.put_predictive(
            "web", "ahead", TARGET, pair="ASGCPUUtilization", mode="ForecastAndScale", buffer_s=900
        )
        await world.run(60)  # instances boot
        first = await cloud.policies.forecast("web", "ahead")
        seen = [await minute(world, store) for _ in range(150)]
        steps = range(math.floor(seen[0][2] / TARGET) + 2, math.ceil(seen[-1][2] / TARGET) + 1)
        assert len(steps) >= 3, "the load has passed several sizes of the group"
        for size in steps:
            needed = next(at for at, _, total in seen if total > (size - 1) * TARGET)
            there = next(at for at, count, _ in seen if count >= size)
            assert there <= needed, f"{size} instances"
        causes = [one.cause async for one in cloud.groups.activities("web")]
        assert any("the forecast asks for 17" in cause for cause in causes), causes
        again = await cloud.policies.forecast("web", "ahead")
        assert again.times[0] >= first.times[0] + 2 * HOUR, "it is made anew every hour"
        busy = [await minute(world, store, 1.5) for _ in range(90)]
        now = busy[-1][0]
        newest = await cloud.policies.forecast("web", "ahead", start=now)
        before = await cloud.policies.forecast("web", "ahead")
        assert newest.load[0] > 1.2 * load(now), "what is different lately is in it"
        assert before.times[0] > again.times[0]
        await reports.close()
