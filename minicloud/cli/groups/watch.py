"""`minicloud group watch NAME`: capacity, load and activities of a group, live.

On a terminal a picture that changes; elsewhere a line for each change; with `--output json` an object for each.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from minicloud.cli.groups.noun import NAME, group
from minicloud.cli.output import cell, write_json_line, write_line
from minicloud.cli.session import Session, verb

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from minicloud.client.group_models import GroupMember, GroupView

_BARS = "▁▂▃▄▅▆▇█"
_HISTORY = 60  # values of a load that are drawn
_COLOURS = {"InService": "green", "Standby": "yellow"}
_MEMBERS_MAX = 20


@verb(group, "watch")
@NAME
@click.option("--once", is_flag=True, help="Show the present state, and end.")
def watch(session: Session, name: str, once: bool) -> None:
    """Show a group live, until Ctrl-C or until it is gone."""
    views = session.client.groups.watch(name)
    if session.json:
        for view in views:
            write_json_line(view)
            if once:
                return
    elif sys.stdout.isatty():
        _live(views, once)
    else:
        for view in views:
            write_line(line(view))
            if once:
                return


def line(view: GroupView) -> str:
    """A view in a line."""
    one, counts = view.group, view.group.counts
    assert counts is not None
    loads = ", ".join(f"{load.metric} {cell(load.value)} of {load.target:g}" for load in view.loads)
    text = f"desired {one.desired} ({one.min_size}-{one.max_size}), in service {counts.in_service}"
    for name in ("pending", "leaving", "standby", "warm"):
        text += f", {name} {getattr(counts, name)}" if getattr(counts, name) else ""
    newest = view.activities[0].description if view.activities else ""
    return "; ".join(part for part in (text, refreshing(view), loads, newest) if part)


def refreshing(view: GroupView) -> str:
    """The instance refresh under way, in some words."""
    one = view.refresh
    return "" if one is None or one.ended_time else f"refresh {one.status}, {one.percent} % done, {one.left} left"


def _live(views: Iterable[GroupView], once: bool) -> None:
    from rich.live import Live

    history = History()
    with Live(auto_refresh=False, screen=False) as live:
        for view in views:
            history.add(view)
            live.update(picture(view, history), refresh=True)
            if once:
                return


class History:
    """What loads were, as far as this command has seen them."""

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {}
        self._read: dict[str, object] = {}

    def add(self, view: GroupView) -> None:
        for load in view.loads:
            if load.value is not None and self._read.get(load.policy) != load.read_time:
                self._read[load.policy] = load.read_time
                self._values.setdefault(load.policy, deque(maxlen=_HISTORY)).append(load.value)

    def drawn(self, policy: str, target: float) -> str:
        values = self._values.get(policy, ())
        top = max([*values, target]) or 1.0
        return "".join(_BARS[min(7, int(max(value, 0.0) / top * 7.999))] for value in values)


def picture(view: GroupView, history: History) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    one, counts = view.group, view.group.counts
    assert counts is not None
    head = Text.assemble(
        (one.name, "bold"),
        f"  min {one.min_size}  desired {one.desired}  max {one.max_size}   {counts.in_service} in service",
        f", {counts.pending} pending, {counts.leaving} leaving, {counts.standby} in standby, {counts.warm} warm",
    )
    parts: list[RenderableType] = [head, _capacity(view)]
    if refreshing(view):
        parts.append(Text(refreshing(view), "cyan"))
    for load in view.loads:
        value = "no data" if load.value is None else f"{load.value:g}"
        parts.append(Text(f"{load.metric} {value} of {load.target:g}  {history.drawn(load.policy, load.target)}"))
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in ("INSTANCE", "STATE", "HEALTH", "ZONE"):
        table.add_column(header)
    for member in view.members[:_MEMBERS_MAX]:
        table.add_row(*_row(member))
    parts += [Text(""), table]
    if len(view.members) > _MEMBERS_MAX:
        parts.append(Text(f"and {len(view.members) - _MEMBERS_MAX} more"))
    parts.append(Text(""))
    parts += [Text(f"{cell(one.started_time)}  {one.status:<18} {one.description}") for one in view.activities[:6]]
    return Group(*parts)


def _row(member: GroupMember) -> tuple[Text, ...]:
    from rich.text import Text

    colour = _COLOURS.get(member.lifecycle_state, "cyan")
    health = Text(member.health, "" if member.health == "Healthy" else "red")
    return (
        Text(member.instance_id or "(being launched)"),
        Text(member.lifecycle_state, colour),
        health,
        Text(member.zone),
    )


def _capacity(view: GroupView) -> Text:
    """One mark for each instance that there may be."""
    from rich.text import Text

    one, counts = view.group, view.group.counts
    assert counts is not None
    serving = min(counts.in_service, 100)
    pending = min(counts.pending, 100 - serving)
    rest = max(0, min(one.max_size, 100) - serving - pending)
    return Text.assemble(("●" * serving, "green"), ("◐" * pending, "cyan"), ("·" * rest, "dim"))
