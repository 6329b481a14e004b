"""The tables of functions, their indexes, and the drafts in which decisions are written.

`State.apply` is the only mutator, and keeps every index: a question by scope, function, source or package scans no
table.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.machine import Outcome, Record
from minicloud.function.model import (
    KINDS,
    LATEST,
    Alias,
    Entity,
    EventInvoke,
    Function,
    Layer,
    LayerVersion,
    Mapping,
    Policy,
    Provisioned,
    Schedule,
    Url,
    Version,
)


class Touched(NamedTuple):
    """The effect of every record: this entity was `before` and is `after` now (None: not there)."""

    kind: str
    key: str
    before: Any
    after: Any


@dataclass(slots=True)
class Draft:
    """The records of one decision, in order."""

    state: State
    records: list[Record] = field(default_factory=list)
    effects: list[Touched] = field(default_factory=list)

    def put(self, entity: Entity) -> None:
        """Nothing is written where nothing changes."""
        before = self.state.tables[entity.kind].get(entity.key)
        if before != entity:
            self.records.append(Record(entity.kind, entity.key, entity.body()))
            self.effects.append(Touched(entity.kind, entity.key, before, entity))

    def drop(self, entity: Entity | None) -> None:
        if entity is not None:
            self.records.append(Record(entity.kind, entity.key, None))
            self.effects.append(Touched(entity.kind, entity.key, entity, None))

    def outcome(self, reply: Any = None) -> Outcome:
        return Outcome(reply, self.records, self.effects)


class State:
    """Everything that one shard of functions knows."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.versions: dict[str, Version] = {}
        self.aliases: dict[str, Alias] = {}
        self.policies: dict[str, Policy] = {}
        self.event_invokes: dict[str, EventInvoke] = {}
        self.provisioned: dict[str, Provisioned] = {}
        self.urls: dict[str, Url] = {}
        self.mappings: dict[str, Mapping] = {}
        self.layers: dict[str, Layer] = {}
        self.layer_versions: dict[str, LayerVersion] = {}
        self.schedules: dict[str, Schedule] = {}
        self.tables: dict[str, dict[str, Any]] = {
            Function.kind: self.functions,
            Version.kind: self.versions,
            Alias.kind: self.aliases,
            Policy.kind: self.policies,
            EventInvoke.kind: self.event_invokes,
            Provisioned.kind: self.provisioned,
            Url.kind: self.urls,
            Mapping.kind: self.mappings,
            Layer.kind: self.layers,
            LayerVersion.kind: self.layer_versions,
            Schedule.kind: self.schedules,
        }
        self.by_url: dict[str, Url] = {}
        self.packages: Counter[str] = Counter()  # SHA-256 -> how many versions and layers have it
        self._scoped: dict[tuple[str, Scope], list[str]] = defaultdict(list)
        self._bytes: Counter[Scope] = Counter()
        self._reserved: Counter[Scope] = Counter()
        self._children: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._due: list[tuple[float, str]] = []

    # --- mutation

    def apply(self, record: Record) -> None:
        table = self.tables[record.kind]
        before = table.pop(record.key, None)
        if before is not None:
            self._index(before, there=False)
        if record.body is not None:
            after = KINDS[record.kind].load(record.body)
            table[record.key] = after
            self._index(after, there=True)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        entity = self.tables[kind].get(key)
        return None if entity is None else entity.body()

    # --- questions

    def page(self, kind: str, scope: Scope) -> Sequence[str]:
        """The sorted keys of this kind in this scope."""
        return self._scoped.get((kind, scope), ())

    def latest(self, function: str) -> Version:
        return self.versions[f"{function}:{LATEST}"]

    def versions_of(self, function: str) -> list[Version]:
        """$LATEST first, then by number."""
        found = [self.versions[key] for key in self._of(Version.kind, function)]
        return sorted(found, key=lambda one: -1 if one.version == LATEST else int(one.version))

    def aliases_of(self, function: str) -> list[Alias]:
        """By name."""
        return [self.aliases[key] for key in self._of(Alias.kind, function)]

    def of(self, kind: str, function: str) -> list[Any]:
        """What hangs on a function, its versions and aliases; by key."""
        return [self.tables[kind][key] for key in self._of(kind, function)]

    def mappings_of(self, source: str) -> list[Mapping]:
        return [self.mappings[key] for key in self._of("source", source)]

    def layer_versions_of(self, layer: str) -> list[LayerVersion]:
        """The newest first."""
        found = [self.layer_versions[key] for key in self._of(LayerVersion.kind, layer)]
        return sorted(found, key=lambda one: -one.number)

    def code_bytes(self, scope: Scope) -> int:
        return self._bytes[scope]

    def reserved(self, scope: Scope) -> int:
        """The sum over all functions."""
        return self._reserved[scope]

    def next_schedule(self) -> float | None:
        return self._due[0][0] if self._due else None

    def due_schedules(self, now: float) -> list[Schedule]:
        return [self.schedules[key] for when, key in self._due if when <= now]

    def _of(self, kind: str, parent: str) -> Sequence[str]:
        return self._children.get((kind, parent), ())

    # --- indexes

    def _index(self, entity: Any, *, there: bool) -> None:
        _keep(self._scoped[(entity.kind, entity.scope)], entity.key, there)
        for index in _parents(entity):
            keys = self._children[index]
            _keep(keys, entity.key, there)
            if not keys:
                del self._children[index]
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
            _keep(self._due, (entity.next, entity.key), there)


def _parents(entity: Any) -> Iterator[tuple[str, str]]:
    """Under what an entity is found."""
    if isinstance(entity, Version | Alias | EventInvoke | Provisioned | Url | Mapping | Schedule):
        yield (entity.kind, entity.function)
    if isinstance(entity, Mapping):
        yield ("source", entity.source)
    if isinstance(entity, LayerVersion):
        yield (entity.kind, entity.layer)


def _keep(items: list[Any], one: Any, there: bool) -> None:
    """`one` in or out of a sorted list."""
    at = bisect_left(items, one)
    found = at < len(items) and items[at] == one
    if there and not found:
        insort(items, one)
    elif not there and found:
        del items[at]


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
