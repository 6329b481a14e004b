"""`minicloud group refresh ...`: replace the instances of a group a few at a time."""

from __future__ import annotations

from typing import Any

import click

from minicloud.base.errors import IncorrectState
from minicloud.cli import options
from minicloud.cli.groups.noun import NAME, group
from minicloud.cli.output import Columns, show_list
from minicloud.cli.progress import Progress
from minicloud.cli.session import Session, verb

REFRESHES: Columns = (
    ("ID", lambda r: r.id),
    ("STATUS", lambda r: r.status),
    ("DONE", lambda r: f"{r.percent} %"),
    ("LEFT", lambda r: r.left),
    ("TEMPLATE", lambda r: f"{r.template.id}:{r.template.version or '$Default'}"),
    ("STARTED", lambda r: r.started_time),
    ("REASON", lambda r: r.reason),
)


@group.group(name="refresh")
def refresh() -> None:
    """Instance refreshes: all instances are replaced, a few at a time."""


@verb(refresh, "start")
@NAME
@click.option("--template", help="What they become (what the group launches).")
@click.option("--version", default="", help="Of the template.")
@click.option("--type", "types", multiple=True, help="Instance types; the first that has room.")
@click.option("--min-healthy", type=int, help="Percent of desired that stay in service (90).")
@click.option("--max-healthy", type=int, help="Percent of desired that may be there meanwhile (100).")
@click.option("--warmup", "warmup_s", callback=options.seconds, help="Until a new instance counts (the group's).")
@click.option(
    "--checkpoint", "checkpoints", type=int, multiple=True, help="Percent at which it pauses; the last ends it."
)
@click.option("--checkpoint-delay", "checkpoint_delay_s", callback=options.seconds, help="How long (1h).")
@click.option("--skip-matching", is_flag=True, help="Leave instances that are as they should be.")
@click.option("--auto-rollback", is_flag=True, help="Go back if it fails.")
@click.option("--alarm", "alarms", multiple=True, help="It fails, or goes back, when this alarm goes off.")
@click.option("--bake", "bake_s", callback=options.seconds, help="So long alarms are looked at in the end.")
@click.option(
    "--protected",
    "protected_instances",
    type=click.Choice(["Refresh", "Ignore", "Wait"]),
    default="Wait",
    help="What becomes of instances protected from scale-in.",
)
@click.option(
    "--standby",
    "standby_instances",
    type=click.Choice(["Terminate", "Ignore", "Wait"]),
    default="Wait",
    help="What becomes of instances in standby.",
)
@click.option("--wait", is_flag=True, help="Until it has ended; fails where it did not succeed.")
def start(session: Session, name: str, types: tuple[str, ...], wait: bool, **given: Any) -> None:
    """Begin a refresh."""
    given["bake_s"] = given["bake_s"] or 0
    begun = session.client.groups.start_refresh(name, types=list(types) or None, **given)
    if wait:
        with Progress(f"refreshing {name}"):
            begun = session.client.groups.wait_refresh(name, begun.id)
    show_list(session, [begun], REFRESHES)
    if wait and begun.status != "Successful":
        raise IncorrectState(f"the refresh ended as {begun.status}: {begun.reason}", code="InstanceRefreshFailed")


@verb(refresh, "list")
@NAME
def list_refreshes(session: Session, name: str) -> None:
    """Refreshes of a group, the newest first."""
    show_list(session, session.client.groups.refreshes(name), REFRESHES)


@verb(refresh, "cancel")
@NAME
def cancel(session: Session, name: str) -> None:
    """End it where it is; what is being replaced is finished."""
    show_list(session, [session.client.groups.cancel_refresh(name)], REFRESHES)


@verb(refresh, "rollback")
@NAME
def rollback(session: Session, name: str) -> None:
    """Go back to what the group had."""
    show_list(session, [session.client.groups.rollback_refresh(name)], REFRESHES)
