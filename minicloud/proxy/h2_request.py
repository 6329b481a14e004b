"""One HTTP/2 request on a fresh connection, and the headers that answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from h2.exceptions import ProtocolError

READ_BYTES = 16_384
ANSWER_BYTES_MAX = 32_768  # ours: less than what a server may send without being asked for more


class Refused(Exception):
    """What answered speaks no HTTP/2, or does not answer this request."""


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Iterable[tuple[str, str]], body: bytes = b""
) -> dict[str, str]:
    """The answer's headers, `:status` among them; with a body, once it has ended, its trailers too.

    Raises Refused, EOFError, OSError.
    """
    connection = H2Connection()
    connection.initiate_connection()
    stream = connection.get_next_available_stream_id()
    connection.send_headers(stream, headers, end_stream=not body)
    if body:
        connection.send_data(stream, body, end_stream=True)
    found: dict[str, str] = {}
    size = 0
    while True:
        writer.write(connection.data_to_send())
        data = await reader.read(READ_BYTES)
        size += len(data)
        if not data or size > ANSWER_BYTES_MAX:
            raise EOFError("the connection ended before the answer")
        try:
            events = connection.receive_data(data)
        except ProtocolError as error:
            raise Refused(str(error)) from error
        if _take(events, found, whole=bool(body)):
            return found


def _take(events: Sequence[Event], found: dict[str, str], *, whole: bool) -> bool:
    """Whether that is all. Raises Refused."""
    for event in events:
        if isinstance(event, (ResponseReceived, TrailersReceived)):
            for name, value in event.headers or ():
                found[name.decode("ascii", "replace")] = value.decode("ascii", "replace")
            if not whole:
                return True
        elif isinstance(event, StreamEnded):
            return True
        elif isinstance(event, (StreamReset, ConnectionTerminated)):
            raise Refused(str(event))
        elif isinstance(event, DataReceived) and not whole:
            raise Refused("data before headers")
    return False
