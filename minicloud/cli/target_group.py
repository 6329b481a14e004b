"""`minicloud target-group`: make, describe, change, end; what is in them. GROUP is a name or ARN."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_one, show_tags
from minicloud.cli.session import Noun, Session, verb

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("NAME", lambda group: group.name),
    ("TARGETS", lambda group: group.target_type),
    ("PROTOCOL", lambda group: " ".join(filter(None, (group.protocol, group.version)))),
    ("PORT", lambda group: group.port or None),
    ("BALANCER", lambda group: group.balancer_arn.split("/")[-2] if group.balancer_arn else ""),
)
TARGETS: Columns = (
    ("TARGET", lambda one: one.id),
    ("PORT", lambda one: one.port or None),
    ("ADDRESS", lambda one: one.address if one.address != one.id else ""),
    ("ZONE", lambda one: one.zone),
    ("STATE", lambda one: one.state),
    ("REASON", lambda one: one.description or one.reason),
)
GROUP = click.argument("group")
WHICH = click.argument("targets", nargs=-1, required=True, metavar="ID[:PORT]...")


def health_options(function: F) -> F:
    """Of health checks, by the names of the SDK."""
    for option in reversed(
        (
            click.option("--health/--no-health", "health_enabled", default=None, help="Whether a function is checked."),
            click.option("--health-protocol", help="HTTP, HTTPS, TCP."),
            click.option("--health-port", help="A number, or traffic-port."),
            click.option("--path", help="What is asked for."),
            click.option("--codes", help="Answers that are good, such as 200-299,301."),
            click.option("--interval", "interval_s", type=int, metavar="SECONDS", help="Between two checks."),
            click.option("--timeout", "timeout_s", type=int, metavar="SECONDS", help="For one check."),
            click.option("--healthy", type=int, metavar="COUNT", help="Checks in a row that make it healthy."),
            click.option("--unhealthy", type=int, metavar="COUNT", help="Checks in a row that make it unhealthy."),
        )
    ):
        function = option(function)
    return function


@click.group(cls=Noun)
def target_group() -> None:
    """Target groups: what balancers forward to, and its health."""


@verb(target_group, "create")
@click.argument("name")
@click.option("--port", type=int, default=0, help="Of targets that are registered without one; functions have none.")
@click.option("--protocol", help="HTTP (default), HTTPS, TCP.")
@click.option(
    "--type",
    "target_type",
    type=click.Choice(["instance", "ip", "lambda"]),
    default="instance",
    show_default=True,
    help="What its targets are.",
)
@click.option("--version", default="", help="HTTP1, HTTP2, GRPC.")
@health_options
@options.tags
def create(session: Session, name: str, port: int, tags: dict[str, str], **given: Any) -> None:
    """Make a target group; one that is the same already is shown."""
    fields = {key: given.pop(key) for key in ("protocol", "target_type", "version")}
    if not port and fields["target_type"] != "lambda":
        raise click.UsageError("Missing option '--port'.")
    made = session.client.target_groups.create(name, port, tags=tags, **fields, **_given(given))
    show_list(session, [made], COLUMNS)


@verb(target_group, "list")
@click.option("--balancer", default="", help="Only those that it uses.")
def list_groups(session: Session, balancer: str) -> None:
    """Target groups of this account and region."""
    show_list(session, session.client.target_groups.list(balancer), COLUMNS)


@verb(target_group, "show")
@GROUP
def show(session: Session, group: str) -> None:
    """Everything about one target group."""
    show_one(session, session.client.target_groups.get(group))


@verb(target_group, "modify")
@GROUP
@health_options
def modify(session: Session, group: str, **given: Any) -> None:
    """Change its health checks; what is not given stays."""
    show_one(session, session.client.target_groups.modify(group, **_given(given)))


@verb(target_group, "set")
@GROUP
@click.argument("attributes", nargs=-1, required=True, metavar="NAME=VALUE...", callback=options.parse_pairs)
def set_attributes(session: Session, group: str, attributes: dict[str, str]) -> None:
    """Change attributes, such as deregistration_delay.timeout_seconds."""
    arn = group if group.startswith("arn:") else session.client.target_groups.get(group).arn
    show_tags(session, session.client.balancers.set_attributes(arn, attributes))


@verb(target_group, "delete")
@GROUP
def delete(session: Session, group: str) -> None:
    """Delete a target group that no rule uses."""
    session.client.target_groups.delete(group)
    say(session, {"deleted": group}, f"{group} is deleted")


@verb(target_group, "register")
@GROUP
@WHICH
def register(session: Session, group: str, targets: tuple[str, ...]) -> None:
    """Add instances that run, addresses, or a function by its ARN, with the permission that the group needs."""
    for function in targets:
        if function.startswith("arn:aws:lambda:"):
            _permit(session, group, function)
    show_list(session, session.client.target_groups.register(group, *targets), TARGETS)


@verb(target_group, "deregister")
@GROUP
@WHICH
def deregister(session: Session, group: str, targets: tuple[str, ...]) -> None:
    """Take targets out; requests in flight finish. Shows those that drain."""
    show_list(session, session.client.target_groups.deregister(group, *targets), TARGETS)


@verb(target_group, "health")
@GROUP
@click.argument("targets", nargs=-1, metavar="[ID[:PORT]]...")
def health(session: Session, group: str, targets: tuple[str, ...]) -> None:
    """How targets are, and why."""
    show_list(session, session.client.target_groups.health(group, *targets), TARGETS)


def _permit(session: Session, group: str, function: str) -> None:
    from minicloud.base.errors import AlreadyExists
    from minicloud.client.function_models import FunctionStatement

    arn = group if group.startswith("arn:") else session.client.target_groups.get(group).arn
    sid = f"target-group-{arn.rpartition('/')[2]}"
    with contextlib.suppress(AlreadyExists):
        session.client.triggers.permit(
            function, FunctionStatement(sid, "elasticloadbalancing.amazonaws.com", source_arn=arn)
        )


def _given(found: dict[str, Any]) -> Any:
    return {name: value for name, value in found.items() if value is not None}
