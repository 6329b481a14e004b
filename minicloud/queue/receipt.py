"""Receipt handles: queue number, sequence, receive number, MAC; 28 bytes, base64url at the text doors.

A receive number belongs to one receive call and never comes twice (the broker's epoch is in it), so (sequence, receive
number) names one delivery. The MAC covers queue and receive number: it is made once a call, and checked only when the
handle is not the newest of its message. A handle pasted together from two deliveries of the same call names a delivery
that its holder had anyway.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from functools import lru_cache

from minicloud.queue.errors import bad_handle

HANDLE = struct.Struct("<IQQ8s")
HANDLE_BYTES = HANDLE.size
_HEAD = struct.Struct("<IQ")
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def mac(secret: bytes, queue: int, number: int) -> bytes:
    digest = _keyed(secret).copy()
    digest.update(_HEAD.pack(queue, number))
    return digest.digest()


@lru_cache(maxsize=16)
def _keyed(secret: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(key=secret, digest_size=8)


def to_text(handle: bytes) -> str:
    return base64.urlsafe_b64encode(handle).decode().rstrip("=")


def from_text(text: str) -> bytes:
    """Raises ReceiptHandleIsInvalid."""
    try:
        padded = (text + "=" * (-len(text) % 4)).encode("ascii").translate(_FROM_URL_SAFE)
        raw = binascii.a2b_base64(padded, strict_mode=True)
    except (binascii.Error, ValueError):
        raise bad_handle(text) from None
    if len(raw) != HANDLE_BYTES:
        raise bad_handle(text)
    return raw
