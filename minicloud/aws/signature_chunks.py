"""A body in chunks that are signed one by one (STREAMING-AWS4-HMAC-SHA256-PAYLOAD).

    <size in hex>;chunk-signature=<64 hex digits>\\r\\n<bytes>\\r\\n ... 0;chunk-signature=<64 hex digits>\\r\\n\\r\\n

Each signature covers the one before it and the hash of its chunk, so chunks cannot be left out, moved or changed.
Source: S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in Chunks".
"""

from __future__ import annotations

import hashlib
import hmac
import re

from minicloud.base.errors import Unauthenticated

_HEAD = re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})\r\n")
_EMPTY = hashlib.sha256(b"").hexdigest()


def decoded(body: bytes, seed: str, key: bytes, scope: str, stamp: str) -> bytes:
    """The bytes of all chunks. `seed`: the signature of the request. Raises Unauthenticated."""
    pieces: list[bytes] = []
    before, at = seed, 0
    while True:
        head = _HEAD.match(body, at)
        if head is None:
            raise _wrong()
        size, at = int(head[1], 16), head.end()
        piece = body[at : at + size]
        if len(piece) != size or body[at + size : at + size + 2] not in (b"\r\n", b""):
            raise _wrong()
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{before}\n{_EMPTY}\n{hashlib.sha256(piece).hexdigest()}"
        before = hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex()
        if not hmac.compare_digest(before.encode(), head[2]):
            raise _wrong()
        at += size + 2
        if not size:
            return b"".join(pieces)
        pieces.append(piece)


def _wrong() -> Unauthenticated:
    return Unauthenticated("A chunk of the body is not what was signed.", code="SignatureDoesNotMatch")
