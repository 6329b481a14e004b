"""A response while it is made: the function writes, whoever asked reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


class Pipe:
    """Implements ports.Sink. It holds one chunk, so a slow reader slows the function down; one that has left does not:
    the function goes on, and what it writes goes nowhere.
    """

    def __init__(self) -> None:
        self.content_type = ""
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._open = asyncio.Event()
        self._left = False

    # --- the function's side

    async def open(self, content_type: str) -> None:
        self.content_type = content_type
        self._open.set()

    async def write(self, chunk: bytes) -> None:
        self._open.set()
        if not self._left:
            await self._chunks.put(chunk)

    # --- the reader's side; `work`: the invocation

    async def opened(self, work: asyncio.Task[Any]) -> None:
        """The head or the first chunk is there, or the invocation is over. Raises what that raises."""
        opening = asyncio.create_task(self._open.wait())
        try:
            await asyncio.wait([opening, work], return_when=asyncio.FIRST_COMPLETED)
        finally:
            opening.cancel()
        if work.done():
            work.result()

    async def next(self, work: asyncio.Task[Any]) -> bytes | None:
        """The next chunk; None: there are no more."""
        if not self._chunks.empty() or work.done():
            return None if self._chunks.empty() else self._chunks.get_nowait()
        getting = asyncio.create_task(self._chunks.get())
        try:
            await asyncio.wait([getting, work], return_when=asyncio.FIRST_COMPLETED)
            return getting.result() if getting.done() else None
        finally:
            getting.cancel()

    async def chunks(self, work: asyncio.Task[Any]) -> AsyncIterator[bytes]:
        """All there are; who ends this early has left."""
        try:
            while (chunk := await self.next(work)) is not None:
                yield chunk
        finally:
            self.leave()

    def leave(self) -> None:
        self._left = True
        while not self._chunks.empty():
            self._chunks.get_nowait()
