"""Filter policies: compiled once to closures, asked for every message.

Source: SNS guide, "Message filtering"; where it is silent, Event Ruler, which SNS is built on.

- A policy is an object; every key must match (and), one of a key's conditions must (or); `$or` holds two or more
  objects of which one must match. With FilterPolicyScope MessageBody keys may nest, and a list in the body means any of
  its elements; keys of one nested object match within one and the same element. Lists in lists are flattened.
- MessageAttributes: a String.Array is a list; Binary is not there. A message without attributes matches no policy.
- `exists: false` holds when no leaf lies under the key anywhere; `exists: true` needs one that is neither null nor "".
- `anything-but` on a list: an element that is none of the unwanted values is enough.

Where we differ: a policy is in force at once; a dot in a key is just a character.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

from minicloud.shell.operators import PolicyError
from minicloud.shell.patterns import Check, Whole, compile_object, is_or, tests_of, weight
from minicloud.topic import errors, limits
from minicloud.topic.message import Attribute

ATTRIBUTES, BODY = "MessageAttributes", "MessageBody"


class InvalidPayload(Exception):
    """A message that a policy of this scope cannot look into."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A compiled policy. `weight`: how many conditions it has. `matches` and `takes` look at what `attribute_view` or
    `body_view` made of a message.
    """

    scope: str
    _check: Check
    weight: int

    def matches(self, view: Any) -> bool:
        return self._check(view, Whole(view))

    def takes(self, whole: Whole, size: int) -> bool:
        """The same, of a message of so many bytes and within what it may cost. Raises TooMuch."""
        whole.spend(tests_of(self.weight, size))
        return self._check(whole.body, whole)


def compile_filter(text: str, scope: str, prefix: str = "") -> Filter | None:
    """None: the policy takes everything. `prefix` goes before the error's text: "Attributes Reason: " in a Subscribe.

    Raises InvalidParameter.
    """
    try:
        return _compile(text, scope)
    except PolicyError as error:
        raise errors.invalid(prefix + str(error), "FilterPolicy") from None


def attribute_view(attributes: Mapping[str, Attribute]) -> dict[str, Any]:
    """Names to leaves or lists of leaves. Raises InvalidPayload."""
    view: dict[str, Any] = {}
    for name, (kind, value) in attributes.items():
        if kind == "String.Array":
            view[name] = _array(value)
        elif kind.startswith("Number"):
            view[name] = float(value)
        elif kind.startswith("String"):
            view[name] = _string(value)
    return view


def body_view(body: bytes) -> dict[str, Any]:
    """Raises InvalidPayload when the body is no JSON object."""
    try:
        view = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidPayload from None
    if not isinstance(view, dict):
        raise InvalidPayload
    return view


def _array(value: bytes) -> list[Any]:
    try:
        items = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise InvalidPayload from None
    if not isinstance(items, list) or any(isinstance(item, dict | list) for item in items):
        raise InvalidPayload
    return items


def _string(value: bytes) -> str:
    """The guide: quotation marks and backslashes of an attribute are escaped twice; what is not valid never matches."""
    if b"\\" not in value and b'"' not in value:
        return value.decode()
    try:
        text = json.loads(b'"' + value + b'"', strict=False)
    except ValueError:
        raise InvalidPayload from None
    assert isinstance(text, str)
    return text


# --- compiling


@lru_cache(maxsize=4096)
def _compile(text: str, scope: str) -> Filter | None:
    policy = _parse(text)
    if not policy:
        return None
    if len(policy) > limits.FILTER_KEYS_MAX:
        raise PolicyError(f"FilterPolicy: Filter policy can not have more than {limits.FILTER_KEYS_MAX} keys")
    if _nested(policy) and scope == ATTRIBUTES:
        raise PolicyError(f"Filter policy scope {ATTRIBUTES} does not support nested filter policy")
    try:
        combinations = _combinations(policy, 1)
        check = compile_object(policy)
    except PolicyError as error:
        raise PolicyError(f"FilterPolicy: {error}") from None
    if combinations > limits.FILTER_COMBINATIONS_MAX:
        raise PolicyError("FilterPolicy: Filter policy is too complex")
    if scope == ATTRIBUTES:
        inner = check
        return Filter(scope, lambda view, whole: bool(view) and inner(view, whole), weight(policy))
    return Filter(scope, check, weight(policy))


def _parse(text: str) -> dict[str, Any]:
    if len(text.encode("utf-8", "surrogatepass")) > limits.FILTER_BYTES_MAX:
        raise PolicyError(f"FilterPolicy: a filter policy has at most {limits.FILTER_BYTES_MAX} bytes")
    try:
        policy = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise PolicyError("FilterPolicy: failed to parse JSON.") from None
    if not isinstance(policy, dict):
        raise PolicyError("FilterPolicy: Filter is not an object")
    return policy


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _nested(policy: dict[str, Any]) -> bool:
    for key, value in policy.items():
        branches = value if is_or(key, value) else []
        if isinstance(value, dict) or any(_nested(branch) for branch in branches):
            return True
    return False


def _combinations(policy: dict[str, Any], depth: int) -> int:
    """The guide: the product of every list's length times the depth of its key; branches of an `$or` add up."""
    if depth > limits.FILTER_DEPTH_MAX:
        raise PolicyError(f"at most {limits.FILTER_DEPTH_MAX} keys can nest")
    total = 1
    for key, value in policy.items():
        if is_or(key, value):
            total *= sum(_combinations(branch, depth) for branch in value)
        elif isinstance(value, dict):
            if not value:
                raise PolicyError("Empty objects are not allowed")
            total *= _combinations(value, depth + 1)
        elif isinstance(value, list):
            if not value:
                raise PolicyError("Empty arrays are not allowed")
            total *= len(value) * depth
        else:
            raise PolicyError(f'"{key}" must be an object or an array')
    return total
