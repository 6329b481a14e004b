"""UUIDs as text and as bytes; chance is an argument."""

from __future__ import annotations

import random


def to_text(raw: bytes) -> str:
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def from_text(text: str) -> bytes:
    """Of a text that `to_text` made."""
    return bytes.fromhex(text.replace("-", ""))


def fresh(rand: random.Random) -> bytes:
    """A random UUID (version 4), 16 bytes."""
    raw = bytearray(rand.randbytes(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
