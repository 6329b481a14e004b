"""Made from `minicloud/client/queues.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.consumer_options import ConsumerOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.messages import Message, SendResult
from minicloud.client.queue_handle import SendOptions
from minicloud.client.queues import AsyncQueues
from minicloud.client.sync.consumer import Consumer
from minicloud.client.sync.queue_handle import QueueHandle

if TYPE_CHECKING:
    from minicloud.client import models
else:
    models = lazy("minicloud.client.models")


class Queues:
    """Durable queues, standard and FIFO."""

    _inner: AsyncQueues

    def __init__(self, inner: AsyncQueues, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def bound(self, queue: str) -> QueueHandle:
        """One queue to send to and take from, without naming it each time."""
        return QueueHandle(self._inner.bound(queue), self._loop)

    def create(
        self, name: str, attributes: Mapping[str, object] | None = None, *, tags: Mapping[str, str] | None = None
    ) -> models.Queue:
        """Make a queue; one with the same name and attributes is answered as it is.

        attributes: AWS's names; texts, ints, bools, or mappings for those that are JSON. A FIFO queue's name ends with
        ".fifo", and it says {"FifoQueue": True}. Raises InvalidRequest, AlreadyExists, Conflict (deleted recently).
        """
        return self._loop.run(self._inner.create(name, attributes, tags=tags))

    def get(self, queue: str, attribute_names: Sequence[str] = ("All",)) -> models.Queue:
        """A queue with its attributes and tags. Raises NotFound."""
        return self._loop.run(self._inner.get(queue, attribute_names))

    def list(self, prefix: str = "", *, page_size: int = 100) -> Iterator[models.Queue]:
        """Queues whose name begins with prefix: name, ARN and URL. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(prefix, page_size=page_size))

    def delete(self, queue: str) -> None:
        """With all that is in it; the name is free again after 60 seconds. Raises NotFound."""
        self._loop.run(self._inner.delete(queue))

    def set_attributes(self, queue: str, attributes: Mapping[str, object]) -> models.Queue:
        """Change attributes; an empty text takes a policy away. Raises NotFound, InvalidRequest."""
        return self._loop.run(self._inner.set_attributes(queue, attributes))

    def tag(self, queue: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then."""
        return self._loop.run(self._inner.tag(queue, tags))

    def untag(self, queue: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(queue, *keys))

    def purge(self, queue: str) -> int:
        """Delete all messages; answers how many. Once in 60 seconds. Raises NotFound, Conflict."""
        return self._loop.run(self._inner.purge(queue))

    def dead_letter_sources(self, queue: str, *, page_size: int = 100) -> Iterator[str]:
        """ARNs of the queues whose dead letters go to this one."""
        return self._loop.iterate(self._inner.dead_letter_sources(queue, page_size=page_size))

    def send(self, queue: str, body: str | bytes, **options: Unpack[SendOptions]) -> SendResult:
        """Send one message; when this returns it is on disk. Concurrent sends share calls.

        A call whose answer was lost is made again, so on a standard queue a message may arrive twice; a FIFO queue
        knows it by its deduplication id. Raises NotFound, InvalidRequest (MissingParameter, InvalidParameterValue,
        MessageTooLarge), InsufficientStorage, Unavailable.
        """
        return self._loop.run(self._inner.send(queue, body, **options))

    def send_batch(self, queue: str, messages: Sequence[str | bytes | models.SendEntry]) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return self._loop.run(self._inner.send_batch(queue, messages))

    def receive(
        self,
        queue: str,
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
                queue, max_messages, wait_s=wait_s, visibility_timeout_s=visibility_timeout_s, attempt_id=attempt_id
            )
        )

    def delete_message(self, queue: str, message: Message | bytes | str) -> None:
        """Delete a received message (or by its receipt handle). Concurrent deletes share calls.

        Raises InvalidRequest (ReceiptHandleIsInvalid, an expired handle of a FIFO queue).
        """
        self._loop.run(self._inner.delete_message(queue, message))

    def delete_messages(self, queue: str, messages: Sequence[Message | bytes | str]) -> tuple[models.EntryError, ...]:
        """Delete many; answers with those that failed, by index."""
        return self._loop.run(self._inner.delete_messages(queue, messages))

    def change_visibility(self, queue: str, message: Message | bytes | str, timeout_s: int) -> None:
        """Seconds from now until it comes again (0: at once; up to 12 hours since it was received).

        Raises InvalidRequest, Conflict (MessageNotInflight).
        """
        self._loop.run(self._inner.change_visibility(queue, message, timeout_s))

    def change_visibilities(
        self, queue: str, messages: Sequence[Message | bytes | str], timeout_s: int
    ) -> tuple[models.EntryError, ...]:
        """The same for many; answers with those that failed, by index."""
        return self._loop.run(self._inner.change_visibilities(queue, messages, timeout_s))

    def consumer(self, queue: str, **options: Unpack[ConsumerOptions]) -> Consumer:
        """Takes messages as they come: prefetch, heartbeat, deletes in batches (`AsyncConsumer`)."""
        return Consumer(self._inner.consumer(queue, **options), self._loop)

    def start_move(self, source_arn: str, destination_arn: str = "", *, max_per_second: int = 0) -> models.MoveTask:
        """Move a dead-letter queue's messages back to where each came from, or to one queue.

        max_per_second: up to 500; 0 is as fast as it goes. Raises NotFound, InvalidRequest.
        """
        return self._loop.run(self._inner.start_move(source_arn, destination_arn, max_per_second=max_per_second))

    def cancel_move(self, task_handle: str) -> models.MoveTask:
        """What was moved stays moved. Raises NotFound."""
        return self._loop.run(self._inner.cancel_move(task_handle))

    def list_moves(self, source_arn: str, max_results: int = 10) -> tuple[models.MoveTask, ...]:
        """The newest first; up to 10."""
        return self._loop.run(self._inner.list_moves(source_arn, max_results))
