"""Who asks, where authentication is off: an access key id of 12 digits is the account, whoever signs and however.

The region is what the credential is for; nothing is verified. Without a credential: account 000000000000, the cloud's
own region.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from minicloud.aws.services import Known
from minicloud.aws.wire import Request
from minicloud.base.arn import ACCOUNT, DEFAULT_ACCOUNT, DEFAULT_REGION, Caller, Scope, check_region

_HEADER = re.compile(r"Credential=([^/,\s]{1,128})/[0-9]{0,8}/([^/,\s]{1,64})/")
_QUERY = re.compile(r"X-Amz-Credential=([^&/%]{1,128})(?:/|%2F)[0-9]{0,8}(?:/|%2F)([^&/%]{1,64})(?:/|%2F)", re.I)
REGION_GLOBAL = "aws-global"  # of credentials for services without regions


def open_admit(region: str = DEFAULT_REGION) -> Callable[[Request, Known], Caller]:
    """For Way.admit. `region`: the cloud's own."""

    @lru_cache(maxsize=1024)
    def caller(key_id: str, asked: str) -> Caller:
        account = key_id if ACCOUNT.match(key_id) else DEFAULT_ACCOUNT
        return Caller(Scope(account, region if asked == REGION_GLOBAL else check_region(asked)), admin=True)

    def admit(request: Request, service: Known) -> Caller:
        match = _HEADER.search(request.headers.get("authorization", "")) or _QUERY.search(request.query)
        return caller(match[1], match[2]) if match is not None else caller("", region)

    return admit
