"""Metric math, the language: text -> tree. What the tree means is in `arithmetic.py`.

    or      = and (("OR" | "||") and)*                 call    = NAME "(" [or ("," or)*] ")"
    and     = compare (("AND" | "&&") compare)*        array   = "[" or ("," or)* "]"
    compare = sum [("==" | "!=" | "<" | ">" | "<=" | ">=") sum]
    sum     = product (("+" | "-") product)*
    product = unary (("*" | "/") unary)*
    unary   = "-" unary | power
    power   = atom ["^" unary]                         right to left: 2^-x, 2^3^2
    atom    = number | id | call | array | "(" or ")"

Functions are written in capitals, ids begin with a small letter (guide, "Metric math syntax and functions").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from minicloud.metric import errors, limits
from minicloud.metric.syntax import Tokens

_TOKENS = re.compile(
    r"\s+|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|['\"](?P<text>[^'\"]*)['\"]|(?P<mark>==|!=|<=|>=|&&|\|\||[-+*/^<>()\[\],])",
    re.ASCII,
)
_COMPARISONS = ("==", "!=", "<=", ">=", "<", ">")
_WORDS = {"&&": "AND", "||": "OR"}
KEYWORDS = ("REPEAT", "LINEAR")

# name -> least and most arguments
FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("SUM", "AVG", "MIN", "MAX", "STDDEV", "DATAPOINT_COUNT", "METRIC_COUNT"), (1, 1)),
    **dict.fromkeys(("ABS", "CEIL", "FLOOR", "LOG", "LOG10", "DIFF", "DIFF_TIME", "RATE", "RUNNING_SUM"), (1, 1)),
    **dict.fromkeys(("PERIOD", "TIME_SERIES", "FIRST", "LAST", "REMOVE_EMPTY"), (1, 1)),
    "FILL": (2, 2),
    "IF": (2, 3),
    "METRICS": (0, 1),
}
# They are CloudWatch's, but need what is not here: an index of all metrics, a model, rules, quotas, a calendar, ranks.
REFUSED = frozenset(
    (
        *("SEARCH", "ANOMALY_DETECTION_BAND", "INSIGHT_RULE_METRIC", "SERVICE_QUOTA", "SORT", "SLICE", "LAMBDA"),
        *("DB_PERF_INSIGHTS", "MINUTE", "HOUR", "DAY", "DATE", "MONTH", "YEAR", "EPOCH", "SELECT"),
    )
)


@dataclass(frozen=True, slots=True)
class Number:
    value: float
    at: int


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """An id of the request, or a keyword of FILL."""

    id: str
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or an operator by its sign (comparisons, "^"; "neg": unary minus)."""

    name: str
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Operators of one rank from left to right; flat, because an expression may add hundreds of terms."""

    first: Node
    rest: tuple[tuple[str, Node, int], ...]  # sign, right side, where the sign stands


@dataclass(frozen=True, slots=True)
class Array:
    items: tuple[Node, ...]
    at: int


Node = Number | Text | Name | Call | Chain | Array


def parse(source: str, field: str = "Expression") -> Node:
    """Raises ValidationError (with the position), UnsupportedOperation (a function that is not computed here)."""
    if len(source) > limits.EXPRESSION_CHARS_MAX:
        raise errors.invalid(f"An expression has at most {limits.EXPRESSION_CHARS_MAX} characters", field)
    tokens = Tokens(source, _TOKENS, field)
    node = _or(tokens)
    if tokens.now.kind != "end":
        raise tokens.error("expected an operator")
    return node


def names(node: Node) -> set[str]:
    """The ids that an expression refers to."""
    return {one.id for one in walk(node) if isinstance(one, Name) and one.id not in KEYWORDS}


def calls(node: Node) -> set[str]:
    """The functions and operators that an expression uses; of chains the functions alone."""
    return {one.name for one in walk(node) if isinstance(one, Call)}


def walk(node: Node) -> Iterator[Node]:
    todo = [node]
    while todo:
        one = todo.pop()
        yield one
        if isinstance(one, Call):
            todo += one.arguments
        elif isinstance(one, Array):
            todo += one.items
        elif isinstance(one, Chain):
            todo += [one.first, *(right for _, right, _ in one.rest)]


def _or(tokens: Tokens) -> Node:
    tokens.deeper()
    node = _chain(tokens, _and, "OR", "||")
    tokens.higher()
    return node


def _and(tokens: Tokens) -> Node:
    return _chain(tokens, _compare, "AND", "&&")


def _chain(tokens: Tokens, lower: Callable[[Tokens], Node], *signs: str) -> Node:
    first = lower(tokens)
    rest = []
    while sign := tokens.skip(*signs):
        rest.append((_WORDS.get(sign.text, sign.text), lower(tokens), sign.at))
    return Chain(first, tuple(rest)) if rest else first


def _compare(tokens: Tokens) -> Node:
    left = _sum(tokens)
    sign = tokens.skip(*_COMPARISONS)
    return left if sign is None else Call(sign.text, (left, _sum(tokens)), sign.at)


def _sum(tokens: Tokens) -> Node:
    return _chain(tokens, _product, "+", "-")


def _product(tokens: Tokens) -> Node:
    return _chain(tokens, _unary, "*", "/")


def _unary(tokens: Tokens) -> Node:
    sign = tokens.skip("-")
    if sign is None:
        return _power(tokens)
    tokens.deeper()
    node = Call("neg", (_unary(tokens),), sign.at)
    tokens.higher()
    return node


def _power(tokens: Tokens) -> Node:
    base = _atom(tokens)
    sign = tokens.skip("^")
    if sign is None:
        return base
    tokens.deeper()
    node = Call("^", (base, _unary(tokens)), sign.at)
    tokens.higher()
    return node


def _atom(tokens: Tokens) -> Node:
    token = tokens.take()
    if token.kind == "number":
        return Number(float(token.text), token.at)
    if token.kind == "text":
        return Text(token.text, token.at)
    if token.kind == "name":
        return _named(tokens, token.text, token.at)
    if token.text == "(":
        inner = _or(tokens)
        tokens.expect(")")
        return inner
    if token.text == "[":
        return Array(_list(tokens, "]"), token.at)
    found = "the end" if token.kind == "end" else f"'{token.text}'"
    raise tokens.error(f"expected a number, an id or a function, found {found}", token.at)


def _named(tokens: Tokens, name: str, at: int) -> Node:
    if name in REFUSED:
        raise errors.not_supported(f"The function {name} (at position {at})", tokens.field)
    if not tokens.skip("("):
        if name[0].islower() or name in KEYWORDS:
            return Name(name, at)
        raise tokens.error(f"'{name}' is no id: ids begin with a small letter", at)
    if name not in FUNCTIONS:
        raise tokens.error(f"there is no function '{name}'", at)
    arguments = () if tokens.skip(")") else _list(tokens, ")")
    least, most = FUNCTIONS[name]
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise tokens.error(f"{name} takes {wanted} arguments, not {len(arguments)}", at)
    return Call(name, arguments, at)


def _list(tokens: Tokens, end: str) -> tuple[Node, ...]:
    items = [_or(tokens)]
    while tokens.skip(","):
        items.append(_or(tokens))
    tokens.expect(end)
    return tuple(items)
