"""Metrics and alarms on the real journal: what was written is read by the next process, cold chunks too."""

from __future__ import annotations

import random
import time
from pathlib import Path

from minicloud.metric.actions import Act
from minicloud.metric.alarms import PutAlarm, SetAlarmState
from minicloud.metric.describe import Asked
from minicloud.metric.given import GivenAlarm
from minicloud.metric.journal import CHUNK
from minicloud.metric.query import StatisticsQuery
from minicloud.metric.requests import GivenDatum
from minicloud.metric.service import MetricService
from minicloud.shell.clock import SystemClock
from minicloud.store.sqlite import SqliteJournal
from tests.pure.metric_world import SCOPE, metric


class Nobody:
    async def act(self, act: Act) -> None:
        raise AssertionError("no alarm has actions here")


async def service_on(journal: SqliteJournal) -> MetricService:
    made = MetricService(journal, Nobody(), clock=SystemClock(), rand=random.Random(1), secret=b"s" * 32)
    await made.start()
    return made


async def test_the_next_process_has_everything(tmp_path: Path) -> None:
    now = time.time()
    journal = SqliteJournal(tmp_path / "state.db")
    one = await service_on(journal)
    hours = [now - hour * 3_600 for hour in range(48)]
    for number in range(5):
        one.put(SCOPE, "N", [GivenDatum(f"m{number}", timestamp=at, value=1.0, unit="Count") for at in hours])
    given = GivenAlarm("a", "GreaterThanThreshold", 1, 1.0, "N", "m0", {}, "Sum", period=60, missing="ignore")
    await one.submit(PutAlarm(SCOPE, given))
    await one.submit(SetAlarmState(SCOPE, "a", "OK", "test"))
    await one.stop()
    journal.close()
    journal = SqliteJournal(tmp_path / "state.db")
    assert journal.scan(CHUNK, limit=1)
    again = await service_on(journal)
    for number in range(5):
        asked = StatisticsQuery(metric(f"m{number}"), ("Sum",), 3_600, now - 49 * 3_600, now + 60)
        assert sum(point.values["Sum"] for point in again.get_statistics(asked)) == 48.0
    [(alarm, state)], _ = await again.describe(SCOPE, Asked())
    assert (alarm.name, state.value) == ("a", "OK")
    await again.stop()
    journal.close()
    assert not journal.damage
