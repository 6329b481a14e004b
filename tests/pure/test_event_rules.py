"""The machine of rules on a bench: what is made, changed, refused; what targets are given. Replay is checked always."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context, Outcome, Record
from minicloud.event import commands as ask
from minicloud.event import events, inputs, rules
from minicloud.event.machine import Rules
from minicloud.event.model import Rule, Target

HOME, STRANGER = Scope(), Scope("111111111111", "us-east-1")
PATTERN = '{"source":["aws.ec2"]}'
QUEUE = HOME.arn("sqs", "jobs")
FIFO = HOME.arn("sqs", "jobs.fifo")
TOPIC = HOME.arn("sns", "news")
FUNCTION = HOME.arn("lambda", "function:f:live")
EVENT: dict[str, Any] = {
    "version": "0",
    "id": "7bf73129-1428-4cd3-a780-95db273d1602",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2015-11-11T21:29:54Z",
    "region": "us-east-1",
    "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
    "detail": {"instance-id": "i-0123456789", "state": "RUNNING", "n": 1, "list": [{"id": 1}, {"id": 2}, {}]},
}


class Bench:
    def __init__(self) -> None:
        self.machine = Rules()
        self.state = self.machine.state
        self.now = 1_000_000.0
        self.rand = random.Random(7)
        self.records: list[Record] = []

    def submit(self, command: Any) -> Any:
        outcome: Outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.machine.apply(Record(record.kind, record.key, json.loads(json.dumps(record.body))))
        self.records += outcome.records
        twin = Rules()
        for record in self.records:
            twin.apply(Record(record.kind, record.key, json.loads(json.dumps(record.body))))
        assert twin.state.tables == self.state.tables
        assert (twin.state.next(), twin.state._children) == (self.state.next(), self.state._children)
        return outcome.reply

    def refused(self, code: str, command: Any, text: str = "") -> None:
        with pytest.raises(CloudError) as caught:
            self.machine.decide(command, Context(self.now, self.rand))
        assert caught.value.code == code and text in caught.value.message, caught.value

    def put(self, name: str = "r", pattern: str = PATTERN, scope: Scope = HOME, **more: Any) -> Rule:
        made: Rule = self.submit(ask.PutRule(scope, name, pattern, **more))
        return made


def test_a_rule_is_made_and_changed_as_a_whole() -> None:
    bench = Bench()
    made = bench.put(description="d", tags={"a": "b"})
    assert made.arn == HOME.arn("events", "rule/r") and made.enabled and made.tags == {"a": "b"}
    bench.submit(ask.PutTargets(HOME, "r", (Target("q", QUEUE),)))
    bench.now += 10
    after = bench.put(pattern="", expression="rate(5 minutes)", tags={"c": "d"})
    assert (after.description, after.pattern, after.tags) == ("", "", {"a": "b"})  # tags are of new rules alone
    assert (after.created, after.next) == (1_000_000.0, 1_000_310.0)
    assert [one.id for one in after.targets] == ["q"]
    assert bench.state.with_pattern(HOME) == []


def test_rules_that_are_refused() -> None:
    bench = Bench()
    for command, code, text in (
        (ask.PutRule(HOME, "r"), "ValidationException", "EventPattern or ScheduleExpression must be specified"),
        (ask.PutRule(HOME, "a b", PATTERN), "ValidationException", "regular expression"),
        (ask.PutRule(HOME, "x" * 65, PATTERN), "ValidationException", "regular expression"),
        (ask.PutRule(HOME, "r", "{"), "InvalidEventPatternException", "Event pattern is not valid."),
        (
            ask.PutRule(HOME, "r", expression="rate(1 minutes)"),
            "ValidationException",
            "ScheduleExpression is not valid",
        ),
        (
            ask.PutRule(HOME, "r", expression="rate(0 minutes)"),
            "ValidationException",
            "ScheduleExpression is not valid",
        ),
        (ask.PutRule(HOME, "r", expression="at(2030-01-01T00:00:00)"), "ValidationException", "ScheduleExpression"),
        (ask.PutRule(HOME, "r", expression="cron(0 12 * * * *)"), "ValidationException", "ScheduleExpression"),
        (ask.PutRule(HOME, "r", PATTERN, description="x" * 513), "ValidationException", "512"),
        (ask.PutRule(HOME, "r", PATTERN, tags={"aws:x": "y"}), "ValidationException", "reserved"),
        (ask.SetRuleState(HOME, "r", True), "ResourceNotFoundException", "Rule r does not exist on EventBus default."),
        (ask.PutTargets(HOME, "r", (Target("q", QUEUE),)), "ResourceNotFoundException", "Rule r"),
        (ask.RemoveTargets(HOME, "r", ("q",)), "ResourceNotFoundException", "Rule r"),
    ):
        bench.refused(code, command, text)
    assert bench.records == []


def test_a_bus_has_no_more_rules_than_its_quota() -> None:
    bench = Bench()
    for number in range(300):
        made = _rule(f"r{number}")
        bench.machine.apply(Record(Rule.kind, made.key, made.body()))
    bench.refused("LimitExceededException", ask.PutRule(HOME, "more", PATTERN), "300 rules")
    bench.machine.decide(ask.PutRule(HOME, "r1", PATTERN), Context(0.0, bench.rand))  # one that is there is changed
    bench.machine.decide(ask.PutRule(STRANGER, "more", PATTERN), Context(0.0, bench.rand))


def _rule(name: str) -> Rule:
    return Rule(rules.rule_arn(HOME, name), HOME.account, HOME.region, name, PATTERN, "", 0.0)


def test_a_rule_with_targets_is_not_deleted() -> None:
    bench = Bench()
    bench.put()
    bench.submit(ask.PutTargets(HOME, "r", (Target("a", QUEUE), Target("b", QUEUE))))
    bench.refused("ValidationException", ask.DeleteRule(HOME, "r"), "Rule can't be deleted since it has targets.")
    assert [one.name for one in bench.state.of_target(QUEUE)] == ["r"]
    bench.submit(ask.RemoveTargets(HOME, "r", ("a", "nothing")))
    assert [one.name for one in bench.state.of_target(QUEUE)] == ["r"]
    bench.submit(ask.RemoveTargets(HOME, "r", ("b",)))
    assert bench.state.of_target(QUEUE) == []
    bench.submit(ask.DeleteRule(STRANGER, HOME.arn("events", "rule/r")))
    assert bench.state.rules
    bench.submit(ask.DeleteRule(HOME, "r"))
    bench.submit(ask.DeleteRule(HOME, "r"))
    assert bench.state.rules == {}


def test_another_accounts_rules_are_not_there() -> None:
    bench = Bench()
    arn = bench.put().arn
    for command in (ask.SetRuleState(STRANGER, arn, False), ask.SetRuleTags(STRANGER, arn, {"a": "b"})):
        bench.refused("ResourceNotFoundException", command)
    assert rules.listed(bench.state, STRANGER) == {}


def test_targets_are_replaced_by_id_and_no_more_than_five() -> None:
    bench = Bench()
    bench.put()
    bench.submit(ask.PutTargets(HOME, "r", (Target("a", QUEUE), Target("b", TOPIC))))
    after = bench.submit(ask.PutTargets(HOME, "r", (Target("a", FUNCTION), Target("c", FIFO, group="g"))))
    assert [(one.id, one.arn) for one in after.targets] == [("a", FUNCTION), ("b", TOPIC), ("c", FIFO)]
    more = tuple(Target(f"t{number}", QUEUE) for number in range(3))
    bench.refused("LimitExceededException", ask.PutTargets(HOME, "r", more), "5 targets")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Target("a b", QUEUE), "regular expression"),
        (Target("a", "jobs"), "Provided Arn is not in correct format."),
        (Target("a", "arn:aws:kinesis:us-east-1:000000000000:stream/x"), "functions, queues and topics"),
        (Target("a", STRANGER.arn("sqs", "jobs")), "of the rule's account and region"),
        (Target("a", Scope(region="eu-west-1").arn("sns", "news")), "of the rule's account and region"),
        (Target("a", FIFO), "SqsParameters must be specified for target: a"),
        (Target("a", QUEUE, group="g"), "SqsParameters are not valid"),
        (Target("a", HOME.arn("sns", "news.fifo")), "FIFO topics"),
        (Target("a", QUEUE, retries=186), "less than or equal to 185"),
        (Target("a", QUEUE, age_s=59), "greater than or equal to 60"),
        (Target("a", QUEUE, dead_letter=FIFO), "standard queue"),
        (Target("a", QUEUE, dead_letter=TOPIC), "standard queue"),
        (Target("a", QUEUE, input="{"), "JSON syntax error"),
        (Target("a", QUEUE, input="x" * 8193), "8192"),
        (Target("a", QUEUE, input="{}", path="$.detail"), "Only one of Input, InputPath, or InputTransformer"),
        (Target("a", QUEUE, path="detail"), "Invalid JSON path"),
        (Target("a", QUEUE, path="$.detail[?(@.a)]"), "Invalid JSON path"),
        (Target("a", QUEUE, paths={"x": "$.y"}), "InputTemplate must be provided"),
        (Target("a", QUEUE, paths={"x": "$.y"}, template="<z>"), "Unknown variables: z"),
        (Target("a", QUEUE, paths={"a.b": "$.y"}, template="<a.b>"), "the name a.b is not valid"),
        (Target("a", QUEUE, paths={"AWSx": "$.y"}, template="<AWSx>"), "the name AWSx is not valid"),
        (Target("a", QUEUE, paths={"x": "$.y"}, template='{"a": <x>'), "It is no JSON"),
        (Target("a", QUEUE, paths={"x": "$.y"}, template='{<x>: 1, "b"}'), "It is no JSON"),
    ],
)
def test_targets_that_are_refused(target: Target, text: str) -> None:
    bench = Bench()
    bench.put()
    bench.refused("ValidationException", ask.PutTargets(HOME, "r", (target,)), text)


def test_a_schedule_fires_next_after_now_and_not_while_it_is_disabled() -> None:
    bench = Bench()
    made = bench.put(pattern="", expression="rate(1 minute)")
    assert bench.state.next() == 1_000_060.0
    bench.now = 1_000_200.0  # the cloud was down
    assert [one.name for one in bench.state.due(bench.now)] == ["r"]
    bench.submit(ask.RuleFired(made.arn, 1_000_060.0))
    bench.submit(ask.RuleFired(made.arn, 1_000_060.0))  # again, after a crash
    assert bench.state.next() == 1_000_240.0
    bench.submit(ask.SetRuleState(HOME, "r", False))
    assert bench.state.next() is None
    bench.now = 1_000_500.0
    assert bench.submit(ask.SetRuleState(HOME, "r", True)).next == 1_000_560.0
    assert bench.put(pattern="", expression="cron(0 0 1 1 ? 1970)").next is None


def test_tags_are_set_and_taken_away() -> None:
    bench = Bench()
    arn = bench.put(tags={"a": "1"}).arn
    assert bench.submit(ask.SetRuleTags(HOME, arn, {"b": "2"}, ("a", "z"))).tags == {"b": "2"}
    bench.refused("LimitExceededException", ask.SetRuleTags(HOME, "r", {f"k{one}": "" for one in range(50)}), "50 tags")


# --- what a target is given

BASE = Target("a", QUEUE)
STATE_OF = {"instance": "$.detail.instance-id", "state": "$.detail.state"}


def given(**changes: Any) -> str:
    target = replace(BASE, **changes)
    inputs.check(target)
    return inputs.given(target, json.dumps(EVENT).encode(), rules.rule_arn(HOME, "r"), 1_790_000_000.0)


def test_a_target_is_given_the_event_a_constant_or_a_part() -> None:
    assert json.loads(given()) == EVENT
    assert given(input='{"a": 1}') == '{"a": 1}'
    assert json.loads(given(path="$.detail")) == EVENT["detail"]
    for path, found in (
        ("$", EVENT),
        ("$.detail.n", 1),
        ("$.resources[0]", EVENT["resources"][0]),
        ("$['detail-type']", EVENT["detail-type"]),
        ('$["detail"].state', "RUNNING"),
        ("$.detail.list[*].id", [1, 2]),
        ("$.detail.nothing", None),
        ("$.resources[7]", None),
        ("$.detail.n.more", None),
    ):
        assert json.loads(given(path=path)) == found, path


# Guide, "Input transform examples".
@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ('"instance <instance> is in <state>"', '"instance i-0123456789 is in RUNNING"'),
        ("<instance> is in state <state>", "i-0123456789 is in state RUNNING"),
        ('"instance \\"<instance>\\" is in <state>"', '"instance \\"i-0123456789\\" is in RUNNING"'),
        ('{"instance": <instance>, "state": <state>}', '{"instance": "i-0123456789", "state": "RUNNING"}'),
        ('{"instance": <instance>, "state": "<state>"}', '{"instance": "i-0123456789", "state": "RUNNING"}'),
        (
            '{"instance": <instance>, "state": [9, <state>, true]}',
            '{"instance": "i-0123456789", "state": [9, "RUNNING", true]}',
        ),
        ('{"myStatus": "<instance> is in \\"<state>\\""}', '{"myStatus": "i-0123456789 is in \\"RUNNING\\""}'),
        ('{"n": <n>, "in": "<n>"}', '{"n": 1, "in": "1"}'),
        ('{"none": <none>, "in": "<none>"}', '{"none": null, "in": ""}'),
        ('["<list>"]', '["[{\\"id\\":1},{\\"id\\":2},{}]"]'),
        ("<none>.", "."),
        ('{"rule": <aws.events.rule-name>}', '{"rule": "r"}'),
        ('"<aws.events.rule-arn>"', f'"{rules.rule_arn(HOME, "r")}"'),
        ('{"at": <aws.events.event.ingestion-time>}', '{"at": "2026-09-21T14:13:20Z"}'),
    ],
)
def test_templates(template: str, shown: str) -> None:
    paths = {**STATE_OF, "n": "$.detail.n", "none": "$.detail.none", "list": "$.detail.list"}
    assert given(paths=paths, template=template) == shown


def test_templates_with_the_whole_event() -> None:
    assert json.loads(given(template='{"all": <aws.events.event.json>}')) == {"all": EVENT}
    head = {name: value for name, value in EVENT.items() if name != "detail"}
    assert json.loads(given(template='{"head": <aws.events.event>}')) == {"head": head}


def test_a_templates_texts_are_escaped() -> None:
    event = {**EVENT, "detail": {"text": 'a "b"\n\\'}}
    target = replace(BASE, paths={"t": "$.detail.text"}, template='{"t": <t>, "in": "(<t>)"}')
    shown = json.loads(inputs.given(target, json.dumps(event).encode(), "arn", 0.0))
    assert shown == {"t": 'a "b"\n\\', "in": '(a "b"\n\\)'}


# --- events that are put


def test_entries_that_are_not_taken() -> None:
    good = events.Entry("my.app", "Order", '{"a": 1}', ("x",), 1_700_000_000.0)
    for entry, code, text in (
        (replace(good, source=None), "InvalidArgument", "Parameter Source is not valid."),
        (replace(good, detail_type=""), "InvalidArgument", "Parameter DetailType is not valid."),
        (replace(good, detail=None), "InvalidArgument", "Parameter Detail is not valid."),
        (replace(good, detail="{"), "MalformedDetail", "Detail is malformed."),
        (replace(good, detail="[]"), "MalformedDetail", "Detail is malformed."),
        (replace(good, detail='{"a": NaN}'), "MalformedDetail", "Detail is malformed."),
        (replace(good, source="aws.ec2"), "NotAuthorizedForSourceException", "Not authorized for the source."),
        (replace(good, time=1e15), "InvalidArgument", "Time"),
    ):
        found = events.parsed(entry, "id", HOME, 0.0)
        assert isinstance(found, events.Flaw) and (found.code, text in found.text) == (code, True), found
    event = events.parsed(good, "id", HOME, 0.0)
    assert event == {
        "version": "0",
        "id": "id",
        "detail-type": "Order",
        "source": "my.app",
        "account": HOME.account,
        "time": "2023-11-14T22:13:20Z",
        "region": HOME.region,
        "resources": ["x"],
        "detail": {"a": 1},
    }


def test_entries_have_their_bounds() -> None:
    entry = events.Entry("s", "t", json.dumps({"a": "é"}, ensure_ascii=False), ("rr",), 0.0)
    assert events.size(entry) == 14 + 1 + 1 + len('{"a": "é"}'.encode()) + 2
    big = events.Entry("s", "t", "x" * (256 * 1024 - 2))
    events.check_size([big])
    for entries in ([], [entry] * 11, [big, entry]):
        with pytest.raises(CloudError) as caught:
            events.check_size(entries)
        assert caught.value.code == "ValidationException"
