"""JSON as a document (documents.py): blobs are base64, times are seconds, and what JSON has no number for is a word."""

from __future__ import annotations

import base64
import math
from functools import partial
from typing import Any

import orjson

from minicloud.aws import documents, wire
from minicloud.aws.documents import NOTHING, Convert
from minicloud.aws.model import Shape
from minicloud.aws.wire import BadInput


def _base64(value: Any) -> str:
    """What orjson asks for where it finds what is no JSON: blobs need no walk through the document."""
    if type(value) is not bytes:
        raise TypeError(f"no JSON: {type(value).__name__}")
    return base64.b64encode(value).decode()


dumps = partial(orjson.dumps, default=_base64)


def loads(raw: bytes) -> Any:
    """Raises BadInput."""
    try:
        return orjson.loads(raw) if raw else {}
    except (ValueError, RecursionError):
        raise BadInput("The body of the request is not well-formed JSON.") from None


def reader(shape: Shape | None) -> Convert:
    return documents.Reader(_READERS).convert(shape or NOTHING)


def writer(shape: Shape | None) -> Convert | None:
    """For `dumps`. None: the value is written as it is."""
    return documents.Writer(_WRITERS, _time).convert(shape or NOTHING)


def _number(value: Any) -> float:
    if type(value) is str and value in ("NaN", "Infinity", "-Infinity"):
        return wire.number(value)
    return documents.number(value)


def _blob(value: Any) -> bytes:
    return wire.blob(documents.text(value))


def _timestamp(value: Any) -> float:
    if type(value) is str:
        return wire.timestamp(value)
    return wire.checked_time(documents.number(value))


_READERS: dict[str, Convert] = {
    "string": documents.text,
    "boolean": documents.boolean,
    "integer": documents.whole("integer"),
    "long": documents.whole("long"),
    "float": _number,
    "double": _number,
    "blob": _blob,
    "timestamp": _timestamp,
}


def _time(form: str) -> Convert:
    if form in ("iso8601", "rfc822"):
        return lambda value: wire.time_text(wire.seconds_of(value), form)
    return lambda value: wire.plain_time(wire.seconds_of(value))


def _finite(value: Any) -> Any:
    return value if math.isfinite(value) else wire.float_text(value)


_WRITERS: dict[str, Convert] = {
    "float": _finite,
    "double": _finite,
}
