"""Lifecycles as tables: (state, event) -> state. The docs' diagrams are drawn from the same tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

State = TypeVar("State", bound=str)
Event = TypeVar("Event", bound=str)


class Table(Generic[State, Event]):
    """A closed transition table. A pair that is absent is not a transition, and `step` says so."""

    def __init__(self, name: str, rows: Mapping[tuple[State, Event], State]) -> None:
        self.name = name
        self._rows = dict(rows)

    def get(self, state: State, event: Event) -> State | None:
        return self._rows.get((state, event))

    def step(self, state: State, event: Event) -> State:
        """The next state. Raises KeyError naming table, state and event where there is none."""
        after = self.get(state, event)
        if after is None:
            raise KeyError(f"{self.name}: no transition from {state!r} on {event!r}")
        return after

    def rows(self) -> list[tuple[State, Event, State]]:
        return sorted((state, event, after) for (state, event), after in self._rows.items())

    def mermaid(self) -> str:
        """The diagram for the docs: one arrow for each pair of states, its events on it."""
        arrows: dict[tuple[State, State], list[str]] = {}
        for state, event, after in self.rows():
            arrows.setdefault((state, after), []).append(str(event))
        lines = [f"    {_node(a)} --> {_node(b)}: {', '.join(events)}" for (a, b), events in arrows.items()]
        return "\n".join(["stateDiagram-v2", *lines])


def _node(state: str) -> str:
    return str(state).replace("-", "_")
