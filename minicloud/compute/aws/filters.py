"""EC2's filters: names are AND-ed, the values of one name OR-ed, `*` and `?` are wildcards, case counts.

A noun gives the fields that it can be asked by: name -> what of an item is matched, one text or several. Tags are
asked by `tag:<key>` and `tag-key` wherever a noun gives the field TAGS. An unknown name is an error, as in EC2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

from minicloud.base.errors import InvalidParameterValue
from minicloud.compute.queries import FILTER_VALUES_MAX, matcher

T = TypeVar("T")
Fields: TypeAlias = Mapping[str, Callable[[T], Any]]
TAGS = "tags"


def checked(filters: Iterable[Mapping[str, Any]], fields: Fields[T]) -> Callable[[T], bool]:
    """Raises InvalidParameterValue for a name that is unknown or without values."""
    tests = [_test(one.get("Name", ""), tuple(one.get("Values", ())), fields) for one in filters]
    if not tests:
        return lambda _item: True
    return lambda item: all(test(item) for test in tests)


def _test(name: str, values: tuple[str, ...], fields: Fields[T]) -> Callable[[T], bool]:
    if not values:
        raise InvalidParameterValue(f"The filter '{name[:64]}' has no values", field="Filters")
    if len(values) > FILTER_VALUES_MAX:
        raise InvalidParameterValue(f"The maximum number of filter values is {FILTER_VALUES_MAX}", field="Filters")
    matches = matcher(values)
    tags = fields.get(TAGS)
    if name.startswith("tag:") and tags is not None:
        key = name.removeprefix("tag:")
        return lambda item: key in tags(item) and matches(tags(item)[key])
    if name in ("tag-key", "tag-value") and tags is not None:
        texts = dict.keys if name == "tag-key" else dict.values
        return lambda item: any(matches(text) for text in texts(tags(item)))
    field = fields.get(name)
    if field is None or name == TAGS:
        raise InvalidParameterValue(f"The filter '{name[:64]}' is invalid", field="Filters")
    return lambda item: _matches(matches, field(item))


def _matches(matches: Callable[[str], bool], value: Any) -> bool:
    if isinstance(value, bool):
        return matches("true" if value else "false")
    if isinstance(value, list | tuple | set | frozenset):
        return any(matches(str(one)) for one in value)
    return value not in (None, "") and matches(str(value))
