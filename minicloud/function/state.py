"""The tables of functions and their indexes.

`State.apply` is the only mutator, and keeps every index: a question by scope, function, source or package scans no
table.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from math import inf
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import Entity, ScopedTables, keep_sorted
from minicloud.function.model import (
    KINDS,
    LATEST,
    Alias,
    EventInvoke,
    Function,
    Layer,
    LayerVersion,
    Mapping,
    Policy,
    Provisioned,
    Schedule,
    ScheduleGroup,
    Url,
    Version,
)

_BEHIND = "\U0010ffff"  # behind every key


class State(ScopedTables):
    """Everything that one shard of functions knows."""

    def __init__(self) -> None:
        super().__init__(KINDS)
        self.functions: dict[str, Function] = self.tables[Function.kind]
        self.versions: dict[str, Version] = self.tables[Version.kind]
        self.aliases: dict[str, Alias] = self.tables[Alias.kind]
        self.policies: dict[str, Policy] = self.tables[Policy.kind]
        self.event_invokes: dict[str, EventInvoke] = self.tables[EventInvoke.kind]
        self.provisioned: dict[str, Provisioned] = self.tables[Provisioned.kind]
        self.urls: dict[str, Url] = self.tables[Url.kind]
        self.mappings: dict[str, Mapping] = self.tables[Mapping.kind]
        self.layers: dict[str, Layer] = self.tables[Layer.kind]
        self.layer_versions: dict[str, LayerVersion] = self.tables[LayerVersion.kind]
        self.schedules: dict[str, Schedule] = self.tables[Schedule.kind]
        self.schedule_groups: dict[str, ScheduleGroup] = self.tables[ScheduleGroup.kind]
        self.by_url: dict[str, Url] = {}
        self.packages: Counter[str] = Counter()  # SHA-256 -> how many versions and layers have it
        self._bytes: Counter[Scope] = Counter()
        self._reserved: Counter[Scope] = Counter()
        self._due: list[tuple[float, str]] = []

    # --- questions

    def latest(self, function: str) -> Version:
        return self.versions[f"{function}:{LATEST}"]

    def versions_of(self, function: str) -> list[Version]:
        """$LATEST first, then by number."""
        found = [self.versions[key] for key in self.keys_under(Version.kind, function)]
        return sorted(found, key=lambda one: -1 if one.version == LATEST else int(one.version))

    def aliases_of(self, function: str) -> list[Alias]:
        """By name."""
        return [self.aliases[key] for key in self.keys_under(Alias.kind, function)]

    def of(self, kind: str, function: str) -> list[Any]:
        """What hangs on a function, its versions and aliases; by key."""
        return [self.tables[kind][key] for key in self.keys_under(kind, function)]

    def mappings_of(self, source: str) -> list[Mapping]:
        return [self.mappings[key] for key in self.keys_under("source", source)]

    def layer_versions_of(self, layer: str) -> list[LayerVersion]:
        """The newest first."""
        found = [self.layer_versions[key] for key in self.keys_under(LayerVersion.kind, layer)]
        return sorted(found, key=lambda one: -one.number)

    def code_bytes(self, scope: Scope) -> int:
        return self._bytes[scope]

    def reserved(self, scope: Scope) -> int:
        """The sum over all functions."""
        return self._reserved[scope]

    def next_schedule(self, after: float = -inf) -> float | None:
        at = bisect_right(self._due, (after, _BEHIND))
        return self._due[at][0] if at < len(self._due) else None

    def due_schedules(self, now: float) -> list[Schedule]:
        return [self.schedules[key] for when, key in takewhile(lambda one: one[0] <= now, self._due)]

    # --- indexes

    def keep(self, entity: Any, *, there: bool) -> None:
        super().keep(entity, there=there)
        sign = 1 if there else -1
        if isinstance(entity, Version | LayerVersion):
            self.packages[entity.code.sha256] += sign
            if not self.packages[entity.code.sha256]:
                del self.packages[entity.code.sha256]
            self._bytes[entity.scope] += sign * entity.code.bytes
        elif isinstance(entity, Function):
            self._reserved[entity.scope] += sign * (entity.reserved or 0)
        elif isinstance(entity, Url):
            if there:
                self.by_url[entity.id] = entity
            else:
                self.by_url.pop(entity.id, None)
        elif isinstance(entity, Schedule) and entity.enabled and entity.next is not None:
            keep_sorted(self._due, (entity.next, entity.key), there)

    def parents(self, entity: Any) -> Iterator[tuple[str, str]]:
        if isinstance(entity, Version | Alias | EventInvoke | Provisioned | Url | Mapping | Schedule):
            yield (entity.kind, entity.function)
        if isinstance(entity, Mapping):
            yield ("source", entity.source)
        if isinstance(entity, Schedule):
            yield (entity.kind, entity.scope.arn("scheduler", f"schedule-group/{entity.group}"))
        if isinstance(entity, LayerVersion):
            yield (entity.kind, entity.layer)


def everything(state: State, function: str) -> Iterable[Entity]:
    """What goes away with a function; its schedules and mappings stay, as AWS leaves them, and fail."""
    for kind in (Version.kind, Alias.kind, EventInvoke.kind, Provisioned.kind, Url.kind):
        yield from state.of(kind, function)
    for arn in [
        function,
        *(one.arn for one in state.versions_of(function)),
        *(one.arn for one in state.aliases_of(function)),
    ]:
        policy = state.policies.get(arn)
        if policy is not None:
            yield policy
    yield state.functions[function]
