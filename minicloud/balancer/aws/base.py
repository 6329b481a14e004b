"""What every noun of the elbv2 door stands on: the service, the network as EC2 shows it, pages, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from minicloud.aws.call import Call, refused
from minicloud.balancer import errors
from minicloud.balancer.service import BalancerService
from minicloud.balancer.state import State
from minicloud.base import pages
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]
PAGE_MAX = 400  # API, PageSize
DUALSTACK = "ipv4"  # the one IpAddressType that there is


class Network(Protocol):
    """The default network, as EC2 shows it."""

    async def subnets(self, scope: Scope) -> dict[str, str]:
        """Zone -> its subnet, as the scope's region shows them, by name."""
        ...

    def vpc(self, scope: Scope) -> str: ...

    def security_group(self, scope: Scope) -> str:
        """The default one, which lets everything in."""
        ...


class Noun:
    """A part of the elbv2 door."""

    def __init__(self, service: BalancerService, network: Network, page_secret: bytes) -> None:
        self._service = service
        self._network = network
        self._secret = page_secret

    async def _shown(self, look: Callable[[State], T]) -> T:
        return await self._service.shown(look)

    def _page(self, params: Params, call: Call, found: Mapping[str, T]) -> tuple[list[T], Result]:
        """One page of what was found, and the result's NextMarker."""
        rest = sorted((name, repr(value)) for name, value in params.items() if name not in ("Marker", "PageSize"))
        context = f"aws {call.caller.scope} {call.operation} {rest}"
        size = params.get("PageSize", PAGE_MAX)
        if not 1 <= size <= PAGE_MAX:
            raise errors.invalid(f"Page size '{size}' must be between 1 and {PAGE_MAX}", "PageSize")
        keys, marker = pages.cut(self._secret, context, list(found), params.get("Marker", ""), size)
        return [found[key] for key in keys], {"NextMarker": marker} if marker else {}


def named(state: State, kind: str, params: Params, arns: str, absent: CloudError, scope: Scope) -> list[str]:
    """The ARNs that a Describe is about: those asked for by ARN or name, else all. Raises `absent`."""
    found = []
    for arn in params.get(arns, ()):
        entity = state.tables[kind].get(arn)
        if entity is None or entity.scope != scope:
            raise absent
        found.append(arn)
    for name in params.get("Names", ()):
        entity = state.named(kind, scope, name)
        if entity is None:
            raise absent
        found.append(entity.arn)
    return list(dict.fromkeys(found)) if arns in params or "Names" in params else list(state.page(kind, scope))


def harmless(call: Call, params: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Parameters whose one value says what is so anyway are taken; other values are refused by name."""
    for name, value in values.items():
        if name in params and params[name] != value:
            raise refused(name, call)


def to_tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Raises DuplicateTagKeys."""
    tags: dict[str, str] = {}
    for one in given:
        if one["Key"] in tags:
            raise errors.invalid_tags()
        tags[one["Key"]] = one.get("Value", "")
    return tags


def shown_tags(tags: Mapping[str, str]) -> list[Result]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def to_attributes(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {one.get("Key", ""): one.get("Value", "") for one in given}


def shown_attributes(values: Mapping[str, str]) -> list[Result]:
    return [{"Key": key, "Value": value} for key, value in values.items()]
