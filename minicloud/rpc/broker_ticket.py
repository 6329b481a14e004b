"""Tickets for message brokers: one broker, one account, one region, every call (rpc/ticket.py says what a ticket is).

All queues and topics of an account in a region live on one broker, so that what one transaction must cover is in one
place: which one, `broker_of` says, and the number of brokers of a cloud never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import Unauthenticated
from minicloud.rpc import ticket
from minicloud.rpc.door import Metadata

TICKET_S = 900.0
CALLERS_KEPT_MAX = 10_000
_BROKER = ticket.kind("minicloud broker ticket", "[0-9]{1,4}", "[0-9]{12}", "[a-z0-9-]{1,40}")


def broker_of(scope: Scope, brokers: int) -> int:
    """Which of `brokers` holds this account's queues and topics in this region."""
    digest = hashlib.sha256(f"{scope.account}/{scope.region}".encode()).digest()
    return int.from_bytes(digest[:8]) % brokers


def issue(secret: bytes, broker: int, scope: Scope, expires: float) -> str:
    """A ticket good until `expires` (Unix seconds, rounded up)."""
    return _BROKER.issue(secret, (str(broker), scope.account, scope.region), expires)


def ticket_door(secret: bytes, broker: int, wall: Callable[[], float]) -> Callable[[Metadata], Caller]:
    """For `Entry.admit` of a broker. Raises Unauthenticated. What a ticket says is worked out once and remembered."""
    known: dict[str, tuple[Caller, int]] = {}

    def read(proof: str) -> Caller:
        (named, account, region), expires = _BROKER.check(secret, proof, wall())
        if named != str(broker):
            raise ticket.invalid()
        if len(known) >= CALLERS_KEPT_MAX:
            known.clear()
        caller = Caller(Scope(account, region))
        known[proof] = (caller, expires)
        return caller

    def admit(metadata: Metadata) -> Caller:
        proof = metadata.get(ticket.TICKET_METADATA)
        if not isinstance(proof, str):
            raise Unauthenticated(f"the call has no ticket ({ticket.TICKET_METADATA}, from MessagingService.Locate)")
        found = known.get(proof)
        if found is None:
            return read(proof)
        if wall() >= found[1]:
            raise ticket.expired()
        return found[0]

    return admit
