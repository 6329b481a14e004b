"""uvicorn without its two open doors: requests that never end, and heads and bodies without bound.

uvicorn has no timeout for a request's head or body and no limit of their size (a 100 KB header reaches the application,
a slow-loris connection stays for ever). Each connection here runs one timer:

    connected, or between requests with some bytes of the next  -> head_s   -> closed without an answer
    head complete                                               -> body_s   -> closed without an answer
    head over head_bytes                                        -> 431, closed
    body over body_bytes                                        -> 413, closed

`serve` embeds the server in the running loop: it installs no signal handlers, ends no process, polls nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from minicloud.base.errors import Unavailable
from minicloud.base.limits import HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX

App = Callable[..., Any]  # ASGI 3: async (scope, receive, send)
CONNECTIONS_MAX = 4_096  # answered 503 beyond it
KEEP_ALIVE_S = 30
GRACE_S = 2


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Of one request."""

    head_s: float = 10.0
    body_s: float = 30.0
    head_bytes: int = HTTP_HEAD_BYTES_MAX
    body_bytes: int = HTTP_BODY_BYTES_MAX


class _Refused(Exception):
    """Stops the parser; what is said to the peer is kept beside it."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection. Between `on_headers_complete` and `on_message_complete` it is in a body, else in a head."""

    def __init__(self, *args: Any, limits: HttpLimits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._in_head = True
        self._count = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._refusal: tuple[int, str] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._in_head:
            self._count += len(data)
        super().data_received(data)
        if self._in_head and self._count > self._limits.head_bytes and self._refusal is None:
            self._refusal = (431, "The head of the request is too large.")
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:  # armed already where it is the connection's first
            self._arm(self._limits.head_s)

    def on_headers_complete(self) -> None:
        head = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if head > self._limits.head_bytes:
            self._refuse(431, "The head of the request is too large.")
        self._in_head = False
        self._count = 0
        self._arm(self._limits.body_s)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._count += len(body)
        if self._count > self._limits.body_bytes:
            self._refuse(413, "The body of the request is too large.")
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = True
        self._count = 0
        self._disarm()
        super().on_message_complete()

    def _refuse(self, status: int, text: str) -> None:
        self._refusal = (status, text)
        raise _Refused  # becomes a parser error, which calls send_400_response

    def send_400_response(self, msg: str) -> None:
        status, text = self._refusal or (400, "The request is not well-formed HTTP.")
        self._refusal = (status, text)
        self._disarm()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = text.encode()
            head = f"content-type: text/plain\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[status] + head.encode() + body)
        self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        self.transport.close()


class HttpServer(uvicorn.Server):
    """A running server. `port` is the port it listens on; `stop` ends it."""

    def __init__(self, app: App, limits: HttpLimits) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=partial(GuardedProtocol, limits=limits),  # type: ignore[arg-type]  # called, never subclassed
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self.port = 0
        self._up = asyncio.Event()
        self._ending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> None:
        """Raises Unavailable where the address cannot be had."""
        listener = _bind(host, port)
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self.serve([listener]))
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait([up, self._task], return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Take no new connections, let running requests end within the grace. Idempotent."""
        self._ending.set()
        if self._task is not None:
            await asyncio.wait([self._task])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def main_loop(self) -> None:
        while not self._ending.is_set():
            await self.on_tick(0)  # refreshes the Date header
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), 1.0)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield  # signals belong to the process that embeds us


async def serve(app: App, host: str, port: int, limits: HttpLimits | None = None) -> HttpServer:
    """Serve an ASGI application in the running loop; port 0: a free one. Raises Unavailable (address taken)."""
    server = HttpServer(app, limits or HttpLimits())
    await server.start(host, port)
    return server


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
