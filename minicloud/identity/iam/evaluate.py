"""What policies say to a request: IAM's evaluation of identity policies (IAM User Guide, "Policy evaluation logic").

    a statement that denies matches      explicitDeny
    else one that allows matches         allowed
    else                                 implicitDeny

A statement matches by action, resource and condition. Conditions hold on the values of context keys that the request
has; a key that it lacks fails every operator but the negated ones, Null, and those with IfExists. Nothing here is
enforced yet: Simulate*Policy asks it.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from minicloud.identity.iam.tables import malformed

ALLOWED, DENIED, NOT_ALLOWED = "allowed", "explicitDeny", "implicitDeny"
Context = Mapping[str, Sequence[str]]  # names in lower case
Statement = dict[str, Any]
_VARIABLE = re.compile(r"\$\{([^}$]{1,128})\}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`matched`: the names of the policies whose statements decided. `missing`: keys that conditions asked for."""

    decision: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]


def evaluate(policies: Mapping[str, str], action: str, resource: str, context: Context) -> Verdict:
    """`policies`: documents by name. Raises InvalidParameterValue for a condition that IAM does not have."""
    allowing: list[str] = []
    denying: list[str] = []
    missing: dict[str, None] = {}
    for name, document in policies.items():
        for statement in statements(document):
            if not _matches(statement, action, resource, context):
                continue
            missing.update(dict.fromkeys(_absent(statement, context)))
            if _condition_holds(statement.get("Condition", {}), context):
                (allowing if statement["Effect"] == "Allow" else denying).append(name)
    if denying:
        return Verdict(DENIED, tuple(dict.fromkeys(denying)), tuple(missing))
    if allowing:
        return Verdict(ALLOWED, tuple(dict.fromkeys(allowing)), tuple(missing))
    return Verdict(NOT_ALLOWED, (), tuple(missing))


def applies(statement: Statement, action: str, resource: str, context: Context) -> bool:
    """Raises InvalidParameterValue for a condition that IAM does not have."""
    matched = _matches(statement, action, resource, context)
    return matched and _condition_holds(statement.get("Condition", {}), context)


def statements(document: str) -> list[Statement]:
    found = json.loads(document).get("Statement", [])
    return [found] if isinstance(found, dict) else list(found)


def _matches(statement: Statement, action: str, resource: str, context: Context) -> bool:
    if "Action" in statement:
        named = any(_glob(one.lower()).fullmatch(action.lower()) for one in _list(statement["Action"]))
    else:
        named = not any(_glob(one.lower()).fullmatch(action.lower()) for one in _list(statement["NotAction"]))
    if not named:
        return False
    if "NotResource" in statement:
        return not any(_resource(one, resource, context) for one in _list(statement["NotResource"]))
    return any(_resource(one, resource, context) for one in _list(statement.get("Resource", "*")))


def _resource(pattern: str, resource: str, context: Context) -> bool:
    filled = _filled(pattern, context)
    return filled is not None and (resource == "*" or _glob(filled).fullmatch(resource) is not None)


def _filled(pattern: str, context: Context) -> str | None:
    """With its policy variables replaced; None: the request lacks one."""
    lacking = False

    def value(match: re.Match[str]) -> str:
        nonlocal lacking
        if match[1] in ("*", "?", "$"):
            return match[1]
        found = context.get(match[1].lower(), ())
        lacking = lacking or len(found) != 1
        return found[0] if len(found) == 1 else ""

    filled = _VARIABLE.sub(value, pattern)
    return None if lacking else filled


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*+|\?)", pattern)
    text = "".join(".*" if part[:1] == "*" else "." if part == "?" else re.escape(part) for part in parts)
    return re.compile(text, re.DOTALL)


def _list(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


# --- conditions


def _conditions(conditions: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    for operator, keys in conditions.items():
        for key, values in keys.items():
            yield operator, key.lower(), [_text(one) for one in (values if isinstance(values, list) else [values])]


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _absent(statement: Statement, context: Context) -> Iterator[str]:
    for operator, key, _ in _conditions(statement.get("Condition", {})):
        if key not in context and not operator.endswith("IfExists") and operator != "Null":
            yield key


def _condition_holds(conditions: Mapping[str, Any], context: Context) -> bool:
    return all(_holds(operator, key, values, context) for operator, key, values in _conditions(conditions))


def _holds(operator: str, key: str, wanted: list[str], context: Context) -> bool:
    quantifier, _, bare = operator.rpartition(":")
    optional = bare.endswith("IfExists")
    bare = bare.removesuffix("IfExists")
    present = key in context
    if bare == "Null":
        return any((one.lower() == "true") != present for one in wanted)
    negated, test = _test(bare)
    if not present:
        return optional or negated or quantifier == "ForAllValues"
    filled = [one for text in wanted if (one := _filled(text, context)) is not None]
    values = context[key]

    def one_holds(value: str) -> bool:
        hit = any(test(value, one) for one in filled)
        return not hit if negated else hit

    if quantifier == "ForAllValues":
        return all(map(one_holds, values))
    if quantifier == "ForAnyValue" or not negated:
        return any(map(one_holds, values))
    return all(map(one_holds, values))


def _test(operator: str) -> tuple[bool, Callable[[str, str], bool]]:
    """Whether it is the negation of a test, and the test: (the request's value, the policy's value)."""
    negated = operator in _NEGATED
    test = _TESTS.get(_NEGATED.get(operator, operator))
    if test is None:
        raise malformed(f"Invalid condition operator: {operator[:64]}")
    return negated, test


def _numeric(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda value, wanted: _safely(lambda: compare(float(value), float(wanted)))


def _dated(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda value, wanted: _safely(lambda: compare(_moment(value), _moment(wanted)))


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _address(value: str, wanted: str) -> bool:
    return _safely(lambda: ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False))


def _safely(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except ValueError:
        return False


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, wanted: value == wanted,
    "StringEqualsIgnoreCase": lambda value, wanted: value.lower() == wanted.lower(),
    "StringLike": lambda value, wanted: _glob(wanted).fullmatch(value) is not None,
    "ArnEquals": lambda value, wanted: _glob(wanted).fullmatch(value) is not None,
    "ArnLike": lambda value, wanted: _glob(wanted).fullmatch(value) is not None,
    "Bool": lambda value, wanted: value.lower() == wanted.lower(),
    "BinaryEquals": lambda value, wanted: value == wanted,
    "IpAddress": _address,
    "NumericEquals": _numeric(lambda a, b: a == b),
    "NumericLessThan": _numeric(lambda a, b: a < b),
    "NumericLessThanEquals": _numeric(lambda a, b: a <= b),
    "NumericGreaterThan": _numeric(lambda a, b: a > b),
    "NumericGreaterThanEquals": _numeric(lambda a, b: a >= b),
    "DateEquals": _dated(lambda a, b: a == b),
    "DateLessThan": _dated(lambda a, b: a < b),
    "DateLessThanEquals": _dated(lambda a, b: a <= b),
    "DateGreaterThan": _dated(lambda a, b: a > b),
    "DateGreaterThanEquals": _dated(lambda a, b: a >= b),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}


def names_of(documents: Iterable[str]) -> list[str]:
    """The context keys that conditions and variables of these documents ask for, by name."""
    found: set[str] = set()
    for document in documents:
        found |= {match for match in _VARIABLE.findall(document) if match not in ("*", "?", "$")}
        for statement in statements(document):
            for keys in statement.get("Condition", {}).values():
                found |= set(keys)
    return sorted(found)
