"""DescribeLogGroups and DescribeLogStreams: what is shown, in pages. Pure reading."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from heapq import nlargest, nsmallest
from itertools import islice
from typing import NamedTuple

from minicloud.base.arn import Scope
from minicloud.logs import errors, limits
from minicloud.logs.index import Index, Kept
from minicloud.logs.model import Group, Stream, group_key, stream_key
from minicloud.logs.state import State, beginning

_BEHIND = "\U0010ffff"  # behind every character of a name


class Groups(NamedTuple):
    """prefix of the name, or a pattern anywhere in it, in small or capital letters."""

    prefix: str = ""
    pattern: str = ""


class Streams(NamedTuple):
    group: str
    prefix: str = ""
    by_time: bool = False
    descending: bool = False


def groups(state: State, scope: Scope, asked: Groups, after: str, most: int) -> tuple[list[Group], str]:
    """A page by name behind `after`, and the name to go on after ("": it was the last)."""
    _check(most)
    if asked.prefix and asked.pattern:
        text = "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters."
        raise errors.invalid(text, "logGroupNamePattern")
    wanted = asked.pattern.lower()
    fitting = (name for name in beginning(state.names(scope), asked.prefix, after) if wanted in name.lower())
    names = list(islice(fitting, most + 1))
    return [state.groups[group_key(scope, name)] for name in names[:most]], _last(names, most, lambda name: name)


def streams(
    state: State, index: Index, scope: Scope, asked: Streams, after: str, most: int
) -> tuple[list[Stream], str]:
    """As `groups`; by the time of the last event only without a prefix, as CloudWatch Logs."""
    _check(most)
    if asked.by_time and asked.prefix:
        text = "Cannot order by LastEventTime with a logStreamNamePrefix."
        raise errors.invalid(text, "orderBy")
    group = state.group(scope, asked.group)
    if asked.by_time:
        return _by_time(state, index, group, asked, after, most)
    names = state.of_group.get(group.key, [])
    wanted = beginning(names, asked.prefix, after)
    if asked.descending:
        low, high = bisect_left(names, asked.prefix), bisect_left(names, asked.prefix + _BEHIND)
        high = min(high, bisect_left(names, after)) if after else high
        wanted = (names[place] for place in range(high - 1, low - 1, -1))
    found = [state.streams[stream_key(group.key, name)] for name in islice(wanted, most + 1)]
    return found[:most], _last(found, most, lambda stream: stream.name)


def _by_time(
    state: State, index: Index, group: Group, asked: Streams, after: str, most: int
) -> tuple[list[Stream], str]:
    """No index has them in this order: it changes with each event."""

    def rank(stream: Stream) -> str:
        last_ms = (index.streams.get(stream.number) or Kept()).high_ms
        return f"{last_ms:016d}/{stream.name}"

    found = state.streams_of(group)
    if after:
        found = [one for one in found if (rank(one) < after if asked.descending else rank(one) > after)]
    found = (nlargest if asked.descending else nsmallest)(most + 1, found, key=rank)
    return found[:most], _last(found, most, rank)


def _last(found: Sequence[Stream] | Sequence[str], most: int, rank: Callable[..., str]) -> str:
    return rank(found[most - 1]) if len(found) > most else ""


def _check(most: int) -> None:
    if not 1 <= most <= limits.LIST_MAX:
        raise errors.invalid(f"The limit must be 1 to {limits.LIST_MAX}.", "limit")
