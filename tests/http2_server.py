"""A small HTTP/2 server: what it was asked, and one answer for all.

await loop.create_server(lambda: Http2([(":status", "200")], asked), "127.0.0.1", 0, ssl=tls)
"""

from __future__ import annotations

import asyncio
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived

Answer = list[tuple[str, str]] | None


class Http2(asyncio.Protocol):
    """Answers each request on a connection with the same headers; None: it resets the stream."""

    def __init__(self, answer: Answer, asked: list[dict[bytes, bytes]]) -> None:
        self._answer = answer
        self._asked = asked
        self._h2 = H2Connection(H2Configuration(client_side=False))

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._h2.initiate_connection()
        transport.write(self._h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self._asked.append(dict(event.headers))
                if self._answer is None:
                    self._h2.reset_stream(event.stream_id)
                else:
                    self._h2.send_headers(event.stream_id, self._answer, end_stream=True)
        self._transport.write(self._h2.data_to_send())
