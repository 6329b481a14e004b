"""The machine of alarms: commands in, records and actions out. Implements base.machine.Machine.

    put, delete, enable, disable, set state     decided by `given.py` and here
    put, delete a dashboard                     decided by `dashboards.py`; they share the journal
    Tick                                        every due metric alarm is judged, 1,000 in one tick; composite alarms
                                                above those that changed; waits that are over; history that has expired

Metric alarms are judged on windows that slide (guide, "Alarm evaluation"): every minute, over the last periods that end
with that minute; every ten seconds where the period is below a minute; every hour where the range is above a day. The
record `alarm_clock` says which moment was judged last, so a machine that was away goes on with the newest moment.

Actions are effects. Those of the last change of a state are owed until somebody reports them done: `redo` gives them
again after a crash. Scaling policies are told again every minute while the state lasts (hourly by an alarm that is
judged hourly); those are not owed, since the next minute has them again.

What can never happen: an action without its change of state on disk; a composite alarm that rests on itself.

Differs from CloudWatch: cycles of composite alarms are refused when they are made, and rules on alarms that are not
there; alarms in other accounts, anomaly bands, Metrics Insights, warm-up and wall clock windows are not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Outcome, Record, Tick
from minicloud.base.tags import check_tags
from minicloud.metric import actions, errors, evaluation, given, limits, query
from minicloud.metric.actions import SCALING, Act
from minicloud.metric.alarm import (
    ALARM,
    CLOCK,
    HISTORY,
    STATE,
    Alarm,
    AlarmState,
    CompositeAlarm,
    MetricAlarm,
    alarm_key,
    with_actions,
)
from minicloud.metric.arithmetic import Line
from minicloud.metric.dashboards import Dashboard, Dashboards, DeleteDashboards, PutDashboard
from minicloud.metric.draft import ACTED, CONFIGURED, Draft
from minicloud.metric.judgement import Judge
from minicloud.metric.reading import Span
from minicloud.metric.roster import CLOCK_KEY, Roster
from minicloud.metric.store import Store

_EXPIRED_PER_TICK = 500  # ours


@dataclass(frozen=True, slots=True)
class PutAlarm:
    scope: Scope
    given: given.GivenAlarm


@dataclass(frozen=True, slots=True)
class PutComposite:
    scope: Scope
    given: given.GivenComposite


@dataclass(frozen=True, slots=True)
class DeleteAlarms:
    scope: Scope
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class SetAlarmState:
    scope: Scope
    name: str
    value: str
    reason: str
    data: str = ""


@dataclass(frozen=True, slots=True)
class EnableActions:
    """Or disable them."""

    scope: Scope
    names: Sequence[str]
    enabled: bool


@dataclass(frozen=True, slots=True)
class TagAlarm:
    """tags: to add or overwrite; remove: keys."""

    scope: Scope
    name: str
    tags: Mapping[str, str]
    remove: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ActionDone:
    """An effect was carried out, or gave an error."""

    act: Act
    error: str = ""


class Alarms:
    kinds = frozenset({ALARM, STATE, HISTORY, CLOCK, Dashboard.kind})

    def __init__(self, store: Store) -> None:
        self.roster = Roster()
        self.dashboards = Dashboards()
        self._store = store
        self._judge = Judge(store)
        self._rules: dict[type[Any], Callable[[Any, Context], Outcome]] = {
            PutAlarm: self._put,
            PutComposite: self._put_composite,
            DeleteAlarms: self._delete,
            SetAlarmState: self._set_state,
            EnableActions: self._enable,
            TagAlarm: self._tag,
            ActionDone: self._done,
            PutDashboard: self.dashboards.put,
            DeleteDashboards: self.dashboards.delete,
            Tick: self._tick,
        }

    def decide(self, command: Any, context: Context) -> Outcome:
        return self._rules[type(command)](command, context)

    def apply(self, record: Record) -> None:
        self._owner(record.kind).apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self._owner(kind).lookup(kind, key)

    def _owner(self, kind: str) -> Roster | Dashboards:
        return self.dashboards if kind == Dashboard.kind else self.roster

    def due(self) -> float | None:
        return self.roster.due()

    def redo(self) -> list[Act]:
        """Actions that were owed when the process ended."""
        found = []
        for key in sorted(self.roster.owing):
            state = self.roster.state(key)
            found += actions.effects(self.roster.alarms[key], state, state.owed)
        return found

    # --- configuration

    def _put(self, command: PutAlarm, context: Context) -> Outcome:
        """Reply: MetricAlarm."""
        alarm = given.metric_alarm(command.given, command.scope, round(context.now * 1000))
        span = Span(0, alarm.period, alarm.periods + limits.EVALUATION_EXTRA)
        if not isinstance(query.run(alarm.plan, self._store, span, context.now)[alarm.watched.id], Line):
            raise errors.invalid("The expression of an alarm must give one time series.", "Metrics")
        draft = Draft(self.roster, context.now)
        self._enter(draft, alarm)
        return draft.outcome(alarm)

    def _put_composite(self, command: PutComposite, context: Context) -> Outcome:
        """Reply: CompositeAlarm. It is judged at once, and those above it."""
        alarm = given.composite_alarm(command.given, command.scope, round(context.now * 1000))
        self._check_rule(alarm)
        draft = Draft(self.roster, context.now)
        self._enter(draft, alarm)
        if draft.judge(alarm):
            draft.settle([alarm.key])
        draft.suppressor_changed(alarm)
        return draft.outcome(alarm)

    def _enter(self, draft: Draft, alarm: Alarm) -> None:
        before = self.roster.alarms.get(alarm.key)
        if before is None:
            if len(self.roster.names(alarm.scope)) >= limits.ALARMS_MAX:
                raise errors.too_many_alarms(limits.ALARMS_MAX)
            fresh = AlarmState(updated_ms=draft.now_ms, changed_ms=draft.now_ms)
            draft.set_state(alarm.key, fresh)
        elif before.type != alarm.type:
            raise errors.invalid(f"An alarm of type {before.type} with this name exists already.", "AlarmName")
        elif not alarm.tags:
            alarm = replace(alarm, tags=before.tags)  # API: the tags of an existing alarm are left as they are
        draft.put_alarm(alarm, "updated" if before else "created")

    def _check_rule(self, alarm: CompositeAlarm) -> None:
        """Raises ValidationError: alarms that are not there, a cycle, too many levels or parents."""
        named = [*alarm.children, *([alarm_key(alarm.scope, alarm.suppressor)] if alarm.suppressor else [])]
        absent = sorted(key.split("/", 2)[2] for key in named if key not in self.roster.alarms and key != alarm.key)
        if absent:
            raise errors.invalid(f"There are no alarms with the names {', '.join(absent[:10])}.", "AlarmRule")
        if alarm.key in named:
            raise errors.invalid("A composite alarm cannot depend on itself.", "AlarmRule")
        for key in alarm.children:
            if len(self.roster.parents.get(key, set()) | {alarm.key}) > limits.RULE_PARENTS_MAX:
                text = f"An alarm can be in the rules of {limits.RULE_PARENTS_MAX} composite alarms at most."
                raise errors.invalid(text, "AlarmRule")
        level = alarm.children
        for _ in range(limits.EXPRESSION_DEPTH_MAX):
            below = (self.roster.alarms.get(key) for key in level)
            level = {key for one in below if isinstance(one, CompositeAlarm) for key in one.children}
            if alarm.key in level:
                raise errors.invalid("The rule makes a cycle of composite alarms.", "AlarmRule")
            if not level:
                return
        most = limits.EXPRESSION_DEPTH_MAX
        raise errors.invalid(f"Composite alarms rest on each other at most {most} levels deep.", "AlarmRule")

    def _delete(self, command: DeleteAlarms, context: Context) -> Outcome:
        """Names that are not there are passed over, as CloudWatch does."""
        _check_count(command.names)
        found = [self.roster.alarms.get(alarm_key(command.scope, name)) for name in dict.fromkeys(command.names)]
        alarms = [alarm for alarm in found if alarm is not None]
        if sum(isinstance(alarm, CompositeAlarm) for alarm in alarms) > 1:
            raise errors.invalid("One composite alarm at most can be deleted in a call.", "AlarmNames")
        gone = {alarm.key for alarm in alarms}
        draft = Draft(self.roster, context.now)
        for alarm in alarms:
            above = self.roster.parents.get(alarm.key, set()) | self.roster.suppresses.get(alarm.key, set())
            if above - gone:
                raise errors.in_use(alarm.name, ", ".join(sorted(self.roster.alarms[key].name for key in above - gone)))
            draft.remember(alarm, CONFIGURED, f'Alarm "{alarm.name}" deleted', json.dumps({"version": "1.0"}))
            draft.records += [Record(STATE, alarm.key, None), Record(ALARM, alarm.key, None)]
        return draft.outcome()

    def _enable(self, command: EnableActions, context: Context) -> Outcome:
        _check_count(command.names)
        draft = Draft(self.roster, context.now)
        for name in dict.fromkeys(command.names):
            alarm = self.roster.alarms.get(alarm_key(command.scope, name))
            if alarm is not None and alarm.enabled != command.enabled:
                draft.put_alarm(with_actions(alarm, command.enabled), "updated")
        return draft.outcome()

    def _tag(self, command: TagAlarm, context: Context) -> Outcome:
        alarm = self.roster.alarms.get(alarm_key(command.scope, command.name))
        if alarm is None:
            raise errors.no_such_alarm(command.name)
        tags = {key: value for key, value in alarm.tags.items() if key not in command.remove}
        tagged = replace(alarm, tags=check_tags({**tags, **command.tags}))
        return Outcome(tagged, [Record(ALARM, alarm.key, tagged.body())])

    # --- states

    def _set_state(self, command: SetAlarmState, context: Context) -> Outcome:
        alarm = self.roster.alarms.get(alarm_key(command.scope, command.name))
        if alarm is None:
            raise errors.no_such_alarm(command.name)
        if command.value not in evaluation.STATES:
            raise errors.invalid(f"The value {command.value[:64]!r} for parameter StateValue is invalid.", "StateValue")
        if len(command.reason) > limits.STATE_REASON_CHARS_MAX:
            raise errors.invalid("The StateReason is too long.", "StateReason")
        _check_data(command.data)
        draft = Draft(self.roster, context.now)
        if command.value != draft.state(alarm.key).value:
            draft.change(alarm, command.value, command.reason, command.data)
            draft.settle([alarm.key])
        return draft.outcome()

    def _done(self, command: ActionDone, context: Context) -> Outcome:
        act = command.act
        alarm = self.roster.alarms.get(act.alarm_key)
        if alarm is None:
            return Outcome()
        draft = Draft(self.roster, context.now)
        state = draft.state(alarm.key)
        if act.arn in state.owed and act.changed_ms == state.changed_ms:
            draft.set_state(alarm.key, replace(state, owed=[arn for arn in state.owed if arn != act.arn]))
        elif act.repeated and not command.error:
            return Outcome()  # every minute one would fill the history
        text = f"Successfully executed action {act.arn}"
        if command.error:
            text = f'Failed to execute action {act.arn}. Received error: "{command.error}"'
        told = {"actionState": "Failed" if command.error else "Succeeded", "notificationResource": act.arn}
        draft.remember(alarm, ACTED, text, json.dumps({**told, "stateUpdateTimestamp": act.changed_ms}))
        return draft.outcome()

    def _tick(self, _: Tick, context: Context) -> Outcome:
        draft = Draft(self.roster, context.now)
        changed = self._evaluate(draft, context.now)
        draft.settle(changed)
        for key in self.roster.waits_over(draft.now_ms):
            if 0 < draft.state(key).until_ms <= draft.now_ms:
                draft.release(self.roster.alarms[key])
        expired = self.roster.expired(draft.now_ms, _EXPIRED_PER_TICK)
        draft.records += [Record(HISTORY, key, None) for key in expired]
        return draft.outcome()

    def _evaluate(self, draft: Draft, now: float) -> list[str]:
        """Judge the alarms that are due; returns those that changed."""
        clock = self.roster.clock
        going_on = bool(clock["after"])
        moment = clock["at"] if going_on else self.roster.moment(now)
        before = clock["before"] if going_on else clock["at"]
        if moment <= before:
            return []
        keys = self.roster.to_evaluate(before, moment, clock["after"])
        batch = keys[: limits.EVALUATIONS_PER_TICK]
        changed = [key for key in batch if self._evaluate_one(draft, key, moment, before)]
        after = batch[-1] if len(keys) > len(batch) else ""
        draft.records.append(Record(CLOCK, CLOCK_KEY, {"at": moment, "before": before, "after": after}))
        return changed

    def _evaluate_one(self, draft: Draft, key: str, moment: int, before: int) -> bool:
        alarm = self.roster.alarms[key]
        assert isinstance(alarm, MetricAlarm)
        state = draft.state(key)
        unit = min(alarm.every, limits.EVALUATION_S)
        found = self._judge.state(alarm, moment // unit * unit, state.value, draft.now_ms)
        if found is not None:
            draft.change(alarm, *found)
            return True
        again = limits.SCALING_REPEAT_S
        if alarm.enabled and moment // again > before // again:
            arns = [arn for arn in alarm.actions.get(state.value, ()) if actions.kind_of(arn) == SCALING]
            draft.effects += actions.effects(alarm, state, arns, repeated=True)
        return False


def _check_count(names: Sequence[str]) -> None:
    if not names:
        raise errors.missing("AlarmNames")
    if len(names) > limits.DELETE_ALARMS_MAX:
        most = limits.DELETE_ALARMS_MAX
        raise errors.invalid(f"The collection AlarmNames must not have a size greater than {most}.", "AlarmNames")


def _check_data(data: str) -> None:
    if len(data) > limits.STATE_REASON_DATA_CHARS_MAX:
        raise errors.invalid("The StateReasonData is too long.", "StateReasonData")
    try:
        if data:
            json.loads(data)
    except ValueError:
        raise errors.bad_json("StateReasonData") from None
