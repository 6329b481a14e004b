"""Made from `minicloud/client/consumer.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from minicloud.client.consumer import AsyncConsumer, AsyncDelivery
from minicloud.client.loop import LoopThread
from minicloud.client.messages import Message


class Delivery(Message):
    """A message in hand. `done` deletes it, `retry` lets it come again; as a context manager it does one of the two."""

    _inner: AsyncDelivery

    def __init__(self, inner: AsyncDelivery, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop
        self._share(inner)

    @property
    def lost(self) -> bool:
        """It could not be kept invisible: somebody else may have it by now."""
        return self._inner.lost

    def done(self, wait: bool = True) -> None:
        """Delete it; with wait, when this returns that is on disk. Idempotent. Raises CloudError."""
        self._loop.run(self._inner.done(wait))

    def retry(self, delay_s: float | None = None) -> None:
        """Let it come again: after delay_s, or the consumer's back-off. Idempotent."""
        self._loop.run(self._inner.retry(delay_s))

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._loop.run(self._inner.__aexit__(kind, *rest))


class Consumer:
    """Messages of one queue, fetched ahead, kept invisible while they are handled, deleted in batches.

    Iterate over it, or (async) `run` a handler. It starts at the first of these and ends with `stop`, or its block.
    """

    _inner: AsyncConsumer

    def __init__(self, inner: AsyncConsumer, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    @property
    def handled(self) -> int:
        """Messages that were done."""
        return self._inner.handled

    @property
    def failures(self) -> int:
        """Messages whose handler failed, or that were given back."""
        return self._inner.failures

    def stop(self) -> None:
        """Take no more: iteration ends, and `run`. Messages in hand can still be done. Idempotent."""
        self._loop.run(self._inner.stop())

    def close(self) -> None:
        """Stop; handlers finish, what was not handled goes back to the queue, deletes are done. Idempotent."""
        self._loop.run(self._inner.close())

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Consumer:
        return self

    def __next__(self) -> Delivery:
        try:
            return Delivery(self._loop.run(self._inner.__anext__()), self._loop)
        except StopAsyncIteration:
            raise StopIteration from None
