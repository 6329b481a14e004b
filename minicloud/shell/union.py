"""Several machines behind one shell: one journal, one lease, one fsync for all of them.

A command is addressed to its machine by name; a Tick goes to those that are due; a record goes to the machine that owns
its kind. Pure, as its parts are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minicloud.base.machine import Context, Machine, Outcome, Record, Tick


@dataclass(frozen=True, slots=True)
class To:
    """A command and the name of the machine that it is for."""

    machine: str
    command: Any


class Union:
    """Implements base.machine.Machine. Raises ValueError where two machines own one kind."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = dict(machines)
        self._owner: dict[str, Machine] = {}
        for machine in self._machines.values():
            for kind in machine.kinds:
                if kind in self._owner:
                    raise ValueError(f"two machines own records of kind {kind!r}")
                self._owner[kind] = machine

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(self._owner)

    def decide(self, command: Any, context: Context) -> Outcome:
        if isinstance(command, Tick):
            return self._tick(command, context)
        assert isinstance(command, To)
        return self._machines[command.machine].decide(command.command, context)

    def _tick(self, tick: Tick, context: Context) -> Outcome:
        joint = Outcome()
        for machine in self._machines.values():
            due = machine.due()
            if due is not None and due <= context.now:
                outcome = machine.decide(tick, context)
                joint.records += outcome.records
                joint.effects += outcome.effects
        return joint

    def apply(self, record: Record) -> None:
        self._owner[record.kind].apply(record)

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self._owner[kind].lookup(kind, key)

    def due(self) -> float | None:
        return min((due for machine in self._machines.values() if (due := machine.due()) is not None), default=None)
