"""Tickets: what the control plane gives a caller so that a host agent lets it into one guest, for a short time.

    v1.<instance id>.<account>.<expiry, Unix seconds>.<base64url of HMAC-SHA256 over all before it>

Both ends hold the cloud's secret; the agent needs no word from the control plane. A ticket names one instance and one
account, ends by itself, and cannot be widened. What fails says nothing about why, but for a ticket that was good once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable

from minicloud.base.errors import Unauthenticated

TICKET_METADATA = "x-minicloud-ticket"
_PURPOSE = b"minicloud guest ticket\0"  # the same secret signs other things
_FORM = re.compile(r"v1\.(i-[0-9a-f]{8,17})\.(\d{12})\.(\d{1,12})\.([A-Za-z0-9_-]{43})")


def issue(secret: bytes, instance_id: str, account: str, expires: float) -> str:
    """A ticket good until `expires` (Unix seconds, rounded up)."""
    body = f"v1.{instance_id}.{account}.{int(-(-expires // 1))}"
    return f"{body}.{_sign(secret, body)}"


def check(secret: bytes, ticket: str, instance_id: str, now: float) -> str:
    """The account it was issued to. Raises Unauthenticated."""
    match = _FORM.fullmatch(ticket)
    if match is None:
        raise Unauthenticated("the ticket is not valid")
    named, account, expires, signature = match.groups()
    good = hmac.compare_digest(signature, _sign(secret, ticket.rpartition(".")[0]))
    if not good or named != instance_id:
        raise Unauthenticated("the ticket is not valid")
    if now >= int(expires):
        raise Unauthenticated("the ticket has expired; ask for a new one")
    return account


def checker(secret: bytes, wall: Callable[[], float]) -> Callable[[str, str, str], None]:
    """`check_ticket` for `guest_rpc`: (ticket, instance id, action). A ticket is good for every action."""

    def check_ticket(ticket: str, instance_id: str, _action: str) -> None:
        check(secret, ticket, instance_id, wall())

    return check_ticket


def _sign(secret: bytes, body: str) -> str:
    digest = hmac.digest(secret, _PURPOSE + body.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
