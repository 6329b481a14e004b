"""What the load will be in the next 48 hours, from 1 to 14 days of history.

The model is small on purpose (numpy, under a millisecond a fit) and beats seasonal-naive and Holt-Winters in a
rolling-origin back-test (benchmarks/forecast.py prints the table). In logarithms, so that everything is a ratio:

    load = day profile + week deviation + trend + what is different lately

- day profile: for each slot of the day the mean over all days, newer days weighing more (half-life a week).
- week deviation: what a slot of the week differs from it, shrunk towards its neighbours within the hour, because 14
  days show each weekday only twice. Only from a week of history on.
- what is different lately: the residuals of the last day against a profile fitted *without* that day, because a profile
  that has seen the day explains it away. Their median fades with a time constant of two days, what the newest half
  hour differs from that with one of four hours.
- trend: how the last week's level differs from the week before, halved; only from two weeks on. The rest is fitted to
  what it leaves, or a weekday's two weeks would be averaged as if they were of one level.

Gaps carry no weight: a slot that was never seen takes the mean of its neighbours in the day. Zeros are values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from minicloud.scaling import limits

Floats = npt.NDArray[np.float64]

DAY_S = 86_400
HALF_LIFE_S = 7 * DAY_S
SHORT_HALF_LIFE_S = DAY_S  # without a week of history: yesterday knows best which kind of day this is
SHRINK = 0.25  # how many observations the neighbourhood is worth against a slot of the week
NEIGHBOURS_S = 3_600
NEWEST_S = 1_800
LATELY_FADES_S = 48 * 3_600
NEWEST_FADES_S = 4 * 3_600
LATELY, NEWEST = 0.9, 0.9  # how much of each is believed
TREND, TREND_PER_DAY_MAX = 0.5, 0.05


@dataclass(frozen=True, slots=True)
class History:
    """Mean load in steps of equal length from `start` (Unix seconds, a multiple of the step); NaN where unknown."""

    start: float
    step_s: int
    values: Floats

    @property
    def seconds(self) -> float:
        """From the first value that is known to the end."""
        known = np.flatnonzero(~np.isnan(self.values))
        return float((len(self.values) - known[0]) * self.step_s) if len(known) else 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Load in steps from `start`."""

    start: float
    step_s: int
    load: tuple[float, ...]

    def most(self, begin: float, end: float) -> float | None:
        """The largest load between two instants, both included; None outside the forecast."""
        first = math.floor((begin - self.start) / self.step_s)
        last = math.floor((end - self.start) / self.step_s)
        window = self.load[max(0, first) : max(0, last + 1)]
        return max(window) if window else None


def history(points: Iterable[tuple[float, float]], now: float, step_s: int = limits.FORECAST_STEP_S) -> History:
    """Bins (Unix seconds, value) into whole steps, 14 days up to now; the step that now lies in is left out."""
    end = math.floor(now / step_s)
    count = limits.HISTORY_S_MAX // step_s
    pairs = np.array([(at, value) for at, value in points if math.isfinite(value)], dtype=float).reshape(-1, 2)
    slots = np.floor(pairs[:, 0] / step_s).astype(int) - (end - count)
    inside = (slots >= 0) & (slots < count)
    sums = np.bincount(slots[inside], pairs[inside, 1], count)
    seen = np.bincount(slots[inside], minlength=count)
    values = np.where(seen > 0, sums / np.maximum(seen, 1), np.nan)
    return History((end - count) * step_s, step_s, values)


def forecast(past: History, horizon_s: int = limits.HORIZON_S) -> Forecast | None:
    """The load after the history's end. None with less than 24 hours of history.

    The step must divide a day (ValueError).
    """
    if DAY_S % past.step_s:
        raise ValueError(f"a step of {past.step_s} s does not divide a day")
    if past.seconds < limits.HISTORY_S_MIN:
        return None
    values = past.values[-limits.HISTORY_S_MAX // past.step_s :]
    known = ~np.isnan(values)
    logs = np.where(known, np.log1p(np.maximum(np.where(known, values, 0.0), 0.0)), 0.0)
    ahead = horizon_s // past.step_s
    fit = _Fit(logs, known, past.step_s)
    ahead_s = np.arange(1.0, ahead + 1) * past.step_s
    guess = fit.at(len(values), ahead) + fit.lately(ahead_s) + fit.slope * ahead_s / DAY_S
    load = np.maximum(np.expm1(np.minimum(guess, 50.0)), 0.0)
    return Forecast(past.start + len(past.values) * past.step_s, past.step_s, tuple(load.tolist()))


class _Fit:
    """The profile of a history in logarithms, and what is different lately."""

    def __init__(self, logs: Floats, known: npt.NDArray[np.bool_], step_s: int) -> None:
        self.logs, self.known, self.step_s = logs, known, step_s
        self.day = DAY_S // step_s
        self.slope = self._slope()
        self.logs = logs + self.slope * np.arange(len(logs), 0, -1) / self.day  # as if all of it were at today's level
        self.profile = self._profile(len(logs))

    def at(self, first: int, count: int) -> Floats:
        return self._of(self.profile, first, count)

    def lately(self, ahead_s: Floats) -> Floats:
        """The correction for each instant ahead."""
        count = len(self.logs)
        since = max(0, count - self.day)
        profile = self._profile(since) if self.known[:since].sum() >= 0.9 * self.day else self.profile
        if profile[1] is None:
            profile = self.profile if self.profile[1] is not None else profile
        residuals = self.logs[since:] - self._of(profile, since, count - since)
        known = self.known[since:]
        level = float(np.median(residuals[known])) if known.any() else 0.0
        recent = max(1, round(NEWEST_S / self.step_s))
        newest = residuals[-recent:][known[-recent:]]
        jump = float(newest.mean()) - level if len(newest) else 0.0
        fading: Floats = LATELY * level * np.exp(-ahead_s / LATELY_FADES_S)
        return fading + NEWEST * jump * np.exp(-ahead_s / NEWEST_FADES_S)

    def _of(self, profile: tuple[Floats, Floats | None], first: int, count: int) -> Floats:
        days, weeks = profile
        slots = np.arange(first, first + count)
        found = days[slots % self.day]
        return found if weeks is None else found + weeks[slots % (7 * self.day)]

    def _profile(self, count: int) -> tuple[Floats, Floats | None]:
        """The profiles of day and week, from the first `count` steps."""
        logs, known = self.logs[:count], self.known[:count]
        age_s = (count - 1 - np.arange(count)) * self.step_s
        weekly = bool(known[: max(0, count - 6 * self.day)].any())
        weights = np.where(known, 0.5 ** (age_s / (HALF_LIFE_S if weekly else SHORT_HALF_LIFE_S)), 0.0)
        slots = np.arange(count)
        in_day = slots % self.day
        days = _filled(_sums(in_day, weights * logs, self.day), _sums(in_day, weights, self.day))
        if not weekly:
            return days, None
        in_week, week = slots % (7 * self.day), 7 * self.day
        weight = _sums(in_week, weights, week)
        sums = _sums(in_week, weights * (logs - days[in_day]), week)
        reach = max(1, round(NEIGHBOURS_S / self.step_s))
        near = _around(sums, reach) / (_around(weight, reach) + 0.1)
        return days, (sums + SHRINK * near) / (weight + SHRINK)

    def _slope(self) -> float:
        """Log units a day, damped; 0 without two weeks of which most is known."""
        week = 7 * self.day
        if len(self.logs) < 2 * week:
            return 0.0
        both = self.known[-2 * week : -week] & self.known[-week:]
        if both.sum() < week // 2:
            return 0.0
        change = np.median((self.logs[-week:] - self.logs[-2 * week : -week])[both])
        return float(np.clip(TREND * change / 7, -TREND_PER_DAY_MAX, TREND_PER_DAY_MAX))


def _sums(slots: npt.NDArray[np.int_], values: Floats, count: int) -> Floats:
    return np.bincount(slots, values, count).astype(np.float64)


def _around(values: Floats, reach: int) -> Floats:
    """The sum over each slot and `reach` neighbours on both sides, round the circle."""
    ring = np.concatenate([values[-reach:], values, values[:reach]])
    return np.convolve(ring, np.ones(2 * reach + 1), "valid")


def _filled(sums: Floats, weights: Floats) -> Floats:
    """Means by slot of the day; slots without weight are interpolated round the circle."""
    seen = weights > 0
    means = np.where(seen, sums / np.where(seen, weights, 1.0), 0.0)
    if seen.all():
        return means
    at = np.flatnonzero(seen)
    filled: Floats = np.interp(np.arange(len(means)), at, means[at], period=len(means))
    return filled
