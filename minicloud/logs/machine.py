"""The machine of log groups and streams: commands in, records out. Implements base.machine.Machine.

Events are no records: they lie as blocks beside them (block.py), under the number of their stream, which is given once.
What is deleted is told as an effect, so that its blocks go; what a crash leaves of them goes at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Outcome, Record
from minicloud.logs import errors, limits, rules
from minicloud.logs.model import Group, Stream, group_key, stream_key
from minicloud.logs.state import CLOCK, CLOCK_KEY, State


@dataclass(frozen=True, slots=True)
class CreateGroup:
    """retention_days 0: for ever. `unless`: one that is there already is the answer."""

    scope: Scope
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    retention_days: int = 0
    unless: bool = False


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class SetRetention:
    """days 0: for ever."""

    scope: Scope
    name: str
    days: int


@dataclass(frozen=True, slots=True)
class TagGroup:
    scope: Scope
    name: str
    tags: Mapping[str, str]
    remove: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CreateStream:
    """`unless`: one that is there already is the answer."""

    scope: Scope
    group: str
    name: str
    unless: bool = False


@dataclass(frozen=True, slots=True)
class DeleteStream:
    scope: Scope
    group: str
    name: str


@dataclass(frozen=True, slots=True)
class ForgetStreams:
    """keys: of streams, whoever's they are; those that are gone are passed over."""

    keys: tuple[str, ...]


class Gone(NamedTuple):
    """The effect: the events of these streams are nobody's any more."""

    streams: tuple[int, ...]


class Logs:
    kinds = frozenset({Group.kind, Stream.kind, CLOCK})

    def __init__(self) -> None:
        self.state = State()
        self._rules: dict[type[Any], Callable[[Any, Context], Outcome]] = {
            CreateGroup: self._create_group,
            DeleteGroup: self._delete_group,
            SetRetention: self._set_retention,
            TagGroup: self._tag,
            CreateStream: self._create_stream,
            DeleteStream: self._delete_stream,
            ForgetStreams: self._forget_streams,
        }

    def decide(self, command: Any, context: Context) -> Outcome:
        return self._rules[type(command)](command, context)

    def apply(self, record: Record) -> None:
        self.state.apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.state.lookup(kind, key)

    def due(self) -> float | None:
        return None

    def _create_group(self, command: CreateGroup, context: Context) -> Outcome:
        rules.check_group_name(command.name)
        found = self.state.groups.get(group_key(command.scope, command.name))
        if found is not None:
            if command.unless:
                return Outcome(found)
            raise errors.group_exists()
        if len(self.state.groups) >= limits.GROUPS_MAX:
            raise errors.too_many("log groups", limits.GROUPS_MAX, "logGroupName")
        if self.state.groups_of[command.scope.account] >= limits.ACCOUNT_GROUPS_MAX:
            raise errors.too_many("log groups of an account", limits.ACCOUNT_GROUPS_MAX, "logGroupName")
        if command.retention_days:
            rules.check_retention(command.retention_days)
        made = Group(
            command.scope.account,
            command.scope.region,
            command.name,
            round(context.now * 1000),
            command.retention_days,
            rules.check_tags(command.tags),
        )
        return Outcome(made, [Record(Group.kind, made.key, made.body())])

    def _delete_group(self, command: DeleteGroup, _: Context) -> Outcome:
        group = self.state.group(command.scope, command.name)
        streams = self.state.streams_of(group)
        records = [Record(Stream.kind, stream.key, None) for stream in streams]
        gone = Gone(tuple(stream.number for stream in streams))
        return Outcome(None, [*records, Record(Group.kind, group.key, None)], [gone])

    def _set_retention(self, command: SetRetention, _: Context) -> Outcome:
        group = self.state.group(command.scope, command.name)
        days = rules.check_retention(command.days) if command.days else 0
        changed = replace(group, retention_days=days)
        return Outcome(changed, [Record(Group.kind, group.key, changed.body())])

    def _tag(self, command: TagGroup, _: Context) -> Outcome:
        group = self.state.group(command.scope, command.name)
        kept = {key: value for key, value in group.tags.items() if key not in command.remove}
        changed = replace(group, tags=rules.check_tags({**kept, **command.tags}))
        return Outcome(changed, [Record(Group.kind, group.key, changed.body())])

    def _create_stream(self, command: CreateStream, context: Context) -> Outcome:
        rules.check_stream_name(command.name)
        group = self.state.group(command.scope, command.group)
        found = self.state.streams.get(stream_key(group.key, command.name))
        if found is not None:
            if command.unless:
                return Outcome(found)
            raise errors.stream_exists()
        if len(self.state.streams) >= limits.STREAMS_MAX:
            raise errors.too_many("log streams", limits.STREAMS_MAX, "logStreamName")
        if self.state.streams_of_account[command.scope.account] >= limits.ACCOUNT_STREAMS_MAX:
            raise errors.too_many("log streams of an account", limits.ACCOUNT_STREAMS_MAX, "logStreamName")
        number = self.state.next_number
        made = Stream(group.key, command.name, number, round(context.now * 1000))
        clock = Record(CLOCK, CLOCK_KEY, {"next": number + 1})
        return Outcome(made, [clock, Record(Stream.kind, made.key, made.body())])

    def _delete_stream(self, command: DeleteStream, _: Context) -> Outcome:
        stream = self.state.stream(self.state.group(command.scope, command.group), command.name)
        return Outcome(None, [Record(Stream.kind, stream.key, None)], [Gone((stream.number,))])

    def _forget_streams(self, command: ForgetStreams, _: Context) -> Outcome:
        found = [stream for key in command.keys if (stream := self.state.streams.get(key)) is not None]
        records = [Record(Stream.kind, stream.key, None) for stream in found]
        return Outcome(None, records, [Gone(tuple(stream.number for stream in found))])
