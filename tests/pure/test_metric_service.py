"""The service on a virtual clock: flushes and evaluations on time, crashes, actions done once and again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from minicloud.base.errors import CloudError, Fenced, InsufficientStorage, NotFound, Throttled, Unavailable
from minicloud.metric import service
from minicloud.metric.actions import Act
from minicloud.metric.alarms import PutAlarm, SetAlarmState
from minicloud.metric.describe import Asked, AskedHistory
from minicloud.metric.given import GivenAlarm
from minicloud.metric.query import StatisticsQuery
from minicloud.metric.registry import Where
from minicloud.metric.requests import GivenDatum
from minicloud.metric.service import MetricService
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.pure.alarm_world import POLICY, TOPIC
from tests.pure.metric_world import SCOPE, metric
from tests.turns import until


class Doer:
    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def act(self, act: Act) -> None:
        self.acts.append(act)
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class Cloud:
    """One disk, one clock, services one after the other."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.disk = MemoryDisk()
        self.doer = Doer()

    async def start(self) -> MetricService:
        self.journal = MemoryJournal(self.disk)
        made = MetricService(self.journal, self.doer, clock=self.clock, rand=random.Random(1), secret=b"s" * 32)
        await made.start()
        return made

    def total(self, one: MetricService) -> float:
        now = self.clock.wall()
        asked = StatisticsQuery(metric("m"), ("Sum",), 3_600, now - 3_600, now + 60)
        return sum(point.values["Sum"] for point in one.get_statistics(asked))


def put(one: MetricService, value: float) -> None:
    one.put(SCOPE, "N", [GivenDatum("m", value=value)])


ALARM = GivenAlarm(
    "hot", "GreaterThanThreshold", 1, 10.0, "N", "m", statistic="Average", period=60, alarm_actions=[TOPIC, POLICY]
)


async def test_what_was_flushed_survives_and_the_last_seconds_do_not() -> None:
    cloud = Cloud()
    first = await cloud.start()
    put(first, 1.0)
    await cloud.clock.advance(6)
    put(first, 2.0)
    second = await cloud.start()  # the first never stopped: it was killed
    assert cloud.total(second) == 1.0
    put(second, 4.0)
    await second.stop()
    third = await cloud.start()
    assert cloud.total(third) == 5.0
    await third.stop()


async def test_another_owner_ends_the_first() -> None:
    cloud = Cloud()
    first = await cloud.start()
    second = await cloud.start()
    put(first, 1.0)
    await cloud.clock.advance(6)
    with pytest.raises((Fenced, Unavailable)):
        put(first, 1.0)
    await second.stop()


async def test_a_full_disk_is_waited_for() -> None:
    cloud = Cloud()
    one = await cloud.start()
    put(one, 1.0)
    cloud.journal.fail(InsufficientStorage())
    await cloud.clock.advance(6)
    put(one, 2.0)
    await cloud.clock.advance(6)
    again = await cloud.start()
    assert cloud.total(again) == 3.0
    await again.stop()


async def test_points_that_nobody_writes_are_refused_at_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ROWS_UNWRITTEN_MAX", 10)
    cloud = Cloud()
    one = await cloud.start()
    cloud.journal.hold()
    with pytest.raises(Throttled):
        for _ in range(100):
            put(one, 1.0)
            cloud.total(one)  # settles
    cloud.journal.release()
    await one.stop()


async def test_alarms_are_judged_on_time_and_act() -> None:
    cloud = Cloud()
    one = await cloud.start()
    await one.submit(PutAlarm(SCOPE, ALARM))
    put(one, 50.0)
    await cloud.clock.advance(63)
    [(_, state)], _ = await one.describe(SCOPE, Asked())
    assert state.value == "ALARM"
    assert state.owed == []
    assert [(act.kind, act.repeated) for act in cloud.doer.acts] == [("topic", False), ("scaling", False)]
    items, _ = await one.history(SCOPE, AskedHistory(kind="Action"))
    assert {item.summary for item in items} == {
        f"Successfully executed action {TOPIC}",
        f"Successfully executed action {POLICY}",
    }
    assert len(await one.alarms_for_metric(metric("m"), "Average", 60)) == 1
    assert await one.alarms_for_metric(metric("m"), "Sum") == []
    await one.stop()


async def test_an_action_that_failed_is_in_the_history() -> None:
    cloud = Cloud()
    cloud.doer.error = NotFound("no such topic")
    one = await cloud.start()
    await one.submit(PutAlarm(SCOPE, ALARM))
    await one.submit(SetAlarmState(SCOPE, "hot", "ALARM", "test"))
    await cloud.clock.advance(1)
    items, _ = await one.history(SCOPE, AskedHistory("hot", kind="Action"))
    assert all('Received error: "no such topic"' in item.summary for item in items)
    assert len(items) == 2
    cloud.doer.error = RuntimeError("bug")
    await one.submit(SetAlarmState(SCOPE, "hot", "OK", "test"))
    await one.submit(SetAlarmState(SCOPE, "hot", "ALARM", "test"))
    await cloud.clock.advance(1)
    items, _ = await one.history(SCOPE, AskedHistory("hot", kind="Action"))
    assert "An internal error" in items[0].summary
    await one.stop()


async def test_actions_that_a_crash_cut_off_are_done_by_the_next() -> None:
    cloud = Cloud()
    one = await cloud.start()
    await one.submit(PutAlarm(SCOPE, ALARM))
    await one.submit(SetAlarmState(SCOPE, "hot", "ALARM", "test"))
    cloud.doer = Doer()
    again = await cloud.start()  # the first one could not record that they were done
    await cloud.clock.advance(1)
    assert [(act.arn, act.state) for act in cloud.doer.acts] == [(TOPIC, "ALARM"), (POLICY, "ALARM")]
    await again.stop()


async def test_actions_that_there_is_no_room_for_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACTS_WAITING_MAX", 3)
    cloud = Cloud()
    cloud.doer.gate.clear()
    one = await cloud.start()
    for number in range(5):
        await one.submit(PutAlarm(SCOPE, replace(ALARM, name=f"a{number}", alarm_actions=[TOPIC])))
        await one.submit(SetAlarmState(SCOPE, f"a{number}", "ALARM", "test"))
    await until(lambda: len(one._acting) == 3)
    cloud.doer.gate.set()
    await until(lambda: not one._acting)
    items, _ = await one.history(SCOPE, AskedHistory(kind="Action"))
    told = {item.alarm.rpartition("/")[2]: item.summary.split(" ")[0] for item in items}
    assert told == {"a0": "Successfully", "a1": "Successfully", "a2": "Successfully", "a3": "Failed", "a4": "Failed"}
    await one.stop()


async def test_pages_have_tokens() -> None:
    cloud = Cloud()
    one = await cloud.start()
    for number in range(3):
        one.put(SCOPE, "N", [GivenDatum(f"m{number}-{part}", value=1.0) for part in range(400)])
    first, token = one.list_metrics(SCOPE, Where())
    second, token = one.list_metrics(SCOPE, Where(), token)
    third, end = one.list_metrics(SCOPE, Where(), token)
    assert (len(first), len(second), len(third), end) == (500, 500, 200, "")
    with pytest.raises(CloudError):
        one.list_metrics(SCOPE, Where("N"), token)
    for name in "abc":
        await one.submit(
            PutAlarm(SCOPE, GivenAlarm(name, "GreaterThanThreshold", 1, 1.0, "N", "m", {}, "Sum", period=60))
        )
    shown, token = await one.describe(SCOPE, Asked(), most=2)
    rest, end = await one.describe(SCOPE, Asked(), token, most=2)
    assert [alarm.name for alarm, _ in (*shown, *rest)] == ["a", "b", "c"]
    assert end == ""
    items, token = await one.history(SCOPE, AskedHistory(), most=2)
    more, end = await one.history(SCOPE, AskedHistory(), token, most=2)
    assert len({item.key for item in (*items, *more)}) == 3
    assert end == ""
    await one.stop()
    with pytest.raises(Unavailable):
        put(one, 1.0)
