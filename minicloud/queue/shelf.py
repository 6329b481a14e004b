"""Small records of the broker's other slices (topics, subscriptions), in the same log as the messages.

A record is kind, key and body: a dict (kept as JSON) or bytes. One frame holds all changes of one call, so they happen
together or not at all. A frame is live as long as one of its records is the newest of its key; a removal needs no
keeping, as it lies behind everything that it removes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from minicloud.queue import codec
from minicloud.queue.book import Book

Body = bytes | dict[str, Any]
_RECORD = struct.Struct("<BBHI")  # form, kind length, key length, body length
_BYTES, _JSON, _GONE = range(3)
_EMPTY: Mapping[str, Body] = {}


class Shelf:
    def __init__(self, book: Book) -> None:
        self._book = book
        self._records: dict[str, dict[str, Body]] = {}
        self._addresses: dict[tuple[str, str], int] = {}

    def get(self, kind: str, key: str) -> Body | None:
        """Not to be changed by the caller: put another."""
        return self._records.get(kind, _EMPTY).get(key)

    def items(self, kind: str) -> Mapping[str, Body]:
        """Key -> body, as it is now: copy it before changing the shelf while iterating."""
        return self._records.get(kind, _EMPTY)

    def put(self, kind: str, key: str, body: Body) -> None:
        """Insert or replace. Raises InsufficientStorage."""
        self.change([(kind, key, body)])

    def remove(self, kind: str, key: str) -> None:
        """Nothing happens where there is none. Goes on when the disk is full."""
        self.change([], [(kind, key)])

    def change(self, puts: Sequence[tuple[str, str, Body]], removes: Sequence[tuple[str, str]] = ()) -> None:
        """All of it or nothing; removals first. Raises InsufficientStorage (only where something is put)."""
        gone = [place for place in removes if place in self._addresses]
        if not puts and not gone:
            return
        frame = self._frame([_record(_GONE, *place, b"") for place in gone] + [_put(*item) for item in puts])
        (address,) = self._book.log.append([frame], essential=not puts)
        self.apply(frame, address)

    def _frame(self, records: Iterable[bytes]) -> bytes:
        return codec.blob(codec.SHELF, 0, self._book.now_ms, b"".join(records))

    # --- the log's side

    def apply(self, frame: bytes, address: int) -> None:
        """A change, at once or in a replay."""
        for form, kind, key, data in _parse(frame):
            old = self._addresses.pop((kind, key), 0)
            if old:
                self._book.log.drop(old)
            if form == _GONE:
                self._records.get(kind, {}).pop(key, None)
                continue
            self._records.setdefault(kind, {})[key] = json.loads(data) if form == _JSON else data
            self._addresses[kind, key] = address
            self._book.log.keep(address)

    def rewrite(self, address: int, frame: bytes) -> list[bytes]:
        """What is the newest of its key in this frame."""
        live = [
            _record(form, kind, key, data)
            for form, kind, key, data in _parse(frame)
            if form != _GONE and self._addresses.get((kind, key)) == address
        ]
        return [self._frame(live)] if live else []


def _put(kind: str, key: str, body: Body) -> bytes:
    if isinstance(body, bytes):
        return _record(_BYTES, kind, key, body)
    return _record(_JSON, kind, key, json.dumps(body, separators=(",", ":")).encode())


def _record(form: int, kind: str, key: str, data: bytes) -> bytes:
    names = kind.encode(), key.encode()
    return _RECORD.pack(form, len(names[0]), len(names[1]), len(data)) + names[0] + names[1] + data


def _parse(frame: bytes) -> list[tuple[int, str, str, bytes]]:
    records, at = [], codec.LIST_HEAD.size
    while at < len(frame):
        form, kinds, keys, size = _RECORD.unpack_from(frame, at)
        at += _RECORD.size
        kind, key = frame[at : at + kinds].decode(), frame[at + kinds : at + kinds + keys].decode()
        at += kinds + keys
        records.append((form, kind, key, frame[at : at + size]))
        at += size
    return records
