"""What balancers need from the outside: where instances are, a shell for their machine, a seal for their keys."""

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


class Seal(Protocol):
    """Keeps certificates' keys unreadable in the journal. Chance (the nonce) comes from the caller."""

    def seal(self, plain: bytes, nonce: bytes, name: str) -> str:
        """`plain` closed under this name; `nonce` is 12 random bytes, never used twice."""
        ...

    def open(self, sealed: str, name: str) -> bytes:
        """Raises ValueError where it was not sealed by this secret under this name."""
        ...


class NoSeal:
    """Keys as they are: for a balancer that keeps nothing."""

    def seal(self, plain: bytes, nonce: bytes, name: str) -> str:
        return plain.decode()

    def open(self, sealed: str, name: str) -> bytes:
        return sealed.encode()


class Shell(Protocol):
    """What makes the machine durable (shell/shell.py)."""

    async def start(self, owner: str = "") -> None: ...

    async def stop(self) -> None: ...

    async def submit(self, command: Any) -> Any: ...

    def read(self, look: Callable[[], T]) -> T: ...

    async def shown(self, look: Callable[[], T]) -> T: ...
