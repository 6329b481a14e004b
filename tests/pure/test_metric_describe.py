"""What DescribeAlarms and DescribeAlarmHistory show."""

from __future__ import annotations

from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.metric.describe import Asked, AskedHistory, alarms, history
from tests.pure.alarm_world import TOPIC, AlarmWorld
from tests.pure.metric_world import SCOPE


@pytest.fixture
def world() -> AlarmWorld:
    made = AlarmWorld()
    made.alarm("web-1", alarm_actions=[TOPIC])
    made.alarm("web-2", alarm_actions=[])
    made.alarm("db", alarm_actions=[])
    made.composite("pair", "ALARM(web-1) OR ALARM(web-2)")
    made.composite("top", "ALARM(pair) OR ALARM(db)")
    made.set("db", "ALARM")
    return made


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({}, ["db", "web-1", "web-2"]),
        ({"prefix": "web"}, ["web-1", "web-2"]),
        ({"names": ["web-2", "nobody", "db"]}, ["db", "web-2"]),
        ({"types": ["CompositeAlarm"]}, ["pair", "top"]),
        ({"types": ["CompositeAlarm", "MetricAlarm"]}, ["db", "pair", "top", "web-1", "web-2"]),
        ({"state": "ALARM", "types": ["CompositeAlarm", "MetricAlarm"]}, ["db", "top"]),
        ({"action_prefix": TOPIC}, ["web-1"]),
        ({"children_of": "top"}, ["db", "pair"]),
        ({"children_of": "db"}, []),
        ({"parents_of": "web-1"}, ["pair"]),
    ],
)
def test_alarms_by_what_is_asked(world: AlarmWorld, asked: dict[str, Any], names: list[str]) -> None:
    found, after = alarms(world.machine.roster, SCOPE, Asked(**asked))
    assert [alarm.name for alarm, _ in found] == names
    assert after == ""
    assert alarms(world.machine.roster, Scope("1" * 12), Asked(**asked))[0] == []


@pytest.mark.parametrize(
    "asked",
    [
        {"names": ["a"], "prefix": "b"},
        {"names": ["a"] * 101},
        {"state": "FINE"},
        {"types": ["LogAlarm"]},
        {"children_of": "a", "prefix": "b"},
        {"children_of": "a", "parents_of": "b"},
    ],
)
def test_what_may_not_be_asked(world: AlarmWorld, asked: dict[str, Any]) -> None:
    with pytest.raises(CloudError) as caught:
        alarms(world.machine.roster, SCOPE, Asked(**asked))
    assert caught.value.code == "ValidationError"


def test_history_by_what_is_asked(world: AlarmWorld) -> None:
    roster = world.machine.roster
    items, _ = history(roster, SCOPE, AskedHistory("db"))
    assert [item.kind for item in items] == ["StateUpdate", "ConfigurationUpdate"]
    items, _ = history(roster, SCOPE, AskedHistory("db", newest_first=False))
    assert [item.kind for item in items] == ["ConfigurationUpdate", "StateUpdate"]
    items, _ = history(roster, SCOPE, AskedHistory(kind="ConfigurationUpdate"))
    assert len(items) == 3
    items, _ = history(roster, SCOPE, AskedHistory(types=["CompositeAlarm"], kind="StateUpdate"))
    assert {item.alarm.split("/")[-1] for item in items} == {"pair", "top"}
    assert history(roster, SCOPE, AskedHistory(start=world.now + 1))[0] == []
    assert history(roster, SCOPE, AskedHistory(end=world.now - 1))[0] == []
    with pytest.raises(CloudError):
        history(roster, SCOPE, AskedHistory(kind="Other"))
    with pytest.raises(CloudError):
        history(roster, SCOPE, AskedHistory(), most=101)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("name", ["", "db"])
def test_pages_of_a_history_are_the_whole_of_it(world: AlarmWorld, name: str, newest_first: bool) -> None:
    for number in range(7):
        world.now += 0.4
        world.set("db", "OK" if number % 2 == 0 else "ALARM")
    roster = world.machine.roster
    items = [item for item in roster.items.values() if item.type == "MetricAlarm" and item.alarm.endswith(name)]
    for start, end in ((0.0, 0.0), (world.now - 2, world.now - 0.5)):
        within = [one.key for one in items if start * 1000 <= one.at_ms and (not end or one.at_ms <= end * 1000)]
        asked = AskedHistory(name, start=start, end=end, newest_first=newest_first)
        found: list[str] = []
        after = ""
        while True:
            page, after = history(roster, SCOPE, asked, after, 2)
            found += [item.key for item in page]
            if not after:
                break
        assert found == sorted(within, reverse=newest_first) and found


def test_a_prefix_begins_where_its_page_does(world: AlarmWorld) -> None:
    found, after = alarms(world.machine.roster, SCOPE, Asked(prefix="web"), most=1)
    assert [alarm.name for alarm, _ in found] == ["web-1"]
    found, after = alarms(world.machine.roster, SCOPE, Asked(prefix="web"), after, 1)
    assert [alarm.name for alarm, _ in found] == ["web-2"] and not after
