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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol


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
