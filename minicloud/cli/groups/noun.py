"""`minicloud group`: make, change, look at, delete auto scaling groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_one, show_tags
from minicloud.cli.progress import Progress
from minicloud.cli.session import Noun, Session, verb

F = TypeVar("F", bound=Callable[..., Any])

COLUMNS: Columns = (
    ("NAME", lambda g: g.name),
    ("MIN", lambda g: g.min_size),
    ("DESIRED", lambda g: g.desired),
    ("MAX", lambda g: g.max_size),
    ("IN SERVICE", lambda g: g.counts.in_service),
    ("TEMPLATE", lambda g: f"{g.template.id}:{g.template.version or '$Default'}"),
    ("ZONES", lambda g: g.zones),
    ("STATUS", lambda g: g.status or ", ".join(f"no {name}" for name in sorted(g.suspended))),
)
ACTIVITIES: Columns = (
    ("TIME", lambda a: a.started_time),
    ("STATUS", lambda a: a.status),
    ("WHAT", lambda a: a.description),
    ("WHY", lambda a: a.cause),
)
NAME = click.argument("name")
PROCESSES = click.argument("processes", nargs=-1, metavar="[PROCESS]...")
_LISTS = {
    "zones": "zones",
    "types": "types",
    "health": "health_types",
    "policies": "termination_policies",
    "target_groups": "target_groups",
}


def settings(function: F) -> F:
    """What `create` and `update` have in common."""
    for option in reversed(
        (
            click.option("--min", "min_size", type=int, help="At least so many instances."),
            click.option("--max", "max_size", type=int, help="At most so many."),
            click.option("--desired", type=int, help="How many there should be (at first: --min)."),
            click.option("--version", default="", help="Of the template: a number, $Default, $Latest."),
            click.option("--zone", "zones", multiple=True, help="Where (at first: all zones)."),
            click.option("--type", "types", multiple=True, help="Instead of the template's; the first that has room."),
            click.option("--cooldown", callback=options.seconds, help="Of simple policies; 300 at first."),
            click.option("--warmup", callback=options.seconds, help="Until a new instance counts (--cooldown)."),
            click.option("--health", multiple=True, type=click.Choice(["EC2", "ELB"]), help="Whose word counts."),
            click.option("--grace", callback=options.seconds, help="So long the balancer's word does not count."),
            click.option("--end-first", "policies", multiple=True, help="Termination policy: OldestInstance, ..."),
            click.option("--protect/--no-protect", "protect_new", default=None, help="New instances from scale-in."),
            click.option("--lifetime", callback=options.seconds, help="Instances are replaced after this; 0: never."),
            click.option("--target-group", "target_groups", multiple=True, metavar="NAME", help="A name or an ARN."),
        )
    ):
        function = option(function)
    return function


def target_arns(session: Session, names: Sequence[str]) -> list[str]:
    """Of target groups by name or ARN."""
    found = session.client.target_groups
    return [name if name.startswith("arn:") else found.get(name).arn for name in names]


def _given(session: Session, options: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of the SDK: only what was said."""
    given = {name: value for name, value in options.items() if name not in _LISTS and value is not None}
    for short, long in {"cooldown": "cooldown_s", "warmup": "warmup_s", "grace": "grace_s"}.items():
        given |= {long: given.pop(short)} if short in given else {}
    given |= {"max_lifetime_s": given.pop("lifetime")} if "lifetime" in given else {}
    given |= {long: list(options[short]) for short, long in _LISTS.items() if options[short]}
    if options["target_groups"]:
        given["target_groups"] = target_arns(session, options["target_groups"])
    return given


@click.group(cls=Noun)
def group() -> None:
    """Auto scaling groups: as many instances as the load needs."""


@verb(group, "create")
@NAME
@click.argument("template")
@settings
@options.tags
@click.option("--wait", is_flag=True, help="Until it has what it should have.")
def create(session: Session, name: str, template: str, tags: dict[str, str], wait: bool, **given: Any) -> None:
    """Make a group of instances of a launch template."""
    if given["min_size"] is None or given["max_size"] is None:
        raise click.UsageError("--min and --max are needed")
    made = session.client.groups.create(name, template, tags=tags, **_given(session, given))
    show_list(session, [_stable(session, name) if wait else made], COLUMNS)


@verb(group, "update")
@NAME
@click.option("--template", help="Of the instances that are launched from now on.")
@settings
def update(session: Session, name: str, template: str | None, **given: Any) -> None:
    """Change what is given; instances that run stay as they are (`group refresh` replaces them)."""
    if given["version"] and template is None:
        found = session.client.groups.get(name).template
        template = found.id if found is not None else None
    changed = session.client.groups.update(name, template=template, **_given(session, given))
    show_list(session, [changed], COLUMNS)


@verb(group, "list")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def list_groups(session: Session, names: tuple[str, ...]) -> None:
    """Groups of this account and region."""
    show_list(session, session.client.groups.list(*names), COLUMNS)


@verb(group, "show")
@NAME
def show(session: Session, name: str) -> None:
    """Everything about one group."""
    show_one(session, session.client.groups.get(name))


@verb(group, "delete")
@NAME
@click.option("--force", is_flag=True, help="End its instances first.")
@click.option("--wait", is_flag=True, help="Until it is gone.")
def delete(session: Session, name: str, force: bool, wait: bool) -> None:
    """Delete a group."""
    session.client.groups.delete(name, force=force)
    if wait:
        with Progress(f"ending {name}"):
            session.client.groups.wait_gone(name)
    say(session, {"deleted": name}, f"{name}: {'deleted' if wait or not force else 'its instances are ending'}")


@verb(group, "set-desired")
@NAME
@click.argument("desired", type=int)
@click.option("--honor-cooldown", is_flag=True, help="Not in the cooldown after a simple policy.")
@click.option("--wait", is_flag=True, help="Until so many are in service.")
def set_desired(session: Session, name: str, desired: int, honor_cooldown: bool, wait: bool) -> None:
    """Have so many instances."""
    changed = session.client.groups.set_desired(name, desired, honor_cooldown=honor_cooldown)
    show_list(session, [_stable(session, name) if wait else changed], COLUMNS)


def _stable(session: Session, name: str) -> Any:
    with Progress(f"waiting for {name}"):
        return session.client.groups.wait_stable(name)


@verb(group, "activities")
@click.argument("name", default="")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most so many.")
def activities(session: Session, name: str, limit: int) -> None:
    """What happened and why, the newest first."""
    show_list(session, islice(session.client.groups.activities(name), limit), ACTIVITIES)


@verb(group, "suspend")
@NAME
@PROCESSES
def suspend(session: Session, name: str, processes: tuple[str, ...]) -> None:
    """Have processes rest (Launch, Terminate, ReplaceUnhealthy, AlarmNotification, ...; none named: all)."""
    show_list(session, [session.client.groups.suspend(name, *processes)], COLUMNS)


@verb(group, "resume")
@NAME
@PROCESSES
def resume(session: Session, name: str, processes: tuple[str, ...]) -> None:
    """Let processes go on (none named: all)."""
    show_list(session, [session.client.groups.resume(name, *processes)], COLUMNS)


@verb(group, "tag")
@NAME
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
@click.option("--local", is_flag=True, help="Instances do not get them.")
def tag(session: Session, name: str, tags: dict[str, str], local: bool) -> None:
    """Add tags or change their values; instances that are launched from now on get them."""
    show_tags(session, session.client.groups.tag(name, tags, local_tags=list(tags) if local else []).tags)


@verb(group, "untag")
@NAME
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, name: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.groups.untag(name, *keys).tags)


@verb(group, "metrics")
@NAME
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@click.option("--stop", is_flag=True, help="Report them no longer.")
def metrics(session: Session, name: str, metrics: tuple[str, ...], stop: bool) -> None:
    """Report group metrics, such as GroupDesiredCapacity (none named: all)."""
    changed = session.client.groups.collect_metrics(name, *metrics, stop=stop)
    say(session, {"metrics": list(changed.metrics)}, "\n".join(changed.metrics) or "none is reported")


@verb(group, "notify")
@NAME
@click.argument("topic", metavar="TOPIC_ARN")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(["launch", "launch-error", "terminate", "terminate-error"]),
    help="Only these (all).",
)
@click.option("--stop", is_flag=True, help="Tell it nothing any more.")
def notify(session: Session, name: str, topic: str, events: tuple[str, ...], stop: bool) -> None:
    """Have a topic told how launches and terminations ended."""
    wanted = () if stop else events or ("launch", "launch-error", "terminate", "terminate-error")
    changed = session.client.groups.set_notifications(name, topic, *wanted)
    show_list(session, changed.notifications, (("TOPIC", lambda n: n.topic), ("EVENTS", lambda n: n.events)))
