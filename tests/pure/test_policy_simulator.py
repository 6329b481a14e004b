"""The simulator of policies (benchmarks/policies.py) on made-up days: what issue 4 asks of the combined policy holds on
load that nobody fitted anything to. On recorded load: `minicloud bench policies`.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

from minicloud.cli.bench import folder

MINUTES_A_DAY = 1_440
HISTORY_DAYS, DAYS = 14, 2


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(folder()))
    return importlib.import_module("policies")


def week(policies: Any, seed: int, ramp_minutes: int) -> Any:
    """Offices: quiet nights, a ramp at eight, a dip at noon, weekends of a third; every day a little different."""
    rand = np.random.default_rng(seed)
    minute = np.arange((HISTORY_DAYS + DAYS) * MINUTES_A_DAY)
    of_day, day = minute % MINUTES_A_DAY, minute // MINUTES_A_DAY
    points = [0, 480, 480 + ramp_minutes, 720, 780, 1_020, 1_260, MINUTES_A_DAY]
    shape = np.interp(of_day, points, [0.1, 0.1, 1.0, 0.8, 1.0, 0.9, 0.2, 0.1])
    size = np.where(day % 7 < 5, 1.0, 0.33) * rand.normal(1.0, 0.05, HISTORY_DAYS + DAYS)[day]
    load = 4_000.0 * shape * size * rand.normal(1.0, 0.02, len(minute))
    return policies.Trace("offices", 1_700_006_400.0, load, 100.0, HISTORY_DAYS * MINUTES_A_DAY)


@pytest.mark.parametrize(("seed", "ramp_minutes"), [(1, 30), (2, 60), (3, 120)])
def test_both_together_fall_short_less_often_at_hardly_more_cost(policies: Any, seed: int, ramp_minutes: int) -> None:
    trace = week(policies, seed, ramp_minutes)
    forecaster = policies.Forecaster(trace)
    dynamic, both = (policies.simulate(trace, policy, forecaster, 1) for policy in ("dynamic", "both"))
    assert dynamic.minutes == both.minutes == DAYS * MINUTES_A_DAY
    assert both.under < dynamic.under
    assert both.instance_minutes <= policies.HOURS_TARGET * dynamic.instance_minutes


def test_a_forecast_alone_never_lowers_a_group(policies: Any) -> None:
    trace = week(policies, 1, 60)
    ahead = policies.simulate(trace, "predictive", policies.Forecaster(trace), 1)
    dynamic = policies.simulate(trace, "dynamic", policies.Forecaster(trace), 1)
    assert ahead.under < dynamic.under and ahead.instance_minutes > dynamic.instance_minutes
