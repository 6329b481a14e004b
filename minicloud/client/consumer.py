"""A consumer takes messages of one queue as they come, so that the program only says what to do with each.

    async with client.queues.consumer("jobs") as consumer:
        await consumer.run(handle, concurrency=20)          # a handler for each message

    async with client.queues.consumer("jobs") as consumer:
        async for message in consumer:                      # or one at a time
            async with message:                             # done at the end, comes again after an error
                ...

Fetching    A few long polls at once fill a buffer. How much it may hold (`Window`) doubles while the program waits for
            messages and halves when a batch takes more than a second to be taken, so slow consumers hoard nothing.
Heartbeat   Messages that wait in the buffer or are being handled are kept invisible: after a third of `visibility_s`,
            one call for each batch. If one is lost all the same (it was received again, or deleted), it is dropped from
            the buffer, or `message.lost` says so.
Done        Deletes are gathered (`batching.py`). A handler's message is deleted without waiting for the answer; where
            the delete fails in the end, the message comes again. At least once, as ever.
Failed      The message comes again after a back-off that doubles with each receive: `backoff_s`, first and longest.
FIFO        Of each message group one message is out at a time, in order. When one fails, what is in the buffer of its
            group goes back, behind it.
Stop        `stop` ends fetching and the iteration. `close`, which is the end of the block and of `run`, lets handlers
            finish (`grace_s`), returns what was not handled to the queue, and waits for deletes. A message whose answer
            was on its way just then comes again when its visibility timeout has passed: a poll that has just begun is
            waited for, one that is parked at the broker takes nothing with it when it is cancelled.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Unpack, cast

from minicloud.base.errors import (
    CloudError,
    DeadlineExceeded,
    InvalidParameterValue,
    LimitExceeded,
    Throttled,
    Unavailable,
)
from minicloud.client.batching import COUNT_MAX
from minicloud.client.consumer_options import ConsumerOptions, checked
from minicloud.client.messages import Columns, Message
from minicloud.client.window import Window

if TYPE_CHECKING:
    from minicloud.client.queue_handle import AsyncQueueHandle

Handler = Callable[["AsyncDelivery"], Awaitable[None] | None]

_LOG = logging.getLogger(__name__)
_POLLS = 2  # long polls at once
_YOUNG_POLL_S = 0.5  # an answer that is on its way is here by then
_AWAY_S = 1.0  # pause after a fetch that failed for a while
_PASSING = (Unavailable, DeadlineExceeded, LimitExceeded, Throttled)  # errors that may pass
_CONCURRENCY_MAX = 10_000
_HELD, _OUT, _SETTLED = range(3)


class AsyncDelivery(Message):
    """A message in hand. `done` deletes it, `retry` lets it come again; as a context manager it does one of the two."""

    __slots__ = ("_batch", "_lost", "_state")

    def __init__(self, columns: Columns, index: int, batch: _Batch) -> None:
        self._columns = columns
        self._index = index
        self._batch = batch
        self._state = _HELD
        self._lost = False

    @property
    def lost(self) -> bool:
        """It could not be kept invisible: somebody else may have it by now."""
        return self._lost

    async def done(self, wait: bool = True) -> None:
        """Delete it; with wait, when this returns that is on disk. Idempotent. Raises CloudError."""
        await self._batch.consumer._done(self, wait)

    async def retry(self, delay_s: float | None = None) -> None:
        """Let it come again: after delay_s, or the consumer's back-off. Idempotent."""
        await self._batch.consumer._failed(self, delay_s)

    async def __aenter__(self) -> AsyncDelivery:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            await self.done(wait=False)
        else:
            await self.retry()


class _Batch:
    """What one receive brought, while any of it is open. since: when its visibility was set last."""

    __slots__ = ("arrived", "consumer", "deliveries", "open", "since", "to_take")

    def __init__(self, columns: Columns, consumer: AsyncConsumer, since: float) -> None:
        self.consumer = consumer
        self.deliveries = [AsyncDelivery(columns, index, self) for index in range(len(columns.bodies))]
        self.open = self.to_take = len(self.deliveries)
        self.since = since
        self.arrived = _now()


class AsyncConsumer:
    """Messages of one queue, fetched ahead, kept invisible while they are handled, deleted in batches.

    Iterate over it, or (async) `run` a handler. It starts at the first of these and ends with `stop`, or its block.
    """

    def __init__(self, handle: AsyncQueueHandle, **options: Unpack[ConsumerOptions]) -> None:
        self._handle = handle
        self._deletes = handle._deletes
        self._settings = checked(options)
        self._window = Window(self._settings.prefetch, _POLLS)
        self._ready: deque[AsyncDelivery] = deque()
        self._groups: dict[str, deque[AsyncDelivery]] = {}  # FIFO: one of it is ready or out; those behind it
        self._batches: set[_Batch] = set()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._asked = 0
        self._polled = 0.0  # when the newest poll began
        self._full = False  # a fetcher waits for room
        self._room = asyncio.Event()
        self._fetchers: list[asyncio.Task[None]] = []
        self._workers: list[asyncio.Task[None]] = []
        self._beating: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stopping = False
        self._failure: CloudError | None = None
        self._handled = 0
        self._failures = 0

    @property
    def handled(self) -> int:
        """Messages that were done."""
        return self._handled

    @property
    def failures(self) -> int:
        """Messages whose handler failed, or that were given back."""
        return self._failures

    async def run(self, handler: Handler, concurrency: int = 10) -> None:
        """Async only. Call handler(message) for each, up to `concurrency` at once, until `stop`; then close.

        A message is deleted when its handler returns, and comes again after a back-off when it raises. A plain function
        runs in a thread. Cancelling it cancels the handlers. Raises CloudError (the queue is gone, no access).
        """
        if not 1 <= concurrency <= _CONCURRENCY_MAX:
            raise InvalidParameterValue(f"1 to {_CONCURRENCY_MAX}, not {concurrency}", field="concurrency")
        self._window.floor(2 * concurrency)
        self._start()
        loop = asyncio.get_running_loop()
        self._workers += [loop.create_task(self._work(_awaitable(handler))) for _ in range(concurrency)]
        try:
            await asyncio.gather(*self._workers)
        finally:
            await self.close()
        if self._failure is not None:
            raise self._failure.copy() from None

    async def stop(self) -> None:
        """Take no more: iteration ends, and `run`. Messages in hand can still be done. Idempotent."""
        self._stopping = True
        self._stop_taking()
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def close(self) -> None:
        """Stop; handlers finish, what was not handled goes back to the queue, deletes are done. Idempotent."""
        await self.stop()
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    async def __aenter__(self) -> AsyncConsumer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> AsyncDelivery:
        if not self._fetchers:
            self._start()
        delivery = await self._take()
        if delivery is not None:
            return delivery
        if self._failure is not None:
            raise self._failure.copy()
        raise StopAsyncIteration

    # ------------------------------------------------------------ fetching

    def _start(self) -> None:
        if self._fetchers or self._stopping:
            return
        loop = asyncio.get_running_loop()
        self._fetchers = [loop.create_task(self._fetch()) for _ in range(_POLLS)]
        self._beating = loop.create_task(self._beat())
        self._handle._broker.transport.closers.add(self.close)

    async def _fetch(self) -> None:
        while not self._stopping:
            count = self._window.next(self._held(), self._asked)
            if not count:
                self._full = True
                self._room.clear()
                await self._room.wait()
                continue
            self._asked += count
            try:
                since = self._polled = _now()
                columns = await self._handle._receive(count, self._settings.wait_s, self._settings.visibility_s)
            except _PASSING as error:
                _LOG.info("receiving from %s: %s", self._handle.queue, error)
                await asyncio.sleep(_AWAY_S)
                continue
            except CloudError as error:
                self._failure = error
                self._stop_taking()
                return
            finally:
                self._asked -= count
            if columns.bodies:
                # A long poll may have waited: what it brought has been invisible only since then.
                self._arrived(columns, max(since, _now() - self._settings.visibility_s / 6), count)

    def _arrived(self, columns: Columns, since: float, asked: int) -> None:
        self._window.fetched(len(columns.bodies), asked, sum(map(len, columns.bodies)), starved=bool(self._takers))
        batch = _Batch(columns, self, since)
        self._batches.add(batch)
        if self._handle.fifo:
            for delivery in batch.deliveries:
                self._in_turn(delivery)
        else:
            self._ready.extend(batch.deliveries)
        self._wake(len(self._ready))

    def _held(self) -> int:
        return len(self._ready) + sum(map(len, self._groups.values()))

    def _in_turn(self, delivery: AsyncDelivery) -> None:
        """FIFO: ready if nothing of its group is before it."""
        behind = self._groups.get(delivery.group_id)
        if behind is None:
            self._groups[delivery.group_id] = deque()
            self._ready.append(delivery)
        else:
            behind.append(delivery)

    # ------------------------------------------------------------ taking

    async def _take(self) -> AsyncDelivery | None:
        """The next message; None when it has stopped."""
        while not self._stopping:
            delivery = self._take_ready()
            if delivery is not None:
                return delivery
            if self._failure is not None:
                return None
            self._make_room()
            await self._turn()
        return None

    async def _turn(self) -> None:
        """Until something has come for this taker."""
        taker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._takers.append(taker)
        try:
            await taker
        except asyncio.CancelledError:
            if taker in self._takers:
                self._takers.remove(taker)
            else:
                self._wake(1)  # it was its turn: the next one's
            raise

    def _take_ready(self) -> AsyncDelivery | None:
        while self._ready:
            delivery = self._ready.popleft()
            if self._take_out(delivery):
                return delivery
        return None

    def _make_room(self) -> None:
        if self._full:
            self._full = False
            self._room.set()

    def _take_out(self, delivery: AsyncDelivery) -> bool:
        """False: it was lost while it waited."""
        batch = delivery._batch
        batch.to_take -= 1
        if not batch.to_take:
            self._window.taken(_now() - batch.arrived)
        if self._full and len(self._ready) * 2 <= self._window.size:
            self._make_room()
        if delivery._lost:
            self._settle_quietly(delivery)
            if self._groups:
                self._next_of_group(delivery)
            return False
        delivery._state = _OUT
        return True

    def _wake(self, count: int) -> None:
        while count > 0 and self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                count -= 1

    def _stop_taking(self) -> None:
        self._wake(len(self._takers))
        self._room.set()

    async def _work(self, handler: Callable[[AsyncDelivery], Awaitable[object]]) -> None:
        while not self._stopping:
            delivery = self._take_ready() or await self._take()
            if delivery is None:
                return
            try:
                await handler(delivery)
            except Exception as error:  # noqa: BLE001 - a handler may fail in any way; the message comes again
                _LOG.warning("the handler of %s failed", self._handle.queue, exc_info=error)
                await self._failed(delivery, None)
            else:
                if self._settle(delivery) and not self._deletes.offer(delivery.handle):
                    await self._deletes.post(delivery.handle)

    # ------------------------------------------------------------ settling

    def _settle(self, delivery: AsyncDelivery, done: bool = True) -> bool:
        """False: it was settled before."""
        if delivery._state == _SETTLED:
            return False
        delivery._state = _SETTLED
        batch = delivery._batch
        batch.open -= 1
        if not batch.open:
            self._batches.discard(batch)
            batch.deliveries = []  # no cycle: bodies are freed at once
        if done:
            self._handled += 1
            if self._groups:
                self._next_of_group(delivery)
        else:
            self._failures += 1
        return True

    def _next_of_group(self, delivery: AsyncDelivery) -> None:
        behind = self._groups.get(delivery.group_id)
        if behind:
            self._ready.append(behind.popleft())
            self._wake(1)
        else:
            self._groups.pop(delivery.group_id, None)

    async def _done(self, delivery: AsyncDelivery, wait: bool) -> None:
        if not self._settle(delivery):
            return
        if wait:
            await self._deletes.put(delivery.handle)
        else:
            await self._deletes.post(delivery.handle)

    async def _failed(self, delivery: AsyncDelivery, delay_s: float | None) -> None:
        if not self._settle(delivery, done=False):
            return
        if delay_s is None:
            first, longest = self._settings.backoff_s
            delay_s = min(first * 2.0 ** min(delivery.receive_count - 1, 30), longest)
        behind = self._groups.pop(delivery.group_id, None) if self._groups else None
        for later in behind or ():
            self._settle_quietly(later)
        self._make_room()
        await self._show([delivery], -int(-delay_s // 1))
        await self._show(behind or (), 0)

    def _settle_quietly(self, delivery: AsyncDelivery) -> None:
        """It goes back unhandled: neither done nor failed."""
        if self._settle(delivery, done=False):
            self._failures -= 1

    async def _show(self, deliveries: Iterable[AsyncDelivery], timeout_s: int) -> None:
        """Change the visibility of messages that are given up; if that fails it runs out by itself."""
        rest = [delivery.handle for delivery in deliveries if not delivery._lost]
        for at in range(0, len(rest), COUNT_MAX):
            try:
                await self._handle._change(rest[at : at + COUNT_MAX], timeout_s)
            except CloudError as error:
                _LOG.info("returning messages to %s: %s", self._handle.queue, error)

    # ------------------------------------------------------------ the end

    async def _end(self) -> None:
        left = self._polled + _YOUNG_POLL_S - _now()
        if left > 0 and self._fetchers:
            await asyncio.wait(self._fetchers, timeout=left)
        await _ended(self._fetchers)
        await self._give_back(_HELD)

    async def _close(self) -> None:
        if self._ending is not None:
            await self._ending
        working = [task for task in self._workers if not task.done()]
        if working:
            await asyncio.wait(working, timeout=self._settings.grace_s)
            await _ended(working)
        await self._give_back(_OUT)
        if self._beating is not None:
            await _ended([self._beating])
        await self._deletes.drain()
        self._handle._broker.transport.closers.discard(self.close)

    async def _give_back(self, state: int) -> None:
        self._ready.clear()
        self._groups.clear()
        rest = [item for batch in self._batches for item in batch.deliveries if item._state == state]
        for delivery in rest:
            self._settle_quietly(delivery)
        await self._show(rest, 0)

    # ------------------------------------------------------------ heartbeat

    async def _beat(self) -> None:
        visibility = self._settings.visibility_s
        while True:
            await asyncio.sleep(visibility / 6)
            late = _now() - visibility / 3
            await asyncio.gather(*(self._extend(batch) for batch in list(self._batches) if batch.since <= late))

    async def _extend(self, batch: _Batch) -> None:
        kept = [d for d in batch.deliveries if d._state != _SETTLED and not d._lost]
        if not kept:
            return
        since = _now()
        try:
            reply = await self._handle._change([d.handle for d in kept], self._settings.visibility_s)
        except CloudError as error:
            _LOG.warning("keeping %d messages of %s invisible: %s", len(kept), self._handle.queue, error)
            return
        batch.since = since
        for item in reply.failed:
            kept[item.index]._lost = True


def _awaitable(handler: Handler) -> Callable[[AsyncDelivery], Awaitable[object]]:
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004
        return cast("Callable[[AsyncDelivery], Awaitable[object]]", handler)

    async def in_thread(delivery: AsyncDelivery) -> None:
        result = await asyncio.to_thread(handler, delivery)
        if inspect.isawaitable(result):
            await result

    return in_thread


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
