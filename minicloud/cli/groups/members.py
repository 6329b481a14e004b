"""`minicloud group`: the instances of a group, and the target groups that they are in."""

from __future__ import annotations

import click

from minicloud.cli.groups.noun import COLUMNS, NAME, group, target_arns
from minicloud.cli.output import Columns, show_list
from minicloud.cli.session import Session, verb

MEMBERS: Columns = (
    ("INSTANCE", lambda m: m.instance_id or f"(launch {m.number})"),
    ("STATE", lambda m: m.lifecycle_state),
    ("HEALTH", lambda m: f"{m.health}: {m.health_reason}" if m.health_reason else m.health),
    ("ZONE", lambda m: m.zone),
    ("TYPE", lambda m: m.type),
    ("TEMPLATE", lambda m: f"{m.template_id}:{m.template_version or '$Default'}"),
    ("PROTECTED", lambda m: m.protected),
    ("IN SERVICE", lambda m: m.in_service_time),
    ("WAITS FOR", lambda m: [wait.hook for wait in m.waits]),
)
INSTANCES = click.argument("instance_ids", nargs=-1, required=True, metavar="INSTANCE...")
INSTANCE = click.argument("instance_id", metavar="INSTANCE")
DECREMENT = click.option("--decrement/--replace", required=True, help="Desired shrinks, or they are replaced.")


@verb(group, "instances")
@click.argument("name", default="")
def instances(session: Session, name: str) -> None:
    """Instances of a group, or of all groups."""
    show_list(session, session.client.groups.members(name), MEMBERS)


@verb(group, "attach")
@NAME
@INSTANCES
def attach(session: Session, name: str, instance_ids: tuple[str, ...]) -> None:
    """Make running instances members; desired grows by as many."""
    show_list(session, [session.client.groups.attach(name, *instance_ids)], COLUMNS)


@verb(group, "detach")
@NAME
@INSTANCES
@DECREMENT
def detach(session: Session, name: str, instance_ids: tuple[str, ...], decrement: bool) -> None:
    """Let instances go; they run on, on their own."""
    show_list(session, [session.client.groups.detach(name, *instance_ids, decrement=decrement)], COLUMNS)


@verb(group, "standby")
@NAME
@INSTANCES
@DECREMENT
def standby(session: Session, name: str, instance_ids: tuple[str, ...], decrement: bool) -> None:
    """Take instances aside, to look at them; `return` brings them back."""
    show_list(session, [session.client.groups.enter_standby(name, *instance_ids, decrement=decrement)], COLUMNS)


@verb(group, "return")
@NAME
@INSTANCES
def leave_standby(session: Session, name: str, instance_ids: tuple[str, ...]) -> None:
    """Bring instances back from standby; desired grows by as many."""
    show_list(session, [session.client.groups.exit_standby(name, *instance_ids)], COLUMNS)


@verb(group, "protect")
@NAME
@INSTANCES
@click.option("--off", is_flag=True, help="No longer.")
def protect(session: Session, name: str, instance_ids: tuple[str, ...], off: bool) -> None:
    """Keep instances from being ended by a scale-in."""
    session.client.groups.protect(name, *instance_ids, protected=not off)
    show_list(session, session.client.groups.members(name, instance_ids=instance_ids), MEMBERS)


@verb(group, "set-health")
@INSTANCE
@click.argument("status", type=click.Choice(["Healthy", "Unhealthy"]))
@click.option("--ignore-grace", is_flag=True, help="Also in its grace period.")
def set_health(session: Session, instance_id: str, status: str, ignore_grace: bool) -> None:
    """Say how an instance is; what is unhealthy is replaced."""
    show_list(session, [session.client.groups.set_health(instance_id, status, ignore_grace=ignore_grace)], COLUMNS)


@verb(group, "terminate")
@INSTANCE
@DECREMENT
def terminate(session: Session, instance_id: str, decrement: bool) -> None:
    """End an instance of a group."""
    show_list(session, [session.client.groups.terminate_instance(instance_id, decrement=decrement)], COLUMNS)


@verb(group, "attach-target-group")
@NAME
@click.argument("target_groups", nargs=-1, required=True, metavar="TARGET_GROUP...")
def attach_target_group(session: Session, name: str, target_groups: tuple[str, ...]) -> None:
    """Have a balancer send requests to the instances."""
    arns = target_arns(session, target_groups)
    show_list(session, [session.client.groups.attach_target_groups(name, *arns)], COLUMNS)


@verb(group, "detach-target-group")
@NAME
@click.argument("target_groups", nargs=-1, required=True, metavar="TARGET_GROUP...")
def detach_target_group(session: Session, name: str, target_groups: tuple[str, ...]) -> None:
    """Drain the instances, and take them out of a target group."""
    arns = target_arns(session, target_groups)
    show_list(session, [session.client.groups.detach_target_groups(name, *arns)], COLUMNS)
