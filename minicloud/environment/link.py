"""A function host's line to the functions process: one stream, dialled again whenever it breaks.

    dial -> hello -> orders, news -> it breaks -> every environment ends -> dial

So environments live as long as the stream that they were ordered on, and nobody has to find out afterwards which of
them are whose. Packages come on the same connection, each once (code_store.py keeps what was in it).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from minicloud.base.errors import Internal, Unavailable
from minicloud.environment.attached import Attached
from minicloud.environment.limits import BEAT_S
from minicloud.environment.outbox import Outbox
from minicloud.function.errors import broken_package
from minicloud.function.ports import Package
from minicloud.rpc.errors import from_rpc_error
from minicloud.shell.background import Background
from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc

log = logging.getLogger("minicloud.environment")

PAUSE_S = (0.1, 1.0)  # between two streams, doubling
FETCH_S_MAX = 60.0


class Link(Background):
    """`channel`: a new one to the functions process. `hello`: what this host is now, beat included."""

    def __init__(
        self,
        channel: Callable[[], grpc.aio.Channel],
        metadata: tuple[tuple[str, str], ...],
        hello: Callable[[], wire.FunctionHostHello],
    ) -> None:
        self._opened = channel
        self._metadata = metadata
        self._hello = hello
        self._stub: Any = None
        self.attached: Attached  # whose link it is; before `start`

    async def fetch(self, package: Package, to: Path) -> None:
        """Fulfils `code_store.Fetch`."""
        if self._stub is None:
            raise Unavailable("the functions process is away")
        digest = hashlib.sha256()
        call = self._stub.FetchPackage(
            wire.PackageAsked(sha256=package.sha256), metadata=self._metadata, timeout=FETCH_S_MAX
        )
        try:
            with to.open("wb") as file:
                async for chunk in call:
                    digest.update(chunk.data)
                    file.write(chunk.data)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise broken_package("the package is not there any more") from None
            raise from_rpc_error(error) from None
        if digest.hexdigest() != package.sha256:
            raise Internal(f"the package {package.sha256} came as another one")

    async def _run(self) -> None:
        pause_s, loop = PAUSE_S[0], asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._once()
            except grpc.aio.AioRpcError as error:
                log.info("the line to the functions process is down: %s", error.code().name)
            except Exception:
                log.exception("the line to the functions process is opened again")
            pause_s = PAUSE_S[0] if loop.time() - began > PAUSE_S[1] else min(pause_s * 2, PAUSE_S[1])
            await asyncio.sleep(pause_s)

    async def _once(self) -> None:
        """One connection, and what was ordered on it."""
        try:
            async with self._opened() as channel:
                self._stub = fleet_pb2_grpc.FunctionHostServiceStub(channel)  # type: ignore[no-untyped-call]
                await self._talk()
        finally:
            self._stub = None
            await self.attached.end()

    async def _talk(self) -> None:
        """One stream, to its end."""
        outbox: Outbox[wire.EnvironmentNews] = Outbox()
        outbox.put(wire.EnvironmentNews(hello=self._hello()))
        self.attached.begin(outbox)
        beats = asyncio.create_task(self._beat(outbox))
        call = self._stub.Attach(_requests(outbox), metadata=self._metadata, wait_for_ready=True)
        try:
            async for batch in call:
                for order in batch.orders:
                    self.attached.carry_out(order)
        finally:
            beats.cancel()
            outbox.close()
            call.cancel()

    async def _beat(self, outbox: Outbox[wire.EnvironmentNews]) -> None:
        """What waits to leave is as good as a beat."""
        while True:
            await asyncio.sleep(BEAT_S)
            if not outbox.waiting_bytes:
                outbox.put(wire.EnvironmentNews(beat=self._hello().beat))


async def _requests(outbox: Outbox[wire.EnvironmentNews]) -> AsyncIterator[wire.FunctionHostNews]:
    async for news in outbox.batches():
        yield wire.FunctionHostNews(news=news)
