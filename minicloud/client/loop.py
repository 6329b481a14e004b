"""The event loop on which the sync classes drive the async ones: one for the process, in a thread of its own.

grpc.aio delivers the completions of all loops through one queue, and complains where the loop of one is closed already.
So all clients share this loop, and it is stopped only at the end of the process.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
_STOP_S = 2.0


class LoopThread:
    """Starts at the first call. May be used from many threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it; an interrupted wait (Ctrl-C) cancels it. Raises what it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self._running())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Item by item, each fetched when it is asked for; leaving the loop early ends the stream behind it."""
        done = object()
        fetching: list[asyncio.Task[Any]] = []

        async def following() -> Any:
            task = asyncio.current_task()
            fetching[:] = [task] if task else []
            return await anext(items, done)

        async def leave() -> None:
            for task in fetching:  # an interrupted wait has cancelled it, but it may not have ended yet
                task.cancel()
            await asyncio.gather(*fetching, return_exceptions=True)
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

        try:
            while (item := self.run(following())) is not done:
                yield item
        finally:
            self.run(leave())

    def is_current(self) -> bool:
        """Whether this code runs on it."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """Idempotent. What still runs on it is given up."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(_STOP_S)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="minicloud-client", daemon=True)
                self._thread.start()
            return self._loop

    def _forget(self) -> None:
        """A forked child has the memory of the thread, not the thread."""
        self.__init__()  # type: ignore[misc]


LOOP = LoopThread()
atexit.register(LOOP.stop)
os.register_at_fork(after_in_child=LOOP._forget)
