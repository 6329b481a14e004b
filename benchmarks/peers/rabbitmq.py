"""RabbitMQ: one node, a quorum queue, persistent messages, publisher confirms, acknowledgements of many at once.

Its own node name, port mapper and folders, so that it meets no other RabbitMQ of the machine. An AMQP acknowledgement
has no answer: a message counts as deleted when its acknowledgement is written, which flatters the peer.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from peers.amqp import Amqp, connect, publish
from peers.server import Absent, Child, Meter, free_ports

DEBIAN = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # what the packaged script, which changes user, ends up running
QUEUE = "bench"
FAN_OUT_WINDOW = 2_000
SETTINGS = "log.file.level = error\ncollect_statistics_interval = 60000\nvm_memory_high_watermark.relative = 0.6\n"
NO_SPIN = "+sbwt none +sbwtdcpu none +sbwtdio none"  # idle schedulers leave the cores to those with work


class RabbitMq:
    name = "RabbitMQ quorum"

    def __init__(self, window: int = 16_000, producers: int = 2, consumers: int = 2, kind: str = "quorum") -> None:
        self.window, self.producers, self.consumers, self.kind = window, producers, consumers, kind
        self.spin = False

    def start(self, folder: Path) -> None:
        server = DEBIAN if os.path.exists(DEBIAN) else shutil.which("rabbitmq-server")
        mapper = shutil.which("epmd")
        if server is None or mapper is None:
            raise Absent("apt-get install rabbitmq-server")
        self.port, distribution, names = free_ports(3)
        folder.mkdir(parents=True)
        (folder / "rabbitmq.conf").write_text(SETTINGS)
        (folder / "plugins").write_text("[].\n")
        env = {"ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": str(folder)}
        self.mapper = Child([mapper], folder / "epmd", env)
        self.mapper.start()
        self.mapper.until_open(names)
        self.server = Child([server], folder, {**env, **self._environment(folder, distribution)})
        self.server.start()
        self.server.until_open(self.port)

    def _environment(self, folder: Path, distribution: int) -> dict[str, str]:
        return {
            "RABBITMQ_NODENAME": f"bench{os.getpid()}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            + ("" if self.spin else NO_SPIN),
        }

    def stop(self) -> None:
        self.server.stop()
        self.mapper.stop()

    def cpu_s(self) -> float:
        return self.server.cpu_s()

    def load(self, meter: Meter, payload: bytes) -> RabbitLoad:
        return RabbitLoad(self, meter, publish(QUEUE, payload))


class RabbitLoad:
    def __init__(self, peer: RabbitMq, meter: Meter, message: bytes) -> None:
        self.peer, self.meter, self.message = peer, meter, message
        self.flying = [0] * peer.producers
        self.producers: list[Amqp] = []
        self.consumers: list[Amqp] = []

    async def start(self) -> None:
        for number in range(self.peer.producers):
            made = await connect(self.peer.port, on_acks=lambda count, number=number: self._confirmed(number, count))
            await made.declare(QUEUE, self.peer.kind)
            await made.confirm()
            self.producers.append(made)
        prefetch = min(65_535, max(1, self.meter.window // self.peer.consumers))
        for number in range(self.peer.consumers):
            taker = await connect(self.peer.port, on_messages=lambda count, tag, at=number: self._came(at, count, tag))
            self.consumers.append(taker)
            await taker.consume(QUEUE, prefetch)
        for number in range(self.peer.producers):
            self._send(number)

    def _send(self, number: int) -> None:
        """As many as this producer's share of the window has room for, in one write."""
        share = self.meter.window // self.peer.producers - self.flying[number]
        count = min(share, self.meter.room())
        if count > 0:
            self.meter.begun += count
            self.flying[number] += count
            self.producers[number].write(self.message * count)

    def _confirmed(self, number: int, count: int) -> None:
        self.flying[number] -= count
        self.meter.sent += count
        self._send(number)

    def _came(self, number: int, count: int, tag: int) -> None:
        self.consumers[number].ack(tag)
        self.meter.deleted += count
        for producer in range(len(self.producers)):
            self._send(producer)

    async def stop(self) -> None:
        for one in self.producers + self.consumers:
            one.transport.close()


class RabbitFanOut:
    """A fan-out exchange with durable queues behind it; `publish` returns when all is confirmed."""

    def __init__(self, peer: RabbitMq, payload: bytes, queues: int) -> None:
        self.peer = peer
        self.queues = [f"fan-{number}" for number in range(queues)]
        self.message = publish("", payload, "fan")

    async def start(self) -> None:
        self.connection = await connect(self.peer.port, on_acks=self._confirmed)
        for queue in self.queues:
            await self.connection.declare(queue, self.peer.kind)
        await self.connection.fan_out("fan", self.queues)
        await self.connection.confirm()

    async def publish(self, count: int) -> None:
        self.left, self.flying = count, 0
        self.done = asyncio.get_running_loop().create_future()
        self._send()
        await self.done

    def _send(self) -> None:
        count = min(self.left, FAN_OUT_WINDOW - self.flying)
        self.left -= count
        self.flying += count
        self.connection.write(self.message * count)

    def _confirmed(self, count: int) -> None:
        self.flying -= count
        self._send()
        if not self.flying and not self.done.done():
            self.done.set_result(None)

    async def clear(self) -> None:
        for queue in self.queues:
            await self.connection.purge(queue)

    async def stop(self) -> None:
        self.connection.transport.close()
