"""Made from `minicloud/client/alarms.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from minicloud.client.alarms import AsyncAlarms
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import metric_models
else:
    metric_models = lazy("minicloud.client.metric_models")


class Alarms:
    """What happens when a metric crosses a line: a topic is told, a group scales, an instance is stopped."""

    _inner: AsyncAlarms

    def __init__(self, inner: AsyncAlarms, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def put(
        self,
        name: str,
        comparison: str,
        threshold: float,
        *,
        metric: metric_models.Metric | None = None,
        stat: str = "Average",
        period_s: int = 60,
        unit: str = "",
        queries: Sequence[metric_models.MetricQuery] = (),
        evaluation_periods: int = 1,
        datapoints_to_alarm: int = 0,
        missing_data: str = "",
        low_sample_percentile: str = "",
        description: str = "",
        actions_enabled: bool = True,
        alarm_actions: Sequence[str] = (),
        ok_actions: Sequence[str] = (),
        insufficient_data_actions: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> metric_models.Alarm:
        """Make an alarm, or change the one of this name as a whole.

        comparison: GreaterThanThreshold, GreaterThanOrEqualToThreshold, LessThanThreshold, LessThanOrEqualToThreshold.
        metric with stat, period_s and unit; or queries, one of them not hidden. datapoints_to_alarm: of the
        evaluation_periods (0: all). missing_data: missing, breaching, notBreaching, ignore. actions: ARNs of topics,
        scaling policies, arn:aws:automate:REGION:ec2:stop (terminate, reboot, recover). Raises InvalidRequest.
        """
        return self._loop.run(
            self._inner.put(
                name,
                comparison,
                threshold,
                metric=metric,
                stat=stat,
                period_s=period_s,
                unit=unit,
                queries=queries,
                evaluation_periods=evaluation_periods,
                datapoints_to_alarm=datapoints_to_alarm,
                missing_data=missing_data,
                low_sample_percentile=low_sample_percentile,
                description=description,
                actions_enabled=actions_enabled,
                alarm_actions=alarm_actions,
                ok_actions=ok_actions,
                insufficient_data_actions=insufficient_data_actions,
                tags=tags,
            )
        )

    def put_composite(
        self,
        name: str,
        rule: str,
        *,
        suppressor: str = "",
        suppressor_wait_s: int | None = None,
        suppressor_extension_s: int | None = None,
        description: str = "",
        actions_enabled: bool = True,
        alarm_actions: Sequence[str] = (),
        ok_actions: Sequence[str] = (),
        insufficient_data_actions: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
    ) -> metric_models.Alarm:
        """An alarm on alarms: rule 'ALARM("a") AND NOT OK("b")'. suppressor: the alarm that holds its actions back."""
        return self._loop.run(
            self._inner.put_composite(
                name,
                rule,
                suppressor=suppressor,
                suppressor_wait_s=suppressor_wait_s,
                suppressor_extension_s=suppressor_extension_s,
                description=description,
                actions_enabled=actions_enabled,
                alarm_actions=alarm_actions,
                ok_actions=ok_actions,
                insufficient_data_actions=insufficient_data_actions,
                tags=tags,
            )
        )

    def get(self, name: str) -> metric_models.Alarm | None:
        """None: there is no alarm of this name."""
        return self._loop.run(self._inner.get(name))

    def list(
        self,
        *,
        names: Sequence[str] = (),
        prefix: str = "",
        types: Sequence[str] = ("MetricAlarm", "CompositeAlarm"),
        state: str = "",
        action_prefix: str = "",
        page_size: int = 100,
    ) -> Iterator[metric_models.Alarm]:
        """By name. Pages are fetched as they are needed. Raises InvalidRequest."""
        return self._loop.iterate(
            self._inner.list(
                names=names, prefix=prefix, types=types, state=state, action_prefix=action_prefix, page_size=page_size
            )
        )

    def family(self, *, children_of: str = "", parents_of: str = "") -> tuple[metric_models.Alarm, ...]:
        """The alarms of a composite alarm's rule, or the composite alarms with this alarm in theirs; the first 100."""
        return self._loop.run(self._inner.family(children_of=children_of, parents_of=parents_of))

    def for_metric(
        self, metric: metric_models.Metric, *, stat: str = "", period_s: int = 0, unit: str = ""
    ) -> tuple[metric_models.Alarm, ...]:
        """Alarms on this metric, not those on expressions over it."""
        return self._loop.run(self._inner.for_metric(metric, stat=stat, period_s=period_s, unit=unit))

    def history(
        self,
        name: str = "",
        *,
        kind: str = "",
        start: datetime | float | None = None,
        end: datetime | float | None = None,
        oldest_first: bool = False,
    ) -> Iterator[metric_models.AlarmHistoryItem]:
        """What happened to an alarm, or to all. kind: ConfigurationUpdate, StateUpdate, Action."""
        return self._loop.iterate(self._inner.history(name, kind=kind, start=start, end=end, oldest_first=oldest_first))

    def delete(self, *names: str) -> None:
        """Up to 100; one that is not there is not an error. Raises Conflict (a composite alarm needs it)."""
        self._loop.run(self._inner.delete(*names))

    def set_state(self, name: str, state: str, reason: str, reason_data: str = "") -> metric_models.Alarm:
        """For a try: the next evaluation looks at the metric again. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._inner.set_state(name, state, reason, reason_data))

    def enable_actions(self, *names: str) -> None:
        """Up to 100; one that is not there is passed over."""
        self._loop.run(self._inner.enable_actions(*names))

    def disable_actions(self, *names: str) -> None:
        """Its state goes on changing, nobody is told."""
        self._loop.run(self._inner.disable_actions(*names))

    def tag(self, name: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then. Raises NotFound."""
        return self._loop.run(self._inner.tag(name, tags))

    def untag(self, name: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(name, *keys))
