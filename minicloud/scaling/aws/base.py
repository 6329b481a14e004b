"""What every noun of the Auto Scaling door stands on: the service, where zones and subnets are, pages, filters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from minicloud.aws.call import Call
from minicloud.aws.lists import Paging
from minicloud.base.arn import Scope
from minicloud.scaling import queries
from minicloud.scaling.errors import invalid
from minicloud.scaling.model import Activity
from minicloud.scaling.service import ScalingService
from minicloud.scaling.state import State

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]
GROUP = "AutoScalingGroupName"
_PAGING = Paging("NextToken", "MaxRecords", "NextToken")
PAGE, PAGE_MAX = 50, 100  # API, MaxRecords of the Describe operations


class Zone(NamedTuple):
    """A zone as a region shows it: the hosts' own name of it, and its default subnet."""

    host_zone: str
    subnet: str


class Places(Protocol):
    """Zones and subnets as EC2 shows them."""

    async def shown_zones(self, scope: Scope) -> dict[str, Zone]:
        """By the name that the scope's region has for them."""
        ...


class Noun:
    """A part of the Auto Scaling door."""

    def __init__(self, service: ScalingService, places: Places, page_secret: bytes) -> None:
        self._service = service
        self._places = places
        self._secret = page_secret

    def _page(self, params: Params, call: Call, found: Mapping[str, T], size: int = PAGE) -> tuple[list[T], Result]:
        """One page of what was found, and the result's NextToken."""
        most = params.get("MaxRecords", size)
        if not 1 <= most <= PAGE_MAX:
            raise invalid(f"MaxRecords must be 1 to {PAGE_MAX}", "MaxRecords")
        return _PAGING.page(self._secret, call, params, found, most)

    async def _shown_names(self, scope: Scope) -> dict[str, str]:
        """The hosts' name of each zone -> as the region shows it."""
        return {one.host_zone: name for name, one in (await self._places.shown_zones(scope)).items()}

    async def _latest(self, scope: Scope, group: str, ids: Sequence[str]) -> list[Activity]:
        """The newest activity of each of these instances."""

        def look(state: State) -> list[Activity]:
            found: dict[str, Activity] = {}
            for one in queries.activities(state, scope, group).values():
                if one.instance_id in ids:
                    found.setdefault(one.instance_id, one)
            return [found[one] for one in dict.fromkeys(ids) if one in found]

        return await self._service.shown(look)


def filtered(
    given: Iterable[Mapping[str, Any]], fields: Mapping[str, Callable[[T, Sequence[str]], bool]]
) -> Callable[[T], bool]:
    """The test that Filters describe. Raises InvalidParameterValue for a name that there is not."""
    tests = []
    for one in given:
        name, values = one.get("Name", ""), one.get("Values", ())
        if name not in fields:
            raise invalid(
                f"Filter type {name[:64]} is not correct. Allowed Filter types are: {', '.join(fields)}", "Filters"
            )
        tests.append((fields[name], values))
    return lambda item: all(test(item, values) for test, values in tests)
