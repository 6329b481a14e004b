"""One queue, with its lanes: concurrent sends share calls, and so do concurrent deletes (`batching.py`).

plain body, standard queue      SendBulk: all or none; if one is refused, SendMessages tells each its own
anything else                   SendMessages
FIFO queue                      SendMessages, one call at a time: messages arrive in the order of the `send` calls
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack

from minicloud.base.errors import CloudError, InvalidRequest
from minicloud.client.batching import COUNT_MAX, Lane, LaneLimits, chunks
from minicloud.client.broker import Broker
from minicloud.client.config import new_token
from minicloud.client.consumer_options import WAIT_S_MAX
from minicloud.client.convert import check_names, check_range, to_model
from minicloud.client.lazy import lazy
from minicloud.client.messages import (
    Columns,
    Message,
    SendResult,
    entry_error,
    outcomes,
    results_of,
    results_of_bulk,
    to_attributes,
    to_body,
    to_handle,
)

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.client.consumer import AsyncConsumer
    from minicloud.client.consumer_options import ConsumerOptions
    from minicloud.client.models import AttributeValue
    from minicloud.rpc import bulk
    from minicloud.wire import queue_pb2
else:
    bulk = lazy("minicloud.rpc.bulk")
    models = lazy("minicloud.client.models")
    queue_pb2 = lazy("minicloud.wire.queue_pb2")

_LOG = logging.getLogger(__name__)
_DELETES = LaneLimits(linger_s=0.005)  # of messages whose handlers are done with them


class SendOptions(TypedDict, total=False):
    """Keyword arguments of `send`.

    delay_s: 0 to 900, else the queue's. attributes: up to 10; str, int, float, Decimal, bytes, or (type, value) as in
    ("Number.int", 5). group_id: needed by FIFO queues; on standard queues it makes them fair. deduplication_id: FIFO.
    trace_header: AWS X-Ray's.
    """

    delay_s: int
    attributes: Mapping[str, AttributeValue]
    group_id: str
    deduplication_id: str
    trace_header: str


class AsyncQueueHandle:
    """A queue by name, URL or ARN: the fast way to send to it and to take from it."""

    def __init__(self, broker: Broker, queue: str) -> None:
        self._broker = broker
        self._queue = queue
        self._fifo = queue.endswith(".fifo")
        flights = LaneLimits(flights=1) if self._fifo else LaneLimits()
        self._plain: Lane[bytes, SendResult] = Lane(self._send_plain, len, flights)
        self._entries: Lane[queue_pb2.SendEntry, SendResult] = Lane(self._send_entries, _entry_bytes, flights)
        self._deletes: Lane[bytes, None] = Lane(self._delete, len, _DELETES, self._undeleted)

    @property
    def queue(self) -> str:
        """The name, URL or ARN that it was made with."""
        return self._queue

    @property
    def fifo(self) -> bool:
        return self._fifo

    async def send(self, body: str | bytes, **options: Unpack[SendOptions]) -> SendResult:
        """Send one message; when this returns it is on disk. Concurrent sends share calls.

        A call whose answer was lost is made again, so on a standard queue a message may arrive twice; a FIFO queue
        knows it by its deduplication id. Raises NotFound, InvalidRequest (MissingParameter, InvalidParameterValue,
        MessageTooLarge), InsufficientStorage, Unavailable.
        """
        if not options and not self._fifo:
            return await self._plain.put(body if type(body) is bytes else to_body(body))
        return await self._entries.put(_entry(body, options))

    async def send_batch(self, messages: Sequence[str | bytes | models.SendEntry]) -> tuple[SendResult, ...]:
        """Many messages in as few calls as they fit in; one result each, in order, with `error` where one failed."""
        results: list[SendResult] = []
        for chunk in chunks([_to_entry(item) for item in messages], _entry_bytes):
            results += await self._ask_entries(chunk)
        return tuple(results)

    async def receive(
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
        columns = await self._receive(max_messages, wait_s, visibility_timeout_s, attempt_id)
        return columns.messages()

    async def delete_message(self, message: Message | bytes | str) -> None:
        """Delete a received message (or by its receipt handle). Concurrent deletes share calls.

        Raises InvalidRequest (ReceiptHandleIsInvalid, an expired handle of a FIFO queue).
        """
        await self._deletes.put(to_handle(message))

    async def delete_messages(self, messages: Sequence[Message | bytes | str]) -> tuple[models.EntryError, ...]:
        """Delete many; answers with those that failed, by index."""
        handles = [to_handle(message) for message in messages]
        failed: list[models.EntryError] = []
        for at in range(0, len(handles), COUNT_MAX):
            reply = await self._ask_delete(handles[at : at + COUNT_MAX])
            failed += _failures(reply, at)
        return tuple(failed)

    async def change_visibility(self, message: Message | bytes | str, timeout_s: int) -> None:
        """Seconds from now until it comes again (0: at once; up to 12 hours since it was received).

        Raises InvalidRequest, Conflict (MessageNotInflight).
        """
        reply = await self._change([to_handle(message)], timeout_s)
        for item in reply.failed:
            raise entry_error(item)

    async def change_visibilities(
        self, messages: Sequence[Message | bytes | str], timeout_s: int
    ) -> tuple[models.EntryError, ...]:
        """The same for many; answers with those that failed, by index."""
        handles = [to_handle(message) for message in messages]
        failed: list[models.EntryError] = []
        for at in range(0, len(handles), COUNT_MAX):
            failed += _failures(await self._change(handles[at : at + COUNT_MAX], timeout_s), at)
        return tuple(failed)

    def consumer(self, **options: Unpack[ConsumerOptions]) -> AsyncConsumer:
        """Takes messages as they come: prefetch, heartbeat, deletes in batches (`AsyncConsumer`)."""
        from minicloud.client.consumer import AsyncConsumer

        return AsyncConsumer(self, **options)

    @property
    def _busy(self) -> bool:
        return not (self._plain.idle and self._entries.idle and self._deletes.idle)

    # ------------------------------------------------------------ the calls

    async def _send_plain(self, bodies: list[bytes]) -> Sequence[SendResult | CloudError]:
        request = bulk.with_values(queue_pb2.SendBulkRequest(queue=self._queue), "bodies", bodies)
        try:
            reply = await self._broker.call("QueueService/SendBulk", request, queue_pb2.SendBulkReply)
        except InvalidRequest:
            if len(bodies) == 1:
                raise
            return await self._send_entries([queue_pb2.SendEntry(body=body) for body in bodies])
        return results_of_bulk(reply.message_ids)

    async def _send_entries(self, entries: list[queue_pb2.SendEntry]) -> Sequence[SendResult | CloudError]:
        return outcomes(await self._ask_entries(entries))

    async def _ask_entries(self, entries: Sequence[queue_pb2.SendEntry]) -> list[SendResult]:
        request = queue_pb2.SendMessagesRequest(queue=self._queue, entries=entries)
        reply = await self._broker.call("QueueService/SendMessages", request, queue_pb2.SendMessagesReply)
        return results_of(reply.results)

    async def _receive(
        self, max_messages: int, wait_s: int | None, visibility_timeout_s: int | None, attempt_id: str = ""
    ) -> Columns:
        check_range(0, max_messages=max_messages)
        check_range(wait_s=wait_s, visibility_timeout_s=visibility_timeout_s)
        request = queue_pb2.ReceiveMessagesRequest(
            queue=self._queue,
            max_messages=max_messages,
            wait_s=wait_s,
            visibility_timeout_s=visibility_timeout_s,
            attempt_id=attempt_id or (new_token() if self.fifo else ""),
        )
        longest = WAIT_S_MAX if wait_s is None else wait_s
        method = "QueueService/ReceiveMessages"
        return Columns(await self._broker.call(method, request, queue_pb2.ReceiveMessagesReply, wait_s=longest))

    async def _delete(self, handles: list[bytes]) -> Sequence[CloudError | None]:
        reply = await self._ask_delete(handles)
        if not reply.failed:
            return [None] * len(handles)
        failed = {item.index: entry_error(item) for item in reply.failed}
        return [failed.get(index) for index in range(len(handles))]

    def _undeleted(self, count: int, error: CloudError) -> None:
        _LOG.warning("%d messages of %s were not deleted and come again: %s", count, self._queue, error)

    async def _ask_delete(self, handles: list[bytes]) -> queue_pb2.BatchReply:
        request = queue_pb2.DeleteMessagesRequest(queue=self._queue, receipt_handles=b"".join(handles))
        return await self._broker.call("QueueService/DeleteMessages", request, queue_pb2.BatchReply)

    async def _change(self, handles: Sequence[bytes], timeout_s: int) -> queue_pb2.BatchReply:
        check_range(timeout_s=timeout_s)
        request = queue_pb2.ChangeVisibilityRequest(
            queue=self._queue, receipt_handles=b"".join(handles), timeouts_s=[timeout_s] * len(handles)
        )
        return await self._broker.call("QueueService/ChangeVisibility", request, queue_pb2.BatchReply)


def _to_entry(item: str | bytes | models.SendEntry) -> queue_pb2.SendEntry:
    if isinstance(item, str | bytes):
        return queue_pb2.SendEntry(body=to_body(item))
    options: SendOptions = {
        "attributes": item.attributes,
        "group_id": item.group_id,
        "deduplication_id": item.deduplication_id,
        "trace_header": item.trace_header,
    }
    if item.delay_s is not None:
        options["delay_s"] = item.delay_s
    return _entry(item.body, options)


def _entry(body: str | bytes, options: SendOptions) -> queue_pb2.SendEntry:
    check_names(options, SendOptions)
    check_range(delay_s=options.get("delay_s"))
    return queue_pb2.SendEntry(
        body=to_body(body),
        delay_s=options.get("delay_s"),
        attributes=to_attributes(options.get("attributes") or {}),
        group_id=options.get("group_id", ""),
        deduplication_id=options.get("deduplication_id", ""),
        trace_header=options.get("trace_header", ""),
    )


def _entry_bytes(entry: queue_pb2.SendEntry) -> int:
    return entry.ByteSize() + 8  # its tag and length


def _failures(reply: queue_pb2.BatchReply, offset: int) -> list[models.EntryError]:
    """With the index in the caller's list."""
    for item in reply.failed:
        item.index += offset
    return [to_model(models.EntryError, item) for item in reply.failed]
