"""The MD5s by which AWS's SDKs see that a message is whole. They protect from accidents, not from anybody.

Of attributes (SQS guide, "Calculating the MD5 message digest for message attributes"): sorted by name; of each the
length (4 bytes, big-endian) and bytes of its name and of its type, one transport byte (1: String, Number; 2: Binary),
length and bytes of its value. System attributes have a digest of their own, made in the same way.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Protocol

_LENGTH = struct.Struct(">I")


class Typed(Protocol):
    """An attribute: String, Number or Binary with an optional `.label`; the value as bytes."""

    @property
    def type(self) -> str: ...

    @property
    def value(self) -> bytes: ...


def md5_of_body(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def md5_of_attributes(attributes: Mapping[str, Typed]) -> str:
    """'' for none. Lowercase hex."""
    if not attributes:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        item = attributes[name]
        for part in (name.encode(), item.type.encode()):
            digest.update(_LENGTH.pack(len(part)) + part)
        digest.update(b"\x02" if item.type.startswith("Binary") else b"\x01")
        digest.update(_LENGTH.pack(len(item.value)) + item.value)
    return digest.hexdigest()
