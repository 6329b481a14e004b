"""Tickets into guests: one instance, one account, every action (rpc/ticket.py says what a ticket is)."""

from __future__ import annotations

from collections.abc import Callable

from minicloud.rpc import ticket
from minicloud.rpc.ticket import TICKET_METADATA as TICKET_METADATA

_GUEST = ticket.kind("minicloud guest ticket", r"i-[0-9a-f]{8,17}", "[0-9]{12}")


def issue(secret: bytes, instance_id: str, account: str, expires: float) -> str:
    """A ticket good until `expires` (Unix seconds, rounded up)."""
    return _GUEST.issue(secret, (instance_id, account), expires)


def check(secret: bytes, proof: str, instance_id: str, now: float) -> str:
    """The account it was issued to. Raises Unauthenticated."""
    (named, account), _ = _GUEST.check(secret, proof, now)
    if named != instance_id:
        raise ticket.invalid()
    return account


def checker(secret: bytes, wall: Callable[[], float]) -> Callable[[str, str, str], None]:
    """`check_ticket` for `guest_rpc`: (ticket, instance id, action). A ticket is good for every action."""

    def check_ticket(proof: str, instance_id: str, _action: str) -> None:
        check(secret, proof, instance_id, wall())

    return check_ticket
