"""10,000 alarms that are due at one moment: all are judged, and one of them costs what it costs among few."""

from __future__ import annotations

import gc
import math
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from minicloud.base.machine import Context, Record, Tick
from minicloud.metric import limits
from minicloud.metric.alarms import Alarms, PutAlarm
from minicloud.metric.given import GivenAlarm
from minicloud.metric.ports import NoChunks
from minicloud.metric.requests import GivenDatum, check_put
from minicloud.metric.store import Store
from tests.pure.metric_world import SCOPE

FEW, MANY = 1_000, 10_000
START = 1_700_006_400  # midnight
RATIO_MAX = 2.0  # what one alarm costs among many, and among few
MINUTES = (0.0, 0.0, 99.0, 99.0, 0.0, 0.0)  # what every metric measures


@dataclass
class Crowd:
    """Alarms, each on a metric of its own, a tenth of them on two minutes; `minute` lets one pass, and judges all."""

    count: int
    minutes: int = 0
    rand: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.store = Store(NoChunks(), START)
        self.machine = Alarms(self.store)
        for number in range(self.count):
            period = 60 if number % 10 else 120
            asked = GivenAlarm(
                f"a-{number}", "GreaterThanThreshold", 1, 10.0, "N", "Load", {"Host": str(number)}, "Average",
                period=period,
            )  # fmt: skip
            self._apply(self.machine.decide(PutAlarm(SCOPE, asked), Context(float(START), self.rand)).records)

    def minute(self, value: float) -> float:
        """Seconds of CPU that it took to judge what was due."""
        at = START + self.minutes * 60.0
        self.minutes += 1
        data = [GivenDatum("Load", {"Host": str(number)}, at, value) for number in range(self.count)]
        for first in range(0, self.count, limits.DATA_PER_PUT_MAX):
            self.store.put(SCOPE, "N", check_put("N", data[first : first + limits.DATA_PER_PUT_MAX], at), at)
        self.store.settle()
        gc.collect()
        context = Context(at + 62, self.rand)
        began = time.process_time()
        while (self.machine.due() or math.inf) <= context.now:
            self._apply(self.machine.decide(Tick(), context).records)
        return time.process_time() - began

    def _apply(self, records: list[Record]) -> None:
        for record in records:
            self.machine.apply(record)

    def states(self) -> Counter[str]:
        return Counter(one.value for one in self.machine.roster.states.values())


def test_what_an_alarm_costs_does_not_depend_on_how_many_there_are() -> None:
    few, many = Crowd(FEW), Crowd(MANY)
    quiet, busy = [], []
    for number, value in enumerate(MINUTES):
        ratio = (few.minute(value) / FEW, many.minute(value) / MANY)
        turned = number > 0 and value != MINUTES[number - 1]
        (busy if turned else quiet).append(ratio)
        if number > 0 and not turned:
            assert many.states() == {"ALARM" if value else "OK": MANY}
    for times in (quiet[1:], busy):
        assert min(one for _, one in times) < RATIO_MAX * min(one for one, _ in times), (quiet, busy)
