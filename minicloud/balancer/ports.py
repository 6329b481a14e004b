"""What balancers need from the outside: where instances and functions are, a shell for their machine, a seal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound

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


class Way(NamedTuple):
    """Where requests for a function go. `proof`: a header that says for whom they are, and that a balancer says so."""

    address: str
    port: int
    header: str
    proof: str


class Functions(Protocol):
    """The function slice, seen from here."""

    async def admit(self, scope: Scope, group: str, function: str) -> None:
        """Raises InvalidTarget where there is no such function, AccessDenied where the group may not invoke it."""
        ...

    def way(self, scope: Scope, names: tuple[str, str, str], multi: bool) -> Way:
        """`names`: the ARNs of balancer, group and function. `multi`: headers of one name are all told. Always the same
        for the same."""
        ...


class NoFunctions:
    """A balancer without a function slice."""

    async def admit(self, scope: Scope, group: str, function: str) -> None:
        raise NotFound(f"Function not found: {function}", code="InvalidTarget", field="targets")

    def way(self, scope: Scope, names: tuple[str, str, str], multi: bool) -> Way:
        return Way("127.0.0.1", 9, "X-Nowhere", "-")


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
