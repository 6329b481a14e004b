"""Who asks, from a call's metadata: `authorization: Bearer <access key id>:<secret>` and `x-minicloud-region`.

Two doors. Open: authentication is off (loopback only), every caller is the administrator of account 000000000000 and a
credential is not looked at. Locked: no credential, an unknown key, a wrong secret and a disabled key are
UNAUTHENTICATED; the last three with one text and at one cost, which is the authenticator's duty (identity.machine).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from minicloud.base.arn import DEFAULT_ACCOUNT, DEFAULT_REGION, Caller, Scope, check_region
from minicloud.base.errors import Unauthenticated
from minicloud.rpc.door import Metadata

AUTHORIZATION = "authorization"
REGION = "x-minicloud-region"
_BEARER = "Bearer "
_MISSING = (
    "This cloud asks for a credential and the call has none: set MINICLOUD_ACCESS_KEY_ID and "
    "MINICLOUD_SECRET_ACCESS_KEY (metadata 'authorization: Bearer <access key id>:<secret>')."
)

known_region = lru_cache(maxsize=256)(check_region)  # a cache of answers; what is refused is not kept


class Authenticate(Protocol):
    def __call__(self, key_id: str, secret: str, region: str) -> Caller:
        """Raises Unauthenticated."""
        ...


def open_door(region: str = DEFAULT_REGION) -> Callable[[Metadata], Caller]:
    """For `Entry.admit` where authentication is off. `region` is the cloud's, for callers that name none."""

    @lru_cache(maxsize=256)
    def caller_in(asked: str) -> Caller:
        return Caller(Scope(DEFAULT_ACCOUNT, check_region(asked)), admin=True)

    def admit(metadata: Metadata) -> Caller:
        return caller_in(metadata.get(REGION, region))

    return admit


def locked_door(authenticate: Authenticate, region: str = DEFAULT_REGION) -> Callable[[Metadata], Caller]:
    """For `Entry.admit` where authentication is on."""

    def admit(metadata: Metadata) -> Caller:
        credential = metadata.get(AUTHORIZATION)
        if not credential:
            raise Unauthenticated(_MISSING, code="MissingAuthenticationToken")
        if not credential.startswith(_BEARER):
            raise Unauthenticated("The credential must be of the form 'Bearer <access key id>:<secret>'.")
        key_id, _, secret = credential[len(_BEARER) :].partition(":")
        caller = authenticate(key_id, secret, region)
        asked = metadata.get(REGION, region)
        if asked == region:
            return caller
        return Caller(Scope(caller.scope.account, known_region(asked)), key_id, caller.admin)

    return admit
