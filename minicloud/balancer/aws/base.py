"""What every noun of the elbv2 door stands on: the service, the network as EC2 shows it, pages, tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from minicloud.aws.call import Call
from minicloud.aws.lists import Paging, tag_list, tag_map
from minicloud.balancer import errors
from minicloud.balancer.service import BalancerService
from minicloud.balancer.state import State
from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]
_PAGING = Paging("Marker", "PageSize", "NextMarker")
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
        size = params.get("PageSize", PAGE_MAX)
        if not 1 <= size <= PAGE_MAX:
            raise errors.invalid(f"Page size '{size}' must be between 1 and {PAGE_MAX}", "PageSize")
        return _PAGING.page(self._secret, call, params, found, size)


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


def to_tags(given: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Raises DuplicateTagKeys."""
    return tag_map(given, errors.invalid_tags())


def to_attributes(given: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {one.get("Key", ""): one.get("Value", "") for one in given}


def shown_attributes(values: Mapping[str, str]) -> list[Result]:
    return tag_list(values)
