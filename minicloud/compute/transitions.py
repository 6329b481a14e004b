"""What rules are told of instances: every change of state, in scopes that listen.

    Listen      a scope listens from now on
    any record that brings an instance to another state -> a Transition, in the same commit
    Told        these have arrived where rules are; scopes without a rule do not listen any more

So a change that is on disk is told, whatever ends when; and where nobody listens nothing is written. An instance that
passes through a state within one decision does not come to it.

A scope stops listening only where nobody has said `Listen` since it was asked: the number says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicloud.base.arn import Scope
from minicloud.base.machine import Context, Outcome
from minicloud.compute.model import Instance, Listener, Transition
from minicloud.compute.state import Draft, State, Touched

OWED_MAX = 100_000  # ours: 30 MB; what happens while so many wait (nobody takes them) is not told
OWED_OF_SCOPE_MAX = 20_000  # ours: nobody's take the room of all


@dataclass(frozen=True, slots=True)
class Listen:
    scope: Scope


@dataclass(frozen=True, slots=True)
class Told:
    """`ids`: of transitions. `unheard`: scopes (as keys) without a rule, and the numbers of their listeners then."""

    ids: tuple[str, ...]
    unheard: Mapping[str, int] = field(default_factory=dict)


def listen(state: State, command: Listen, context: Context) -> Outcome:
    scope = command.scope
    known = state.listeners.get(scope.key())
    number = 1 + (int(context.now * 1e6) if known is None else known.number)
    draft = Draft()
    draft.put(Listener(scope.key(), scope.account, scope.region, number))
    return draft.outcome()


def told(state: State, command: Told, _context: Context) -> Outcome:
    draft = Draft()
    for one in command.ids:
        if one in state.transitions:
            draft.drop(state.transitions[one])
    for key, number in command.unheard.items():
        listener = state.listeners.get(key)
        if listener is not None and listener.number == number:
            draft.drop(listener)
    return draft.outcome()


def noted(state: State, outcome: Outcome, now: float) -> Outcome:
    """A decision, and what of it is to be told."""
    draft = Draft(outcome.records, outcome.effects)
    number = max(state.last_transition + 1, int(now * 1e6))
    states: dict[str, str] = {}
    for effect in tuple(outcome.effects):
        one = effect.entity if isinstance(effect, Touched) else None
        if not isinstance(one, Instance) or one.scope.key() not in state.listeners:
            continue
        known = state.instances.get(one.id)
        before = states.get(one.id, "" if known is None else known.state)
        states[one.id] = one.state
        room = min(OWED_MAX - len(state.transitions), OWED_OF_SCOPE_MAX - state.owing.get(one.scope, 0))
        if one.state != before and len(states) <= room:
            draft.put(Transition(f"{number:020d}", one.account, one.region, one.id, one.state, now))
            number += 1
    return outcome
