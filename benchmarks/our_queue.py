"""Ours in the measure of queues: the public SDK with its automatic batching, against a broker in a cloud."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from our_cloud import OurCloud
from peers.server import Meter

from minicloud import AsyncClient

QUEUE = "bench"


class Ours:
    name = "minicloud"

    def __init__(self, window: int = 6_000, producers: int = 3_000, handlers: int = 16, prefetch: int = 4_000) -> None:
        self.window, self.producers, self.handlers, self.prefetch = window, producers, handlers, prefetch
        self.cloud = OurCloud()

    def start(self, folder: Path) -> None:
        self.cloud.start(folder)

    def stop(self) -> None:
        self.cloud.stop()

    def cpu_s(self) -> float:
        return self.cloud.cpu_s()

    def load(self, meter: Meter, payload: bytes) -> OurLoad:
        return OurLoad(self, meter, payload)


class OurLoad:
    """Each producer awaits each of its sends; a handler is called for each message.

    A message counts as deleted when its delete is in the lane; that all of them arrived is checked at the end.
    """

    def __init__(self, ours: Ours, meter: Meter, payload: bytes) -> None:
        self.ours, self.meter, self.payload = ours, meter, payload
        self.tasks: list[asyncio.Task[None]] = []
        self.room = asyncio.Event()

    async def start(self) -> None:
        self.client = AsyncClient(self.ours.cloud.endpoint)
        await self.client.queues.create(QUEUE)
        self.handle = self.client.queues.bound(QUEUE)
        self.consumer = self.handle.consumer(prefetch=self.ours.prefetch)
        self.tasks = [asyncio.create_task(self._produce()) for _ in range(self.ours.producers)]
        self.tasks.append(asyncio.create_task(self.consumer.run(self._handle, concurrency=self.ours.handlers)))

    async def _produce(self) -> None:
        meter, send, payload = self.meter, self.handle.send, self.payload
        while meter.open:
            if meter.begun - meter.deleted >= meter.window:
                self.room.clear()
                await self.room.wait()
                continue
            meter.begun += 1
            await send(payload)
            meter.sent += 1

    async def _handle(self, _message: Any) -> None:
        self.meter.deleted += 1
        if not self.room.is_set():
            self.room.set()

    async def stop(self) -> None:
        self.room.set()
        await self.consumer.close()
        await asyncio.gather(*self.tasks)
        left = (await self.client.queues.get(QUEUE)).attributes
        await self.client.close()
        rest = int(left["ApproximateNumberOfMessages"]) + int(left["ApproximateNumberOfMessagesNotVisible"])
        if rest:
            raise RuntimeError(f"{rest} messages are still there")
