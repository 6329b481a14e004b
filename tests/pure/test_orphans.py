"""The sweep of instances that carry a group's name and are nobody's: who is ended, and who never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, NotFound, Unavailable
from minicloud.cloud_orphans import AGAIN_S, OrphanSweep
from minicloud.scaling import commands as c
from minicloud.scaling.orders import Launch
from minicloud.shell.clock import VirtualClock
from tests.pure.scaling_world import SCOPE, Instance, World

SMALL = c.GroupSettings(min_size=0, max_size=1, zones=["us-east-1a"], template={"id": "lt-1", "version": "1"})


class Compute:
    """Instances that carry the name of a group, by scope; `faults` are raised by the next lists."""

    def __init__(self) -> None:
        self.tagged: dict[str, tuple[Scope, str]] = {}
        self.faults: list[Exception] = []
        self.gone: set[str] = set()
        self.ended: list[str] = []
        self.while_listing: Callable[[], None] = lambda: None

    async def of_groups(self, scope: Scope) -> AsyncIterator[tuple[str, str]]:
        if self.faults:
            raise self.faults.pop(0)
        for instance_id, (whose, name) in list(self.tagged.items()):
            if whose == scope:
                yield instance_id, name
        self.while_listing()

    async def terminate(self, instance_id: str, scope: Scope | None = None) -> None:
        if instance_id in self.gone:
            raise NotFound
        assert scope is not None
        self.ended.append(instance_id)


class Bench:
    def __init__(self) -> None:
        self.clock, self.compute, self.world = VirtualClock(), Compute(), World()
        self.world.create(desired=2)
        self.world.work()
        for member in self.world.members():
            self.compute.tagged[member.instance_id] = SCOPE, "web"
        self.compute.tagged["i-orphan"] = SCOPE, "web"
        self.sweep = OrphanSweep(self.compute, self.world.machine.state, self.clock)

    async def run(self, seconds: float = AGAIN_S * 3) -> list[str]:
        self.sweep.start()
        await self.clock.advance(seconds)
        return self.compute.ended

    def launch(self) -> Launch:
        """One more is wanted; its launch is not answered yet."""
        self.world.do(c.SetDesired(SCOPE, "web", self.world.group().desired + 1))
        (order,) = [one for one in self.world.pending() if isinstance(one, Launch)]
        return order


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.sweep.close()


async def test_an_orphan_ends_and_members_stay(bench: Bench) -> None:
    bench.compute.tagged["i-other"] = SCOPE, "a group that there is not"
    assert await bench.run() == ["i-orphan"]


@pytest.mark.parametrize("fault", [RuntimeError("unforeseen"), Unavailable(), CloudError()])
async def test_what_goes_wrong_is_tried_again(bench: Bench, fault: Exception) -> None:
    bench.compute.faults = [fault, fault]
    assert await bench.run() == ["i-orphan"]


async def test_one_that_is_gone_by_then_holds_up_nothing(bench: Bench) -> None:
    bench.compute.tagged["i-gone"] = SCOPE, "web"
    bench.compute.gone.add("i-gone")
    assert await bench.run() == ["i-orphan"]


async def test_it_ends_though_a_launch_is_always_under_way(bench: Bench) -> None:
    """The next one begins before the last one is answered; the one under way while it was listed is no orphan."""
    order = bench.launch()
    bench.world.carry_out(order, answer_lost=True)
    bench.compute.tagged[bench.world.tokens[order.token]] = SCOPE, "web"
    assert await bench.run() == []
    bench.world.do(c.SetDesired(SCOPE, "web", 4))
    bench.world.carry_out(order)
    assert any(not member.instance_id for member in bench.world.members())
    await bench.clock.advance(AGAIN_S)
    assert bench.compute.ended == ["i-orphan"]


async def test_a_scope_that_waits_keeps_no_other_waiting(bench: Bench) -> None:
    other = Scope("111122223333")
    bench.world.do(c.CreateGroup(other, "api", SMALL))
    bench.compute.tagged["i-theirs"] = other, "api"
    bench.launch()
    assert await bench.run() == ["i-theirs"]


async def test_who_leaves_its_group_meanwhile_is_no_orphan(bench: Bench) -> None:
    """A launch that was answered, and an instance that was detached, between two looks."""
    order = bench.launch()
    bench.world.carry_out(order, answer_lost=True)
    new = bench.world.tokens[order.token]
    bench.compute.tagged[new] = SCOPE, "web"
    await bench.run()
    bench.world.carry_out(order)
    bench.world.let_go.add(new)
    bench.world.boot(new)
    bench.world.do(c.Detach(SCOPE, "web", (new,), decrement=True))
    del bench.compute.tagged[new]  # before it is no member any more
    bench.world.do(c.Drained(new))
    assert bench.world.machine.state.member_of(new) is None
    await bench.clock.advance(AGAIN_S)
    assert bench.compute.ended == ["i-orphan"]


async def test_one_that_is_attached_while_they_are_listed_is_a_member(bench: Bench) -> None:
    def attach() -> None:
        bench.compute.while_listing = lambda: None
        zone = bench.world.group().zones[0]
        bench.world.instances["i-orphan"] = Instance("i-orphan", zone, "running")
        bench.world.do(c.Attach(SCOPE, "web", (c.Found("i-orphan", zone, "running"),)))

    bench.compute.while_listing = attach
    assert await bench.run() == []
