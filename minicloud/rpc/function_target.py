"""How a balancer's proxy tells the functions process for whom a request is, and that it comes from a balancer.

    X-Minicloud-Target: <single or multi> <balancer ARN> <target group ARN> <function ARN> <HMAC-SHA256>

The proxy sets the header, so a client's own never gets through; who asks the process itself has no secret to sign with.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

from minicloud.base.errors import Unauthenticated

HEADER = "X-Minicloud-Target"
_PURPOSE = b"minicloud function target\0"
_SINGLE, _MULTI = "single", "multi"


class FunctionTarget(NamedTuple):
    """ARNs. `multi`: each value of a header, or of a parameter, is told."""

    balancer: str
    group: str
    function: str
    multi: bool = False


def word(secret: bytes, target: FunctionTarget) -> str:
    """The header's value."""
    body = " ".join((_MULTI if target.multi else _SINGLE, target.balancer, target.group, target.function))
    return f"{body} {_sign(secret, body)}"


def read(secret: bytes, text: str) -> FunctionTarget:
    """Raises Unauthenticated."""
    body, _, signature = text.rpartition(" ")
    if not hmac.compare_digest(signature.encode(), _sign(secret, body).encode()):
        raise Unauthenticated("only the cloud's own balancers speak for target groups")
    kind, balancer, group, function = body.split(" ")
    return FunctionTarget(balancer, group, function, kind == _MULTI)


def _sign(secret: bytes, body: str) -> str:
    digest = hmac.digest(secret, _PURPOSE + body.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
