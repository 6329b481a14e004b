"""What is sent where when an asynchronous invocation has ended. Source: guide, "Asynchronous invocation"; pure.

destination   a JSON record of request and response            dead-letter queue or topic   the event as it came
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

SUCCESS, EXHAUSTED, TOO_OLD = "Success", "RetriesExhausted", "EventAgeExceeded"
MESSAGE_CHARS_MAX = 1_024  # guide, "Dead-letter queues": the first KB of the error message


@dataclass(frozen=True, slots=True)
class Ended:
    """`tries`: how often it ran. `payload`, `function_error`, `version`: of the last answer; '' where none ran."""

    request_id: str
    arn: str
    condition: str
    tries: int
    request: bytes
    payload: bytes = b""
    function_error: str = ""
    version: str = ""


def record(one: Ended, now: float) -> str:
    """What a destination gets."""
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown: dict[str, Any] = {
        "version": "1.0",
        "timestamp": when,
        "requestContext": {
            "requestId": one.request_id,
            "functionArn": one.arn,
            "condition": one.condition,
            "approximateInvokeCount": one.tries,
        },
        "requestPayload": loaded(one.request),
    }
    if one.version:
        context: dict[str, Any] = {"statusCode": 200, "executedVersion": one.version}
        if one.function_error:
            context["functionError"] = one.function_error
        shown |= {"responseContext": context, "responsePayload": loaded(one.payload)}
    return json.dumps(shown, separators=(",", ":"))


def dead_letter_attributes(one: Ended) -> dict[str, tuple[str, bytes]]:
    """The attributes of a message in a dead-letter queue or topic: name -> type, value."""
    said = loaded(one.payload)
    text = said.get("errorMessage", "") if isinstance(said, dict) else ""
    message = str(text or one.condition)[:MESSAGE_CHARS_MAX]
    return {
        "RequestID": ("String", one.request_id.encode()),
        "ErrorCode": ("Number", b"200" if one.version else b"429"),
        "ErrorMessage": ("String", message.encode()),
    }


def loaded(raw: bytes) -> Any:
    """A payload as JSON; one that is none, as its text."""
    if not raw:
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
