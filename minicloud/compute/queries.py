"""Listings: which ids, which page, which filter. Reads the state, changes nothing.

Filters are EC2's (DescribeInstances): names are AND-ed, the values of one name OR-ed, `*` and `?` are wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue
from minicloud.compute.instances import find_all
from minicloud.compute.model import Instance
from minicloud.compute.state import State

E = TypeVar("E")
FILTER_VALUES_MAX = 200  # EC2 API: up to 200 values a filter

_FIELDS: dict[str, Callable[[Instance], str]] = {
    "instance-id": lambda one: one.id,
    "instance-state-name": lambda one: one.state,
    "instance-type": lambda one: one.type,
    "image-id": lambda one: one.image_id,
    "availability-zone": lambda one: one.zone,
    "host-id": lambda one: one.host_id,
    "key-name": lambda one: one.key_name,
    "placement-group-name": lambda one: one.group_name,
    "private-ip-address": lambda one: one.private_ip,
    "reservation-id": lambda one: one.reservation_id,
}


@dataclass(frozen=True, slots=True)
class Page:
    """Where a listing starts and how long it is; `size` 0 means the default."""

    size: int = 0
    token: str = ""


@dataclass(frozen=True, slots=True)
class Pager:
    """Cuts pages; the secret signs their tokens."""

    secret: bytes

    def cut(self, what: str, page: Page, keys: Sequence[str]) -> tuple[Sequence[str], str]:
        return pages.cut(self.secret, what, keys, page.token, pages.checked_size(page.size))

    def walk(self, what: str, page: Page, keys: Sequence[str], take: Callable[[str], E | None]) -> tuple[list[E], str]:
        """A page of what `take` gives for the keys, passing over None, without walking past the page's end."""
        size, token = pages.checked_size(page.size), page.token
        found: list[E] = []
        while True:
            some, token = pages.cut(self.secret, what, keys, token, max(size, 64))
            for index, key in enumerate(some):
                item = take(key)
                if item is None:
                    continue
                found.append(item)
                if len(found) == size:
                    last = index == len(some) - 1 and not token
                    return found, "" if last else pages.issue(self.secret, what, key)
            if not token:
                return found, ""


def instances(
    state: State,
    scope: Scope,
    ids: Iterable[str],
    filters: dict[str, tuple[str, ...]],
    page: Page,
    pager: Pager,
) -> tuple[list[Instance], str]:
    """In id order. Raises InvalidParameterValue for unknown filter names, NotFound for unknown ids."""
    tests = _tests(filters)
    named = sorted(one.id for one in find_all(state, scope, ids)) if ids else None
    keys = state.page(Instance.kind, scope) if named is None else named
    context = f"instances {scope.account} {scope.region} {sorted(filters.items())} {named}"

    def take(key: str) -> Instance | None:
        instance = state.instances[key]
        return instance if all(test(instance) for test in tests) else None

    return pager.walk(context, page, keys, take)


def _tests(filters: dict[str, tuple[str, ...]]) -> list[Callable[[Instance], bool]]:
    return [_test(name, values) for name, values in filters.items()]


def _test(name: str, values: tuple[str, ...]) -> Callable[[Instance], bool]:
    if len(values) > FILTER_VALUES_MAX:
        raise InvalidParameterValue(f"a filter has at most {FILTER_VALUES_MAX} values", field=f"filters.{name}")
    if not values:
        raise InvalidParameterValue(f"the filter '{name[:64]}' has no values", field=f"filters.{name[:64]}")
    matches = matcher(values)
    if name.startswith("tag:"):
        key = name.removeprefix("tag:")
        return lambda one: key in one.tags and matches(one.tags[key])
    if name == "tag-key":
        return lambda one: any(matches(key) for key in one.tags)
    field = _FIELDS.get(name)
    if field is None:
        raise InvalidParameterValue(f"The filter '{name[:64]}' is invalid", field="filters.name")
    return lambda one: matches(field(one))


@lru_cache(maxsize=256)
def matcher(values: tuple[str, ...]) -> Callable[[str], bool]:
    plain = frozenset(value for value in values if not set("*?") & set(value))
    globs = [_glob(value) for value in values if value not in plain]
    return lambda text: text in plain or any(glob.fullmatch(text) for glob in globs)


def _glob(value: str) -> re.Pattern[str]:
    """`*` any run, `?` any one character; everything else is itself."""
    parts = re.split(r"(\*+|\?)", value)
    text = "".join(".*" if part[:1] == "*" else "." if part == "?" else re.escape(part) for part in parts)
    return re.compile(text, re.DOTALL)


def as_filters(pairs: Iterable[Any]) -> dict[str, tuple[str, ...]]:
    """From `name`/`values` pairs; a name given twice is an error, as in EC2."""
    filters: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        if pair.name in filters:
            raise InvalidParameterValue(f"the filter '{pair.name[:64]}' is given twice", field="filters.name")
        filters[pair.name] = tuple(pair.values)
    return filters
