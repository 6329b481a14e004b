"""DescribeLogGroups and DescribeLogStreams: what is shown, in pages. Pure reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from minicloud.base.arn import Scope
from minicloud.logs import errors, limits
from minicloud.logs.index import Index, Kept
from minicloud.logs.model import Group, Stream, group_key
from minicloud.logs.state import State


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
    names = [
        name
        for name in state.names(scope)
        if name > after and name.startswith(asked.prefix) and (not wanted or wanted in name.lower())
    ]
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
    found = [one for one in state.streams_of(group) if one.name.startswith(asked.prefix)]

    def rank(stream: Stream) -> str:
        last_ms = (index.streams.get(stream.number) or Kept()).high_ms if asked.by_time else 0
        return f"{last_ms:016d}/{stream.name}"

    found.sort(key=rank, reverse=asked.descending)
    if after:
        found = [one for one in found if (rank(one) < after if asked.descending else rank(one) > after)]
    return found[:most], _last(found, most, rank)


def _last(found: Sequence[Stream] | Sequence[str], most: int, rank: Callable[..., str]) -> str:
    return rank(found[most - 1]) if len(found) > most else ""


def _check(most: int) -> None:
    if not 1 <= most <= limits.LIST_MAX:
        raise errors.invalid(f"The limit must be 1 to {limits.LIST_MAX}.", "limit")
