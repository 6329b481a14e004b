"""What balancers need from the outside: where instances are, and a shell for their machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from minicloud.base.arn import Scope

T = TypeVar("T")


class Place(NamedTuple):
    """Where a running instance can be reached."""

    address: str
    zone: str


class Instances(Protocol):
    """The compute slice, seen from here."""

    async def places(self, scope: Scope, ids: Sequence[str]) -> dict[str, Place]:
        """Of those that exist in this scope and run."""
        ...


class NoInstances:
    """A balancer without a compute slice: targets are addresses."""

    async def places(self, scope: Scope, ids: Sequence[str]) -> dict[str, Place]:
        return {}


class Shell(Protocol):
    """What makes the machine durable (shell/shell.py)."""

    async def start(self, owner: str = "") -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, command: Any) -> Any: ...

    def read(self, look: Callable[[], T]) -> T: ...

    async def shown(self, look: Callable[[], T]) -> T: ...
