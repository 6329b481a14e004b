"""Lanes: many small requests to one place share few calls.

    idle                 the first item goes at once, with all that come in the same turn of the event loop
    calls in flight      what comes meanwhile gathers; when a call ends, the gathered go as one
    a batch              at most `count_max` items and `bytes_max` bytes; one item always fits
    a failed call        each item fails with a copy of the error; after Unavailable also those that gathered behind it,
                         which have waited through all its retries

Nobody who waits is kept for a batch to fill. A caller of `put` waits for its own result, so a lane holds no more than
its callers do; `post` returns before the item is done, so it waits for room instead (`buffer_max`), and what was only
posted may linger: up to `linger_s`, or until `linger_count` of them are there. Items leave in the order in which they
came; with `flights` = 1 they also arrive in it. A caller that is cancelled before its item left takes it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Generic, TypeVar

from minicloud.base.errors import CloudError, Internal, Unavailable

I = TypeVar("I")  # noqa: E741 - an item
R = TypeVar("R")  # its result

COUNT_MAX = 1_000  # queue.limits.BULK_MESSAGES_MAX
BYTES_MAX = 3 * 1024 * 1024  # below gRPC's default for a message, 4 MiB


@dataclass(frozen=True, slots=True)
class LaneLimits:
    """flights: calls at once. bytes_max: of one call. buffer_max: items that are posted and have not left.

    linger_s, linger_count: how long, and how many, items that nobody waits for may be kept for company.
    """

    flights: int = 2
    count_max: int = COUNT_MAX
    bytes_max: int = BYTES_MAX
    buffer_max: int = 10_000
    linger_s: float = 0.0
    linger_count: int = 256


def chunks(items: Sequence[I], size: Callable[[I], int]) -> Iterator[list[I]]:
    """A list in as few pieces as fit into one call each."""
    chunk: list[I] = []
    total = 0
    for item in items:
        more = size(item)
        if chunk and (len(chunk) >= COUNT_MAX or total + more > BYTES_MAX):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += more
    if chunk:
        yield chunk


class Lane(Generic[I, R]):
    """call: sends a batch and answers with one result, or CloudError, for each item, in order. size: bytes of an item.

    lost: hears how many posted items came to an error, and of the error.
    """

    __slots__ = (
        "_awaited", "_bytes", "_call", "_flying", "_futures", "_items", "_limits", "_loop", "_lost", "_room",
        "_scheduled", "_size", "_tasks", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        call: Callable[[list[I]], Awaitable[Sequence[R | CloudError]]],
        size: Callable[[I], int],
        limits: LaneLimits | None = None,
        lost: Callable[[int, CloudError], None] | None = None,
    ) -> None:
        self._call = call
        self._size = size
        self._limits = limits or LaneLimits()
        self._lost = lost
        self._items: list[I] = []
        self._futures: list[asyncio.Future[R] | None] = []
        self._bytes = 0
        self._flying = 0
        self._awaited = False  # somebody waits for one of the items
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def idle(self) -> bool:
        return not self._items and not self._flying

    def put(self, item: I) -> asyncio.Future[R]:
        """The future of its result. Raises CloudError when it is awaited."""
        future: asyncio.Future[R] = (self._loop or self._bind()).create_future()
        self._awaited = True
        self._add(item, future)
        return future

    async def post(self, item: I) -> None:
        """Returns when the item has its place in the lane; nobody hears of its result but `lost`."""
        while not self.offer(item):
            await self._change()

    def offer(self, item: I) -> bool:
        """Post it, if there is room now."""
        if len(self._items) >= self._limits.buffer_max:
            return False
        if self._loop is None:
            self._bind()
        self._add(item, None)
        return True

    async def drain(self) -> None:
        """Until everything that is in the lane now has its result."""
        self._launch()
        while not self.idle:
            await self._change()
            self._launch()

    def _bind(self) -> asyncio.AbstractEventLoop:
        self._loop = asyncio.get_running_loop()
        return self._loop

    def _add(self, item: I, future: asyncio.Future[R] | None) -> None:
        self._items.append(item)
        self._futures.append(future)
        self._bytes += self._size(item)
        if not self._scheduled and self._flying < self._limits.flights:
            self._schedule()

    def _schedule(self) -> None:
        """The items go at the end of this turn, or when they have lingered."""
        assert self._loop is not None
        if self._awaited or not self._limits.linger_s or len(self._items) >= self._limits.linger_count:
            self._scheduled = True
            self._loop.call_soon(self._launch)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._limits.linger_s, self._launch)

    def _launch(self) -> None:
        self._scheduled = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._items and self._flying < self._limits.flights:
            items, futures = self._take()
            if not items:
                continue
            assert self._loop is not None
            self._flying += 1
            self._tell()
            task = self._loop.create_task(self._fly(items, futures))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self) -> tuple[list[I], list[asyncio.Future[R] | None]]:
        """The next batch, without those whose callers have gone: it may be empty."""
        items, futures = self._items, self._futures
        if len(items) <= self._limits.count_max and self._bytes <= self._limits.bytes_max:
            self._items, self._futures, self._bytes, self._awaited = [], [], 0, False
        else:
            count, size = self._fitting()
            self._items, self._futures = items[count:], futures[count:]
            self._bytes -= size
            items, futures = items[:count], futures[:count]
        kept = [future is None or not future.done() for future in futures]
        if all(kept):
            return items, futures
        return list(compress(items, kept)), list(compress(futures, kept))

    def _fitting(self) -> tuple[int, int]:
        """How many of the items go into one call, and their bytes."""
        first = self._items[: self._limits.count_max]
        whole = sum(map(self._size, first))
        if whole <= self._limits.bytes_max:
            return len(first), whole
        size = 0
        for index, item in enumerate(first):
            more = self._size(item)
            if index and size + more > self._limits.bytes_max:
                return index, size
            size += more
        return len(first), size

    async def _fly(self, items: list[I], futures: list[asyncio.Future[R] | None]) -> None:
        try:
            results = await self._call(items)
            if len(results) != len(items):
                raise Internal(f"{len(results)} results came for {len(items)} entries")
        except CloudError as error:
            self._fail(futures, error)
            if isinstance(error, Unavailable):
                behind, self._items, self._futures, self._bytes = self._futures, [], [], 0
                self._fail(behind, error)
        except asyncio.CancelledError:
            for future in futures:
                if future is not None:
                    future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is each caller's to see
            self._fail(futures, Internal(f"{type(error).__name__}: {error}"))
        else:
            self._deliver(futures, results)
        finally:
            self._flying -= 1
            if self._items and not self._scheduled:
                self._schedule()
            self._tell()

    def _deliver(self, futures: list[asyncio.Future[R] | None], results: Sequence[R | CloudError]) -> None:
        for future, result in zip(futures, results, strict=True):
            if isinstance(result, CloudError):
                self._fail([future], result)
            elif future is not None and not future.done():
                future.set_result(result)

    def _fail(self, futures: list[asyncio.Future[R] | None], error: CloudError) -> None:
        posted = 0
        for future in futures:
            if future is None:
                posted += 1
            elif not future.done():
                future.set_exception(error.copy())
        if posted and self._lost is not None:
            self._lost(posted, error)

    def _change(self) -> asyncio.Future[None]:
        """Is done when a call has begun or ended."""
        if self._room is None:
            self._room = (self._loop or self._bind()).create_future()
        return asyncio.shield(self._room)

    def _tell(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
