"""The first health check of a new server, made by us: HAProxy makes its own only when a whole interval has passed.

A server that is new is asked as HAProxy would ask it, at once and again until it passes or HAProxy's own check is due.
Checks over TLS, HTTP/2 and gRPC are left to HAProxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from minicloud.proxy.config import HealthCheck

log = logging.getLogger(__name__)

AGAIN_S = 0.1  # ours: between two attempts at a server that has not passed
ANSWER_S_MAX = 5.0
HEAD_BYTES_MAX = 8_192
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
Place = tuple[str, str]  # backend, server


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that has not passed a check. `seconds`: how long it is tried, from when it is first heard of."""

    address: str
    port: int
    check: HealthCheck
    seconds: float


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


def is_ours(check: HealthCheck, tls: bool, h2: bool) -> bool:
    """Whether `passes` can make this check of a server that speaks so."""
    return not (check.grpc or h2 or (tls if check.tls is None else check.tls))


async def passes(one: Candidate) -> bool:
    """One check: a connection, or a request whose status is an expected one."""
    check = one.check
    seconds = check.timeout_ms / 1000 if check.timeout_ms else ANSWER_S_MAX
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(min(seconds, ANSWER_S_MAX)):
            reader, writer = await asyncio.open_connection(one.address, check.port or one.port, limit=HEAD_BYTES_MAX)
            try:
                return not check.path or await _answers(reader, writer, check)
            finally:
                writer.transport.abort()
    return False


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, check: HealthCheck) -> bool:
    agent = f"User-Agent: {check.agent}\r\n" if check.agent else ""
    more = f"{check.header[0]}: {check.header[1]}\r\n" if check.header[0] else ""
    writer.write(f"GET {check.path} HTTP/1.1\r\nHost: health\r\n{agent}{more}Connection: close\r\n\r\n".encode())
    match = _STATUS.match(await reader.readuntil(b"\n"))
    return match is not None and _expected(int(match[1]), check.expect)


def _expected(status: int, spans: str) -> bool:
    for span in spans.split(","):
        low, _, high = span.partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False
