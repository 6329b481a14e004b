"""The autoscaler tells topics what became of instances, and listens to the alarms of refreshes."""

from __future__ import annotations

import json

import pytest

from minicloud.base.errors import CloudError, InvalidParameterValue, NotFound, Unavailable
from minicloud.scaling import commands as c
from minicloud.scaling import limits
from minicloud.scaling.notices import ENDED, LAUNCH_FAILED, LAUNCHED, TEST
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk
from tests.pure.scaling_world import SCOPE, ZONES
from tests.pure.test_scaling_service import KEY, Cloud, Compute, begin, end


async def test_topics_are_told_how_activities_end_also_after_a_crash_and_of_a_groups_last() -> None:
    clock, disk = VirtualClock(), MemoryDisk()
    compute = Compute(clock)
    cloud = await Cloud(clock, disk, compute).start()
    await cloud.create()
    await cloud.service.ask(c.SetNotifications(SCOPE, "web", "topic", (LAUNCHED, LAUNCH_FAILED, ENDED)))
    assert [json.loads(text)["Event"] for _, text in cloud.told.told] == [TEST]
    compute.faults = [InvalidParameterValue("no such image")]
    cloud.told.faults = [Unavailable() for _ in range(99)]
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(40)
    await end(cloud)
    cloud = await Cloud(clock, disk, compute).start()
    await cloud.run(1)
    cloud.check()
    assert sorted(json.loads(text)["Event"] for _, text in cloud.told.told) == [LAUNCHED, LAUNCH_FAILED]
    cloud.told.faults = [Unavailable() for _ in range(4)]
    await cloud.shell.submit(c.DeleteGroup(SCOPE, "web", force=True))
    await cloud.run(2)
    assert cloud.group().deleting and not cloud.members()
    await cloud.run(60)
    assert KEY not in cloud.machine.state.groups and not cloud.machine.state.rosters
    assert json.loads(cloud.told.told[-1][1])["Event"] == ENDED
    await end(cloud)


async def test_the_event_bus_is_told_how_activities_end_where_rules_listen_also_after_a_crash() -> None:
    clock, disk = VirtualClock(), MemoryDisk()
    compute = Compute(clock)
    cloud = await Cloud(clock, disk, compute).start()
    await cloud.create()
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(20)
    assert cloud.told.told == []  # nobody listens
    await cloud.shell.submit(c.Listen(SCOPE))
    compute.faults = [InvalidParameterValue("no such image")]
    cloud.told.faults = [Unavailable() for _ in range(99)]
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 2))
    await cloud.run(40)
    await end(cloud)
    cloud = await Cloud(clock, disk, compute).start()
    await cloud.run(1)
    cloud.check()
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(40)
    assert {target for target, _ in cloud.told.told} == {SCOPE.arn("events", "event-bus/default")}
    told = {event["detail-type"]: event for event in (json.loads(text) for _, text in cloud.told.told)}
    assert set(told) == {
        "EC2 Instance Launch Unsuccessful",
        "EC2 Instance Launch Successful",
        "EC2 Instance Terminate Successful",
    }
    launch = told["EC2 Instance Launch Successful"]
    instance_id = launch["detail"]["EC2InstanceId"]
    assert launch["source"] == "aws.autoscaling"
    assert launch["resources"] == [cloud.group().arn, SCOPE.arn("ec2", f"instance/{instance_id}")]
    assert (launch["detail"]["Origin"], launch["detail"]["Destination"]) == ("EC2", "AutoScalingGroup")
    assert launch["detail"]["AutoScalingGroupName"] == "web" and launch["detail"]["Description"].startswith("Launching")
    assert told["EC2 Instance Launch Unsuccessful"]["resources"] == [cloud.group().arn]
    assert not any(one.tell for one in cloud.machine.state.rosters[KEY].activities.values())
    await end(cloud)


async def test_a_scope_stops_to_listen_only_if_nobody_said_so_again() -> None:
    cloud = await begin()
    await cloud.shell.submit(c.Unheard(SCOPE, 0))
    await cloud.shell.submit(c.Listen(SCOPE))
    number = cloud.machine.state.listeners[SCOPE.key()].number
    await cloud.shell.submit(c.Listen(SCOPE))
    await cloud.shell.submit(c.Unheard(SCOPE, number))
    assert cloud.machine.state.listeners[SCOPE.key()].number == number + 1
    await cloud.shell.submit(c.Unheard(SCOPE, number + 1))
    assert not cloud.machine.state.listeners
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(20)
    assert cloud.told.told == []
    await end(cloud)


async def test_a_topic_that_is_not_there_is_refused_and_one_that_goes_holds_up_nothing() -> None:
    cloud = await begin()
    cloud.told.faults = [NotFound("Topic does not exist")]
    with pytest.raises(CloudError, match="Unable to publish test message"):
        await cloud.service.ask(c.SetNotifications(SCOPE, "web", "topic", (LAUNCHED,)))
    assert not cloud.group().notifications
    await cloud.service.ask(c.SetNotifications(SCOPE, "web", "topic", (LAUNCHED,)))
    cloud.told.faults = [NotFound("Topic does not exist")]
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(40)
    cloud.check()
    assert len(cloud.told.told) == 1
    assert not any(one.tell for one in cloud.machine.state.rosters[KEY].activities.values())
    await end(cloud)


async def test_room_that_comes_back_is_found_within_a_minute() -> None:
    cloud = await begin()
    cloud.compute.zones_full = set(ZONES)
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(900)
    cloud.compute.zones_full = set()
    await cloud.run(limits.COLD_S_MAX + cloud.compute.boot_s + 1)
    cloud.check()
    await end(cloud)


@pytest.mark.parametrize(("rollback", "outcome"), [(True, "RollbackSuccessful"), (False, "Failed")])
async def test_an_alarm_ends_a_refresh_also_while_it_bakes(rollback: bool, outcome: str) -> None:
    cloud = await begin(desired=2, warmup_s=0)
    await cloud.run(40)
    with pytest.raises(CloudError, match="alarm nothing does not exist"):
        await cloud.service.ask(c.StartRefresh(SCOPE, "web", alarms=("nothing",)))
    await cloud.service.ask(
        c.StartRefresh(
            SCOPE, "web", {"id": "lt-2", "version": "2"}, alarms=("errors",), auto_rollback=rollback, bake_s=600
        )
    )
    await cloud.run(200)
    refresh = next(iter(cloud.machine.state.rosters[KEY].refreshes.values()))
    assert refresh.status == "Baking" and {one.template for one in cloud.members()} == {"lt-2"}
    cloud.metrics.states["errors"] = "ALARM"
    await cloud.run(200)
    refresh = next(iter(cloud.machine.state.rosters[KEY].refreshes.values()))
    assert refresh.status == outcome and "errors" in refresh.reason
    assert {one.template for one in cloud.members()} == {"lt-1" if rollback else "lt-2"}
    assert cloud.group().template["id"] == "lt-1"
    await end(cloud)
