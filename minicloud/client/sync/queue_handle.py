"""Made from `minicloud/client/queue_handle.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.consumer_options import ConsumerOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.messages import Message, SendResult
from minicloud.client.queue_handle import AsyncQueueHandle, SendOptions
from minicloud.client.sync.consumer import Consumer

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class QueueHandle:
    """A queue by name, URL or ARN: the fast way to send to it and to take from it."""

    _inner: AsyncQueueHandle

    def __init__(self, inner: AsyncQueueHandle, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    @property
    def queue(self) -> str:
        """The name, URL or ARN that it was made with."""
        return self._inner.queue

    @property
    def fifo(self) -> bool:
        return self._inner.fifo

    def send(self, body: str | bytes, **options: Unpack[SendOptions]) -> SendResult:
        """Send one message; when this returns it is on disk. Concurrent sends share calls.

        A call whose answer was lost is made again, so on a standard queue a message may arrive twice; a FIFO queue
        knows it by its deduplication id. Raises NotFound, InvalidRequest (MissingParameter, InvalidParameterValue,
        MessageTooLarge), InsufficientStorage, Unavailable.
        """
        return self._loop.run(self._inner.send(body, **options))

    def send_batch(self, messages: Sequence[str | bytes | models.SendEntry]) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return self._loop.run(self._inner.send_batch(messages))

    def receive(
        self,
        max_messages: int = 10,
        *,
        wait_s: int | None = None,
        visibility_timeout_s: int | None = None,
        attempt_id: str = "",
    ) -> tuple[Message, ...]:
        """Up to max_messages (1 to 1,000) of what is there; with wait_s (to 20) it waits for the first one.

        wait_s, visibility_timeout_s: else the queue's. attempt_id: FIFO; the same id within 5 minutes gives the same
        messages again. Every call has one of its own, so a retry after a lost answer loses nothing. What was on its way
        when a call was cancelled comes again after its visibility timeout.
        """
        return self._loop.run(
            self._inner.receive(
                max_messages, wait_s=wait_s, visibility_timeout_s=visibility_timeout_s, attempt_id=attempt_id
            )
        )

    def delete_message(self, message: Message | bytes | str) -> None:
        """Delete a received message (or by its receipt handle). Concurrent deletes share calls.

        Raises InvalidRequest (ReceiptHandleIsInvalid, an expired handle of a FIFO queue).
        """
        self._loop.run(self._inner.delete_message(message))

    def delete_messages(self, messages: Sequence[Message | bytes | str]) -> tuple[models.EntryError, ...]:
        """Delete many; answers with those that failed, by index."""
        return self._loop.run(self._inner.delete_messages(messages))

    def change_visibility(self, message: Message | bytes | str, timeout_s: int) -> None:
        """Seconds from now until it comes again (0: at once; up to 12 hours since it was received).

        Raises InvalidRequest, Conflict (MessageNotInflight).
        """
        self._loop.run(self._inner.change_visibility(message, timeout_s))

    def change_visibilities(
        self, messages: Sequence[Message | bytes | str], timeout_s: int
    ) -> tuple[models.EntryError, ...]:
        """The same for many; answers with those that failed, by index."""
        return self._loop.run(self._inner.change_visibilities(messages, timeout_s))

    def consumer(self, **options: Unpack[ConsumerOptions]) -> Consumer:
        """Takes messages as they come: prefetch, heartbeat, deletes in batches (`AsyncConsumer`)."""
        return Consumer(self._inner.consumer(**options), self._loop)
