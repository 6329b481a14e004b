"""JSON without importing `json`, whose regular expressions cost 11 ms: as much as starting Python itself.

`loads` drives the same C scanner that `json` uses; where an interpreter has none, or has changed it, `json` is used.
`dumps` writes dicts with str keys, lists, tuples, str, int, float, bool and None.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Context:
    """What the C scanner reads its options from."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}


def _quick() -> tuple[Callable[[str], Any], Callable[[str], str]]:
    from _json import encode_basestring_ascii, make_scanner

    scan: Any = make_scanner(_Context)  # type: ignore[arg-type]

    def load(text: str) -> Any:
        text = text.strip()
        try:
            value, end = scan(text, 0)
        except StopIteration as stop:
            raise ValueError(f"not JSON at {stop.value}") from None
        if end != len(text):
            raise ValueError(f"more than one JSON value at {end}")
        return value

    load('{"a": [1, 0.5, "b"]}')
    return load, encode_basestring_ascii


def _plain() -> tuple[Callable[[str], Any], Callable[[str], str]]:
    import json

    return json.loads, json.dumps


try:
    _load, _quote = _quick()
except (ImportError, TypeError, AttributeError, ValueError):
    _load, _quote = _plain()


def loads(text: str) -> Any:
    """Raises ValueError."""
    return _load(text)


def dumps(value: object) -> str:
    """Raises TypeError for what JSON has no word for."""
    if isinstance(value, str):
        return _quote(value)
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return int.__repr__(value)  # an enum's own would say its name
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quote(key)}: {dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(dumps, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form")
