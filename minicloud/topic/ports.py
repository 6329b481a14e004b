"""What topics need from the outside: queues and a place for records (plugged in by the broker's composition root), a
signing key, and somebody who posts to endpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar, overload

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context
from minicloud.topic.message import Attribute

T = TypeVar("T")


class Target(NamedTuple):
    """A queue that gets a message: the broker's own object, a subscription's 16 bytes, and how it wants the body.

    `ledger`: it only numbers the message and remembers its deduplication id.
    """

    queue: Any
    ref: bytes
    raw: bool = False
    ledger: bool = False


class Note(NamedTuple):
    """A message for all targets of one call. `attributes`: as `Queues.encode` made them."""

    body: bytes
    origin: bytes = b""
    attributes: bytes = b""
    group_id: str = ""
    deduplication_id: str = ""


@dataclass(frozen=True, slots=True)
class Run(Sequence[Note]):
    """Notes of body and origin alone, as columns: the fast way for many.

    `simple`: each body is a line of printable ASCII, so nobody need look again.
    """

    bodies: list[bytes]
    origins: list[bytes]
    simple: bool = False

    def __len__(self) -> int:
        return len(self.bodies)

    @overload
    def __getitem__(self, index: int) -> Note: ...
    @overload
    def __getitem__(self, index: slice) -> list[Note]: ...
    def __getitem__(self, index: int | slice) -> Note | list[Note]:
        if isinstance(index, slice):
            return list(map(Note, self.bodies[index], self.origins[index]))
        return Note(self.bodies[index], self.origins[index])


class Fanned(Protocol):
    """What became of a fan-out, by indexes of its notes and targets.

    serials: the ledger's number of each note, 0 without one. failed: (note, target) -> why that queue did not take it.
    duplicates: notes that the ledger knew; they went to nobody. skipped: (note, target) that a FIFO queue knew itself.
    """

    @property
    def serials(self) -> Sequence[int]: ...
    @property
    def failed(self) -> Mapping[tuple[int, int], CloudError]: ...
    @property
    def duplicates(self) -> set[int]: ...
    @property
    def skipped(self) -> set[tuple[int, int]]: ...


class Queues(Protocol):
    """The broker's queues; every call is in memory, durable after the log's flush."""

    def find(self, arn: str) -> Any | None:
        """The queue's object, or None."""
        ...

    def fan_out(self, targets: Sequence[Target], notes: Sequence[Note], now: float) -> Fanned:
        """Up to 1,000 notes, each to every target. Raises InsufficientStorage."""
        ...

    def encode(self, attributes: Mapping[str, Attribute]) -> bytes: ...

    def hidden(self, key: str) -> Any | None:
        """A queue that `open` made, or None."""
        ...

    def open(self, key: str, scope: Scope, context: Context, *, fifo: bool, by_group: bool) -> None:
        """Make a hidden queue, or set up the one that is there. Raises InsufficientStorage."""
        ...

    def drop(self, key: str, now: float) -> None: ...


class Signer(Protocol):
    """The key that signs what is sent."""

    @property
    def certificate_name(self) -> str:
        """The last part of SigningCertURL: SimpleNotificationService-HASH.pem."""
        ...

    def sign(self, text: bytes, version: int) -> bytes:
        """RSA, PKCS #1 v1.5: with SHA1 (version 1) or SHA256 (version 2)."""
        ...


class Disk(Protocol):
    """The broker's one way to change something."""

    async def act(self, decide: Callable[[float], T]) -> T:
        """Call `decide` with the time; its result once everything that it changed is on disk.

        Raises what `decide` does; Unavailable, Fenced, Internal.
        """
        ...


class Shelf(Protocol):
    """Small records, durable after the log's flush."""

    def items(self, kind: str) -> Mapping[str, Any]:
        """Key -> body."""
        ...

    def change(self, puts: Sequence[tuple[str, str, Any]], removes: Sequence[tuple[str, str]] = ()) -> None:
        """(kind, key, body), (kind, key): all of it or nothing. Raises InsufficientStorage."""
        ...


class Parcel(NamedTuple):
    """A message out of an outbox. `attempt`: how often it was received, with this time."""

    handle: bytes
    attempt: int
    origin: bytes
    raw: bool
    body: bytes
    attributes: Mapping[str, Attribute]


class Sleeper(Protocol):
    async def wait(self, timeout_s: float | None = None) -> bool:
        """True after a nudge since the last wait."""
        ...


class Mail(Protocol):
    """Outboxes at work; each call returns once it is on disk and raises CloudError."""

    async def receive(self, queue: Any, want: int, visibility_s: int) -> list[Parcel]:
        """What is there now, hidden for that long."""
        ...

    async def delete(self, queue: Any, handle: bytes) -> None: ...

    async def postpone(self, queue: Any, handle: bytes, seconds: int) -> None: ...

    async def forward(self, queue: Any, handle: bytes, target: Any) -> None:
        """To a queue of the same type."""
        ...

    def watch(self, queue: Any) -> AbstractAsyncContextManager[Sleeper]:
        """Wakes when there may be something in it."""
        ...


class Poster(Protocol):
    """HTTP to the outside; where the URL is a function's ARN, an event for it, answered as HTTP would answer it."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer, 0 where none came in time. Follows no redirect; raises nothing."""
        ...

    async def close(self) -> None: ...
