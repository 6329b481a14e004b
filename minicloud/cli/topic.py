"""`minicloud topic`: make, describe, change, end; publish; who is subscribed. TOPIC is a name or ARN."""

from __future__ import annotations

from typing import Any

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_one, show_tags, write_json
from minicloud.cli.queue import show_sent
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.convert import to_data

COLUMNS: Columns = (("NAME", lambda t: t.name), ("ARN", lambda t: t.arn))
SUBSCRIPTIONS: Columns = (
    ("PROTOCOL", lambda s: s.protocol),
    ("ENDPOINT", lambda s: s.endpoint),
    ("TOPIC", lambda s: s.topic_arn),
    ("ARN", lambda s: s.arn),
)
METRICS: Columns = (("OF", lambda m: m[0]), ("METRIC", lambda m: m[1]), ("VALUE", lambda m: m[2]))
TOPIC = click.argument("topic")
PAIRS = click.argument("attributes", nargs=-1, required=True, metavar="NAME=VALUE...", callback=options.parse_pairs)
ATTRIBUTES = click.option(
    "--attribute", "-a", "attributes", metavar="NAME=VALUE", multiple=True, callback=options.parse_pairs,
    help="By AWS's name: DisplayName=..., FilterPolicy=...",
)  # fmt: skip


@click.group(cls=Noun)
def topic() -> None:
    """Topics: publish messages to all who are subscribed."""


@verb(topic, "create")
@click.argument("name")
@click.option("--fifo", is_flag=True, help="Ordered and without doubles; NAME ends with .fifo.")
@ATTRIBUTES
@options.tags
def create(session: Session, name: str, fifo: bool, attributes: dict[str, str], tags: dict[str, str]) -> None:
    """Make a topic; one that is the same already is shown."""
    given = {**({"FifoTopic": "true"} if fifo else {}), **attributes}
    show_list(session, [session.client.topics.create(name, given, tags=tags)], COLUMNS)


@verb(topic, "list")
def list_topics(session: Session) -> None:
    """Topics of this account and region."""
    show_list(session, session.client.topics.list(), COLUMNS)


@verb(topic, "show")
@TOPIC
def show(session: Session, topic: str) -> None:
    """Everything about one topic."""
    show_one(session, session.client.topics.get(topic))


@verb(topic, "set")
@TOPIC
@PAIRS
def set_attributes(session: Session, topic: str, attributes: dict[str, str]) -> None:
    """Change attributes of a topic, or of a subscription (by its ARN); an empty VALUE takes a policy away."""
    if is_subscription(topic):
        show_one(session, session.client.topics.set_subscription_attributes(topic, attributes))
    else:
        show_one(session, session.client.topics.set_attributes(topic, attributes))


@verb(topic, "tag")
@TOPIC
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, topic: str, tags: dict[str, str]) -> None:
    """Add tags or change their values."""
    show_tags(session, session.client.topics.tag(topic, tags))


@verb(topic, "untag")
@TOPIC
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, topic: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.topics.untag(topic, *keys))


@verb(topic, "delete")
@TOPIC
def delete(session: Session, topic: str) -> None:
    """Delete a topic with its subscriptions."""
    session.client.topics.delete(topic)
    say(session, {"deleted": topic}, f"{topic} is deleted")


@verb(topic, "publish")
@TOPIC
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
@click.option("--body", help="The same as MESSAGE; '-': standard input is one message.")
@click.option("--lines", is_flag=True, help="Each line of standard input is a message.")
@click.option("--subject", default="", help="A line about it, for those who read it.")
@click.option("--attribute", "-a", "attributes", metavar="NAME[:TYPE]=VALUE", multiple=True, help="n:Number=5.")
@click.option("--json-structure", "json", is_flag=True, help="MESSAGE is JSON: a text for each protocol, and default.")
@click.option("--group", "group_id", default="", help="Message group; FIFO topics need one.")
@click.option("--dedup", "deduplication_id", default="", help="Deduplication id; for one message.")
def publish(
    session: Session, topic: str, messages: tuple[str, ...], body: str | None, lines: bool, **given: Any
) -> int:
    """Publish messages. Exit code 1 if one of them was not taken."""
    from minicloud.client.models import PublishEntry

    given["attributes"] = options.message_attributes(given["attributes"])
    texts = options.bodies(messages, body, lines)
    if given["deduplication_id"] and (lines or len(messages) > 1):
        raise click.UsageError("one --dedup for several messages would leave only the first")
    handle = session.client.topics.bound(topic)
    entries = (PublishEntry(text, **given) for text in texts)
    return show_sent(session, map(handle.publish_batch, options.chunked(entries)), lines)


@verb(topic, "metrics")
@TOPIC
def metrics(session: Session, topic: str) -> None:
    """What was published, delivered, filtered out and failed since the broker started."""
    found = session.client.topics.metrics(topic)
    if session.json:
        write_json(to_data(found))
        return
    rows = [(topic, name, value) for name, value in sorted(found.values.items())]
    for arn, one in sorted(found.subscriptions.items()):
        rows += [(arn, name, value) for name, value in sorted(one.values.items())]
    show_list(session, rows, METRICS)


# ---------------------------------------------------------------- subscriptions


@verb(topic, "subscribe")
@TOPIC
@click.argument("protocol", type=click.Choice(["sqs", "lambda", "http", "https"]))
@click.argument("target", metavar="ENDPOINT")
@ATTRIBUTES
@click.option("--raw", is_flag=True, help="Short for -a RawMessageDelivery=true.")
@click.option("--filter", "policy", help="Short for -a FilterPolicy=JSON.")
def subscribe(
    session: Session,
    topic: str,
    protocol: str,
    target: str,
    attributes: dict[str, str],
    raw: bool,
    policy: str | None,
) -> None:
    """Subscribe ENDPOINT: a queue's ARN or name, a function's ARN, or a URL, which then has to confirm."""
    short = {**({"RawMessageDelivery": "true"} if raw else {}), **({"FilterPolicy": policy} if policy else {})}
    made = session.client.topics.subscribe(topic, protocol, target, {**short, **attributes})
    show_list(session, [made], SUBSCRIPTIONS)


@verb(topic, "confirm")
@TOPIC
@click.argument("token")
@click.option("--authenticate-on-unsubscribe", "locked", is_flag=True, help="The link in messages does not end it.")
def confirm(session: Session, topic: str, token: str, locked: bool) -> None:
    """Confirm a subscription with the token that its endpoint was sent."""
    confirmed = session.client.topics.confirm(topic, token, authenticate_on_unsubscribe=locked)
    show_list(session, [confirmed], SUBSCRIPTIONS)


@verb(topic, "subscriptions")
@click.argument("topic", default="", metavar="[TOPIC | SUBSCRIPTION_ARN]")
def subscriptions(session: Session, topic: str) -> None:
    """Subscriptions of a topic, or all; with a subscription's ARN, everything about it."""
    if is_subscription(topic):
        show_one(session, session.client.topics.subscription(topic))
    else:
        show_list(session, session.client.topics.subscriptions(topic), SUBSCRIPTIONS)


@verb(topic, "unsubscribe")
@click.argument("subscription_arn")
def unsubscribe(session: Session, subscription_arn: str) -> None:
    """End a subscription."""
    session.client.topics.unsubscribe(subscription_arn)
    say(session, {"unsubscribed": subscription_arn}, f"{subscription_arn} is ended")


def is_subscription(name: str) -> bool:
    """Its ARN is the topic's with one more part."""
    return name.startswith("arn:") and name.count(":") == 6
