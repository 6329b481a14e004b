"""SQS's operations over the queue service: translation, no decisions. The wire is minicloud/aws."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from minicloud.aws.call import Call, Decide, Decided
from minicloud.base import pages
from minicloud.base.digests import md5_of_attributes, md5_of_body
from minicloud.base.errors import CloudError, Internal, InvalidPageToken, InvalidParameterValue
from minicloud.queue import errors, limits, message, policy, receipt
from minicloud.queue.book import Queue
from minicloud.queue.columns import ID_BYTES, Batch, Extras
from minicloud.queue.core import check_batch
from minicloud.queue.message import Attribute, SendEntry
from minicloud.queue.mover import MoveTask
from minicloud.queue.references import check_own, issue_task, name_of, redeem_task
from minicloud.queue.sending import Sent
from minicloud.queue.service import Ask, QueueService

Params = dict[str, Any]
_SYSTEM = frozenset(
    (
        "SenderId",
        "SentTimestamp",
        "ApproximateReceiveCount",
        "ApproximateFirstReceiveTimestamp",
        "SequenceNumber",
        "MessageDeduplicationId",
        "MessageGroupId",
        "AWSTraceHeader",
        "DeadLetterQueueSourceArn",
    )
)
_LISTED_MAX = 1_000  # API, ListQueues: without MaxResults up to 1,000


class QueueApi:
    """The door of `sqs`. `page_secret` signs page tokens and task handles."""

    error_codes: ClassVar[Mapping[str, str]] = errors.QUERY_CODES

    def __init__(self, service: QueueService, page_secret: bytes) -> None:
        self._service = service
        self._core = service.core
        self._page_secret = page_secret
        self.after_flush = service.after_flush
        self.decides: Mapping[str, Decide] = {
            "SendMessage": self._send,
            "SendMessageBatch": self._send_batch,
            "ReceiveMessage": self._receive,
            "DeleteMessage": self._delete,
            "DeleteMessageBatch": self._delete_batch,
            "ChangeMessageVisibility": self._change,
            "ChangeMessageVisibilityBatch": self._change_batch,
        }

    # --- queues

    async def CreateQueue(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        attributes, tags = params.get("Attributes", {}), params.get("tags", {})
        queue = await self._service.create_queue(scope, params["QueueName"], attributes, tags)
        return {"QueueUrl": _url(call, queue.name)}

    async def GetQueueUrl(self, params: Params, call: Call) -> Params:
        scope = call.caller.scope
        if params.get("QueueOwnerAWSAccountId", scope.account) != scope.account:
            raise errors.no_such_queue()
        return {"QueueUrl": _url(call, self._core.find(scope, params["QueueName"]).name)}

    async def ListQueues(self, params: Params, call: Call) -> Params:
        scope, prefix = call.caller.scope, params.get("QueueNamePrefix", "")
        names = await self._service.names(scope, prefix)
        page, after = self._cut(f"queues {scope.account} {scope.region} {prefix}", names, params)
        return {"QueueUrls": [_url(call, name) for name in page], **after} if page else after

    async def DeleteQueue(self, params: Params, call: Call) -> Params:
        await self._service.delete_queue(self._find(params, call))
        return {}

    async def PurgeQueue(self, params: Params, call: Call) -> Params:
        await self._service.purge(self._find(params, call))
        return {}

    async def GetQueueAttributes(self, params: Params, call: Call) -> Params:
        found = await self._service.attributes(self._find(params, call), params.get("AttributeNames", ()))
        return {"Attributes": found} if found else {}

    async def SetQueueAttributes(self, params: Params, call: Call) -> Params:
        await self._service.set_attributes(self._find(params, call), params["Attributes"])
        return {}

    async def AddPermission(self, params: Params, call: Call) -> Params:
        label, accounts, actions = params["Label"], params["AWSAccountIds"], params["Actions"]
        queue = self._find(params, call)
        await self._service.edit_policy(queue, lambda old: policy.added(old, queue.arn, label, accounts, actions))
        return {}

    async def RemovePermission(self, params: Params, call: Call) -> Params:
        queue = self._find(params, call)
        await self._service.edit_policy(queue, lambda old: policy.removed(old, queue.arn, params["Label"]))
        return {}

    async def TagQueue(self, params: Params, call: Call) -> Params:
        await self._service.tag(self._find(params, call), params["Tags"], ())
        return {}

    async def UntagQueue(self, params: Params, call: Call) -> Params:
        await self._service.tag(self._find(params, call), {}, params["TagKeys"])
        return {}

    async def ListQueueTags(self, params: Params, call: Call) -> Params:
        tags = self._find(params, call).tags
        return {"Tags": dict(tags)} if tags else {}

    async def ListDeadLetterSourceQueues(self, params: Params, call: Call) -> Params:
        queue = self._find(params, call)
        arns = await self._service.dead_letter_sources(queue)
        page, after = self._cut(f"sources {queue.arn}", arns, params)
        return {"queueUrls": [_url(call, arn.rpartition(":")[2]) for arn in page], **after}

    # --- messages

    async def SendMessage(self, params: Params, call: Call) -> Params:
        return await self._told(self._send(params, call))

    async def SendMessageBatch(self, params: Params, call: Call) -> Params:
        return await self._told(self._send_batch(params, call))

    async def ReceiveMessage(self, params: Params, call: Call) -> Params:
        queue, ask, show = self._asked(params, call)
        return show.reply(await self._service.receive(queue, ask))

    async def DeleteMessage(self, params: Params, call: Call) -> Params:
        return await self._told(self._delete(params, call))

    async def DeleteMessageBatch(self, params: Params, call: Call) -> Params:
        return await self._told(self._delete_batch(params, call))

    async def ChangeMessageVisibility(self, params: Params, call: Call) -> Params:
        return await self._told(self._change(params, call))

    async def ChangeMessageVisibilityBatch(self, params: Params, call: Call) -> Params:
        return await self._told(self._change_batch(params, call))

    async def _told(self, decided: Decided) -> Params:
        await self._service.flushed()
        return decided.result

    # --- the same in one turn (call.Prompt)

    def _send(self, params: Params, call: Call) -> Decided:
        queue = self._find(params, call)
        entry = _entry(params)
        result = self._service.decide(lambda now: self._core.send(queue, entry, now))
        return Decided(_sent(entry, result))

    def _send_batch(self, params: Params, call: Call) -> Decided:
        queue = self._find(params, call)
        entries = [_entry(one, one["Id"]) for one in params["Entries"]]
        results = self._service.decide(lambda now: self._core.send_batch(queue, entries, now))
        sent: list[Params] = []
        failed: list[Params] = []
        for entry, result in zip(entries, results, strict=True):
            if isinstance(result, CloudError):
                failed.append(_failure(entry.id, result))
            else:
                sent.append({"Id": entry.id, **_sent(entry, result)})
        return Decided(_batch_reply(sent, failed))

    def _receive(self, params: Params, call: Call) -> Decided | None:
        queue, ask, show = self._asked(params, call)
        batch = self._service.receive_now(queue, ask)
        if batch is None:
            return None
        return Decided(show.reply(batch), partial(self._service.give_back, batch) if batch.bodies else None)

    def _asked(self, params: Params, call: Call) -> tuple[Queue, Ask, _Shown]:
        queue = self._find(params, call)
        want = params.get("MaxNumberOfMessages", 1)
        if not 1 <= want <= limits.RECEIVE_MESSAGES_MAX:
            reason = f"Must be between 1 and {limits.RECEIVE_MESSAGES_MAX}, if provided."
            raise errors.bad_value("MaxNumberOfMessages", want, reason)
        show = _Shown(queue, params)
        attempt = params.get("ReceiveRequestAttemptId", "")
        return queue, Ask(want, params.get("VisibilityTimeout"), params.get("WaitTimeSeconds"), attempt), show

    def _delete(self, params: Params, call: Call) -> Decided:
        handle = receipt.from_text(params["ReceiptHandle"])
        for error in self._service.delete_now(self._find(params, call), [handle]).values():
            raise error
        return Decided({})

    def _delete_batch(self, params: Params, call: Call) -> Decided:
        queue, entries = self._find(params, call), params["Entries"]

        def delete(handles: list[bytes], _entries: list[Params]) -> Mapping[int, CloudError]:
            return self._service.delete_now(queue, handles)

        return Decided(_each(entries, "DeleteMessageBatchRequestEntry", delete))

    def _change(self, params: Params, call: Call) -> Decided:
        queue, handle = self._find(params, call), receipt.from_text(params["ReceiptHandle"])
        for error in self._change_now(queue, [handle], [params["VisibilityTimeout"]]).values():
            raise error
        return Decided({})

    def _change_batch(self, params: Params, call: Call) -> Decided:
        queue, entries = self._find(params, call), params["Entries"]

        def change(handles: list[bytes], those: list[Params]) -> Mapping[int, CloudError]:
            timeouts = [one.get("VisibilityTimeout", queue.settings.visibility_s) for one in those]
            return self._change_now(queue, handles, timeouts)

        return Decided(_each(entries, "ChangeMessageVisibilityBatchRequestEntry", change))

    def _change_now(self, queue: Queue, handles: list[bytes], timeouts: list[int]) -> Mapping[int, CloudError]:
        return self._service.decide(lambda now: self._core.change_visibility(queue, handles, timeouts, now))

    # --- message move tasks

    async def StartMessageMoveTask(self, params: Params, call: Call) -> Params:
        source, target = params["SourceArn"], params.get("DestinationArn", "")
        for arn in filter(None, (source, target)):
            check_own(arn, call.caller.scope)
        task = await self._service.start_move(source, target, params.get("MaxNumberOfMessagesPerSecond", 0))
        return {"TaskHandle": issue_task(self._page_secret, task.number, task.source_arn)}

    async def CancelMessageMoveTask(self, params: Params, call: Call) -> Params:
        number, source = redeem_task(self._page_secret, params["TaskHandle"])
        check_own(source, call.caller.scope)
        return {"ApproximateNumberOfMessagesMoved": (await self._service.cancel_move(number, source)).moved}

    async def ListMessageMoveTasks(self, params: Params, call: Call) -> Params:
        check_own(params["SourceArn"], call.caller.scope)
        tasks = await self._service.list_moves(params["SourceArn"], params.get("MaxResults", 1))
        return {"Results": [self._task(task) for task in tasks]}

    def _task(self, task: MoveTask) -> Params:
        """As in AWS only a task that runs has a handle."""
        running = task.status == "RUNNING"
        return {
            "TaskHandle": issue_task(self._page_secret, task.number, task.source_arn) if running else None,
            "Status": task.status,
            "SourceArn": task.source_arn,
            "DestinationArn": task.target_arn or None,
            "MaxNumberOfMessagesPerSecond": task.rate or None,
            "ApproximateNumberOfMessagesMoved": task.moved,
            "ApproximateNumberOfMessagesToMove": task.to_move,
            "FailureReason": task.failure or None,
            "StartedTimestamp": task.started_ms,
        }

    # --- names and pages

    def _find(self, params: Params, call: Call) -> Queue:
        """Another account's queue does not exist. Raises QueueDoesNotExist, InvalidAddress."""
        url, scope = params["QueueUrl"], call.caller.scope
        if url.startswith("/"):
            url = f"://{url}"  # the path of a request that went to the queue itself
        return self._core.find(scope, name_of(url, scope))

    def _cut(self, context: str, keys: Sequence[str], params: Params) -> tuple[Sequence[str], Params]:
        size = params.get("MaxResults", 0)
        if not 0 <= size <= _LISTED_MAX:
            raise errors.bad_value("MaxResults", size, f"Must be between 1 and {_LISTED_MAX}.")
        try:
            page, after = pages.cut(self._page_secret, context, keys, params.get("NextToken", ""), size or _LISTED_MAX)
        except InvalidPageToken:
            raise errors.bad_value("NextToken", params["NextToken"], "Invalid or expired next token.") from None
        return page, {"NextToken": after} if after and size else {}


def _url(call: Call, name: str) -> str:
    return f"{call.base_url}/{call.caller.scope.account}/{name}"


# --- sending


def _entry(params: Params, entry_id: str = "") -> SendEntry:
    attributes = params.get("MessageAttributes")
    system = params.get("MessageSystemAttributes")
    return SendEntry(
        params["MessageBody"].encode("utf-8", "surrogatepass"),
        entry_id,
        params.get("DelaySeconds"),
        {name: _attribute(name, value) for name, value in attributes.items()} if attributes else None,
        _trace(system) if system else "",
        params.get("MessageGroupId", ""),
        params.get("MessageDeduplicationId", ""),
    )


def _attribute(name: str, value: Params) -> Attribute:
    kind = value["DataType"]
    wanted = "Binary" if kind.startswith("Binary") else "String"
    given = value.get(f"{wanted}Value")
    if value.get("StringListValues") or value.get("BinaryListValues"):
        text = "Message attribute list values in SendMessage operation are not supported."
        raise errors.unsupported(text, "MessageAttributes")
    if given is None and len(value) > 1:
        text = f"The message attribute '{name[:100]}' with type '{kind[:100]}' must use field '{wanted}'."
        raise InvalidParameterValue(text, field="MessageAttributes")
    return Attribute(kind, given.encode() if isinstance(given, str) else given or b"")


def _trace(system: Params) -> str:
    for name, value in system.items():
        if name != "AWSTraceHeader" or value["DataType"] != "String":
            text = f"Message system attribute name '{name[:100]}' is invalid."
            raise InvalidParameterValue(text, field="MessageSystemAttributes")
    return str(system["AWSTraceHeader"].get("StringValue", ""))


def _sent(entry: SendEntry, result: Sent) -> Params:
    reply = {"MD5OfMessageBody": md5_of_body(entry.body), "MessageId": result.message_id}
    if entry.attributes:
        reply["MD5OfMessageAttributes"] = md5_of_attributes(entry.attributes)
    if entry.trace_header:
        system = {"AWSTraceHeader": Attribute("String", entry.trace_header.encode())}
        reply["MD5OfMessageSystemAttributes"] = md5_of_attributes(system)
    if result.sequence_number:
        reply["SequenceNumber"] = result.sequence_number
    return reply


# --- batches


def _failure(entry_id: str, error: CloudError) -> Params:
    """As in AWS: the sender's fault, unless the same entry can succeed later or the failure is ours."""
    sender = not (error.retryable or isinstance(error, Internal))
    return {"Id": entry_id, "SenderFault": sender, "Code": error.code, "Message": error.message}


def _batch_reply(done: list[Params], failed: list[Params]) -> Params:
    return {"Successful": done, "Failed": failed} if failed else {"Successful": done}


def _each(
    entries: list[Params], noun: str, act: Callable[[list[bytes], list[Params]], Mapping[int, CloudError]]
) -> Params:
    """Entries with receipt handles: those that can be read are acted on together."""
    check_batch([one["Id"] for one in entries], noun)
    failed: dict[str, CloudError] = {}
    handles: list[bytes] = []
    those: list[Params] = []
    for one in entries:
        try:
            handles.append(receipt.from_text(one["ReceiptHandle"]))
            those.append(one)
        except CloudError as error:
            failed[one["Id"]] = error
    if those:
        errors_of = act(handles, those)
        failed |= {those[index]["Id"]: error for index, error in errors_of.items()}
    done = [{"Id": one["Id"]} for one in entries if one["Id"] not in failed]
    return _batch_reply(done, [_failure(one["Id"], failed[one["Id"]]) for one in entries if one["Id"] in failed])


# --- receiving


class _Shown:
    """What a receive asked to see of each message."""

    def __init__(self, queue: Queue, params: Params) -> None:
        """Raises InvalidAttributeName."""
        asked = [*params.get("AttributeNames", ()), *params.get("MessageSystemAttributeNames", ())]
        for name in asked:
            if name not in _SYSTEM and name != "All":
                raise errors.bad_attribute_name(name)
        self._system = _SYSTEM if "All" in asked else frozenset(asked)
        self._names = params.get("MessageAttributeNames", ())
        self._queue = queue

    def reply(self, batch: Batch) -> Params:
        return {"Messages": self._messages(batch)} if batch.bodies else {}

    def _messages(self, batch: Batch) -> list[Params]:
        handles, ids = batch.handles(), batch.ids.hex()
        size, width = receipt.HANDLE_BYTES, 2 * ID_BYTES
        shown: list[Params] = []
        for index, body in enumerate(batch.bodies):
            one = ids[index * width : (index + 1) * width]
            handle = binascii.b2a_base64(handles[index * size : (index + 1) * size], newline=False)
            item: Params = {
                "MessageId": f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}",
                "ReceiptHandle": handle.translate(_URL_SAFE, b"=").decode(),
                "MD5OfBody": md5_of_body(body),
                "Body": body.decode("utf-8", "replace"),
            }
            extras = batch.extras.get(index)
            if self._system:
                item["Attributes"] = self._attributes(batch, index, extras)
            if extras is not None and self._names and extras.attributes:
                self._add_attributes(item, extras)
            shown.append(item)
        return shown

    def _attributes(self, batch: Batch, index: int, extras: Extras | None) -> dict[str, str]:
        every = {
            "SenderId": self._queue.scope.account,
            "SentTimestamp": str(batch.sent_ms[index]),
            "ApproximateReceiveCount": str(batch.counts[index]),
            "ApproximateFirstReceiveTimestamp": str(batch.first_ms[index]),
        }
        if extras is not None:
            head = extras.stored.head
            every |= {name: value for name, value in extras.system.items() if name in _SYSTEM}
            every["MessageGroupId"] = head.group.decode()
            every["MessageDeduplicationId"] = head.dedup.decode()
            every["SequenceNumber"] = extras.sequence_number
            every["DeadLetterQueueSourceArn"] = extras.source_arn
        return {name: value for name, value in every.items() if value and name in self._system}

    def _add_attributes(self, item: Params, extras: Extras) -> None:
        names = message.matching(extras.attributes, self._names)
        if not names:
            return
        chosen = {name: extras.attributes[name] for name in names}
        item["MessageAttributes"] = {name: _attribute_shown(one) for name, one in chosen.items()}
        item["MD5OfMessageAttributes"] = md5_of_attributes(chosen)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _attribute_shown(one: Attribute) -> Params:
    if one.type.startswith("Binary"):
        return {"BinaryValue": one.value, "DataType": one.type}
    return {"StringValue": one.value.decode(), "DataType": one.type}
