"""Warm pools, standby, policies and schedules of a group, one thing at a time."""

from __future__ import annotations

import json

import pytest

from minicloud.scaling import commands as c
from minicloud.scaling.forecast import Forecast
from minicloud.scaling.moves import TERMINATING
from minicloud.scaling.notices import hook_notice
from minicloud.scaling.tracking import Reading
from tests.pure.scaling_world import SCOPE, ZONES, history, in_service, refused, running

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


def test_what_stands_by_leaves_its_target_groups_however_late_they_can_be_told() -> None:
    """Balancers that were away for longer than a drain may last."""
    world = running(1, target_groups=["tg-1"])
    one = in_service(world)[0].instance_id
    world.do(c.EnterStandby(SCOPE, "web", (one,), decrement=True))
    world.wait(4_000)
    assert world.states() == ["Standby"] and ("tg-1", one) in world.targets
    world.work(2)
    assert not world.targets and world.states() == ["Standby"]


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


@pytest.mark.parametrize("state", ["Stopped", "Running"])
def test_what_a_group_no_longer_needs_goes_back_into_its_pool(state: str) -> None:
    world = running(3, max_size=4, target_groups=["tg-1"])
    world.do(c.PutHook(SCOPE, "web", "bye", TERMINATING, timeout_s=600, default="CONTINUE"))
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=4, state=state, reuse_on_scale_in=True))
    world.work()
    calls = world.calls
    world.do(c.SetDesired(SCOPE, "web", 2))
    (gone,) = [one for one in world.members() if one.returning]
    assert gone.state == "Warmed:Pending" and ("tg-1", gone.instance_id) in world.targets  # it drains
    world.work(1)
    (waiting,) = [one for one in world.members() if one.returning]
    assert waiting.state == "Warmed:Pending:Wait" and ("tg-1", gone.instance_id) not in world.targets
    told = json.loads(hook_notice(world.group(), waiting, "bye", world.now))
    assert (told["Origin"], told["Destination"]) == ("AutoScalingGroup", "WarmPool")
    assert told["LifecycleTransition"] == TERMINATING and world.instances[gone.instance_id].state == "running"
    world.do(c.EndWait(SCOPE, "web", "bye", "CONTINUE", instance_id=gone.instance_id))
    world.work(2)
    assert world.instances[gone.instance_id].state == state.lower()
    assert sorted(world.states()) == ["InService", "InService", f"Warmed:{state}", f"Warmed:{state}"]
    assert world.calls == calls and not any(one.returning for one in world.members())
    assert history(world)[-1].description == f"Returning EC2 instance to the warm pool: {gone.instance_id}"
    assert history(world)[-1].status == "Successful"
    world.do(c.SetDesired(SCOPE, "web", 4))
    world.work()
    assert gone.instance_id in {one.instance_id for one in in_service(world)} and world.calls == calls
    world.check_converged()


def test_a_template_that_dies_at_once_is_tried_ever_more_rarely_for_the_pool_too() -> None:
    world = running(1, max_size=4)
    world.dies_at_once = True
    world.do(c.PutWarmPool(SCOPE, "web", min_size=3, max_prepared=4))
    world.work(120, 1.0)
    assert world.group().failures > 2 and world.calls < 20
    world.dies_at_once = False
    world.work(60, 60.0)
    assert sorted(world.states()) == ["InService", *["Warmed:Stopped"] * 3]


def test_what_went_back_into_the_pool_leaves_its_target_groups_however_late_they_can_be_told() -> None:
    """Balancers that were away for longer than a drain may last would send it more."""
    world = running(2, max_size=2, target_groups=["tg-1"])
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=2, state="Running", reuse_on_scale_in=True))
    world.do(c.SetDesired(SCOPE, "web", 1))
    (gone,) = [one for one in world.members() if one.returning]
    world.wait(4_000)
    assert sorted(world.states()) == ["InService", "Warmed:Running"] and ("tg-1", gone.instance_id) in world.targets
    world.work(2)
    assert ("tg-1", gone.instance_id) not in world.targets
    world.check_converged()


def test_what_is_unsound_or_has_no_room_in_the_pool_ends() -> None:
    world = running(3, max_size=3)
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=1, reuse_on_scale_in=True))
    world.do(c.SetDesired(SCOPE, "web", 1))
    assert sorted(world.states()) == ["InService", "Terminating:Proceed", "Terminating:Proceed"]
    world.work()
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=3, reuse_on_scale_in=True))
    world.work()
    world.do(c.SetDesired(SCOPE, "web", 3))
    world.work()
    world.do(c.TargetSeen(in_service(world)[0].instance_id, False))  # the group does not ask balancers: it serves on
    world.do(c.SetDesired(SCOPE, "web", 0))
    assert sorted(world.states()) == ["Terminating:Proceed", "Warmed:Pending", *["Warmed:Pending:Proceed"] * 2]
    world.work()
    assert world.states() == ["Warmed:Stopped"] * 3
    world.check_converged()


def test_a_pool_that_goes_while_an_instance_returns_ends_it_drained() -> None:
    world = running(2, max_size=2, target_groups=["tg-1"])
    world.do(c.PutWarmPool(SCOPE, "web", reuse_on_scale_in=True))
    world.do(c.SetDesired(SCOPE, "web", 1))
    world.do(c.DeleteWarmPool(SCOPE, "web"))
    (gone,) = [one for one in world.members() if one.state != "InService"]
    assert gone.state == "Warmed:Terminating" and world.instances[gone.instance_id].state == "running"
    world.work(1)
    assert ("tg-1", gone.instance_id) not in world.targets
    world.work()
    assert world.states() == ["InService"] and world.instances[gone.instance_id].state == "terminated"


def test_abandoning_a_return_ends_the_instance_and_blames_no_template() -> None:
    world = running(2, max_size=2)
    world.do(c.PutHook(SCOPE, "web", "bye", TERMINATING, timeout_s=60, default="ABANDON"))
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=2, reuse_on_scale_in=True))
    world.do(c.SetDesired(SCOPE, "web", 1))
    (gone,) = [one for one in world.members() if one.state == "Warmed:Pending:Wait"]
    world.work(60)
    assert world.instances[gone.instance_id].state == "terminated" and world.group().failures == 0


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
