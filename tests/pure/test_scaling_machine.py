"""What AWS promises of auto scaling groups, one thing at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Conflict, InvalidParameterValue, NotFound
from minicloud.scaling import commands as c
from minicloud.scaling.lifecycle import LIFECYCLE
from minicloud.scaling.model import Member
from minicloud.scaling.moves import LAUNCHING, TERMINATING
from minicloud.scaling.orders import Launch, Register, Terminate
from minicloud.scaling.termination import select
from tests.pure.scaling_world import SCOPE, ZONES, World, history, in_service, refused, running

CPU = {"target": 50.0, "metric": "ASGAverageCPUUtilization"}


# --- groups


def test_desired_defaults_to_min() -> None:
    world = World()
    assert world.create(min_size=2).desired == 2


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ({"min_size": 3, "max_size": 2}, "Max bound, 2, must be greater than or equal to min bound, 3"),
        ({"min_size": 1, "max_size": 3, "desired": 5}, "Desired capacity:5 must be between the specified min size:1"),
        ({"zones": []}, "At least one Availability Zone"),
        ({"template": {}}, "Valid requests must contain either LaunchTemplate"),
        ({"termination_policies": ["OldestLaunchConfiguration"]}, "OldestLaunchConfiguration' is not supported"),
        ({"health_types": ["VPC_LATTICE"]}, "not supported"),
        ({"max_lifetime_s": 100}, "MaxInstanceLifetime"),
        ({"grace_s": -1}, "HealthCheckGracePeriod"),
    ],
)
def test_bad_groups_are_refused(extra: dict[str, Any], text: str) -> None:
    world = World()
    with pytest.raises(InvalidParameterValue, match=text) as caught:
        world.create(**extra)
    assert caught.value.code == "ValidationError" and not world.journal


def test_names_are_taken_once_and_are_of_their_scope() -> None:
    world = World()
    world.create("web")
    with pytest.raises(CloudError, match="already exists") as caught:
        world.create("web")
    assert caught.value.code == "AlreadyExists"
    with pytest.raises(NotFound, match="AutoScalingGroup name not found"):
        world.do(c.SetDesired(Scope("111111111111"), "web", 1))


def test_a_group_with_instances_is_not_deleted_unless_forced() -> None:
    world = running(2)
    refused(world, c.DeleteGroup(SCOPE, "web"), "You cannot delete an AutoScalingGroup while", "ResourceInUse")
    world.do(c.DeleteGroup(SCOPE, "web", force=True))
    refused(world, c.SetDesired(SCOPE, "web", 0), "being deleted", "ScalingActivityInProgress")
    world.work()
    assert not world.journal
    world.create("web")
    world.do(c.DeleteGroup(SCOPE, "web"))
    assert not world.journal


def test_desired_stays_within_min_and_max() -> None:
    world = running(2)
    refused(world, c.SetDesired(SCOPE, "web", 11), "value 11 is above max value 10 for the AutoScalingGroup")
    world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(min_size=4)))
    assert world.group().desired == 4
    refused(world, c.SetDesired(SCOPE, "web", 3), "value 3 is below min value 4 for the AutoScalingGroup")


def test_a_name_used_again_never_meets_the_old_tokens() -> None:
    world = running(1)
    world.do(c.DeleteGroup(SCOPE, "web", force=True))
    world.work()
    world.create(desired=1)
    world.work()
    assert len(world.tokens) == 2 and len(in_service(world)) == 1


# --- size and zones


def test_zones_are_filled_evenly_and_emptied_evenly() -> None:
    world = running(6)
    assert sorted(one.zone for one in in_service(world)) == sorted(ZONES * 2)
    world.do(c.SetDesired(SCOPE, "web", 3))
    world.work()
    assert sorted(one.zone for one in in_service(world)) == ZONES


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_token() -> None:
    world = World()
    world.create(desired=1)
    order = world.pending()[0]
    world.carry_out(order, answer_lost=True)
    world.crash()
    assert world.pending() == [order]
    world.work()
    assert len(world.instances) == 1 == len(in_service(world))


def test_an_instance_told_to_go_before_the_launcher_answered_is_ended_when_it_does() -> None:
    world = World()
    world.create(desired=1)
    order = world.pending()[0]
    world.do(c.SetDesired(SCOPE, "web", 0))
    assert world.states() == ["Terminating"]
    world.carry_out(order)
    assert isinstance(world.pending()[0], Terminate)
    world.work()
    assert not world.members()


def test_a_zone_without_capacity_is_left_for_a_while_and_balanced_later() -> None:
    world = World()
    world.broken = {ZONES[0]: "InsufficientInstanceCapacity"}
    world.create(desired=3)
    world.work(5)
    assert len(in_service(world)) == 3 and all(one.zone != ZONES[0] for one in in_service(world))
    world.broken, world.failed = {}, set()
    world.work(200, 10)
    assert sorted(one.zone for one in in_service(world)) == ZONES


def test_balancing_launches_before_it_terminates() -> None:
    world = running(4, zones=ZONES[:1])
    world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(zones=ZONES[:2])))
    for _ in range(30):
        world.work(1)
        assert len(in_service(world)) >= 4
    assert [one.zone for one in in_service(world)].count(ZONES[1]) == 2


def test_a_full_group_is_balanced_without_exceeding_max() -> None:
    world = running(4, zones=ZONES[:1], max_size=4)
    world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(zones=ZONES[:2])))
    world.work(60)
    assert [one.zone for one in in_service(world)].count(ZONES[1]) == 2


def test_replacements_on_their_way_count_for_max() -> None:
    world = running(4, zones=ZONES[:1], max_size=6)
    world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(zones=ZONES[:2])))
    assert len(world.members()) == 5
    world.do(c.SetDesired(SCOPE, "web", 6))
    assert len(world.members()) == 6
    world.work(90)
    world.check_converged()


def test_a_sweep_ends_what_compute_has_forgotten() -> None:
    world = running(2)
    world.do(c.SetDesired(SCOPE, "web", 1))
    left = in_service(world)[0].instance_id
    for instance in world.instances.values():
        instance.state = "running" if instance.id == left else "terminated"  # and nobody said so
    world.do(c.Sweep({SCOPE.key("web"): {left: "running"}}))
    assert [one.instance_id for one in world.members()] == [left]


def test_types_are_tried_in_order() -> None:
    world = World()
    world.create(desired=1, types=["m5.large", "m6i.large"], zones=ZONES[:1])
    order = world.pending()[0]
    assert isinstance(order, Launch) and order.type == "m5.large"
    world.do(c.LaunchFailed(order.group, order.number, "InsufficientInstanceCapacity", "none left", "place"))
    order = world.pending()[0]
    assert isinstance(order, Launch) and order.type == "m6i.large"


def test_suspended_processes_do_nothing_until_resumed() -> None:
    world = running(2)
    world.do(c.SuspendProcesses(SCOPE, "web", ("Launch", "Terminate")))
    world.do(c.SetDesired(SCOPE, "web", 5))
    world.work()
    assert len(world.members()) == 2
    world.do(c.SetDesired(SCOPE, "web", 0))
    world.work()
    assert len(world.members()) == 2
    world.do(c.SuspendProcesses(SCOPE, "web", (), resume=True))
    world.work()
    assert not world.members()
    refused(world, c.SuspendProcesses(SCOPE, "web", ("Nope",)), "Nope is not a valid process type")


# --- which one goes


def member(number: int, **extra: Any) -> Member:
    given = {"key": str(number), "group": "g", "number": number, "token": "", "state": "InService", "zone": ZONES[0],
             "created": number * 100.0, "in_service": 1.0, "template": "lt-1", "version": "2"}  # fmt: skip
    return Member(**{**given, **extra})


@pytest.mark.parametrize(
    ("policies", "chosen"),
    [
        (["OldestInstance"], 1),
        (["NewestInstance"], 4),
        (["OldestLaunchTemplate", "NewestInstance"], 2),
        (["ClosestToNextInstanceHour"], 1),
        (["AllocationStrategy", "NewestInstance"], 3),
        (["Default"], 3),
    ],
)
def test_termination_policies(policies: list[str], chosen: int) -> None:
    group = World().create(termination_policies=policies, types=["a", "b"])
    members = [
        member(1, type="a"),
        member(2, type="a", version="1"),
        member(3, type="b"),
        member(4, type="a"),
        member(5, type="a", zone=ZONES[1]),
        member(6, type="a", zone=ZONES[1]),
        member(7, type="b", protected=True),
    ]
    found = select(group, members, 1_000.0)
    assert found is not None and found.number == chosen


def test_protected_instances_stay_and_those_not_in_service_go_first() -> None:
    group = World().create(termination_policies=["OldestInstance"])
    assert select(group, [member(1, protected=True)], 0.0) is None
    found = select(group, [member(1), member(2, in_service=None, state="Pending")], 0.0)
    assert found is not None and found.number == 2


# --- health


def test_an_instance_that_ends_is_replaced_and_the_history_says_why() -> None:
    world = running(2)
    world.wait(120)
    dead = in_service(world)[0].instance_id
    world.kill(dead)
    world.work()
    assert len(in_service(world)) == 2 and dead not in {one.instance_id for one in world.members()}
    told = [one for one in history(world) if dead in one.description]
    assert told[-1].description == f"Terminating EC2 instance: {dead}" and told[-1].status == "Successful"
    assert "in response to an EC2 health check indicating it has been terminated or stopped." in told[-1].cause
    assert "an unhealthy instance needing to be replaced" in history(world)[-1].cause


def test_a_balancers_health_counts_after_the_grace_period_and_only_if_asked_for() -> None:
    for types, replaced in ((["EC2"], False), (["EC2", "ELB"], True)):
        world = running(1, health_types=types, grace_s=600)
        bad = in_service(world)[0].instance_id
        world.do(c.TargetSeen(bad, healthy=False))
        assert world.states() == ["InService"]
        world.wait(600)
        world.work()
        assert (bad not in {one.instance_id for one in world.members()}) is replaced


def test_a_user_may_call_an_instance_unhealthy() -> None:
    world = running(1, grace_s=3_600)
    bad = in_service(world)[0].instance_id
    world.do(c.SetHealth(SCOPE, bad, "Unhealthy"))
    assert world.states() == ["InService"]
    world.do(c.SetHealth(SCOPE, bad, "Unhealthy", respect_grace=False))
    world.work()
    assert len(in_service(world)) == 1 and in_service(world)[0].instance_id != bad
    refused(world, c.SetHealth(SCOPE, "i-0", "Healthy"), "No managed instance found for instance ID")


def test_an_instance_that_never_runs_is_given_up() -> None:
    world = World()
    world.create(desired=1)
    world.carry_out(world.pending()[0])
    first = world.members()[0].instance_id
    world.wait(901)
    assert world.members()[0].state == "Terminating:Proceed" and world.members()[0].instance_id == first
    world.work(60)
    assert len(in_service(world)) == 1


def test_one_host_that_dies_young_does_not_slow_a_group_down() -> None:
    world = running(6)
    for one in in_service(world)[:3]:
        world.instances[one.instance_id].state = "stopped"
        world.report(one.instance_id, fault=True)
    world.work(3)
    assert len(in_service(world)) == 6


def test_a_host_that_fails_under_a_launch_makes_its_place_cold_and_slows_no_group_down() -> None:
    world = running(1)
    world.do(c.SetDesired(SCOPE, "web", 2))
    for order in world.pending():
        world.carry_out(order)
    (doomed,) = [one for one in world.members() if one.state == "Pending"]
    world.instances[doomed.instance_id].state = "terminated"
    world.report(doomed.instance_id, fault=True, unplaced=True)
    assert world.group().failures == 0 and list(world.group().cold) == [f"{doomed.zone}/"]
    launches = [order for order in world.pending() if isinstance(order, Launch)]
    assert [order.zone != doomed.zone for order in launches] == [True]  # at once, and elsewhere
    world.work(3)
    assert len(in_service(world)) == 2


# --- balancers


def test_an_instance_is_drained_before_it_is_terminated() -> None:
    world = running(1, target_groups=["tg-1"])
    assert world.pending() == [Register(in_service(world)[0].instance_id, ("tg-1",))]
    world.do(c.SetDesired(SCOPE, "web", 0))
    assert world.states() == ["Terminating"]
    world.wait(3_600)
    assert world.states() == ["Terminating"]
    world.wait(61)  # the balancer is not waited for for ever
    assert world.states() == ["Terminating:Proceed"]


# --- lifecycle hooks


def hook(transition: str, **extra: Any) -> c.PutHook:
    return c.PutHook(SCOPE, "web", "h", **{"transition": transition, "timeout_s": 60, **extra})


def test_a_launching_hook_holds_an_instance_until_someone_says_go() -> None:
    world = World()
    world.create(desired=0)
    world.do(hook(LAUNCHING))
    world.do(c.SetDesired(SCOPE, "web", 1))
    world.work(3)
    assert world.states() == ["Pending:Wait"]
    waits = world.members()[0].waits
    assert waits is not None
    refused(world, c.EndWait(SCOPE, "web", "h", "CONTINUE", "no"), "No active Lifecycle Action found with token no")
    for _ in range(4):
        world.wait(40)
        world.do(c.EndWait(SCOPE, "web", "h", "", waits["h"]["token"]))
    assert world.states() == ["Pending:Wait"]
    world.do(c.EndWait(SCOPE, "web", "h", "CONTINUE", waits["h"]["token"]))
    assert world.states() == ["InService"]


@pytest.mark.parametrize(("default", "left"), [("CONTINUE", ["InService"]), ("ABANDON", ["Terminating:Proceed"])])
def test_a_hook_that_times_out_does_its_default(default: str, left: list[str]) -> None:
    world = World()
    world.create(desired=0)
    world.do(hook(LAUNCHING, default=default))
    world.do(c.SetDesired(SCOPE, "web", 1))
    world.work(1)
    world.do(c.SuspendProcesses(SCOPE, "web", ("Launch",)))
    world.wait(60)
    assert world.states() == left
    if default == "ABANDON":
        assert "was abandoned: Heartbeat Timeout" in history(world)[0].message


def test_a_terminating_hook_holds_the_end_and_nothing_else() -> None:
    world = running(1)
    world.do(hook(TERMINATING))
    world.do(c.SetDesired(SCOPE, "web", 0))
    assert world.states() == ["Terminating:Wait"] and not world.pending()
    world.do(c.EndWait(SCOPE, "web", "h", "ABANDON", "", world.members()[0].instance_id))
    assert world.states() == ["Terminating:Proceed"]


def test_abandoning_a_termination_ends_all_waiting_and_a_deletion_does_not_wait() -> None:
    for end in (c.EndWait(SCOPE, "web", "h", "ABANDON", "", "i-00000000000000000"), c.DeleteGroup(SCOPE, "web", True)):
        world = running(1)
        world.do(hook(TERMINATING))
        world.do(c.PutHook(SCOPE, "web", "other", TERMINATING))
        if isinstance(end, c.EndWait):
            world.do(c.SetDesired(SCOPE, "web", 0))
            assert world.states() == ["Terminating:Wait"]
        world.do(end)
        assert world.states() == ["Terminating:Proceed"]


def test_launches_that_are_abandoned_back_off() -> None:
    world = World()
    world.create(desired=0)
    world.do(hook(LAUNCHING))
    world.do(c.SetDesired(SCOPE, "web", 1))
    for _ in range(100):
        world.work(1)
        for one in world.members():
            if one.state == "Pending:Wait":
                world.do(c.EndWait(SCOPE, "web", "h", "ABANDON", "", one.instance_id))
    assert world.calls < 10


def test_bad_hooks_are_refused() -> None:
    world = running(0)
    refused(world, hook("nope"), "LifecycleTransition must be")
    refused(world, hook(LAUNCHING, timeout_s=29), "HeartbeatTimeout must be 30 to 7200")
    refused(world, hook(LAUNCHING, default="RETRY"), "DefaultResult")
    refused(world, c.DeleteHook(SCOPE, "web", "h"), "No Lifecycle Hook found")


# --- the table


def test_every_state_can_be_left_and_the_docs_draw_the_table() -> None:
    rows = LIFECYCLE.rows()
    assert {after for _, _, after in rows} - {before for before, _, _ in rows} == {"Terminated", "Detached"}
    page = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
    assert LIFECYCLE.mermaid() in page.read_text()


def test_conflicts_are_conflicts() -> None:
    with pytest.raises(Conflict):
        running(1).do(c.DeleteGroup(SCOPE, "web"))
