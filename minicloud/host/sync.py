"""The line to the control plane: one bidirectional stream, dialled again whenever it breaks.

What is said on it needs no acknowledgement of its own: a hello carries all that this host knows, so whatever a broken
stream swallowed is said again by the next hello, and a control plane that misses an answer sends the order again.
Within one stream gRPC keeps the order. Reports wait in a queue while the stream is up; of beats the newest wins.

Order of things: dial, hello, then the control plane's welcome (or fence) comes first. A welcome of another cloud, or of
a lower epoch than this host has seen (a control plane that lost its lease), ends the stream before any order is heard.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc

log = logging.getLogger("minicloud.host.sync")

DIAL_S_FIRST = 0.1
DIAL_S_MAX = 1.0
# A stream that has not been welcomed by then is hung up; a control plane that starts answers much sooner.
WELCOME_S_MAX = 10.0
CHANNEL_OPTIONS = [
    # A frozen or unplugged control plane is noticed by pings that nobody answers.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(frozen=True, slots=True)
class LineEnds:
    """What the line tells its owner. `on_order` must not block; orders come in the order they were sent.

    hello: what this host knows now. on_welcome: False hangs up. on_fence: this host was given up.
    """

    hello: Callable[[], wire.HostHello]
    on_welcome: Callable[[wire.Welcome], bool]
    on_fence: Callable[[str], None]
    on_order: Callable[[wire.HostOrder], None]


class ControlLine:
    """`run` keeps the stream up until cancelled. `report` and `beat` never block and never fail."""

    def __init__(self, address: str, fleet_token: str, ends: LineEnds) -> None:
        self._address = address
        self._metadata = (("x-minicloud-fleet", fleet_token),)
        self._ends = ends
        self._queue: deque[wire.HostReport] = deque()
        self._beat: wire.HostBeat | None = None
        self._wake = asyncio.Event()
        self.up = False

    def report(self, report: wire.HostReport) -> None:
        """Say it if the line is up; the next hello says it otherwise."""
        if self.up:
            self._queue.append(report)
            self._wake.set()

    def beat(self, beat: wire.HostBeat) -> None:
        self._beat = beat
        self._wake.set()

    def channel(self) -> grpc.aio.Channel:
        """A channel of its own to the control plane, for image bytes; the caller closes it."""
        return grpc.aio.insecure_channel(self._address, options=CHANNEL_OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    async def run(self) -> None:
        pause = DIAL_S_FIRST
        while True:
            welcomed = False
            try:
                welcomed = await self._talk()
            except grpc.aio.AioRpcError as error:
                log.info("line to the control plane is down: %s", error.code().name)
            except asyncio.InvalidStateError:  # grpc's word for a write that came just after the end
                log.info("line to the control plane has ended")
            finally:
                self.up = False
                self._queue.clear()
            pause = DIAL_S_FIRST if welcomed else min(pause * 2, DIAL_S_MAX)
            await asyncio.sleep(pause)

    async def _talk(self) -> bool:
        """One stream, from dial to end. True when it was welcomed."""
        async with self.channel() as channel:
            call = fleet_pb2_grpc.FleetServiceStub(channel).Sync(metadata=self._metadata)  # type: ignore[no-untyped-call]
            try:
                self.up = True  # from here on reports queue: the hello holds all that was before
                await call.write(wire.HostReport(hello=self._ends.hello()))
                welcomed = await asyncio.wait_for(self._be_welcomed(call), WELCOME_S_MAX)
                if welcomed:
                    log.info("welcomed by the control plane")
                    await _both(self._write(call), self._read(call))
                return welcomed
            except TimeoutError:
                return False
            finally:
                call.cancel()

    async def _be_welcomed(self, call: Any) -> bool:
        order = await call.read()
        if not isinstance(order, wire.HostOrder):
            return False  # grpc.aio.EOF: it hung up
        if order.WhichOneof("order") == "welcome":
            return self._ends.on_welcome(order.welcome)
        if order.WhichOneof("order") == "fence":
            self._ends.on_fence(order.fence.reason)
        return False

    async def _read(self, call: Any) -> None:
        while isinstance(order := await call.read(), wire.HostOrder):
            if order.WhichOneof("order") == "fence":
                self._ends.on_fence(order.fence.reason)
            else:
                self._ends.on_order(order)

    async def _write(self, call: Any) -> None:
        while True:
            while self._queue:
                await call.write(self._queue.popleft())
            if self._beat is not None:
                beat, self._beat = self._beat, None
                await call.write(wire.HostReport(beat=beat))
            if not self._queue and self._beat is None:
                self._wake.clear()
                await self._wake.wait()


async def _both(*parts: Coroutine[Any, Any, None]) -> None:
    """Until the first of them ends; the others are cancelled, the first error is raised."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await cancel_all(tasks)


async def cancel_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Until all have ended. More than once: a write on a grpc call that has ended may swallow its cancellation, or
    answer it with an error of its own."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.2)
