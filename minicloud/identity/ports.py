"""What identity needs from the outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Seal(Protocol):
    """Keeps secrets unreadable on disk. Deterministic: chance (the nonce) comes from the caller."""

    def seal(self, plain: bytes, nonce: bytes, name: str) -> str:
        """`plain` closed under this name; `nonce` is 12 random bytes, never used twice."""
        ...

    def open(self, sealed: str, name: str) -> bytes:
        """Raises ValueError where it was not sealed by this secret under this name."""
        ...


class Shell(Protocol):
    """Makes the machine durable (`minicloud.shell`)."""

    async def submit(self, command: Any) -> Any:
        """The reply, once it is on disk."""
        ...

    async def shown(self, look: Callable[[], T]) -> T:
        """What `look` sees, once it is on disk. Raises what it raises, Unavailable where the machine is not running."""
        ...


class Usage(Protocol):
    """How much of its quotas an account uses now; from the slices that count."""

    def used(self, account: str) -> Mapping[str, float]:
        """By quota name; a name that is absent is not in use."""
        ...
