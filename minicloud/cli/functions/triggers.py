"""`minicloud function url`, `trigger`, `concurrency`: by which ways a function is called, and how often at once."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from minicloud.cli.functions.commands import FUNCTION, function
from minicloud.cli.output import Columns, say, show_list, show_one
from minicloud.cli.session import Session, verb

if TYPE_CHECKING:
    from minicloud.client.function_models import FunctionMapping

URLS: Columns = (
    ("URL", lambda u: u.url),
    ("AUTH", lambda u: u.auth),
    ("MODE", lambda u: u.invoke_mode),
    ("OF", lambda u: u.arn),
)
TRIGGERS: Columns = (
    ("ID", lambda t: t["id"]),
    ("KIND", lambda t: t["kind"]),
    ("SOURCE", lambda t: t["source"]),
    ("STATE", lambda t: t["state"]),
    ("SETTINGS", lambda t: t["settings"]),
)
_PUBLIC_SID = "FunctionURLAllowPublicAccess"


@verb(function, "url")
@FUNCTION
@click.option("--public", is_flag=True, help="For everybody, without a credential.")
@click.option("--stream", is_flag=True, help="Answers are passed on while they are made.")
@click.option("--delete", "end", is_flag=True, help="Take it away.")
def url(session: Session, function: str, public: bool, stream: bool, end: bool) -> None:
    """The URL of a function or alias; it is made where there is none."""
    from minicloud.base.errors import AlreadyExists
    from minicloud.client.function_models import FunctionStatement

    triggers = session.client.triggers
    if end:
        triggers.delete_url(function)
        say(session, {"deleted": function}, f"{function} has no URL any more")
        return
    auth, mode = "NONE" if public else "AWS_IAM", "RESPONSE_STREAM" if stream else "BUFFERED"
    try:
        made = triggers.create_url(function, auth=auth, invoke_mode=mode)
    except AlreadyExists:
        made = triggers.update_url(function, auth=auth if public else None, invoke_mode=mode if stream else None)
    if public:
        statement = FunctionStatement(_PUBLIC_SID, "*", "lambda:InvokeFunctionUrl", url_auth="NONE")
        with contextlib.suppress(AlreadyExists):
            triggers.permit(function, statement)
    show_list(session, [made], URLS)


@verb(function, "concurrency")
@FUNCTION
@click.option("--reserve", type=int, help="So many at once are the function's own, and its limit; -1: none.")
@click.option("--provision", type=int, help="Keep so many environments of a version or alias warm; 0: none.")
def concurrency(session: Session, function: str, reserve: int | None, provision: int | None) -> None:
    """What is reserved and kept warm for a function, and what runs."""
    triggers = session.client.triggers
    if reserve is not None:
        triggers.reserve(function, None if reserve < 0 else reserve)
    if provision is not None:
        triggers.provision(function, provision or None)
    show_one(session, triggers.concurrency(function))


@function.group()
def trigger() -> None:
    """What calls functions: queues, topics, schedules."""


@verb(trigger, "add")
@FUNCTION
@click.option("--queue", help="Name or ARN.")
@click.option("--topic", help="Name or ARN.")
@click.option("--schedule", help="rate(5 minutes), cron(0 18 ? * MON-FRI *), at(2026-11-25T18:00:00).")
@click.option("--name", default="", help="Of the schedule; else the function's.")
@click.option("--zone", default="", help="Time zone of the schedule, as Europe/Berlin.")
@click.option("--input", "input_", default="", help="JSON that the schedule passes.")
@click.option("--batch", "batch_size", type=int, help="Messages of the queue at once.")
@click.option("--window", "window_s", type=int, help="Seconds to wait for a batch to fill.")
@click.option("--concurrency", type=int, help="Invocations for the queue at once.")
@click.option("--report-failures", is_flag=True, help="The function says which messages failed.")
@click.option("--filter", "filters", multiple=True, help="JSON pattern; for a topic, its filter policy.")
def add(
    session: Session, function: str, queue: str | None, topic: str | None, schedule: str | None, **given: Any
) -> None:
    """Let a queue, a topic or a schedule call FUNCTION."""
    if sum(one is not None for one in (queue, topic, schedule)) != 1:
        raise click.UsageError("one of --queue, --topic and --schedule")
    client = session.client
    if queue is not None:
        arn = client.queues.get(queue).arn
        client.triggers.map(
            function,
            arn,
            batch_size=given["batch_size"],
            window_s=given["window_s"],
            concurrency=given["concurrency"],
            report_failures=given["report_failures"] or None,
            filters=given["filters"] or None,
        )
    elif topic is not None:
        _add_topic(session, function, topic, given["filters"])
    else:
        name = given["name"] or client.functions.get(function).name
        client.triggers.schedule(name, schedule or "", function, zone=given["zone"], input=given["input_"])
    show_list(session, _triggers(session, function), TRIGGERS)


def _add_topic(session: Session, function: str, topic: str, filters: tuple[str, ...]) -> None:
    """With the permission that the topic needs."""
    from minicloud.base.errors import AlreadyExists
    from minicloud.client.function_models import FunctionStatement

    if len(filters) > 1:
        raise click.UsageError("a subscription has one --filter")
    client = session.client
    arn, target = client.topics.get(topic).arn, client.functions.get(function).arn
    statement = FunctionStatement(f"topic-{arn.rpartition(':')[2]}", "sns.amazonaws.com", source_arn=arn)
    with contextlib.suppress(AlreadyExists):
        client.triggers.permit(function, statement)
    client.topics.subscribe(arn, "lambda", target, {"FilterPolicy": filters[0]} if filters else {})


@verb(trigger, "list")
@click.argument("function", default="")
def list_triggers(session: Session, function: str) -> None:
    """What calls a function, or all functions."""
    show_list(session, _triggers(session, function), TRIGGERS)


@verb(trigger, "remove")
@click.argument("trigger_id", metavar="ID")
def remove(session: Session, trigger_id: str) -> None:
    """End a trigger by its ID from `list`."""
    client = session.client
    if trigger_id.startswith("arn:aws:sns:"):
        client.topics.unsubscribe(trigger_id)
    elif any(one.uuid == trigger_id for one in client.triggers.mappings()):
        client.triggers.unmap(trigger_id)
    else:
        client.triggers.unschedule(trigger_id)
    say(session, {"removed": trigger_id}, f"{trigger_id} is removed")


def _triggers(session: Session, function: str) -> list[dict[str, str]]:
    client = session.client
    found = [
        _row(one.uuid, "queue", one.source_arn, one.state, settings_of(one))
        for one in client.triggers.mappings(function)
    ]
    found += [
        _row(one.name, "schedule", one.expression, "Disabled" if one.disabled else "Enabled", one.zone)
        for one in client.triggers.schedules(function)
    ]
    arn = client.functions.get(function).arn if function else ""
    found += [
        _row(one.arn, "topic", one.topic_arn, "Enabled", "")
        for one in client.topics.subscriptions()
        if one.protocol == "lambda" and arn in ("", one.endpoint)
    ]
    return found


def settings_of(mapping: FunctionMapping) -> str:
    """What differs from a mapping that was given nothing, after its batch."""
    said = [f"batch {mapping.batch_size}"]
    if mapping.window_s:
        said.append(f"window {mapping.window_s} s")
    if mapping.concurrency:
        said.append(f"concurrency {mapping.concurrency}")
    if mapping.filters:
        said.append(f"filters {len(mapping.filters)}")
    if mapping.report_failures:
        said.append("reports failures")
    return ", ".join(said)


def _row(key: str, kind: str, source: str, state: str, settings: str) -> dict[str, str]:
    return {"id": key, "kind": kind, "source": source, "state": state, "settings": settings}
