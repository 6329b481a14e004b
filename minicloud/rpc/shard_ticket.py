"""Tickets for shards: one shard, one account, one region, every call (rpc/ticket.py says what a ticket is).

A shard is a process that holds all of one kind for some accounts: a message broker queues and topics, a balancer
process load balancers, a function process functions, an autoscaler metrics, alarms, logs and groups. All of an account
in a region is on one shard, so that what one transaction must cover is in one place: which one, `shard_of` says, and
the number of shards of a cloud never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import Unauthenticated
from minicloud.rpc import ticket
from minicloud.rpc.door import Metadata

TICKET_S = 900.0
CALLERS_KEPT_MAX = 10_000
_FORM = ("[0-9]{1,4}", "[0-9]{12}", "[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Shards:
    """Shards of one kind: what one is called, where callers get tickets, and the kind of these."""

    noun: str
    locate: str
    tickets: ticket.Kind


BROKERS = Shards("message broker", "MessagingService.Locate", ticket.kind("minicloud broker ticket", *_FORM))
BALANCERS = Shards("balancer process", "BalancingService.Locate", ticket.kind("minicloud balancer ticket", *_FORM))
AUTOSCALERS = Shards("autoscaler", "AutoscalingService.Locate", ticket.kind("minicloud autoscaler ticket", *_FORM))
FUNCTIONS = Shards("function process", "ComputingService.Locate", ticket.kind("minicloud function ticket", *_FORM))


def shard_of(scope: Scope, shards: int) -> int:
    """Which of `shards` has what this account has in this region."""
    digest = hashlib.sha256(f"{scope.account}/{scope.region}".encode()).digest()
    return int.from_bytes(digest[:8]) % shards


def issue(of: Shards, secret: bytes, number: int, scope: Scope, expires: float) -> str:
    """A ticket for shard `number`, good until `expires` (Unix seconds, rounded up)."""
    return of.tickets.issue(secret, (str(number), scope.account, scope.region), expires)


def ticket_door(of: Shards, secret: bytes, number: int, wall: Callable[[], float]) -> Callable[[Metadata], Caller]:
    """For `Entry.admit` of a shard. Raises Unauthenticated. What a ticket says is worked out once and remembered."""
    known: dict[str, tuple[Caller, int]] = {}

    def read(proof: str) -> Caller:
        (named, account, region), expires = of.tickets.check(secret, proof, wall())
        if named != str(number):
            raise ticket.invalid()
        if len(known) >= CALLERS_KEPT_MAX:
            known.clear()
        caller = Caller(Scope(account, region))
        known[proof] = (caller, expires)
        return caller

    def admit(metadata: Metadata) -> Caller:
        proof = metadata.get(ticket.TICKET_METADATA)
        if not isinstance(proof, str):
            raise Unauthenticated(f"the call has no ticket ({ticket.TICKET_METADATA}, from {of.locate})")
        found = known.get(proof)
        if found is None:
            return read(proof)
        if wall() >= found[1]:
            raise ticket.expired()
        return found[0]

    return admit
