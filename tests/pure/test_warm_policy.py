"""How many warm workers a host keeps, as a function of its recent launches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.cluster.warm_policy import (
    BURST_S,
    BYTES_PER_WORKER,
    CEILING,
    FLOOR,
    MEMORY_S,
    MEMORY_SHARE,
    wanted_workers,
)

TIMES = st.lists(st.floats(min_value=0, max_value=1000)).map(sorted)


def test_an_idle_host_keeps_the_floor() -> None:
    assert wanted_workers([], 100.0) == FLOOR
    assert wanted_workers([], 100.0, floor=0) == 0


@pytest.mark.parametrize(("launches", "wanted"), [(3, 3), (5, 5), (50, CEILING)])
def test_a_burst_is_what_the_next_one_finds(launches: int, wanted: int) -> None:
    burst = [100.0 + 0.1 * number for number in range(launches)]
    assert wanted_workers(burst, 110.0) == wanted


def test_launches_far_apart_are_no_burst() -> None:
    assert wanted_workers([BURST_S * 1.01 * number for number in range(20)], 300.0) == FLOOR


def test_a_burst_is_forgotten() -> None:
    burst = [100.0] * 6
    assert wanted_workers(burst, 100.0 + MEMORY_S) == 6
    assert wanted_workers(burst, 100.1 + MEMORY_S) == FLOOR


def test_the_floor_of_the_control_plane_may_be_above_the_ceiling() -> None:
    assert wanted_workers([], 0.0, floor=CEILING + 4) == CEILING + 4


def test_a_host_without_memory_keeps_what_it_can_afford() -> None:
    assert wanted_workers([1.0] * 8, 1.0, free_bytes=3 * BYTES_PER_WORKER / MEMORY_SHARE) == 3
    assert wanted_workers([], 1.0, free_bytes=0) == 0


@given(TIMES, st.floats(min_value=1000, max_value=1500), st.integers(min_value=0, max_value=20))
def test_against_counting_every_window(launches: list[float], now: float, floor: int) -> None:
    recent = [when for when in launches if now - when <= MEMORY_S]
    largest = max((sum(0 <= last - when <= BURST_S for when in recent) for last in recent), default=0)
    assert wanted_workers(launches, now, floor) == max(floor, min(largest, CEILING))
