"""The rule of a composite alarm: text -> tree -> truth.

or = and ("OR" and)*     and = not ("AND" not)*     not = "NOT" not | "(" or ")" | "TRUE" | "FALSE" | state
state = ("ALARM" | "OK" | "INSUFFICIENT_DATA") "(" name or ARN, quoted or not ")"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minicloud.metric import errors, limits
from minicloud.metric.syntax import Tokens

# A whole ALARM(...) is one token, since a name may hold anything: in quotes all but quotes, else all but brackets.
_TOKENS = re.compile(
    r"\s+|(?P<state>(?:ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*(?:\"[^\"]+\"|[^()\"\s][^()\"]*)\s*\))"
    r"|(?P<name>[A-Za-z_]+)|(?P<mark>[()])"
)


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class Is:
    """An alarm, by name, is in a state."""

    state: str
    alarm: str


@dataclass(frozen=True, slots=True)
class Not:
    inner: Node


@dataclass(frozen=True, slots=True)
class Every:
    terms: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Any:
    terms: tuple[Node, ...]


Node = Truth | Is | Not | Every | Any


def parse(source: str, name_of: Callable[[str], str], field: str = "AlarmRule") -> Node:
    """name_of: the name of an alarm from a name or an ARN. Raises ValidationError with the position."""
    if not 0 < len(source) <= limits.RULE_CHARS_MAX:
        raise errors.invalid(f"An AlarmRule has 1 to {limits.RULE_CHARS_MAX} characters", field)
    tokens = Tokens(source, _TOKENS, field)
    node = _any(tokens, name_of)
    if tokens.now.kind != "end":
        raise tokens.error("expected AND or OR")
    count = len(children(node))
    if count > limits.RULE_ALARMS_MAX:
        raise errors.invalid(f"An AlarmRule names at most {limits.RULE_ALARMS_MAX} alarms, not {count}", field)
    return node


def children(node: Node) -> set[str]:
    """The names of the alarms in a rule."""
    return {one.alarm for one in _leaves(node) if isinstance(one, Is)}


def holds(node: Node, state_of: Callable[[str], str]) -> bool:
    if isinstance(node, Truth):
        return node.value
    if isinstance(node, Is):
        return state_of(node.alarm) == node.state
    if isinstance(node, Not):
        return not holds(node.inner, state_of)
    test = any if isinstance(node, Any) else all
    return test(holds(one, state_of) for one in node.terms)


def _leaves(node: Node) -> Iterator[Node]:
    if isinstance(node, Not):
        yield from _leaves(node.inner)
    elif isinstance(node, Every | Any):
        for one in node.terms:
            yield from _leaves(one)
    else:
        yield node


def _any(tokens: Tokens, name_of: Callable[[str], str]) -> Node:
    tokens.deeper()
    terms = [_every(tokens, name_of)]
    while tokens.skip("OR"):
        terms.append(_every(tokens, name_of))
    tokens.higher()
    return terms[0] if len(terms) == 1 else Any(tuple(terms))


def _every(tokens: Tokens, name_of: Callable[[str], str]) -> Node:
    terms = [_not(tokens, name_of)]
    while tokens.skip("AND"):
        terms.append(_not(tokens, name_of))
    return terms[0] if len(terms) == 1 else Every(tuple(terms))


def _not(tokens: Tokens, name_of: Callable[[str], str]) -> Node:
    if tokens.skip("NOT"):
        tokens.deeper()
        node = Not(_not(tokens, name_of))
        tokens.higher()
        return node
    if tokens.skip("("):
        inner = _any(tokens, name_of)
        tokens.expect(")")
        return inner
    if literal := tokens.skip("TRUE", "FALSE"):
        return Truth(literal.text == "TRUE")
    token = tokens.now
    if token.kind != "state":
        raise tokens.error("expected ALARM(name), OK(name), INSUFFICIENT_DATA(name), TRUE, FALSE, NOT or a bracket")
    tokens.take()
    state, name = token.text[:-1].split("(", 1)
    return Is(state.strip(), name_of(name.strip().strip('"')))
