"""Event streams: frames of vnd.amazon.eventstream around the events that a door yields.

frame: length, length of the headers, CRC of both | headers | payload | CRC of all          (big endian)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from minicloud.aws import jsons
from minicloud.aws.model import Shape
from minicloud.base.errors import CloudError

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_TEXT = 7  # the type of a header's value


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    head = b"".join(
        bytes((len(name),)) + name.encode() + struct.pack(">BH", _TEXT, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    start = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    whole = start + struct.pack(">I", zlib.crc32(start)) + head + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def encoder(stream: Shape) -> Callable[[AsyncIterator[dict[str, Any]] | None], AsyncIterator[bytes]]:
    """For an output member that is an event stream: its events, as the door yields them, become frames."""
    encode = {name: _event(name, member.shape) for name, member in stream.members.items()}

    async def frames(events: AsyncIterator[dict[str, Any]] | None) -> AsyncIterator[bytes]:
        if events is None:
            return
        try:
            async for event in events:
                for name, value in event.items():
                    yield encode[name](value)
        except CloudError as error:
            headers = {":message-type": "exception", ":exception-type": error.code, ":content-type": "application/json"}
            yield frame(headers, jsons.dumps({"message": error.message}))

    return frames


def _event(name: str, shape: Shape) -> Callable[[dict[str, Any]], bytes]:
    headers = {":message-type": "event", ":event-type": name}
    if shape.event_payload:
        member, key = shape.members[shape.event_payload], shape.event_payload
        if member.shape.kind == "blob":
            headers[":content-type"] = "application/octet-stream"
            return lambda value: frame(headers, value.get(key, b""))
    headers[":content-type"] = "application/json"
    convert = jsons.writer(shape)
    return lambda value: frame(headers, jsons.dumps(value if convert is None else convert(value)))
