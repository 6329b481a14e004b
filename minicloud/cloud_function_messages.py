"""Queues and topics for functions: calls to the message broker of their account and region, by its unix socket."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.cloud_calls import TOPICS_AND_QUEUES, Calls
from minicloud.function.ports import Message
from minicloud.rpc.errors import from_code
from minicloud.wire import queue_pb2, topic_pb2

HANDLE_BYTES, ID_BYTES = 28, 16  # queue.proto: ReceiveMessagesReply


class BrokerMessages:
    """Implements function.ports.Messages."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def send(
        self, scope: Scope, arn: str, body: bytes, attributes: Mapping[str, tuple[str, bytes]], group: str = ""
    ) -> None:
        """group: the message group in a FIFO queue."""
        given = {name: queue_pb2.MessageAttribute(type=one[0], value=one[1]) for name, one in attributes.items()}
        result: Any
        if arn.split(":")[2] == "sns":
            entry = topic_pb2.PublishEntry(message=body, attributes=given)
            request = topic_pb2.PublishMessagesRequest(topic=arn, entries=[entry])
            reply = topic_pb2.PublishMessagesReply
            result = await self._call(scope, "TopicService/PublishMessages", request, reply)
        else:
            one = queue_pb2.SendEntry(body=body, attributes=given, group_id=group)
            send = queue_pb2.SendMessagesRequest(queue=arn, entries=[one])
            result = await self._call(scope, "QueueService/SendMessages", send, queue_pb2.SendMessagesReply)
        _raise(result.results[0].error)

    async def receive(self, scope: Scope, queue: str, most: int, wait_s: int) -> list[Message]:
        request = queue_pb2.ReceiveMessagesRequest(queue=queue, max_messages=most, wait_s=wait_s)
        reply = await self._call(scope, "QueueService/ReceiveMessages", request, queue_pb2.ReceiveMessagesReply)
        return [_message(reply, index, scope) for index in range(len(reply.bodies))]

    async def delete(self, scope: Scope, queue: str, handles: Sequence[bytes]) -> None:
        request = queue_pb2.DeleteMessagesRequest(queue=queue, receipt_handles=b"".join(handles))
        await self._call(scope, "QueueService/DeleteMessages", request, queue_pb2.BatchReply)

    async def release(self, scope: Scope, queue: str, handles: Sequence[bytes], after_s: int) -> None:
        request = queue_pb2.ChangeVisibilityRequest(
            queue=queue, receipt_handles=b"".join(handles), timeouts_s=[after_s] * len(handles)
        )
        await self._call(scope, "QueueService/ChangeVisibility", request, queue_pb2.BatchReply)

    async def _call(self, scope: Scope, method: str, request: Any, reply: Any) -> Any:
        return await self._calls.shard(TOPICS_AND_QUEUES, scope, method, request, reply)


def _message(reply: queue_pb2.ReceiveMessagesReply, index: int, scope: Scope) -> Message:
    attributes = {
        "ApproximateReceiveCount": str(reply.receive_counts[index]),
        "SentTimestamp": str(reply.sent_ms[index]),
        "SenderId": scope.account,
        "ApproximateFirstReceiveTimestamp": str(reply.first_received_ms[index]),
    }
    given: dict[str, tuple[str, bytes]] = {}
    if index in reply.extras:
        extras = reply.extras[index]
        more = {
            "SenderId": extras.sender_id,
            "SequenceNumber": extras.sequence_number,
            "MessageGroupId": extras.group_id,
            "MessageDeduplicationId": extras.deduplication_id,
            "AWSTraceHeader": extras.trace_header,
            "DeadLetterQueueSourceArn": extras.dead_letter_source_arn,
        }
        attributes |= {name: value for name, value in more.items() if value}
        given = {name: (one.type, one.value) for name, one in extras.attributes.items()}
    handle = reply.receipt_handles[index * HANDLE_BYTES : (index + 1) * HANDLE_BYTES]
    raw_id = reply.message_ids[index * ID_BYTES : (index + 1) * ID_BYTES]
    return Message(str(uuid.UUID(bytes=raw_id)), handle, reply.bodies[index].decode(), attributes, given)


def _raise(error: queue_pb2.EntryError) -> None:
    if error.code:
        raise from_code(error.code, error.message, error.field, error.sender_fault)
