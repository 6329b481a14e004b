"""The alarm machine: evaluation on time, actions, history, commands. Replay is checked after every command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.metric import limits
from minicloud.metric.alarm import alarm_key
from minicloud.metric.alarms import ActionDone, DeleteAlarms, EnableActions, PutAlarm, SetAlarmState
from minicloud.metric.evaluation import ALARM, INSUFFICIENT, OK
from minicloud.metric.given import GivenAlarm
from minicloud.metric.query import Query
from tests.pure.alarm_world import POLICY, START, STOP, TOPIC, AlarmWorld
from tests.pure.metric_world import SCOPE, datum, metric


@pytest.fixture
def world() -> AlarmWorld:
    return AlarmWorld()


def refused(call: Any, *args: Any, **given: Any) -> tuple[str, str | None]:
    with pytest.raises(CloudError) as caught:
        call(*args, **given)
    return caught.value.code, caught.value.field


def test_from_creation_over_a_breach_and_back(world: AlarmWorld) -> None:
    world.alarm("cpu", ok_actions=[TOPIC])
    assert world.state("cpu") == INSUFFICIENT
    assert world.reason("cpu") == "Unchecked: Initial alarm creation"
    world.put("cpu", 50.0)
    world.tick()
    world.tick(limits.EVALUATION_DELAY_S)
    assert world.state("cpu") == ALARM
    assert world.taken() == [("cpu", ALARM, "topic")]
    world.put("cpu", 1.0)
    world.tick()
    assert world.state("cpu") == OK
    assert world.taken() == [("cpu", OK, "topic")]
    summaries = [item.summary for item in world.history("cpu")]
    assert summaries == [
        'Alarm "cpu" created',
        "Alarm updated from INSUFFICIENT_DATA to ALARM",
        "Alarm updated from ALARM to OK",
    ]
    world.tick(10 * 60)
    assert world.state("cpu") == INSUFFICIENT
    assert world.reason("cpu") == "Insufficient Data: 1 datapoint was unknown."


def test_what_a_topic_is_told(world: AlarmWorld) -> None:
    world.alarm("cpu", dimensions={"InstanceId": "i-1"}, description="hot", unit="Percent")
    world.cloud.put(datum("cpu", world.now, 50.0, dims=(("InstanceId", "i-1"),), unit="Percent"))
    world.tick(62)
    [act] = world.effects
    told = json.loads(act.message)
    assert told["AlarmName"] == "cpu"
    assert told["AlarmArn"] == "arn:aws:cloudwatch:us-east-1:000000000000:alarm:cpu"
    assert (told["OldStateValue"], told["NewStateValue"]) == (INSUFFICIENT, ALARM)
    assert told["Trigger"] == {
        "MetricName": "cpu",
        "Namespace": "N",
        "StatisticType": "Statistic",
        "Statistic": "AVERAGE",
        "Unit": "Percent",
        "Dimensions": [{"value": "i-1", "name": "InstanceId"}],
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 10.0,
        "TreatMissingData": "missing",
        "EvaluateLowSampleCountPercentile": "",
    }
    assert act.subject == 'ALARM: "cpu" in us-east-1'
    data = json.loads(act.reason_data)
    assert data["recentDatapoints"] == [50.0]
    assert data["evaluatedDatapoints"] == [
        {"timestamp": "2023-11-14T22:14:00.000+0000", "sampleCount": 1.0, "value": 50.0}
    ]


def test_windows_slide_by_the_minute(world: AlarmWorld) -> None:
    """A period of five minutes ends with every minute, not with every fifth."""
    world.alarm("load", period=300, statistic="Sum", threshold=100.0)
    for minute in range(4):
        world.put("load", 30.0)
        world.tick(60)
        assert world.state("load") == (OK if minute else INSUFFICIENT), minute
    world.tick(limits.EVALUATION_DELAY_S)
    assert world.state("load") == ALARM  # 120 in the five minutes up to now


def test_high_resolution_alarms_are_judged_every_ten_seconds(world: AlarmWorld) -> None:
    world.alarm("fast", period=10)
    world.alarm("slow", period=300, statistic="Sum")
    world.put("slow", 50.0)
    world.tick(25)
    world.put("fast", 50.0, width=1)
    world.tick(10)
    assert world.state("fast") == ALARM
    assert world.state("slow") == INSUFFICIENT
    world.tick(60)
    assert world.state("slow") == ALARM


def test_ranges_above_a_day_are_judged_every_hour(world: AlarmWorld) -> None:
    world.alarm("week", period=86_400, evaluation_periods=7, datapoints=1, statistic="Sum")
    world.put("week", 50.0)
    ticks = world.machine.roster.clock["at"]
    world.tick(7_200)
    assert world.state("week") == ALARM
    assert world.machine.roster.clock["at"] % 3_600 == 0
    assert ticks == 0


def test_scaling_policies_are_told_every_minute_and_topics_once(world: AlarmWorld) -> None:
    world.alarm("cpu", alarm_actions=[TOPIC, POLICY])
    for _ in range(4):
        world.put("cpu", 50.0)
        world.tick(60)
    kinds = [(act.kind, act.repeated) for act in world.effects]
    assert kinds == [("topic", False), ("scaling", False), ("scaling", True), ("scaling", True)]
    world.effects = []
    world.do(EnableActions(SCOPE, ["cpu", "nobody"], enabled=False))
    world.put("cpu", 50.0)
    world.tick(60)
    assert world.taken() == []
    world.do(EnableActions(SCOPE, ["cpu"], enabled=True))
    world.put("cpu", 50.0)
    world.tick(60)
    assert world.taken() == [("cpu", ALARM, "scaling")]


def test_disabled_actions_do_not_act_but_states_change(world: AlarmWorld) -> None:
    world.alarm("cpu", enabled=False)
    world.put("cpu", 50.0)
    world.tick(62)
    assert world.state("cpu") == ALARM
    assert world.taken() == []
    assert world.machine.redo() == []


def test_ec2_actions_name_verb_and_instance(world: AlarmWorld) -> None:
    swf = "arn:aws:swf:us-east-1:000000000000:action/actions/AWS_EC2.InstanceId.Reboot/1.0"
    world.alarm("cpu", dimensions={"InstanceId": "i-1"}, alarm_actions=[STOP, swf])
    world.set("cpu", ALARM)
    assert [(act.kind, act.verb, act.instance_id) for act in world.effects] == [
        ("ec2", "stop", "i-1"),
        ("ec2", "reboot", "i-1"),
    ]


def test_what_was_not_reported_done_is_done_again_after_a_crash(world: AlarmWorld) -> None:
    world.alarm("cpu", alarm_actions=[TOPIC, POLICY])
    world.set("cpu", ALARM)
    topic, policy = world.effects
    assert world.replayed().redo() == [topic, policy]
    world.do(ActionDone(topic))
    world.do(ActionDone(policy, error="no such policy"))
    assert world.replayed().redo() == []
    assert [item.summary for item in world.history("cpu")][-2:] == [
        f"Successfully executed action {TOPIC}",
        f'Failed to execute action {POLICY}. Received error: "no such policy"',
    ]
    world.set("cpu", OK)
    world.set("cpu", ALARM)
    world.do(ActionDone(topic))  # of the change before: what is owed now stays
    assert len(world.machine.redo()) == 2


def test_set_state_lasts_until_the_next_evaluation(world: AlarmWorld) -> None:
    world.alarm("cpu")
    world.put("cpu", 1.0)
    world.tick(62)
    world.do(SetAlarmState(SCOPE, "cpu", ALARM, "for a test", '{"a": 1}'))
    assert world.reason("cpu") == "for a test"
    assert world.taken() == [("cpu", ALARM, "topic")]
    world.do(SetAlarmState(SCOPE, "cpu", ALARM, "again"))
    assert world.taken() == []
    world.put("cpu", 1.0)
    world.tick()
    assert world.state("cpu") == OK
    assert refused(world.do, SetAlarmState(SCOPE, "x", OK, "")) == ("ResourceNotFound", "AlarmName")
    assert refused(world.do, SetAlarmState(SCOPE, "cpu", "FINE", ""))[0] == "ValidationError"
    assert refused(world.do, SetAlarmState(SCOPE, "cpu", OK, "", "{")) == ("InvalidFormat", "StateReasonData")


def test_expressions(world: AlarmWorld) -> None:
    queries = [
        Query("e", metric("errors"), "Sum", 60, returned=False),
        Query("r", metric("requests"), "Sum", 60, returned=False),
        Query("rate", expression="100 * e / r"),
    ]
    world.alarm("rate", metrics=queries, threshold=5.0, alarm_actions=[POLICY], missing="notBreaching")
    world.put("errors", 6.0)
    world.put("requests", 100.0)
    world.tick(62)
    assert world.state("rate") == ALARM
    assert "[6.0 (" in world.reason("rate")
    world.tick(240)
    assert world.state("rate") == OK
    code, field = refused(world.alarm, "bad", metrics=[queries[0], Query("s", expression="SUM(e)")])
    assert (code, field) == ("ValidationError", "Metrics")


def test_percentiles_with_few_samples_are_passed_over(world: AlarmWorld) -> None:
    world.alarm("lat", extended_statistic="p99", low_samples="ignore")
    world.alarm("lat2", metric_name="lat", extended_statistic="p99")
    world.put("lat", *[50.0] * 900)
    world.tick(62)
    assert world.state("lat") == INSUFFICIENT
    assert world.state("lat2") == ALARM
    world.put("lat", *[50.0] * 1_000)
    world.tick()
    assert world.state("lat") == ALARM


def test_many_alarms_take_several_ticks_of_one_moment(world: AlarmWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EVALUATIONS_PER_TICK", 2)
    for number in range(5):
        world.alarm(f"a{number}", metric_name="m")
    world.put("m", 50.0)
    world.tick(62)
    assert [world.state(f"a{number}") for number in range(5)] == [ALARM] * 5
    assert len(world.taken()) == 5
    world.put("m", 1.0)
    world.tick(60)
    assert {world.state(f"a{number}") for number in range(5)} == {OK}


def test_after_an_absence_the_newest_moment_is_judged(world: AlarmWorld) -> None:
    world.alarm("cpu")
    world.tick(60)
    world.now += 3_600
    world.put("cpu", 50.0, ago=60)
    world.tick(62)
    assert world.state("cpu") == ALARM


def test_a_late_tick_looks_at_whole_minutes(world: AlarmWorld) -> None:
    """A ten-second alarm makes moments between minutes; an alarm on minutes that is due ends with the last minute."""
    world.alarm("fast", period=10)
    world.alarm("slow")
    world.tick(5)
    world.put("slow", 50.0)
    world.now += 72
    world.tick(1)
    assert world.machine.roster.clock["at"] % 60 == 10
    assert world.state("slow") == ALARM


def test_an_update_keeps_the_state_and_replaces_the_rest(world: AlarmWorld) -> None:
    world.alarm("cpu", tags={"a": "1"}, description="x")
    world.put("cpu", 50.0)
    world.tick(62)
    world.alarm("cpu", threshold=100.0)
    alarm = world.machine.roster.alarms[alarm_key(SCOPE, "cpu")]
    assert world.state("cpu") == ALARM
    assert (alarm.description, alarm.tags) == ("", {"a": "1"})
    assert world.history("cpu")[-1].summary == 'Alarm "cpu" updated'


def test_history_is_bounded(world: AlarmWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HISTORY_ITEMS_MAX", 5)
    world.alarm("cpu")
    for number in range(6):
        world.set("cpu", ALARM if number % 2 else OK)
    assert len(world.history("cpu")) == 5
    world.do(DeleteAlarms(SCOPE, ["cpu", "nobody"]))
    assert world.history("cpu")[-1].summary == 'Alarm "cpu" deleted'
    assert world.machine.roster.names(SCOPE) == []
    world.tick(14 * 86_400 + 5)
    assert world.history("cpu") == []
    assert world.machine.due() is None


def test_the_history_of_all_alarms_is_bounded_and_who_has_most_makes_room(
    world: AlarmWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HISTORY_TOTAL_MAX", 20)
    other = Scope("111122223333")
    rule = {"threshold": 1.0, "comparison": "GreaterThanThreshold", "evaluation_periods": 1}
    metric_of_it = {"namespace": "N", "metric_name": "calm", "statistic": "Sum", "period": 60}
    world.do(PutAlarm(other, GivenAlarm("calm", **rule, **metric_of_it)))  # type: ignore[arg-type]
    world.alarm("cpu")
    for number in range(40):
        world.set("cpu", ALARM if number % 2 else OK)
    assert world.machine.due() == 0.0
    world.tick(1)
    roster = world.machine.roster
    assert len(roster.items) == 20 and len(roster.history_of(other)) == 1
    assert len(world.history("cpu")) == 19 and world.machine.due() != 0.0


@pytest.mark.parametrize(
    ("given", "code", "field"),
    [
        ({"comparison": "Above"}, "ValidationError", "ComparisonOperator"),
        ({"comparison": "GreaterThanUpperThreshold"}, "UnsupportedOperation", "ComparisonOperator"),
        ({"threshold": None}, "MissingParameter", "Threshold"),
        ({"threshold": float("nan")}, "ValidationError", "Threshold"),
        ({"evaluation_periods": 0}, "ValidationError", "EvaluationPeriods"),
        ({"datapoints": 2}, "ValidationError", "DatapointsToAlarm"),
        ({"evaluation_periods": 1_441}, "ValidationError", "EvaluationPeriods"),
        ({"period": 3_600, "evaluation_periods": 169}, "ValidationError", "EvaluationPeriods"),
        ({"period": 1}, "ValidationError", "Period"),
        ({"period": 45}, "ValidationError", "Period"),
        ({"statistic": ""}, "InvalidParameterCombination", "Statistic"),
        ({"statistic": "p99"}, "ValidationError", "Statistic"),
        ({"extended_statistic": "tm90"}, "UnsupportedOperation", "m1.MetricStat.Stat"),
        ({"missing": "maybe"}, "ValidationError", "TreatMissingData"),
        ({"low_samples": "maybe"}, "ValidationError", "EvaluateLowSampleCountPercentile"),
        ({"metric_name": ""}, "MissingParameter", "MetricName"),
        ({"namespace": ""}, "MissingParameter", "Namespace"),
        ({"unit": "Parsec"}, "InvalidParameterValue", "Unit"),
        ({"description": "x" * 1_025}, "ValidationError", "AlarmDescription"),
        (
            {"alarm_actions": ["arn:aws:lambda:us-east-1:000000000000:function:f"]},
            "UnsupportedOperation",
            "AlarmActions",
        ),
        ({"alarm_actions": ["nonsense"]}, "ValidationError", "AlarmActions"),
        ({"alarm_actions": [TOPIC.replace("us-east-1", "eu-west-1")]}, "ValidationError", "AlarmActions"),
        ({"alarm_actions": [TOPIC.replace("0000", "1111")]}, "UnsupportedOperation", "AlarmActions"),
        ({"alarm_actions": [f"{TOPIC}{n}" for n in range(6)]}, "ValidationError", "AlarmActions"),
        ({"alarm_actions": [TOPIC, TOPIC]}, "ValidationError", "AlarmActions"),
        ({"alarm_actions": [STOP]}, "ValidationError", "AlarmActions"),
        ({"tags": {"aws:x": "1"}}, "InvalidParameterValue", "tags.key"),
    ],
)
def test_alarms_that_are_refused(world: AlarmWorld, given: dict[str, Any], code: str, field: str) -> None:
    assert refused(world.alarm, "cpu", **given) == (code, field)
    assert not world.disk


def test_history_of_a_large_alarm_is_still_json(world: AlarmWorld) -> None:
    topics = [f"{TOPIC}-{'x' * 900}{number}" for number in range(5)]
    world.alarm("cpu", alarm_actions=topics, ok_actions=topics)
    assert json.loads(world.history("cpu")[0].data)["createdAlarm"]["alarmName"] == "cpu"


def test_names_that_are_refused(world: AlarmWorld) -> None:
    for name in ("", "x" * 256, "a\nb"):
        assert refused(world.alarm, name)[1] == "AlarmName"


def test_the_clock_may_go_back(world: AlarmWorld) -> None:
    world.alarm("cpu")
    world.tick(120)
    world.now = START - 3_600
    world.tick(60)
    assert world.state("cpu") == INSUFFICIENT
