"""QueueService on the wire: translation, no decisions. What comes and goes in bulk is never an object a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minicloud.base import pages
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import CloudError, Internal, InvalidParameterValue
from minicloud.queue import errors, limits, receipt
from minicloud.queue.book import Queue
from minicloud.queue.columns import Batch, Extras, message_ids
from minicloud.queue.message import Attribute, SendEntry
from minicloud.queue.mover import MoveTask
from minicloud.queue.references import check_own, issue_task, name_of, redeem_task
from minicloud.queue.service import Ask, QueueService
from minicloud.rpc.bulk import Encoded, with_values
from minicloud.wire import queue_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["QueueService"]
_HANDLE = receipt.HANDLE_BYTES


@dataclass(frozen=True, slots=True)
class Door:
    """`page_secret` signs page tokens and task handles; `base_url`: what queue URLs start with, without a slash."""

    page_secret: bytes
    base_url: str


class QueueServicer:
    """For `rpc.door.door(QueueServicer(...), DESCRIPTOR, entry)`; callers come from `rpc.shard_ticket`."""

    def __init__(self, service: QueueService, door: Door) -> None:
        self._service = service
        self._core = service.core
        self._door = door

    # --- queues

    async def CreateQueue(self, request: wire.CreateQueueRequest, caller: Caller) -> wire.Queue:
        queue = await self._service.create_queue(
            caller.scope, request.name, dict(request.attributes), dict(request.tags)
        )
        return await self._shown(queue, ("All",))

    async def GetQueue(self, request: wire.GetQueueRequest, caller: Caller) -> wire.Queue:
        return await self._shown(self._find(request.queue, caller), request.attribute_names)

    async def ListQueues(self, request: wire.ListQueuesRequest, caller: Caller) -> wire.ListQueuesReply:
        scope = caller.scope
        names = await self._service.names(scope, request.prefix)
        context = f"queues {scope.account} {scope.region} {request.prefix}"
        page, after = self._cut(context, names, request.page_size, request.page_token)
        return wire.ListQueuesReply(queues=[self._named(scope, name) for name in page], next_page_token=after)

    async def DeleteQueue(self, request: wire.DeleteQueueRequest, caller: Caller) -> wire.DeleteQueueReply:
        await self._service.delete_queue(self._find(request.queue, caller))
        return wire.DeleteQueueReply()

    async def SetQueueAttributes(self, request: wire.SetQueueAttributesRequest, caller: Caller) -> wire.Queue:
        queue = self._find(request.queue, caller)
        await self._service.set_attributes(queue, dict(request.attributes))
        return await self._shown(queue, ("All",))

    async def TagQueue(self, request: wire.TagQueueRequest, caller: Caller) -> wire.Queue:
        queue = self._find(request.queue, caller)
        await self._service.tag(queue, dict(request.tags), request.remove)
        return await self._shown(queue, ())

    async def PurgeQueue(self, request: wire.PurgeQueueRequest, caller: Caller) -> wire.PurgeQueueReply:
        return wire.PurgeQueueReply(purged=await self._service.purge(self._find(request.queue, caller)))

    async def ListDeadLetterSources(
        self, request: wire.ListDeadLetterSourcesRequest, caller: Caller
    ) -> wire.ListDeadLetterSourcesReply:
        queue = self._find(request.queue, caller)
        arns = await self._service.dead_letter_sources(queue)
        page, after = self._cut(f"sources {queue.arn}", arns, request.page_size, request.page_token)
        return wire.ListDeadLetterSourcesReply(arns=page, next_page_token=after)

    # --- messages

    async def SendMessages(self, request: wire.SendMessagesRequest, caller: Caller) -> wire.SendMessagesReply:
        queue = self._find(request.queue, caller)
        results = await self._service.send(queue, [_entry(entry) for entry in request.entries])
        return wire.SendMessagesReply(
            results=[
                wire.SendResult(error=_error(index, result))
                if isinstance(result, CloudError)
                else wire.SendResult(message_id=result.message_id, sequence_number=result.sequence_number)
                for index, result in enumerate(results)
            ]
        )

    async def SendBulk(self, request: wire.SendBulkRequest, caller: Caller) -> wire.SendBulkReply:
        queue = self._find(request.queue, caller)
        delay = request.delay_s if request.HasField("delay_s") else None
        run = await self._service.send_many(queue, list(request.bodies), delay)
        return wire.SendBulkReply(message_ids=message_ids(run.tag, range(run.first, run.first + run.count)))

    async def ReceiveMessages(self, request: wire.ReceiveMessagesRequest, caller: Caller) -> Encoded:
        queue = self._find(request.queue, caller)
        visibility = request.visibility_timeout_s if request.HasField("visibility_timeout_s") else None
        wait = request.wait_s if request.HasField("wait_s") else None
        want = request.max_messages if request.HasField("max_messages") else 1
        batch = await self._service.receive(queue, Ask(want, visibility, wait, request.attempt_id))
        return _received(batch)

    async def DeleteMessages(self, request: wire.DeleteMessagesRequest, caller: Caller) -> wire.BatchReply:
        queue = self._find(request.queue, caller)
        return _failures(await self._service.delete(queue, _handles(request.receipt_handles)))

    async def ChangeVisibility(self, request: wire.ChangeVisibilityRequest, caller: Caller) -> wire.BatchReply:
        queue = self._find(request.queue, caller)
        handles = _handles(request.receipt_handles)
        if len(handles) != len(request.timeouts_s):
            text = f"{len(handles)} receipt handles and {len(request.timeouts_s)} timeouts: there must be one for each"
            raise InvalidParameterValue(text, field="timeouts_s")
        return _failures(await self._service.change_visibility(queue, handles, request.timeouts_s))

    # --- message move tasks

    async def StartMove(self, request: wire.StartMoveRequest, caller: Caller) -> wire.MoveTask:
        for arn in filter(None, (request.source_arn, request.destination_arn)):
            check_own(arn, caller.scope)
        task = await self._service.start_move(request.source_arn, request.destination_arn, request.max_per_second)
        return self._task(task)

    async def CancelMove(self, request: wire.CancelMoveRequest, caller: Caller) -> wire.MoveTask:
        number, source_arn = redeem_task(self._door.page_secret, request.task_handle)
        check_own(source_arn, caller.scope)
        return self._task(await self._service.cancel_move(number, source_arn))

    async def ListMoves(self, request: wire.ListMovesRequest, caller: Caller) -> wire.ListMovesReply:
        check_own(request.source_arn, caller.scope)
        tasks = await self._service.list_moves(request.source_arn, request.max_results or 1)
        return wire.ListMovesReply(tasks=[self._task(task) for task in tasks])

    # --- names

    def _find(self, reference: str, caller: Caller) -> Queue:
        """By name, URL or ARN. Another account's queue does not exist. Raises MissingParameter, QueueDoesNotExist."""
        if not reference:
            raise errors.missing("QueueUrl")
        return self._core.find(caller.scope, name_of(reference, caller.scope))

    def _named(self, scope: Scope, name: str) -> wire.Queue:
        return wire.Queue(name=name, arn=scope.arn("sqs", name), url=f"{self._door.base_url}/{scope.account}/{name}")

    async def _shown(self, queue: Queue, names: Sequence[str]) -> wire.Queue:
        shown = self._named(queue.scope, queue.name)
        shown.attributes.update(await self._service.attributes(queue, names))
        shown.tags.update(queue.tags)
        return shown

    def _cut(self, context: str, keys: Sequence[str], size: int, token: str) -> tuple[Sequence[str], str]:
        return pages.cut(self._door.page_secret, context, keys, token, pages.checked_size(size))

    # --- task handles

    def _task(self, task: MoveTask) -> wire.MoveTask:
        """As in AWS only a task that runs has a handle: there is nothing to do with another's."""
        running = task.status == "RUNNING"
        return wire.MoveTask(
            task_handle=issue_task(self._door.page_secret, task.number, task.source_arn) if running else "",
            status=task.status,
            source_arn=task.source_arn,
            destination_arn=task.target_arn,
            max_per_second=task.rate,
            moved=task.moved,
            to_move=task.to_move,
            failure_reason=task.failure,
            started_ms=task.started_ms,
        )


def _entry(entry: wire.SendEntry) -> SendEntry:
    return SendEntry(
        entry.body,
        delay_s=entry.delay_s if entry.HasField("delay_s") else None,
        attributes={name: Attribute(one.type, one.value) for name, one in entry.attributes.items()},
        trace_header=entry.trace_header,
        group_id=entry.group_id,
        deduplication_id=entry.deduplication_id,
    )


def _handles(joined: bytes) -> list[bytes]:
    """Raises EmptyBatchRequest, InvalidParameterValue."""
    if not joined:
        raise errors.empty_batch("ReceiptHandle")
    if len(joined) % _HANDLE:
        raise InvalidParameterValue(f"receipt handles have {_HANDLE} bytes each", field="receipt_handles")
    if len(joined) > _HANDLE * limits.BULK_MESSAGES_MAX:
        text = f"1 to {limits.BULK_MESSAGES_MAX} receipt handles a call"
        raise InvalidParameterValue(text, field="receipt_handles")
    return [joined[at : at + _HANDLE] for at in range(0, len(joined), _HANDLE)]


def _failures(failed: Mapping[int, CloudError]) -> wire.BatchReply:
    return wire.BatchReply(failed=[_error(index, error) for index, error in failed.items()])


def _error(index: int, error: CloudError) -> wire.EntryError:
    """As in AWS: the sender's fault, unless the same entry can succeed later or the failure is ours."""
    return wire.EntryError(
        index=index,
        code=error.code,
        message=error.message,
        field=error.field or "",
        sender_fault=not (error.retryable or isinstance(error, Internal)),
    )


def _received(batch: Batch) -> Encoded:
    reply = wire.ReceiveMessagesReply(
        receipt_handles=batch.handles(),
        message_ids=batch.ids,
        receive_counts=batch.counts,
        sent_ms=batch.sent_ms,
        first_received_ms=batch.first_ms,
    )
    for index, extras in batch.extras.items():
        _fill(reply.extras[index], extras, batch.received.queue)
    return with_values(reply, "bodies", batch.bodies)


def _fill(shown: wire.MessageExtras, extras: Extras, queue: Queue) -> None:
    head = extras.stored.head
    for name, attribute in extras.attributes.items():
        shown.attributes[name].type, shown.attributes[name].value = attribute
    shown.group_id = head.group.decode()
    shown.deduplication_id = head.dedup.decode()
    shown.sequence_number = extras.sequence_number
    shown.sender_id = extras.system.get("SenderId", queue.scope.account)
    shown.trace_header = extras.system.get("AWSTraceHeader", "")
    shown.dead_letter_source_arn = extras.source_arn
