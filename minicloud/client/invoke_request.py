"""What an invocation is asked with, held against Lambda's limits before it leaves.

Many share a stream: one message that the stream does not take would fail the others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from minicloud.base.errors import InvalidParameterValue, InvalidRequest, MessageTooLarge
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.wire import function_pb2
else:
    function_pb2 = lazy("minicloud.wire.function_pb2")

SYNC_BYTES_MAX = 6 * 1024 * 1024  # guide, quotas
ASYNC_BYTES_MAX = 1024 * 1024  # guide, quotas
CLIENT_CONTEXT_BYTES_MAX = 3_583  # model, Invoke: after base64
NAME_CHARS_MAX = 256  # ours, of a name or ARN with its qualifier
SYNC, EVENT, DRY_RUN = "", "Event", "DryRun"
_JSON = json.JSONEncoder(allow_nan=False)


def invoke_request(
    function: str,
    payload: object,
    client_context: Mapping[str, object] | None,
    *,
    type: str = SYNC,
    tail: bool = False,
) -> function_pb2.InvokeRequest:
    """Raises InvalidRequest, MessageTooLarge."""
    if len(function) > NAME_CHARS_MAX:
        text = f"The name of the function has {len(function)} characters, more than {NAME_CHARS_MAX}"
        raise InvalidRequest(text, code="ValidationException", field="functionName")
    raw, most = to_payload(payload), ASYNC_BYTES_MAX if type == EVENT else SYNC_BYTES_MAX
    if len(raw) > most:
        text = f"Request must be smaller than {most} bytes for the InvokeFunction operation"
        raise MessageTooLarge(text, code="RequestTooLargeException", field="payload", details={"bytes": str(len(raw))})
    context = "" if client_context is None else _context(client_context)
    return function_pb2.InvokeRequest(function=function, payload=raw, type=type, tail=tail, client_context=context)


def to_payload(value: object) -> bytes:
    """Raises InvalidParameterValue."""
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    try:
        return _JSON.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterValue(f"the payload cannot be JSON: {error}", field="payload") from None


def _context(value: Mapping[str, object]) -> str:
    try:
        text = _JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterValue(f"the client context cannot be JSON: {error}", field="clientContext") from None
    if len(text) > CLIENT_CONTEXT_BYTES_MAX * 3 // 4:
        text = f"The client context is larger than {CLIENT_CONTEXT_BYTES_MAX} bytes"
        raise InvalidRequest(text, code="InvalidParameterValueException", field="clientContext")
    return text
