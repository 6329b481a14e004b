"""The errors of queues: classes of the one tree (base/errors.py) with SQS's codes and texts.

Codes are those of the JSON protocol; the AWS door adds the query protocol's old names (`QUERY_CODES`).
Texts are SQS's own where it has one; handles and values are cut.
"""

from __future__ import annotations

from minicloud.base.errors import (
    AlreadyExists,
    CloudError,
    Conflict,
    InvalidParameterValue,
    InvalidRequest,
    LimitExceeded,
    MessageTooLarge,
    MissingParameter,
    NotFound,
    UnsupportedOperation,
)
from minicloud.queue import limits

_VALUE_CHARS_MAX = 256
QUERY_CODES = {
    "QueueDoesNotExist": "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDeletedRecently": "AWS.SimpleQueueService.QueueDeletedRecently",
    "QueueNameExists": "QueueAlreadyExists",
    "PurgeQueueInProgress": "AWS.SimpleQueueService.PurgeQueueInProgress",
    "MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight",
    "EmptyBatchRequest": "AWS.SimpleQueueService.EmptyBatchRequest",
    "TooManyEntriesInBatchRequest": "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    "BatchEntryIdsNotDistinct": "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    "BatchRequestTooLong": "AWS.SimpleQueueService.BatchRequestTooLong",
    "InvalidBatchEntryId": "AWS.SimpleQueueService.InvalidBatchEntryId",
    "UnsupportedOperation": "AWS.SimpleQueueService.UnsupportedOperation",
}


def no_such_queue() -> NotFound:
    return NotFound("The specified queue does not exist.", code="QueueDoesNotExist", field="queue")


def no_such_resource(parameter: str = "SourceArn") -> NotFound:
    text = f"The resource that you specified for the {parameter} parameter doesn't exist."
    return NotFound(text, code="ResourceNotFoundException", field=parameter)


def no_such_task() -> NotFound:
    return NotFound("Task does not exist.", code="ResourceNotFoundException", field="TaskHandle")


def queue_name_exists(attribute: str) -> AlreadyExists:
    text = f"A queue already exists with the same name and a different value for attribute {attribute}"
    return AlreadyExists(text, code="QueueNameExists", field=attribute)


def deleted_recently() -> Conflict:
    text = "You must wait 60 seconds after deleting a queue before you can create another with the same name."
    return Conflict(text, code="QueueDeletedRecently", field="name")


def purge_in_progress(name: str) -> Conflict:
    text = f"Only one PurgeQueue operation on {name} is allowed every 60 seconds."
    return Conflict(text, code="PurgeQueueInProgress", field="queue")


def bad_attribute_name(name: str) -> InvalidRequest:
    return InvalidRequest(f"Unknown Attribute {name[:100]}.", code="InvalidAttributeName", field=name[:100])


def bad_attribute_value(name: str, reason: str = "") -> InvalidRequest:
    text = f"Invalid value for the parameter {name}." + (f" Reason: {reason}" if reason else "")
    return InvalidRequest(text, code="InvalidAttributeValue", field=name)


def bad_value(name: str, value: object, reason: str) -> InvalidParameterValue:
    text = f"Value {str(value)[:_VALUE_CHARS_MAX]} for parameter {name} is invalid. Reason: {reason}"
    return InvalidParameterValue(text, field=name)


def missing(name: str) -> MissingParameter:
    return MissingParameter(f"The request must contain the parameter {name}.", field=name)


def message_too_long(maximum: int) -> MessageTooLarge:
    text = f"One or more parameters are invalid. Reason: Message must be shorter than {maximum} bytes."
    return MessageTooLarge(text, code="InvalidParameterValue", field="MessageBody")


def bad_contents(what: str) -> InvalidRequest:
    allowed = "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    text = f"{what} was found in the message body, the set of allowed characters is {allowed}"
    return InvalidRequest(text, code="InvalidMessageContents", field="MessageBody")


def bad_handle(handle: str = "") -> InvalidRequest:
    text = f'The input receipt handle "{handle[:100]}" is not a valid receipt handle.'
    return InvalidRequest(text, code="ReceiptHandleIsInvalid", field="ReceiptHandle")


def expired_handle(handle: str) -> InvalidParameterValue:
    return bad_value("ReceiptHandle", handle, "The receipt handle has expired.")


def no_such_message(handle: str) -> InvalidParameterValue:
    reason = "Message does not exist or is not available for visibility timeout change."
    return bad_value("ReceiptHandle", handle, reason)


def not_in_flight() -> Conflict:
    return Conflict("The specified message isn't in flight.", code="MessageNotInflight", field="ReceiptHandle")


def over_limit() -> LimitExceeded:
    text = f"The maximum number of in flight messages, {limits.IN_FLIGHT_MAX}, is reached; delete messages first."
    return LimitExceeded(text, code="OverLimit", field="queue")


def empty_batch(entry: str) -> InvalidRequest:
    text = f"There should be at least one {entry} in the request."
    return InvalidRequest(text, code="EmptyBatchRequest", field="Entries")


def too_many_entries(count: int) -> InvalidRequest:
    text = f"Maximum number of entries per request are {limits.BATCH_ENTRIES_MAX}. You have sent {count}."
    return InvalidRequest(text, code="TooManyEntriesInBatchRequest", field="Entries")


def repeated_id(entry_id: str) -> InvalidRequest:
    return InvalidRequest(f"Id {entry_id} repeated.", code="BatchEntryIdsNotDistinct", field="Entries")


def bad_entry_id() -> InvalidRequest:
    text = (
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. "
        "It can be at most 80 letters long."
    )
    return InvalidRequest(text, code="InvalidBatchEntryId", field="Entries")


def batch_too_long(size: int, maximum: int) -> MessageTooLarge:
    text = f"Batch requests cannot be longer than {maximum} bytes. You have sent {size} bytes."
    return MessageTooLarge(text, code="BatchRequestTooLong", field="Entries")


def unsupported(text: str, field: str) -> CloudError:
    return UnsupportedOperation(text, field=field)
