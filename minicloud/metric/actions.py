"""What alarms do: which ARNs are actions, and what a topic is told.

    arn:aws:sns:REGION:ACCOUNT:TOPIC                            a notification, once for each change of state
    arn:aws:autoscaling:REGION:ACCOUNT:scalingPolicy:...        at the change, then every minute while the state lasts
    arn:aws:automate:REGION:ec2:stop|terminate|reboot|recover   once, on the instance of the metric's InstanceId

Other services' (Lambda, Systems Manager) are refused by name. Composite alarms notify topics only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minicloud.base.arn import Scope
from minicloud.metric import errors, limits
from minicloud.metric.alarm import Alarm, AlarmState, MetricAlarm
from minicloud.metric.evaluation import stamp
from minicloud.metric.query import Query

TOPIC, SCALING, EC2 = "topic", "scaling", "ec2"
_FORMS = (
    (TOPIC, re.compile(r"arn:aws:sns:(?P<region>[^:]+):(?P<account>\d{12}):[\w.-]+\Z")),
    (SCALING, re.compile(r"arn:aws:autoscaling:(?P<region>[^:]+):(?P<account>\d{12}):scalingPolicy:\S+\Z")),
    (EC2, re.compile(r"arn:aws:automate:(?P<region>[^:]+):ec2:(stop|terminate|reboot|recover)\Z")),
    (EC2, re.compile(r"arn:aws:swf:(?P<region>[^:]+):(?P<account>\d{12}):action/actions/"
                     r"AWS_EC2\.InstanceId\.(Stop|Terminate|Reboot|Recover)/1\.0\Z")),
)  # fmt: skip
_ELSEWHERE = re.compile(r"arn:aws:(lambda|ssm|ssm-incidents|aiops):")


@dataclass(frozen=True, slots=True)
class Act:
    """The effect: carry one action out, at least once. `repeated`: the same state goes on (scaling).

    Report it with alarms.ActionDone. `verb` and `instance_id`: of an EC2 action. `message`: of a notification.
    """

    kind: str
    arn: str
    alarm_key: str
    scope: Scope
    state: str
    changed_ms: int
    repeated: bool = False
    verb: str = ""
    instance_id: str = ""
    subject: str = ""
    message: str = ""
    reason_data: str = ""


def kind_of(arn: str) -> str:
    """ "" for no action."""
    return next((kind for kind, form in _FORMS if form.match(arn)), "")


def check(arns: Sequence[str], field: str, scope: Scope, allowed: Sequence[str]) -> list[str]:
    """Raises ValidationError, UnsupportedOperation."""
    if len(arns) > limits.ALARM_ACTIONS_MAX:
        most = limits.ALARM_ACTIONS_MAX
        raise errors.invalid(f"The collection {field} must not have a size greater than {most}.", field)
    if len(set(arns)) < len(arns):
        raise errors.invalid(f"The collection {field} names an action twice.", field)
    for arn in arns:
        _check_one(arn, field, scope, allowed)
    return list(arns)


def _check_one(arn: str, field: str, scope: Scope, allowed: Sequence[str]) -> None:
    if _ELSEWHERE.match(arn):
        raise errors.not_supported(f"The action {arn[:256]}", field)
    match = next((match for _, form in _FORMS if (match := form.match(arn))), None)
    if match is None or len(arn) > limits.ALARM_ACTION_CHARS_MAX:
        raise errors.invalid(f"Invalid arn syntax: {arn[:256]}", field)
    if match["region"] != scope.region:
        raise errors.invalid(f"Invalid region {match['region']} specified. Only {scope.region} is supported.", field)
    if match.groupdict().get("account", scope.account) != scope.account:
        raise errors.not_supported(f"An action in another account ({arn[:256]})", field)
    if kind_of(arn) not in allowed:
        raise errors.invalid(f"The action {arn[:256]} is not supported by alarms of this kind.", field)


def effects(alarm: Alarm, state: AlarmState, arns: Sequence[str], repeated: bool = False) -> list[Act]:
    return [_effect(alarm, state, arn, repeated) for arn in arns]


def _effect(alarm: Alarm, state: AlarmState, arn: str, repeated: bool) -> Act:
    kind = kind_of(arn)
    verb = instance_id = subject = message = ""
    if kind == EC2:
        verb = re.split(r"[:.]", arn.removesuffix("/1.0"))[-1].lower()
        metric = alarm.watched.metric if isinstance(alarm, MetricAlarm) else None
        instance_id = dict(metric.dimensions).get("InstanceId", "") if metric is not None else ""
    elif kind == TOPIC:
        subject = f'{state.value}: "{alarm.name}" in {alarm.region}'[:100]
        message = json.dumps(_notification(alarm, state))
    return Act(
        kind, arn, alarm.key, alarm.scope, state.value, state.changed_ms, repeated, verb, instance_id, subject, message,
        state.data,
    )  # fmt: skip


def _notification(alarm: Alarm, state: AlarmState) -> dict[str, Any]:
    """Guide, "Notifications": the JSON that a topic gets."""
    told: dict[str, Any] = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description or None,
        "AWSAccountId": alarm.account,
        "AlarmConfigurationUpdatedTimestamp": stamp(alarm.configured_ms),
        "NewStateValue": state.value,
        "NewStateReason": state.reason,
        "StateChangeTime": stamp(state.changed_ms),
        "Region": alarm.region,
        "AlarmArn": alarm.arn,
        "OldStateValue": state.previous,
        "OKActions": alarm.actions.get("OK", []),
        "AlarmActions": alarm.actions.get("ALARM", []),
        "InsufficientDataActions": alarm.actions.get("INSUFFICIENT_DATA", []),
    }
    if isinstance(alarm, MetricAlarm):
        told["Trigger"] = _trigger(alarm)
    else:
        told["AlarmRule"] = alarm.text
    return told


def _trigger(alarm: MetricAlarm) -> dict[str, Any]:
    rest = {
        "Period": alarm.period,
        "EvaluationPeriods": alarm.periods,
        "DatapointsToAlarm": alarm.needed,
        "ComparisonOperator": alarm.comparison,
        "Threshold": alarm.threshold,
        "TreatMissingData": alarm.missing,
        "EvaluateLowSampleCountPercentile": alarm.low_samples,
    }
    if not alarm.single:
        return {**rest, "Metrics": [_query(one) for one in alarm.queries]}
    watched = alarm.watched
    assert watched.metric is not None
    simple = not watched.stat.startswith("p")
    return {
        "MetricName": watched.metric.name,
        "Namespace": watched.metric.namespace,
        "StatisticType": "Statistic" if simple else "ExtendedStatistic",
        "Statistic" if simple else "ExtendedStatistic": watched.stat.upper() if simple else watched.stat,
        "Unit": watched.unit or None,
        "Dimensions": [{"value": value, "name": name} for name, value in watched.metric.dimensions],
        **rest,
    }


def _query(one: Query) -> dict[str, Any]:
    told: dict[str, Any] = {"Id": one.id, "Label": one.label, "ReturnData": one.returned}
    if one.metric is None:
        return {**told, "Expression": one.expression}
    dimensions = [{"value": value, "name": name} for name, value in one.metric.dimensions]
    metric = {"Dimensions": dimensions, "MetricName": one.metric.name, "Namespace": one.metric.namespace}
    return {**told, "MetricStat": {"Metric": metric, "Period": one.period, "Stat": one.stat}}
