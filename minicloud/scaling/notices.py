"""What targets of lifecycle hooks, topics and rules are told. Source: EC2 Auto Scaling User Guide, "Lifecycle hook
notifications", "Amazon SNS notification options" and "Amazon EC2 Auto Scaling events"."""

from __future__ import annotations

import json
from typing import Any

from minicloud.base.arn import Scope
from minicloud.scaling import texts
from minicloud.scaling.model import Activity, Group, Member

SERVICE = "AWS Auto Scaling"
LAUNCHED, LAUNCH_FAILED = "autoscaling:EC2_INSTANCE_LAUNCH", "autoscaling:EC2_INSTANCE_LAUNCH_ERROR"
ENDED, END_FAILED = "autoscaling:EC2_INSTANCE_TERMINATE", "autoscaling:EC2_INSTANCE_TERMINATE_ERROR"
TEST = "autoscaling:TEST_NOTIFICATION"
EVENTS = (LAUNCHED, LAUNCH_FAILED, ENDED, END_FAILED, TEST)
SOURCE, BUS = "aws.autoscaling", "arn:aws:events:"
_DETAIL_TYPES = {
    LAUNCHED: "EC2 Instance Launch Successful",
    LAUNCH_FAILED: "EC2 Instance Launch Unsuccessful",
    ENDED: "EC2 Instance Terminate Successful",
    END_FAILED: "EC2 Instance Terminate Unsuccessful",
}
_WORDS = {LAUNCHED: "launch", LAUNCH_FAILED: "failed launch", ENDED: "termination", END_FAILED: "failed termination"}


def event_of(description: str, status: str) -> str:
    """What the end of an activity is called; "" where nobody is told."""
    both = {"Launching": (LAUNCHED, LAUNCH_FAILED), "Terminating": (ENDED, END_FAILED)}.get(description.split(" ")[0])
    return "" if both is None else {"Successful": both[0], "Failed": both[1]}.get(status, "")


def bus_of(scope: Scope) -> str:
    """As what the event bus of a scope is told, beside topics."""
    return f"{BUS}{scope.region}:{scope.account}:event-bus/default"


def activity_subject(group: Group, activity: Activity) -> str:
    words = _WORDS[event_of(activity.description, activity.status)]
    return f'Auto Scaling: {words} for group "{group.name}"'[:100]


def activity_notice(group: Group, activity: Activity) -> str:
    """For topics."""
    told = {
        **_facts(group, activity),
        "Progress": activity.progress,
        "AccountId": group.account,
        "AutoScalingGroupARN": group.arn,
        "Service": SERVICE,
        "Time": texts.stamp(activity.end or activity.start),
        "Event": event_of(activity.description, activity.status),
    }
    return json.dumps(told)


def activity_event(group: Group, activity: Activity) -> str:
    """For the event bus: an event without what every event has. `time`: Unix seconds."""
    told = {
        "key": activity.id,
        "source": SOURCE,
        "detail-type": _DETAIL_TYPES[event_of(activity.description, activity.status)],
        "time": activity.end or activity.start,
        "resources": [group.arn],
        "detail": _facts(group, activity),
    }
    if activity.instance_id:
        told["resources"] = [group.arn, group.scope.arn("ec2", f"instance/{activity.instance_id}")]
    return json.dumps(told)


def _facts(group: Group, activity: Activity) -> dict[str, Any]:
    launch = event_of(activity.description, activity.status) in (LAUNCHED, LAUNCH_FAILED)
    return {
        "Origin": "EC2" if launch else "AutoScalingGroup",
        "Destination": "AutoScalingGroup" if launch else "EC2",
        "Description": activity.description,
        "RequestId": activity.id,
        "EndTime": texts.stamp(activity.end or activity.start),
        "ActivityId": activity.id,
        "StartTime": texts.stamp(activity.start),
        "EC2InstanceId": activity.instance_id,
        "StatusCode": activity.status,
        "StatusMessage": activity.message,
        "Details": {},
        "AutoScalingGroupName": group.name,
        "Cause": activity.cause,
    }


def trial_subject(group: Group) -> str:
    return f'Auto Scaling: test notification for group "{group.name}"'[:100]


def trial_notice(group: Group, now: float) -> str:
    told = {
        "AccountId": group.account,
        "RequestId": group.uid,
        "AutoScalingGroupARN": group.arn,
        "AutoScalingGroupName": group.name,
        "Service": SERVICE,
        "Event": TEST,
        "Time": texts.stamp(now),
    }
    return json.dumps(told)


def hook_subject(group: Group, hook: str) -> str:
    transition = group.hooks[hook]["transition"].rpartition(":")[2]
    return f"Auto Scaling: {transition} lifecycle action for {group.name}"[:100]


def hook_notice(group: Group, member: Member, hook: str, now: float) -> str:
    kept, wait = group.hooks[hook], (member.waits or {})[hook]
    origin, destination = _way(member)
    told: dict[str, Any] = {
        "LifecycleHookName": hook,
        "AccountId": group.account,
        "RequestId": wait["token"],
        "LifecycleTransition": kept["transition"],
        "AutoScalingGroupName": group.name,
        "Service": SERVICE,
        "Time": texts.stamp(now),
        "EC2InstanceId": member.instance_id,
        "LifecycleActionToken": wait["token"],
        "Origin": origin,
        "Destination": destination,
    }
    if kept["metadata"]:
        told["NotificationMetadata"] = kept["metadata"]
    return json.dumps(told)


def _way(member: Member) -> tuple[str, str]:
    """Where an instance that waits comes from, and where it goes."""
    pool = "WarmPool" if member.state.startswith("Warmed") else "AutoScalingGroup"
    if member.returning:
        return "AutoScalingGroup", pool
    if member.state not in ("Pending:Wait", "Warmed:Pending:Wait"):
        return pool, "EC2"
    return ("WarmPool" if member.warmed and pool != "WarmPool" else "EC2"), pool
