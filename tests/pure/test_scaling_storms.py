"""Groups in bad weather: everything dies at once; metrics are lost, are no numbers, jump, flap (rows 27, 28 of the
fault matrix). They come back without a second wave, and hold what they have where nothing can be said.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from minicloud.scaling import commands as c
from minicloud.scaling import limits
from minicloud.scaling.places import backoff_s
from minicloud.scaling.tracking import Reading
from tests.pure.scaling_world import SCOPE, World, in_service, running

COUNT = 200
CPU = {"target": 50.0, "metric": "ASGAverageCPUUtilization"}
WINDOW = limits.IN_S // 60


def everybody_dies(world: World) -> None:
    for instance in list(world.instances.values()):
        if instance.state == "running":
            instance.state = "terminated"
            world.report(instance.id, fault=True)


def test_what_dies_together_is_replaced_once_and_evenly() -> None:
    world = World()
    world.create(desired=COUNT, max_size=COUNT)
    world.work(5)
    assert len(in_service(world)) == COUNT == world.calls
    everybody_dies(world)
    world.work(5)
    assert len(in_service(world)) == COUNT and world.calls == 2 * COUNT
    world.work(60, 60.0)
    assert world.calls == 2 * COUNT and world.group().failures == 0  # no second wave, and the template is not blamed
    world.check_converged()


def test_a_storm_in_which_nothing_can_be_launched_is_waited_out() -> None:
    """Each place without room is asked ever more rarely, not once for each instance that is missing."""
    world = World()
    world.create(desired=COUNT, max_size=COUNT)
    world.work(5)
    world.broken = {"": "InsufficientInstanceCapacity"}
    everybody_dies(world)
    world.work(2)
    before = world.calls
    world.work(60, 10.0)
    assert before <= 5 * COUNT and world.calls - before <= 3 * (600 / limits.COLD_S_MAX + 5)
    world.broken, world.failed = {}, set()
    world.work(20, 10.0)
    world.check_converged()


def tracked(desired: int = 4) -> World:
    world = running(desired, min_size=2, max_size=20, warmup_s=60)
    world.do(c.PutPolicy(SCOPE, "web", "cpu", "TargetTrackingScaling", CPU))
    world.wait(3_600)
    return world


def minute(world: World, values: list[float | None]) -> int:
    """One more minute, of which the newest values are these; returns what is desired then."""
    world.work(1, 60.0)
    world.do(c.Evaluate(SCOPE, "web", {"cpu": Reading(tuple(values), 60, world.now)}))
    return world.group().desired


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_where_nothing_is_known_a_group_holds_what_it_has(value: float | None) -> None:
    world = tracked()
    assert {minute(world, [value] * WINDOW) for _ in range(60)} == {4}
    assert minute(world, [90.0, 90.0, value]) == 4  # three that are there, or nothing
    assert minute(world, [*[5.0] * (WINDOW - 1), value]) == 4
    world.do(c.Evaluate(SCOPE, "web"))  # the metrics could not be read at all
    assert world.group().desired == 4


@pytest.mark.parametrize("target", [50.0, 5e-324])
def test_a_wild_value_takes_a_group_to_its_maximum_and_no_further(target: float) -> None:
    world = tracked()
    world.do(c.PutPolicy(SCOPE, "web", "cpu", "TargetTrackingScaling", {**CPU, "target": target}))
    assert minute(world, [1e100] * WINDOW) == 20


def test_years_of_refusals_are_counted_and_no_back_off_grows_beyond_numbers() -> None:
    """2 ** 1024 is none: a group whose places were full for a day could not be told so any more."""
    assert backoff_s(5_000.0) == limits.LAUNCH_BACKOFF_S_MAX
    assert [backoff_s(one) for one in (0, 1, 2, 3)] == [5.0, 5.0, 10.0, 20.0]


def test_a_clock_that_jumped_takes_nothing_away_for_what_was_before() -> None:
    world = tracked()
    assert minute(world, [90.0] * WINDOW) == 8
    world.work(20)
    changed = world.now
    world.wait(86_400)  # the machine slept a day; what it finds is of before
    world.do(c.Evaluate(SCOPE, "web", {"cpu": Reading((5.0,) * WINDOW, 60, changed)}))
    assert world.group().desired == 8


@pytest.mark.parametrize("period", [2, 4, 10, 20])
def test_a_load_that_flaps_moves_a_group_up_and_not_back_and_forth(period: int) -> None:
    """Six hours; high for half of the period, low for the other. Down only after a quarter of an hour of low."""
    world, seen, desired = tracked(), [5.0] * WINDOW, [4]
    for now in range(360):
        seen.append(80.0 if now % period < period / 2 else 5.0)
        desired.append(minute(world, list(seen[-WINDOW:])))
    moves = [after - before for before, after in pairwise(desired) if after != before]
    assert all(move > 0 for move in moves) and min(desired) == 4
    assert len(moves) <= 20
