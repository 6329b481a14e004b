"""The records and effects of one decision, and what the state will be when they are applied.

A change of a metric alarm's state carries its actions out at once. A composite alarm with a suppressor holds them back
(guide, "Suppressing composite alarm actions"):

    suppressor in ALARM                          Alarm, as long as it stays there
    suppressor leaves ALARM                      ExtensionPeriod, for extension_s
    state changes, suppressor not in ALARM       WaitPeriod, for wait_s: it may yet go to ALARM

At the end of a wait the actions of the state at that time are carried out; ours: only if it is another one than the
state whose actions were carried out last, so an alarm that came back by itself tells nobody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from minicloud.base.machine import Outcome, Record
from minicloud.metric import actions, evaluation, limits, rule
from minicloud.metric.actions import Act
from minicloud.metric.alarm import (
    ALARM,
    BY_ALARM,
    BY_EXTENSION,
    BY_WAIT,
    HISTORY,
    STATE,
    Alarm,
    AlarmState,
    CompositeAlarm,
    HistoryItem,
    alarm_key,
)
from minicloud.metric.roster import Roster

CONFIGURED, CHANGED, ACTED = "ConfigurationUpdate", "StateUpdate", "Action"  # API: HistoryItemType


class Draft:
    def __init__(self, roster: Roster, now: float) -> None:
        self.roster = roster
        self.now_ms = round(now * 1000)
        self.records: list[Record] = []
        self.effects: list[Act] = []
        self._states: dict[str, AlarmState] = {}
        self._items: dict[str, list[str]] = {}  # alarm key -> keys of new items

    def outcome(self, reply: Any = None) -> Outcome:
        self.records += [Record(STATE, key, state.body()) for key, state in self._states.items()]
        return Outcome(reply, self.records, list(self.effects))

    def state(self, key: str) -> AlarmState:
        return self._states.get(key) or self.roster.state(key)

    def set_state(self, key: str, state: AlarmState) -> None:
        self._states[key] = state

    def put_alarm(self, alarm: Alarm, what: str) -> None:
        """what: created, updated; for the history."""
        self.records.append(Record(ALARM, alarm.key, alarm.body()))
        told: dict[str, Any] = {"version": "1.0", "type": what.capitalize()}
        data = json.dumps({**told, what + "Alarm": _shown(alarm)})
        if len(data) > limits.HISTORY_DATA_CHARS_MAX:
            data = json.dumps({**told, what + "Alarm": {"alarmName": alarm.name, "alarmArn": alarm.arn}})
        self.remember(alarm, CONFIGURED, f'Alarm "{alarm.name}" {what}', data)

    # --- changes of state

    def change(self, alarm: Alarm, value: str, reason: str, data: str = "") -> None:
        """The state becomes another one: history, actions."""
        before = self.state(alarm.key)
        now = replace(
            before,
            value=value,
            reason=reason[: limits.STATE_REASON_CHARS_MAX],
            data=data,
            updated_ms=self.now_ms,
            changed_ms=max(self.now_ms, before.changed_ms + 1),  # guide: each change has its own time stamp
            previous=before.value,
            owed=[],
        )
        self.remember(alarm, CHANGED, f"Alarm updated from {before.value} to {value}", _change_data(before, now))
        if isinstance(alarm, CompositeAlarm) and alarm.suppressor:
            now = self._held(alarm, now)
            if now.suppressed:
                self.set_state(alarm.key, now)
                return
        self._act(alarm, now)

    def _act(self, alarm: Alarm, state: AlarmState) -> None:
        """Carry the actions of the state out, and owe them until they are reported done."""
        owed = alarm.actions.get(state.value, []) if alarm.enabled else []
        self.set_state(alarm.key, replace(state, owed=list(owed), acted=state.value, suppressed="", until_ms=0))
        self.effects += actions.effects(alarm, state, owed)

    # --- suppression

    def _suppressing(self, alarm: CompositeAlarm) -> bool:
        key = alarm_key(alarm.scope, alarm.suppressor)
        return key in self.roster.alarms and self.state(key).value == evaluation.ALARM

    def _held(self, alarm: CompositeAlarm, state: AlarmState) -> AlarmState:
        """After a change of its own state."""
        if self._suppressing(alarm):
            return replace(state, suppressed=BY_ALARM, until_ms=0)
        if state.suppressed or not alarm.wait_s:
            return state
        return replace(state, suppressed=BY_WAIT, until_ms=self.now_ms + alarm.wait_s * 1000)

    def suppressor_changed(self, alarm: CompositeAlarm) -> None:
        state = self.state(alarm.key)
        if self._suppressing(alarm):
            if state.suppressed != BY_ALARM:
                self.set_state(alarm.key, replace(state, suppressed=BY_ALARM, until_ms=0))
        elif state.suppressed == BY_ALARM:
            if alarm.extension_s and alarm.suppressor:
                until_ms = self.now_ms + alarm.extension_s * 1000
                self.set_state(alarm.key, replace(state, suppressed=BY_EXTENSION, until_ms=until_ms))
            else:
                self.release(alarm)

    def release(self, alarm: Alarm) -> None:
        """Nothing holds the actions back any more."""
        state = self.state(alarm.key)
        if state.value != state.acted:
            self._act(alarm, state)
        else:
            self.set_state(alarm.key, replace(state, suppressed="", until_ms=0))

    # --- composite alarms

    def settle(self, changed: Iterable[str]) -> None:
        """Bring the composite alarms above these up to date, each once, and those that they suppress."""
        moved = set(changed)
        for composite in self.roster.above(moved):
            if self.judge(composite, moved):
                moved.add(composite.key)
        for key in sorted(moved):
            for above in sorted(self.roster.suppresses.get(key, ())):
                composite_above = self.roster.alarms[above]
                if isinstance(composite_above, CompositeAlarm):
                    self.suppressor_changed(composite_above)

    def judge(self, alarm: CompositeAlarm, moved: Iterable[str] = ()) -> bool:
        """Whether its state became another one. moved: the alarms that changed, for the reason."""
        scope = alarm.scope
        true = rule.holds(alarm.rule, lambda name: self.state(alarm_key(scope, name)).value)
        value = evaluation.ALARM if true else evaluation.OK
        if value == self.state(alarm.key).value:
            return False
        causes = sorted(set(moved) & alarm.children)
        told = [
            {"arn": self.roster.alarms[key].arn, "state": self._told(key)}
            for key in causes
            if key in self.roster.alarms
        ]
        when = datetime.fromtimestamp(self.now_ms / 1000, UTC).strftime("%A %d %B, %Y %H:%M:%S UTC")
        text = f"{alarm.arn} transitioned to {value} at {when}"
        if told:
            text = f"{told[0]['arn']} transitioned to {self.state(causes[0]).value} at {when}"
        self.change(alarm, value, text, json.dumps({"triggeringAlarms": told[:10]}))
        return True

    def _told(self, key: str) -> dict[str, str]:
        state = self.state(key)
        return {"value": state.value, "timestamp": evaluation.stamp(state.changed_ms)}

    # --- history

    def remember(self, alarm: Alarm, kind: str, summary: str, data: str) -> None:
        known = self.roster.history.get(alarm.key, [])
        new = self._items.setdefault(alarm.key, [])
        last = (new or known or [""])[-1]
        number = int(last.split("/")[1]) + 1 if last.startswith(f"{self.now_ms:015d}/") else 0
        item = HistoryItem(
            alarm.key, alarm.type, self.now_ms, number, kind, summary[: limits.HISTORY_SUMMARY_CHARS_MAX],
            data[: limits.HISTORY_DATA_CHARS_MAX],
        )  # fmt: skip
        new.append(item.key)
        self.records.append(Record(HISTORY, item.key, item.body()))
        if len(known) + len(new) > limits.HISTORY_ITEMS_MAX:
            self.records.append(Record(HISTORY, known[len(new) - 1], None))


def _change_data(before: AlarmState, now: AlarmState) -> str:
    states = {
        "version": "1.0",
        "oldState": {"stateValue": before.value, "stateReason": before.reason},
        "newState": {"stateValue": now.value, "stateReason": now.reason},
    }
    whole = json.dumps({**states, "newState": {**states["newState"], **_reason_data(now.data)}})  # type: ignore[dict-item]
    return whole if len(whole) <= limits.HISTORY_DATA_CHARS_MAX else json.dumps(states)


def _reason_data(data: str) -> dict[str, Any]:
    return {"stateReasonData": json.loads(data)} if data else {}


def _shown(alarm: Alarm) -> dict[str, Any]:
    """What the history keeps of a configuration."""
    shown: dict[str, Any] = {
        "alarmName": alarm.name,
        "alarmArn": alarm.arn,
        "actionsEnabled": alarm.enabled,
        "okActions": alarm.actions.get(evaluation.OK, []),
        "alarmActions": alarm.actions.get(evaluation.ALARM, []),
        "insufficientDataActions": alarm.actions.get(evaluation.INSUFFICIENT, []),
    }
    if isinstance(alarm, CompositeAlarm):
        return {**shown, "alarmRule": alarm.text[:1_000]}
    return {
        **shown,
        "threshold": alarm.threshold,
        "comparisonOperator": alarm.comparison,
        "evaluationPeriods": alarm.periods,
        "datapointsToAlarm": alarm.needed,
        "period": alarm.period,
        "treatMissingData": alarm.missing,
    }
