"""What the target of a lifecycle hook is told. Source: EC2 Auto Scaling User Guide, "Lifecycle hook notifications"."""

from __future__ import annotations

import json
from typing import Any

from minicloud.scaling import texts
from minicloud.scaling.model import Group, Member

SERVICE = "AWS Auto Scaling"


def hook_subject(group: Group, hook: str) -> str:
    transition = group.hooks[hook]["transition"].rpartition(":")[2]
    return f"Auto Scaling: {transition} lifecycle action for {group.name}"[:100]


def hook_notice(group: Group, member: Member, hook: str, now: float) -> str:
    kept, wait = group.hooks[hook], (member.waits or {})[hook]
    launching = member.state in ("Pending:Wait", "Warmed:Pending:Wait")
    pool = "WarmPool" if member.state.startswith("Warmed") else "AutoScalingGroup"
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
        "Origin": ("WarmPool" if member.warmed and pool != "WarmPool" else "EC2") if launching else pool,
        "Destination": pool if launching else "EC2",
    }
    if kept["metadata"]:
        told["NotificationMetadata"] = kept["metadata"]
    return json.dumps(told)
