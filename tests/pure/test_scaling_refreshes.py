"""Instance refreshes, one thing at a time."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.scaling import commands as c
from minicloud.scaling import limits
from minicloud.scaling.lifecycle import ACTIVE
from minicloud.scaling.model import Refresh
from tests.pure.scaling_world import SCOPE, ZONES, World, in_service, refused, running


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


@pytest.mark.parametrize("high", [100, 150])
def test_a_refresh_ends_at_its_last_checkpoint(high: int) -> None:
    """User Guide, "Enable checkpoints": the last value is how much of the group is replaced."""
    world = running(10, max_size=20)
    world.do(start(checkpoints=(20, 50), checkpoint_delay_s=600, min_healthy=high - 50, max_healthy=high))
    world.work(60)
    assert (refreshed(world).status, refreshed(world).percent) == ("InProgress", 20)
    world.work(100)
    assert (refreshed(world).status, refreshed(world).percent) == ("Successful", 50)
    world.work(20)
    assert sorted(one.version for one in in_service(world)) == ["1"] * 5 + ["2"] * 5
    assert world.group().template["version"] == "2"


def test_a_rollback_goes_back_all_the_way() -> None:
    world = running(4)
    world.do(start(checkpoints=(25, 75), checkpoint_delay_s=60, min_healthy=50))
    world.work(30)
    assert refreshed(world).percent == 75
    world.do(start(template={"id": "lt-1", "version": "3"}, checkpoints=(25, 50), checkpoint_delay_s=60, min_healthy=0))
    world.work(5)
    assert sum(one.version == "3" for one in in_service(world)) == 1
    world.do(c.RollbackRefresh(SCOPE, "web"))
    world.work(60)
    assert refreshed(world).status == "RollbackSuccessful"
    assert "3" not in {one.version for one in in_service(world)} and len(in_service(world)) == 4


@pytest.mark.parametrize(("extra", "seconds"), [({"grace_s": 40}, 40), ({"grace_s": 40, "warmup_s": 20}, 20), ({}, 0)])
def test_what_a_refresh_launched_is_given_time(extra: dict[str, int], seconds: int) -> None:
    """API, RefreshPreferences: the default warm-up, else the grace period of health checks."""
    world = running(1, cooldown_s=500, **extra)
    world.do(start(warmup_s=None, min_healthy=0))
    world.work(2, 0.5)
    began = in_service(world)[0].in_service
    assert in_service(world)[0].version == "2" and began is not None
    world.work(240, 0.5)
    ended = refreshed(world).ended
    assert ended is not None and seconds <= ended - began < seconds + 2


@pytest.mark.parametrize(("low", "high"), [(50, 100), (100, 200)])
def test_a_refresh_renews_the_warm_pool_after_the_group(low: int, high: int) -> None:
    world = running(2, max_size=6)
    world.do(c.PutWarmPool(SCOPE, "web", min_size=2, max_prepared=4))
    world.work()
    before = {one.instance_id for one in world.members()}
    world.do(start(min_healthy=low, max_healthy=high))
    assert (refreshed(world).total, refreshed(world).pool_total) == (2, 2)
    for _ in range(100):
        world.work(1)
        if any(one.version == "1" for one in in_service(world)):
            assert sum(one.version == "1" and one.state == "Warmed:Stopped" for one in world.members()) == 2
    assert (refreshed(world).status, refreshed(world).pool_left) == ("Successful", 0)
    assert not before & {one.instance_id for one in world.members()} and world.calls == 8  # each of them once
    assert sorted(one.state for one in world.members()) == ["InService"] * 2 + ["Warmed:Stopped"] * 2


def test_a_pool_that_matches_is_left_and_one_that_cannot_be_filled_fails_its_refresh() -> None:
    world = running(1, max_size=3)
    world.do(c.PutWarmPool(SCOPE, "web", max_prepared=2))
    world.work()
    world.do(start(template={"id": "lt-1", "version": "1"}, skip_matching=True))
    assert refreshed(world).status == "Successful" and world.calls == 2
    world.do(start(min_healthy=0))
    while in_service(world) == [] or in_service(world)[0].version == "1":
        world.work(1, 1.0)
    world.broken = dict.fromkeys(ZONES, "InsufficientInstanceCapacity")
    world.work(100, 60.0)
    assert (refreshed(world).status, refreshed(world).live_percent, refreshed(world).percent) == ("Failed", 100, 50)
    assert "pool" in refreshed(world).reason


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


@pytest.mark.parametrize("high", [100, 150])
def test_a_refresh_waits_for_balancers_where_the_group_asks_them(high: int) -> None:
    """API, DescribeInstanceRefreshes: an instance is updated once its health status is healthy and it has warmed up."""
    world = running(4, target_groups=["tg-1"], health_types=["EC2", "ELB"], warmup_s=0)
    world.answering = False  # the new ones boot for long, or never answer
    world.do(start(warmup_s=0, min_healthy=high - 50, max_healthy=high))
    world.work(20)
    old = [one for one in in_service(world) if one.version == "1"]
    assert len(old) == (2 if high == 100 else 4) and refreshed(world).status == "InProgress"
    for one in in_service(world):
        world.do(c.TargetSeen(one.instance_id, True, passed=True))
    world.answering = True
    world.work(60)
    assert refreshed(world).status == "Successful" and len(in_service(world)) == 4


def test_a_refresh_whose_instances_are_never_healthy_fails_after_an_hour() -> None:
    world = running(2, target_groups=["tg-1"], health_types=["EC2", "ELB"], warmup_s=0)
    world.answering = False
    world.do(start(warmup_s=0, min_healthy=50))
    world.work(58, 60.0)
    assert refreshed(world).status == "InProgress" and len(in_service(world)) == 2
    world.work(4, 60.0)
    assert refreshed(world).status == "Failed" and "balancer" in refreshed(world).reason
    assert "1" in {one.version for one in in_service(world)}


def test_the_hour_for_balancers_begins_when_they_are_waited_for() -> None:
    world = running(1, max_size=4, target_groups=["tg-1"], health_types=["EC2", "ELB"], warmup_s=0)
    world.do(start(warmup_s=0, min_healthy=0, bake_s=7_200))
    world.work(20)
    assert refreshed(world).status == "Baking"
    world.work(115, 60.0)
    world.answering = False
    world.do(c.SetDesired(SCOPE, "web", 2))  # hours after the first new one was waited for
    world.work(10, 60.0)
    assert refreshed(world).status == "Baking" and len(in_service(world)) == 2
    world.answering = True
    world.work(5)
    assert refreshed(world).status == "Successful"


def test_a_rollback_ends_what_was_launched_ahead_and_keeps_what_was_to_go() -> None:
    world = running(4, max_size=8)
    before = {one.key for one in in_service(world)}
    world.do(start(min_healthy=100, max_healthy=200, warmup_s=600))
    world.work(2)
    assert len(in_service(world)) == 8
    world.do(c.RollbackRefresh(SCOPE, "web"))
    world.work(60)
    assert refreshed(world).status == "RollbackSuccessful"
    assert {one.key for one in in_service(world)} == before


def test_what_no_balancer_found_healthy_takes_over_nothing_when_its_refresh_fails() -> None:
    world = running(2, max_size=4, target_groups=["tg-1"], health_types=["EC2", "ELB"], warmup_s=0)
    before = {one.key for one in in_service(world)}
    world.answering = False
    world.do(start(warmup_s=0, min_healthy=100, max_healthy=200))
    world.work(64, 60.0)
    assert refreshed(world).status == "Failed" and "balancer" in refreshed(world).reason
    assert {one.key for one in in_service(world)} == before


def test_what_is_finished_after_a_refresh_was_cancelled_waits_for_balancers_too() -> None:
    world = running(2, max_size=4, target_groups=["tg-1"], health_types=["EC2", "ELB"], warmup_s=0)
    before = {one.key for one in in_service(world)}
    world.answering = False
    world.do(start(warmup_s=0, min_healthy=100, max_healthy=200))
    world.work(3)
    world.do(c.CancelRefresh(SCOPE, "web"))
    world.work(3)
    assert before < {one.key for one in in_service(world)}
    world.answering = True
    world.work(10)
    assert [one.version for one in in_service(world)] == ["2", "2"]


def test_a_refresh_is_not_blamed_for_the_launches_that_failed_before_it() -> None:
    world = World()
    world.create(desired=2)
    world.dies_at_once = True
    world.work(60, 60.0)
    assert world.group().failures >= limits.REFRESH_FAILURES_MAX
    world.dies_at_once = False
    world.do(start(min_healthy=0))
    world.work(60)
    assert refreshed(world).status == "Successful" and [one.version for one in in_service(world)] == ["2", "2"]
