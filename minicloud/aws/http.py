"""HTTP/1.1 for the AWS face: one protocol object a connection, no framework. Behind the front door.

    bytes -> httptools -> Request -> application -> Answer -> bytes

Requests of a connection are answered one after the other; a few more may be read ahead, then reading stops. What the
application can begin in one turn costs no task: it calls back with the answer. Anything else is a task of its own,
which ends when its caller goes away. Requests that are read in one turn of the loop are begun together, after all
reading: between two reads another thread may want Python's lock. What is bounded, and what happens beyond it:

    head: bytes and lines of headers    431, closed        body: the application's bound    413, closed
    head: 10 s, body: 30 s without end  closed             bodies of all, of an account     503, closed
    connections                         closed at once     silent, or takes nothing: 75 s   closed

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
from typing import Any, Protocol

import httptools

from minicloud.aws import bodies, heads
from minicloud.aws.wire import Answer, Request
from minicloud.base.errors import CloudError, InvalidRequest, Unavailable
from minicloud.base.limits import HTTP_HEAD_BYTES_MAX

log = logging.getLogger("minicloud.aws")

HEADERS_MAX = 256  # ours: lines of a head
READ_AHEAD_MAX = 8  # requests of one connection that wait for their turn
CONNECTIONS_MAX = 4_096
TURN_MAX = 16  # ours: connections that go on together; while others do, the disk has what these wrote
HEAD_S, BODY_S, IDLE_S = 10.0, 30.0, 75.0
GRACE_S, LINGER_S, LINGER_BYTES_MAX = 2.0, 2.0, 64 * 1024 * 1024  # linger: for whoever sends on after a refusal
Handler = Callable[[Request], Awaitable[Answer]]
Reply = Callable[[Answer], bool]
Welcome = Callable[[Request], bool]


class Application(Protocol):
    body_bytes_max: int

    def begin(self, request: Request, reply: Reply) -> bool:
        """Does it in this turn, and calls `reply` once with a whole answer, now or later; its False says that the
        caller has gone. False: nothing was done, `handle` it. Never raises, nor does what calls `reply`.
        """
        ...

    async def handle(self, request: Request) -> Answer:
        """Never raises but CancelledError."""
        ...

    def refuse(self, request: Request, error: CloudError) -> Answer:
        """The answer to a request that could not be read to its end."""
        ...

    def claimed(self, request: Request) -> str:
        """Whose it says it is. Never raises."""
        ...


@dataclass(slots=True)
class _Pending:
    request: Request
    keep_alive: bool
    size: int  # of the body as it was read: who verifies or unpacks a request may give it another
    owner: str | None


class _Stop(Exception):
    """Ends the parser in the middle of a request; what is answered is kept beside it."""


class Connection(asyncio.Protocol):
    """Reading is in a head, in a body, or at rest. Of the requests at most one is served: it is begun, or has a task.

    `busy`: one is served, or waits for its turn, or for a slow reader to take the answer before.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._app = server.app
        self._parser: Any = None
        self._transport: Any = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[_Pending] = deque()
        self._begun: _Pending | None = None
        self._going = self._paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._refusal: CloudError | None = None
        self._thrown = self._left = 0
        self._read = 0  # bytes of the head or the body that is being read
        self._in_body = False
        self.busy, self.deadline = False, 0.0
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: dict[str, list[str]] = {}
        self._lines = 0
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._owner: str | None = None  # of a body that is not tiny any more
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
        mine = [*self._waiting, *([self._begun] if self._begun is not None else [])]
        self._server.leave(self)
        for size, owner in [(self._body_bytes, self._owner), *((one.size, one.owner) for one in mine)]:
            self._server.bodies.give(size, owner)
        self._waiting.clear()
        self._begun = None
        self._body_bytes, self._owner = 0, None
        self._writable.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if self.busy:
            self.go_on()

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
            self._fail(InvalidRequest("The request is not well-formed HTTP.", code="MalformedRequest"))
        if not self._in_body and self._read > HTTP_HEAD_BYTES_MAX + len(data) and self._refusal is None:
            self._fail(heads.too_large())

    # --- the parser's callbacks

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > HTTP_HEAD_BYTES_MAX:
            self._stop(heads.too_large())

    def on_header(self, name: bytes, value: bytes) -> None:
        self._lines += 1
        self._head_bytes += len(name) + len(value) + 4
        if self._lines > HEADERS_MAX or self._head_bytes > HTTP_HEAD_BYTES_MAX:
            self._stop(heads.too_large())
        key, text = heads.NAMES.get(name) or heads.name_of(name), value.decode("latin-1")
        known = self._headers.get(key)
        if known is None:
            self._headers[key] = text
        else:
            self._repeated.setdefault(key, [known]).append(text)
            self._headers[key] = f"{known},{text}"

    def on_headers_complete(self) -> None:
        if len(self._url) + self._head_bytes > HTTP_HEAD_BYTES_MAX:
            self._stop(heads.too_large())
        self._in_body = True
        self._read = 0
        self.deadline = self._server.now + BODY_S
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._app.body_bytes_max:
            self._stop(heads.body_too_large(self._app.body_bytes_max))
        if "expect" in self._headers and self._headers["expect"].lower() == "100-continue" and not self.busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._body_bytes + len(body) > self._app.body_bytes_max:
            self._stop(heads.body_too_large(self._app.body_bytes_max))
        owner = self._owner
        if owner is None and self._body_bytes + len(body) > bodies.TINY_BODY_BYTES:
            owner = self._app.claimed(self._request(b""))
        if not self._server.bodies.take(self._body_bytes, len(body), owner):
            self._stop(Unavailable("The cloud reads too many large requests of this account at the moment; retry."))
        self._owner = owner  # not before it was counted: it is given back as it was taken
        self._body_bytes += len(body)
        self._body.append(body)

    def on_message_complete(self) -> None:
        request = self._request(b"".join(self._body))
        self._waiting.append(_Pending(request, self._parser.should_keep_alive(), len(request.body), self._owner))
        self._begin()  # the bytes of the body are the pending request's from here
        self._read = 0
        if not self.busy:
            self.busy = True
            self._server.in_turn(self)
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

    def go_on(self) -> None:
        """Serve what waits, in order, up to the first that has to be waited for. Not within itself."""
        if self._going:
            return
        self._going = True
        while self._waiting and self._is_free():
            pending = self._begun = self._waiting.popleft()
            if not self._server.begin(pending.request, self._answer):
                self._begun = None
                self._task = self._server.loop.create_task(self._serve(pending))
        self._going = False
        self._resume()
        if self._is_free():
            self._rest()

    def _is_free(self) -> bool:
        """The next may be served."""
        rests = self._begun is None and self._task is None and self._writable.is_set()
        return rests and not (self._waiting and self._transport.is_closing())

    def _answer(self, answer: Answer) -> bool:
        """To what was begun. False: its caller has gone."""
        pending, self._begun = self._begun, None
        if pending is None:
            return False
        self._server.bodies.give(pending.size, pending.owner)
        there = not self._transport.is_closing()
        if there:
            assert isinstance(answer.body, bytes | tuple)
            self._write_whole(answer, answer.body, pending)
        self.go_on()
        return there

    async def _serve(self, pending: _Pending) -> None:
        try:
            try:
                answer = await self._server.route(pending.request)
            finally:
                self._server.bodies.give(pending.size, pending.owner)
            await self._write(answer, pending)
        except asyncio.CancelledError:
            self._transport.close()
            raise
        except Exception:
            log.exception("a connection fails")
            self._transport.close()
        finally:
            self._task = None
        self.go_on()

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
        if isinstance(answer.body, bytes | tuple):
            self._write_whole(answer, answer.body, pending)
        else:
            self._transport.write(heads.of(answer, self._server.date, keep_alive=pending.keep_alive, length=None))
            if pending.request.method != "HEAD":
                await self._stream(answer.body)
            if not pending.keep_alive:
                self._transport.close()

    def _write_whole(self, answer: Answer, body: bytes | tuple[bytes, ...], pending: _Pending) -> None:
        length = len(body) if isinstance(body, bytes) else sum(map(len, body))
        head = heads.of(answer, self._server.date, keep_alive=pending.keep_alive, length=length)
        if pending.request.method == "HEAD":
            self._transport.write(head)
        elif isinstance(body, bytes):
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, *body))
        if not pending.keep_alive:
            self._transport.close()

    async def _stream(self, body: AsyncIterator[bytes]) -> None:
        async for chunk in body:
            if chunk:
                self._transport.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                await self._writable.wait()
        self._transport.write(b"0\r\n\r\n")

    # --- refusing

    def _stop(self, error: CloudError) -> None:
        self._refusal = error
        raise _Stop  # the parser turns it into an error, which ends in _fail

    def _fail(self, error: CloudError) -> None:
        """No more is read: what came before is answered, then this or what stopped the parser; then it is closed."""
        self._refusal = error = self._refusal or error
        self._server.bodies.give(self._body_bytes, self._owner)
        self._body_bytes, self._owner = 0, None
        self._transport.pause_reading()
        if not self.busy:
            self._say(error)

    def _say(self, error: CloudError) -> None:
        if self._transport.is_closing():
            return
        answer = self._app.refuse(self._request(b""), error)
        if error.code == "RequestHeaderSectionTooLarge":
            answer.status = 431
        assert isinstance(answer.body, bytes)
        head = heads.of(answer, self._server.date, keep_alive=False, length=len(answer.body))
        self._transport.write(head + answer.body)
        self._linger()

    def _linger(self) -> None:
        """What is still coming is read and thrown away for a moment: closing at once would take the answer back."""
        self.busy = False
        self.deadline = self._server.now + LINGER_S
        self._transport.write_eof()
        self._transport.resume_reading()

    def look(self, now: float) -> None:
        """Once a second: it ends where nothing came, or nothing was taken of what is written, for too long."""
        stuck = not self._writable.is_set()
        if stuck and (left := self._transport.get_write_buffer_size()) != self._left:
            self._left, self.deadline = left, now + IDLE_S
        if self.deadline < now and (stuck or not self.busy):
            (self._transport.abort if stuck else self._transport.close)()

    def stop(self) -> None:
        if not self.busy:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


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
        self._turn: list[Connection] = []
        self._empty = asyncio.Event()
        self.bodies = bodies.Bodies()
        self._servers: list[asyncio.Server] = []
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises Unavailable where the address cannot be had."""
        try:
            listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from None
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        self._servers = [await self.loop.create_server(lambda: Connection(self), sock=listener, backlog=1024)]
        self._tick()

    async def stop(self, grace_s: float = GRACE_S) -> None:
        """No new connections; running requests may end within the grace."""
        for server in self._servers:
            server.close()
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
        return (self._other(request) or self.app.handle)(request)

    def begin(self, request: Request, reply: Reply) -> bool:
        try:
            return self._other(request) is None and self.app.begin(request, reply)
        except Exception:  # of one request; others go on in the same turn
            log.exception("a request cannot begin")
            return False

    def _other(self, request: Request) -> Handler | None:
        """Who answers this instead of the application."""
        for header, handler in self._headed.items():
            if header in request.headers:
                return handler
        if self._welcome is not None and not self._welcome(request):
            return heads.forbidden
        if request.path.startswith("/_minicloud"):
            for prefix, handler in self._paths.items():
                if request.path.startswith(prefix):
                    return handler
        if self._hosts:
            host = request.headers.get("host", "").lower()
            for part, handler in self._hosts.items():
                if part in host:
                    return handler
        return None

    # --- connections

    def in_turn(self, connection: Connection) -> None:
        """It has a request, and is asked to go on once all that has come in this turn is read."""
        if not self._turn:
            self.loop.call_soon(self._serve_turn)
        self._turn.append(connection)

    def _serve_turn(self) -> None:
        turn, self._turn = self._turn[:TURN_MAX], self._turn[TURN_MAX:]
        if self._turn:
            self.loop.call_soon(self._serve_turn)
        for one in turn:
            one.go_on()

    def enter(self, connection: Connection) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= CONNECTIONS_MAX

    def leave(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _tick(self) -> None:
        self.now = self.loop.time()
        self.date = f"date: {formatdate(usegmt=True)}\r\n"
        for one in list(self._connections):
            one.look(self.now)
        self._ticking = self.loop.call_later(1.0, self._tick)


async def serve(
    app: Application, host: str, port: int, others: Mapping[str, Handler] | None = None, welcome: Welcome | None = None
) -> HttpServer:
    """Serve in the running loop; port 0: a free one. Raises Unavailable (taken)."""
    server = HttpServer(app, others, welcome)
    await server.start(host, port)
    return server
