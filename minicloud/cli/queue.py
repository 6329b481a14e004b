"""`minicloud queue`: make, describe, change, end; send, receive, delete; dead letters. QUEUE is a name, URL or ARN."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_one, show_tags, write_json_line, write_line
from minicloud.cli.session import Noun, Session, verb

if TYPE_CHECKING:
    from minicloud.client.messages import Message, SendResult
    from minicloud.client.models import EntryError, MoveTask, Queue

COLUMNS: Columns = (
    ("NAME", lambda q: q.name),
    ("ARN", lambda q: q.arn),
    ("URL", lambda q: q.url),
)
SHOWN: Columns = (
    ("NAME", lambda q: q.name),
    ("VISIBLE", lambda q: q.attributes.get("ApproximateNumberOfMessages")),
    ("IN FLIGHT", lambda q: q.attributes.get("ApproximateNumberOfMessagesNotVisible")),
    ("DELAYED", lambda q: q.attributes.get("ApproximateNumberOfMessagesDelayed")),
    ("ARN", lambda q: q.arn),
)
MESSAGES: Columns = (
    ("ID", lambda m: m["message_id"]),
    ("RECEIVES", lambda m: m["receive_count"]),
    ("GROUP", lambda m: m["group_id"]),
    ("BODY", lambda m: m["body"]),
    ("ATTRIBUTES", lambda m: {name: item["value"] for name, item in m["attributes"].items()}),
    ("RECEIPT HANDLE", lambda m: m["receipt_handle"]),
)
SENT: Columns = (
    ("ID", lambda r: r["message_id"]),
    ("SEQUENCE", lambda r: r["sequence_number"]),
    ("ERROR", lambda r: r["error"]),
)
MOVES: Columns = (
    ("STATUS", lambda t: t.status),
    ("MOVED", lambda t: t.moved),
    ("TO MOVE", lambda t: t.to_move),
    ("SOURCE", lambda t: t.source_arn),
    ("DESTINATION", lambda t: t.destination_arn or "where each came from"),
    ("FAILURE", lambda t: t.failure_reason),
    ("TASK", lambda t: t.task_handle),
)
_SEEN_MAX = 100_000  # ids that `tail` remembers, to show a message once
QUEUE = click.argument("queue")
ATTRIBUTES = click.option(
    "--attribute", "-a", "attributes", metavar="NAME=VALUE", multiple=True, callback=options.parse_pairs,
    help="A queue's attribute, by AWS's name: VisibilityTimeout=60.",
)  # fmt: skip
VISIBILITY = click.option("--visibility", type=int, help="Seconds until it comes again (default: the queue's).")


@click.group(cls=Noun)
def queue() -> None:
    """Queues: send, receive, delete messages; dead letters."""


@verb(queue, "create")
@click.argument("name")
@click.option("--fifo", is_flag=True, help="Ordered and without doubles; NAME ends with .fifo.")
@ATTRIBUTES
@options.tags
def create(session: Session, name: str, fifo: bool, attributes: dict[str, str], tags: dict[str, str]) -> None:
    """Make a queue; one that is the same already is shown."""
    given = {**({"FifoQueue": "true"} if fifo else {}), **attributes}
    show_list(session, [session.client.queues.create(name, given, tags=tags)], COLUMNS)


@verb(queue, "list")
@click.argument("prefix", default="")
def list_queues(session: Session, prefix: str) -> None:
    """Queues of this account and region, or those whose name begins with PREFIX."""
    show_list(session, session.client.queues.list(prefix), COLUMNS)


@verb(queue, "show")
@QUEUE
def show(session: Session, queue: str) -> None:
    """Everything about one queue, with how many messages it holds."""
    show_one(session, session.client.queues.get(queue))


@verb(queue, "set")
@QUEUE
@click.argument("attributes", nargs=-1, required=True, metavar="NAME=VALUE...", callback=options.parse_pairs)
def set_attributes(session: Session, queue: str, attributes: dict[str, str]) -> None:
    """Change attributes, by AWS's names; an empty VALUE takes a policy away."""
    show_one(session, session.client.queues.set_attributes(queue, attributes))


@verb(queue, "tag")
@QUEUE
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, queue: str, tags: dict[str, str]) -> None:
    """Add tags or change their values."""
    show_tags(session, session.client.queues.tag(queue, tags))


@verb(queue, "untag")
@QUEUE
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, queue: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.queues.untag(queue, *keys))


@verb(queue, "delete")
@QUEUE
def delete(session: Session, queue: str) -> None:
    """Delete a queue with all that is in it."""
    session.client.queues.delete(queue)
    say(session, {"deleted": queue}, f"{queue} is deleted; its name is free again in 60 seconds")


@verb(queue, "purge")
@QUEUE
def purge(session: Session, queue: str) -> None:
    """Delete all messages of a queue."""
    count = session.client.queues.purge(queue)
    say(session, {"purged": count}, f"{count} messages deleted")


# ---------------------------------------------------------------- messages


@verb(queue, "send")
@QUEUE
@click.argument("bodies", nargs=-1, metavar="[BODY]...")
@click.option("--body", "body", help="The same as BODY; '-': standard input is one message.")
@click.option("--lines", is_flag=True, help="Each line of standard input is a message.")
@click.option("--delay", "delay_s", type=int, help="Seconds until it can be received.")
@click.option("--attribute", "-a", "attributes", metavar="NAME[:TYPE]=VALUE", multiple=True, help="n:Number=5.")
@click.option("--group", "group_id", default="", help="Message group; FIFO queues need one.")
@click.option("--dedup", "deduplication_id", default="", help="Deduplication id; for one message.")
def send(session: Session, queue: str, bodies: tuple[str, ...], body: str | None, lines: bool, **given: Any) -> int:
    """Send messages. Exit code 1 if one of them was not taken."""
    from minicloud.client.models import SendEntry

    given["attributes"] = options.message_attributes(given["attributes"])
    texts = options.bodies(bodies, body, lines)
    if given["deduplication_id"] and (lines or len(bodies) > 1):
        raise click.UsageError("one --dedup for several messages would leave only the first")
    handle = session.client.queues.bound(queue)
    return show_sent(
        session, map(handle.send_batch, options.chunked(SendEntry(text, **given) for text in texts)), lines
    )


def show_sent(session: Session, batches: Iterable[Sequence[SendResult]], counted: bool) -> int:
    """What became of what was sent or published, each or counted; the exit code."""
    rows, sent, failed = [], 0, 0
    for item in (item for batch in batches for item in batch):
        sent, failed = sent + (item.error is None), failed + (item.error is not None)
        if counted and item.error is not None:
            sys.stderr.write(f"error: message {sent + failed}: {item.error}\n")
        elif not counted:
            error = str(item.error or "")
            rows.append({"message_id": item.message_id, "sequence_number": item.sequence_number, "error": error})
    if counted:
        say(session, {"sent": sent, "failed": failed}, f"{sent} sent, {failed} failed")
    else:
        show_list(session, rows, SENT)
    return int(failed > 0)


@verb(queue, "receive")
@QUEUE
@click.option(
    "--max", "-n", "most", type=click.IntRange(1, 1000), default=1, show_default=True, help="At most so many."
)
@click.option("--wait", "wait_s", type=int, help="Seconds to wait for the first (to 20; default: the queue's).")
@VISIBILITY
@click.option("--delete", is_flag=True, help="Delete them once they are shown.")
@click.option("--raw", is_flag=True, help="Bodies alone, one a line.")
def receive(
    session: Session, queue: str, most: int, wait_s: int | None, visibility: int | None, delete: bool, raw: bool
) -> int:
    """Receive messages. Without --delete they come again when their visibility timeout has passed."""
    handle = session.client.queues.bound(queue)
    messages = handle.receive(most, wait_s=wait_s, visibility_timeout_s=visibility)
    if raw:
        for message in messages:
            write_line(message.body.decode(errors="replace"))
    else:
        show_list(session, [shown(message) for message in messages], MESSAGES)
    sys.stdout.flush()
    return show_failures(handle.delete_messages(messages)) if delete and messages else 0


@verb(queue, "delete-message")
@QUEUE
@click.argument("receipt_handles", nargs=-1, required=True, metavar="RECEIPT_HANDLE...")
def delete_message(session: Session, queue: str, receipt_handles: tuple[str, ...]) -> int:
    """Delete received messages. Exit code 1 if one of the handles was refused."""
    return show_failures(session.client.queues.delete_messages(queue, receipt_handles))


@verb(queue, "change-visibility")
@QUEUE
@click.argument("receipt_handle")
@click.argument("seconds", type=int)
def change_visibility(session: Session, queue: str, receipt_handle: str, seconds: int) -> None:
    """Seconds from now until a received message comes again; 0: at once."""
    session.client.queues.change_visibility(queue, receipt_handle, seconds)


@verb(queue, "tail")
@QUEUE
@click.option("--delete", is_flag=True, help="Delete them once they are shown.")
@VISIBILITY
@click.option("--raw", is_flag=True, help="Bodies alone, one a line.")
def tail(session: Session, queue: str, delete: bool, visibility: int | None, raw: bool) -> None:
    """Show messages as they come, until Ctrl-C; JSON: one object a line.

    It receives them like any consumer: others do not see them until the visibility timeout has passed, and it counts
    as a receive (a dead-letter queue may get them). Without --delete nothing is deleted; each is shown once.
    """
    handle = session.client.queues.bound(queue)
    seen: dict[str, None] = {}
    while True:
        messages = handle.receive(100, wait_s=20, visibility_timeout_s=visibility)
        for message in messages:
            if message.message_id not in seen:
                _show_line(session, message, raw)
            seen[message.message_id] = None
        if delete and messages:
            show_failures(handle.delete_messages(messages))
        while len(seen) > _SEEN_MAX:
            del seen[next(iter(seen))]


def _show_line(session: Session, message: Message, raw: bool) -> None:
    if session.json:
        write_json_line(shown(message))
    elif raw:
        write_line(message.body.decode(errors="replace"))
    else:
        write_line(
            f"{message.sent_time.astimezone():%H:%M:%S} {message.message_id} {message.body.decode(errors='replace')}"
        )


def shown(message: Message) -> dict[str, Any]:
    """A message as the CLI's JSON has it."""
    return {
        "message_id": message.message_id,
        "body": message.body.decode(errors="replace"),
        "md5_of_body": message.md5_of_body,
        "md5_of_attributes": message.md5_of_attributes,
        "attributes": {
            name: {"type": item.type, "value": options.printable(item.value)}
            for name, item in message.attributes.items()
        },
        "receive_count": message.receive_count,
        "sent_time": message.sent_time.isoformat().replace("+00:00", "Z"),
        "first_received_time": message.first_received_time.isoformat().replace("+00:00", "Z"),
        "group_id": message.group_id,
        "deduplication_id": message.deduplication_id,
        "sequence_number": message.sequence_number,
        "sender_id": message.sender_id,
        "trace_header": message.trace_header,
        "dead_letter_source_arn": message.dead_letter_source_arn,
        "receipt_handle": message.receipt_handle,
    }


for _command in (delete_message, change_visibility):
    _command.context_settings["ignore_unknown_options"] = True  # a receipt handle may begin with '-'


def show_failures(failed: tuple[EntryError, ...]) -> int:
    """The exit code."""
    for item in failed:
        sys.stderr.write(f"error: entry {item.index}: {item.code}: {item.message}\n")
    return int(bool(failed))


# ---------------------------------------------------------------- dead letters


@verb(queue, "sources")
@QUEUE
def sources(session: Session, queue: str) -> None:
    """Queues whose dead letters go to this one."""
    show_list(session, session.client.queues.dead_letter_sources(queue), (("ARN", str),))


@verb(queue, "redrive")
@QUEUE
@click.option("--to", "destination", default="", help="A queue (default: back to where each message came from).")
@click.option("--rate", type=int, default=0, help="At most so many a second, to 500 (default: as fast as it goes).")
@click.option("--cancel", is_flag=True, help="End the move that is running.")
def redrive(session: Session, queue: str, destination: str, rate: int, cancel: bool) -> None:
    """Move the messages of a dead-letter queue back."""
    queues = session.client.queues
    source = _arn(session, queue)
    if cancel:
        running = [task for task in queues.list_moves(source) if task.status == "RUNNING"]
        if not running:
            raise click.ClickException(f"nothing is being moved from {queue}")
        _show_moves(session, [queues.cancel_move(running[0].task_handle)])
    else:
        target = _arn(session, destination) if destination else ""
        _show_moves(session, [queues.start_move(source, target, max_per_second=rate)])


@verb(queue, "moves")
@QUEUE
def moves(session: Session, queue: str) -> None:
    """Moves out of a dead-letter queue, the newest first."""
    _show_moves(session, session.client.queues.list_moves(_arn(session, queue)))


def _show_moves(session: Session, tasks: Iterable[MoveTask]) -> None:
    show_list(session, tasks, MOVES)


def _arn(session: Session, queue: str) -> str:
    found: Queue | None = None if queue.startswith("arn:") else session.client.queues.get(queue, ["QueueArn"])
    return found.arn if found else queue
