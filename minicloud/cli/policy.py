"""`minicloud policy`: how groups follow their load: policies, scheduled actions, forecasts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from minicloud.cli import options
from minicloud.cli.groups.noun import COLUMNS as GROUPS
from minicloud.cli.groups.noun import target_arns
from minicloud.cli.output import Columns, cell, say, show_list, show_one, write_json, write_table
from minicloud.cli.session import Noun, Session, verb

if TYPE_CHECKING:
    from minicloud.client.group_models import LoadForecast, ScalingPolicy, Step

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("GROUP", lambda p: p.group),
    ("NAME", lambda p: p.name),
    ("TYPE", lambda p: p.type),
    ("WHAT", lambda p: said(p)),
    ("ENABLED", lambda p: p.enabled),
    ("ARN", lambda p: p.arn),
)
SCHEDULES: Columns = (
    ("GROUP", lambda a: a.group),
    ("NAME", lambda a: a.name),
    ("WHEN", lambda a: f"{a.recurrence} {a.time_zone}".strip() if a.recurrence else cell(a.start_time)),
    ("NEXT", lambda a: a.next_time),
    ("MIN", lambda a: a.min_size),
    ("DESIRED", lambda a: a.desired),
    ("MAX", lambda a: a.max_size),
)
GROUP = click.argument("group")
NAME = click.argument("name")
DISABLED = click.option("--disabled", is_flag=True, help="Make it, but do not let it do anything.")
WARMUP = click.option("--warmup", callback=options.seconds, help="Instead of the group's.")
KIND = click.option(
    "--adjust",
    "adjustment_type",
    type=click.Choice(["ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity"]),
    default="ChangeInCapacity",
    show_default=True,
    help="What an adjustment's number means.",
)
MAGNITUDE = click.option("--min-magnitude", type=int, default=0, help="Of a percentage: at least so many instances.")
TARGET_GROUP = click.option("--target-group", metavar="NAME", help="Of a balancer's metric; a name or an ARN.")
CUSTOMIZED = click.option(
    "--customized", callback=lambda c, o, v: _document(c, o, v), metavar="JSON|@FILE", help="A metric of your own."
)


def _document(ctx: click.Context, option: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        found = json.loads(Path(value[1:]).read_text() if value.startswith("@") else value)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}", ctx, option) from None
    if not isinstance(found, dict):
        raise click.BadParameter("it must be an object", ctx, option)
    return found


def _steps(ctx: click.Context, option: click.Parameter, value: Sequence[str]) -> list[tuple[str, str, int]]:
    """LOWER:UPPER=ADJUSTMENT, a bound that is empty being open."""
    found = []
    for text in value:
        bounds, equals, adjustment = text.partition("=")
        lower, colon, upper = bounds.partition(":")
        try:
            parsed = int(adjustment)
            for bound in filter(None, (lower, upper)):
                float(bound)
        except ValueError:
            equals = ""
        if not equals or not colon:
            raise click.BadParameter(f"{text!r} is not [LOWER]:[UPPER]=ADJUSTMENT, such as 0:10=1", ctx, option)
        found.append((lower, upper, parsed))
    return found


@click.group(cls=Noun)
def policy() -> None:
    """Scaling policies and schedules of auto scaling groups, and forecasts."""


@policy.group(name="put")
def put() -> None:
    """Make a policy, or change the one of this name as a whole."""


@verb(put, "target-tracking")
@GROUP
@NAME
@click.argument("target", type=float)
@click.option("--metric", default="", help="ASGAverageCPUUtilization, SQSBacklogPerInstance, ...")
@click.option("--label", default="", help="What the metric is of: a queue, or as --target-group.")
@TARGET_GROUP
@CUSTOMIZED
@click.option("--no-scale-in", "disable_scale_in", is_flag=True, help="It only adds instances.")
@WARMUP
@DISABLED
def target_tracking(session: Session, group: str, name: str, target: float, disabled: bool, **given: Any) -> None:
    """Keep a metric at its target (without --metric and --customized: the average CPU)."""
    if not given["metric"] and given["customized"] is None:
        given["metric"] = "ASGAverageCPUUtilization"
    given["label"] = _label(session, given.pop("target_group")) or given["label"]
    given["warmup_s"] = given.pop("warmup")
    _made(session, session.client.policies.put_target_tracking(group, name, target, enabled=not disabled, **given))


@verb(put, "step")
@GROUP
@NAME
@click.option(
    "--step",
    "steps",
    multiple=True,
    required=True,
    callback=_steps,
    metavar="[LOWER]:[UPPER]=ADJUSTMENT",
    help="How far the metric is past the threshold, and what then; several times.",
)
@KIND
@MAGNITUDE
@click.option(
    "--aggregation",
    type=click.Choice(["Average", "Minimum", "Maximum"]),
    default="Average",
    help="Of the metric over instances.",
)
@WARMUP
@DISABLED
def step(
    session: Session, group: str, name: str, steps: list[tuple[str, str, int]], disabled: bool, **given: Any
) -> None:
    """The further the metric is from its alarm's threshold, the larger the step."""
    from minicloud.client.group_models import Step

    made = [Step(change, float(low) if low else None, float(high) if high else None) for low, high, change in steps]
    given["warmup_s"] = given.pop("warmup")
    _made(session, session.client.policies.put_steps(group, name, made, enabled=not disabled, **given))


@verb(put, "simple")
@GROUP
@NAME
@click.argument("adjustment", type=int)
@KIND
@MAGNITUDE
@click.option("--cooldown", callback=options.seconds, help="Instead of the group's.")
@DISABLED
def simple(session: Session, group: str, name: str, adjustment: int, disabled: bool, **given: Any) -> None:
    """One adjustment when an alarm goes off, then a cooldown."""
    given["cooldown_s"] = given.pop("cooldown")
    _made(session, session.client.policies.put_simple(group, name, adjustment, enabled=not disabled, **given))


@verb(put, "predictive")
@GROUP
@NAME
@click.argument("target", type=float)
@click.option("--pair", default="", help="ASGCPUUtilization, ASGNetworkIn, ASGNetworkOut, ALBRequestCount.")
@click.option("--label", default="", help="Of ALBRequestCount: as --target-group.")
@TARGET_GROUP
@CUSTOMIZED
@click.option("--scale", is_flag=True, help="Not only forecast.")
@click.option("--buffer", callback=options.seconds, help="How far ahead (5m).")
@click.option("--over-max", type=int, metavar="PERCENT", help="Lift the maximum to the forecast and so much more.")
@DISABLED
def predictive(
    session: Session, group: str, name: str, target: float, disabled: bool, scale: bool, **given: Any
) -> None:
    """Scale ahead of the load, as up to 14 days of history let one expect it."""
    if not given["pair"] and given["customized"] is None:
        given["pair"] = "ASGCPUUtilization"
    given["label"] = _label(session, given.pop("target_group")) or given["label"]
    over = given.pop("over_max")
    breach = "HonorMaxCapacity" if over is None else "IncreaseMaxCapacity"
    made = session.client.policies.put_predictive(
        group,
        name,
        target,
        mode="ForecastAndScale" if scale else "ForecastOnly",
        buffer_s=given.pop("buffer"),
        breach=breach,
        max_buffer_percent=over,
        enabled=not disabled,
        **given,
    )
    _made(session, made)


def _label(session: Session, target_group: str | None) -> str:
    """The target group's part of a resource label."""
    return "" if target_group is None else target_arns(session, [target_group])[0].rpartition(":")[2]


def _made(session: Session, one: ScalingPolicy) -> None:
    show_list(session, [one], COLUMNS)


@verb(policy, "list")
@click.argument("group", default="")
def list_policies(session: Session, group: str) -> None:
    """Policies of a group, or of all groups."""
    show_list(session, session.client.policies.list(group), COLUMNS)


@verb(policy, "show")
@GROUP
@NAME
def show(session: Session, group: str, name: str) -> None:
    """Everything about one policy."""
    show_one(session, session.client.policies.get(group, name))


@verb(policy, "delete")
@GROUP
@NAME
def delete(session: Session, group: str, name: str) -> None:
    """Delete a policy."""
    session.client.policies.delete(group, name)
    say(session, {"deleted": name}, f"{name}: deleted")


@verb(policy, "execute")
@GROUP
@NAME
@click.option("--value", type=float, help="Of a step policy: what the metric is.")
@click.option("--threshold", type=float, help="Of a step policy: its alarm's threshold.")
@click.option("--honor-cooldown", is_flag=True, help="Not while the group cools down.")
def execute(session: Session, group: str, name: str, **given: Any) -> None:
    """Carry out a step or simple policy, as its alarm would."""
    show_list(session, [session.client.policies.execute(group, name, **given)], GROUPS)


@verb(policy, "forecast")
@GROUP
@NAME
@click.option("--plot", is_flag=True, help="Draw it in the terminal.")
@click.option("--width", type=click.IntRange(20, 1_000), default=100, show_default=True, help="Of the picture.")
@click.option("--height", type=click.IntRange(8, 1_000), default=20, show_default=True, help="Of the picture.")
def forecast(session: Session, group: str, name: str, plot: bool, width: int, height: int) -> None:
    """The load of the next 48 hours, and the capacity that it asks for."""
    found = session.client.policies.forecast(group, name)
    rows = list(zip(found.times, found.load, found.capacity, strict=True))
    if session.json:
        write_json([{"time": at, "load": load, "capacity": capacity} for at, load, capacity in rows])
    elif not rows:
        raise click.ClickException("there is no forecast yet: it needs a day of history, and is made every hour")
    elif plot:
        _draw(found, width, height)
    else:
        table = [[cell(datetime.fromtimestamp(at).astimezone()), f"{load:g}", str(count)] for at, load, count in rows]
        write_table(("TIME", "LOAD", "CAPACITY"), table)


def _draw(found: LoadForecast, width: int, height: int) -> None:
    from minicloud.cli import chart
    from minicloud.cli.output import write_line

    for label, values in (("load", found.load), ("capacity", [float(count) for count in found.capacity])):
        series = [chart.Series(label, found.times, values)]
        frame = chart.Frame.around(series, found.times[0], found.times[-1])
        write_line(label)
        for row in chart.draw(series, frame, width, height):
            write_line("".join(part.text for part in row).rstrip())


# ---------------------------------------------------------------- schedules


@verb(policy, "schedule")
@GROUP
@NAME
@click.option("--cron", "recurrence", default="", help="Five fields, such as '0 9 * * MON-FRI'.")
@click.option("--time-zone", default="", help="Of --cron, such as Europe/Berlin (UTC).")
@click.option("--at", "start", type=click.DateTime(), help="Once, or from then on; in local time.")
@click.option("--until", "end", type=click.DateTime(), help="Of --cron.")
@click.option("--min", "min_size", type=int, help="The group's minimum from then on.")
@click.option("--desired", type=int, help="Its desired capacity from then on.")
@click.option("--max", "max_size", type=int, help="Its maximum from then on.")
def schedule(
    session: Session, group: str, name: str, start: datetime | None, end: datetime | None, **given: Any
) -> None:
    """Change sizes at a time, or again and again."""
    made = session.client.policies.put_schedule(group, name, start=_local(start), end=_local(end), **given)
    show_list(session, [made], SCHEDULES)


def _local(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone()


@verb(policy, "schedules")
@click.argument("group", default="")
def schedules(session: Session, group: str) -> None:
    """Scheduled actions of a group, or of all groups."""
    show_list(session, session.client.policies.schedules(group), SCHEDULES)


@verb(policy, "unschedule")
@GROUP
@NAME
def unschedule(session: Session, group: str, name: str) -> None:
    """Delete a scheduled action."""
    session.client.policies.delete_schedule(group, name)
    say(session, {"deleted": name}, f"{name}: deleted")


def said(one: ScalingPolicy) -> str:
    """What the policy does, in a line."""
    if one.target_tracking is not None:
        metric = one.target_tracking.metric or one.target_tracking.customized
        return f"{metric} at {one.target_tracking.target:g}"
    if one.steps is not None:
        return f"{one.steps.adjustment_type}: " + ", ".join(map(_step_text, one.steps.steps))
    if one.simple is not None:
        return f"{one.simple.adjustment_type} {one.simple.adjustment:+d}"
    assert one.predictive is not None
    return f"{one.predictive.mode} {one.predictive.pair or 'customized'} at {one.predictive.target:g}"


def _step_text(one: Step) -> str:
    low, high = ("" if bound is None else f"{bound:g}" for bound in (one.lower, one.upper))
    return f"{low}:{high}={one.adjustment}"
