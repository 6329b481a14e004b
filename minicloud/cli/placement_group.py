"""`minicloud placement-group`: instances near to, or far from, each other."""

from __future__ import annotations

import click

from minicloud.cli.output import Columns, show_list
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("NAME", lambda g: g.name),
    ("ID", lambda g: g.id),
    ("STRATEGY", lambda g: g.strategy),
    ("PARTITIONS", lambda g: g.partitions or None),
    ("INSTANCES", lambda g: g.instances),
)


@click.group(name="placement-group", cls=Noun)
def placement_group() -> None:
    """Instances near to, or far from, each other."""


@verb(placement_group, "create")
@click.argument("name")
@click.option(
    "--strategy",
    type=click.Choice(["cluster", "spread", "partition"]),
    required=True,
    help="Near to each other, each on another host, or partitions that share no host.",
)
@click.option("--partitions", type=int, default=0, help="1 to 7; of a partition group.")
def create(session: Session, name: str, strategy: str, partitions: int) -> None:
    """Make a group; `instance launch --group NAME` uses it."""
    show_list(session, [session.client.placement_groups.create(name, strategy, partitions=partitions)], COLUMNS)


@verb(placement_group, "list")
def list_groups(session: Session) -> None:
    """All groups."""
    show_list(session, session.client.placement_groups.list(), COLUMNS)


@verb(placement_group, "delete")
@click.argument("name")
def delete(session: Session, name: str) -> None:
    """Delete a group without instances."""
    show_list(session, [session.client.placement_groups.delete(name)], COLUMNS)
