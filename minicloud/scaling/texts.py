"""The words of activities: causes and descriptions, as AWS has them."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def joined(*sentences: str) -> str:
    return "  ".join(sentence for sentence in sentences if sentence)


def user_update(now: float, bounds: tuple[int, int, int], before: int) -> str:
    low, high, desired = bounds
    text = f"At {stamp(now)} a user request update of AutoScalingGroup constraints to min: {low}, max: {high}, "
    return f"{text}desired: {desired} changing the desired capacity from {before} to {desired}."


def user_created(now: float, bounds: tuple[int, int, int]) -> str:
    low, high, desired = bounds
    text = f"At {stamp(now)} a user request created an AutoScalingGroup changing the desired capacity from 0 to "
    return f"{text}{desired} (min: {low}, max: {high})."


def user_desired(now: float, before: int, after: int) -> str:
    text = f"At {stamp(now)} a user request explicitly set group desired capacity changing the desired capacity from"
    return f"{text} {before} to {after}."


def scheduled(now: float, name: str, bounds: tuple[int, int, int], before: int) -> str:
    low, high, desired = bounds
    text = f"At {stamp(now)} scheduled action {name} updated AutoScalingGroup constraints to min: {low}, max: {high}, "
    return f"{text}desired: {desired} changing the desired capacity from {before} to {desired}."


def policy(now: float, name: str, change: tuple[int, int], alarm: str = "", reason: str = "") -> str:
    by = f"a monitor alarm {alarm} in state ALARM triggered policy {name}" if alarm else f"policy {name}"
    because = f" ({reason})" if reason else ""
    verb = "changing" if alarm else "changed"
    return f"At {stamp(now)} {by} {verb} the desired capacity from {change[0]} to {change[1]}{because}."


def executed(now: float, name: str, change: tuple[int, int]) -> str:
    return (
        f"At {stamp(now)} a user request executed policy {name} "
        f"changing the desired capacity from {change[0]} to {change[1]}."
    )


def grown(now: float, before: int, after: int) -> str:
    text = f"At {stamp(now)} an instance was started in response to a difference between desired and actual capacity, "
    return f"{text}increasing the capacity from {before} to {after}."


def shrunk(now: float, before: int, after: int, instance_id: str) -> str:
    text = f"At {stamp(now)} an instance was taken out of service in response to a difference between desired and "
    return joined(
        f"{text}actual capacity, shrinking the capacity from {before} to {after}.",
        f"At {stamp(now)} instance {instance_id} was selected for termination.",
    )


def unhealthy(now: float, reason: str) -> str:
    return f"At {stamp(now)} an instance was taken out of service in response to {reason}."


def replaced_unhealthy(now: float) -> str:
    return f"At {stamp(now)} an instance was launched in response to an unhealthy instance needing to be replaced."


def rebalanced(now: float, counts: dict[str, int]) -> str:
    zones, numbers = ", ".join(counts), ", ".join(str(count) for count in counts.values())
    return (
        f"At {stamp(now)} availability zones {zones} had {numbers} instances respectively. "
        "An instance was replaced to aid in balancing the group's zones."
    )


def replaced(now: float, why: str) -> str:
    return f"At {stamp(now)} an instance was replaced in response to {why}."


def taken_over(now: float, why: str) -> str:
    return f"At {stamp(now)} an instance was taken out of service in response to {why}; its replacement is in service."


def launching(instance_id: str) -> str:
    return f"Launching a new EC2 instance: {instance_id}" if instance_id else "Launching a new EC2 instance"


def launch_failed(message: str) -> str:
    return f"Launching a new EC2 instance.  Status Reason: {message}.  Launching EC2 instance failed."


def terminating(instance_id: str) -> str:
    return f"Terminating EC2 instance: {instance_id}"


def returning(instance_id: str) -> str:
    return f"Returning EC2 instance to the warm pool: {instance_id}"


def detaching(target_group: str) -> str:
    return f"Detaching target group: {target_group}"


def targets_gone(now: float, target_group: str) -> str:
    return f"At {stamp(now)} the target group {target_group} was found not to exist any more."


EC2_CHECK = "an EC2 health check indicating it has been terminated or stopped"
STATUS_CHECK = "an EC2 instance status checks failure"
ELB_CHECK = "an ELB system health check failure"
USER_CHECK = "a user health-check"
NEVER_STARTED = "it not having come into service in time"
REFRESH = "an instance refresh"
LIFETIME = "the maximum instance lifetime being reached"
USER_TERMINATE = "a user request"
