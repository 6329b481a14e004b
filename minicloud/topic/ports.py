"""What topics need from the outside: queues (plugged in by the broker's composition root), and a signing key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context
from minicloud.topic.message import Attribute


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


class Fanned(Protocol):
    """What became of a fan-out, by indexes of its notes and targets.

    serials: the ledger's number of each note, 0 without one. failed: (note, target) -> why that queue did not take it.
    duplicates: notes that the ledger knew; they went to nobody.
    """

    @property
    def serials(self) -> Sequence[int]: ...
    @property
    def failed(self) -> Mapping[tuple[int, int], CloudError]: ...
    @property
    def duplicates(self) -> set[int]: ...


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
