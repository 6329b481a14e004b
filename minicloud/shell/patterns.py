"""Patterns compiled to closures: what filter policies of topics, of event source mappings and rules have in common.

A pattern is an object; every key must match (and), one of a key's conditions must (or, `operators.py`); `$or` holds two
or more objects of which one must match. Keys may nest; a list in the message means any of its elements; keys of one
nested object match within one and the same element. Lists in lists are flattened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minicloud.shell.operators import KEYWORDS, TOPICS, Dialect, PolicyError, compile_conditions

# A value under a key (or _MISSING) and the whole message, which `exists: false` looks at.
Check = Callable[[Any, Any], bool]
_MISSING: Any = object()


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
    for key, value in policy.items():
        if is_or(key, value):
            ors.append([compile_object(branch, path, dialect) for branch in value])
        elif isinstance(value, dict):
            keys.append((key, _inside(compile_object(value, (*path, key), dialect))))
        else:
            keys.append((key, _key(value, (*path, key), dialect)))

    def every_key(node: Any, root: Any) -> bool:
        for key, matches in keys:  # noqa: SIM110  # a generator would cost as much as the checks
            if not matches(node.get(key, _MISSING), root):
                return False
        return True

    def check(node: Any, root: Any) -> bool:
        return every_key(node, root) and all(any(branch(node, root) for branch in branches) for branches in ors)

    return check if ors else every_key


def _inside(inner: Check) -> Check:
    """A nested policy: one of the objects under the key; or none, when all that it asks for is absence."""

    def check(value: Any, root: Any) -> bool:
        return any(inner(node, root) for node in _objects(value)) or inner({}, root)

    return check


def _key(conditions: list[Any], path: tuple[str, ...], dialect: Dialect) -> Check:
    test, absent = compile_conditions(conditions, dialect)

    def check(value: Any, root: Any) -> bool:
        kind = type(value)
        if kind is list:
            found = any(test(leaf) for leaf in _leaves(value))
        else:
            found = kind is not dict and value is not _MISSING and test(value)
        return found or (absent and not _has_leaf(root, path))

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


def _has_leaf(root: Any, path: tuple[str, ...]) -> bool:
    *parents, last = path
    nodes = [root]
    for key in parents:
        nodes = [inner for node in nodes for inner in _objects(node.get(key, _MISSING))]
    return any(True for node in nodes for _ in _leaves(node.get(last, _MISSING)))
