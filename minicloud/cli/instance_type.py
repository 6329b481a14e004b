"""`minicloud type`: the catalogue."""

from __future__ import annotations

from typing import Any

import click

from minicloud.cli.output import Columns, memory, show_list, show_one
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("NAME", lambda t: t.name),
    ("FAMILY", lambda t: t.family),
    ("VCPUS", lambda t: t.vcpus),
    ("MEMORY", lambda t: memory(t.memory_mib)),
    ("GPUS", lambda t: f"{t.gpus:g} {t.gpu_name}".strip() if t.gpus else None),
    ("ARCH", lambda t: t.architecture),
    ("BURSTABLE", lambda t: t.burstable),
    ("USD/HOUR", lambda t: f"{t.usd_per_hour:.4f}"),
)
FAMILIES = ["general", "compute", "memory", "accelerated", "storage"]


@click.group(name="type", cls=Noun)
def type_() -> None:
    """Instance types and their families."""


@verb(type_, "list")
@click.argument("name", default="", required=False, metavar="[GLOB]")
@click.option("--family", type=click.Choice(FAMILIES), help="Only of this family.")
@click.option("--min-vcpus", type=int, help="At least so many.")
@click.option("--max-vcpus", type=int, help="At most so many.")
@click.option("--min-memory", "min_memory_mib", type=int, metavar="MIB", help="At least so much.")
@click.option("--max-memory", "max_memory_mib", type=int, metavar="MIB", help="At most so much.")
@click.option("--min-gpus", type=float, help="At least so many.")
@click.option("--max-gpus", type=float, help="At most so many.")
@click.option("--architecture", type=click.Choice(["x86_64", "arm64"]), help="Of the CPU.")
@click.option("--max-price", "max_usd_per_hour", type=float, metavar="USD", help="US dollars per hour, on demand.")
@click.option("--burstable/--not-burstable", default=None, help="Whether its CPU is by credits.")
@click.option("--current/--previous", "current_generation", default=None, help="Generation.")
@click.option("--fits", "fits_now", is_flag=True, default=None, help="Only what some host could hold at this moment.")
def list_types(session: Session, **filters: Any) -> None:
    """Types that match every filter; GLOB is a name such as 't3.*'."""
    chosen = {name: value for name, value in filters.items() if value not in (None, "")}
    show_list(session, session.client.types.list(**chosen), COLUMNS)


@verb(type_, "show")
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Everything about one type."""
    show_one(session, session.client.types.get(name))
