"""`minicloud rule`: what events match, or times; where they go. RULE is a name or ARN."""

from __future__ import annotations

from typing import Any

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_one, show_tags
from minicloud.cli.session import Noun, Session, verb

COLUMNS: Columns = (
    ("NAME", lambda r: r.name),
    ("STATE", lambda r: "enabled" if r.enabled else "disabled"),
    ("PATTERN", lambda r: r.pattern),
    ("SCHEDULE", lambda r: r.expression),
    ("TARGETS", lambda r: len(r.targets)),
)
TARGETS: Columns = (
    ("ID", lambda t: t.id),
    ("ARN", lambda t: t.arn),
    ("GIVEN", lambda t: t.input or t.input_path or t.template or "the event"),
    ("DEAD LETTERS", lambda t: t.dead_letter_arn),
)
RULE = click.argument("rule")
_SID = "rule-"


@click.group(cls=Noun)
def rule() -> None:
    """Rules: what is done when an event matches, or at a time."""


@verb(rule, "put")
@click.argument("name")
@click.option("--pattern", default="", help='JSON: {"source": ["aws.ec2"], "detail": {"state": ["running"]}}.')
@click.option("--schedule", default="", help="rate(5 minutes), cron(0 18 ? * MON-FRI *), in UTC.")
@click.option("--instance-state", "states", multiple=True, help="Of an instance: running, stopped, terminated, ...")
@click.option("--description", default="", help="For people.")
@click.option("--disabled", is_flag=True, help="Make it, but let it do nothing yet.")
@options.tags
def put(
    session: Session,
    name: str,
    pattern: str,
    schedule: str,
    states: tuple[str, ...],
    tags: dict[str, str],
    **given: Any,
) -> None:
    """Make a rule, or change it as a whole; its targets stay. TAGS are of a new rule."""
    if pattern and states:
        raise click.UsageError("--pattern or --instance-state")
    wanted: Any = pattern
    if states:
        wanted = {
            "source": ["aws.ec2"],
            "detail-type": ["EC2 Instance State-change Notification"],
            "detail": {"state": list(states)},
        }
    made = session.client.rules.put(name, pattern=wanted, expression=schedule, tags=tags, **given)
    show_list(session, [made], COLUMNS)


@verb(rule, "list")
@click.option("--prefix", default="", help="Of names.")
@click.option("--target", default="", help="Only rules with this target, an ARN.")
def list_rules(session: Session, prefix: str, target: str) -> None:
    """Rules of this account and region."""
    show_list(session, session.client.rules.list(prefix=prefix, target_arn=target), COLUMNS)


@verb(rule, "show")
@RULE
def show(session: Session, rule: str) -> None:
    """Everything about one rule."""
    show_one(session, session.client.rules.get(rule))


@verb(rule, "enable")
@RULE
def enable(session: Session, rule: str) -> None:
    """Let it take events and fire again."""
    show_list(session, [session.client.rules.enable(rule)], COLUMNS)


@verb(rule, "disable")
@RULE
def disable(session: Session, rule: str) -> None:
    """It takes no events and fires at no time."""
    show_list(session, [session.client.rules.disable(rule)], COLUMNS)


@verb(rule, "delete")
@RULE
@click.option("--force", is_flag=True, help="With its targets.")
def delete(session: Session, rule: str, force: bool) -> None:
    """End a rule that has no targets."""
    rules = session.client.rules
    if force and (ids := [one.id for one in rules.get(rule).targets]):
        rules.remove_targets(rule, *ids)
    rules.delete(rule)
    say(session, {"deleted": rule}, f"{rule} is deleted")


@verb(rule, "tag")
@RULE
@click.argument("tags", nargs=-1, required=True, metavar="NAME=VALUE...", callback=options.parse_pairs)
def tag(session: Session, rule: str, tags: dict[str, str]) -> None:
    """Set tags."""
    show_tags(session, session.client.rules.tag(rule, tags).tags)


@verb(rule, "untag")
@RULE
@click.argument("keys", nargs=-1, required=True)
def untag(session: Session, rule: str, keys: tuple[str, ...]) -> None:
    """Take tags away."""
    show_tags(session, session.client.rules.untag(rule, keys).tags)


# ---------------------------------------------------------------- targets


@rule.group()
def target() -> None:
    """Where events go: functions, queues, topics."""


@verb(target, "add")
@RULE
@click.option("--function", help="Name or ARN; it is given the permission that the rule needs.")
@click.option("--queue", help="Name or ARN.")
@click.option("--topic", help="Name or ARN.")
@click.option("--id", "target_id", default="", help="Else the target's name.")
@click.option("--input", default="", help="JSON in the event's stead.")
@click.option("--input-path", default="", help="A part of the event: $.detail.")
@click.option("--template", default="", help='A text or JSON with variables: "<id> is <state>".')
@click.option("--path", "paths", multiple=True, metavar="NAME=PATH", callback=options.parse_pairs, help="A variable.")
@click.option("--group-id", default="", help="The message group in a FIFO queue.")
@click.option("--retries", type=int, help="0 to 185.")
@click.option("--age", "age_s", type=int, help="Seconds after which an event is given up.")
@click.option("--dead-letters", default="", help="Name or ARN of a queue.")
def add(session: Session, rule: str, function: str | None, queue: str | None, topic: str | None, **given: Any) -> None:
    """Send the events of RULE there too; a target of the same id is replaced."""
    from minicloud.client.rule_models import EventTarget

    if sum(one is not None for one in (function, queue, topic)) != 1:
        raise click.UsageError("one of --function, --queue and --topic")
    client = session.client
    if queue is not None:
        arn = client.queues.get(queue).arn
    elif topic is not None:
        arn = client.topics.get(topic).arn
    else:
        arn = _permitted(session, function or "", client.rules.get(rule).arn)
    letters, target_id = given.pop("dead_letters"), given.pop("target_id") or _last(arn)
    dead_letter_arn = client.queues.get(letters).arn if letters else ""
    made = client.rules.put_targets(rule, EventTarget(target_id, arn, dead_letter_arn=dead_letter_arn, **given))
    show_list(session, made.targets, TARGETS)


def _permitted(session: Session, function: str, rule_arn: str) -> str:
    """The function's ARN; its policy lets this rule in."""
    import contextlib

    from minicloud.base.errors import AlreadyExists
    from minicloud.client.function_models import FunctionStatement

    statement = FunctionStatement(
        f"{_SID}{_last(rule_arn)}".replace(".", "-"), "events.amazonaws.com", source_arn=rule_arn
    )
    with contextlib.suppress(AlreadyExists):
        session.client.triggers.permit(function, statement)
    return str(session.client.functions.get(function).arn)


def _last(arn: str) -> str:
    return arn.rpartition(":")[2].rpartition("/")[2]


@verb(target, "list")
@RULE
def list_targets(session: Session, rule: str) -> None:
    """The targets of a rule."""
    show_list(session, session.client.rules.get(rule).targets, TARGETS)


@verb(target, "remove")
@RULE
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
def remove(session: Session, rule: str, ids: tuple[str, ...]) -> None:
    """Send no events there any more."""
    show_list(session, session.client.rules.remove_targets(rule, *ids).targets, TARGETS)


# ---------------------------------------------------------------- events


@verb(rule, "send")
@click.argument("source")
@click.argument("detail_type", metavar="DETAIL-TYPE")
@click.argument("detail", default="{}")
@click.option("--resource", "resources", multiple=True, help="An ARN, or what you like.")
def send(session: Session, source: str, detail_type: str, detail: str, resources: tuple[str, ...]) -> int:
    """Put an event of your own; DETAIL is a JSON object."""
    result = session.client.rules.send(source, detail_type, detail, resources=resources)
    show_one(session, result)
    return 1 if result.error_code else 0


@verb(rule, "test-pattern")
@click.argument("pattern")
@click.argument("event")
def test_pattern(session: Session, pattern: str, event: str) -> int:
    """Whether EVENT, a whole event as JSON, matches PATTERN; exit code 1: it does not."""
    matches = session.client.rules.test_pattern(pattern, event)
    say(session, {"matches": matches}, "it matches" if matches else "it does not match")
    return 0 if matches else 1
