"""Messages as the SDK takes and hands them out. Those received are views of one answer's columns: what nobody looks at
is never made.

    out    str is sent as UTF-8; attributes get the type of their Python value, or the one that is named
    in     body, receipt handle and index at once; ids, times, attributes, digests when they are asked for
"""

from __future__ import annotations

import base64
import binascii
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from minicloud.base import digests
from minicloud.base.errors import CloudError, InvalidParameterValue
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import models
    from minicloud.client.models import AttributeValue
    from minicloud.rpc import errors as wire_errors
    from minicloud.wire import queue_pb2
else:
    models = lazy("minicloud.client.models")
    wire_errors = lazy("minicloud.rpc.errors")
    queue_pb2 = lazy("minicloud.wire.queue_pb2")

HANDLE_BYTES = 28
ID_BYTES = 16


# ---------------------------------------------------------------- in


class Columns:
    """One answer to a receive."""

    __slots__ = ("bodies", "handles", "reply")

    def __init__(self, reply: queue_pb2.ReceiveMessagesReply) -> None:
        self.reply = reply
        self.bodies: list[bytes] = list(reply.bodies)
        self.handles: bytes = reply.receipt_handles

    def messages(self) -> tuple[Message, ...]:
        return tuple(Message(self, index) for index in range(len(self.bodies)))


class Message:
    """A received message. Delete it within its visibility timeout, or it comes again."""

    __slots__ = ("_columns", "_index")

    def __init__(self, columns: Columns, index: int) -> None:
        self._columns = columns
        self._index = index

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.message_id} {len(self.body)} bytes>"

    @property
    def body(self) -> bytes:
        return self._columns.bodies[self._index]

    @property
    def text(self) -> str:
        """The body as text."""
        return self._columns.bodies[self._index].decode()

    @property
    def handle(self) -> bytes:
        """The receipt handle as the broker's own 28 bytes."""
        at = self._index * HANDLE_BYTES
        return self._columns.handles[at : at + HANDLE_BYTES]

    @property
    def receipt_handle(self) -> str:
        """The receipt handle as text, as AWS's SDKs have it too."""
        return handle_text(self.handle)

    @property
    def message_id(self) -> str:
        """A UUID, the same for each time that the message is received."""
        at = self._index * ID_BYTES
        return id_text(self._columns.reply.message_ids[at : at + ID_BYTES])

    @property
    def receive_count(self) -> int:
        """How often it has been received, this time included."""
        return self._columns.reply.receive_counts[self._index]

    @property
    def sent_time(self) -> datetime:
        return _moment(self._columns.reply.sent_ms[self._index])

    @property
    def first_received_time(self) -> datetime:
        return _moment(self._columns.reply.first_received_ms[self._index])

    @property
    def attributes(self) -> Mapping[str, models.MessageAttribute]:
        """Message attributes; `attributes["n"].data` is the Python value."""
        items = self._extras().attributes.items()
        return {name: models.MessageAttribute(item.type, item.value) for name, item in items}

    @property
    def group_id(self) -> str:
        return self._extras().group_id

    @property
    def deduplication_id(self) -> str:
        return self._extras().deduplication_id

    @property
    def sequence_number(self) -> str:
        """20 digits, rising within a FIFO queue; '' in others."""
        return self._extras().sequence_number

    @property
    def sender_id(self) -> str:
        """The account that sent it."""
        return self._extras().sender_id

    @property
    def trace_header(self) -> str:
        return self._extras().trace_header

    @property
    def dead_letter_source_arn(self) -> str:
        """In a dead-letter queue: the queue that it comes from."""
        return self._extras().dead_letter_source_arn

    @property
    def md5_of_body(self) -> str:
        return digests.md5_of_body(self.body)

    @property
    def md5_of_attributes(self) -> str:
        """As AWS computes it over all message attributes; '' without any."""
        return digests.md5_of_attributes(self._extras().attributes)

    def _extras(self) -> queue_pb2.MessageExtras:
        extras = self._columns.reply.extras
        return extras[self._index] if self._index in extras else queue_pb2.MessageExtras()

    def _share(self, other: Message) -> None:
        """Internal: be a view of the same message."""
        self._columns, self._index = other._columns, other._index


class SendResult:
    """A message that is on disk, or, in a batch, why it is not. `error` is None for what was sent."""

    __slots__ = ("_id", "error", "sequence_number")

    def __init__(self, message_id: bytes | str, sequence_number: str = "", error: CloudError | None = None) -> None:
        self._id = message_id
        self.sequence_number = sequence_number
        self.error = error

    def __repr__(self) -> str:
        return f"<SendResult {self.error or self.message_id}>"

    @property
    def message_id(self) -> str:
        """A UUID; '' with an error."""
        return self._id if isinstance(self._id, str) else id_text(self._id)


def results_of_bulk(ids: bytes) -> list[SendResult]:
    return [SendResult(ids[at : at + ID_BYTES]) for at in range(0, len(ids), ID_BYTES)]


def results_of(results: Sequence[Any]) -> list[SendResult]:
    """Of SendMessages and PublishMessages."""
    return [
        SendResult("", error=entry_error(item.error))
        if item.HasField("error")
        else SendResult(item.message_id, item.sequence_number)
        for item in results
    ]


def outcomes(results: Sequence[SendResult]) -> list[SendResult | CloudError]:
    """For lanes: an error instead of a result that has one."""
    return [item if item.error is None else item.error for item in results]


def entry_error(error: queue_pb2.EntryError) -> CloudError:
    found: CloudError = wire_errors.from_code(error.code, error.message, error.field, error.sender_fault)
    return found


def to_handle(message: Message | bytes | str) -> bytes:
    """The 28 bytes of a received message, or of its receipt handle in either form. Raises InvalidParameterValue."""
    if isinstance(message, Message):
        return message.handle
    raw = _unpacked(message) if isinstance(message, str) else message
    if not isinstance(raw, bytes) or len(raw) != HANDLE_BYTES:
        text = f'The input receipt handle "{str(message)[:100]}" is not a valid receipt handle.'
        raise InvalidParameterValue(text, code="ReceiptHandleIsInvalid", field="receipt_handle")
    return raw


def handle_text(handle: bytes) -> str:
    return base64.urlsafe_b64encode(handle).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def id_text(raw: bytes) -> str:
    return str(uuid.UUID(bytes=bytes(raw)))


def _moment(unix_ms: int) -> datetime:
    return datetime.fromtimestamp(unix_ms / 1000, UTC)


# ---------------------------------------------------------------- out


def to_body(body: str | bytes, field: str = "body") -> bytes:
    """Raises InvalidParameterValue."""
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        try:
            return body.encode()
        except UnicodeEncodeError:
            raise InvalidParameterValue("half a surrogate pair cannot be sent as UTF-8", field=field) from None
    raise InvalidParameterValue(f"str or bytes, not {type(body).__name__}", field=field)


def to_attributes(attributes: Mapping[str, AttributeValue]) -> dict[str, queue_pb2.MessageAttribute]:
    """Python values as message attributes. Raises InvalidParameterValue with the attribute's name as field."""
    made = {}
    for name, value in attributes.items():
        kind, raw = _attribute(name, value)
        made[name] = queue_pb2.MessageAttribute(type=kind, value=raw)
    return made


def _attribute(name: str, value: AttributeValue) -> tuple[str, bytes]:
    if isinstance(value, models.MessageAttribute):
        return value.type, value.value
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return value[0], _raw(name, value[1])
    if isinstance(value, bytes):
        return "Binary", value
    return ("String" if isinstance(value, str) else "Number"), _raw(name, value)


def _raw(name: str, value: object) -> bytes:
    field = f"attributes.{name}"[:256]
    if isinstance(value, str | bytes):
        return to_body(value, field)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise InvalidParameterValue(f"str, int, float, Decimal or bytes, not {type(value).__name__}", field=field)
    if not math.isfinite(value):
        raise InvalidParameterValue(f"{value} is not a number that can be sent", field=field)
    return str(value).encode()


def to_texts(attributes: Mapping[str, object]) -> dict[str, str]:
    """Attributes of queues, topics and subscriptions as the texts that AWS has: true, 30, {"maxReceiveCount": 5}."""
    return {name: _text(name, value) for name, value in attributes.items()}


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping | list):
        import json

        return json.dumps(value)
    raise InvalidParameterValue(f"str, int, bool or a JSON value, not {type(value).__name__}", field=name[:256])
