"""The payload store of packages: zips of functions and layers, by their SHA-256, each looked through before it is kept.

A package is on disk before the record that names it, and goes when no version and no layer names it any more: at the
change that took the last one away, and at the start, where a crash came in between.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections import Counter
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from pathlib import Path

from minicloud.base.errors import MessageTooLarge
from minicloud.function import limits
from minicloud.function.model import Code
from minicloud.store.blobs import Blobs
from minicloud.store.zips import Caps, look

CAPS = Caps(limits.UNZIPPED_BYTES_MAX, limits.ENTRIES_MAX)
AT_ONCE = 2  # ours: packages that are looked through; each takes a core for up to a second


class Packages:
    """`needed`: the packages that records name."""

    def __init__(self, folder: Path, needed: Container[str]) -> None:
        self._blobs = Blobs(folder)
        self._needed = needed
        self._held: Counter[str] = Counter()
        self._room = asyncio.Semaphore(AT_ONCE)

    def path(self, sha256: str) -> str:
        return str(self._blobs.path(sha256))

    @asynccontextmanager
    async def kept(self, raw: bytes) -> AsyncIterator[Code]:
        """On disk, until the block ends; and afterwards if a record names it by then.

        Raises InvalidParameterValueException (BadZip), RequestEntityTooLarge, InsufficientStorage.
        """
        if len(raw) > limits.ZIP_BYTES_MAX:
            text = f"Request must be smaller than {limits.ZIP_BYTES_MAX} bytes for the package of a function"
            raise MessageTooLarge(text, code="RequestEntityTooLargeException", field="package")
        async with self._room:
            code = await asyncio.to_thread(_looked_through, raw)
        self._held[code.sha256] += 1
        try:
            if not self._blobs.path(code.sha256).exists():
                await asyncio.to_thread(self._blobs.put, code.sha256, raw)
            yield code
        finally:
            self._held[code.sha256] -= 1
            self.let_go(code.sha256)

    def let_go(self, sha256: str) -> None:
        """Delete it, if nobody needs it."""
        if not self._held[sha256]:
            del self._held[sha256]
            if sha256 not in self._needed:
                self._blobs.delete(sha256)

    def sweep(self) -> None:
        """At the start: what no record names."""
        for name, _ in list(self._blobs.list()):
            self.let_go(name)

    async def read(self, sha256: str) -> bytes:
        return await asyncio.to_thread(self._blobs.get, sha256)


def _looked_through(raw: bytes) -> Code:
    unzipped = look(io.BytesIO(raw), CAPS)
    return Code(hashlib.sha256(raw).hexdigest(), len(raw), unzipped)
