"""What waits to leave on a stream: several in a message where several wait, what is large in messages of its own.

Who writes never waits. What may pile up is bounded by who writes: invocations under way, and lines of logs (below).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from google.protobuf.message import Message

BATCH_BYTES_MAX = 1024 * 1024  # ours
T = TypeVar("T", bound=Message)


class Outbox(Generic[T]):
    """Of one stream. Used from one event loop."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._waiting: deque[tuple[T, int]] = deque()
        self._something = asyncio.Event()
        self._closed = False

    def put(self, one: T) -> None:
        if self._closed:
            return
        size = one.ByteSize()
        self.waiting_bytes += size
        self._waiting.append((one, size))
        self._something.set()

    def close(self) -> None:
        """What waits does not leave any more, and nothing more is taken."""
        self._closed = True
        self._something.set()

    async def batches(self) -> AsyncIterator[list[T]]:
        """Until it is closed."""
        while True:
            await self._something.wait()
            self._something.clear()
            while self._waiting and not self._closed:
                yield self._taken()
            if self._closed:
                return

    def _taken(self) -> list[T]:
        taken: list[T] = []
        size = 0
        while self._waiting and (not taken or size + self._waiting[0][1] <= BATCH_BYTES_MAX):
            one, bytes_of_it = self._waiting.popleft()
            taken.append(one)
            size += bytes_of_it
        self.waiting_bytes -= size
        return taken
