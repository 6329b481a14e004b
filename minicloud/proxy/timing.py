"""How long servers took to answer, request by request: lines that HAProxy writes into a ring of its own, and sends to a
unix socket of ours.

    - BACKEND MILLISECONDS RATE      one a request; of a listener with more than BUSY_RATE requests/s, one of ONE_OF,
                                     which then stands for that many
    an access log line               one a request, where a balancer keeps an access log: the same numbers are in it

Measured: all of it costs HAProxy 0.2 us of the 13.4 us that a request takes on a busy listener (a rule with a second
rate would cost as much again). Whoever reads lets lines gather, because each read costs more than a thousand lines do.
A ring that is not read fast enough drops lines and holds up nobody; it says later how many, and they are counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from minicloud.proxy.checked import quote
from minicloud.proxy.config import LOG_LINE_BYTES_MAX

RING = "times"
LINE = "- %b %Tr %[fe_req_rate]"
BUSY_RATE, ONE_OF = 1_000, 64  # ours: then 16 a second at least are told
GATHER_S = 0.1  # ours
GATHERED_BYTES = 32 * 1024  # a read that brings so much is followed by the next at once
RING_BYTES = 1 << 20
EXACT_MS = 1_000  # longer times are kept to three digits
_BACKEND_IN_ACCESS, _TIME_IN_ACCESS = -2, 6
_DROPPED = re.compile(rb"([0-9]+) events? dropped")  # HAProxy 2.8, src/sink.c

Times = Mapping[str, Mapping[int, int]]  # backend -> milliseconds -> requests


@dataclass(frozen=True, slots=True)
class Ring:
    """A section of its own in the configuration. `socket`: where the lines go."""

    socket: str

    def render(self) -> Iterable[str]:
        yield f"ring {RING}"
        yield from ("format raw", f"maxlen {LOG_LINE_BYTES_MAX}", f"size {RING_BYTES}")
        yield from ("timeout connect 1s", "timeout server 10s")
        yield f"server reader {quote('unix@' + self.socket)} log-proto legacy"


@dataclass(frozen=True, slots=True)
class Sampled:
    """Of a busy listener not every request is told."""

    def render(self) -> str:
        return f"http-request set-log-level silent if {{ fe_req_rate gt {BUSY_RATE} }} !{{ rand({ONE_OF}) -m int 0 }}"


def count(lines: Iterable[bytes], into: dict[str, Counter[int]]) -> None:
    """What is no such line, and requests that no server answered (time -1), are passed over."""
    for line in lines:
        weight = 1
        if line.startswith(b"- "):
            words = line.split(b" ")
            if len(words) != 4:
                continue
            _, backend, time, rate = words
            weight = ONE_OF if rate.isdigit() and int(rate) > BUSY_RATE else 1
        else:
            words = line.split(b" ") if line.startswith(b"http") else []
            if len(words) <= _TIME_IN_ACCESS - _BACKEND_IN_ACCESS:
                continue
            backend, time = words[_BACKEND_IN_ACCESS], words[_TIME_IN_ACCESS]
        if time.isdigit():
            into.setdefault(backend.decode(errors="replace"), Counter())[_rounded(int(time))] += weight


def _rounded(ms: int) -> int:
    return ms if ms < EXACT_MS else round(ms, 3 - len(str(ms)))


class _Lines(asyncio.Protocol):
    def __init__(self, reader: TimesReader) -> None:
        self._reader = reader
        self._rest = b""
        self._transport: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-LOG_LINE_BYTES_MAX:]
        self._reader.take_lines(lines)
        if self._transport is not None and len(data) < GATHERED_BYTES:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(GATHER_S, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class TimesReader:
    """The other end: any number of HAProxies write to it, those of earlier reloads too.

    `on_access`: gets the lines of access logs, as HAProxy wrote them. `dropped`: lines that HAProxies could not send.
    """

    def __init__(self, socket: Path, on_access: Callable[[list[bytes]], None] = lambda _lines: None) -> None:
        self._socket = socket
        self._on_access = on_access
        self.dropped = 0
        self._times: dict[str, Counter[int]] = {}
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._socket.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Lines(self), str(self._socket))
        self._socket.chmod(0o600)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    def take_lines(self, lines: list[bytes]) -> None:
        count(lines, self._times)
        access = [line for line in lines if line and not line.startswith(b"- ")]
        for line in access:
            if said := _DROPPED.match(line):
                self.dropped += int(said[1])
        if access:
            self._on_access(access)

    def take(self) -> Times:
        """What came since the last call."""
        taken = dict(self._times)
        self._times.clear()
        return taken
