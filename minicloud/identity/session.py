"""Temporary credentials: an access key (ASIA...), its secret, and a token that says whose they are and until when.

Stateless: the token carries its claims under an HMAC of the cloud's own secret, the secret follows from the key id. So
every process of the cloud can verify a request without asking, and a restart forgets none. As in AWS, a session that
was given out lasts to its end.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import random
from dataclasses import asdict, dataclass

from minicloud.base.arn import DEFAULT_REGION, Caller, Scope, check_region
from minicloud.base.errors import Unauthenticated

_MAC_BYTES = 32
TOKEN_CHARS_MAX = 4096
TEMPORARY = "ASIA"  # how the ids of these keys begin


@dataclass(frozen=True, slots=True)
class Session:
    """`arn`: who it is (an assumed role, a federated user; empty: the account's own). `expires`: Unix seconds."""

    key_id: str
    account: str
    arn: str
    admin: bool
    expires: float


@dataclass(frozen=True, slots=True)
class Credentials:
    key_id: str
    secret: str
    token: str
    expires: float


def issue(cluster_secret: bytes, session: Session) -> Credentials:
    claims = json.dumps(asdict(session), separators=(",", ":")).encode()
    token = base64.b64encode(_mac(cluster_secret, b"token", claims) + claims).decode()
    return Credentials(session.key_id, secret_of(cluster_secret, session.key_id), token, session.expires)


def new_key_id(rand: random.Random) -> str:
    return TEMPORARY + base64.b32encode(rand.randbytes(10)).decode()


def secret_of(cluster_secret: bytes, key_id: str) -> str:
    """40 characters, as an access key's."""
    return base64.b64encode(_mac(cluster_secret, b"secret", key_id.encode())[:30]).decode()


def opened(cluster_secret: bytes, token: str, key_id: str, now: float, region: str = DEFAULT_REGION) -> Caller:
    """Who holds this token. Raises Unauthenticated (InvalidClientTokenId, ExpiredToken)."""
    session = _read(cluster_secret, token)
    if session is None or not hmac.compare_digest(session.key_id.encode(), key_id.encode("utf-8", "replace")):
        raise Unauthenticated("The security token included in the request is invalid.", code="InvalidClientTokenId")
    if now >= session.expires:
        raise Unauthenticated("The security token included in the request is expired.", code="ExpiredToken")
    return Caller(Scope(session.account, region), key_id, session.admin, arn=session.arn)


@dataclass(frozen=True, slots=True)
class Sessions:
    """The two questions of who verifies requests, for one cloud."""

    cluster_secret: bytes

    def secret_of(self, key_id: str) -> str:
        return secret_of(self.cluster_secret, key_id)

    def opened(self, token: str, key_id: str, now: float, region: str) -> Caller:
        """Raises Unauthenticated, InvalidParameterValue (the region)."""
        return opened(self.cluster_secret, token, key_id, now, check_region(region))


def _read(cluster_secret: bytes, token: str) -> Session | None:
    if len(token) > TOKEN_CHARS_MAX:
        return None
    try:
        raw = base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        return None
    mac, claims = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(cluster_secret, b"token", claims)):
        return None
    return Session(**json.loads(claims))


def _mac(cluster_secret: bytes, use: bytes, text: bytes) -> bytes:
    return hmac.new(cluster_secret, b"minicloud session " + use + b"\0" + text, hashlib.sha256).digest()
