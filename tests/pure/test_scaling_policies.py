"""Policies: what each wants of a group, and what the group makes of it."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import Conflict, InvalidParameterValue
from minicloud.scaling.combine import Bounds, combine
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.predictive import Floor, Predictive
from minicloud.scaling.schedule import parse, time_zone
from minicloud.scaling.steps import Adjustment, SimpleScaling, Step, StepScaling
from minicloud.scaling.tracking import BACKLOG, Capacity, Proposal, Reading, TargetTracking

CPU = TargetTracking(50.0, "ASGAverageCPUUtilization")
NOW = 1_000_000.0


def wants(policy: TargetTracking, values: list[float | None], group: Capacity) -> int | None:
    proposal = policy.propose("p", Reading(tuple(values), 60, NOW), group)
    return None if proposal is None else proposal.capacity


# --- target tracking


def test_scale_out_is_proportional_after_three_minutes_above() -> None:
    assert wants(CPU, [75, 75, 75], Capacity(4, 4)) == 6
    assert wants(CPU, [49, 75, 75], Capacity(4, 4)) is None
    assert wants(CPU, [75, 75], Capacity(4, 4)) is None
    assert wants(CPU, [75, None, 75], Capacity(4, 4)) is None


def test_instances_that_warm_up_count_as_capacity_and_not_in_the_metric() -> None:
    assert wants(CPU, [75, 75, 75], Capacity(6, 4, warming=2)) is None
    assert wants(CPU, [100, 100, 100], Capacity(6, 4, warming=2)) == 8


def test_scale_in_waits_a_quarter_of_an_hour_and_keeps_room_for_its_busiest_minute() -> None:
    assert wants(CPU, [20.0] * 15, Capacity(10, 10)) == 4
    assert wants(CPU, [20.0] * 14 + [30.0], Capacity(10, 10)) == 6
    assert wants(CPU, [20.0] * 14, Capacity(10, 10)) is None
    assert wants(CPU, [20.0] * 14 + [46.0], Capacity(10, 10)) is None  # not 10 % below
    assert wants(CPU, [20.0] * 14 + [None], Capacity(10, 10)) is None
    assert wants(CPU, [20.0] * 15, Capacity(10, 9, warming=1)) is None
    assert wants(CPU, [20.0] * 15, Capacity(10, 10, changed=NOW - 60)) is None


def test_scale_in_can_be_disabled() -> None:
    policy = TargetTracking(50.0, "ASGAverageCPUUtilization", disable_scale_in=True)
    assert wants(policy, [1.0] * 15, Capacity(10, 10)) is None
    assert wants(policy, [99.0] * 3, Capacity(10, 10)) == 20


def test_a_backlog_brings_a_group_back_from_zero() -> None:
    policy = TargetTracking(100.0, BACKLOG, "jobs")
    assert wants(policy, [250, 250, 250], Capacity(0, 0)) == 3
    assert wants(policy, [250, 0, 250], Capacity(0, 0)) is None
    assert wants(policy, [0.0] * 15, Capacity(3, 3)) == 0


@given(st.floats(1, 1e6), st.floats(0, 1e6), st.integers(1, 500))
def test_tracking_never_leaves_the_metric_above_the_target(target: float, metric: float, ready: int) -> None:
    policy = TargetTracking(target, "ASGAverageNetworkIn")
    after = wants(policy, [metric] * 15, Capacity(ready, ready))
    if after is None:
        assert metric <= target * (1 + 1e-6)
    elif after:
        assert metric * ready / after <= target * (1 + 1e-6)


@pytest.mark.parametrize(
    "policy",
    [
        TargetTracking(0, "ASGAverageCPUUtilization"),
        TargetTracking(float("nan"), "ASGAverageCPUUtilization"),
        TargetTracking(1, ""),
        TargetTracking(1, "Nope"),
        TargetTracking(1, "ALBRequestCountPerTarget"),
        TargetTracking(1, "ASGAverageCPUUtilization", "label"),
        TargetTracking(1, "", "", {"MetricName": "m"}),
        TargetTracking(1, "", "", {"MetricName": "m", "Namespace": "n", "Statistic": "Sum", "Period": 7}),
        TargetTracking(1, "", "", {"Metrics": [{"Id": "a"}, {"Id": "b"}]}),
    ],
)
def test_bad_tracking_is_refused(policy: TargetTracking) -> None:
    with pytest.raises(InvalidParameterValue) as caught:
        policy.check()
    assert caught.value.code == "ValidationError"


# --- step and simple scaling


@pytest.mark.parametrize(
    ("capacity", "percent", "minimum", "after"),
    [(10, 25, 0, 12), (4, 25, 2, 6), (3, 10, 0, 4), (3, -10, 0, 2), (10, -67, 0, 4), (0, 50, 0, 1), (5, 0, 3, 5)],
)
def test_percentages_are_rounded_as_aws_rounds_them(capacity: int, percent: int, minimum: int, after: int) -> None:
    assert Adjustment("PercentChangeInCapacity", minimum).apply(capacity, percent) == after


def steps() -> StepScaling:
    """The guide's example: alarm at 60, +10 % to 70, +30 % beyond."""
    return StepScaling(Adjustment("PercentChangeInCapacity"), (Step(10, 0, 10), Step(30, 10, None)))


def test_the_step_that_holds_the_metric_is_taken() -> None:
    policy = steps()
    policy.check()
    for metric, after in [(59.0, None), (60.0, 11), (69.9, 11), (70.0, 13)]:
        found = policy.propose("p", [metric], 60, Capacity(10, 10))
        assert (found.capacity if found else None) == after


def test_a_second_breach_adds_only_what_is_not_under_way() -> None:
    policy = steps()
    assert policy.propose("p", [65.0], 60, Capacity(11, 10, warming=1)) is None
    found = policy.propose("p", [75.0], 60, Capacity(11, 10, warming=1))
    assert found is not None and found.capacity == 13


def test_bounds_below_the_threshold_include_the_upper_one() -> None:
    policy = StepScaling(Adjustment("ChangeInCapacity"), (Step(-1, -10, 0), Step(-2, None, -10)))
    policy.check()
    for metric, after in [(40.0, None), (39.0, 9), (30.1, 9), (30.0, 8), (0.0, 8)]:
        found = policy.propose("p", [metric], 40, Capacity(10, 10))
        assert (found.capacity if found else None) == after, metric
    assert policy.propose("p", [0.0], 40, Capacity(10, 9, warming=1)) is None


@pytest.mark.parametrize(
    "chain",
    [
        (),
        (Step(1, 0, 10), Step(2, 5, None)),
        (Step(1, 0, 10), Step(2, 11, None)),
        (Step(1, 0, 10),),
        (Step(1, -10, 0),),
        (Step(1, 5, 5),),
        (Step(1), Step(2)),
    ],
)
def test_bad_chains_of_steps_are_refused(chain: tuple[Step, ...]) -> None:
    with pytest.raises(InvalidParameterValue):
        StepScaling(Adjustment("ChangeInCapacity"), chain).check()


@pytest.mark.parametrize(("how", "metric"), [("Minimum", 1), ("Maximum", 9), ("Average", 4)])
def test_datapoints_are_aggregated(how: str, metric: int) -> None:
    policy = StepScaling(Adjustment("ExactCapacity"), (Step(7, 0, None),), how)
    found = policy.propose("p", [1, 2, 9], 0, Capacity(1, 1))
    assert found is not None and f"was {metric} " in found.reason


def test_simple_scaling_waits_for_its_cooldown() -> None:
    policy = SimpleScaling(Adjustment("ChangeInCapacity"), 2)
    policy.check()
    with pytest.raises(Conflict) as caught:
        policy.propose("p", Capacity(1, 1), NOW, NOW + 1)
    assert caught.value.code == "ScalingActivityInProgress"
    found = policy.propose("p", Capacity(1, 1), NOW, NOW)
    assert found is not None and found.capacity == 3


# --- prediction and combination

FORECAST = Forecast(NOW, 900, (100.0, 200.0, 900.0, 100.0))


def test_the_forecast_counts_ahead_of_time_and_only_as_far_as_it_reaches() -> None:
    policy = Predictive(100.0, "ALBRequestCount", "targetgroup/a/b", mode="ForecastAndScale", buffer_s=300)
    policy.check()
    assert policy.needed(FORECAST, NOW) == 1
    assert policy.needed(FORECAST, NOW + 600) == 2
    assert policy.needed(FORECAST, NOW + 900 + 600) == 9
    assert policy.needed(FORECAST, NOW + 3_600) == 0
    assert policy.floor(FORECAST, NOW + 3_600, 5) is None
    assert policy.capacities(FORECAST) == [1, 2, 9, 1]


def test_the_maximum_is_honoured_or_lifted() -> None:
    at = NOW + 1_800
    honour = Predictive(100.0, "ALBRequestCount", "targetgroup/a/b", mode="ForecastAndScale")
    assert honour.floor(FORECAST, at, 5) == Floor(5, 5)
    lift = Predictive(
        100.0,
        "ALBRequestCount",
        "targetgroup/a/b",
        mode="ForecastAndScale",
        breach="IncreaseMaxCapacity",
        max_buffer_percent=10,
    )
    lift.check()
    assert lift.floor(FORECAST, at, 5) == Floor(9, 10)
    assert lift.floor(FORECAST, at, 20) == Floor(9, 20)
    assert Predictive(100.0, "ALBRequestCount", "targetgroup/a/b").floor(FORECAST, at, 5) is None  # it only forecasts


@pytest.mark.parametrize(
    "policy",
    [
        Predictive(1, "Nope"),
        Predictive(1),
        Predictive(-1, "ASGNetworkIn"),
        Predictive(1, "ASGNetworkIn", mode="Scale"),
        Predictive(1, "ASGNetworkIn", buffer_s=3_601),
        Predictive(1, "ASGNetworkIn", max_buffer_percent=1),
        Predictive(1, "ASGNetworkIn", breach="IncreaseMaxCapacity"),
    ],
)
def test_bad_prediction_is_refused(policy: Predictive) -> None:
    with pytest.raises(InvalidParameterValue):
        policy.check()


def more(count: int, tracking: bool = True) -> Proposal:
    return Proposal(count, f"p{count}", "because", tracking)


@pytest.mark.parametrize(
    ("proposals", "trackers", "floors", "desired", "policy"),
    [
        ([], 2, [], 5, ""),
        ([more(7), more(9)], 2, [], 9, "p9"),
        ([more(3), more(9)], 2, [], 9, "p9"),
        ([more(3)], 2, [], 5, ""),  # the other tracker does not agree
        ([more(3), more(4)], 2, [], 4, "p4"),
        ([more(3, tracking=False)], 0, [], 3, "p3"),
        ([more(3)], 1, [Floor(4, 10)], 4, "ahead"),
        ([more(3)], 1, [Floor(8, 10)], 8, "ahead"),
        ([more(9)], 1, [Floor(8, 10)], 9, "p9"),
        ([more(99)], 1, [], 10, "p99"),
        ([more(0)], 1, [], 2, "p0"),
        ([], 1, [Floor(12, 13)], 12, "ahead"),
    ],
)
def test_the_larger_wins(
    proposals: list[Proposal], trackers: int, floors: list[Floor], desired: int, policy: str
) -> None:
    found = combine(Bounds(5, 2, 10), proposals, trackers, [("ahead", floor) for floor in floors])
    assert (found.desired, found.policy) == (desired, policy)
    assert found.max_size == max([10, *(floor.max_size for floor in floors)])


# --- schedules


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 9 * * *", "", "2026-03-01T08:59", "2026-03-01T09:00"),
        ("0 9 * * *", "", "2026-03-01T09:00", "2026-03-02T09:00"),
        ("30 0 1 1,6,12 *", "", "2026-02-01T00:00", "2026-06-01T00:30"),
        ("*/20 8-9 * * mon-fri", "", "2026-02-27T09:41", "2026-03-02T08:00"),
        ("0 0 13 * 5", "", "2026-03-01T00:00", "2026-03-06T00:00"),  # the 13th or a Friday
        ("0 0 * * 7", "", "2026-03-02T00:00", "2026-03-08T00:00"),
        ("0 0 29 2 *", "", "2026-03-01T00:00", "2028-02-29T00:00"),
        ("5/20 * * * *", "", "2026-03-01T00:30", "2026-03-01T00:45"),
        # Berlin: UTC+1, from 29 March 2026 02:00 UTC+2, from 25 October 03:00 UTC+1 again
        ("0 9 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T07:00"),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", "2026-03-29T01:30"),  # does not exist: 03:30 summer time
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", "2026-10-25T00:30"),  # twice: the first
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:30"),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T01:30"),  # every hour: both
        ("0 0 * * *", "Pacific/Kiritimati", "2026-03-01T09:00", "2026-03-01T10:00"),
    ],
)
def test_the_next_time_of_a_schedule(cron: str, zone: str, after: str, expected: str) -> None:
    assert parse(cron).next(at(after), time_zone(zone)) == at(expected)


def test_a_date_that_never_comes() -> None:
    assert parse("0 0 31 2 *").next(NOW) is None


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *"])
def test_bad_schedules_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameterValue, match="Given recurrence string"):
        parse(text)


@pytest.mark.parametrize("name", ["Mars/Base", "../etc/passwd", "/etc/passwd"])
def test_bad_zones_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameterValue):
        time_zone(name)


@given(st.integers(0, 59), st.integers(0, 23), st.integers(1_700_000_000, 1_800_000_000))
def test_a_daily_schedule_runs_once_a_day_whatever_the_clocks_do(minute: int, hour: int, start: int) -> None:
    zone, cron = time_zone("America/New_York"), parse(f"{minute} {hour} * * *")
    now, days = float(start), []
    for _ in range(4):
        after = cron.next(now, zone)
        assert after is not None and after > now
        days.append(datetime.fromtimestamp(after, zone).date())
        now = after
    assert [(b - a).days for a, b in pairwise(days)] == [1, 1, 1]
