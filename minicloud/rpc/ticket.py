"""Tickets: what the control plane gives a caller so that another process lets it in, for a short time.

    v1.<field>. ... .<expiry, Unix seconds>.<base64url of HMAC-SHA256 over purpose and all before it>

Both ends hold the cloud's secret; who checks needs no word from the control plane. A ticket names what it is good for,
ends by itself, and cannot be widened. What fails says nothing about why, but for a ticket that was good once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from minicloud.base.errors import Unauthenticated

TICKET_METADATA = "x-minicloud-ticket"
_END = r"\.([0-9]{1,12})\.([A-Za-z0-9_-]{43})"


@dataclass(frozen=True, slots=True)
class Kind:
    """Tickets of one kind. `purpose` keeps them apart from everything else that the secret signs.

    `form`: of the fields, a group each.
    """

    purpose: bytes
    form: re.Pattern[str]

    def issue(self, secret: bytes, fields: tuple[str, ...], expires: float) -> str:
        """A ticket good until `expires` (Unix seconds, rounded up)."""
        body = ".".join(("v1", *fields, str(int(-(-expires // 1)))))
        return f"{body}.{self._sign(secret, body)}"

    def check(self, secret: bytes, ticket: str, now: float) -> tuple[tuple[str, ...], int]:
        """The fields, and when it ends. Raises Unauthenticated."""
        match = self.form.fullmatch(ticket)
        if match is None:
            raise invalid()
        *fields, expires, signature = match.groups()
        if not hmac.compare_digest(signature, self._sign(secret, ticket.rpartition(".")[0])):
            raise invalid()
        if now >= int(expires):
            raise expired()
        return tuple(fields), int(expires)

    def _sign(self, secret: bytes, body: str) -> str:
        digest = hmac.digest(secret, self.purpose + b"\0" + body.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def kind(purpose: str, *fields: str) -> Kind:
    """`fields`: the form of each, without groups."""
    return Kind(purpose.encode(), re.compile("v1" + "".join(rf"\.({field})" for field in fields) + _END))


def invalid() -> Unauthenticated:
    return Unauthenticated("the ticket is not valid")


def expired() -> Unauthenticated:
    return Unauthenticated("the ticket has expired; ask for a new one")
