"""The tables of balancers, their indexes, and the drafts in which decisions are written.

`State.apply` is the only mutator, and keeps every index: a question by scope, name, parent, user or due time scans no
table.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicloud.balancer.model import KINDS, Balancer, Certificate, Entity, Group, Listener, Rule, Shard, Target
from minicloud.base.arn import Scope
from minicloud.base.machine import Outcome, Record


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

    def drop(self, entity: Entity) -> None:
        self.records.append(Record(entity.kind, entity.key, None))
        self.effects.append(Touched(entity.kind, entity.key, entity, None))

    def outcome(self, reply: Any = None) -> Outcome:
        return Outcome(reply, self.records, self.effects)


class State:
    """Everything that one shard of balancers knows."""

    def __init__(self) -> None:
        self.balancers: dict[str, Balancer] = {}
        self.listeners: dict[str, Listener] = {}
        self.rules: dict[str, Rule] = {}
        self.groups: dict[str, Group] = {}
        self.targets: dict[str, Target] = {}
        self.certificates: dict[str, Certificate] = {}
        self.shards: dict[str, Shard] = {}
        self.tables: dict[str, dict[str, Any]] = {
            Balancer.kind: self.balancers,
            Listener.kind: self.listeners,
            Rule.kind: self.rules,
            Group.kind: self.groups,
            Target.kind: self.targets,
            Certificate.kind: self.certificates,
            Shard.kind: self.shards,
        }
        self.addresses: set[str] = set()
        self._scoped: dict[tuple[str, Scope], list[str]] = defaultdict(list)
        self._names: dict[tuple[str, Scope, str], str] = {}
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

    def named(self, kind: str, scope: Scope, name: str) -> Any | None:
        key = self._names.get((kind, scope, name))
        return None if key is None else self.tables[kind].get(key)

    def listeners_of(self, balancer: str) -> list[Listener]:
        return [self.listeners[key] for key in self._children.get((Listener.kind, balancer), ())]

    def rules_of(self, listener: str) -> list[Rule]:
        """By priority, the default rule last."""
        rules = [self.rules[key] for key in self._children.get((Rule.kind, listener), ())]
        return sorted(rules, key=lambda rule: (rule.is_default, rule.priority))

    def targets_of(self, group: str) -> list[Target]:
        return [self.targets[key] for key in self._children.get((Target.kind, group), ())]

    def groups_of(self, balancer: str) -> list[Group]:
        return [self.groups[key] for key in self._children.get((Group.kind, balancer), ())]

    def targets_on(self, instance: str) -> list[Target]:
        """Every registration of one instance or address."""
        return [self.targets[key] for key in self._children.get(("on", instance), ())]

    def rules_to(self, group: str) -> list[Rule]:
        return [self.rules[key] for key in self._children.get(("to", group), ())]

    def listeners_with(self, certificate: str) -> list[str]:
        return self._children.get(("with", certificate), [])

    def due(self) -> float | None:
        return self._due[0][0] if self._due else None

    def draining(self) -> list[Target]:
        return [self.targets[key] for _, key in self._due]

    def overdue(self, now: float) -> Iterator[Target]:
        """Draining targets whose time is over."""
        for until, key in self._due:
            if until > now:
                return
            yield self.targets[key]

    # --- indexes

    def _index(self, entity: Any, *, there: bool) -> None:
        _keep(self._scoped[(entity.kind, entity.scope)], entity.key, there)
        for index in _parents(entity):
            keys = self._children[index]
            _keep(keys, entity.key, there)
            if not keys:
                del self._children[index]
        if isinstance(entity, Balancer | Group):
            self._name(entity, there)
        if isinstance(entity, Balancer):
            (self.addresses.add if there else self.addresses.discard)(entity.address)
        if isinstance(entity, Target) and entity.until:
            _keep(self._due, (entity.until, entity.key), there)

    def _name(self, entity: Balancer | Group, there: bool) -> None:
        if there:
            self._names[(entity.kind, entity.scope, entity.name)] = entity.key
        else:
            self._names.pop((entity.kind, entity.scope, entity.name), None)


def _parents(entity: Any) -> Iterator[tuple[str, str]]:
    """Under what an entity is found."""
    if isinstance(entity, Listener):
        yield (Listener.kind, entity.balancer)
        yield from (("with", arn) for arn in dict.fromkeys(entity.certificates))
    elif isinstance(entity, Rule):
        yield (Rule.kind, entity.listener)
        yield from (("to", group) for group in dict.fromkeys(one.group for one in entity.action.groups))
    elif isinstance(entity, Target):
        yield (Target.kind, entity.group)
        yield ("on", entity.id)
    elif isinstance(entity, Group) and entity.balancer:
        yield (Group.kind, entity.balancer)


def _keep(items: list[Any], one: Any, there: bool) -> None:
    """`one` in or out of a sorted list."""
    at = bisect_left(items, one)
    found = at < len(items) and items[at] == one
    if there and not found:
        insort(items, one)
    elif not there and found:
        del items[at]
