"""The autoscaler on shell, journal and virtual clock, with a launcher that fails: what is asked for happens once."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InsufficientCapacity, InvalidParameterValue, NotFound, Unavailable
from minicloud.scaling import commands as c
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Group, Member
from minicloud.scaling.orders import Launch
from minicloud.scaling.ports import Answer, FoundTemplate, MetricReader
from minicloud.scaling.service import Ports, ScalingService
from minicloud.scaling.state import State
from minicloud.scaling.tracking import Reading
from minicloud.shell.clock import VirtualClock
from minicloud.shell.shell import Shell
from minicloud.shell.waiters import Waiters
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.pure.scaling_world import SCOPE, ZONES

KEY = SCOPE.key("web")
NO_TARGETS = SCOPE.arn("elasticloadbalancing", "targetgroup/nothing")


@dataclass
class Compute:
    """InstanceLauncher. Instances run `boot_s` after their launch; `answers` are the faults of the next launches."""

    clock: VirtualClock
    boot_s: float = 20.0
    states: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, Answer] = field(default_factory=dict)
    faults: list[CloudError | None] = field(default_factory=list)
    zones_full: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    seen: object = None  # where reports go: the running Cloud

    async def launch(self, order: Launch) -> Answer:
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None and not isinstance(fault, Unavailable):
            raise fault
        if order.token not in self.tokens:
            if order.zone in self.zones_full:
                raise InsufficientCapacity
            instance_id = f"i-{len(self.tokens):017x}"
            self.tokens[order.token] = Answer(instance_id, order.zone, order.version)
            self.states[instance_id] = "pending"
            self.clock.call_at(self.clock.wall() + self.boot_s, lambda: self.turn(instance_id, "running"))
        if fault is not None:
            raise fault  # it was launched, the answer is lost
        return self.tokens[order.token]

    async def terminate(self, instance_id: str) -> None:
        if instance_id not in self.states:
            raise NotFound
        self.turn(instance_id, "terminated")

    async def start(self, instance_id: str) -> None:
        self.turn(instance_id, "running")

    async def stop(self, instance_id: str) -> None:
        self.turn(instance_id, "stopped")

    async def claim(self, instance_id: str, group: str) -> None:
        self.claimed.add(instance_id)

    async def release(self, instance_id: str) -> None:
        self.claimed.discard(instance_id)

    def turn(self, instance_id: str, state: str) -> None:
        if self.states[instance_id] != "terminated":
            self.states[instance_id] = state
            assert isinstance(self.seen, Cloud)
            self.seen.report(instance_id)

    def alive(self) -> set[str]:
        return {key for key, state in self.states.items() if state != "terminated"}


@dataclass
class Targets:
    """TargetRegistrar. A target is drained when it has been asked for `asks` times, and tells when to ask again."""

    clock: VirtualClock
    asks: int = 3
    seen: object = None  # the running Cloud
    calls: int = 0
    registered: set[str] = field(default_factory=set)
    asked: dict[str, int] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)  # target groups that were deleted

    async def check(self, target_group: str) -> None:
        if target_group.endswith("nothing"):
            raise NotFound

    async def register(self, target_group: str, instance_id: str) -> None:
        self.calls += 1
        if target_group in self.gone:
            raise NotFound(code="TargetGroupNotFound")
        self.registered.add(instance_id)

    async def deregister(self, target_group: str, instance_id: str) -> bool:
        self.registered.discard(instance_id)
        self.asked[instance_id] = self.asked.get(instance_id, 0) + 1
        assert isinstance(self.seen, Cloud)
        service = self.seen.service
        self.clock.call_at(self.clock.wall() + 1.0, lambda: service.wake(instance_id))
        return self.asked[instance_id] >= self.asks


@dataclass
class Told:
    """Notifier."""

    faults: list[CloudError] = field(default_factory=list)
    told: list[tuple[str, str]] = field(default_factory=list)

    async def tell(self, scope: Scope, target: str, subject: str, text: str) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.told.append((target, text))


class Names:
    """InstanceCatalog: everything exists but what is called nothing; $Latest is version 7."""

    async def template(self, scope: Scope, reference: str, version: str) -> FoundTemplate:
        if reference == "nothing":
            raise NotFound(code="InvalidLaunchTemplateName.NotFoundException")
        if version == "99":
            raise NotFound(code="InvalidLaunchTemplateId.VersionNotFound")
        number = version if version.isdigit() else "7"
        return FoundTemplate("lt-1" if reference == "web" else reference, number, "web")

    async def zones(self, scope: Scope) -> list[str]:
        return ZONES

    async def check_types(self, scope: Scope, types: Sequence[str]) -> None:
        if "nothing" in types:
            raise InvalidParameterValue("Invalid value 'nothing' for InstanceType.", code="InvalidInstanceType")

    async def instances(self, scope: Scope, ids: Sequence[str]) -> list[c.Found]:
        return [c.Found(one, ZONES[0], "running") for one in ids]


@dataclass
class Metrics:
    """MetricReader: a load that is spread over the instances in service."""

    clock: VirtualClock
    load: float = 0.0
    in_service: int = 1
    broken: bool = False
    states: dict[str, str] = field(default_factory=lambda: {"errors": "OK"})

    async def alarms(self, scope: Scope, names: Sequence[str]) -> dict[str, str]:
        return {name: state for name, state in self.states.items() if name in names}

    async def read(self, group: str, policy: str, periods: int) -> Reading:
        if self.broken:
            raise Unavailable
        return Reading((self.load / max(1, self.in_service),) * periods, 60, self.clock.wall())

    async def history(self, group: str, policy: str, seconds: int) -> list[tuple[float, float]]:
        now = self.clock.wall()
        return [(now - seconds + at, 300 + 200 * math.sin(at / 86_400)) for at in range(0, seconds, 900)]


class Cloud:
    """One life of the autoscaler; the next one gets the same disk and the same compute."""

    def __init__(
        self,
        clock: VirtualClock,
        disk: MemoryDisk,
        compute: Compute,
        reader: Callable[[State], MetricReader] | None = None,
    ) -> None:
        """reader: of metrics, in the place of `metrics`."""
        self.clock, self.compute, self.metrics = clock, compute, Metrics(clock)
        self.targets, self.told = Targets(clock, seen=self), Told()
        self.machine, rand = Scaling(), random.Random(1)
        self.shell = Shell(
            self.machine,
            MemoryJournal(disk),
            clock=clock,
            rand=rand,
            on_effects=lambda made: self.service.on_effects(made),
        )
        self.service = ScalingService(
            self.machine,
            Ports(
                self.shell.submit, self.shell.barrier, self.shell.shown, Names(), compute, self.targets, self.told,
                self.metrics if reader is None else reader(self.machine.state),
                Waiters(clock), clock, rand,
            ),
        )  # fmt: skip
        self.reports: list[str] = []
        compute.seen = self

    async def start(self) -> Cloud:
        await self.shell.start()
        self.service.start()
        return self

    async def create(self, **settings: object) -> None:
        given = {"min_size": 0, "max_size": 10, "zones": ZONES, "template": {"id": "lt-1", "version": "1"}, **settings}
        await self.shell.submit(c.CreateGroup(SCOPE, "web", c.GroupSettings(**given)))  # type: ignore[arg-type]

    def report(self, instance_id: str) -> None:
        self.reports.append(instance_id)

    async def run(self, seconds: float) -> None:
        """Time passes in small steps; compute's reports arrive."""
        for _ in range(math.ceil(seconds)):
            await self.clock.advance(1.0)
            reports, self.reports = self.reports, []
            for instance_id in reports:
                await self.shell.submit(c.InstanceSeen(instance_id, self.compute.states[instance_id]))
            self.metrics.in_service = sum(one.state == "InService" for one in self.members())

    def group(self) -> Group:
        return self.machine.state.groups[KEY]

    def members(self) -> list[Member]:
        roster = self.machine.state.rosters.get(KEY)
        return list(roster.members.values()) if roster else []

    def check(self) -> None:
        """As many in service as desired, and compute has these and no others."""
        members = self.members()
        assert [one.state for one in members] == ["InService"] * self.group().desired
        assert {one.instance_id for one in members} == self.compute.alive()


async def begin(**settings: object) -> Cloud:
    clock = VirtualClock()
    cloud = await Cloud(clock, MemoryDisk(), Compute(clock)).start()
    await cloud.create(**settings)
    return cloud


async def end(cloud: Cloud) -> None:
    await cloud.service.close()
    await cloud.shell.stop()


async def test_a_launch_whose_answer_is_lost_is_not_launched_twice() -> None:
    cloud = await begin()
    cloud.compute.faults = [Unavailable(), Unavailable(), None, Unavailable()]
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 3))
    await cloud.run(60)
    cloud.check()
    assert len(cloud.compute.tokens) == 3
    await end(cloud)


async def test_a_zone_without_room_is_left_and_a_broken_template_waits() -> None:
    cloud = await begin()
    cloud.compute.zones_full = {ZONES[0]}
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 2))
    await cloud.run(60)
    cloud.check()
    cloud.compute.faults = [InvalidParameterValue("The image id does not exist", code="InvalidAMIID.NotFound")] * 20
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 4))
    await cloud.run(60)
    assert len(cloud.compute.faults) > 12
    cloud.compute.faults, cloud.compute.zones_full = [], set()
    await cloud.run(1_500)
    cloud.check()
    await end(cloud)


async def test_a_crash_in_the_middle_of_everything_is_finished_by_the_next_life() -> None:
    for moment in range(0, 30, 2):
        clock, disk = VirtualClock(), MemoryDisk()
        compute = Compute(clock)
        cloud = await Cloud(clock, disk, compute).start()
        await cloud.create(desired=4)
        await cloud.run(moment)
        await cloud.shell.submit(c.SetDesired(SCOPE, "web", moment % 5))
        await end(cloud)
        cloud = await Cloud(clock, disk, compute).start()
        for instance_id in compute.states:
            cloud.report(instance_id)
        await cloud.run(90)
        cloud.check()
        await end(cloud)


async def test_targets_are_registered_and_drained_before_the_end() -> None:
    cloud = await begin(desired=1, target_groups=["tg-1"])
    await cloud.run(40)
    only = cloud.members()[0].instance_id
    assert cloud.targets.registered == {only}
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 0))
    await cloud.run(1)
    assert cloud.members()[0].state == "Terminating" and only in cloud.compute.alive()
    await cloud.run(10)
    assert not cloud.members() and not cloud.compute.alive() and not cloud.targets.registered
    await end(cloud)


async def test_a_target_group_that_a_group_leaves_forgets_its_instances() -> None:
    cloud = await begin(desired=2, target_groups=["tg-1"])
    await cloud.run(40)
    assert len(cloud.targets.registered) == 2
    await cloud.service.ask(c.ChangeTargets(SCOPE, "web", remove=("tg-1",)))
    await cloud.run(1)
    assert not cloud.targets.registered and cloud.group().leaving == ["tg-1"]
    await cloud.run(10)
    assert not cloud.group().leaving and not cloud.group().target_groups
    cloud.check()
    await end(cloud)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"template": {"id": "nothing"}}, "with template name nothing, does not exist"),
        (
            {"template": {"id": "lt-1", "version": "99"}},
            "specified version 99 for the launch template with template ID",
        ),
        ({"zones": ["mars-1a"]}, "mars-1a"),
        ({"types": ["nothing"]}, "nothing"),
        (
            {"target_groups": [SCOPE.arn("elasticloadbalancing", "targetgroup/nothing")]},
            "Target Groups may not be valid",
        ),
    ],
)
async def test_what_a_group_names_must_exist(settings: dict[str, object], text: str) -> None:
    cloud = await begin(desired=1)
    await cloud.run(40)
    before = cloud.group()
    with pytest.raises(CloudError, match=text) as caught:
        await cloud.service.ask(c.UpdateGroup(SCOPE, "web", c.GroupSettings(**settings)))  # type: ignore[arg-type]
    assert caught.value.code == "ValidationError" and cloud.group() == before
    await cloud.service.ask(c.UpdateGroup(SCOPE, "web", c.GroupSettings(template={"id": "web", "version": "$Latest"})))
    assert cloud.group().template == {"id": "lt-1", "name": "web", "version": "$Latest"}
    await cloud.service.ask(c.StartRefresh(SCOPE, "web", template={"id": "web", "version": "$Latest"}))
    refresh = next(iter(cloud.machine.state.rosters[KEY].refreshes.values()))
    assert (refresh.config["template"], refresh.version) == ({"id": "lt-1", "name": "web", "version": "7"}, "7")
    await end(cloud)


async def test_an_instance_that_compute_forgot_is_gone() -> None:
    cloud = await begin(desired=1)
    await cloud.run(40)
    cloud.compute.states.clear()
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 0))
    await cloud.run(2)
    assert not cloud.members()
    await end(cloud)


async def test_load_that_triples_is_followed_and_unreadable_metrics_change_nothing() -> None:
    cloud = await begin(desired=2, min_size=1, warmup_s=30)
    await cloud.run(60)
    config = {"target": 50.0, "metric": "ASGAverageCPUUtilization"}
    await cloud.shell.submit(c.PutPolicy(SCOPE, "web", "cpu", "TargetTrackingScaling", config))
    cloud.metrics.load = 300.0
    await cloud.run(180)
    assert cloud.group().desired == 6
    cloud.metrics.load, cloud.metrics.broken = 40.0, True
    await cloud.run(1_800)
    assert cloud.group().desired == 6
    cloud.metrics.broken = False
    await cloud.run(1_200)
    assert cloud.group().desired == 1
    cloud.check()
    await end(cloud)


async def test_a_forecast_is_made_and_scales_ahead() -> None:
    cloud = await begin(desired=1)
    config = {"target": 100.0, "pair": "ASGCPUUtilization", "mode": "ForecastAndScale"}
    await cloud.shell.submit(c.PutPolicy(SCOPE, "web", "ahead", "PredictiveScaling", config))
    await cloud.run(60)
    policy = next(iter(cloud.machine.state.rosters[KEY].policies.values()))
    assert policy.forecast is not None and len(policy.forecast["load"]) == 192
    assert cloud.group().desired > 1
    await cloud.run(60)
    cloud.check()
    await end(cloud)


async def test_the_target_of_a_hook_is_told_once_of_each_instance_that_waits() -> None:
    cloud = await begin(desired=0)
    cloud.told.faults = [Unavailable()]
    target = SCOPE.arn("sqs", "waiting")
    hook = c.PutHook(SCOPE, "web", "warm-up", "autoscaling:EC2_INSTANCE_LAUNCHING", 300, "CONTINUE", target)
    await cloud.service.ask(hook)
    await cloud.service.ask(c.SetDesired(SCOPE, "web", 2))
    await cloud.run(60)
    assert [one.state for one in cloud.members()] == ["Pending:Wait"] * 2
    told = [json.loads(text) for to, text in cloud.told.told if to == target]
    assert sorted(one["EC2InstanceId"] for one in told) == sorted(cloud.compute.alive())
    await cloud.service.ask(c.EndWait(SCOPE, "web", "warm-up", "CONTINUE", told[0]["LifecycleActionToken"]))
    await cloud.run(5)
    assert sorted(one.state for one in cloud.members()) == ["InService", "Pending:Wait"]
    await cloud.run(300)
    cloud.check()
    assert len(cloud.told.told) == 2
    await end(cloud)


async def test_a_hook_whose_target_is_not_there_ends_by_its_timeout() -> None:
    cloud = await begin(desired=0)
    cloud.told.faults = [NotFound() for _ in range(9)]
    target = SCOPE.arn("sns", "gone")
    hook = c.PutHook(SCOPE, "web", "warm-up", "autoscaling:EC2_INSTANCE_LAUNCHING", 60, "CONTINUE", target)
    await cloud.service.ask(hook)
    await cloud.service.ask(c.SetDesired(SCOPE, "web", 1))
    await cloud.run(100)
    cloud.check()
    assert len(cloud.told.faults) == 8
    await end(cloud)


async def test_a_detached_instance_does_not_carry_the_name_of_the_group() -> None:
    cloud = await begin(desired=0)
    cloud.compute.states["i-other"] = "running"
    found = await cloud.service.found(SCOPE, ["i-other"])
    await cloud.service.ask(c.Attach(SCOPE, "web", found))
    assert cloud.compute.claimed == {"i-other"}
    await cloud.service.ask(c.Detach(SCOPE, "web", ("i-other",), decrement=True))
    await cloud.run(2)
    assert not cloud.members() and not cloud.compute.claimed and cloud.compute.alive() == {"i-other"}
    await end(cloud)


async def test_target_groups_of_another_account_do_not_exist() -> None:
    cloud = await begin(desired=0)
    theirs = Scope("999999999999").arn("elasticloadbalancing", "targetgroup/theirs/1")
    with pytest.raises(InvalidParameterValue, match="Target Groups may not be valid"):
        await cloud.service.ask(c.ChangeTargets(SCOPE, "web", add=(theirs,)))
    await end(cloud)
