"""`minicloud log`: log groups and streams, what is in them, and what comes. GROUP is a name, as /aws/lambda/hello."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from minicloud.cli import options
from minicloud.cli.output import Columns, say, show_list, show_tags, size, write_json_line, write_line
from minicloud.cli.session import Noun, Session, verb
from minicloud.client.logs import LATE_S

if TYPE_CHECKING:
    from minicloud.client.log_models import LogEvent

GROUPS: Columns = (
    ("NAME", lambda g: g.name),
    ("RETENTION", lambda g: f"{g.retention_days} d" if g.retention_days else "for ever"),
    ("STORED", lambda g: size(g.stored_bytes)),
)
STREAMS: Columns = (
    ("NAME", lambda s: s.name),
    ("FIRST EVENT", lambda s: _moment(s.first_event_ms)),
    ("LAST EVENT", lambda s: _moment(s.last_event_ms)),
    ("STORED", lambda s: size(s.stored_bytes)),
)
_SPANS_S = (60, 600, 3_600)
GROUP = click.argument("group")
STREAM = click.argument("stream")


def _since(ctx: click.Context, option: click.Parameter, value: str) -> float | None:
    return time.time() - options.duration(ctx, option, value) if value else None


SINCE = click.option("--since", default="", callback=_since, help="How far back: 30s, 15m, 3h, 2d.")
WHICH = (
    click.option("--stream", "streams", multiple=True, help="Only this stream; may be given several times."),
    click.option("--prefix", "stream_prefix", default="", help="Only streams whose names start with it."),
)


def _moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000)) if at_ms else "-"


@click.group(cls=Noun)
def log() -> None:
    """Logs: groups and streams, what is in them, and what comes."""


@verb(log, "groups")
@click.argument("prefix", default="")
@click.option("--match", "pattern", default="", help="Anywhere in the name.")
def groups(session: Session, prefix: str, pattern: str) -> None:
    """Log groups of this account and region."""
    show_list(session, session.client.logs.groups(prefix, pattern=pattern), GROUPS)


@verb(log, "create")
@GROUP
@click.argument("stream", default="")
@click.option("--retention", type=int, default=0, metavar="DAYS", help="1, 3, 5, 7, 14, 30, ... (default: for ever).")
@options.tags
def create(session: Session, group: str, stream: str, retention: int, tags: dict[str, str]) -> None:
    """Make a group; with STREAM, a stream in a group that is there."""
    if stream:
        show_list(session, [session.client.logs.create_stream(group, stream)], STREAMS)
    else:
        show_list(session, [session.client.logs.create_group(group, retention_days=retention, tags=tags)], GROUPS)


@verb(log, "retention")
@GROUP
@click.argument("days", type=int)
def retention(session: Session, group: str, days: int) -> None:
    """Keep events for DAYS; 0: for ever."""
    show_list(session, [session.client.logs.set_retention(group, days)], GROUPS)


@verb(log, "tag")
@GROUP
@click.argument("tags", nargs=-1, required=True, metavar="KEY=VALUE...", callback=options.parse_pairs)
def tag(session: Session, group: str, tags: dict[str, str]) -> None:
    """Add tags or change their values."""
    show_tags(session, session.client.logs.tag(group, tags))


@verb(log, "untag")
@GROUP
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def untag(session: Session, group: str, keys: tuple[str, ...]) -> None:
    """Remove tags."""
    show_tags(session, session.client.logs.untag(group, *keys))


@verb(log, "streams")
@GROUP
@click.argument("prefix", default="")
@click.option("--by-time", is_flag=True, help="Those that were written to last come first.")
def streams(session: Session, group: str, prefix: str, by_time: bool) -> None:
    """Streams of a group."""
    show_list(session, session.client.logs.streams(group, prefix, by_time=by_time, descending=by_time), STREAMS)


@verb(log, "delete")
@GROUP
@click.argument("stream", default="")
def delete(session: Session, group: str, stream: str) -> None:
    """Delete a group with all that is in it, or one stream."""
    if stream:
        session.client.logs.delete_stream(group, stream)
    else:
        session.client.logs.delete_group(group)
    say(session, {"deleted": stream or group}, f"{stream or group} is deleted")


@verb(log, "put")
@GROUP
@STREAM
@click.argument("messages", nargs=-1, metavar="[MESSAGE]...")
def put(session: Session, group: str, stream: str, messages: tuple[str, ...]) -> int:
    """Write events of now; without MESSAGE each line of standard input is one. Exit code 1 if some were not taken."""
    texts: Iterable[str] = messages or (line.rstrip("\n") for line in sys.stdin)
    count, rejected = 0, False
    for chunk in options.chunked(text for text in texts if text):
        rejected |= bool(session.client.logs.put(group, stream, chunk))
        count += len(chunk)
    say(session, {"put": count}, f"{count} event(s) to {group} {stream}")
    return int(rejected)


@verb(log, "get")
@GROUP
@STREAM
@SINCE
@click.option("--head", is_flag=True, help="The oldest first; else the newest events.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=1_000, show_default=True, help="At most so many.")
def get(session: Session, group: str, stream: str, since: float | None, head: bool, limit: int) -> None:
    """Events of one stream."""
    page = session.client.logs.get(group, stream, start=since, from_head=head, limit=limit)
    _show(session, page.events, named=False)


@verb(log, "filter")
@GROUP
@click.argument("pattern", default="")
@SINCE
@WHICH[0]
@WHICH[1]
@click.option("--limit", type=click.IntRange(1), default=10_000, show_default=True, help="At most so many.")
def filter_events(session: Session, group: str, pattern: str, since: float | None, limit: int, **which: Any) -> None:
    """Events of all streams by time, those that match: 'ERROR timeout', '?a ?b', '-debug', '{ $.level = "error" }'."""
    found = session.client.logs.filter(group, pattern, start=since, **which)
    _show(session, islice(found, limit), named=True)


@verb(log, "tail")
@GROUP
@click.argument("pattern", default="")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes.")
@click.option(
    "--lines", "-n", type=click.IntRange(0, 10_000), default=10, show_default=True, help="So many of what there is."
)
@WHICH[0]
@WHICH[1]
def tail(session: Session, group: str, pattern: str, follow: bool, lines: int, **which: Any) -> None:
    """The last events of the last hour, then (-f) those that come."""
    began = time.time()
    last: deque[LogEvent] = deque(maxlen=lines)
    seen: set[str] = set()
    for span_s in _SPANS_S if lines else ():
        last.clear()
        for event in session.client.logs.filter(group, pattern, start=began - span_s, **which):
            last.append(event)
            if event.time_ms >= (began - LATE_S) * 1000:
                seen.add(event.id)
        if len(last) == lines:
            break  # a longer look would read more, and find the same
    _show(session, last, named=True)
    if follow:
        coming = session.client.logs.tail(group, pattern, start=began - LATE_S if lines else began, **which)
        _show(session, (event for event in coming if event.id not in seen), named=True)


def _show(session: Session, events: Iterable[LogEvent], *, named: bool) -> None:
    for event in events:
        if session.json:
            write_json_line(event)
            continue
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.time_ms / 1000))
        who = f" {event.stream}" if named else ""
        write_line(f"{stamp}.{event.time_ms % 1000:03d}{who} {event.message}".rstrip())
