"""The way of measurements from any process of the cloud to the autoscaler: batches over gRPC, one call at a time.

    report(...)   into memory, at once; WAITING_MAX reports at most, beyond it the oldest are dropped and counted
    write(...)    the same for lines of logs, by stream: LINES_BYTES_MAX of them at most
    the sender    what came in GATHER_S goes as one call, for a call costs more at both ends than what it carries;
                  what could not be delivered goes again, under the same number

A report is counted once, also where an answer was lost: the other side remembers the last number of each source, on
disk with what was counted (shell/sources.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from minicloud.base.arn import Scope
from minicloud.rpc import fleet_auth
from minicloud.rpc.peer import OPTIONS
from minicloud.shell.reports import Reading, Report
from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc

log = logging.getLogger(__name__)

WAITING_MAX = 50_000  # ours: some 20 MB
BATCH_MAX = 500  # ours: 100 KB, and 10 ms of the event loop at either end
BATCH_BYTES_MAX = 1 << 20  # ours: of a call's reports, as they may have many values; gRPC takes 4 MiB
LINES_AT_ONCE = 1_000  # ours: lines in one report
LINES_BYTES_MAX = 32 << 20  # ours: of lines that wait
LINE_BYTES_MAX = 256 * 1024  # ours: a longer line is cut
LINE_BYTES = 16  # what a line takes besides its text
CALL_BYTES_MAX = 1 << 20  # ours: of lines in one call
GATHER_S = 0.1  # ours: how much later a line may be there; a full call leaves at once
READING_VALUES_MAX = 150  # API, PutMetricData: values of one datum
CALL_S_MAX = 10.0
PAUSE_S = (0.2, 5.0)  # after a call that failed, doubling
BROKEN_MAX = 20  # ours: how often a call at which the other side breaks goes again, some 90 s
CLOSE_S_MAX = 1.0
_HOPELESS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
_BROKEN = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)


@dataclass(slots=True)
class _Lines:
    """Of one stream."""

    where: tuple[Scope, str, str]
    times_ms: list[int] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    size: int = 0

    def wire(self) -> wire.LogReport:
        scope, group, stream = self.where
        return wire.LogReport(
            account=scope.account,
            region=scope.region,
            group=group,
            stream=stream,
            times_ms=self.times_ms,
            messages=self.messages,
        )


class Reporter:
    """Implements shell.reports.Reports. Belongs to one event loop; `start` before the first report is sent."""

    def __init__(
        self, target: str, secret: bytes, name: str, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """target: the autoscaler's gRPC server, `unix:/path` or `host:port`. name: who reports, for logs."""
        self.dropped = 0  # reports
        self.lines_dropped = 0
        self._target = target
        self._credentials = credentials
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, name)),)
        self._source = f"{name}/{secrets.token_hex(8)}"
        self._number = 0
        self._waiting: deque[Report] = deque()
        self._lines: deque[_Lines] = deque()
        self._open: dict[tuple[Scope, str, str], _Lines] = {}  # those of them that take more lines
        self._lines_bytes = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Give what waits a moment to leave."""
        if self._task is None:
            return
        self._closing = True
        self._full.set()
        waits = asyncio.create_task(self._idle.wait())
        await asyncio.wait([waits, self._task], timeout=CLOSE_S_MAX, return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        self._task.cancel()
        await asyncio.wait([self._task])

    def report(self, reports: Sequence[Report]) -> None:
        self._waiting.extend(reports)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
            self.dropped += 1
        self._go()

    def write(self, scope: Scope, group: str, stream: str, events: Sequence[tuple[float, str]]) -> None:
        """Lines of one log stream with their times, Unix seconds. Never blocks, never raises."""
        where = (scope, group, stream)
        lines = self._open.get(where)
        for time, text in events:
            message, size = (text, len(text)) if text.isascii() and len(text) <= LINE_BYTES_MAX else _clean(text)
            size += LINE_BYTES
            if lines is None or len(lines.messages) >= LINES_AT_ONCE or lines.size + size > CALL_BYTES_MAX:
                lines = self._open[where] = _Lines(where)
                self._lines.append(lines)
            lines.times_ms.append(round(time * 1000))
            lines.messages.append(message)
            lines.size += size
            self._lines_bytes += size
        while self._lines_bytes > LINES_BYTES_MAX:
            self.lines_dropped += len(self._next_lines().messages)
        self._go()

    def _next_lines(self) -> _Lines:
        """Those that wait longest; no more are added to them."""
        lines = self._lines.popleft()
        if self._open.get(lines.where) is lines:
            del self._open[lines.where]
        self._lines_bytes -= lines.size
        return lines

    def _go(self) -> None:
        if self._waiting or self._lines:
            self._idle.clear()
            self._wake.set()
        if self._lines_bytes >= CALL_BYTES_MAX or len(self._waiting) >= BATCH_MAX or self._closing:
            self._full.set()

    async def _run(self) -> None:
        opened = (
            grpc.aio.insecure_channel(self._target, options=OPTIONS)
            if self._credentials is None
            else grpc.aio.secure_channel(self._target, self._credentials, options=OPTIONS)
        )
        async with opened as channel:
            stub: Any = fleet_pb2_grpc.ReportServiceStub(channel)  # type: ignore[no-untyped-call]
            while True:
                await self._wake.wait()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_S):
                        await self._full.wait()
                self._wake.clear()
                self._full.clear()
                try:
                    await self._send(stub)
                except Exception:  # of one call: what comes after it is sent
                    log.exception("reports are dropped")
                self._go()
                if not self._wake.is_set():
                    self._idle.set()

    def _taken_metrics(self) -> list[wire.MetricReport]:
        """For one call: as many as it may carry."""
        taken: list[wire.MetricReport] = []
        size = 0
        while self._waiting and len(taken) < BATCH_MAX and size < BATCH_BYTES_MAX:
            one = self._written(self._waiting.popleft())
            if one is not None:
                size += one.ByteSize()
                taken.append(one)
        return taken

    def _taken_lines(self) -> list[wire.LogReport]:
        """As above."""
        taken: list[wire.LogReport] = []
        size = 0
        while self._lines and (not taken or size + self._lines[0].size <= CALL_BYTES_MAX):
            size += self._lines[0].size
            taken.append(self._next_lines().wire())
        return taken

    def _written(self, one: Report) -> wire.MetricReport | None:
        """None: the wire cannot carry it, and it keeps no other back."""
        try:
            return _wire(one)
        except (TypeError, ValueError):
            log.exception("a report of %r is dropped", one.namespace)
            self.dropped += 1
            return None

    async def _send(self, stub: Any) -> None:
        self._number += 1
        request = wire.ReportRequest(
            source=self._source, number=self._number, metrics=self._taken_metrics(), logs=self._taken_lines()
        )
        pause_s, broken = PAUSE_S[0], 0
        while True:
            try:
                reply = await stub.Report(request, metadata=self._metadata, timeout=CALL_S_MAX, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                broken += error.code() in _BROKEN
                if error.code() in _HOPELESS or broken > BROKEN_MAX:
                    log.error("%d reports are dropped: %s", len(request.metrics), error.details())
                    self.dropped += len(request.metrics)
                    self.lines_dropped += sum(len(one.messages) for one in request.logs)
                    return
                log.info("reports wait: %s", error.code().name)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S[1])
                continue
            self.dropped += reply.dropped
            self.lines_dropped += reply.lines_dropped
            return


def _clean(text: str) -> tuple[str, int]:
    """What the wire and the log can carry, and its length in bytes."""
    raw = text.encode("utf-8", "replace")[:LINE_BYTES_MAX]
    return raw.decode("utf-8", "ignore"), len(raw)


def _wire(one: Report) -> wire.MetricReport:
    readings = []
    for reading in one.readings:
        for at in range(0, len(reading.values), READING_VALUES_MAX):
            part = slice(at, at + READING_VALUES_MAX)
            readings.append(_reading(reading, part))
    return wire.MetricReport(
        account=one.scope.account,
        region=one.scope.region,
        namespace=one.namespace,
        dimensions=[text for pair in one.dimensions for text in pair],
        time=one.time,
        resolution_s=one.resolution_s,
        readings=readings,
    )


def _reading(one: Reading, part: slice) -> wire.MetricReading:
    return wire.MetricReading(name=one.name, unit=one.unit, values=one.values[part], counts=one.counts[part])
