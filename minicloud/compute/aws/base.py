"""What every noun of the EC2 door stands on: the service, its ports, pages, filters, tags, dry runs."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from minicloud.aws.call import Call
from minicloud.aws.lists import NEXT_TOKEN, tag_list, tag_map
from minicloud.base import limits
from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidParameterValue, OperationNotPermitted
from minicloud.base.machine import Context
from minicloud.compute.aws.filters import Fields, checked
from minicloud.compute.ports import Quotas
from minicloud.compute.service import ComputeService

T = TypeVar("T")
Params = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ports:
    """What the door is plugged into.

    quotas, page_secret   as for the gRPC door
    read_console          (agent address, instance id, account) -> the console's last bytes
    profile_of            (account, name or ARN of an instance profile) -> (ARN, id). Raises NotFound
    delete_tar            of an image
    wall                  Unix seconds
    """

    quotas: Quotas
    page_secret: bytes
    read_console: Callable[[str, str, str], Awaitable[bytes]]
    profile_of: Callable[[str, str], tuple[str, str]]
    delete_tar: Callable[[str], Awaitable[None]]
    wall: Callable[[], float]


class Noun:
    """A part of the EC2 door."""

    def __init__(self, service: ComputeService, ports: Ports) -> None:
        self._service = service
        self._state = service.state
        self._ports = ports

    async def _submit(self, command: Any, params: Mapping[str, Any]) -> Any:
        """The command's reply. With DryRun it is decided alone: raises what it would, else DryRunOperation."""
        if params.get("DryRun"):
            self._decide(command)
            would_have()
        return await self._service.submit(command)

    def _decide(self, command: Any) -> Any:
        return self._service.machine.decide(command, Context(self._ports.wall(), random.Random(0))).reply

    async def _shown(self, params: Mapping[str, Any], look: Callable[[], T]) -> T:
        seen = await self._service.shown(look)
        if params.get("DryRun"):
            would_have()
        return seen

    def _page(
        self, call: Call, params: Mapping[str, Any], items: Iterable[tuple[str, T]], fields: Fields[T]
    ) -> tuple[list[T], Result]:
        """The items of one page that the request's Filters admit, and its NextToken as a result's start."""
        test = checked(params.get("Filters", ()), fields)
        found = {key: item for key, item in items if test(item)}
        size = params.get("MaxResults", 0)
        if not 0 <= size <= limits.PAGE_SIZE_MAX:
            raise InvalidParameterValue(
                f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.",
                field="MaxResults",
            )
        token = params.get("NextToken", "")
        if not size and not token:
            return [found[key] for key in sorted(found)], {}
        return NEXT_TOKEN.page(self._ports.page_secret, call, params, found, size or limits.PAGE_SIZE_MAX)


def would_have() -> NoReturn:
    """EC2's answer to a dry run that would have succeeded (HTTP 412)."""
    raise OperationNotPermitted("Request would have succeeded, but DryRun flag is set.", code="DryRunOperation")


def tagged(tags: Mapping[str, str]) -> Result:
    """The Tags member of a result; absent where there are none."""
    return {"Tags": tag_list(tags)} if tags else {}


def to_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Raises InvalidParameterValue for a key that is given twice."""
    return tag_map(tags, InvalidParameterValue("Duplicate tag keys specified.", field="Tags"))


def tags_for(params: Mapping[str, Any], *kinds: str) -> dict[str, dict[str, str]]:
    """From TagSpecifications, by resource type. Raises InvalidParameterValue for a type that is not made here."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for one in params.get("TagSpecifications", ()):
        kind = one.get("ResourceType", "")
        if kind not in found:
            raise InvalidParameterValue(
                f"'{kind[:64]}' is not a valid taggable resource type for this operation.", field="TagSpecifications"
            )
        found[kind].update(to_tags(one.get("Tags", ())))
    return found


def named_in(params: Mapping[str, Any], name: str, find: Callable[[str], T]) -> list[T] | None:
    """What the ids of a describe name, each found or an error; None where none are given."""
    ids: Sequence[str] = params.get(name, ())
    return [find(one) for one in dict.fromkeys(ids)] if ids else None


def scope_of(call: Call) -> Scope:
    return call.caller.scope
