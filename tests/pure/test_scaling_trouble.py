"""Failures are planned for: other zones and types are tried, broken templates left alone, what is gone is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from minicloud import cloud_streams
from minicloud.base.errors import CloudError, InsufficientCapacity, InvalidParameterValue, LimitExceeded, NotFound
from minicloud.cloud_streams import Stream
from minicloud.scaling import commands as c
from minicloud.scaling import reconcile
from minicloud.scaling.service import _blames
from minicloud.scaling.state import Turn
from tests.pure.scaling_world import SCOPE, ZONES, World, history, in_service, running
from tests.pure.test_scaling_service import begin, end
from tests.turns import until

FULL = "InsufficientInstanceCapacity"
TYPES = ["m5.large", "m6i.large"]
PLACES = [f"{zone}/{kind}" for zone in ZONES for kind in TYPES]


def mixed(desired: int, broken: dict[str, str]) -> World:
    world = World()
    world.broken = broken
    world.create(desired=desired, types=TYPES)
    return world


def places(world: World) -> list[str]:
    return sorted(f"{one.zone}/{one.type}" for one in in_service(world))


# --- a mixed instances group


@pytest.mark.parametrize("place", PLACES)
def test_the_only_place_with_room_is_found(place: str) -> None:
    world = mixed(4, {one: FULL for one in PLACES if one != place})
    world.work(8, 0.5)
    assert places(world) == [place] * 4
    assert world.calls <= 4 * len(PLACES), "no place is asked again by the same round"


def test_a_type_without_room_in_a_zone_is_taken_there_as_another() -> None:
    world = mixed(6, {f"{ZONES[0]}/{TYPES[0]}": FULL})
    world.work(4)
    assert places(world) == [f"{ZONES[0]}/{TYPES[1]}"] * 2 + [f"{zone}/{TYPES[0]}" for zone in ZONES[1:] for _ in "12"]


def test_where_no_place_has_room_each_is_asked_once_a_minute_until_one_has() -> None:
    world = mixed(3, dict.fromkeys(PLACES, FULL))
    world.work(120, 5.0)
    calls = world.calls
    assert not in_service(world) and world.group().desired == 3
    world.work(120, 5.0)
    assert 0 < world.calls - calls <= 3 * len(PLACES) * 11
    world.broken, world.failed = {}, set()
    world.work(16, 5.0)
    world.check_converged()


@pytest.mark.parametrize("bad", TYPES)
def test_a_type_that_cannot_be_had_costs_one_refusal_a_back_off(bad: str) -> None:
    """An image of another architecture, a quota of vCPUs: the rest of the group's types do."""
    world = mixed(3, {f"/{bad}": "Unsupported"})
    world.work(4)
    good = next(kind for kind in TYPES if kind != bad)
    assert places(world) == [f"{zone}/{good}" for zone in ZONES]
    assert not world.group().failures, "the group itself does not wait"
    calls = world.calls
    for desired in (4, 5, 6):
        world.do(c.SetDesired(SCOPE, "web", desired))
        world.work(2, 0.5)
    assert len(in_service(world)) == 6 and world.calls <= calls + 3 + 1


def test_a_zone_that_is_no_more_is_left() -> None:
    world = mixed(4, {ZONES[0]: "NoSuchZone"})
    world.work(4)
    assert len(in_service(world)) == 4 and all(one.zone != ZONES[0] for one in in_service(world))
    assert not world.group().failures


def test_types_that_all_cannot_be_had_are_a_broken_template() -> None:
    world = mixed(5, {f"/{kind}": "Unsupported" for kind in TYPES})
    world.work(360, 10.0)
    assert world.group().failures > 2
    assert world.calls <= 2 * 2 * 5 + 2 * 16, "as rarely as with one type, for each"
    world.broken, world.failed = {}, set()
    world.work(90, 20.0)
    world.check_converged()


def test_a_repaired_template_is_tried_at_once() -> None:
    world = mixed(2, {"": "InvalidAMIID.NotFound"})
    world.work(300, 10.0)
    assert world.group().retry_at > world.now + 30
    world.broken, world.failed = {}, set()
    world.do(c.UpdateGroup(SCOPE, "web", c.GroupSettings(template={"id": "lt-2", "version": "1"})))
    world.work(4)
    assert len(in_service(world)) == 2


@pytest.mark.parametrize("trouble", ["launch", "death"])
def test_a_template_that_breaks_costs_a_group_none_that_it_has(trouble: str) -> None:
    """For two hours: as many in service as before, always the same, and ever fewer tries."""
    world = running(4, types=TYPES)
    world.wait(120)
    before = {one.instance_id for one in in_service(world)}
    world.broken = {"": "InvalidAMIID.NotFound"} if trouble == "launch" else {}
    world.dies_at_once = trouble == "death"
    world.do(c.SetDesired(SCOPE, "web", 8))
    calls = []
    for _ in range(24):
        start = world.calls
        for _ in range(30):
            world.work(1, 10.0)
            assert {one.instance_id for one in in_service(world)} == before
        calls.append(world.calls - start)
    assert sum(calls[-12:]) <= 12, calls
    assert world.group().desired == 8


# --- what a refusal speaks of


@pytest.mark.parametrize(
    ("error", "blames"),
    [
        (InsufficientCapacity(), "place"),
        (InvalidParameterValue("image ami-1 is for arm64, m5.large is x86_64", field="image_id"), "type"),
        (LimitExceeded("the quota 'vcpus'", code="VcpuLimitExceeded", field="instance_type"), "type"),
        (InvalidParameterValue("Invalid availability zone: [a]", field="placement.zone"), "zone"),
        (LimitExceeded("the quota 'instances'", code="InstanceLimitExceeded", field="max_count"), "group"),
        (NotFound("The image id does not exist", code="InvalidAMIID.NotFound"), "group"),
    ],
)
def test_what_a_refusal_blames(error: CloudError, blames: str) -> None:
    assert _blames(error) == blames


# --- a target group that was deleted


async def test_a_target_group_that_was_deleted_is_dropped_and_the_history_says_so() -> None:
    cloud = await begin(desired=1, target_groups=["tg-1", "tg-2"])
    await cloud.run(40)
    cloud.targets.gone = {"tg-2"}
    await cloud.shell.submit(c.SetDesired(SCOPE, "web", 2))
    await cloud.run(40)
    assert cloud.group().target_groups == ["tg-1"] and not cloud.group().leaving
    assert len(cloud.targets.registered) == 2
    calls = cloud.targets.calls
    await cloud.run(600)
    assert cloud.targets.calls == calls, "it is asked no more"
    (told,) = [one for one in cloud.machine.state.rosters[cloud.group().key].activities.values() if "tg-2" in one.cause]
    assert (told.status, told.description) == ("Successful", "Detaching target group: tg-2")
    cloud.check()
    await end(cloud)


def test_a_target_group_is_dropped_once() -> None:
    world = running(1, target_groups=["tg-1"])
    for _ in range(2):
        world.do(c.TargetsGone(SCOPE.key("web"), "tg-1"))
    assert world.group().target_groups == []
    assert len([one for one in history(world) if "tg-1" in one.description]) == 1
    world.do(c.TargetsGone(SCOPE.key("nothing"), "tg-1"))
    world.do(c.SetDesired(SCOPE, "web", 0))
    world.work()
    assert not world.members()


# --- mistakes of ours


async def test_a_group_that_cannot_be_looked_at_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cloud = await begin(desired=0)
    for name in ("aaa", "zzz"):
        settings = c.GroupSettings(min_size=0, max_size=9, zones=ZONES, template={"id": "lt-1", "version": "1"})
        await cloud.shell.submit(c.CreateGroup(SCOPE, name, settings))
        at = cloud.clock.wall() + 60
        await cloud.shell.submit(c.PutScheduled(SCOPE, name, "soon", start=at, desired=2))
    settle, broken = reconcile.settle, ["aaa"]

    def stumbles(turn: Turn) -> None:
        if turn.group.name in broken:
            raise RuntimeError("unforeseen")
        settle(turn)

    monkeypatch.setattr(reconcile, "settle", stumbles)
    await cloud.run(100)
    groups = cloud.machine.state.groups
    assert (groups[SCOPE.key("aaa")].desired, groups[SCOPE.key("zzz")].desired) == (0, 2)
    assert caplog.text.count("aaa is looked at again later") == 1, "not again and again"
    broken.clear()
    await cloud.run(60)
    assert groups[SCOPE.key("aaa")].desired == 2, "its action was not lost"
    await end(cloud)


async def test_what_is_not_understood_of_a_stream_keeps_nothing_else_from_being_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cloud_streams, "AGAIN_S", 0.05)
    heard: list[int] = []
    opened = 0

    async def numbers() -> AsyncIterator[int]:
        nonlocal opened
        opened += 1
        for number in range(4):
            yield number
        await asyncio.Event().wait()

    async def hears(number: int) -> None:
        if number == 1 and opened == 1:
            raise RuntimeError("unforeseen")
        heard.append(number)

    stream = Stream("numbers", numbers, hears)
    stream.start()
    await until(lambda: len(heard) == 7)
    assert heard == [0, 2, 3, 0, 1, 2, 3] and opened == 2
    await stream.close()
