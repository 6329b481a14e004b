"""`minicloud host`: the nodes that instances run on."""

from __future__ import annotations

import click

from minicloud.cli.output import Columns, cell, memory, shape, show_list, show_one
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.models import Host

COLUMNS: Columns = (
    ("NAME", lambda h: h.name),
    ("ID", lambda h: h.id),
    ("ZONE", lambda h: h.zone),
    ("STATE", lambda h: h.state + (" (cordoned)" if h.cordoned else "")),
    ("INSTANCES", lambda h: h.instances),
    ("HAS", lambda h: shape(h.capacity)),
    ("VCPUS", lambda h: _share(h, "vcpus")),
    ("MEMORY", lambda h: _share(h, "memory_mib")),
    ("GPUS", lambda h: _share(h, "gpus")),
)


@click.group(cls=Noun)
def host() -> None:
    """Nodes that instances run on."""


@verb(host, "list")
def list_hosts(session: Session) -> None:
    """All hosts: state, true capacity, used of sellable."""
    show_list(session, session.client.hosts.list(), COLUMNS)


@verb(host, "show")
@click.argument("host")
def show(session: Session, host: str) -> None:
    """Everything about one host (id or name)."""
    show_one(session, session.client.hosts.get(host))


@verb(host, "cordon")
@click.argument("host")
def cordon(session: Session, host: str) -> None:
    """Place nothing new on it; what runs there stays."""
    show_list(session, [session.client.hosts.cordon(host)], COLUMNS)


@verb(host, "uncordon")
@click.argument("host")
def uncordon(session: Session, host: str) -> None:
    """Place instances on it again."""
    show_list(session, [session.client.hosts.uncordon(host)], COLUMNS)


@verb(host, "drain")
@click.argument("host")
def drain(session: Session, host: str) -> None:
    """Cordon it, then stop every instance on it; their disks stay with the host."""
    show_list(session, [session.client.hosts.drain(host)], COLUMNS)


def _share(host: Host, what: str) -> str:
    used = getattr(host.used, what) if host.used else 0
    total = getattr(host.sellable, what) if host.sellable else 0
    if what == "memory_mib":
        return f"{memory(used)} of {memory(total)}"
    return f"{cell(float(used))} of {cell(float(total))}"
