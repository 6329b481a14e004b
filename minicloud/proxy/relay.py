"""Health checks that HAProxy cannot make, made in its stead: calls by gRPC with a message, whose code comes last.

HAProxy asks here as it would ask the server, and says which it means (`http-check send-state`); interval, thresholds
and states stay its own:

    the server's code is an expected one    200
    another code                            400 and the code
    no such answer                          the connection ends
    none in time                            none either: HAProxy's own time runs

Only servers that HAProxy has are asked, so who else comes here gains nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable

from minicloud.proxy import h2_request
from minicloud.proxy.first_checks import Candidate, Place, answer, expected

HEAD_BYTES_MAX = 4_096
HEAD_S_MAX = 5.0  # ours
_STATE = re.compile(rb"^x-haproxy-server-state:[^\r\n]*[; ]name=([^/;\s]+)/([^;\s]+)", re.IGNORECASE | re.MULTILINE)
_BASE = 400


def grpc_code(status: str) -> str:
    """The code that an answer from here stands for."""
    return str(int(status) - _BASE) if status.isdecimal() and int(status) >= _BASE else status


class Relay:
    """Belongs to one event loop. `find`: how a server is checked, None: HAProxy has none of this name."""

    def __init__(self, find: Callable[[Place], Candidate | None]) -> None:
        self._find = find
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """The port, of this machine alone."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(
                OSError, TimeoutError, EOFError, asyncio.LimitOverrunError, h2_request.Refused, ValueError
            ):
                async with asyncio.timeout(HEAD_S_MAX):
                    head = await reader.readuntil(b"\r\n\r\n")
                status = await self._status(head)
                writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        finally:
            writer.close()

    async def _status(self, head: bytes) -> int:
        """Raises ValueError: nobody that HAProxy has is meant; and as `answer`."""
        named = _STATE.search(head)
        one = self._find((named[1].decode(), named[2].decode())) if named is not None else None
        if one is None:
            raise ValueError("no server of this name")
        async with asyncio.timeout(one.check.timeout_ms / 1000 + 1):  # HAProxy hangs up before
            code = await answer(one)
        return 200 if expected(code, one.check) else _BASE + int(code)
