"""The tables of the compute slice, their indexes, and the drafts in which decisions are written.

`State.apply` is the only mutator. Every index is kept by `_index`/`_unindex`, so a lookup by scope, name, host, group,
account or due time never scans a table.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.base.machine import Outcome, Record, Tables
from minicloud.base.shape import Shape
from minicloud.compute.lifecycle import COUNTS_FOR_VCPUS, HOLDS_CAPACITY
from minicloud.compute.model import (
    KINDS,
    Entity,
    Group,
    Host,
    Image,
    Instance,
    KeyPair,
    Listener,
    SecurityGroup,
    Template,
    TemplateVersion,
    Token,
    Transition,
)
from minicloud.compute.placement import Fleet, HostView


class Touched(NamedTuple):
    """The effect of every record: this entity is another one now (None: gone). The service acts on it."""

    kind: str
    key: str
    entity: Entity | None


class Tally(NamedTuple):
    """What an account uses of its quotas."""

    instances: int
    vcpus: float


@dataclass(slots=True)
class Draft:
    """The records of one decision, in order."""

    records: list[Record] = field(default_factory=list)
    effects: list[Touched] = field(default_factory=list)

    def put(self, entity: Entity) -> None:
        key = key_of(entity)
        self.records.append(Record(entity.kind, key, entity.body()))
        self.effects.append(Touched(entity.kind, key, entity))

    def drop(self, entity: Entity) -> None:
        key = key_of(entity)
        self.records.append(Record(entity.kind, key, None))
        self.effects.append(Touched(entity.kind, key, None))

    def outcome(self, reply: Any = None) -> Outcome:
        return Outcome(reply, self.records, self.effects)


def key_of(entity: Entity) -> str:
    if isinstance(entity, TemplateVersion):
        return f"{entity.template_id}/{entity.version}"
    if isinstance(entity, Token):
        return entity.key
    return str(entity.id)  # type: ignore[attr-defined]


class State(Tables):
    """All entities of the cloud's compute slice."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.hosts: dict[str, Host] = {}
        self.images: dict[str, Image] = {}
        self.key_pairs: dict[str, KeyPair] = {}
        self.templates: dict[str, Template] = {}
        self.versions: dict[str, TemplateVersion] = {}
        self.groups: dict[str, Group] = {}
        self.security_groups: dict[str, SecurityGroup] = {}
        self.tokens: dict[str, Token] = {}
        self.listeners: dict[str, Listener] = {}
        self.transitions: dict[str, Transition] = {}
        self.owing: dict[Scope, int] = defaultdict(int)  # how many transitions nobody has been told of
        self.last_transition = 0
        # By scope, another number after each change of an instance or security group: what was made of them is old.
        self.changes: dict[Scope, int] = defaultdict(int)
        self.fleet = Fleet()
        tables: dict[str, dict[str, Any]] = {
            Instance.kind: self.instances,
            Host.kind: self.hosts,
            Image.kind: self.images,
            KeyPair.kind: self.key_pairs,
            Template.kind: self.templates,
            TemplateVersion.kind: self.versions,
            Group.kind: self.groups,
            SecurityGroup.kind: self.security_groups,
            Token.kind: self.tokens,
            Listener.kind: self.listeners,
            Transition.kind: self.transitions,
        }
        super().__init__(KINDS, tables)
        self._scoped: dict[tuple[str, Scope], list[str]] = defaultdict(list)
        self._names: dict[tuple[str, Scope, str], str] = {}
        self._on_host: dict[str, set[str]] = defaultdict(set)
        self._in_group: dict[tuple[Scope, str], set[str]] = defaultdict(set)
        self._counts: dict[str, int] = defaultdict(int)
        self._vcpus: dict[str, float] = defaultdict(float)
        self._used: dict[str, Shape] = defaultdict(Shape)
        self._pending_images: set[str] = set()
        self._host_names: dict[str, str] = {}
        self._due: list[tuple[float, str, str]] = []

    # --- questions

    def page(self, kind: str, scope: Scope) -> Sequence[str]:
        """The sorted ids of this kind in this scope."""
        return self._scoped.get((kind, scope), ())

    def named(self, kind: str, scope: Scope, name: str) -> Any | None:
        key = self._names.get((kind, scope, name))
        return None if key is None else self._tables[kind].get(key)

    def on_host(self, host_id: str) -> list[Instance]:
        """In id order, so that what follows does not depend on history."""
        return [self.instances[key] for key in sorted(self._on_host.get(host_id, ()))]

    def in_group(self, scope: Scope, name: str) -> Iterator[Instance]:
        for key in sorted(self._in_group.get((scope, name), ())):
            yield self.instances[key]

    def tally(self, account: str) -> Tally:
        return Tally(self._counts.get(account, 0), self._vcpus.get(account, 0.0))

    def used(self, host_id: str) -> Shape:
        return self._used.get(host_id, Shape())

    def pending_images(self) -> list[Image]:
        return [self.images[key] for key in sorted(self._pending_images)]

    def host_named(self, text: str) -> Host | None:
        return self.hosts.get(text) or self.hosts.get(self._host_names.get(text, ""))

    def zones(self) -> set[str]:
        return {host.zone for host in self.hosts.values()}

    def due(self) -> float | None:
        """When the earliest deadline comes."""
        return self._due[0][0] if self._due else None

    def overdue(self, now: float) -> list[Any]:
        """Entities whose deadline has come, earliest first."""
        end = bisect_right(self._due, now, key=lambda entry: entry[0])
        return [self._tables[kind][key] for _, kind, key in self._due[:end]]

    # --- indexes

    def _index(self, entity: Entity) -> None:
        if isinstance(entity, Instance | Image | KeyPair | Template | Group | SecurityGroup | Transition):
            insort(self._scoped[(entity.kind, Scope(entity.account, entity.region))], entity.id)
        if isinstance(entity, Image | KeyPair | Template | Group | SecurityGroup) and _owns_name(entity):
            self._names[(entity.kind, Scope(entity.account, entity.region), entity.name)] = entity.id
        if isinstance(entity, Image) and entity.state == "pending":
            self._pending_images.add(entity.id)
        if isinstance(entity, Instance | SecurityGroup):
            self.changes[Scope(entity.account, entity.region)] += 1
        if isinstance(entity, Instance):
            self._index_instance(entity)
        elif isinstance(entity, Host):
            self._index_host(entity)
        elif isinstance(entity, Transition):
            self.owing[entity.scope] += 1
            self.last_transition = max(self.last_transition, int(entity.id))
        deadline = _deadline(entity)
        if deadline is not None:
            insort(self._due, (deadline, entity.kind, key_of(entity)))

    def _unindex(self, entity: Entity) -> None:
        deadline = _deadline(entity)
        if deadline is not None:
            del self._due[bisect_left(self._due, (deadline, entity.kind, key_of(entity)))]
        if isinstance(entity, Instance | Image | KeyPair | Template | Group | SecurityGroup | Transition):
            ids = self._scoped[(entity.kind, Scope(entity.account, entity.region))]
            del ids[bisect_left(ids, entity.id)]
        if isinstance(entity, Image | KeyPair | Template | Group | SecurityGroup) and _owns_name(entity):
            self._names.pop((entity.kind, Scope(entity.account, entity.region), entity.name), None)
        if isinstance(entity, Image):
            self._pending_images.discard(entity.id)
        if isinstance(entity, Instance | SecurityGroup):
            self.changes[Scope(entity.account, entity.region)] += 1
        if isinstance(entity, Instance):
            self._unindex_instance(entity)
        elif isinstance(entity, Host):
            self.fleet.remove(entity.id)
            self._host_names.pop(entity.name, None)
        elif isinstance(entity, Transition):
            self.owing[entity.scope] -= 1
            if not self.owing[entity.scope]:
                del self.owing[entity.scope]

    def _index_instance(self, instance: Instance) -> None:
        self._on_host[instance.host_id].add(instance.id)
        if instance.group_name and instance.state in HOLDS_CAPACITY:
            self._in_group[(instance.scope, instance.group_name)].add(instance.id)
        if instance.state != "terminated":
            self._counts[instance.account] += 1
        if instance.state in COUNTS_FOR_VCPUS:
            self._vcpus[instance.account] += instance.vcpus
        if instance.state in HOLDS_CAPACITY:
            self._used[instance.host_id] = self._used[instance.host_id] + instance.shape
            if instance.host_id in self.hosts:
                self.fleet.reserve(instance.host_id, instance.shape)

    def _unindex_instance(self, instance: Instance) -> None:
        self._on_host[instance.host_id].discard(instance.id)
        if instance.group_name:
            self._in_group[(instance.scope, instance.group_name)].discard(instance.id)
        if instance.state != "terminated":
            self._counts[instance.account] -= 1
        if instance.state in COUNTS_FOR_VCPUS:
            self._vcpus[instance.account] -= instance.vcpus
        if instance.state in HOLDS_CAPACITY:
            self._used[instance.host_id] = self._used[instance.host_id] - instance.shape
            if instance.host_id in self.hosts:
                self.fleet.release(instance.host_id, instance.shape)

    def _index_host(self, host: Host) -> None:
        self._host_names[host.name] = host.id
        self.fleet.upsert(
            HostView(
                host_id=host.id,
                zone=host.zone,
                arch=host.arch,
                total=host.sellable,
                used=self._used.get(host.id, Shape()),
                cordoned=host.cordoned,
                schedulable=host.state == "up",
            )
        )


def _deadline(entity: Entity) -> float | None:
    if isinstance(entity, Instance):
        return entity.deadline
    return entity.expires if isinstance(entity, Token) else None


def _owns_name(entity: Image | KeyPair | Template | Group | SecurityGroup) -> bool:
    return not isinstance(entity, Image) or entity.state not in ("failed", "deregistered")
