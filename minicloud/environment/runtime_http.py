"""HTTP/1.1 as much as Lambda's Runtime API needs, as a protocol of asyncio: no task, one write an event.

A general server would cost more than the invocation itself. What is read: a request line, headers, a body by
Content-Length or chunked, `Expect: 100-continue`, `Connection: close`. Anything else ends the connection with 400.
Requests may be pipelined; a runtime that sends an answer and the request for the next event in one packet is answered
in one packet, when there is an event.

Who is on the other side is a stranger: heads and bodies are bounded, a body that is too long is read and thrown away,
so that the refusal can be read. Who sends on while it waits for an event is not read any further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from minicloud.environment.limits import HEAD_BYTES_MAX, RESPONSE_BYTES_MAX

_REASONS = {
    100: "Continue",
    200: "OK",
    202: "Accepted",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    413: "Request Entity Too Large",
}
_CHUNK_HEAD_BYTES_MAX = 1_024
_WITHOUT_BODY: dict[str, str] = {}


class Api(Protocol):
    """What answers. `handle` returns the reply, or None where it will come later."""

    def handle(
        self, connection: Connection, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> bytes | None: ...

    def too_long(self, path: str) -> bytes:
        """The reply to a body that was thrown away."""
        ...

    def read(self, connection: Connection) -> None:
        """A packet was read to its end, or to a request whose reply will come later."""
        ...

    def streams(self, connection: Connection, method: str, path: str, headers: Mapping[str, str]) -> BodySink | None:
        """Who takes this request's body while it comes; None: it is wanted whole."""
        ...

    def opened(self, connection: Connection) -> bool:
        """False: one too many."""
        ...

    def closed(self, connection: Connection) -> None: ...


class BodySink(Protocol):
    """Takes a body while it comes."""

    def feed(self, data: bytes) -> None: ...

    def finish(self, trailers: Mapping[str, str]) -> bytes | None:
        """The whole body was there; returns the reply, as `Api.handle` does."""
        ...

    def broken(self) -> None:
        """The connection closed before the body's end."""
        ...


class BadRequest(Exception):
    """Not what we speak; the connection ends."""


def reply(status: int, body: bytes, headers: str = "", content_type: str = "application/json") -> bytes:
    """`headers`: whole lines."""
    kind = f"Content-Type: {content_type}\r\n" if body else ""
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{kind}{headers}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii", "replace") + body


class Connection(asyncio.Protocol):
    """One connection of a runtime."""

    def __init__(self, api: Api, *, own: bool = False) -> None:
        """`own`: the one that the runtime was born with."""
        self.own = own
        self._api = api
        self._transport: Any = None
        self._buffer = bytearray()
        self._request: _Request | None = None
        self._usual: tuple[bytes, tuple[str, str, dict[str, str]]] = (
            b"",
            ("", "", {}),
        )  # a runtime asks again and again
        self._unsent: list[bytes] = []
        self._waiting = False  # for `answer`: what comes behind it waits, too
        self._last = False
        self._held: set[str] = set()  # why nothing is read at the moment

    # ------------------------------------------------------------ of asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if not self._api.opened(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._request is not None and self._request.sink is not None:
            self._request.sink.broken()
        self._request = None
        self._api.closed(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._read()
        except (BadRequest, ValueError) as error:
            self._unsent.append(reply(400, f'{{"errorMessage":"{type(error).__name__}"}}'.encode()))
            self._last = True
            self._waiting = False
        if not self._waiting:
            self._send()
            return
        if len(self._buffer) > HEAD_BYTES_MAX:
            self.hold("ahead")
        self._api.read(self)

    # ------------------------------------------------------------ for the API

    def answer(self, data: bytes) -> None:
        """The reply that was put off."""
        self._unsent.append(data)
        self._waiting = False
        self._send()
        self.let("ahead")
        if self._buffer:
            self.data_received(b"")

    def hold(self, why: str) -> None:
        """Nothing is read until every reason is gone (`let`)."""
        if not self._held and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        self._held.add(why)

    def let(self, why: str) -> None:
        if why not in self._held:
            return
        self._held.remove(why)
        if not self._held and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ reading

    def _send(self) -> None:
        if self._transport is None or not self._unsent:
            return
        self._transport.write(self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent))
        self._unsent.clear()
        if self._last:
            self._transport.close()

    def _read(self) -> None:
        while self._buffer and not self._waiting and not self._last:
            if self._request is None:
                self._request = self._head()
                if self._request is None:
                    return
            request = self._request
            if not request.take(self._buffer):
                return
            self._request = None
            self._last = request.last
            self._reply(request)

    def _reply(self, request: _Request) -> None:
        if request.sink is not None:
            said = request.sink.finish(request.trailers)
        elif request.too_long:
            said = self._api.too_long(request.path)
        else:
            said = self._api.handle(self, request.method, request.path, request.headers, request.body())
        if said is None:
            self._waiting = True
        else:
            self._unsent.append(said)

    def _head(self) -> _Request | None:
        end = self._buffer.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(self._buffer) >= HEAD_BYTES_MAX:
                raise BadRequest("a head without end")
            return None
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 4]
        if raw == self._usual[0]:
            return _Request(*self._usual[1])
        first, *lines = raw.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise BadRequest("not HTTP/1")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise BadRequest("a header without a colon")
            headers[name.lower()] = value.strip()
        request = _Request(words[0], words[1], headers)
        if headers:
            self._details(request, words[2])
        if words[0] == "GET" and not (request.left or request.chunked or request.last or "expect" in headers):
            self._usual = raw, (words[0], words[1], headers)
        return request

    def _details(self, request: _Request, version: str) -> None:
        headers = request.headers
        request.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if "transfer-encoding" in headers and (not request.chunked or "content-length" in headers):
            raise BadRequest("a body of two lengths")
        request.left = _length(headers.get("content-length", "0"))
        if "connection" in headers or version == "HTTP/1.0":
            request.last = headers.get("connection", "close").lower() == "close"
        if request.left or request.chunked:
            request.sink = self._api.streams(self, request.method, request.path, headers)
            request.too_long = request.sink is None and request.left > RESPONSE_BYTES_MAX
        if "expect" in headers and headers["expect"].lower() == "100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


class _Request:
    """One request whose body may still be on its way."""

    def __init__(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.method, self.path, self.headers = method, path, headers
        self.left = 0
        self.chunked = False
        self.last = False
        self.too_long = False
        self.sink: BodySink | None = None
        self.trailers: Mapping[str, str] = _WITHOUT_BODY
        self._parts: list[bytes] = []
        self._size = 0
        self._in_trailers = False
        self._trailer_bytes = 0

    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def take(self, buffer: bytearray) -> bool:
        """What the buffer has of the body. True: that was all."""
        if self.chunked:
            return self._take_chunks(buffer)
        if self.left:
            self._take(buffer, self.left)
        return not self.left

    def _take(self, buffer: bytearray, size: int) -> None:
        part = bytes(memoryview(buffer)[:size])
        del buffer[: len(part)]
        self.left -= len(part)
        self._size += len(part)
        if self.sink is not None:
            self.sink.feed(part)
        elif self._size > RESPONSE_BYTES_MAX or self.too_long:
            self.too_long = True
            self._parts.clear()
        else:
            self._parts.append(part)

    def _take_chunks(self, buffer: bytearray) -> bool:
        while not self._in_trailers:
            if self.left:
                if not buffer:
                    return False
                self._take(buffer, self.left)
                continue
            if buffer[:2] == b"\r\n" and self._size:
                del buffer[:2]
            line = self._line(buffer)
            if line is None:
                return False
            self.left = int(line.partition(";")[0], 16)
            if self.left < 0:
                raise BadRequest("a chunk of less than nothing")
            self._in_trailers = not self.left
        while (line := self._line(buffer)) is not None:
            if not line:
                return True
            self._trailer_bytes += len(line)
            if self._trailer_bytes > HEAD_BYTES_MAX:
                raise BadRequest("trailers without end")
            name, _, value = line.partition(":")
            self.trailers = {**self.trailers, name.lower(): value.strip()}
        return False

    def _line(self, buffer: bytearray) -> str | None:
        limit = HEAD_BYTES_MAX if self._in_trailers else _CHUNK_HEAD_BYTES_MAX
        end = buffer.find(b"\r\n", 0, limit)
        if end < 0:
            if len(buffer) >= limit:
                raise BadRequest("a line without end")
            return None
        line = buffer[:end].decode("latin-1")
        del buffer[: end + 2]
        return line


def _length(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadRequest("not a length")
    return int(text)
