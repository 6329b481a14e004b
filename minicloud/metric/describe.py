"""DescribeAlarms, DescribeAlarmsForMetric, DescribeAlarmHistory: what is shown, in pages. Pure reading."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from minicloud.base.arn import Scope
from minicloud.metric import errors, evaluation, limits
from minicloud.metric.alarm import (
    COMPOSITE_ALARM,
    METRIC_ALARM,
    Alarm,
    AlarmState,
    CompositeAlarm,
    HistoryItem,
    alarm_key,
)
from minicloud.metric.model import Metric
from minicloud.metric.roster import Roster

Shown = tuple[Alarm, AlarmState]
_KINDS = ("ConfigurationUpdate", "StateUpdate", "Action")


@dataclass(frozen=True, slots=True)
class Asked:
    """API, DescribeAlarms. `types`: metric alarms alone where none is named, as CloudWatch. "" for any."""

    names: Sequence[str] = ()
    prefix: str = ""
    types: Sequence[str] = ()
    state: str = ""
    action_prefix: str = ""
    children_of: str = ""
    parents_of: str = ""


def alarms(roster: Roster, scope: Scope, asked: Asked, after: str = "", most: int = 50) -> tuple[list[Shown], str]:
    """A page by name behind `after`, and the name to go on after ("": it was the last). Raises ValidationError."""
    _check(asked, most)
    names = _candidates(roster, scope, asked)
    types = asked.types or ((METRIC_ALARM, COMPOSITE_ALARM) if _family(asked) else (METRIC_ALARM,))
    found: list[Shown] = []
    first = max(bisect_left(names, asked.prefix), bisect_right(names, after) if after else 0)
    for name in islice(names, first, None):
        if not name.startswith(asked.prefix):
            break
        alarm = roster.alarms.get(alarm_key(scope, name))
        if alarm is None or alarm.type not in types:
            continue
        state = roster.state(alarm.key)
        if asked.state and state.value != asked.state:
            continue
        arns = [arn for arns in alarm.actions.values() for arn in arns]
        if asked.action_prefix and not any(arn.startswith(asked.action_prefix) for arn in arns):
            continue
        if len(found) == most:
            return found, found[-1][0].name
        found.append((alarm, state))
    return found, ""


def alarms_for_metric(roster: Roster, metric: Metric, stat: str = "", period: int = 0, unit: str = "") -> list[Shown]:
    """Alarms on one metric, not those on expressions over it (API, DescribeAlarmsForMetric)."""
    found: list[Shown] = []
    for key in roster.of_metric(metric):
        alarm = roster.alarms[key]
        if isinstance(alarm, CompositeAlarm) or not alarm.single:
            continue
        watched = alarm.watched
        if stat in ("", watched.stat) and period in (0, watched.period) and unit in ("", watched.unit):
            found.append((alarm, roster.state(key)))
    return found


@dataclass(frozen=True, slots=True)
class AskedHistory:
    """API, DescribeAlarmHistory. Times in Unix seconds, inclusive; 0 for none."""

    name: str = ""
    types: Sequence[str] = ()
    kind: str = ""
    start: float = 0.0
    end: float = 0.0
    newest_first: bool = True


def history(
    roster: Roster, scope: Scope, asked: AskedHistory, after: str = "", most: int = 100
) -> tuple[list[HistoryItem], str]:
    """A page behind the key `after`, and the key to go on after. Raises ValidationError."""
    if asked.kind and asked.kind not in _KINDS:
        raise errors.invalid(
            f"The value {asked.kind[:64]!r} for parameter HistoryItemType is invalid.", "HistoryItemType"
        )
    _check_page(most)
    keys = roster.history_of(scope, asked.name)
    types = asked.types or ((METRIC_ALARM, COMPOSITE_ALARM) if asked.name else (METRIC_ALARM,))
    found: list[HistoryItem] = []
    for place in _places(keys, asked, after):
        item = roster.items[keys[place]]
        if item.type not in types or asked.kind not in ("", item.kind):
            continue
        if len(found) == most:
            return found, found[-1].key
        found.append(item)
    return found, ""


def _places(keys: Sequence[str], asked: AskedHistory, after: str) -> Iterable[int]:
    """Of the items between the two times, behind `after`, in the order that is asked for."""
    low = bisect_left(keys, _moment(math.ceil(asked.start * 1000)))
    high = bisect_left(keys, _moment(math.floor(asked.end * 1000) + 1)) if asked.end else len(keys)
    if not asked.newest_first:
        return range(max(low, bisect_right(keys, after) if after else 0), high)
    return range((min(high, bisect_left(keys, after)) if after else high) - 1, low - 1, -1)


def _moment(ms: int) -> str:
    """Before every key of this time, behind those of the time before."""
    return f"{min(max(ms, 0), 10**15 - 1):015d}/"


def _family(asked: Asked) -> bool:
    return bool(asked.children_of or asked.parents_of)


def _check(asked: Asked, most: int) -> None:
    _check_page(most)
    rest = (asked.prefix, asked.types, asked.state, asked.action_prefix)
    if asked.names and asked.prefix:
        raise errors.invalid("AlarmNames and AlarmNamePrefix cannot be specified together.", "AlarmNamePrefix")
    if len(asked.names) > limits.DESCRIBE_PAGE_MAX:
        text = f"The collection AlarmNames must not have a size greater than {limits.DESCRIBE_PAGE_MAX}."
        raise errors.invalid(text, "AlarmNames")
    if _family(asked) and (any(rest) or asked.names or (asked.children_of and asked.parents_of)):
        text = "ChildrenOfAlarmName and ParentsOfAlarmName cannot be specified with other parameters."
        raise errors.invalid(text, "ChildrenOfAlarmName")
    if asked.state and asked.state not in evaluation.STATES:
        raise errors.invalid(f"The value {asked.state[:64]!r} for parameter StateValue is invalid.", "StateValue")
    if any(one not in (METRIC_ALARM, COMPOSITE_ALARM) for one in asked.types):
        raise errors.invalid("AlarmTypes are MetricAlarm and CompositeAlarm here.", "AlarmTypes")


def _check_page(most: int) -> None:
    if not 1 <= most <= limits.DESCRIBE_PAGE_MAX:
        raise errors.invalid(f"MaxRecords must be 1 to {limits.DESCRIBE_PAGE_MAX}.", "MaxRecords")


def _candidates(roster: Roster, scope: Scope, asked: Asked) -> list[str]:
    """Names in order, not more than needed."""
    if asked.names:
        return sorted(set(asked.names))
    if asked.parents_of:
        keys = roster.parents.get(alarm_key(scope, asked.parents_of), set())
        return sorted(roster.alarms[key].name for key in keys)
    if asked.children_of:
        alarm = roster.alarms.get(alarm_key(scope, asked.children_of))
        keys = alarm.children if isinstance(alarm, CompositeAlarm) else set()
        return sorted(roster.alarms[key].name for key in keys if key in roster.alarms)
    return roster.names(scope)
