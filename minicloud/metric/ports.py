"""What metrics need from the outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Chunks(Protocol):
    """Reads what a flush wrote. Two implementations: the journal (service.py), a dictionary (tests)."""

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """The chunks under these keys, None where there is none."""
        ...

    def oldest(self, prefix: str, limit: int) -> list[str]:
        """The first `limit` keys with this prefix, in order."""
        ...


class NoChunks:
    """Nothing was ever written: a store that lives in memory alone."""

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        return [None] * len(keys)

    def oldest(self, prefix: str, limit: int) -> list[str]:
        return []
