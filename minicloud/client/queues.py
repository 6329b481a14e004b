"""Queues: make, describe, change, end; send, receive, delete. `queue` is a name, URL or ARN everywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.broker import Broker
from minicloud.client.convert import check_range, to_model
from minicloud.client.lazy import lazy
from minicloud.client.messages import Message, SendResult, to_texts
from minicloud.client.queue_handle import AsyncQueueHandle, SendOptions

if TYPE_CHECKING:
    from google.protobuf.message import Message as Wire

    from minicloud.client import models
    from minicloud.client.consumer import AsyncConsumer
    from minicloud.client.consumer_options import ConsumerOptions
    from minicloud.wire import queue_pb2
else:
    models = lazy("minicloud.client.models")
    queue_pb2 = lazy("minicloud.wire.queue_pb2")

_HANDLES_MAX = 1_024  # kept for the next send; those in use are kept in any case


class AsyncQueues:
    """Durable queues, standard and FIFO."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._handles: dict[str, AsyncQueueHandle] = {}

    def bound(self, queue: str) -> AsyncQueueHandle:
        """One queue to send to and take from, without naming it each time."""
        found = self._handles.get(queue)
        if found is None:
            if len(self._handles) >= _HANDLES_MAX:
                self._handles = {name: handle for name, handle in self._handles.items() if handle._busy}
            found = self._handles[queue] = AsyncQueueHandle(self._broker, queue)
        return found

    async def create(
        self, name: str, attributes: Mapping[str, object] | None = None, *, tags: Mapping[str, str] | None = None
    ) -> models.Queue:
        """Make a queue; one with the same name and attributes is answered as it is.

        attributes: AWS's names; texts, ints, bools, or mappings for those that are JSON. A FIFO queue's name ends with
        ".fifo", and it says {"FifoQueue": True}. Raises InvalidRequest, AlreadyExists, Conflict (deleted recently).
        """
        request = queue_pb2.CreateQueueRequest(name=name, attributes=to_texts(attributes or {}), tags=tags or {})
        return await self._one("CreateQueue", request)

    async def get(self, queue: str, attribute_names: Sequence[str] = ("All",)) -> models.Queue:
        """A queue with its attributes and tags. Raises NotFound."""
        return await self._one("GetQueue", queue_pb2.GetQueueRequest(queue=queue, attribute_names=attribute_names))

    async def list(self, prefix: str = "", *, page_size: int = 100) -> AsyncIterator[models.Queue]:
        """Queues whose name begins with prefix: name, ARN and URL. Pages are fetched as they are needed."""
        request = queue_pb2.ListQueuesRequest(prefix=prefix, page_size=page_size)
        while True:
            reply = await self._broker.call("QueueService/ListQueues", request, queue_pb2.ListQueuesReply)
            for item in reply.queues:
                yield to_model(models.Queue, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, queue: str) -> None:
        """With all that is in it; the name is free again after 60 seconds. Raises NotFound."""
        request = queue_pb2.DeleteQueueRequest(queue=queue)
        await self._broker.call("QueueService/DeleteQueue", request, queue_pb2.DeleteQueueReply)

    async def set_attributes(self, queue: str, attributes: Mapping[str, object]) -> models.Queue:
        """Change attributes; an empty text takes a policy away. Raises NotFound, InvalidRequest."""
        request = queue_pb2.SetQueueAttributesRequest(queue=queue, attributes=to_texts(attributes))
        return await self._one("SetQueueAttributes", request)

    async def tag(self, queue: str, tags: Mapping[str, str]) -> dict[str, str]:
        """Add tags, or change their values; answers with all that it has then."""
        return dict((await self._one("TagQueue", queue_pb2.TagQueueRequest(queue=queue, tags=tags))).tags)

    async def untag(self, queue: str, *keys: str) -> dict[str, str]:
        """A key that is not there is not an error."""
        return dict((await self._one("TagQueue", queue_pb2.TagQueueRequest(queue=queue, remove=keys))).tags)

    async def purge(self, queue: str) -> int:
        """Delete all messages; answers how many. Once in 60 seconds. Raises NotFound, Conflict."""
        request = queue_pb2.PurgeQueueRequest(queue=queue)
        reply = await self._broker.call("QueueService/PurgeQueue", request, queue_pb2.PurgeQueueReply)
        return reply.purged

    async def dead_letter_sources(self, queue: str, *, page_size: int = 100) -> AsyncIterator[str]:
        """ARNs of the queues whose dead letters go to this one."""
        request = queue_pb2.ListDeadLetterSourcesRequest(queue=queue, page_size=page_size)
        while True:
            method = "QueueService/ListDeadLetterSources"
            reply = await self._broker.call(method, request, queue_pb2.ListDeadLetterSourcesReply)
            for arn in reply.arns:
                yield arn
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    # ------------------------------------------------------------ messages

    async def send(self, queue: str, body: str | bytes, **options: Unpack[SendOptions]) -> SendResult:
        """Send one message; when this returns it is on disk. Concurrent sends share calls.

        A call whose answer was lost is made again, so on a standard queue a message may arrive twice; a FIFO queue
        knows it by its deduplication id. Raises NotFound, InvalidRequest (MissingParameter, InvalidParameterValue,
        MessageTooLarge), InsufficientStorage, Unavailable.
        """
        return await self.bound(queue).send(body, **options)

    async def send_batch(
        self, queue: str, messages: Sequence[str | bytes | models.SendEntry]
    ) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        return await self.bound(queue).send_batch(messages)

    async def receive(
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
        return await self.bound(queue).receive(
            max_messages, wait_s=wait_s, visibility_timeout_s=visibility_timeout_s, attempt_id=attempt_id
        )

    async def delete_message(self, queue: str, message: Message | bytes | str) -> None:
        """Delete a received message (or by its receipt handle). Concurrent deletes share calls.

        Raises InvalidRequest (ReceiptHandleIsInvalid, an expired handle of a FIFO queue).
        """
        await self.bound(queue).delete_message(message)

    async def delete_messages(
        self, queue: str, messages: Sequence[Message | bytes | str]
    ) -> tuple[models.EntryError, ...]:
        """Delete many; answers with those that failed, by index."""
        return await self.bound(queue).delete_messages(messages)

    async def change_visibility(self, queue: str, message: Message | bytes | str, timeout_s: int) -> None:
        """Seconds from now until it comes again (0: at once; up to 12 hours since it was received).

        Raises InvalidRequest, Conflict (MessageNotInflight).
        """
        await self.bound(queue).change_visibility(message, timeout_s)

    async def change_visibilities(
        self, queue: str, messages: Sequence[Message | bytes | str], timeout_s: int
    ) -> tuple[models.EntryError, ...]:
        """The same for many; answers with those that failed, by index."""
        return await self.bound(queue).change_visibilities(messages, timeout_s)

    def consumer(self, queue: str, **options: Unpack[ConsumerOptions]) -> AsyncConsumer:
        """Takes messages as they come: prefetch, heartbeat, deletes in batches (`AsyncConsumer`)."""
        return self.bound(queue).consumer(**options)

    # ------------------------------------------------------------ dead letters back

    async def start_move(
        self, source_arn: str, destination_arn: str = "", *, max_per_second: int = 0
    ) -> models.MoveTask:
        """Move a dead-letter queue's messages back to where each came from, or to one queue.

        max_per_second: up to 500; 0 is as fast as it goes. Raises NotFound, InvalidRequest.
        """
        check_range(max_per_second=max_per_second)
        request = queue_pb2.StartMoveRequest(
            source_arn=source_arn, destination_arn=destination_arn, max_per_second=max_per_second
        )
        return to_model(models.MoveTask, await self._broker.call("QueueService/StartMove", request, queue_pb2.MoveTask))

    async def cancel_move(self, task_handle: str) -> models.MoveTask:
        """What was moved stays moved. Raises NotFound."""
        request = queue_pb2.CancelMoveRequest(task_handle=task_handle)
        reply = await self._broker.call("QueueService/CancelMove", request, queue_pb2.MoveTask)
        return to_model(models.MoveTask, reply)

    async def list_moves(self, source_arn: str, max_results: int = 10) -> tuple[models.MoveTask, ...]:
        """The newest first; up to 10."""
        check_range(max_results=max_results)
        request = queue_pb2.ListMovesRequest(source_arn=source_arn, max_results=max_results)
        reply = await self._broker.call("QueueService/ListMoves", request, queue_pb2.ListMovesReply)
        return tuple(to_model(models.MoveTask, task) for task in reply.tasks)

    async def _one(self, method: str, request: Wire) -> models.Queue:
        return to_model(models.Queue, await self._broker.call(f"QueueService/{method}", request, queue_pb2.Queue))
