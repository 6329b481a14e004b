"""Lists as AWS's services take and show them: pages, tags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from minicloud.aws.call import Call
from minicloud.base import pages
from minicloud.base.errors import CloudError

T = TypeVar("T")


class Paging(NamedTuple):
    """What a service calls the token that it is given, the size of a page, and the token that it gives."""

    given: str
    size: str
    shown: str

    def page(
        self, secret: bytes, call: Call, params: Mapping[str, Any], found: Mapping[str, T], size: int
    ) -> tuple[list[T], dict[str, Any]]:
        """The items of one page, in the order of their keys, and the token of the next as the start of a result.

        A token is bound to the caller's scope, the operation and its other parameters. Raises InvalidPageToken,
        InvalidParameterValue (size below 1).
        """
        rest = sorted((name, repr(value)) for name, value in params.items() if name not in (self.given, self.size))
        context = f"aws {call.caller.scope} {call.service} {call.operation} {rest}"
        keys, after = pages.cut(secret, context, sorted(found), params.get(self.given, ""), size)
        return [found[key] for key in keys], {self.shown: after} if after else {}


NEXT_TOKEN = Paging("NextToken", "MaxResults", "NextToken")
MARKER = Paging("Marker", "MaxItems", "Marker")


def in_order(items: Iterable[T]) -> dict[str, T]:
    """By keys that keep their order, for what has one of its own."""
    return {f"{place:09d}": one for place, one in enumerate(items)}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_map(tags: Iterable[Mapping[str, str]], twice: CloudError | None = None) -> dict[str, str]:
    """`twice`: raised for a key that is given twice; without it the last value counts."""
    found: dict[str, str] = {}
    for tag in tags:
        key = tag.get("Key", "")
        if twice is not None and key in found:
            raise twice
        found[key] = tag.get("Value", "")
    return found
