"""HTTP/1.1 for the AWS face: one protocol object a connection, no framework. Behind the front door.

    bytes -> httptools -> Request -> application -> Answer -> bytes

Requests of a connection are answered one after the other; a few more may be read ahead, then reading stops. A caller
that goes away ends its request. What is bounded, and what happens beyond it:

    head: bytes and lines of headers    431, closed        body: the application's bound    413, closed
    head: 10 s, body: 30 s without end  closed             bodies of all connections        503, closed
    connections                         closed at once     silent between requests: 75 s    closed

Deadlines are looked at once a second for all connections together, so a request costs no timer. Nothing ambiguous is
let in: two lengths, a length beside chunks, or bytes that are not HTTP are answered 400 and the connection is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Protocol

import httptools

from minicloud.aws.wire import Answer, Request
from minicloud.base.errors import CloudError, InvalidRequest, MessageTooLarge, Unavailable
from minicloud.base.limits import HTTP_HEAD_BYTES_MAX

log = logging.getLogger("minicloud.aws")

HEADERS_MAX = 256  # ours: lines of a head
READ_AHEAD_MAX = 8  # requests of one connection that wait for their turn
CONNECTIONS_MAX = 4_096
HEAD_S, BODY_S, IDLE_S = 10.0, 30.0, 75.0
BODIES_BYTES_MAX = 256 * 1024 * 1024  # ours: what half-read and waiting bodies of all connections may take
GRACE_S = 2.0
LINGER_S, LINGER_BYTES_MAX = 2.0, 64 * 1024 * 1024  # for whoever sends on after a refusal
_STATUS_LINES = {one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n" for one in HTTPStatus}
NAMES_KEPT_MAX = 1_024
_NAMES: dict[bytes, str] = {}
Handler = Callable[[Request], Awaitable[Answer]]
Welcome = Callable[[Request], bool]


class Application(Protocol):
    body_bytes_max: int

    async def handle(self, request: Request) -> Answer:
        """Never raises but CancelledError."""
        ...

    def refuse(self, request: Request, error: CloudError) -> Answer:
        """The answer to a request that could not be read to its end."""
        ...


@dataclass(slots=True)
class _Pending:
    request: Request
    keep_alive: bool


class _Stop(Exception):
    """Ends the parser in the middle of a request; what is answered is kept beside it."""


class Connection(asyncio.Protocol):
    """Reading is in a head, in a body, or at rest; writing is the business of one task that serves the requests."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._app = server.app
        self._parser: Any = None
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[_Pending] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._refusal: CloudError | None = None
        self._paused = False
        self._thrown = 0
        self._read = 0  # bytes of the head or the body that is being read
        self._in_body = False
        self.busy = False
        self.deadline = 0.0
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self._lines = 0
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_body = False

    # --- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        peer = transport.get_extra_info("peername")
        self._peer = str(peer[0]) if peer else ""
        self.deadline = self._server.now + HEAD_S
        if not self._server.enter(self):
            transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self._server.leave(self, self._body_bytes + sum(len(one.request.body) for one in self._waiting))
        self._waiting.clear()
        self._body_bytes = 0
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._thrown += len(data)
            if self._thrown > LINGER_BYTES_MAX:
                self._transport.abort()
            return
        if not self._in_body:
            if self._read == 0 and not self.busy:
                self.deadline = self._server.now + HEAD_S
            self._read += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(InvalidRequest("The connection cannot be upgraded.", code="MalformedRequest"))
        except httptools.HttpParserError:
            self._fail(self._refusal or InvalidRequest("The request is not well-formed HTTP.", code="MalformedRequest"))
        if not self._in_body and self._read > HTTP_HEAD_BYTES_MAX + len(data) and self._refusal is None:
            self._fail(_head_too_large())

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > HTTP_HEAD_BYTES_MAX:
            self._stop(_head_too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        self._head_bytes += len(name) + len(value) + 4
        if self._lines > HEADERS_MAX or self._head_bytes > HTTP_HEAD_BYTES_MAX:
            self._stop(_head_too_large())
        key, text = _NAMES.get(name) or _name(name), value.decode("latin-1")
        known = self._headers.get(key)
        if known is None:
            self._headers[key] = text
        else:
            self._repeated.setdefault(key, [known]).append(text)
            self._headers[key] = f"{known},{text}"

    def on_headers_complete(self) -> None:
        if len(self._url) + self._head_bytes > HTTP_HEAD_BYTES_MAX:
            self._stop(_head_too_large())
        self._in_body = True
        self._read = 0
        self.deadline = self._server.now + BODY_S
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._app.body_bytes_max:
            self._stop(_body_too_large(self._app.body_bytes_max))
        if self._headers.get("expect", "").lower() == "100-continue" and self._task is None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._body_bytes + len(body) > self._app.body_bytes_max:
            self._stop(_body_too_large(self._app.body_bytes_max))
        if not self._server.take(len(body)):
            self._stop(Unavailable("The cloud reads too many large requests at the moment; retry."))
        self._body_bytes += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._request(b"".join(self._body))
        self._begin()  # the bytes of the body are the pending request's from here
        self._read = 0
        self._waiting.append(_Pending(request, self._parser.should_keep_alive()))
        self.busy = True
        if self._task is None:
            self._task = self._server.loop.create_task(self._serve())
        if len(self._waiting) >= READ_AHEAD_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _request(self, body: bytes) -> Request:
        path, _, query = self._url.decode("latin-1").partition("?")
        if not path.startswith("/") and "://" in path:  # a whole URL, as for a proxy
            path = "/" + path.partition("://")[2].partition("/")[2]
        method = self._parser.get_method().decode("latin-1")
        return Request(method, path, query.partition("#")[0], self._headers, body, self._peer, self._repeated)

    # --- answering

    async def _serve(self) -> None:
        """Everything that waits, in order; then this task ends."""
        try:
            while self._waiting:
                pending = self._waiting.popleft()
                try:
                    answer = await self._server.route(pending.request)
                finally:
                    self._server.give(len(pending.request.body))
                await self._write(answer, pending)
                if not pending.keep_alive or self._refusal is not None:
                    break
                self._resume()
        except asyncio.CancelledError:
            self._transport.close()
            raise
        except Exception:
            log.exception("a connection fails")
            self._transport.close()
        finally:
            self._task = None
        self._rest()

    def _rest(self) -> None:
        """Between requests."""
        self.busy = False
        self.deadline = self._server.now + (BODY_S if self._in_body else HEAD_S if self._read else IDLE_S)
        if self._refusal is not None:
            self._say(self._refusal)

    def _resume(self) -> None:
        if self._paused and len(self._waiting) < READ_AHEAD_MAX // 2:
            self._paused = False
            self._transport.resume_reading()

    async def _write(self, answer: Answer, pending: _Pending) -> None:
        head_only = pending.request.method == "HEAD"
        body = answer.body
        if isinstance(body, bytes):
            self._transport.write(self._head(answer, pending.keep_alive, len(body)) + (b"" if head_only else body))
        elif isinstance(body, tuple):
            head = self._head(answer, pending.keep_alive, sum(map(len, body)))
            self._transport.writelines((head,) if head_only else (head, *body))
        else:
            self._transport.write(self._head(answer, pending.keep_alive, None))
            if not head_only:
                await self._stream(body)
        if not pending.keep_alive:
            self._transport.close()
        elif not self._writable.is_set():
            await self._writable.wait()

    async def _stream(self, body: AsyncIterator[bytes]) -> None:
        async for chunk in body:
            if chunk:
                self._transport.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                await self._writable.wait()
        self._transport.write(b"0\r\n\r\n")

    def _head(self, answer: Answer, keep_alive: bool, length: int | None) -> bytes:
        parts = [_STATUS_LINES.get(answer.status) or f"HTTP/1.1 {answer.status} -\r\n", self._server.date]
        if answer.status != 204:
            parts.append(f"content-type: {_clean(answer.content_type)}\r\n")
            parts.append("transfer-encoding: chunked\r\n" if length is None else f"content-length: {length}\r\n")
        parts += [f"{name}: {_clean(value)}\r\n" for name, value in answer.headers]
        parts.append("\r\n" if keep_alive else "connection: close\r\n\r\n")
        return "".join(parts).encode("latin-1", "replace")

    # --- refusing

    def _stop(self, error: CloudError) -> None:
        self._refusal = error
        raise _Stop  # the parser turns it into an error, which ends in _fail

    def _fail(self, error: CloudError) -> None:
        """The connection can be read no further: what came before is answered, then this, then it is closed."""
        self._refusal = error
        self._server.give(self._body_bytes)
        self._body_bytes = 0
        self._transport.pause_reading()
        if self._task is None:
            self._say(error)

    def _say(self, error: CloudError) -> None:
        if self._transport.is_closing():
            return
        answer = self._app.refuse(self._request(b""), error)
        if error.code == "RequestHeaderSectionTooLarge":
            answer.status = 431
        assert isinstance(answer.body, bytes)
        self._transport.write(self._head(answer, keep_alive=False, length=len(answer.body)) + answer.body)
        self._linger()

    def _linger(self) -> None:
        """What is still coming is read and thrown away for a moment: closing at once would take the answer back."""
        self.busy = False
        self.deadline = self._server.now + LINGER_S
        self._transport.write_eof()
        self._transport.resume_reading()

    def late(self) -> None:
        """The deadline has passed."""
        self._transport.close()

    def stop(self) -> None:
        if self._task is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def _name(raw: bytes) -> str:
    """In lower case. SDKs send the same few names all the time, so they are remembered."""
    name = raw.decode("latin-1").lower()
    if len(_NAMES) < NAMES_KEPT_MAX:
        _NAMES[raw] = name
    return name


def _clean(value: str) -> str:
    return value if value.isprintable() else "".join(char if char.isprintable() else " " for char in value)


def _head_too_large() -> CloudError:
    return InvalidRequest("The head of the request is too large.", code="RequestHeaderSectionTooLarge")


def _body_too_large(most: int) -> CloudError:
    text = f"The body of the request is larger than {most} bytes."
    return MessageTooLarge(text, code="RequestEntityTooLarge")


class HttpServer:
    """A listening server. `others`: paths of minicloud's that begin so (a key that begins with a slash), and host names
    that have so in them (a key that begins with a dot), go to another handler. Who is not `welcome` is answered 403; a
    request with a header of the name of any other key is not asked, but has to prove itself to its handler.
    """

    def __init__(
        self, app: Application, others: Mapping[str, Handler] | None = None, welcome: Welcome | None = None
    ) -> None:
        self.app = app
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time()
        self.date = ""
        self.port = 0
        given = (others or {}).items()
        self._paths = {key: one for key, one in given if key.startswith("/")}
        self._hosts = {key: one for key, one in given if key.startswith(".")}
        self._headed = {key: one for key, one in given if not key.startswith(("/", "."))}
        self._welcome = welcome
        self._connections: set[Connection] = set()
        self._empty = asyncio.Event()
        self._bodies = 0
        self._server: asyncio.Server | None = None
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises Unavailable where the address cannot be had."""
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from None
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._server = await self.loop.create_server(lambda: Connection(self), sock=listener, backlog=1024)
        self._tick()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """No new connections; running requests may end within the grace."""
        if self._server is not None:
            self._server.close()
        if self._ticking is not None:
            self._ticking.cancel()
        for one in list(self._connections):
            one.stop()
        if self._connections:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), grace_s)
        for one in list(self._connections):
            one.abort()
        await asyncio.sleep(0)

    def route(self, request: Request) -> Awaitable[Answer]:
        for header, handler in self._headed.items():
            if header in request.headers:
                return handler(request)
        if self._welcome is not None and not self._welcome(request):
            return _forbidden()
        if request.path.startswith("/_minicloud"):
            for prefix, handler in self._paths.items():
                if request.path.startswith(prefix):
                    return handler(request)
        if self._hosts:
            host = request.headers.get("host", "").lower()
            for part, handler in self._hosts.items():
                if part in host:
                    return handler(request)
        return self.app.handle(request)

    # --- connections

    def enter(self, connection: Connection) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= CONNECTIONS_MAX

    def leave(self, connection: Connection, held: int) -> None:
        self._connections.discard(connection)
        self._bodies -= held
        if not self._connections:
            self._empty.set()

    def take(self, count: int) -> bool:
        """Room for so many bytes of a body."""
        if self._bodies + count > BODIES_BYTES_MAX:
            return False
        self._bodies += count
        return True

    def give(self, count: int) -> None:
        self._bodies -= count

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.date = f"date: {formatdate(usegmt=True)}\r\n"
        for one in list(self._connections):
            if not one.busy and one.deadline < self.now:
                one.late()
        self._ticking = self.loop.call_later(1.0, self._tick)


async def serve(
    app: Application,
    host: str,
    port: int,
    others: Mapping[str, Handler] | None = None,
    welcome: Welcome | None = None,
) -> HttpServer:
    """Serve in the running loop; port 0: a free one. Raises Unavailable (address taken)."""
    server = HttpServer(app, others, welcome)
    await server.start(host, port)
    return server


async def _forbidden() -> Answer:
    return Answer(403, "text/plain", b"minicloud: not for web pages, and not under this host name")


def of_asgi(app: Callable[..., Awaitable[None]]) -> Handler:
    """A handler out of an ASGI application that answers in one piece."""

    async def handle(request: Request) -> Answer:
        answer = Answer(500, "text/plain", b"")
        chunks: list[bytes] = []
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": request.query.encode("latin-1"),
            "headers": [(key.encode("latin-1"), text.encode("latin-1")) for key, text in request.headers.items()],
            "client": (request.peer, 0),
        }

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
                answer.content_type = dict(pairs).get("content-type", "text/plain")
                answer.headers = [one for one in pairs if one[0] not in ("content-type", "content-length")]
            else:
                chunks.append(message.get("body", b""))

        with contextlib.suppress(asyncio.IncompleteReadError):
            await app(scope, receive, send)
        answer.body = b"".join(chunks)
        return answer

    return handle
