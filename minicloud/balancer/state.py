"""The tables of balancers and their indexes.

`State.apply` is the only mutator, and keeps every index: a question by scope, name, parent, user or due time scans no
table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from minicloud.balancer.model import KINDS, Balancer, Certificate, Group, Listener, Rule, Shard, Target
from minicloud.base.arn import Scope
from minicloud.base.machine import ScopedTables, keep_sorted


class State(ScopedTables):
    """Everything that one shard of balancers knows."""

    def __init__(self) -> None:
        super().__init__(KINDS)
        self.balancers: dict[str, Balancer] = self.tables[Balancer.kind]
        self.listeners: dict[str, Listener] = self.tables[Listener.kind]
        self.rules: dict[str, Rule] = self.tables[Rule.kind]
        self.groups: dict[str, Group] = self.tables[Group.kind]
        self.targets: dict[str, Target] = self.tables[Target.kind]
        self.certificates: dict[str, Certificate] = self.tables[Certificate.kind]
        self.shards: dict[str, Shard] = self.tables[Shard.kind]
        self.addresses: set[str] = set()
        self._names: dict[tuple[str, Scope, str], str] = {}
        self._due: list[tuple[float, str]] = []

    # --- questions

    def named(self, kind: str, scope: Scope, name: str) -> Any | None:
        key = self._names.get((kind, scope, name))
        return None if key is None else self.tables[kind].get(key)

    def listeners_of(self, balancer: str) -> list[Listener]:
        return [self.listeners[key] for key in self.keys_under(Listener.kind, balancer)]

    def rules_of(self, listener: str) -> list[Rule]:
        """By priority, the default rule last."""
        rules = [self.rules[key] for key in self.keys_under(Rule.kind, listener)]
        return sorted(rules, key=lambda rule: (rule.is_default, rule.priority))

    def targets_of(self, group: str) -> list[Target]:
        return [self.targets[key] for key in self.keys_under(Target.kind, group)]

    def groups_of(self, balancer: str) -> list[Group]:
        return [self.groups[key] for key in self.keys_under(Group.kind, balancer)]

    def targets_on(self, instance: str) -> list[Target]:
        """Every registration of one instance or address."""
        return [self.targets[key] for key in self.keys_under("on", instance)]

    def rules_to(self, group: str) -> list[Rule]:
        return [self.rules[key] for key in self.keys_under("to", group)]

    def listeners_with(self, certificate: str) -> Sequence[str]:
        return self.keys_under("with", certificate)

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

    def keep(self, entity: Any, *, there: bool) -> None:
        super().keep(entity, there=there)
        if isinstance(entity, Balancer | Group):
            self._name(entity, there)
        if isinstance(entity, Balancer):
            (self.addresses.add if there else self.addresses.discard)(entity.address)
        if isinstance(entity, Target) and entity.until:
            keep_sorted(self._due, (entity.until, entity.key), there)

    def _name(self, entity: Balancer | Group, there: bool) -> None:
        if there:
            self._names[(entity.kind, entity.scope, entity.name)] = entity.key
        else:
            self._names.pop((entity.kind, entity.scope, entity.name), None)

    def parents(self, entity: Any) -> Iterator[tuple[str, str]]:
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
