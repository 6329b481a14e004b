"""Whether another process of the cloud serves, as its health stream tells (grpc.health.v1, Watch): nothing polls.

The stream is there as long as the process is; when it breaks, the process is down until a new stream says otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as wire
from grpc_health.v1 import health_pb2_grpc

PAUSE_S = 0.1  # between two streams, where a peer accepts them and ends them at once
# gRPC's own pause between two attempts to connect grows to two minutes.
OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 5_000),  # a peer that stands still is down too
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
)


class Peer:
    """`up`: it serves now. `seen`: it did at least once. `channel`: for other calls to it, from `start` to `close`."""

    def __init__(self, target: str) -> None:
        """target: as gRPC names it, `unix:/path` or `host:port`; plain text."""
        self.up = False
        self.seen = False
        self._target = target
        self._task: asyncio.Task[None] | None = None
        self.channel: grpc.aio.Channel | None = None

    def start(self) -> None:
        self.channel = grpc.aio.insecure_channel(self._target, options=OPTIONS)
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _follow(self) -> None:
        assert self.channel is not None
        async with self.channel:
            stub: Any = health_pb2_grpc.HealthStub(self.channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    async for state in stub.Watch(wire.HealthCheckRequest(), wait_for_ready=True):
                        self.up = state.status == wire.HealthCheckResponse.SERVING
                        self.seen = self.seen or self.up
                self.up = False
                await asyncio.sleep(PAUSE_S)
