"""How fast are metrics taken, read, flushed and watched, beside a plain store of lists in the same run?

The plain store is what one writes in an afternoon: a dictionary of metrics, each a list of (time, value), statistics by
a loop over the points of a range, percentiles by sorting them. It rolls nothing up and keeps nothing on disk. Rounds of
both alternate, so that a busy machine slows both; the medians are compared. Ours checks what it takes, the plain one
does not. Targets (ours): 100,000 points a second, a day of minutes read 10 times as fast as by the plain store, and
10,000 alarms judged in less than 3 s of every minute, no tick of which is longer than 300 ms.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Tick
from minicloud.metric.alarms import Alarms, PutAlarm
from minicloud.metric.given import GivenAlarm
from minicloud.metric.journal import Persistence
from minicloud.metric.model import Metric
from minicloud.metric.page import Page
from minicloud.metric.ports import NoChunks
from minicloud.metric.reading import Span
from minicloud.metric.reading import statistics as read
from minicloud.metric.requests import GivenDatum, check_put
from minicloud.metric.statistics import parse
from minicloud.metric.store import Store

SCOPE = Scope()
START = 1_700_006_400  # midnight
DAY_S = 86_400
ALARMS = 10_000


class Plain:
    def __init__(self) -> None:
        self.points: dict[tuple[Any, ...], list[tuple[float, float]]] = {}

    def put(self, namespace: str, data: Sequence[GivenDatum], now: float) -> None:
        for one in data:
            assert one.value is not None
            key = (namespace, one.name, tuple(sorted(one.dimensions.items())), one.unit)
            self.points.setdefault(key, []).append((one.timestamp or now, one.value))

    def read(self, key: tuple[Any, ...], stat: str, span: Span) -> list[float]:
        groups: list[list[float]] = [[] for _ in range(span.count)]
        for at, value in self.points.get(key, ()):
            if span.start <= at < span.end:
                groups[int(at - span.start) // span.period].append(value)
        return [self.statistic(stat, group) if group else math.nan for group in groups]

    @staticmethod
    def statistic(stat: str, group: list[float]) -> float:
        if stat.startswith("p"):
            return sorted(group)[max(math.ceil(float(stat[1:]) / 100 * len(group)) - 1, 0)]
        return {"Average": statistics.fmean, "Sum": math.fsum, "Maximum": max}[stat](group)


def timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def compare(ours: Callable[[int], Any], plain: Callable[[int], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of each, taken in turns."""
    pairs = [(timed(lambda: ours(number)), timed(lambda: plain(number))) for number in range(rounds)]  # noqa: B023
    return statistics.median(one for one, _ in pairs), statistics.median(two for _, two in pairs)


def given(number: int, minute: int, rand: random.Random) -> GivenDatum:
    return GivenDatum(
        "Load", {"Host": f"host-{number}", "Zone": f"zone-{number % 3}"}, START + minute * 60.0, 100 * rand.random()
    )


def puts(rounds: int) -> dict[str, float]:
    """1,000 points of 1,000 metrics, checked, taken and settled; and 1,000 of one metric as 10 arrays of 100."""
    store, plain, rand = Store(NoChunks(), START), Plain(), random.Random(1)
    batches = [[given(number, minute, rand) for number in range(1_000)] for minute in range(rounds)]

    def ours(minute: int) -> None:
        now = START + minute * 60.0
        store.put(SCOPE, "N", check_put("N", batches[minute], now), now)
        store.settle()

    mine, other = compare(ours, lambda minute: plain.put("N", batches[minute], START), rounds)
    arrays = [[GivenDatum("One", {}, None, values=[rand.random() for _ in range(100)]) for _ in range(10)]]

    def ours_arrays(minute: int) -> None:
        store.put(SCOPE, "N", check_put("N", arrays[0], START), START)
        store.settle()

    array_s = statistics.median(timed(lambda: ours_arrays(0)) for _ in range(rounds))
    return {"put_per_s": 1_000 / mine, "plain_put_per_s": 1_000 / other, "array_values_per_s": 1_000 / array_s}


def gets(rounds: int) -> dict[str, float]:
    """A day of one metric with a value every 10 s, in minutes, in hours, and the p99 of every 5 minutes."""
    store, plain, rand = Store(NoChunks(), START), Plain(), random.Random(2)
    for minute in range(DAY_S // 60):
        data = [GivenDatum("m", {}, START + minute * 60.0 + 10 * part, 100 * rand.random()) for part in range(6)]
        store.put(SCOPE, "N", check_put("N", data, START + DAY_S), START + DAY_S)
        plain.put("N", data, START)
    metric = Metric(SCOPE, "N", "m")
    found = {}
    for name, stat, period in (("minutes", "Average", 60), ("hours", "Average", 3_600), ("p99", "p99", 300)):
        span, parsed = Span(START, period, DAY_S // period), parse(stat)
        now = float(START + DAY_S)
        mine, other = compare(
            lambda _: read(store, metric, "", parsed, span, now),  # noqa: B023
            lambda _: plain.read(("N", "m", (), ""), stat, span),  # noqa: B023
            rounds,
        )
        found[f"day_in_{name}_ms"] = mine * 1_000
        found[f"plain_day_in_{name}_ms"] = other * 1_000
    return found


def flushes() -> dict[str, float]:
    """A minute of 10,000 metrics to the bytes of a commit; then their page, which is over, to chunks."""
    store, rand = Store(NoChunks(), START), random.Random(3)
    persistence = Persistence(store)
    for minute in range(120):
        now = START + minute * 60.0
        for part in range(10):
            data = [given(part * 1_000 + number, minute, rand) for number in range(1_000)]
            store.put(SCOPE, "N", check_put("N", data, now), now)
        if minute < 119:
            persistence.confirm(persistence.collect(now), now)
    tail_s = timed(lambda: persistence.confirm(persistence.collect(now), now))
    resident = sum(page.nbytes for page in store.pages.values()) / 10_000
    later = START + 7_200 + 601.0
    batches: list[float] = []
    more = True
    while more:
        began = time.perf_counter()
        batch = persistence.collect(later)
        persistence.confirm(batch, later)
        batches.append(time.perf_counter() - began)
        more = batch.more
    return {
        "flush_10k_ms": tail_s * 1_000,
        "seal_10k_s": sum(batches),
        "seal_batch_max_ms": max(batches) * 1_000,
        "resident_bytes_per_series": resident,
    }


def alarms(rounds: int) -> dict[str, float]:
    """10,000 alarms, each on a metric of its own, 3 out of 5 minutes, none of which changes."""
    store, rand = Store(NoChunks(), START), random.Random(4)
    machine = Alarms(store)
    context = Context(float(START), rand)
    for number in range(ALARMS):
        asked = GivenAlarm(
            f"alarm-{number}", "GreaterThanThreshold", 5, 1_000.0, "N", "Load", {"Host": str(number)}, "Average",
            period=60, datapoints=3,
        )  # fmt: skip
        for record in machine.decide(PutAlarm(SCOPE, asked), context).records:
            machine.apply(record)
    times, longest = [], 0.0
    for minute in range(6 + rounds):
        now = START + minute * 60.0
        data = [GivenDatum("Load", {"Host": str(number)}, now, rand.random()) for number in range(ALARMS)]
        for first in range(0, ALARMS, 1_000):
            store.put(SCOPE, "N", check_put("N", data[first : first + 1_000], now), now)
        store.settle()
        context.now = now + 62
        spent = 0.0
        while (machine.due() or math.inf) <= context.now:
            began = time.perf_counter()
            outcome = machine.decide(Tick(), context)
            for record in outcome.records:
                machine.apply(record)
            one = time.perf_counter() - began
            spent += one
            longest = max(longest, one) if minute >= 6 else 0.0
        times.append(spent)
    return {"alarms_10k_s": statistics.median(times[6:]), "alarm_tick_max_ms": longest * 1_000}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    found = {**puts(options.rounds), **gets(options.rounds), **flushes(), **alarms(min(options.rounds, 5))}
    found["row_bytes"] = Page(60, 0).points.nbytes / 16
    if options.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        print(f"{name:28}{value:>16,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
