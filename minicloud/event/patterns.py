"""Event patterns: compiled once to closures, asked for every event. Source: EventBridge guide, "Event patterns" and
"Comparison operators"; where it is silent, Event Ruler, which EventBridge is built on.

Every key of a pattern must match, one of a key's conditions must; keys nest as in the event; a list in the event means
any of its elements. Exact numbers are compared as numbers (300 is 300.0), not as texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from minicloud.event import errors, limits
from minicloud.shell.operators import EVENTS, PolicyError
from minicloud.shell.patterns import Whole, check_form, compile_object, weight


@dataclass(frozen=True, slots=True)
class Pattern:
    """Compiled. `weight`: how many conditions it has."""

    takes: Callable[[Whole], bool]
    weight: int

    def __call__(self, event: Mapping[str, Any]) -> bool:
        return self.takes(Whole(event))


_REQUIRED = ("id", "account", "source", "time", "region", "resources", "detail-type")


@lru_cache(maxsize=4096)
def compile_pattern(text: str) -> Pattern:
    """A test of an event. Raises InvalidEventPatternException."""
    errors.check_length("eventPattern", text, limits.PATTERN_CHARS_MAX)
    try:
        pattern = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once)
        if not isinstance(pattern, dict):
            raise PolicyError("Filter is not an object")
        check_form(pattern)
        check = compile_object(pattern, dialect=EVENTS)
    except PolicyError as error:
        raise errors.bad_pattern(str(error)) from None
    except (ValueError, RecursionError):
        raise errors.bad_pattern("it is no JSON object") from None
    return Pattern(lambda whole: check(whole.body, whole), weight(pattern))


def event_of(text: str) -> dict[str, Any]:
    """An event that somebody wants to try a pattern on. Raises ValidationException."""
    errors.check_length("event", text, limits.ENTRIES_BYTES_MAX)
    try:
        event = json.loads(text)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise errors.not_valid("Event", "Event is not a JSON object.")
    missing = [name for name in _REQUIRED if name not in event]
    if missing:
        raise errors.not_valid("Event", f"Event must have the fields {', '.join(missing)}.")
    return event


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PolicyError(f"Path `{twice}` cannot be allowed multiple times")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(name)
