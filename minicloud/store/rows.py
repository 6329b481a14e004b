"""Rows: how a record lies on disk, and how damage shows.

A row is (kind, key, body, crc, version). `version` says how the body is encoded: JSON of a record, or raw bytes that
only their owner understands. `crc` is CRC-32 over version, kind, key and body, so a flipped bit in any column shows,
and so does a body that landed under another key.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import orjson

from minicloud.base.machine import Record

JSON = 1
RAW = 2


class Row(NamedTuple):
    """One upsert on its way to disk, sealed; body None: the key ends."""

    kind: str
    key: str
    body: bytes | None
    crc: int
    version: int


class Stored(NamedTuple):
    """One row as it was read: any column may be damaged, so nothing about them is promised."""

    kind: Any
    key: Any
    body: Any
    crc: Any
    version: Any


class Damage(NamedTuple):
    """One thing that could not be read, for people: what it was, what is wrong, where the remains are kept."""

    kind: str
    key: str
    reason: str
    kept: str

    def __str__(self) -> str:
        name = f"{self.kind} {self.key}".strip() or "store"
        return f"{name}: {self.reason}; kept in {self.kept}"


def checksum(kind: bytes, key: bytes, version: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(b"%d\0%b\0%b\0" % (version, kind, key)))


def row_of(record: Record) -> Row:
    """The row of a record. Raises TypeError where the body is not JSON-able, ValueError where a name is not Unicode."""
    return seal(record.kind, record.key, None if record.body is None else orjson.dumps(record.body), JSON)


def seal(kind: str, key: str, body: bytes | None, version: int) -> Row:
    """A row with its checksum. Raises ValueError where a name is not Unicode (a lone surrogate)."""
    if not isinstance(body, bytes | None):
        raise TypeError(f"the body of {kind} {key} is {type(body).__name__}, not bytes")
    return Row(kind, key, body, checksum(kind.encode(), key.encode(), version, body or b""), version)


def flaw(row: Stored) -> str:
    """What is wrong with a row as read ("" when nothing is). `kind` and `key` are read as bytes."""
    kind, key, body, crc, version = row
    if not (isinstance(kind, bytes) and isinstance(key, bytes) and isinstance(body, bytes)):
        return "a column has the wrong type"
    if version not in (JSON, RAW):
        return f"the body's encoding {version!r} is unknown"
    if crc != checksum(kind, key, version, body):
        return "the checksum does not match"
    return ""


def flaw_of_body(row: Row) -> str:
    """As `flaw`, for a row that was never outside this process's memory."""
    return flaw(Stored(row.kind.encode(), row.key.encode(), row.body, row.crc, row.version))


def record_of(kind: str, key: str, body: bytes) -> Record:
    """The record of a checked JSON row."""
    return Record(kind, key, orjson.loads(body))


def text_of(value: Any) -> str:
    """A readable form of a column that may be damaged."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return "" if value is None else str(value)
