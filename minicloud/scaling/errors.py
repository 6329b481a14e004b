"""The errors of auto scaling: classes of the one tree (base/errors.py) with the autoscaling API's codes and texts."""

from __future__ import annotations

from minicloud.base.errors import AlreadyExists, Conflict, InvalidParameterValue, LimitExceeded, NotFound


def invalid(text: str, field: str) -> InvalidParameterValue:
    """`ValidationError`: what the API answers to everything that is not well formed, unknown names included."""
    return InvalidParameterValue(text, code="ValidationError", field=field)


def unsupported(what: str, field: str) -> InvalidParameterValue:
    return invalid(f"{what} is not supported by minicloud", field)


def no_such_group(name: str) -> NotFound:
    return NotFound(
        f"AutoScalingGroup name not found - AutoScalingGroup '{name[:255]}' not found",
        code="ValidationError",
        field="group",
    )


def no_such_template(reference: str, version: str = "") -> InvalidParameterValue:
    """`version` given: the template is there, this version of it is not."""
    kind = "template ID" if reference.startswith("lt-") else "template name"
    named = f"{kind} {reference[:128]}"
    what = f"The specified launch template, with {named}, does not exist."
    if version:
        what = f"Could not find the specified version {version[:32]} for the launch template with {named}."
    return invalid(f"You must use a valid fully-formed launch template. {what}", "template")


def no_such_target_group() -> InvalidParameterValue:
    return invalid("Provided Target Groups may not be valid. Please ensure they exist and try again.", "target_groups")


def no_such_zone(zone: str) -> InvalidParameterValue:
    return invalid(f"Invalid availability zones ({zone[:64]})", "zones")


def no_such_instance(instance_id: str) -> NotFound:
    return NotFound(
        f"Instance Id not found - No managed instance found for instance ID: {instance_id[:64]}",
        code="ValidationError",
        field="instance_ids",
    )


def no_such(what: str, name: str, field: str) -> NotFound:
    return NotFound(f"No {what} found with name: {name[:255]}", code="ValidationError", field=field)


def group_exists(name: str) -> AlreadyExists:
    return AlreadyExists(
        f"AutoScalingGroup by this name already exists - A group with the name {name[:255]} already exists",
        code="AlreadyExists",
        field="group",
    )


def group_in_use() -> Conflict:
    return Conflict(
        "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
        "still in the group.",
        code="ResourceInUse",
        field="group",
    )


def activity_in_progress(text: str) -> Conflict:
    return Conflict(text, code="ScalingActivityInProgress", field="group")


def refresh_in_progress() -> Conflict:
    return Conflict(
        "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
        code="InstanceRefreshInProgress",
        field="group",
    )


def no_refresh() -> NotFound:
    return NotFound(
        "No in progress or pending Instance Refresh found.", code="ActiveInstanceRefreshNotFound", field="group"
    )


def too_many(what: str, most: int, field: str) -> LimitExceeded:
    return LimitExceeded(f"{what}: at most {most}", code="LimitExceeded", field=field)
