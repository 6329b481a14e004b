"""An alarm machine as a shell runs it, on a clock in the test's hands; replay must give the same."""

from __future__ import annotations

import random
from typing import Any

from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.metric.actions import Act
from minicloud.metric.alarm import HistoryItem, alarm_key
from minicloud.metric.alarms import Alarms, PutAlarm, PutComposite, SetAlarmState
from minicloud.metric.given import GivenAlarm, GivenComposite
from tests.pure.metric_world import NOW, SCOPE, World, datum

TOPIC = "arn:aws:sns:us-east-1:000000000000:alerts"
POLICY = "arn:aws:autoscaling:us-east-1:000000000000:scalingPolicy:1:autoScalingGroupName/g:policyName/p"
STOP = "arn:aws:automate:us-east-1:ec2:stop"
START = int(NOW) // 60 * 60 + 60


class AlarmWorld:
    def __init__(self) -> None:
        self.cloud = World(START)
        self.machine = Alarms(self.cloud.store)
        self.disk: dict[tuple[str, str], dict[str, Any]] = {}
        self.effects: list[Act] = []
        self.rand = random.Random(1)

    @property
    def now(self) -> float:
        return self.cloud.now

    @now.setter
    def now(self, value: float) -> None:
        self.cloud.now = value

    def do(self, command: Any) -> Any:
        outcome: Outcome = self.machine.decide(command, Context(self.now, self.rand))
        for record in outcome.records:
            self.keep(record)
        self.effects += outcome.effects
        self.check()
        return outcome.reply

    def keep(self, record: Record) -> None:
        before = self.machine.lookup(record.kind, record.key)
        self.machine.apply(record)
        assert self.machine.lookup(record.kind, record.key) == record.body or record.body is None
        if record.body is None:
            self.disk.pop((record.kind, record.key), None)
        else:
            self.disk[record.kind, record.key] = record.body
        assert before is None or isinstance(before, dict)

    def check(self) -> None:
        """What the records alone say is what the machine says."""
        twin = self.replayed()
        mine, other = self.machine.roster, twin.roster
        assert mine.alarms == other.alarms
        assert mine.states == other.states
        assert mine.items == other.items
        assert mine.history == other.history
        assert (mine.parents, mine.suppresses, mine.clock) == (other.parents, other.suppresses, other.clock)
        assert self.machine.due() == twin.due()
        assert self.machine.redo() == twin.redo()

    def replayed(self) -> Alarms:
        machine = Alarms(self.cloud.store)
        for (kind, key), body in sorted(self.disk.items(), reverse=True):
            machine.apply(Record(kind, key, body))
        return machine

    # --- shorthand

    def alarm(self, name: str, **given: Any) -> None:
        plain: dict[str, Any] = {
            "namespace": "N",
            "metric_name": name,
            "statistic": "Average",
            "period": 60,
            "evaluation_periods": 1,
            "threshold": 10.0,
            "comparison": "GreaterThanThreshold",
            "alarm_actions": [TOPIC],
        }
        if "metrics" in given:
            plain = {name: plain[name] for name in ("evaluation_periods", "threshold", "comparison")}
        if "extended_statistic" in given:
            del plain["statistic"]
        self.do(PutAlarm(SCOPE, GivenAlarm(name, **{**plain, **given})))

    def composite(self, name: str, rule: str, **given: Any) -> None:
        self.do(PutComposite(SCOPE, GivenComposite(name, rule, alarm_actions=[TOPIC], ok_actions=[TOPIC], **given)))

    def set(self, name: str, value: str) -> None:
        self.do(SetAlarmState(SCOPE, name, value, "test"))

    def put(self, name: str, *values: float, ago: float = 0, width: int = 60) -> None:
        self.cloud.put(datum(name, self.now - ago, *values, width=width))

    def tick(self, seconds: float = 60) -> None:
        """Let time pass, ticking whenever the machine is due."""
        end = self.now + seconds
        for _ in range(100_000):
            due = self.machine.due()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.do(Tick())
        self.now = end

    def state(self, name: str) -> str:
        return self.machine.roster.state(alarm_key(SCOPE, name)).value

    def reason(self, name: str) -> str:
        return self.machine.roster.state(alarm_key(SCOPE, name)).reason

    def suppressed(self, name: str) -> str:
        return self.machine.roster.state(alarm_key(SCOPE, name)).suppressed

    def taken(self) -> list[tuple[str, str, str]]:
        """(alarm, state, kind) of the effects since the last call."""
        found = [(act.alarm_key.split("/", 2)[2], act.state, act.kind) for act in self.effects]
        self.effects = []
        return found

    def history(self, name: str) -> list[HistoryItem]:
        roster = self.machine.roster
        return [roster.items[key] for key in roster.history.get(alarm_key(SCOPE, name), [])]
