"""One metric alarm at one moment: read, compute, compare, and say why."""

from __future__ import annotations

import json

import numpy as np

from minicloud.metric import evaluation, limits, query, statistics
from minicloud.metric.alarm import MetricAlarm
from minicloud.metric.arithmetic import Line, Value
from minicloud.metric.reading import Span, Window
from minicloud.metric.store import Store

_SHOWN = 20  # ours: points in a reason and its data, which have bounds


class Judge:
    def __init__(self, store: Store) -> None:
        self._store = store

    def state(self, alarm: MetricAlarm, moment: int, current: str, now_ms: int) -> tuple[str, str, str] | None:
        """The new state with its reason and its reason's data; None: it stays. The last period ends at `moment`."""
        count = alarm.periods + limits.EVALUATION_EXTRA
        span = Span(moment - count * alarm.period, alarm.period, count)
        found, window = query.run_with_window(alarm.plan, self._store, span, now_ms / 1000, alarm.watched.id)
        if alarm.low_samples == "ignore" and window is not None and self._too_few(alarm, window):
            return None
        values = _values(found[alarm.watched.id], count)
        verdict = evaluation.judge(alarm.rule, values)
        if verdict.state is None or verdict.state == current:
            return None
        text = evaluation.reason(alarm.rule, verdict, values, span.times())
        return verdict.state, text, _data(alarm, verdict, values, span, window, now_ms)

    def _too_few(self, alarm: MetricAlarm, window: Window) -> bool:
        statistic = statistics.parse(alarm.watched.stat)
        counted = float(window.counts[-alarm.periods :].sum())
        return statistic.kind == "p" and evaluation.low_samples(counted, statistic.quantile)


def _values(value: Value, count: int) -> list[float | None]:
    """Of a result that is no line nothing is there: the data may have been another kind than when it was checked."""
    if not isinstance(value, Line):
        return [None] * count
    values: list[float | None] = value.values.tolist()
    return [None if one != one else one for one in values] if np.isnan(value.values).any() else values


def _data(
    alarm: MetricAlarm,
    verdict: evaluation.Verdict,
    values: list[float | None],
    span: Span,
    window: Window | None,
    now_ms: int,
) -> str:
    """StateReasonData, as CloudWatch writes it."""
    used = verdict.used[-_SHOWN:]
    times = span.times()
    told: dict[str, object] = {"version": "1.0", "queryDate": evaluation.stamp(now_ms)}
    if used:
        told["startDate"] = evaluation.stamp(times[used[0]] * 1000)
    if window is not None:
        told["statistic"] = alarm.watched.stat
    told |= {"period": alarm.period, "recentDatapoints": [values[at] for at in used], "threshold": alarm.threshold}
    told["evaluatedDatapoints"] = [
        {
            "timestamp": evaluation.stamp(times[at] * 1000),
            **({} if window is None else {"sampleCount": float(window.counts[at])}),
            "value": values[at],
        }
        for at in reversed(used)
    ]
    return json.dumps(told)
