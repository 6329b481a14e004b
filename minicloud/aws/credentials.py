"""Who asks, where authentication is off: an access key id of 12 digits is the account, whoever signs and however.

The region is what the credential is for; no signature is verified. A session token that this cloud gave out tells the
account and the role; any other is not looked at. Without a credential: account 000000000000, the cloud's own region.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from urllib.parse import unquote

from minicloud.aws.services import REGION_GLOBAL, Known
from minicloud.aws.wire import Request
from minicloud.base.arn import ACCOUNT, DEFAULT_ACCOUNT, DEFAULT_REGION, Caller, Scope, check_region
from minicloud.base.errors import CloudError, Unauthenticated

_HEADER = re.compile(r"Credential=([^/,\s]{1,128})/[0-9]{0,8}/([^/,\s]{1,64})/")
_QUERY = re.compile(r"X-Amz-Credential=([^&/%]{1,128})(?:/|%2F)[0-9]{0,8}(?:/|%2F)([^&/%]{1,64})(?:/|%2F)", re.I)
_CREDENTIAL_CHARS_MAX = 256  # ours: longer ones are not remembered
_TEMPORARY = "ASIA"  # how the access key ids of sessions begin
_TOKEN = re.compile(r"(?:^|&)X-Amz-Security-Token=([^&]{1,4096})", re.I)
# (token, access key id, region) -> who that is. Raises Unauthenticated.
Open = Callable[[str, str, str], Caller]
Admit = Callable[[Request, Known | None], Caller]


def key_of(request: Request) -> str:
    """The access key id that a request names, or ''."""
    match = _HEADER.search(request.headers.get("authorization", "")) or _QUERY.search(request.query)
    return "" if match is None else match[1]


def claims(admit: Admit) -> Callable[[Request], str]:
    """For Way.claimed, where `admit` believes what a request says."""

    def account_of(request: Request) -> str:
        try:
            return admit(request, None).scope.account
        except CloudError:
            return ""

    return account_of


def open_admit(region: str = DEFAULT_REGION, opened: Open | None = None) -> Admit:
    """For Way.admit. `region`: the cloud's own. `opened`: of session tokens."""

    @lru_cache(maxsize=1024)
    def caller(key_id: str, asked: str) -> Caller:
        account = key_id if ACCOUNT.match(key_id) else DEFAULT_ACCOUNT
        return Caller(Scope(account, region if asked == REGION_GLOBAL else check_region(asked)), admin=True)

    @lru_cache(maxsize=1024)
    def signed_by(credential: str) -> Caller | None:
        """Who that part of an Authorization header names; None: nobody, or somebody with a token."""
        match = _HEADER.search(credential)
        return None if match is None or match[1].startswith(_TEMPORARY) else caller(match[1], match[2])

    def admit(request: Request, _service: Known | None) -> Caller:
        authorization = request.headers.get("authorization", "")
        credential, comma, _ = authorization.partition(",")
        if comma and len(credential) < _CREDENTIAL_CHARS_MAX and (known := signed_by(credential)) is not None:
            return known
        match = _HEADER.search(authorization) or _QUERY.search(request.query)
        if match is None:
            return caller("", region)
        if opened is not None and match[1].startswith(_TEMPORARY) and (token := _token(request)):
            with contextlib.suppress(Unauthenticated):
                asked = region if match[2] == REGION_GLOBAL else match[2]
                return replace(opened(token, match[1], asked), admin=True)
        return caller(match[1], match[2])

    return admit


def _token(request: Request) -> str:
    found = request.headers.get("x-amz-security-token", "")
    if not found and (match := _TOKEN.search(request.query)) is not None:
        found = unquote(match[1])
    return found
