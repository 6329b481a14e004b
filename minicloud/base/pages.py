"""Page tokens: where a listing goes on, bound to the operation, the caller and the filter it was issued for.

A token is base64url(last key + first 16 bytes of an HMAC over secret, context and key). It needs no server memory,
survives restarts, and one that was not issued, or is used with another filter or by another account, is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Sequence

from minicloud.base import limits
from minicloud.base.errors import InvalidPageToken, InvalidParameterValue

_MAC_BYTES = 16


def issue(secret: bytes, context: str, last_key: str) -> str:
    key = last_key.encode()
    return base64.urlsafe_b64encode(_mac(secret, context, key) + key).decode().rstrip("=")


def redeem(secret: bytes, context: str, token: str) -> str:
    """The key after which the page starts. Raises InvalidPageToken."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise InvalidPageToken(field="page_token") from None
    mac, key = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, context, key)):
        raise InvalidPageToken(field="page_token")
    return key.decode()


def checked_size(size: int) -> int:
    """What a request asked for, 0 being the default. Raises InvalidParameterValue."""
    if not 0 <= size <= limits.PAGE_SIZE_MAX:
        raise InvalidParameterValue(f"page_size must be 1 to {limits.PAGE_SIZE_MAX}, not {size}", field="page_size")
    return size or limits.PAGE_SIZE_DEFAULT


def cut(secret: bytes, context: str, keys: Sequence[str], token: str, size: int) -> tuple[Sequence[str], str]:
    """One page of sorted keys and the token of the next ('' at the end). O(log n + size).

    Raises InvalidPageToken, InvalidParameterValue (size below 1).
    """
    if size < 1:
        raise InvalidParameterValue(f"page size must be at least 1, not {size}", field="page_size")
    start = bisect_right(keys, redeem(secret, context, token)) if token else 0
    page = keys[start : start + size]
    more = start + size < len(keys)
    return page, issue(secret, context, page[-1]) if more and page else ""


def _mac(secret: bytes, context: str, key: bytes) -> bytes:
    return hmac.new(secret, context.encode() + b"\0" + key, hashlib.sha256).digest()[:_MAC_BYTES]
