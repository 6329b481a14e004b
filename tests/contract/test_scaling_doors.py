"""Groups and policies by the SDK, through Locate and with tickets: every rpc, bad input, the wall between tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from minicloud.base import errors
from minicloud.client import AsyncClient
from minicloud.client.group_models import LifecycleHook, Step, WarmPool
from minicloud.scaling import commands as c
from tests.contract.scaling_doors import World, scaling_doors
from tests.pure.scaling_world import SCOPE, ZONES

OTHER = "111122223333"
TARGETS = "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/web/0123456789abcdef"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with scaling_doors() as made:
        yield made


async def test_a_group_from_its_making_to_its_end(world: World) -> None:
    async with world.client() as cloud:
        made = await cloud.groups.create(
            "web", "web", min_size=1, max_size=5, desired=2, version="$Latest", tags={"a": "b", "c": "d"},
            local_tags=["c"], cooldown_s=60, health_types=["EC2", "ELB"], target_groups=[TARGETS],
        )  # fmt: skip
        assert made.arn.endswith(":autoScalingGroupName/web") and made.created_time is not None
        assert (made.min_size, made.max_size, made.desired, made.cooldown_s) == (1, 5, 2, 60)
        assert made.template is not None and (made.template.id, made.template.version) == ("lt-1", "$Latest")
        assert made.zones == tuple(ZONES) and made.local_tags == ("c",) and made.warmup_s is None
        await world.run(40)
        found = await cloud.groups.get("web")
        assert found.stable and found.counts is not None and found.counts.in_service == 2
        members = [one async for one in cloud.groups.members("web")]
        assert [one.lifecycle_state for one in members] == ["InService"] * 2
        assert {one.instance_id for one in members} == world.cloud.targets.registered
        changed = await cloud.groups.update("web", max_size=9, warmup_s=30, version="7", template="lt-1")
        assert (changed.max_size, changed.warmup_s, changed.template and changed.template.version) == (9, 30, "7")
        assert (await cloud.groups.update("web", warmup_s=-1)).warmup_s is None
        assert (await cloud.groups.set_desired("web", 3)).desired == 3
        await world.run(40)
        whys = [one.cause async for one in cloud.groups.activities("web")]
        assert "explicitly set group desired capacity changing the desired capacity from 2 to 3" in whys[0]
        assert len(whys) == 3 and len([one async for one in cloud.groups.activities()]) == 3
        with pytest.raises(errors.Conflict) as caught:
            await cloud.groups.delete("web")
        assert caught.value.code == "ResourceInUse"
        await cloud.groups.delete("web", force=True)
        assert (await cloud.groups.get("web")).status == "Delete in progress"
        await world.run(10)
        await cloud.groups.wait_gone("web")
        assert [one async for one in cloud.groups.list()] == [] and not world.cloud.compute.alive()


async def test_groups_and_members_come_in_pages(world: World) -> None:
    async with world.client() as cloud:
        for number in range(5):
            await cloud.groups.create(f"g{number}", "lt-1", min_size=0, max_size=9, desired=number)
        await world.run(40)
        assert [one.name async for one in cloud.groups.list(page_size=2)] == [f"g{number}" for number in range(5)]
        assert [one.name async for one in cloud.groups.list("g3", "nothing", "g1")] == ["g1", "g3"]
        assert len([one async for one in cloud.groups.members(page_size=3)]) == 10
        some = [one.instance_id async for one in cloud.groups.members("g2")]
        assert [one.group async for one in cloud.groups.members(instance_ids=some[:1])] == ["g2"]
        assert len([one async for one in cloud.groups.activities(page_size=4)]) == 10


async def test_instances_step_aside_and_come_back(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=6, desired=3)
        await world.run(40)
        first, second, third = [one.instance_id async for one in cloud.groups.members("web")]
        await cloud.groups.protect("web", first)
        await cloud.groups.enter_standby("web", second, decrement=True)
        await world.run(5)
        assert (await cloud.groups.get("web")).desired == 2
        states = {one.instance_id: one async for one in cloud.groups.members("web")}
        assert states[second].lifecycle_state == "Standby" and states[first].protected
        assert (await cloud.groups.exit_standby("web", second)).desired == 3
        await cloud.groups.protect("web", first, protected=False)
        await cloud.groups.set_health(third, "Unhealthy")
        await world.run(60)
        assert third not in world.cloud.compute.alive() and (await cloud.groups.get("web")).stable
        assert (await cloud.groups.terminate_instance(second, decrement=True)).desired == 2
        await world.run(5)
        assert (await cloud.groups.detach("web", first, decrement=True)).desired == 1
        await world.run(5)
        assert first in world.cloud.compute.alive()
        assert (await cloud.groups.attach("web", first)).desired == 2
        await world.run(5)
        assert first in [one.instance_id async for one in cloud.groups.members("web")]
        with pytest.raises(errors.NotFound, match="No managed instance found"):
            await cloud.groups.terminate_instance("i-0123456789abcdef0", decrement=False)


async def test_processes_tags_metrics_and_target_groups(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=6, desired=1, tags={"a": "b"})
        await world.run(40)
        assert list((await cloud.groups.suspend("web", "Launch")).suspended) == ["Launch"]
        assert len((await cloud.groups.suspend("web")).suspended) == 9
        assert not (await cloud.groups.resume("web")).suspended
        tagged = await cloud.groups.tag("web", {"c": "d"}, local_tags=["c"])
        assert (tagged.tags, tagged.local_tags) == ({"a": "b", "c": "d"}, ("c",))
        assert (await cloud.groups.untag("web", "c", "nothing")).tags == {"a": "b"}
        assert (await cloud.groups.collect_metrics("web", "GroupMinSize")).metrics == ("GroupMinSize",)
        assert len((await cloud.groups.collect_metrics("web")).metrics) == 15
        assert (await cloud.groups.collect_metrics("web", stop=True)).metrics == ()
        assert (await cloud.groups.attach_target_groups("web", TARGETS)).target_groups == (TARGETS,)
        await world.run(2)
        assert len(world.cloud.targets.registered) == 1
        assert (await cloud.groups.detach_target_groups("web", TARGETS)).target_groups == ()
        await world.run(5)
        assert not world.cloud.targets.registered
        with pytest.raises(errors.InvalidParameterValue):
            await cloud.groups.collect_metrics("web", "GroupHappiness")
        told = await cloud.groups.set_notifications(
            "web", "arn:aws:sns:us-east-1:000000000000:ops", "launch", "terminate"
        )
        assert [one.events[1] for one in told.notifications] == ["autoscaling:EC2_INSTANCE_TERMINATE"]
        assert (
            await cloud.groups.set_notifications("web", "arn:aws:sns:us-east-1:000000000000:ops")
        ).notifications == ()


async def test_hooks_hold_instances_until_they_are_told(world: World) -> None:
    async with world.client() as cloud:
        hook = LifecycleHook("boot", "launching", timeout_s=600)
        made = await cloud.groups.create("web", "lt-1", min_size=0, max_size=6, desired=1, hooks=[hook])
        assert [one.name for one in made.hooks] == ["boot"]
        await world.run(40)
        (only,) = [one async for one in cloud.groups.members("web")]
        assert only.lifecycle_state == "Pending:Wait" and only.waits[0].hook == "boot"
        await cloud.groups.heartbeat("web", "boot", instance_id=only.instance_id)
        await cloud.groups.complete_action("web", "boot", "CONTINUE", token=only.waits[0].token)
        await world.run(1)
        assert (await cloud.groups.get("web")).stable
        changed = await cloud.groups.put_hook("web", "boot", timeout_s=900)
        assert changed.hooks[0].timeout_s == 900 and changed.hooks[0].transition.endswith("LAUNCHING")
        assert len((await cloud.groups.put_hook("web", "bye", "terminating", default_result="CONTINUE")).hooks) == 2
        assert len((await cloud.groups.delete_hook("web", "bye")).hooks) == 1
        with pytest.raises(errors.InvalidParameterValue, match="No active Lifecycle Action"):
            await cloud.groups.complete_action("web", "boot", "CONTINUE", token="nothing")
        with pytest.raises(errors.InvalidParameterValue, match="CONTINUE or ABANDON"):
            await cloud.groups.complete_action("web", "boot", "", token="nothing")
        with pytest.raises(errors.InvalidParameterValue, match="LifecycleTransition"):
            await cloud.groups.put_hook("web", "new")


async def test_a_warm_pool_and_refreshes(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=4, desired=2, warmup_s=0)
        await world.run(40)
        given = {"min_size": 1, "max_prepared": 3, "state": "Running", "reuse_on_scale_in": True}
        pool = (await cloud.groups.put_warm_pool("web", **given)).warm_pool  # type: ignore[arg-type]
        assert pool == WarmPool(**given)  # type: ignore[arg-type]
        await world.run(40)
        found = await cloud.groups.get("web")
        assert found.counts is not None and found.counts.warm == 1
        assert (await cloud.groups.delete_warm_pool("web")).warm_pool is None
        started = await cloud.groups.start_refresh("web", template="web", version="$Latest", min_healthy=50)
        assert started.status == "InProgress" and started.template is not None and started.template.version == "7"
        with pytest.raises(errors.Conflict) as caught:
            await cloud.groups.start_refresh("web")
        assert caught.value.code == "InstanceRefreshInProgress"
        waiting = asyncio.create_task(cloud.groups.wait_refresh("web", started.id))
        while not waiting.done():
            await world.run(10)
        assert waiting.result().status == "Successful" and waiting.result().percent == 100
        await cloud.groups.start_refresh("web", template="lt-2", version="2")
        assert (await cloud.groups.cancel_refresh("web")).status == "Cancelled"
        await world.run(60)
        await cloud.groups.start_refresh("web", template="lt-2", version="2")
        assert (await cloud.groups.rollback_refresh("web")).status == "RollbackInProgress"
        assert [one.status async for one in cloud.groups.refreshes("web")][1:] == ["Cancelled", "Successful"]


async def test_who_waits_for_a_refresh_hears_of_its_end_though_no_instance_changes(world: World) -> None:
    """The old instance dies while its replacement boots: then nothing but the warm-up's end ends the refresh."""
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=4, desired=1, warmup_s=0)
        await world.run(40)
        (old,) = [one.instance_id async for one in cloud.groups.members("web")]
        started = await cloud.groups.start_refresh("web", min_healthy=100, max_healthy=200, warmup_s=30)
        waiting = asyncio.create_task(cloud.groups.wait_refresh("web", started.id))
        await world.run(2)
        world.cloud.compute.turn(old, "stopped")
        for _ in range(60):
            await world.run(1)
            states = [one.lifecycle_state async for one in cloud.groups.members("web")]
        assert states == ["InService"]
        async with asyncio.timeout(60):
            ended = await waiting
            assert (ended.status, ended.percent) == ("Successful", 100)
            view = await anext(cloud.groups.watch("web"))
        assert view.refresh == ended


async def test_policies_of_every_kind(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=8, desired=2, warmup_s=0)
        await world.run(60)
        tracking = await cloud.policies.put_target_tracking("web", "cpu", 50.0, metric="ASGAverageCPUUtilization")
        assert tracking.target_tracking is not None and tracking.target_tracking.target == 50 and not tracking.steps
        assert tracking.arn.endswith(":autoScalingGroupName/web:policyName/cpu") and tracking.enabled
        custom = {"MetricName": "Load", "Namespace": "My/App", "Statistic": "Average"}
        other = await cloud.policies.put_target_tracking("web", "own", 5.0, customized=custom, enabled=False)
        assert other.target_tracking is not None and '"Load"' in other.target_tracking.customized and not other.enabled
        steps = await cloud.policies.put_steps("web", "steps", [Step(1, 0, 10), Step(2, 10)], warmup_s=10)
        assert steps.steps is not None and [one.lower for one in steps.steps.steps] == [0, 10]
        simple = await cloud.policies.put_simple("web", "one", 1, cooldown_s=60)
        assert simple.simple is not None and simple.simple.cooldown_s == 60
        ahead = await cloud.policies.put_predictive("web", "ahead", 100.0, pair="ASGCPUUtilization", buffer_s=60)
        assert ahead.predictive is not None and ahead.predictive.mode == "ForecastOnly"
        assert [one.name async for one in cloud.policies.list("web", page_size=2)] == [
            "ahead", "cpu", "one", "own", "steps",
        ]  # fmt: skip
        assert await cloud.policies.get("web", "own") == other
        assert (await cloud.policies.execute("web", "one")).desired == 3
        with pytest.raises(errors.Conflict) as caught:
            await cloud.policies.execute("web", "one", honor_cooldown=True)
        assert caught.value.code == "ScalingActivityInProgress"
        await world.run(60)
        assert (await cloud.policies.execute("web", "steps", value=95, threshold=80)).desired == 5
        forecast = await cloud.policies.forecast("web", "ahead")
        assert len(forecast.load) == len(forecast.capacity) == len(forecast.times) == 192
        with pytest.raises(errors.InvalidParameterValue, match="not a predictive"):
            await cloud.policies.forecast("web", "cpu")
        await cloud.policies.delete("web", "cpu")
        with pytest.raises(errors.NotFound):
            await cloud.policies.get("web", "cpu")


async def test_scheduled_actions(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=8)
        made = await cloud.policies.put_schedule(
            "web", "morning", recurrence="0 9 * * MON-FRI", time_zone="Europe/Berlin", desired=4
        )
        assert made.next_time is not None and made.min_size is None and made.desired == 4
        at = world.cloud.clock.wall() + 60
        once = await cloud.policies.put_schedule("web", "soon", start=at, min_size=2, desired=2)
        assert once.start_time is not None and once.start_time.timestamp() == at
        assert [one.name async for one in cloud.policies.schedules("web")] == ["morning", "soon"]
        await world.run(65)
        assert (await cloud.groups.get("web")).desired == 2
        assert [one.name async for one in cloud.policies.schedules()] == ["morning"]
        await cloud.policies.delete_schedule("web", "morning")
        assert [one async for one in cloud.policies.schedules("web")] == []


async def test_a_group_is_watched(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=8, desired=1, warmup_s=0)
        await cloud.policies.put_target_tracking("web", "cpu", 50.0, metric="ASGAverageCPUUtilization")
        world.cloud.metrics.load = 20.0
        seen: list[tuple[int, str]] = []

        async def follow() -> None:
            async for view in cloud.groups.watch("web"):
                states = ",".join(one.lifecycle_state for one in view.members)
                seen.append((view.group.desired, states))
                if view.loads and view.loads[0].value == 20.0 and view.group.desired == 2 and view.group.stable:
                    return

        async with asyncio.timeout(60):
            task = asyncio.create_task(follow())
            await world.run(90)
            await cloud.groups.set_desired("web", 2)
            while not task.done():
                await world.run(5)
        assert seen[-1] == (2, "InService,InService")
        with pytest.raises(errors.NotFound):
            await anext(cloud.groups.watch("nothing"))
        stable = await cloud.groups.wait_stable("web", 5)
        assert stable.stable


async def test_who_waits_in_vain_is_told_what_failed(world: World) -> None:
    async with world.client() as cloud:
        world.cloud.compute.faults = [errors.InvalidParameterValue("The image id does not exist")] * 9
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=1)
        await world.run(2)
        with pytest.raises(errors.DeadlineExceeded, match=r"not stable after 0\.2 s: The image id does not exist"):
            await cloud.groups.wait_stable("web", 0.2)


async def test_a_watch_outlives_the_autoscaler(world: World) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=0, max_size=8)
        views = cloud.groups.watch("web")
        assert (await anext(views)).group.desired == 0
        await world.again()
        await world.cloud.shell.submit(c.SetDesired(SCOPE, "web", 1))
        async with asyncio.timeout(60):
            assert (await anext(views)).group.desired == 1  # and nothing is told twice
        await views.aclose()  # type: ignore[attr-defined]


Call = Callable[[AsyncClient], Awaitable[Any]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda c: c.groups.create("new", "lt-1", min_size=5, max_size=2), "greater than"),
        (lambda c: c.groups.create("new", "lt-1", min_size=0, max_size=2, desired=3), "above the maximum|max"),
        (lambda c: c.groups.create("new", "nothing", min_size=0, max_size=2), "valid fully-formed launch template"),
        (lambda c: c.groups.create("new", "lt-1", version="99", min_size=0, max_size=2), "specified version 99"),
        (lambda c: c.groups.create("new", "lt-1", min_size=0, max_size=2, zones=["mars-1a"]), "mars-1a"),
        (lambda c: c.groups.create("new", "lt-1", min_size=0, max_size=2, types=["nothing"]), "nothing"),
        (lambda c: c.groups.create("new", "lt-1", min_size=0, max_size=2, target_groups=["nothing"]), "Target Groups"),
        (lambda c: c.groups.update("web", max_size=0), "greater than"),
        (lambda c: c.groups.set_desired("web", 9), "above max value 4"),
        (lambda c: c.groups.set_desired("web", 0), "below min value 1"),
        (lambda c: c.groups.update("nothing", max_size=2), "not found"),
        (lambda c: c.policies.put_schedule("web", "cron", recurrence="61 * * * *", desired=2), "recurrence string"),
        (lambda c: c.policies.put_schedule("web", "zone", recurrence="* * * * *", time_zone="Mars", desired=2), "Mars"),
        (lambda c: c.policies.put_target_tracking("web", "cpu", 0.0, metric="ASGAverageCPUUtilization"), "TargetValue"),
        (lambda c: c.policies.put_target_tracking("web", "cpu", 1.0, metric="Happiness"), "Happiness"),
        (
            lambda c: c.policies.put_target_tracking("web", "r", 1.0, metric="ALBRequestCountPerTarget", label="x"),
            "label",
        ),
        (lambda c: c.policies.put_steps("web", "s", [Step(1, 0, 10), Step(1, 5)]), "overlap"),
        (lambda c: c.policies.put_predictive("web", "p", 1.0, pair="ASGCPUUtilization", mode="Guess"), "Mode"),
        (lambda c: c.groups.put_hook("web", "h", "launching", timeout_s=5), "HeartbeatTimeout"),
        (lambda c: c.groups.start_refresh("web", min_healthy=200), "MinHealthyPercentage"),
        (lambda c: c.groups.put_warm_pool("web", state="Hibernated"), "not supported"),
    ],
)
async def test_bad_input_has_awss_error_and_changes_nothing(world: World, call: Call, text: str) -> None:
    async with world.client() as cloud:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=4)
        await world.run(40)
        before = {kind: dict(table) for kind, table in world.cloud.machine.state._tables.items()}
        with pytest.raises(errors.CloudError, match=text) as caught:
            await call(cloud)
        assert caught.value.code == "ValidationError"
        assert {kind: dict(table) for kind, table in world.cloud.machine.state._tables.items()} == before


async def test_numbers_that_the_wire_cannot_carry_are_named(world: World) -> None:
    async with world.client() as cloud:
        with pytest.raises(errors.InvalidParameterValue) as caught:
            await cloud.groups.create("web", "lt-1", min_size=0, max_size=1 << 40)
        assert caught.value.field == "max_size"
        with pytest.raises(TypeError, match="colour"):
            await cloud.groups.create("web", "lt-1", min_size=0, max_size=1, colour="red")  # type: ignore[call-arg]


async def test_another_account_has_nothing_of_it(world: World) -> None:
    async with world.client() as cloud, world.client(OTHER) as stranger:
        await cloud.groups.create("web", "lt-1", min_size=1, max_size=4)
        policy = await cloud.policies.put_simple("web", "one", 1)
        await world.run(40)
        (member,) = [one async for one in cloud.groups.members()]
        for call in (
            stranger.groups.get("web"),
            stranger.groups.set_desired("web", 2),
            stranger.groups.delete("web", force=True),
            stranger.groups.terminate_instance(member.instance_id, decrement=False),
            stranger.groups.set_health(member.instance_id, "Unhealthy"),
            stranger.policies.get("web", policy.arn),
            stranger.policies.execute("web", "one"),
        ):
            with pytest.raises(errors.NotFound):
                await call
        assert [one async for one in stranger.groups.list()] == []
        assert [one async for one in stranger.groups.members()] == []
        assert [one async for one in stranger.policies.list()] == []
        assert [one async for one in stranger.policies.schedules()] == []
        await stranger.groups.create("web", "lt-1", min_size=0, max_size=1)
        assert (await cloud.groups.get("web")).min_size == 1
