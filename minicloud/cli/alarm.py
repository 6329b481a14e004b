"""`minicloud alarm`: alarms on metrics and on other alarms; what they did; try them, silence them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from minicloud.base.errors import NotFound
from minicloud.cli import options
from minicloud.cli.metric import DIMENSIONS
from minicloud.cli.output import Columns, cell, say, show_list, show_one, show_tags
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("NAME", lambda a: a.name),
    ("STATE", lambda a: a.state),
    ("SINCE", lambda a: a.changed_time),
    ("WHEN", lambda a: said(a)),
    ("ACTIONS", lambda a: len(a.alarm_actions) if a.actions_enabled else "disabled"),
)
HISTORY: Columns = (
    ("TIME", lambda item: item.time),
    ("NAME", lambda item: item.name),
    ("KIND", lambda item: item.kind),
    ("SUMMARY", lambda item: item.summary),
)
NAME = click.argument("name")
NAMES = click.argument("names", nargs=-1, required=True, metavar="NAME...")
_WHEN = re.compile(r"\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*\Z", re.IGNORECASE)
_COMPARISONS = {
    ">": "GreaterThanThreshold",
    ">=": "GreaterThanOrEqualToThreshold",
    "<": "LessThanThreshold",
    "<=": "LessThanOrEqualToThreshold",
}
_SIGNS = {name: sign for sign, name in _COMPARISONS.items()}


def _when(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, float] | None:
    if value is None:
        return None
    match = _WHEN.match(value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a comparison such as '> 80'", ctx, option)
    return _COMPARISONS[match[1]], float(match[2])


@click.group(cls=Noun)
def alarm() -> None:
    """Alarms: what is done when a metric crosses a line."""


@verb(alarm, "put")
@NAME
@click.option("--metric", "source", nargs=2, metavar="NAMESPACE NAME", help="As --metric AWS/EC2 CPUUtilization.")
@DIMENSIONS
@click.option("--stat", default="Average", show_default=True, help="Average, Sum, Minimum, Maximum, p99, ...")
@click.option("--period", default="1m", show_default=True, callback=options.duration, help="10s, 20s, 30s, or minutes.")
@click.option("--unit", default="", help="Only values in this unit.")
@click.option("--when", callback=_when, metavar="COMPARISON", help="As --when '> 80'; with > >= < or <=.")
@click.option("--periods", type=int, default=1, show_default=True, help="How many periods are looked at.")
@click.option("--datapoints", type=int, default=0, help="How many of them must be over the line (default: all).")
@click.option(
    "--missing",
    default="",
    type=click.Choice(["", "missing", "breaching", "notBreaching", "ignore"]),
    help="What a period without data counts as.",
)
@click.option("--rule", help='Instead of a metric: ALARM("a") AND NOT OK("b").')
@click.option("--suppressor", default="", help="Of a rule: while this alarm is in ALARM nobody is told.")
@click.option("--wait", type=int, help="Of --suppressor: seconds.")
@click.option("--extension", type=int, help="Of --suppressor: seconds.")
@click.option("--action", "alarm_actions", multiple=True, metavar="ARN", help="A topic's, ...; or policy:GROUP/NAME.")
@click.option("--ok-action", "ok_actions", multiple=True, metavar="ARN", help="What is told when it is OK again.")
@click.option(
    "--no-data-action",
    "insufficient_data_actions",
    multiple=True,
    metavar="ARN",
    help="What is told when data is missing.",
)
@click.option("--disabled", is_flag=True, help="Its actions are not carried out.")
@click.option("--description", default="", help="For people.")
@options.tags
def put(session: Session, name: str, source: tuple[str, str] | None, rule: str | None, **given: Any) -> None:
    """Make an alarm, or change it as a whole."""
    from minicloud.client.metric_models import Metric

    if (source is None) == (rule is None):
        raise click.UsageError("either --metric or --rule")
    kinds = ("alarm_actions", "ok_actions", "insufficient_data_actions")
    common: dict[str, Any] = {key: arns(session, given[key]) for key in kinds}
    common |= {"description": given["description"], "actions_enabled": not given["disabled"], "tags": given["tags"]}
    if rule is not None:
        made = session.client.alarms.put_composite(
            name,
            rule,
            suppressor=given["suppressor"],
            suppressor_wait_s=given["wait"],
            suppressor_extension_s=given["extension"],
            **common,
        )
    else:
        assert source is not None
        if given["when"] is None:
            raise click.UsageError("--when is missing")
        made = session.client.alarms.put(
            name,
            *given["when"],
            metric=Metric(*source, given["dimensions"]),
            stat=given["stat"],
            period_s=int(given["period"]),
            unit=given["unit"],
            evaluation_periods=given["periods"],
            datapoints_to_alarm=given["datapoints"],
            missing_data=given["missing"],
            **common,
        )
    show_list(session, [made], COLUMNS)


def arns(session: Session, actions: Sequence[str]) -> list[str]:
    """A scaling policy may be named as policy:GROUP/NAME."""
    found = []
    for action in actions:
        kind, _, named = action.partition(":")
        group, _, policy = named.rpartition("/")
        found.append(session.client.policies.get(group, policy).arn if kind == "policy" else action)
    return found


@verb(alarm, "list")
@click.option("--prefix", default="", help="Of the name.")
@click.option(
    "--state", default="", type=click.Choice(["", "OK", "ALARM", "INSUFFICIENT_DATA"]), help="Only those in it."
)
def list_alarms(session: Session, prefix: str, state: str) -> None:
    """Alarms of this account and region."""
    show_list(session, session.client.alarms.list(prefix=prefix, state=state), COLUMNS)


@verb(alarm, "show")
@NAME
def show(session: Session, name: str) -> None:
    """Everything about one alarm."""
    found = session.client.alarms.get(name)
    if found is None:
        raise NotFound(f"Alarm {name} does not exist", code="ResourceNotFound", field="AlarmName")
    show_one(session, found)


@verb(alarm, "history")
@click.argument("name", default="")
@click.option(
    "--kind", default="", type=click.Choice(["", "ConfigurationUpdate", "StateUpdate", "Action"]), help="Only these."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most so many.")
def history(session: Session, name: str, kind: str, limit: int) -> None:
    """What happened, the newest first: changes of state, actions carried out."""
    from itertools import islice

    show_list(session, islice(session.client.alarms.history(name, kind=kind), limit), HISTORY)


@verb(alarm, "delete")
@NAMES
def delete(session: Session, names: tuple[str, ...]) -> None:
    """Delete alarms."""
    session.client.alarms.delete(*names)
    say(session, {"deleted": list(names)}, f"{cell(names)}: deleted")


@verb(alarm, "set-state")
@NAME
@click.argument("state", type=click.Choice(["OK", "ALARM", "INSUFFICIENT_DATA"]))
@click.option("--reason", default="set by hand", show_default=True, help="Shown with the state.")
def set_state(session: Session, name: str, state: str, reason: str) -> None:
    """Try an alarm: its actions are carried out; the next evaluation looks at the metric again."""
    show_list(session, [session.client.alarms.set_state(name, state, reason)], COLUMNS)


@verb(alarm, "enable")
@NAMES
def enable(session: Session, names: tuple[str, ...]) -> None:
    """Carry actions out again."""
    session.client.alarms.enable_actions(*names)
    say(session, {"enabled": list(names)}, f"{cell(names)}: actions are enabled")


@verb(alarm, "disable")
@NAMES
def disable(session: Session, names: tuple[str, ...]) -> None:
    """Carry no actions out; states go on changing."""
    session.client.alarms.disable_actions(*names)
    say(session, {"disabled": list(names)}, f"{cell(names)}: actions are disabled")


@verb(alarm, "tag")
@NAME
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, name: str, tags: dict[str, str]) -> None:
    """Add tags or change their values."""
    show_tags(session, session.client.alarms.tag(name, tags))


@verb(alarm, "untag")
@NAME
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, name: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.alarms.untag(name, *keys))


def said(one: Any) -> str:
    """What the alarm waits for, in a line."""
    if one.rule:
        return str(one.rule)
    watched = next(query for query in one.queries if not query.hidden)
    of = watched.expression or f"{watched.stat} {watched.metric.name}"
    many = f"{one.datapoints_to_alarm} of {one.evaluation_periods} periods"
    span = f"{watched.period_s or one.queries[0].period_s} s"
    return f"{of} {_SIGNS.get(one.comparison, one.comparison)} {one.threshold:g}, {many} of {span}"
