"""What logs need from the outside: a journal with raw rows beside records (store/sqlite.py, store/memory.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from minicloud.base.machine import Journal


class RawJournal(Journal, Protocol):
    async def commit_raw(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None: ...

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]: ...

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]: ...
