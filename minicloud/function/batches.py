"""What a function gets of a queue's messages, and what it says of them. Source: guide, "Using Lambda with Amazon SQS".

Pure: messages -> those that a filter lets through -> batches of at most 6 MiB -> the event -> which of them failed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from math import inf
from typing import Any

from minicloud.function import limits
from minicloud.function.mappings import Pattern
from minicloud.function.ports import Message
from minicloud.shell.patterns import Whole


def matches(message: Message, patterns: Sequence[Pattern], tests: float = inf) -> bool:
    """Any filter is enough. A pattern sees `body` as JSON where it is JSON, and as text. Raises TooMuch."""
    if not patterns:
        return True
    seen: dict[str, Any] = {"messageId": message.id, "body": message.body, "attributes": message.attributes}
    views = [seen]
    with contextlib.suppress(ValueError, RecursionError):
        views = [{**seen, "body": json.loads(message.body)}, seen]
    for pattern in patterns:
        for view in views:
            whole = Whole(view, tests)
            if pattern.takes(whole, len(message.body)):
                return True
            tests = whole.left
    return False


def batches(records: Sequence[dict[str, Any]], most: int) -> Iterator[tuple[int, int, bytes]]:
    """(first, behind the last, payload) of each: at most so many records, at most what an invocation may carry."""
    texts: list[str] = []
    start, size = 0, 0
    for place, record in enumerate(records):
        text = json.dumps(record, separators=(",", ":"))
        if texts and (len(texts) == most or size + len(text) + 64 > limits.SYNC_BYTES_MAX):
            yield start, place, _event(texts)
            start, texts, size = place, [], 0
        texts.append(text)
        size += len(text) + 1
    if texts:
        yield start, len(records), _event(texts)


def _event(texts: Sequence[str]) -> bytes:
    return ('{"Records":[' + ",".join(texts) + "]}").encode()


def record(message: Message, queue: str) -> dict[str, Any]:
    """A message as a handler sees it."""
    return {
        "messageId": message.id,
        "receiptHandle": base64.urlsafe_b64encode(message.handle).decode().rstrip("="),
        "body": message.body,
        "attributes": message.attributes,
        "messageAttributes": {name: _attribute(*given) for name, given in message.given.items()},
        "md5OfBody": hashlib.md5(message.body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": queue,
        "awsRegion": queue.split(":")[3],
    }


def _attribute(kind: str, value: bytes) -> dict[str, Any]:
    shown: dict[str, Any] = {"stringListValues": [], "binaryListValues": [], "dataType": kind}
    if kind.partition(".")[0] == "Binary":
        shown["binaryValue"] = base64.b64encode(value).decode()
    else:
        shown["stringValue"] = value.decode()
    return shown


def failures(payload: bytes, ids: Sequence[str]) -> frozenset[str]:
    """The ids that a partial batch response names; all of them where it is not one, as AWS takes it."""
    try:
        said = json.loads(payload) if payload else None
    except ValueError:
        return frozenset(ids)
    if said is None:
        return frozenset()
    items = said.get("batchItemFailures") if isinstance(said, dict) else said
    if isinstance(said, dict) and not items:
        return frozenset()
    if not isinstance(items, list) or not isinstance(said, dict):
        return frozenset() if isinstance(said, str | int | float | bool | list) and not said else frozenset(ids)
    named = [one.get("itemIdentifier") if isinstance(one, dict) else None for one in items]
    if any(not isinstance(one, str) or one not in ids for one in named):
        return frozenset(ids)
    return frozenset(str(one) for one in named)
