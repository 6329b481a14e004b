"""The first health check of a new server, made by us: HAProxy makes its own only when a whole interval has passed.

A server that is new is asked as HAProxy would ask it, at once and again until it passes or HAProxy's own check is due:
over TLS without a look at its certificate, in HTTP/2 where TLS agrees to it or the server is known to speak it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from minicloud.proxy import h2_request
from minicloud.proxy.health import HealthCheck

log = logging.getLogger(__name__)

AGAIN_S = 0.1  # ours: between two attempts at a server that has not passed
ANSWER_S_MAX = 5.0
HEAD_BYTES_MAX = 8_192
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_PROXY_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"  # PROXY protocol 2.2: LOCAL, for nobody
NO_MESSAGE = bytes(5)  # gRPC: a message without a field, as HealthCheckRequest is of the whole server
_GRPC = (("content-type", "application/grpc"), ("te", "trailers"))
Place = tuple[str, str]  # backend, server


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that has not passed a check. `seconds`: how long it is tried, from when it is first heard of.

    `tls`, `h2`, `proxy_v2`: how it is spoken to otherwise (config.Server).
    """

    address: str
    port: int
    check: HealthCheck
    seconds: float
    tls: bool = False
    h2: bool = False
    proxy_v2: bool = False


class FirstChecks:
    """`passed` is told of each that passes. Belongs to one event loop."""

    def __init__(self, passed: Callable[[Place], Awaitable[None]]) -> None:
        self._passed = passed
        self._tried: dict[Place, Candidate] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}

    def follow(self, candidates: Mapping[Place, Candidate]) -> None:
        """These, and no others: each is tried once for its time."""
        for place in self._tried.keys() - candidates.keys():
            self._forget(place)
        for place, one in candidates.items():
            if self._tried.get(place) != one:
                self._forget(place)
                self._tried[place] = one
                self._tasks[place] = asyncio.create_task(self._try(place, one))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for place in list(self._tried):
            self._forget(place)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, place: Place) -> None:
        self._tried.pop(place, None)
        task = self._tasks.pop(place, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def _try(self, place: Place, one: Candidate) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + one.seconds
        try:
            while loop.time() < until:
                if await passes(one):
                    await self._passed(place)
                    return
                await asyncio.sleep(AGAIN_S)
        except Exception:
            log.exception("the first check of %s/%s", *place)


async def passes(one: Candidate) -> bool:
    """One check: a connection, or a request whose answer is an expected one."""
    with contextlib.suppress(OSError, TimeoutError, EOFError, asyncio.LimitOverrunError, h2_request.Refused):
        async with asyncio.timeout(min(one.check.timeout_ms / 1000 or ANSWER_S_MAX, ANSWER_S_MAX)):
            return expected(await answer(one), one.check)
    return False


def expected(code: str, check: HealthCheck) -> bool:
    """Whether an answer passes; "" is that of a check that asks for nothing."""
    pairs = (span.partition("-") for span in check.expect.split(","))
    return not check.path or (
        code.isdecimal() and any(int(low) <= int(code) <= int(high or low) for low, _, high in pairs)
    )


async def answer(one: Candidate) -> str:
    """The code that a server answers with, "" where there is none.

    Raises OSError, EOFError, LimitOverrunError, h2_request.Refused.
    """
    check = one.check
    reader, writer = await asyncio.open_connection(one.address, check.port or one.port, limit=HEAD_BYTES_MAX)
    try:
        return await _asked(reader, writer, one)
    finally:
        writer.transport.abort()


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, one: Candidate) -> str:
    check, h2 = one.check, one.h2
    if one.proxy_v2 and not check.port:  # HAProxy manual, `check-send-proxy`: not where the check has its own port
        writer.write(_PROXY_LOCAL)
    tls = one.tls if check.tls is None else check.tls
    if tls:
        await writer.start_tls(_TLS_H2 if h2 else _TLS)
        h2 = writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    if not check.path:
        return ""
    if not h2:
        return await _asked_h1(reader, writer, check)
    agent = (("user-agent", check.agent),) if check.agent else ()
    method, extra = ("POST", _GRPC) if check.grpc else ("GET", agent)
    first = ((":method", method), (":scheme", "https" if tls else "http"), (":authority", "health"))
    head = (*first, (":path", check.path), *extra)
    found = await h2_request.ask(reader, writer, head, NO_MESSAGE if check.relay else b"")
    status = found.get(":status", "")
    return status if not check.grpc else found.get("grpc-status", "") if status == "200" else ""


async def _asked_h1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, check: HealthCheck) -> str:
    agent = f"User-Agent: {check.agent}\r\n" if check.agent else ""
    more = f"{check.header[0]}: {check.header[1]}\r\n" if check.header[0] else ""
    writer.write(f"GET {check.path} HTTP/1.1\r\nHost: health\r\n{agent}{more}Connection: close\r\n\r\n".encode())
    match = _STATUS.match(await reader.readuntil(b"\n"))
    return match[1].decode() if match is not None else ""


def _unverified(*alpn: str) -> ssl.SSLContext:
    """As HAProxy's `ssl verify none`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


_TLS, _TLS_H2 = _unverified(), _unverified("h2")
