"""What a group may be told: the checks of CreateAutoScalingGroup and UpdateAutoScalingGroup. Nothing is ignored."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from minicloud.base.tags import check_tags
from minicloud.scaling import limits
from minicloud.scaling.commands import GroupSettings
from minicloud.scaling.errors import invalid, unsupported
from minicloud.scaling.model import Group

TERMINATION_POLICIES = (
    "Default",
    "OldestInstance",
    "NewestInstance",
    "OldestLaunchTemplate",
    "ClosestToNextInstanceHour",
    "AllocationStrategy",
)
HEALTH_TYPES = ("EC2", "ELB")
PROCESSES = (
    "Launch",
    "Terminate",
    "AddToLoadBalancer",
    "AlarmNotification",
    "AZRebalance",
    "HealthCheck",
    "InstanceRefresh",
    "ReplaceUnhealthy",
    "ScheduledActions",
)

# API, EnableMetricsCollection: of those without weights, which are not here.
METRICS = (
    "GroupMinSize",
    "GroupMaxSize",
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupPendingInstances",
    "GroupStandbyInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
    "WarmPoolDesiredCapacity",
    "WarmPoolWarmedCapacity",
    "WarmPoolPendingCapacity",
    "WarmPoolTerminatingCapacity",
    "WarmPoolTotalCapacity",
    "GroupAndWarmPoolDesiredCapacity",
    "GroupAndWarmPoolTotalCapacity",
)


def check_name(name: str, field: str = "group") -> str:
    """1 to 255 printable characters without a colon. Raises InvalidParameterValue."""
    if not 1 <= len(name) <= limits.GROUP_NAME_CHARS_MAX or not name.isprintable() or ":" in name:
        raise invalid(f"The name '{name[:64]}' must be 1 to 255 printable characters without a colon", field)
    return name


def merged(group: Group, settings: GroupSettings) -> Group:
    """The group with what was given, checked as a whole. A desired that was not given is kept within min and max, a
    default warm-up of -1 is none.

    Raises InvalidParameterValue (ValidationError); nothing has changed then.
    """
    given = {item.name: value for item in fields(settings) if (value := getattr(settings, item.name)) is not None}
    after = replace(group, **given)
    if settings.desired is None and after.min_size <= after.max_size:
        after = replace(after, desired=max(after.min_size, min(after.desired, after.max_size)))
    check_sizes(after.min_size, after.max_size, after.desired)
    _check_places(after)
    _check_times(after)
    _check_lists(after)
    if after.warmup_s == -1:
        after = replace(after, warmup_s=None)
    local = [key for key in dict.fromkeys(after.local_tags) if key in after.tags]
    return replace(after, tags=check_tags(after.tags), local_tags=local)


def check_sizes(low: int, high: int, desired: int) -> None:
    if low < 0 or high > limits.GROUP_SIZE_MAX:
        raise invalid(f"MinSize and MaxSize must be 0 to {limits.GROUP_SIZE_MAX}", "min_size")
    if low > high:
        raise invalid(f"Max bound, {high}, must be greater than or equal to min bound, {low}", "max_size")
    if not low <= desired <= high:
        raise invalid(
            f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}", "desired"
        )


def _check_places(group: Group) -> None:
    if not 1 <= len(group.zones) <= limits.ZONES_MAX or len(set(group.zones)) != len(group.zones):
        raise invalid("At least one Availability Zone or VPC Subnet is required.", "zones")
    if not group.template.get("id"):
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter.",
            "template",
        )
    unknown = set(group.template) - {"id", "name", "version"}
    if unknown:
        raise unsupported(f"LaunchTemplate.{min(unknown)}", "template")
    if len(group.types) > limits.OVERRIDES_MAX or len(set(group.types)) != len(group.types):
        raise invalid(f"Overrides: at most {limits.OVERRIDES_MAX}, each type once", "types")
    if group.types and group.warm is not None:
        raise invalid("You can't use a warm pool with a group that has a mixed instances policy", "types")


def _check_times(group: Group) -> None:
    if group.cooldown_s < 0:
        raise invalid("DefaultCooldown must be at least 0", "cooldown_s")
    if group.warmup_s is not None and not -1 <= group.warmup_s <= limits.WARMUP_S_MAX:
        raise invalid(f"DefaultInstanceWarmup must be -1 to {limits.WARMUP_S_MAX}", "warmup_s")
    if group.grace_s < 0:
        raise invalid("HealthCheckGracePeriod must be at least 0", "grace_s")
    life = group.max_lifetime_s
    if life and not limits.LIFETIME_S_MIN <= life <= limits.LIFETIME_S_MAX:
        raise invalid(
            f"MaxInstanceLifetime must be 0 or {limits.LIFETIME_S_MIN} to {limits.LIFETIME_S_MAX} seconds",
            "max_lifetime_s",
        )


def _check_lists(group: Group) -> None:
    for name in group.health_types:
        if name not in HEALTH_TYPES:
            raise unsupported(f"HealthCheckType '{name[:32]}'", "health_types")
    if not group.health_types:
        raise invalid("HealthCheckType must not be empty", "health_types")
    if not group.termination_policies:
        raise invalid("TerminationPolicies must not be empty", "termination_policies")
    for name in group.termination_policies:
        if name not in TERMINATION_POLICIES:
            raise unsupported(f"Termination policy '{name[:64]}'", "termination_policies")
    if len(group.target_groups) > limits.TARGET_GROUPS_MAX:
        raise invalid(f"TargetGroupARNs: at most {limits.TARGET_GROUPS_MAX}", "target_groups")
    for process in group.suspended:
        if process not in PROCESSES:
            raise invalid(f"{process[:64]} is not a valid process type", "processes")


def configuration(group: Group) -> dict[str, Any]:
    """What a launch takes from a group, and what a refresh compares."""
    found = asdict(group)
    return {"template": found["template"], "types": found["types"]}
