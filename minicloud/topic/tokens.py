"""Tokens that confirm a subscription: its id, until when, and a MAC. They need no memory and survive restarts."""

from __future__ import annotations

import hashlib
import hmac
import struct

from minicloud.topic import errors, ids, limits

_HEAD = struct.Struct(">16sQ")
_MAC_BYTES = 32


def issue(secret: bytes, subscription_id: str, now: float) -> str:
    """A token for two days, hexadecimal."""
    head = _HEAD.pack(ids.from_text(subscription_id), int((now + limits.PENDING_S_MAX) * 1000))
    return (head + _mac(secret, head)).hex()


def redeem(secret: bytes, token: str, now: float) -> str:
    """The subscription's id. Raises InvalidParameter."""
    try:
        raw = bytes.fromhex(token)
    except ValueError:
        raw = b""
    head, mac = raw[: _HEAD.size], raw[_HEAD.size :]
    if len(raw) != _HEAD.size + _MAC_BYTES or not hmac.compare_digest(mac, _mac(secret, head)):
        raise errors.invalid("Token", "Token")
    subscription, until_ms = _HEAD.unpack(head)
    if now * 1000 > until_ms:
        raise errors.invalid("Token", "Token")
    return ids.to_text(subscription)


def _mac(secret: bytes, head: bytes) -> bytes:
    return hashlib.blake2b(head, key=secret, person=b"sns token", digest_size=_MAC_BYTES).digest()
