"""Samples of instances as CloudWatch's metrics: values, dimensions, periods; restarts; and the clock of a feed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from minicloud.base.errors import Unavailable
from minicloud.cloud_feeds import Feed
from minicloud.compute.metering import GROUP_TAG, NAMESPACE, OURS, InstanceMeter
from minicloud.compute.model import Instance
from minicloud.shell.clock import VirtualClock
from minicloud.shell.reports import Report
from minicloud.wire import fleet_pb2 as pb
from tests.pure.compute_bench import Bench

MINUTE = 1_700_000_040  # a full minute


def sample(one: Instance, cpu: float, total: int = 0, **fields: Any) -> pb.GuestSample:
    counters = {f"{name}_bytes": total for name in ("network_in", "network_out", "disk_read", "disk_write")}
    given = {"generation": one.generation, "answers": True, "memory_bytes": 256 << 20, **counters, **fields}
    return pb.GuestSample(instance_id=one.id, cpu_percent=cpu, **given)


def values(reports: Sequence[Report], namespace: str = NAMESPACE) -> dict[str, float]:
    """Of the first dimensions in this namespace."""
    first = next(one for one in reports if one.namespace == namespace)
    return {reading.name: reading.values[0] for reading in first.readings}


@pytest.fixture
def one() -> Instance:
    (made,) = Bench().running("t3.micro")
    return made


def test_a_minute_is_one_value_of_each(one: Instance) -> None:
    meter = InstanceMeter()
    for second in range(60):
        meter.add(sample(one, 50.0 if second < 30 else 100.0, 1_000 + 10 * second, credit_balance=7.0))
    reports = meter.report({one.id: one}, MINUTE)
    assert [(report.dimensions, report.time, report.resolution_s) for report in reports] == [
        ((("InstanceId", one.id),), MINUTE - 60, 60)
    ] * 2
    found = values(reports)
    assert found["CPUUtilization"] == 75 and found["NetworkIn"] == found["DiskWriteBytes"] == 590
    assert found["CPUCreditBalance"] == 7 and found["CPUCreditUsage"] == pytest.approx(0.75 * 2)  # two vCPUs, a minute
    assert (found["StatusCheckFailed"], found["StatusCheckFailed_System"]) == (0, 0)
    assert values(reports, OURS) == {"MemoryUsed": 256 << 20, "MemoryUtilization": 25.0}
    assert meter.report({one.id: one}, MINUTE + 60) == []  # nothing came since
    meter.add(sample(one, 0.0, 1_600, answers=False))
    found = values(meter.report({one.id: one}, MINUTE + 120))
    assert (found["NetworkIn"], found["StatusCheckFailed"]) == (10, 1)


def test_detailed_monitoring_is_by_ten_seconds_and_by_more(one: Instance) -> None:
    watched = replace(one, monitoring=True, tags={GROUP_TAG: "web"})
    meter = InstanceMeter()
    for instance in (watched, replace(one, id="i-basic", tags={GROUP_TAG: "web"})):
        meter.add(sample(instance, 10.0))
    known = {watched.id: watched, "i-basic": replace(one, id="i-basic", tags={GROUP_TAG: "web"})}
    soon = [report for report in meter.report(known, MINUTE + 10) if report.namespace == NAMESPACE]
    assert [dict(report.dimensions) for report in soon] == [
        {"InstanceId": one.id},
        {"AutoScalingGroupName": "web"},
        {"InstanceType": one.type},
        {"ImageId": one.image_id},
        {},
    ]
    assert {(report.time, report.resolution_s) for report in soon} == {(MINUTE, 1)}
    later = [report for report in meter.report(known, MINUTE + 60) if report.namespace == NAMESPACE]
    assert [dict(report.dimensions) for report in later] == [{"InstanceId": "i-basic"}, {"AutoScalingGroupName": "web"}]


def test_a_restarted_guest_counts_from_nothing_and_a_new_control_plane_from_what_it_finds(one: Instance) -> None:
    meter = InstanceMeter()
    meter.add(sample(one, 1.0, 5_000))
    assert values(meter.report({one.id: one}, MINUTE))["NetworkIn"] == 0
    again = replace(one, generation=2)
    meter.add(sample(again, 1.0, 300))
    assert values(meter.report({one.id: again}, MINUTE))["NetworkIn"] == 300


def test_what_is_gone_is_forgotten(one: Instance) -> None:
    meter = InstanceMeter()
    meter.add(sample(one, 1.0))
    assert meter.report({}, MINUTE) == [] and not meter._sums
    meter.add(sample(one, 1.0))
    assert len(meter.report({one.id: replace(one, state="stopped")}, MINUTE)) == 2  # its last minute
    assert meter.report({one.id: replace(one, state="stopped")}, MINUTE + 60) == [] and not meter._sums


async def test_a_feed_asks_at_full_periods_whatever_happens() -> None:
    clock, asked = VirtualClock(MINUTE - 7.5), []
    taken: list[Report] = []

    async def measure(moment: int) -> list[Report]:
        asked.append(moment)
        if len(asked) == 2:
            raise Unavailable("not now")
        return []

    class Into:
        def report(self, reports: Sequence[Report]) -> None:
            taken.extend(reports)

    feed = Feed(measure, Into(), clock, 10)
    feed.start()
    await clock.advance(35)
    await feed.close()
    assert asked == [MINUTE, MINUTE + 10, MINUTE + 20]
