"""The forecast: what it must know, what it must survive. How well it knows real load: benchmarks/forecast.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.scaling.forecast import DAY_S, Forecast, History, forecast, history

STEP = 900
DAY = DAY_S // STEP
Points = list[tuple[float, float]]


def wave(days: float, growth: float = 0.0, weekend: float = 1.0) -> Points:
    """A day's wave between 100 and 300, quieter on two days a week, growing by a share a day."""
    found = []
    for slot in range(round(days * DAY)):
        day = slot // DAY
        level = (200 - 100 * math.cos(2 * math.pi * slot / DAY)) * (1 + growth) ** (slot / DAY)
        found.append((slot * STEP + 1.0, level * (weekend if day % 7 in (5, 6) else 1.0)))
    return found


def error(points: Points, future: Points) -> float:
    now = points[-1][0] + STEP
    found = forecast(history(points, now, STEP))
    assert found is not None and len(found.load) == 2 * DAY
    truth = np.array([value for at, value in future if at >= found.start][: 2 * DAY])
    return float(np.abs(np.array(found.load) - truth).sum() / truth.sum())


@pytest.mark.parametrize("days", [1, 1.5, 2, 3.25, 7, 10.5, 14, 20])
def test_a_daily_wave_is_known_from_a_day_of_history(days: float) -> None:
    assert error(wave(days), wave(days + 3)) < 0.02


@pytest.mark.parametrize("days", [14, 18])
def test_weekends_are_known_after_two_weeks(days: int) -> None:
    assert error(wave(days, weekend=0.4), wave(days + 3, weekend=0.4)) < 0.03


def test_growth_is_followed() -> None:
    """Half of it at once; a profile that knows no trend would be 13 % too low here."""
    assert error(wave(14, growth=0.03), wave(17, growth=0.03)) < 0.09


def test_a_level_that_changed_today_is_believed() -> None:
    points = [(at, value * (1.5 if at > 13.5 * DAY_S else 1.0)) for at, value in wave(14)]
    found = forecast(history(points, points[-1][0] + STEP, STEP))
    assert found is not None
    truth = [value * 1.5 for at, value in wave(15) if at >= found.start]
    assert abs(sum(found.load[:8]) / sum(truth[:8]) - 1) < 0.1


def test_gaps_are_not_zeros() -> None:
    points = [(at, value) for at, value in wave(14) if not 3 * DAY_S < at < 5 * DAY_S and int(at) % (7 * STEP) > STEP]
    assert error(points, wave(17)) < 0.05


def test_less_than_a_day_is_no_history() -> None:
    assert forecast(history(wave(0.9), 0.9 * DAY_S, STEP)) is None
    assert forecast(history([], 5 * DAY_S, STEP)) is None
    assert forecast(History(0.0, STEP, np.full(14 * DAY, np.nan))) is None


def test_nothing_after_now_is_seen() -> None:
    points = wave(14)
    now = 10 * DAY_S
    changed = [(at, value if at < now else 1e9) for at, value in points]
    assert forecast(history(points, now, STEP)) == forecast(history(changed, now, STEP))


def test_steps_that_do_not_divide_a_day_are_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        forecast(History(0.0, 7_000, np.ones(100)))


def test_the_most_of_a_window() -> None:
    found = Forecast(1_000.0, 100, (1.0, 5.0, 2.0))
    assert found.most(1_000, 1_099) == 1.0
    assert found.most(1_050, 1_100) == 5.0
    assert found.most(900, 1_000) == 1.0
    assert found.most(1_300, 1_400) is None
    assert found.most(0, 500) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1e12)), min_size=DAY, max_size=10 * DAY))
def test_any_history_gives_finite_load(values: list[float | None]) -> None:
    points = [(at * STEP + 1.0, value) for at, value in enumerate(values) if value is not None]
    found = forecast(history(points, len(values) * STEP, STEP))
    if found is not None:
        assert all(math.isfinite(load) and load >= 0 for load in found.load)
