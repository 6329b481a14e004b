"""How well does the forecast of predictive scaling know the next 48 hours?

Rolling origin: every six hours of a trace the model sees the 14 days before (never anything later), forecasts 48 hours,
and is compared with what came. The error is WAPE, the sum of absolute errors over the sum of loads, by distance ahead.

Baselines: seasonal naive (the same time a week ago; a day ago where there is no week), and additive Holt-Winters with a
season of a day and of a week (smoothing 0.05 and 0.3, the best of those tried on these traces).
Target: better than all of them on every trace. The constants of the model were
chosen on the first 110 days of the taxi trace; "taxi, later days" it has never been tuned on.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from minicloud.scaling.forecast import DAY_S, Floats, History, forecast, history

TUNED_DAYS = 110  # of the taxi trace
EVERY_S = 6 * 3_600
AHEAD_H = ((0, 1), (1, 6), (6, 24), (24, 48))
Model = Callable[[History], Floats]


def traces_folder(given: str = "") -> Path | None:
    """Where the traces are: as told, or in a shared folder beside this checkout or above it."""
    here = Path(__file__).resolve()
    places = [Path(given)] if given else [parent / "shared" / "data" / "traces" for parent in here.parents]
    return next((place for place in places if place.is_dir()), None)


def load(path: Path) -> list[tuple[float, float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp(), float(row["value"])) for row in rows
    ]


def ours(past: History) -> Floats:
    found = forecast(past)
    assert found is not None
    return np.array(found.load)


def naive(past: History) -> Floats:
    day = DAY_S // past.step_s
    values = _without_gaps(past.values)
    lag = 7 * day if len(values) >= 7 * day else day
    return np.array([values[len(values) + ahead - lag * (1 + ahead // lag)] for ahead in range(2 * day)])


def holt_winters(past: History, days: int, alpha: float = 0.05, gamma: float = 0.3) -> Floats:
    """Additive, with a season of so many days; of a day where the history does not hold two seasons."""
    day = DAY_S // past.step_s
    values = _without_gaps(past.values)
    length = days * day if len(values) >= 2 * days * day else day
    level = float(values[:length].mean())
    season = values[:length] - level
    for at in range(length, len(values)):
        slot = at % length
        level = alpha * (values[at] - season[slot]) + (1 - alpha) * level
        season[slot] = gamma * (values[at] - level) + (1 - gamma) * season[slot]
    return np.array([level + season[(len(values) + ahead) % length] for ahead in range(2 * day)])


MODELS: dict[str, Model] = {
    "ours": ours,
    "seasonal naive": naive,
    "holt-winters 1 d": partial(holt_winters, days=1),
    "holt-winters 7 d": partial(holt_winters, days=7),
}


def _without_gaps(values: Floats) -> Floats:
    known = np.flatnonzero(~np.isnan(values))
    return np.interp(np.arange(known[0], len(values)), known, values[known])


def backtest(
    points: list[tuple[float, float]], step_s: int, days: tuple[float, float], history_days: float = 14
) -> dict[str, list[float]]:
    """For each model WAPE as a whole, then for each distance ahead; origins from the first of `days` to the last."""
    begin, end = points[0][0], points[-1][0]
    errors: dict[str, list[Floats]] = {name: [] for name in MODELS}
    loads: list[Floats] = []
    origin = begin + days[0] * DAY_S
    while origin + 2 * DAY_S <= min(end, begin + days[1] * DAY_S):
        past = _cut(history(points, origin, step_s), round(history_days * DAY_S / step_s))
        ahead_end = past.start + len(past.values) * step_s + 2 * DAY_S
        future = history(points, ahead_end, step_s).values[-2 * DAY_S // step_s :]
        loads.append(future)
        for name, model in MODELS.items():
            errors[name].append(np.abs(model(past) - future))
        origin += EVERY_S
    return {name: _wape(found, loads, step_s) for name, found in errors.items()}


def _cut(past: History, steps: int) -> History:
    left_out = len(past.values) - steps
    return History(past.start + left_out * past.step_s, past.step_s, past.values[left_out:])


def _wape(errors: list[Floats], loads: list[Floats], step_s: int) -> list[float]:
    error, total = np.array(errors), np.array(loads)
    spans = [(0, 48), *AHEAD_H]
    return [
        float(np.nansum(error[:, a * 3600 // step_s : b * 3600 // step_s]))
        / float(np.nansum(total[:, a * 3600 // step_s : b * 3600 // step_s]))
        for a, b in spans
    ]


def show(title: str, found: dict[str, list[float]], judged: bool = True) -> bool:
    print(f"\n{title}\n{'model':<18}{'48 h':>8}" + "".join(f"{f'{a}-{b} h':>9}" for a, b in AHEAD_H))
    for name, row in found.items():
        print(f"{name:<18}{row[0]:>8.1%}" + "".join(f"{one:>9.1%}" for one in row[1:]))
    best = min(row[0] for name, row in found.items() if name != "ours")
    met = found["ours"][0] < best
    goal = f" ({'met' if met else 'NOT MET'}: below 1)" if judged else " (no target)"
    print(f"error against the best baseline: {found['ours'][0] / best:.2f}{goal}")
    return met


def fit_ms(points: list[tuple[float, float]]) -> float:
    past = history(points, points[-1][0], 900)
    began = time.perf_counter()
    for _ in range(50):
        forecast(past)
    return (time.perf_counter() - began) * 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", default="", help="the folder of the traces")
    folder = traces_folder(parser.parse_args(argv).traces)
    if folder is None:
        print("skipped: the traces (shared/data/traces) are not here")
        return 0
    taxi = load(folder / "nyc_taxi_30min.csv")
    mentions = load(folder / "twitter_volume_amzn_5min.csv")
    met = [
        show("taxi, the days it was tuned on", backtest(taxi, 1800, (14, TUNED_DAYS))),
        show("taxi, later days", backtest(taxi, 1800, (TUNED_DAYS, 1_000))),
        show("mentions of Amazon", backtest(mentions, 900, (14, 1_000))),
        show("mentions of Amazon, 3 days of history", backtest(mentions, 900, (14, 1_000), 3)),
    ]
    show("taxi, later days, 3 days of history", backtest(taxi, 1800, (TUNED_DAYS, 1_000), 3), judged=False)
    print(f"\none fit of 14 days in 15-minute steps: {fit_ms(taxi):.2f} ms")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
