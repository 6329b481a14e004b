"""The way of measurements from any process of the cloud to the autoscaler: batches over gRPC, one call at a time.

    report(...)   into memory, at once; WAITING_MAX reports at most, beyond it the oldest are dropped and counted
    write(...)    the same for lines of logs: LINES_BYTES_MAX of them at most
    the sender    whatever waits goes as one call; what could not be delivered goes again, under the same number

A report is counted once, also where an answer was lost: the other side remembers the last number of each source.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Sequence
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
LINES_AT_ONCE = 1_000  # ours: lines in one report
LINES_BYTES_MAX = 32 << 20  # ours: of lines that wait
LINE_BYTES_MAX = 256 * 1024  # ours: a longer line is cut
CALL_BYTES_MAX = 1 << 20  # ours: of lines in one call
READING_VALUES_MAX = 150  # API, PutMetricData: values of one datum
CALL_S_MAX = 10.0
PAUSE_S = (0.2, 5.0)  # after a call that failed, doubling
CLOSE_S_MAX = 1.0
_HOPELESS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)


class Reporter:
    """Implements shell.reports.Reports. Belongs to one event loop; `start` before the first report is sent."""

    def __init__(
        self, target: str, secret: bytes, name: str, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        """target: the autoscaler's gRPC server, `unix:/path` or `host:port`. name: who reports, for logs."""
        self.dropped = 0
        self._target = target
        self._credentials = credentials
        self._metadata = ((fleet_auth.METADATA, fleet_auth.token(secret, name)),)
        self._source = f"{name}/{secrets.token_hex(8)}"
        self._number = 0
        self._waiting: deque[Report] = deque()
        self._lines: deque[wire.LogReport] = deque()
        self._lines_bytes = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Give what waits a moment to leave."""
        if self._task is None:
            return
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
        for at in range(0, len(events), LINES_AT_ONCE):
            report = wire.LogReport(account=scope.account, region=scope.region, group=group, stream=stream)
            part = events[at : at + LINES_AT_ONCE]
            report.times_ms.extend([round(time * 1000) for time, _ in part])
            report.messages.extend([_clean(text) for _, text in part])
            self._lines.append(report)
            self._lines_bytes += report.ByteSize()
        while self._lines_bytes > LINES_BYTES_MAX:
            self._lines_bytes -= self._lines.popleft().ByteSize()
            self.dropped += 1
        self._go()

    def _go(self) -> None:
        if self._waiting or self._lines:
            self._idle.clear()
            self._wake.set()

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
                self._wake.clear()
                while self._waiting or self._lines:
                    await self._send(stub)
                self._idle.set()

    def _taken(self) -> list[wire.LogReport]:
        """Lines for one call: as many as it may carry, one report at least."""
        taken: list[wire.LogReport] = []
        size = 0
        while self._lines and (not taken or size + self._lines[0].ByteSize() <= CALL_BYTES_MAX):
            taken.append(self._lines.popleft())
            size += taken[-1].ByteSize()
        self._lines_bytes -= size
        return taken

    async def _send(self, stub: Any) -> None:
        batch = [_wire(self._waiting.popleft()) for _ in range(min(len(self._waiting), BATCH_MAX))]
        self._number += 1
        request = wire.ReportRequest(source=self._source, number=self._number, metrics=batch, logs=self._taken())
        pause_s = PAUSE_S[0]
        while True:
            try:
                reply = await stub.Report(request, metadata=self._metadata, timeout=CALL_S_MAX, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() in _HOPELESS:
                    log.error("%d reports are dropped: %s", len(batch), error.details())
                    self.dropped += len(batch)
                    return
                log.info("reports wait: %s", error.code().name)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, PAUSE_S[1])
                continue
            self.dropped += reply.dropped
            return


def _clean(text: str) -> str:
    """What the wire and the log can carry."""
    return text.encode("utf-8", "replace")[:LINE_BYTES_MAX].decode("utf-8", "ignore")


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
