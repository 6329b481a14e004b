"""One HTTP/2 request without a body on a fresh connection, and the headers that answer it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event, ResponseReceived, StreamReset
from h2.exceptions import ProtocolError

READ_BYTES = 16_384


class Refused(Exception):
    """What answered speaks no HTTP/2, or does not answer this request."""


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """The answer's headers, `:status` among them. Raises Refused, EOFError, OSError."""
    connection = H2Connection()
    connection.initiate_connection()
    connection.send_headers(connection.get_next_available_stream_id(), headers, end_stream=True)
    while True:
        writer.write(connection.data_to_send())
        data = await reader.read(READ_BYTES)
        if not data:
            raise EOFError("the connection ended before the answer")
        try:
            events = connection.receive_data(data)
        except ProtocolError as error:
            raise Refused(str(error)) from error
        for event in events:
            if isinstance(event, ResponseReceived):
                return _text(event)
            _check(event)


def _check(event: Event) -> None:
    if isinstance(event, (StreamReset, ConnectionTerminated)):
        raise Refused(str(event))


def _text(event: ResponseReceived) -> dict[str, str]:
    return {name.decode("ascii", "replace"): value.decode("ascii", "replace") for name, value in event.headers or ()}
