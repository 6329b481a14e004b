"""RabbitMQ in the measure of SQS: the same cycles on as many connections, in AMQP, against a durable quorum queue.

A cycle publishes so many and waits for their confirms, waits until as many have come, and acknowledges them. Three
things flatter the peer: it pushes, so nothing asks for messages; they come while the confirms are awaited; and an
acknowledgement has no answer, so it counts once it is written.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from peers.amqp import Amqp, connect, publish
from peers.rabbitmq import RabbitMq

BODY = b"x" * 1024


class Rabbit:
    name = RabbitMq.name

    def __init__(self) -> None:
        self._server = RabbitMq()

    def start(self, folder: Path) -> None:
        """Raises Absent."""
        self._server.start(folder)

    def stop(self) -> None:
        self._server.stop()

    def cpu_s(self) -> float:
        return self._server.cpu_s()

    async def cycles(self, connections: int, batch: int, seconds: float) -> tuple[int, float]:
        """How many messages went round, and in how many seconds."""
        queue = f"bench-{connections}-{batch}"
        loops = [_Loop(queue, batch) for _ in range(connections)]
        for one in loops:
            await one.start(self._server.port)
        began = time.perf_counter()
        tasks = [asyncio.create_task(one.run()) for one in loops]
        failed, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        took, done = time.perf_counter() - began, sum(one.done for one in loops)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in loops:
            one.amqp.transport.close()
        await self._clear(queue)
        for task in failed:
            task.result()  # raises what ended it
        return done, took

    async def _clear(self, queue: str) -> None:
        """What was under way at the end."""
        amqp = await connect(self._server.port)
        await amqp.purge(queue)
        amqp.transport.close()


class _Loop:
    """Cycles on one connection. Every loop has published as many as it waits for, so none waits in vain."""

    amqp: Amqp

    def __init__(self, queue: str, batch: int) -> None:
        self._queue, self._batch = queue, batch
        self._message = publish(queue, BODY) * batch
        self._confirms = self._came = self._tag = self.done = 0
        self._moved = asyncio.Event()

    async def start(self, port: int) -> None:
        self.amqp = await connect(port, self._on_confirms, self._on_messages)
        await self.amqp.declare(self._queue, "quorum")
        await self.amqp.confirm()
        await self.amqp.consume(self._queue, self._batch)

    async def run(self) -> None:
        while True:
            self.amqp.write(self._message)
            while self._confirms < self._batch or self._came < self._batch:
                self._moved.clear()
                await self._moved.wait()
            self._confirms = self._came = 0
            self.amqp.ack(self._tag)
            self.done += self._batch

    def _on_confirms(self, count: int) -> None:
        self._confirms += count
        self._moved.set()

    def _on_messages(self, count: int, tag: int) -> None:
        self._came, self._tag = self._came + count, tag
        self._moved.set()
