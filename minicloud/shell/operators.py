"""The operators of filter policies and event patterns: each condition of a key's list becomes a test of one leaf.

A leaf is a JSON value that is no object and no list: str, int or float, bool, None. Conditions follow AWS's Event
Ruler, which SNS and EventBridge are built on, and its texts: exact values, `prefix`, `suffix`, `equals-ignore-case`,
`wildcard`, `numeric`, `cidr`, `exists`, and `anything-but` around values or around one of the first four. How far and
how finely numbers are compared is the service's (`Dialect`). Strings match only strings, numbers only numbers;
`anything-but` takes every type of leaf.
"""

from __future__ import annotations

import ipaddress
import json
from bisect import bisect_right
from collections.abc import Callable, Iterable
from math import inf
from typing import Any, NamedTuple

Test = Callable[[Any], bool]
KEYWORDS = frozenset(
    ("anything-but", "cidr", "equals-ignore-case", "exactly", "exists", "numeric", "prefix", "suffix", "wildcard")
)
Span = tuple[float, float]  # in units of a dialect, both ends in it
_COMPARISONS: dict[str, Callable[[float], Span]] = {
    "<": lambda bound: (-inf, bound - 1),
    "<=": lambda bound: (-inf, bound),
    "=": lambda bound: (bound, bound),
    ">": lambda bound: (bound + 1, inf),
    ">=": lambda bound: (bound, inf),
}


class Dialect(NamedTuple):
    """Numbers are compared from -most to most, in units of 1/scale. `blank`: null and "" are there, to `exists`."""

    most: float
    scale: int
    blank: bool

    def holds(self, leaf: Any) -> bool:
        kind = type(leaf)
        return (kind is int or kind is float) and -self.most <= leaf <= self.most

    def scaled(self, number: float) -> float | str:
        """A number as it is compared: an integer of its units within the range, a text of its own outside."""
        if -self.most <= number <= self.most:
            return round(number * self.scale)
        try:
            return repr(float(number))
        except OverflowError:
            return str(number)


# SNS guide, "Numeric value matching": from -10^9 to 10^9, five digits of accuracy after the decimal point.
TOPICS = Dialect(1e9, 10**5, blank=False)
# EventBridge guide, "Comparison operators": from -5.0e9 to 5.0e9, six digits to the right of the decimal point.
EVENTS = Dialect(5e9, 10**6, blank=True)


class PolicyError(Exception):
    """Why a filter policy is refused, in Ruler's words."""


class Conditions(NamedTuple):
    """A key's list, compiled. `absent`: `{"exists": false}` is in it."""

    test: Test
    absent: bool


def compile_conditions(conditions: list[Any], dialect: Dialect = TOPICS) -> Conditions:
    """Raises PolicyError."""
    exact = [condition for condition in conditions if not isinstance(condition, dict | list)]
    absent = False
    tests: list[Test] = [_exact(exact, dialect)] if exact else []
    spans: list[Span] = []
    for condition in conditions:
        if isinstance(condition, list):
            raise PolicyError("Match value must be String, number, true, false, or null")
        if isinstance(condition, dict) and list(condition) == ["numeric"]:
            spans.append(_span(condition["numeric"], dialect))
        elif isinstance(condition, dict):
            test = _expression(condition, dialect)
            absent = absent or test is None
            tests += [test] if test is not None else []
    tests += [_within(spans, dialect)] if spans else []
    return Conditions(_any(tests), absent)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _any(tests: list[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]
    return lambda leaf: any(test(leaf) for test in tests)


def _expression(condition: dict[str, Any], dialect: Dialect) -> Test | None:
    """None: the key must be absent."""
    if len(condition) != 1:
        raise PolicyError("Only one key allowed in match expression")
    ((name, value),) = condition.items()
    if name == "exists":
        if not isinstance(value, bool):
            raise PolicyError("exists match pattern must be either true or false.")
        if not value:
            return None
        return _anything if dialect.blank else _is_there
    if name == "cidr":
        return _cidr(value)
    if name == "anything-but":
        return _anything_but(value, dialect)
    if name in _TEXTUAL:
        return _text(name, value)
    raise PolicyError(f"Unrecognized match type {name}")


def _anything(_leaf: Any) -> bool:
    return True


def _is_there(leaf: Any) -> bool:
    return leaf is not None and leaf != ""


def _exact(values: Iterable[Any], of: Dialect) -> Test:
    values = list(values)
    strings = frozenset(value for value in values if isinstance(value, str))
    numbers = frozenset(of.scaled(value) for value in values if is_number(value))
    words = tuple(value for value in values if value is None or isinstance(value, bool))

    def test(leaf: Any) -> bool:
        if type(leaf) is str:
            return leaf in strings
        if leaf is None or isinstance(leaf, bool):
            return any(leaf is word for word in words)
        return bool(numbers) and of.scaled(leaf) in numbers

    return test


# --- texts


def _text(name: str, value: Any) -> Test:
    if name in _CASELESS and isinstance(value, dict):
        return _caseless(name, value)
    if not isinstance(value, str):
        raise PolicyError(f"{name} match pattern must be a string")
    return _TEXTUAL[name](value)


def _caseless(name: str, condition: dict[str, Any]) -> Test:
    """`{"prefix": {"equals-ignore-case": "text"}}`"""
    if list(condition) != ["equals-ignore-case"]:
        raise PolicyError(f"Unsupported {name} pattern: {next(iter(condition), '')}")
    text = condition["equals-ignore-case"]
    if not isinstance(text, str):
        raise PolicyError("equals-ignore-case match pattern must be a string")
    inner = _TEXTUAL[name](text.lower())
    return lambda leaf: isinstance(leaf, str) and inner(leaf.lower())


def _prefix(value: str) -> Test:
    return lambda leaf: isinstance(leaf, str) and leaf.startswith(value)


def _suffix(value: str) -> Test:
    return lambda leaf: isinstance(leaf, str) and leaf.endswith(value)


def _ignore_case(value: str) -> Test:
    lower = value.lower()
    return lambda leaf: isinstance(leaf, str) and leaf.lower() == lower


def _wildcard(pattern: str) -> Test:
    """The pieces between the stars, found one after the other: linear, nothing is tried twice."""
    pieces = _pieces(pattern)
    if len(pieces) == 1:
        return lambda leaf: bool(leaf == pieces[0])
    head, *middle, tail = pieces

    def test(leaf: Any) -> bool:
        if not isinstance(leaf, str) or len(leaf) < len(head) + len(tail):
            return False
        if not leaf.startswith(head) or not leaf.endswith(tail):
            return False
        at, end = len(head), len(leaf) - len(tail)
        for piece in middle:
            found = leaf.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True

    return test


def _pieces(pattern: str) -> list[str]:
    """Split at stars that no backslash precedes. Positions in texts count the opening quote, as Ruler does."""
    pieces, piece, at = [], "", 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*":
            if pattern[at + 1 : at + 2] == "*":
                raise PolicyError(f"Consecutive wildcard characters at pos {at + 1}")
            pieces.append(piece)
            piece = ""
        elif char == "\\":
            if pattern[at + 1 : at + 2] not in ("*", "\\"):
                raise PolicyError(f"Invalid escape character at pos {at + 1}")
            at += 1
            piece += pattern[at]
        else:
            piece += char
        at += 1
    return [*pieces, piece]


_TEXTUAL: dict[str, Callable[[str], Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
}


_CASELESS = ("prefix", "suffix")


# --- anything-but


def _anything_but(value: Any, of: Dialect) -> Test:
    if isinstance(value, dict):
        unwanted = _unwanted_texts(value)
    elif isinstance(value, list):
        unwanted = _exact(_same_kind(value), of)
    elif isinstance(value, str) or is_number(value):
        unwanted = _exact([value], of)
    else:
        raise PolicyError("Value of anything-but must be an array or single string/number value.")
    return lambda leaf: not unwanted(leaf)


def _unwanted_texts(condition: dict[str, Any]) -> Test:
    if not condition:
        raise PolicyError("Anything-But expression name not found")
    if len(condition) != 1:
        raise PolicyError("Only one key allowed in match expression")
    ((name, value),) = condition.items()
    if name not in _TEXTUAL:
        raise PolicyError(f"Unsupported anything-but pattern: {name}")
    texts = value if isinstance(value, list) else [value]
    if not texts:
        raise PolicyError("Empty arrays are not allowed")
    if name in ("prefix", "suffix") and "" in texts:
        raise PolicyError("Null prefix/suffix not allowed")
    return _any([_text(name, text) for text in texts])


def _same_kind(values: list[Any]) -> list[Any]:
    for value in values:
        if not isinstance(value, str) and not is_number(value):
            raise PolicyError("Inside anything but list, start|null|boolean is not supported.")
    if not values or len({isinstance(value, str) for value in values}) == 2:
        raise PolicyError(
            "Inside anything but list, either all values are number or string, mixed type is not supported"
        )
    return values


# --- numbers, addresses


def _within(spans: list[Span], of: Dialect) -> Test:
    """In one of them: however many there are, a number is looked for once."""
    merged: list[Span] = []
    for low, high in sorted(spans):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    lows, highs = [low for low, _ in merged], [high for _, high in merged]

    def test(leaf: Any) -> bool:
        if not of.holds(leaf):
            return False
        number = round(leaf * of.scale)
        at = bisect_right(lows, number) - 1
        return at >= 0 and number <= highs[at]

    return test


def _span(terms: Any, of: Dialect) -> Span:
    """`[op, number]` or `[op, number, op, number]`, a range from below to above: the units within."""
    if not isinstance(terms, list):
        raise PolicyError("Value of numeric must be an array.")
    if not terms:
        raise PolicyError("Invalid member in numeric match: ]")
    name = terms[0]
    if not isinstance(name, str):
        raise PolicyError(f"Invalid member in numeric match: {_shown(name)}")
    if name not in _COMPARISONS:
        raise PolicyError(f"Unrecognized numeric range operator: {name}")
    bottom = _bound(name, terms[1:2], of)
    if len(terms) == 2:
        return _COMPARISONS[name](bottom)
    return _range(name, bottom, terms[2:], of)


def _range(name: str, bottom: float, terms: list[Any], of: Dialect) -> Span:
    if name not in (">", ">="):
        raise PolicyError("Too many elements in numeric expression")
    if not isinstance(terms[0], str):
        raise PolicyError(f"Bad value in numeric range: {_shown(terms[0])}")
    if terms[0] not in ("<", "<="):
        raise PolicyError(f"Bad numeric range operator: {terms[0]}")
    top = _bound(terms[0], terms[1:2], of)
    if not bottom < top:
        raise PolicyError("Bottom must be less than top")
    if len(terms) > 2:
        raise PolicyError("Too many terms in numeric range expression")
    return _COMPARISONS[name](bottom)[0], _COMPARISONS[terms[0]](top)[1]


def _bound(name: str, term: list[Any], of: Dialect) -> float:
    if not term or not is_number(term[0]):
        raise PolicyError(f"Value of {'equals' if name == '=' else name} must be numeric")
    if not of.holds(term[0]):
        most = f"{of.most / 1e9:.1f}E9"
        raise PolicyError(f"Value must be between -{most} and {most}, inclusive")
    value = of.scaled(term[0])
    assert not isinstance(value, str)
    return value


def _shown(value: Any) -> str:
    return json.dumps(value)[:100]


def _cidr(value: Any) -> Test:
    if not isinstance(value, str):
        raise PolicyError("prefix match pattern must be a string")  # Ruler's own words for it
    address, slash, mask = value.partition("/")
    if not slash or "/" in mask:
        raise PolicyError("Malformed CIDR, one '/' required")
    if not mask.isascii() or not mask.isdigit():
        raise PolicyError("Malformed CIDR, mask bits must be an integer")
    try:
        network = ipaddress.ip_network(f"{ipaddress.ip_address(address)}/{int(mask)}", strict=False)
    except ValueError:
        raise PolicyError(f"Nonstandard IP address: {address}") from None

    def test(leaf: Any) -> bool:
        if not isinstance(leaf, str):
            return False
        try:
            return ipaddress.ip_address(leaf) in network
        except ValueError:
            return False

    return test
