"""`minicloud security-group`: what may reach instances, and what they may reach."""

from __future__ import annotations

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, show_list, show_one
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.security_models import SecurityGroup, SecurityRule

COLUMNS: Columns = (
    ("NAME", lambda g: g.name),
    ("ID", lambda g: g.id),
    ("IN", lambda g: ", ".join(map(_words, g.ingress)) or "nothing"),
    ("OUT", lambda g: ", ".join(map(_words, g.egress)) or "nothing"),
    ("INSTANCES", lambda g: g.instances),
)
RULES: Columns = (
    ("RULE", lambda row: row[1].id),
    ("WAY", lambda row: row[0]),
    ("WHAT", lambda row: _what(row[1])),
    ("PEER", lambda row: row[1].peer),
    ("DESCRIPTION", lambda row: row[1].description),
)
GROUP = click.argument("group")


def _what(rule: SecurityRule) -> str:
    if rule.protocol == "-1":
        return "all"
    if rule.from_port < 0:
        return rule.protocol
    ports = str(rule.from_port) if rule.from_port == rule.to_port else f"{rule.from_port}-{rule.to_port}"
    return f"{rule.protocol}:{ports}"


def _words(rule: SecurityRule) -> str:
    return f"{_what(rule)} {rule.peer}"


@click.group(name="security-group", cls=Noun)
def security_group() -> None:
    """What may reach instances, and what they may reach."""


@verb(security_group, "create")
@click.argument("name")
@click.option("--description", default="", help="For people.")
@options.tags
def create(session: Session, name: str, description: str, tags: dict[str, str]) -> None:
    """Make a group that lets nothing in; `instance launch --security-group NAME` uses it."""
    show_list(session, [session.client.security_groups.create(name, description, tags=tags)], COLUMNS)


@verb(security_group, "list")
def list_groups(session: Session) -> None:
    """All groups."""
    show_list(session, session.client.security_groups.list(), COLUMNS)


@verb(security_group, "show")
@GROUP
def show(session: Session, group: str) -> None:
    """A group's rules, with their ids."""
    _show_rules(session, session.client.security_groups.get(group))


def _show_rules(session: Session, found: SecurityGroup) -> None:
    if session.json:
        show_one(session, found)
        return
    rows = [("in", rule) for rule in found.ingress] + [("out", rule) for rule in found.egress]
    show_list(session, rows, RULES)


@verb(security_group, "allow")
@GROUP
@click.argument("what", metavar="WHAT")
@click.option("--peer", default="0.0.0.0/0", show_default=True, help="A range, or a group.")
@click.option("--out", is_flag=True, help="What may go out, not what may come in.")
@click.option("--description", default="", help="For people.")
def allow(session: Session, group: str, what: str, peer: str, out: bool, description: str) -> None:
    """Let WHAT in: all, tcp:80, tcp:8000-8010, udp:53, icmp."""
    protocol, _, text = what.partition(":")
    low, _, high = text.partition("-")
    if (text and not low.isdigit()) or (high and not high.isdigit()) or (protocol == "all" and text):
        raise click.UsageError(f"{what!r} is none of: all, tcp:80, tcp:8000-8010, udp:53, icmp")
    ports = (int(low), int(high or low)) if text else (-1, -1)
    changed = session.client.security_groups.allow(
        group, "-1" if protocol == "all" else protocol, ports, peer=peer, egress=out, description=description
    )
    _show_rules(session, changed)


@verb(security_group, "revoke")
@GROUP
@click.argument("rule_ids", nargs=-1, required=True, metavar="RULE...")
def revoke(session: Session, group: str, rule_ids: tuple[str, ...]) -> None:
    """Take rules away, by their ids."""
    _show_rules(session, session.client.security_groups.revoke(group, rule_ids))


@verb(security_group, "delete")
@GROUP
def delete(session: Session, group: str) -> None:
    """Delete a group that nothing has."""
    show_list(session, [session.client.security_groups.delete(group)], COLUMNS)
