"""`minicloud metric`: put, list, read, draw. Names, units and statistics are CloudWatch's."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, cell, say, show_list, write_json, write_line, write_table
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.convert import to_data

if TYPE_CHECKING:
    from minicloud.client.metric_models import MetricLine, MetricQuery

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("NAMESPACE", lambda m: m.namespace),
    ("NAME", lambda m: m.name),
    ("DIMENSIONS", lambda m: m.dimensions),
)
DIMENSIONS = click.option(
    "--dimension", "-d", "dimensions", metavar="NAME=VALUE", multiple=True, callback=options.parse_pairs,
    help="As -d InstanceId=i-0123; the metric has exactly these.",
)  # fmt: skip
_HEIGHT = 16
_WIDTH = 100  # of what is not a terminal


def chosen(function: F) -> F:
    """What `get` and `plot` have in common: which metric, which statistics, which time."""
    for option in reversed(
        (
            click.argument("namespace"),
            click.argument("name"),
            DIMENSIONS,
            click.option("--stat", "stats", multiple=True, default=("Average",), show_default=True,
                         help="Average, Sum, Minimum, Maximum, SampleCount, p99, ..."),
            click.option("--period", default="1m", show_default=True, callback=options.duration,
                         help="What one value covers."),
            click.option("--since", default="1h", show_default=True, callback=options.duration, help="How far back."),
            click.option("--until", default="0s", callback=options.duration, help="How long ago it ends."),
            click.option("--unit", default="", help="Data in this unit alone."),
            click.option("--expression", "-e", "expressions", multiple=True,
                         help="Over m1, m2, ... (one for each --stat): 'm1/PERIOD(m1)', 'RATE(m1)'."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@click.group(cls=Noun)
def metric() -> None:
    """Metrics: what is measured, and what you report yourself."""


@verb(metric, "put")
@click.argument("namespace")
@click.argument("name")
@click.argument("values", nargs=-1, required=True, type=float, metavar="VALUE...")
@DIMENSIONS
@click.option("--unit", default="", help="Seconds, Bytes, Percent, Count, Count/Second, ...")
@click.option("--ago", default="0s", callback=options.duration, help="When it was measured.")
@click.option("--fine", is_flag=True, help="To the second, not to the minute (kept for three hours).")
def put(session: Session, namespace: str, name: str, values: tuple[float, ...], fine: bool, **given: Any) -> None:
    """Report values of a metric; a metric is there as soon as it has one."""
    from minicloud.client.metric_models import MetricDatum

    at = time.time() - given["ago"]
    datum = MetricDatum(
        name, None, given["dimensions"], at, values=values, unit=given["unit"], resolution_s=1 if fine else 60
    )
    session.client.metrics.put_data(namespace, [datum])
    say(session, {"put": len(values)}, f"{len(values)} value(s) of {namespace} {name}")


@verb(metric, "list")
@click.argument("namespace", default="")
@click.argument("name", default="")
@click.option("--dimension", "-d", "filters", metavar="NAME[=VALUE]", multiple=True, help="Metrics that have it.")
@click.option("--recent", is_flag=True, help="With data in the last three hours.")
def list_metrics(session: Session, namespace: str, name: str, filters: tuple[str, ...], recent: bool) -> None:
    """Metrics with data in the last two weeks."""
    pairs = (text.partition("=") for text in filters)
    dimensions = {key: value if found else None for key, found, value in pairs}
    found = session.client.metrics.list(namespace, name, dimensions=dimensions, recently_active=recent)
    show_list(session, found, COLUMNS)


@verb(metric, "get")
@chosen
def get(session: Session, **given: Any) -> None:
    """The values of a metric, one a period."""
    lines, _, _ = _read(session, given)
    if session.json:
        write_json([to_data(line) for line in lines])
        return
    columns = [dict(zip(line.times, line.values, strict=True)) for line in lines]
    times = sorted({at for column in columns for at in column})
    rows = [[cell(datetime.fromtimestamp(at, UTC)), *(cell(column.get(at)) for column in columns)] for at in times]
    write_table(["TIME", *(line.label for line in lines)], rows)


@verb(metric, "plot")
@chosen
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture instead.")
@click.option("--width", type=click.IntRange(20, 1_000), help="Characters; pixels of a picture.")
@click.option("--height", type=click.IntRange(8, 1_000), help="Lines; pixels of a picture.")
def plot(session: Session, png: Path | None, width: int | None, height: int | None, **given: Any) -> None:
    """Draw a metric in the terminal, or to PNG."""
    from minicloud.cli import chart, chart_png

    lines, start, end = _read(session, given)
    if len(lines) > chart.LINES_MAX:
        raise click.UsageError(f"a chart has {chart.LINES_MAX} lines at most")
    if not any(line.times for line in lines):
        raise click.ClickException("there is nothing to draw: no data in this time")
    series = [chart.Series(line.label, line.times, line.values) for line in lines]
    frame = chart.Frame.around(series, start, end)
    if png is not None:
        size = (max(width or 960, 300), max(height or 400, 160))
        chart_png.write(series, frame, png, f"{given['namespace']} {given['name']}", size)
        say(session, {"png": str(png)}, f"{png} is written")
        return
    if session.json:
        raise click.UsageError("a drawing is no JSON; `metric get` has the values")
    terminal = shutil.get_terminal_size((_WIDTH, 24)).columns
    _show(chart.draw(series, frame, width or terminal, height or _HEIGHT), [line.label for line in lines])


def _read(session: Session, given: dict[str, Any]) -> tuple[tuple[MetricLine, ...], float, float]:
    """The lines asked for, and the time that they are about."""
    end = time.time() - given["until"]
    start = end - given["since"]
    lines = session.client.metrics.get(_queries(given), start=start, end=end)
    return lines, start, end


def _queries(given: dict[str, Any]) -> list[MetricQuery]:
    from minicloud.client.metric_models import Metric, MetricQuery

    metric = Metric(given["namespace"], given["name"], given["dimensions"])
    expressions, period = given["expressions"], int(given["period"])
    if period != given["period"]:
        raise click.UsageError("a --period has whole seconds")
    found = [
        MetricQuery(f"m{number}", metric, stat, period, given["unit"], label=stat, hidden=bool(expressions))
        for number, stat in enumerate(given["stats"], 1)
    ]
    found += [MetricQuery(f"e{number}", expression=text, label=text) for number, text in enumerate(expressions, 1)]
    return found


def _show(rows: list[list[Any]], labels: list[str]) -> None:
    from minicloud.cli.chart import COLOURS

    if not sys.stdout.isatty():
        for row in rows:
            write_line("".join(one.text for one in row).rstrip())
        write_line("  ".join(labels))
        return
    for row in rows:
        write_line("".join(click.style(one.text, fg=COLOURS[one.line]) if one.line >= 0 else one.text for one in row))
    write_line("  ".join(click.style(label, fg=COLOURS[at]) for at, label in enumerate(labels)))
