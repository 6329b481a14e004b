"""Patterns compiled to closures: what filter policies of topics, of event source mappings and rules have in common.

A pattern is an object; every key must match (and), one of a key's conditions must (or, `operators.py`); `$or` holds two
or more objects of which one must match. Keys may nest; a list in the message means any of its elements; keys of one
nested object match within one and the same element. Lists in lists are flattened.

What a list costs is counted before it is looked at: its elements, times the conditions on them (`Whole.left`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Any

from minicloud.shell.operators import KEYWORDS, TOPICS, Dialect, PolicyError, compile_conditions

_MISSING: Any = object()
DEPTH_MAX = 100  # ours: objects in objects of a pattern
_LONG_BYTES = 4_096  # what a condition looks at in the time of one test, or less


class TooMuch(Exception):
    """More is to be looked at than the message was given (`Whole.left`)."""


class Whole:
    """A message while it is looked at. `left`: how many tests of elements of lists there may be."""

    __slots__ = ("_there", "body", "left")

    def __init__(self, body: Any, left: float = inf) -> None:
        self.body = body
        self.left = left
        self._there: dict[tuple[str, ...], bool] | None = None

    def spend(self, tests: int) -> None:
        """Raises TooMuch."""
        self.left -= tests
        if self.left < 0:
            raise TooMuch

    def has_leaf(self, path: tuple[str, ...]) -> bool:
        """Looked for once, however many elements ask."""
        if self._there is None:
            self._there = {}
        found = self._there.get(path)
        if found is None:
            found = self._there[path] = self._look(path)
        return found

    def _look(self, path: tuple[str, ...]) -> bool:
        *parents, last = path
        nodes = [self.body]
        for key in parents:
            nodes = [inner for node in nodes for inner in _objects(node.get(key, _MISSING))]
            self.spend(len(nodes))
        return any(True for node in nodes for _ in _leaves(node.get(last, _MISSING)))


# A value under a key (or _MISSING) and the whole message, which `exists: false` looks at.
Check = Callable[[Any, Whole], bool]


def is_or(key: str, value: Any) -> bool:
    """Ruler's rule: two or more objects, none with an operator's name as a key; else `$or` is a key as any other."""
    if key != "$or" or not isinstance(value, list) or len(value) < 2:
        return False
    return all(isinstance(one, dict) and one and not KEYWORDS & one.keys() for one in value)


def check_form(policy: dict[str, Any]) -> None:
    """Every key holds an object or a list, and none of them is empty. Raises PolicyError."""
    if not policy:
        raise PolicyError("Empty objects are not allowed")
    for key, value in policy.items():
        if is_or(key, value):
            for branch in value:
                check_form(branch)
        elif isinstance(value, dict):
            check_form(value)
        elif not isinstance(value, list):
            raise PolicyError(f'"{key}" must be an object or an array')
        elif not value:
            raise PolicyError("Empty arrays are not allowed")


def compile_object(policy: dict[str, Any], path: tuple[str, ...] = (), dialect: Dialect = TOPICS) -> Check:
    """A check of an object of the message: every key, and every `$or`. Raises PolicyError."""
    keys: list[tuple[str, Check]] = []
    ors: list[list[Check]] = []
    if len(path) > DEPTH_MAX:
        raise PolicyError(f"at most {DEPTH_MAX} keys can nest")
    for key, value in policy.items():
        if is_or(key, value):
            ors.append([compile_object(branch, path, dialect) for branch in value])
        elif isinstance(value, dict):
            keys.append((key, _inside(compile_object(value, (*path, key), dialect), weight(value))))
        else:
            keys.append((key, _key(value, (*path, key), dialect)))

    def every_key(node: Any, whole: Whole) -> bool:
        for key, matches in keys:  # noqa: SIM110  # a generator would cost as much as the checks
            if not matches(node.get(key, _MISSING), whole):
                return False
        return True

    def check(node: Any, whole: Whole) -> bool:
        return every_key(node, whole) and all(any(branch(node, whole) for branch in branches) for branches in ors)

    return check if ors else every_key


def weight(pattern: Any) -> int:
    """How many conditions it has."""
    if isinstance(pattern, dict):
        return 1 + sum(weight(one) for one in pattern.values())
    return sum(weight(one) for one in pattern) if isinstance(pattern, list) else 1


def tests_of(weight: int, size: int) -> int:
    """What conditions of this weight cost with a message of so many bytes, but for the elements of its lists."""
    return weight * (1 + size // _LONG_BYTES)


def _inside(inner: Check, tests: int) -> Check:
    """A nested policy: one of the objects under the key; or none, when all that it asks for is absence."""

    def check(value: Any, whole: Whole) -> bool:
        objects = [*_objects(value)]
        if len(objects) > 1:
            whole.spend(len(objects) * tests)
        return any(inner(node, whole) for node in objects) or inner({}, whole)

    return check


def _key(conditions: list[Any], path: tuple[str, ...], dialect: Dialect) -> Check:
    test, absent = compile_conditions(conditions, dialect)
    tests = weight(conditions)

    def check(value: Any, whole: Whole) -> bool:
        kind = type(value)
        if kind is list:
            leaves = [*_leaves(value)]
            whole.spend(len(leaves) * tests)
            found = any(map(test, leaves))
        else:
            found = kind is not dict and value is not _MISSING and test(value)
        return found or (absent and not whole.has_leaf(path))

    return check


def _flat(value: Any) -> Iterator[Any]:
    """The elements of a list, of lists in it, and so on; of something else: itself."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, list):
            stack.extend(reversed(top))
        elif top is not _MISSING:
            yield top


def _leaves(value: Any) -> Iterator[Any]:
    return (one for one in _flat(value) if not isinstance(one, dict))


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (one for one in _flat(value) if isinstance(one, dict))
