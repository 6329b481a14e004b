"""CBOR as a document (documents.py): Smithy's rpc-v2-cbor. Blobs and numbers are themselves, times are tag 1.

A decoder of CBOR does much more than is wanted here (regular expressions, big numbers, shared references): every tag
but that of times is refused.
"""

from __future__ import annotations

from typing import Any

import cbor2

from minicloud.aws import documents, wire
from minicloud.aws.documents import NOTHING, Convert
from minicloud.aws.model import Shape
from minicloud.aws.wire import BadInput

DEPTH_MAX = 64  # ours: of what is in a request
_TIME = 1
_TAGS = (0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)


class Moment(float):
    """Seconds under tag 1."""


def _moment(value: Any, *_: Any) -> Moment:
    if type(value) not in (int, float):
        raise ValueError("a time is a number")
    return Moment(value)


def _refuse(*_: Any) -> Any:
    raise ValueError("a tag that has no place here")


_DECODERS: dict[int, Any] = {**dict.fromkeys(_TAGS, _refuse), _TIME: _moment}


def loads(raw: bytes) -> Any:
    """Raises BadInput."""
    if not raw:
        return {}
    try:
        return cbor2.loads(raw, semantic_decoders=_DECODERS, tag_hook=_refuse, max_depth=DEPTH_MAX)
    except Exception:  # noqa: BLE001  # whatever a decoder says of a stranger's bytes
        raise BadInput("The body of the request is not well-formed CBOR.") from None


def dumps(value: Any) -> bytes:
    return cbor2.dumps(value)


def reader(shape: Shape | None) -> Convert:
    return documents.Reader(_READERS).convert(shape or NOTHING)


def writer(shape: Shape | None) -> Convert | None:
    """None: the value is written as it is."""
    return documents.Writer({}, lambda _form: _tagged).convert(shape or NOTHING)


def _blob(value: Any) -> bytes:
    if type(value) is not bytes:
        raise BadInput("it must be bytes")
    return value


def _timestamp(value: Any) -> float:
    seconds = float(value) if type(value) is Moment else documents.number(value)
    if seconds != seconds:
        raise BadInput("it must be a point in time")
    return wire.checked_time(seconds)


def _tagged(value: Any) -> Any:
    return cbor2.CBORTag(_TIME, wire.plain_time(wire.seconds_of(value)))


_READERS: dict[str, Convert] = {
    "string": documents.text,
    "boolean": documents.boolean,
    "integer": documents.whole("integer"),
    "long": documents.whole("long"),
    "float": documents.number,
    "double": documents.number,
    "blob": _blob,
    "timestamp": _timestamp,
}
