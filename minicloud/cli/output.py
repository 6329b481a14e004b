"""Answers: tables for people, JSON for programs. Tables have no frames and never cut what is not on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from minicloud.cli.session import Session
from minicloud.client.convert import to_data

if TYPE_CHECKING:
    from minicloud.client.models import Shape

Columns = Sequence[tuple[str, Callable[[Any], object]]]
_PIPE_COLUMNS = 4096


def show_list(session: Session, items: Iterable[object], columns: Columns) -> None:
    """One row for each item; JSON: an array."""
    if session.json:
        write_json([to_data(item) for item in items])
        return
    rows = [[cell(read(item)) for _, read in columns] for item in items]
    write_table([header for header, _ in columns], rows)


def show_one(session: Session, item: object) -> None:
    """All fields, one a line; JSON: an object."""
    data = to_data(item)
    if session.json:
        write_json(data)
        return
    write_table([], [[name, cell(value)] for name, value in _flat("", data) if value not in ("", None, [])])


def show_tags(session: Session, tags: Mapping[str, str]) -> None:
    """The tags that a resource has; JSON: an object."""
    if session.json:
        write_json_line(tags)
        return
    show_list(session, sorted(tags.items()), (("KEY", lambda t: t[0]), ("VALUE", lambda t: t[1])))


def say(session: Session, data: Mapping[str, object], text: str) -> None:
    """What was done: a sentence; JSON: an object."""
    if session.json:
        write_json(data)
    else:
        write_line(text)


def write_json(data: object) -> None:
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def write_json_line(item: object) -> None:
    """One event of a stream."""
    sys.stdout.write(json.dumps(to_data(item)) + "\n")
    sys.stdout.flush()


def write_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    table = Table(box=None, pad_edge=False, show_header=bool(headers), header_style="bold", padding=(0, 2, 0, 0))
    for header in headers or [""] * (len(rows[0]) if rows else 0):
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def cell(value: object) -> str:
    """A value as a table shows it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in sorted(value.items())) or "-"
    if isinstance(value, list | tuple):
        lines = any(isinstance(item, Mapping) for item in value)
        return ("\n" if lines else ", ").join(map(_item, value)) or "-"
    return str(value)


def _item(value: object) -> str:
    """One of a list; of an object what is set."""
    if not isinstance(value, Mapping):
        return str(value)
    return ", ".join(f"{key}={cell(item)}" for key, item in value.items() if item not in ("", None, [], {}))


def memory(mib: float) -> str:
    """'512 MiB', '1.5 GiB'."""
    return f"{mib:g} MiB" if mib < 1024 else f"{mib / 1024:.4g} GiB"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def shape(value: Shape | None) -> str:
    """'2 vCPU, 4 GiB'."""
    if value is None:
        return "-"
    gpus = f", {value.gpus:g} GPU" if value.gpus else ""
    return f"{value.vcpus:g} vCPU, {memory(value.memory_mib)}{gpus}"


def _flat(prefix: str, data: Any) -> Iterable[tuple[str, object]]:
    for name, value in data.items():
        if isinstance(value, dict) and name != "tags":
            ordered = sorted(value.items()) if name == "attributes" else value.items()  # a map of the wire has no order
            yield from _flat(f"{prefix}{name}.", dict(ordered))
        else:
            yield prefix + name, value
