"""The two shapes that rules may have, and what passes between them and the world.

A *machine* decides: (command, context) -> reply + records + effects. `apply(record)` is the only mutator, so replaying
the journal rebuilds the machine exactly. A *plan* is a plain function snapshot -> actions.

Order, kept by the shell (`minicloud.shell`) and never by a machine:

    decide -> apply -> journal (fsync, many requests share one) -> reply -> effects (at least once)

A record is an upsert: the whole new body of one entity, or its end (body None). That makes replay idempotent, a failed
commit undoable (put the previous bodies back), and a snapshot unnecessary: the store holds the newest body of each key.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from minicloud.base.arn import Scope


class Record(NamedTuple):
    """One durable change. `kind` is the entity's table, `key` unique within it, `body` JSON-able or None (gone)."""

    kind: str
    key: str
    body: dict[str, Any] | None


class Tables:
    """A machine's entities, by kind and key. `apply` is the only mutator; who derives keeps its indexes with them."""

    def __init__(self, kinds: Mapping[str, Any], tables: dict[str, dict[str, Any]]) -> None:
        """kinds: the class of each, with `load(body)` and `body()`. tables: one for each kind."""
        self._kinds = kinds
        self._tables = tables

    def apply(self, record: Record) -> None:
        table = self._tables[record.kind]
        before = table.get(record.key)
        after = None if record.body is None else self._kinds[record.kind].load(record.body)
        if before is not None:
            self._unindex(before)
        if after is None:
            table.pop(record.key, None)
        else:
            table[record.key] = after
            self._index(after)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        entity = self._tables[kind].get(key)
        body: dict[str, Any] | None = None if entity is None else entity.body()
        return body

    def _index(self, entity: Any) -> None:
        """It is there now."""

    def _unindex(self, entity: Any) -> None:
        """It is about to go, or to become another one."""


class Entity:
    """A dataclass that is a record's body as a value. Unknown keys are dropped, so that an older program reads a newer
    one's records. Its key is its ARN; it is of an account and a region.
    """

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        return str(self.arn)  # type: ignore[attr-defined]

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)  # type: ignore[attr-defined]

    def body(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        return cls(**known_fields(cls, body))


def known_fields(cls: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    """What of a body this dataclass has; lists become tuples."""
    names = {one.name for one in fields(cls)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in body.items() if name in names}


class ScopedTables(Tables):
    """Tables of entities, found by scope, and under what they hang on: no question scans a table."""

    def __init__(self, kinds: Mapping[str, Any]) -> None:
        self.tables: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
        super().__init__(kinds, self.tables)
        self._scoped: dict[tuple[str, Scope], list[str]] = defaultdict(list)
        self._children: dict[tuple[str, str], list[str]] = defaultdict(list)

    def page(self, kind: str, scope: Scope) -> Sequence[str]:
        """The sorted keys of this kind in this scope."""
        return self._scoped.get((kind, scope), ())

    def keys_under(self, kind: str, parent: str) -> Sequence[str]:
        """The sorted keys of what `parents` says is found there."""
        return self._children.get((kind, parent), ())

    def parents(self, entity: Any) -> Iterable[tuple[str, str]]:
        """Under what an entity is found: (what is asked for, the parent's key)."""
        return ()

    def keep(self, entity: Any, *, there: bool) -> None:
        """Keep every index: the entity is there now, or about to go. Who derives adds its own."""
        keep_sorted(self._scoped[(entity.kind, entity.scope)], entity.key, there)
        for index in self.parents(entity):
            keys = self._children[index]
            keep_sorted(keys, entity.key, there)
            if not keys:
                del self._children[index]

    def _index(self, entity: Any) -> None:
        self.keep(entity, there=True)

    def _unindex(self, entity: Any) -> None:
        self.keep(entity, there=False)


def keep_sorted(items: list[Any], one: Any, there: bool) -> None:
    """`one` in or out of a sorted list."""
    at = bisect_left(items, one)
    found = at < len(items) and items[at] == one
    if there and not found:
        insort(items, one)
    elif not there and found:
        del items[at]


S = TypeVar("S", bound=ScopedTables)


class Touched(NamedTuple):
    """The effect of every record of a Draft: this entity was `before` and is `after` now (None: not there)."""

    kind: str
    key: str
    before: Any
    after: Any


@dataclass(slots=True)
class Draft(Generic[S]):
    """The records of one decision, in order."""

    state: S
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


@dataclass(slots=True)
class Context:
    """What a decision may know of the world: the time (Unix seconds), and chance."""

    now: float
    rand: random.Random

    def hex(self, digits: int) -> str:
        return f"{self.rand.getrandbits(digits * 4):0{digits}x}"

    def new_id(self, prefix: str) -> str:
        """An id in AWS's long form: prefix, dash, 17 hex digits."""
        return f"{prefix}-{self.hex(17)}"


@dataclass(slots=True)
class Outcome:
    """What a decision says: the reply for the caller, records to make durable, effects to carry out afterwards."""

    reply: Any = None
    records: list[Record] = field(default_factory=list)
    effects: list[Any] = field(default_factory=list)


class RuleMachine(Generic[S]):
    """A Machine whose rules are plain functions: (state, command, context) -> Outcome, by the command's class."""

    def __init__(self, state: S, rules: Mapping[type[Any], Callable[[S, Any, Context], Outcome]]) -> None:
        self.state = state
        self._rules = rules

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self.state.tables)

    def decide(self, command: Any, context: Context) -> Outcome:
        return self._rules[type(command)](self.state, command, context)

    def apply(self, record: Record) -> None:
        self.state.apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.state.lookup(kind, key)

    def due(self) -> float | None:
        return None


class Machine(Protocol):
    """Pure rules over entities; no I/O, no clock, no chance of its own."""

    @property
    def kinds(self) -> frozenset[str]:
        """The record kinds that this machine owns."""
        ...

    def decide(self, command: Any, context: Context) -> Outcome:
        """Decide one command against the applied state. Changes nothing. Raises CloudError."""
        ...

    def apply(self, record: Record) -> None:
        """Make one record true. The only mutator; idempotent."""
        ...

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        """The current body under a key, for undoing an apply whose commit failed."""
        ...

    def due(self) -> float | None:
        """When (Unix seconds) the machine next wants a Tick; None: not on its own account."""
        ...


@dataclass(frozen=True, slots=True)
class Tick:
    """The command a shell gives a machine whose `due()` has come."""


class Journal(Protocol):
    """Durable store of records, behind which engines hide (SQLite, later PostgreSQL)."""

    def acquire(self, owner: str) -> int:
        """Become the one writer; returns the new epoch, which fences every earlier owner."""
        ...

    def load(self, kinds: Iterable[str]) -> Iterable[Record]:
        """Every live record of these kinds, in no particular order."""
        ...

    async def commit(self, records: list[Record]) -> None:
        """Return when the records are on disk. Concurrent calls share one fsync, in call order.

        Raises InsufficientStorage (disk full; nothing of this call is stored), Fenced (another owner took over;
        the caller must stop), Internal (the disk failed; the caller must stop).
        """
        ...
