"""Which groups and streams there are. `apply` is the only mutator."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Record
from minicloud.logs import errors
from minicloud.logs.model import Group, Stream, group_key, stream_key

CLOCK, CLOCK_KEY = "log_clock", "streams"


class State:
    def __init__(self) -> None:
        self.groups: dict[str, Group] = {}
        self.streams: dict[str, Stream] = {}
        self.by_number: dict[int, Stream] = {}
        self.of_group: dict[str, list[str]] = {}  # group key -> names of streams, sorted
        self.groups_of: Counter[str] = Counter()  # how many an account has
        self.streams_of_account: Counter[str] = Counter()
        self.next_number = 1
        self._names: dict[Scope, list[str]] = {}

    def apply(self, record: Record) -> None:
        if record.kind == CLOCK:
            self.next_number = record.body["next"] if record.body else 1
        elif record.kind == Group.kind:
            self._apply_group(record.key, record.body)
        else:
            self._apply_stream(record.key, record.body)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        if kind == CLOCK:
            return {"next": self.next_number}
        table: dict[str, Any] = self.groups if kind == Group.kind else self.streams
        found = table.get(key)
        body: dict[str, Any] | None = found.body() if found is not None else None
        return body

    def _apply_group(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.groups.pop(key, None)
        if body is not None:
            group = self.groups[key] = Group.load(body)
            if before is None:
                self.groups_of[group.account] += 1
                insort(self._names.setdefault(group.scope, []), group.name)
        elif before is not None:
            self.groups_of[before.account] -= 1
            names = self._names[before.scope]
            del names[bisect_left(names, before.name)]

    def _apply_stream(self, key: str, body: dict[str, Any] | None) -> None:
        before = self.streams.pop(key, None)
        if before is not None:
            del self.by_number[before.number]
            self.streams_of_account[account_of(before)] -= 1
            names = self.of_group[before.group]
            del names[bisect_left(names, before.name)]
            if not names:
                del self.of_group[before.group]
        if body is not None:
            stream = self.streams[key] = self.by_number[body["number"]] = Stream.load(body)
            self.streams_of_account[account_of(stream)] += 1
            insort(self.of_group.setdefault(stream.group, []), stream.name)

    # --- reading

    def group(self, scope: Scope, name: str) -> Group:
        """Raises ResourceNotFoundException."""
        found = self.groups.get(group_key(scope, name))
        if found is None:
            raise errors.no_group()
        return found

    def stream(self, group: Group, name: str) -> Stream:
        """Raises ResourceNotFoundException."""
        found = self.streams.get(stream_key(group.key, name))
        if found is None:
            raise errors.no_stream()
        return found

    def names(self, scope: Scope) -> list[str]:
        """Of groups, sorted."""
        return self._names.get(scope, [])

    def streams_of(self, group: Group, prefix: str = "") -> list[Stream]:
        """By name; of this prefix."""
        return [
            self.streams[stream_key(group.key, name)] for name in beginning(self.of_group.get(group.key, ()), prefix)
        ]


def account_of(stream: Stream) -> str:
    return stream.group.partition("/")[0]


def beginning(names: Sequence[str], prefix: str, after: str = "") -> Iterator[str]:
    """Of sorted names those with the prefix, behind `after` ("": all)."""
    first = max(bisect_left(names, prefix), bisect_right(names, after) if after else 0)
    for name in islice(names, first, None):
        if not name.startswith(prefix):
            return
        yield name
