"""All alarms with their states and history, and the indexes that decisions read. `apply` is the only mutator."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Record
from minicloud.metric import limits
from minicloud.metric.alarm import (
    ALARM,
    CLOCK,
    HISTORY,
    STATE,
    Alarm,
    AlarmState,
    CompositeAlarm,
    HistoryItem,
    MetricAlarm,
    alarm_key,
)
from minicloud.metric.model import Metric

CLOCK_KEY = "metric"
_START: dict[str, Any] = {"at": 0, "before": 0, "after": ""}


class Roster:
    def __init__(self) -> None:
        self.alarms: dict[str, Alarm] = {}
        self.states: dict[str, AlarmState] = {}
        self.history: dict[str, list[str]] = {}  # alarm key -> keys of its items, oldest first
        self.items: dict[str, HistoryItem] = {}
        self.clock = dict(_START)  # the moment evaluated last; the alarm reached in it
        self.parents: dict[str, set[str]] = {}  # alarm key -> composites with it in their rule
        self.suppresses: dict[str, set[str]] = {}  # alarm key -> composites whose suppressor it is
        self.owing: set[str] = set()
        self._names: dict[Scope, list[str]] = {}
        self._oldest: list[str] = []  # keys of items, oldest first
        self._of_scope: dict[str, list[str]] = {}  # account/region -> the same, of its alarms
        self._evaluated: dict[int, list[str]] = {}  # seconds between evaluations -> keys
        self._of_metric: dict[Metric, set[str]] = {}
        self._waits: list[tuple[int, str]] = []

    # --- changing

    def apply(self, record: Record) -> None:
        if record.kind == ALARM:
            self._apply_alarm(record.key, record.body)
        elif record.kind == STATE:
            self._apply_state(record.key, record.body)
        elif record.kind == HISTORY:
            self._apply_item(record.key, record.body)
        else:
            self.clock = dict(_START if record.body is None else record.body)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        if kind == CLOCK:
            return self.clock
        tables: dict[str, dict[str, Any]] = {ALARM: self.alarms, STATE: self.states, HISTORY: self.items}
        found = tables[kind].get(key)
        body: dict[str, Any] | None = None if found is None else found.body()
        return body

    def _apply_alarm(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.alarms.pop(key, None)
        if before is not None:
            self._index(before, _discard)
            if body is None:
                _remove(self._names, before.scope, before.name)
        if body is None:
            return
        alarm: Alarm = CompositeAlarm.from_body(body) if "text" in body else MetricAlarm.from_body(body)
        self.alarms[key] = alarm
        self._index(alarm, _include)
        if before is None:
            insort(self._names.setdefault(alarm.scope, []), alarm.name)

    def _index(self, alarm: Alarm, change: Any) -> None:
        if isinstance(alarm, CompositeAlarm):
            for child in alarm.children:
                change(self.parents, child, alarm.key)
            if alarm.suppressor:
                change(self.suppresses, alarm_key(alarm.scope, alarm.suppressor), alarm.key)
            return
        for query, _ in alarm.plan.metrics:
            if query.metric is not None:
                change(self._of_metric, query.metric, alarm.key)
        if change is _include:
            insort(self._evaluated.setdefault(alarm.every, []), alarm.key)
        else:
            _remove(self._evaluated, alarm.every, alarm.key)

    def _apply_state(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.states.pop(key, None)
        if before is not None and before.until_ms:
            del self._waits[bisect_left(self._waits, (before.until_ms, key))]
        self.owing.discard(key)
        if body is None:
            return
        state = self.states[key] = AlarmState.from_body(body)
        if state.until_ms:
            insort(self._waits, (state.until_ms, key))
        if state.owed:
            self.owing.add(key)

    def _apply_item(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.items.pop(key, None)
        if before is not None:
            del self._oldest[bisect_left(self._oldest, key)]
            _remove(self.history, before.alarm, key)
            _remove(self._of_scope, _scope_of(before.alarm), key)
        if body is not None:
            item = self.items[key] = HistoryItem.from_body(body)
            insort(self._oldest, key)
            insort(self.history.setdefault(item.alarm, []), key)
            insort(self._of_scope.setdefault(_scope_of(item.alarm), []), key)

    # --- reading

    def state(self, key: str) -> AlarmState:
        return self.states.get(key) or AlarmState()

    def names(self, scope: Scope) -> list[str]:
        """Sorted."""
        return self._names.get(scope, [])

    def history_of(self, scope: Scope, name: str = "") -> list[str]:
        """Keys of items, oldest first: of one alarm, or of all."""
        key = alarm_key(scope, name)
        return self.history.get(key, []) if name else self._of_scope.get(_scope_of(key), [])

    def of_metric(self, metric: Metric) -> list[str]:
        return sorted(self._of_metric.get(metric, ()))

    def due(self) -> float | None:
        """When something is to be done: an evaluation, the end of a wait, history that expires."""
        moments = [ms / 1000 for ms, _ in self._waits[:1]]
        if self._oldest:
            full = len(self._oldest) > limits.HISTORY_TOTAL_MAX
            moments.append(0.0 if full else int(self._oldest[0].split("/", 1)[0]) / 1000 + limits.HISTORY_S)
        if self.clock["after"]:
            moments.append(self.clock["at"] + limits.EVALUATION_DELAY_S)
        for every in self._evaluated:
            next_at = (self.clock["at"] // every + 1) * every
            moments.append(next_at + limits.EVALUATION_DELAY_S)
        return min(moments, default=None)

    def moment(self, now: float) -> int:
        """The newest moment that can be evaluated: its data have had time to come."""
        unit = min(self._evaluated, default=limits.EVALUATION_S)
        return int((now - limits.EVALUATION_DELAY_S) // unit) * unit

    def to_evaluate(self, before: int, moment: int, after: str) -> list[str]:
        """The keys behind `after` of what is due at a moment, having been evaluated at the moment `before`."""
        due = [keys for every, keys in self._evaluated.items() if moment // every > before // every]
        keys = due[0] if len(due) == 1 else sorted(key for some in due for key in some)
        return keys[bisect_right(keys, after) :] if after else keys

    def waits_over(self, now_ms: int) -> list[str]:
        return [key for _, key in self._waits[: bisect_right(self._waits, (now_ms, "\U0010ffff"))]]

    def expired(self, now_ms: int, most: int) -> list[str]:
        """Items that are too old; where there are none of these, too many: the oldest of whoever has most."""
        last = f"{max(now_ms - limits.HISTORY_S * 1000, 0):015d}/\U0010ffff"
        old = self._oldest[: min(bisect_right(self._oldest, last), most)]
        surplus = len(self._oldest) - limits.HISTORY_TOTAL_MAX
        if old or surplus <= 0:
            return old
        return max(self._of_scope.values(), key=len)[: min(surplus, most)]

    def above(self, keys: Iterable[str]) -> list[CompositeAlarm]:
        """Every composite alarm that rests on these, each behind those of them that it rests on itself."""
        ordered: dict[str, None] = {}

        def visit(key: str, path: tuple[str, ...]) -> None:
            for parent in sorted(self.parents.get(key, ())):
                if parent not in path and parent not in ordered:
                    visit(parent, (*path, parent))
            if path and key == path[-1]:
                ordered[key] = None

        for key in sorted(keys):
            visit(key, ())
        found = [self.alarms[key] for key in reversed(ordered)]
        return [one for one in found if isinstance(one, CompositeAlarm)]


def _scope_of(key: str) -> str:
    """account/region of an alarm's key."""
    return key[: key.index("/", key.index("/") + 1)]


def _include(index: dict[Any, set[str]], name: Any, key: str) -> None:
    index.setdefault(name, set()).add(key)


def _discard(index: dict[Any, set[str]], name: Any, key: str) -> None:
    keys = index[name]
    keys.discard(key)
    if not keys:
        del index[name]


def _remove(lists: dict[Any, list[str]], name: Any, key: str) -> None:
    keys = lists[name]
    del keys[bisect_left(keys, key)]
    if not keys:
        del lists[name]
