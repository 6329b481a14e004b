"""Refreshes, warm pools, standby, policies and schedules of a group, one thing at a time."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.scaling import commands as c
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.lifecycle import ACTIVE
from minicloud.scaling.model import Refresh
from minicloud.scaling.tracking import Reading
from tests.pure.scaling_world import SCOPE, ZONES, World, history, in_service, refused, running

CPU = {"target": 50.0, "metric": "ASGAverageCPUUtilization"}


# --- attach, detach, standby


def test_attached_instances_raise_desired_and_must_fit() -> None:
    world = running(1, max_size=2)
    found = c.Found("i-attached", ZONES[1], "running")
    world.do(c.Attach(SCOPE, "web", (found,)))
    assert world.group().desired == 2 and world.states() == ["InService"] * 2
    refused(world, c.Attach(SCOPE, "web", (found,)), "already part of an AutoScalingGroup")
    refused(world, c.Attach(SCOPE, "web", (c.Found("i-2", ZONES[0], "running"),)), "To attach 1 more instance")
    refused(world, c.Attach(SCOPE, "web", (c.Found("i-2", ZONES[0], "stopped"),)), "Invalid Instance ID")


def test_a_group_that_cannot_shrink_takes_no_more_than_max() -> None:
    world = running(3, max_size=3)
    world.do(c.SuspendProcesses(SCOPE, "web", ("Terminate",)))
    world.do(c.SetDesired(SCOPE, "web", 2))
    found = c.Found("i-2", ZONES[0], "running")
    refused(world, c.Attach(SCOPE, "web", (found,)), "being replaced or terminated", "ScalingActivityInProgress")


def test_detached_instances_live_on() -> None:
    world = running(2)
    one, other = (member.instance_id for member in in_service(world))
    world.let_go |= {one, other}
    world.do(c.Detach(SCOPE, "web", (one,), decrement=True))
    world.do(c.Detach(SCOPE, "web", (other,), decrement=False))
    world.work()
    assert world.group().desired == 1 == len(in_service(world))
    assert world.instances[one].state == world.instances[other].state == "running"


def test_standby_steps_aside_and_comes_back() -> None:
    world = running(2, min_size=1)
    one = in_service(world)[0].instance_id
    world.do(c.EnterStandby(SCOPE, "web", (one,), decrement=True))
    world.work()
    assert sorted(world.states()) == ["InService", "Standby"] and world.group().desired == 1
    other = in_service(world)[0].instance_id
    refused(world, c.EnterStandby(SCOPE, "web", (other,), decrement=True), "has min-size=1")
    world.do(c.ExitStandby(SCOPE, "web", (one,)))
    assert world.states() == ["InService"] * 2 and world.group().desired == 2
    refused(world, c.ExitStandby(SCOPE, "web", (one,)), "is in InService and can't be moved out of standby")


# --- warm pools


def test_the_warm_pool_is_used_first_and_filled_again() -> None:
    world = running(1, max_size=3)
    world.do(c.PutWarmPool(SCOPE, "web", min_size=1, max_prepared=2))
    world.work()
    assert sorted(world.states()) == ["InService", "Warmed:Stopped"]
    warmed = next(one.instance_id for one in world.members() if one.state == "Warmed:Stopped")
    assert world.instances[warmed].state == "stopped"
    world.do(c.SetDesired(SCOPE, "web", 2))
    world.work(2)
    assert warmed in {one.instance_id for one in in_service(world)}
    world.work()
    assert sorted(world.states()) == ["InService", "InService", "Warmed:Stopped"]
    world.do(c.DeleteWarmPool(SCOPE, "web"))
    world.work()
    assert world.states() == ["InService"] * 2
    refused(world, c.PutWarmPool(SCOPE, "web", state="Hibernated"), "not supported")


def test_a_late_report_of_its_stop_does_not_end_an_instance_that_is_started() -> None:
    world = running(1, max_size=2)
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=2))
    world.work()
    warmed = next(one.instance_id for one in world.members() if one.state == "Warmed:Stopped")
    world.do(c.SetDesired(SCOPE, "web", 2))
    world.do(c.InstanceSeen(warmed, "stopping"))
    world.work(2)
    assert warmed in {one.instance_id for one in in_service(world)}


def test_an_instance_of_the_pool_that_is_lost_while_it_starts_is_replaced_at_once() -> None:
    world = running(1, max_size=2)
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=2))
    world.work()
    warmed = next(one.instance_id for one in world.members() if one.state == "Warmed:Stopped")
    world.do(c.SetDesired(SCOPE, "web", 2))
    world.instances[warmed].state = "terminated"
    world.report(warmed, fault=True)
    world.work(3)
    assert len(in_service(world)) == 2 and warmed not in {one.instance_id for one in world.members()}


# --- instance refresh


def refreshed(world: World) -> Refresh:
    roster = world.machine.state.rosters[SCOPE.key("web")]
    return roster.refreshes[max(roster.refreshes)]


def start(**extra: Any) -> c.StartRefresh:
    return c.StartRefresh(SCOPE, "web", **{"template": {"id": "lt-1", "version": "2"}, "warmup_s": 10, **extra})


@pytest.mark.parametrize(("low", "high", "least", "most"), [(90, 100, 9, 10), (50, 100, 5, 10), (100, 120, 10, 12)])
def test_a_refresh_keeps_its_bounds_and_replaces_all(low: int, high: int, least: int, most: int) -> None:
    world = running(10, max_size=20)
    old = {one.instance_id for one in world.members()}
    world.do(start(min_healthy=low, max_healthy=high))
    refused(world, start(), "already in progress", "InstanceRefreshInProgress")
    for _ in range(120):
        world.work(1)
        assert least <= len(in_service(world))
        assert sum(one.state in ACTIVE for one in world.members()) <= most
    assert refreshed(world).status == "Successful" and refreshed(world).percent == 100
    assert not old & {one.instance_id for one in world.members()} and world.calls == 20  # each of them once
    assert {one.version for one in world.members()} == {"2"} == {world.group().template["version"]}


@pytest.mark.parametrize("process", ["Launch", "Terminate"])
@pytest.mark.parametrize(("most", "healthy"), [(2, 50), (4, 100)])
def test_a_refresh_replaces_nothing_while_half_of_that_is_suspended(process: str, most: int, healthy: int) -> None:
    """User Guide, "How suspended processes affect other processes"."""
    world = running(2, max_size=most)
    before = {one.key for one in in_service(world)}
    world.do(c.SuspendProcesses(SCOPE, "web", (process,)))
    world.do(start(min_healthy=healthy, max_healthy=healthy + 100))
    world.work(20)
    assert {one.key for one in world.members()} == before and refreshed(world).status == "InProgress"
    world.do(c.SuspendProcesses(SCOPE, "web", (process,), resume=True))
    world.work(40)
    assert refreshed(world).status == "Successful" and len(in_service(world)) == 2


def test_what_was_replaced_stays_while_ends_are_suspended() -> None:
    world = running(2, max_size=4)
    before = {one.key for one in in_service(world)}
    world.do(start(min_healthy=100, max_healthy=200, warmup_s=0))
    assert len(world.members()) == 4  # the new ones are pending
    world.do(c.SuspendProcesses(SCOPE, "web", ("Terminate",)))
    world.work(20)
    assert before < {one.key for one in in_service(world)} and len(in_service(world)) == 4
    world.do(c.SuspendProcesses(SCOPE, "web", ("Terminate",), resume=True))
    world.work(20)
    assert refreshed(world).status == "Successful" and len(in_service(world)) == 2


@pytest.mark.parametrize("code", ["InvalidAMIID.NotFound", "InsufficientInstanceCapacity"])
def test_a_refresh_that_may_miss_none_waits_while_nothing_can_be_launched(code: str) -> None:
    world = running(4, max_size=8)
    world.broken = {"": code}
    world.do(start(min_healthy=100, max_healthy=150))
    for round_ in range(120):
        world.work(1)
        assert len(in_service(world)) >= 4
        if round_ == 10:
            assert refreshed(world).status == "InProgress" and refreshed(world).left == 4
            world.broken = {}
    assert refreshed(world).status == "Successful"


def test_a_refresh_for_which_there_is_no_room_fails_after_an_hour() -> None:
    world = running(2, max_size=4)
    world.broken = {"": "InsufficientInstanceCapacity"}
    world.do(start(min_healthy=100, max_healthy=200))
    world.work(700)
    assert refreshed(world).status == "InProgress"
    world.work(30)
    assert refreshed(world).status == "Failed" and "within an hour" in refreshed(world).reason
    assert len(in_service(world)) == 2


@pytest.mark.parametrize("process", ["InstanceRefresh", "Launch"])
def test_the_hour_that_a_refresh_waits_begins_anew_after_it_was_suspended(process: str) -> None:
    world = running(1)
    (old,) = in_service(world)
    world.do(c.Protect(SCOPE, "web", (old.instance_id,), True))
    world.do(start(protected="Wait", min_healthy=0))
    world.work(100)
    world.do(c.SuspendProcesses(SCOPE, "web", (process,)))
    world.work(800)
    world.do(c.SuspendProcesses(SCOPE, "web", (process,), resume=True))
    world.work(700)
    assert refreshed(world).status == "InProgress"
    world.work(30)
    assert refreshed(world).status == "Failed" and "within an hour" in refreshed(world).reason


def test_a_checkpoint_stops_a_refresh_for_its_delay() -> None:
    world = running(10)
    world.do(start(checkpoints=(20, 100), checkpoint_delay_s=600, min_healthy=80))
    world.work(60)
    assert refreshed(world).percent == 20 and sum(one.version == "2" for one in in_service(world)) == 2
    world.work(200)
    assert refreshed(world).status == "Successful"


def test_a_refresh_brings_the_types_that_are_asked_for() -> None:
    world = running(3, types=["m5.large", "m6i.large"])
    refused(world, c.StartRefresh(SCOPE, "web", types=["r5.large"] * 2), "each type once")
    world.do(c.StartRefresh(SCOPE, "web", types=["r5.large", "r6i.large"]))
    world.broken = {"/r5.large": "Unsupported"}
    world.work(40, 20.0)
    assert refreshed(world).status == "Successful"
    assert {one.type for one in in_service(world)} == {"r6i.large"}
    assert world.group().types == ["r5.large", "r6i.large"]


def test_what_matches_is_skipped() -> None:
    world = running(3)
    world.do(start(template={"id": "lt-1", "version": "1"}, skip_matching=True))
    assert refreshed(world).status == "Successful" and world.calls == 3


def test_a_refresh_to_a_broken_template_rolls_back_by_itself() -> None:
    world = running(4)
    world.do(start(auto_rollback=True, min_healthy=75))
    world.broken = {"": "InvalidAMIID.NotFound"}
    for _ in range(400):
        if refreshed(world).status != "InProgress":
            world.broken, world.failed = {}, set()
        world.work(1, 10)
        assert len(in_service(world)) >= 3
    assert refreshed(world).status == "RollbackSuccessful"
    assert [one.version for one in in_service(world)] == ["1"] * 4
    assert world.group().template["version"] == "1"


def test_a_refresh_can_be_cancelled_and_rolled_back() -> None:
    world = running(4)
    world.do(start())
    world.work(3)
    world.do(c.RollbackRefresh(SCOPE, "web"))
    world.work(60)
    assert refreshed(world).status == "RollbackSuccessful"
    world.do(c.StartRefresh(SCOPE, "web"))
    refused(world, c.RollbackRefresh(SCOPE, "web"), "must be specified", "IrreversibleInstanceRefresh")
    world.do(c.CancelRefresh(SCOPE, "web"))
    assert refreshed(world).status == "Cancelled"
    refused(world, c.CancelRefresh(SCOPE, "web"), "No in progress", "ActiveInstanceRefreshNotFound")


def test_protected_instances_make_a_refresh_wait_an_hour_or_are_ignored() -> None:
    for behaviour, status in (("Wait", "Failed"), ("Ignore", "Successful"), ("Refresh", "Successful")):
        world = running(2)
        world.do(c.Protect(SCOPE, "web", (in_service(world)[0].instance_id,), True))
        world.do(start(protected=behaviour))
        world.work(60)
        world.wait(3_700)
        assert refreshed(world).status == status, behaviour


# --- lifetime


def test_instances_do_not_grow_older_than_they_may() -> None:
    world = running(3, max_lifetime_s=86_400)
    world.wait(86_400)
    for _ in range(60):
        world.work(1)
        assert len(in_service(world)) >= 3
    assert all(one.created > 1_700_000_000 + 86_000 for one in in_service(world))


def test_what_is_too_old_is_replaced_once_there_is_room_for_it() -> None:
    world = running(2, max_lifetime_s=86_400)
    world.broken = {"": "InsufficientInstanceCapacity"}
    world.wait(86_400)
    world.work(40)
    world.broken = {}
    world.work(60)
    assert all(one.created > 1_700_000_000 + 86_000 for one in in_service(world)) and len(in_service(world)) == 2


# --- policies and schedules


def test_the_group_takes_the_larger_of_dynamic_and_predictive() -> None:
    world = running(2)
    world.do(c.PutPolicy(SCOPE, "web", "track", "TargetTrackingScaling", CPU, warmup_s=0))
    world.do(
        c.PutPolicy(
            SCOPE,
            "web",
            "ahead",
            "PredictiveScaling",
            {"target": 100.0, "pair": "ASGCPUUtilization", "mode": "ForecastAndScale"},
        )
    )
    world.do(c.ForecastMade(SCOPE, "web", "ahead", Forecast(world.now - 60, 900, (650.0, 100.0))))
    world.do(c.Evaluate(SCOPE, "web", {"track": Reading((75.0,) * 3, 60, world.now)}))
    assert world.group().desired == 7  # the forecast's 7, not the tracker's 3
    assert "policy ahead changing the desired capacity from 2 to 7" in history(world)[-1].cause
    world.work()
    world.wait(1_800)
    world.do(c.Evaluate(SCOPE, "web", {"track": Reading((10.0,) * 15, 60, world.now)}))
    assert world.group().desired == 2


def test_a_group_shrinks_only_when_all_its_trackers_agree() -> None:
    world = running(4)
    world.wait(1_000)
    low = Reading((10.0,) * 15, 60, world.now)
    for name, disabled in (("a", False), ("b", False)):
        world.do(c.PutPolicy(SCOPE, "web", name, "TargetTrackingScaling", {**CPU, "disable_scale_in": disabled}))
    world.do(c.Evaluate(SCOPE, "web", {"a": low}))
    assert world.group().desired == 4
    world.do(c.PutPolicy(SCOPE, "web", "b", "TargetTrackingScaling", {**CPU, "disable_scale_in": True}))
    world.do(c.Evaluate(SCOPE, "web", {"a": low}))
    assert world.group().desired == 1


def test_forecasts_survive_a_restart() -> None:
    world = running(1)
    config = {"target": 100.0, "pair": "ASGCPUUtilization", "mode": "ForecastAndScale"}
    world.do(c.PutPolicy(SCOPE, "web", "ahead", "PredictiveScaling", config))
    world.do(c.ForecastMade(SCOPE, "web", "ahead", Forecast(world.now, 900, (350.0,))))
    world.crash()
    world.do(c.Evaluate(SCOPE, "web"))
    assert world.group().desired == 4


def test_an_alarm_executes_a_step_policy_and_a_simple_one_cools_down() -> None:
    world = running(2)
    world.wait(300)  # they have warmed up
    steps = {"adjustment": {"kind": "ChangeInCapacity"}, "steps": [{"adjustment": 2, "lower": 0}]}
    world.do(c.PutPolicy(SCOPE, "web", "steps", "StepScaling", steps))
    world.do(c.ExecutePolicy(SCOPE, "web", "steps", (90.0,), 80.0, alarm="cpu-high"))
    assert world.group().desired == 4
    assert "a monitor alarm cpu-high-web in state ALARM triggered policy steps" in history(world)[-1].cause
    simple = {"adjustment": {"kind": "ChangeInCapacity"}, "amount": 1, "cooldown_s": 100}
    world.do(c.PutPolicy(SCOPE, "web", "simple", "SimpleScaling", simple))
    world.do(c.ExecutePolicy(SCOPE, "web", "simple"))
    refused(
        world, c.ExecutePolicy(SCOPE, "web", "simple", honor_cooldown=True), "cooldown", "ScalingActivityInProgress"
    )
    by_hand = c.SetDesired(SCOPE, "web", 6, honor_cooldown=True)
    refused(world, by_hand, "The group is in its cooldown", "ScalingActivityInProgress")
    world.wait(100)
    world.do(c.ExecutePolicy(SCOPE, "web", "simple", honor_cooldown=True))
    assert world.group().desired == 6
    world.wait(100)
    world.do(by_hand)
    refused(world, c.ExecutePolicy(SCOPE, "web", "none"), "No policy found")
    refused(world, c.PutPolicy(SCOPE, "web", "p", "StepScaling", {"bad": 1}), "does not fit StepScaling")


def test_a_schedule_changes_sizes_on_time_and_a_single_one_is_forgotten() -> None:
    world = running(1)
    world.do(c.PutScheduled(SCOPE, "web", "once", start=world.now + 100, min_size=2, max_size=5, desired=4))
    world.do(c.PutScheduled(SCOPE, "web", "hourly", "0 * * * *", "Europe/Berlin", desired=3))
    world.wait(101)
    assert (world.group().min_size, world.group().max_size, world.group().desired) == (2, 5, 4)
    world.wait(3_600)
    assert world.group().desired == 3
    assert [one.name for one in world.machine.state.rosters[SCOPE.key("web")].scheduled.values()] == ["hourly"]
    refused(world, c.PutScheduled(SCOPE, "web", "x", "nope", desired=1), "Given recurrence string: nope is invalid")
    refused(world, c.PutScheduled(SCOPE, "web", "x", "0 0 * * *"), "At least one of MinSize")
    refused(world, c.PutScheduled(SCOPE, "web", "x", start=1.0, desired=1), "Given start time is in the past")
    refused(world, c.PutScheduled(SCOPE, "web", "x", desired=1), "never runs")


def test_policies_and_schedules_of_a_quiet_group_are_deleted() -> None:
    world = running(2)
    world.do(
        c.PutPolicy(SCOPE, "web", "one", "SimpleScaling", {"adjustment": {"kind": "ChangeInCapacity"}, "amount": 1})
    )
    world.do(c.PutScheduled(SCOPE, "web", "nine", recurrence="0 9 * * *", desired=3))
    world.work()
    world.do(c.DeletePolicy(SCOPE, "web", "one"))
    world.do(c.DeleteScheduled(SCOPE, "web", "nine"))
    roster = world.machine.state.rosters[SCOPE.key("web")]
    assert not roster.policies and not roster.scheduled
