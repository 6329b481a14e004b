"""What a send by the AWS face is made of: HTTP, signature, parse, core, commit, serialise; each measured by itself."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aws_http import Connection, Signer

from minicloud.aws.call import Call, Door
from minicloud.aws.gateway import served
from minicloud.aws.http import Reply, serve
from minicloud.aws.services import BY_NAME
from minicloud.aws.signature import Key, Verifier
from minicloud.aws.wire import Answer, Request
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import CloudError
from minicloud.queue.aws import QueueApi
from minicloud.queue.core import Broker
from minicloud.queue.service import Ports, QueueService
from minicloud.shell.clock import SteadyClock
from minicloud.sim.log import MemoryLog
from minicloud.store.log import FileLog

COUNT = 5_000
BODY = json.dumps({"QueueUrl": "http://127.0.0.1:4566/000000000000/q", "MessageBody": "x" * 1024}).encode()


def request_of(raw: bytes) -> Request:
    """What the server makes of it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    pairs = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return Request("POST", "/", "", {name.lower(): value for name, value in pairs}, body)


def timed(work: Callable[[], Any], count: int = COUNT) -> float:
    """Microseconds of one call."""
    began = time.perf_counter()
    for _ in range(count):
        work()
    return 1e6 * (time.perf_counter() - began) / count


async def awaited(work: Callable[[], Awaitable[Any]], count: int = COUNT) -> float:
    """The same of a coroutine, and in the middle of all of them."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return 1e6 * sorted(times)[count // 2]


def sigv4() -> float:
    """Verifying one signature of a request of 1 KiB."""
    request = request_of(Signer("sqs", "127.0.0.1:4566").request("AmazonSQS.SendMessage", BODY))
    verifier = Verifier(lambda _key: Key(b"secret", "0" * 12), time.time)
    return min(timed(lambda: verifier(request, BY_NAME["sqs"])) for _ in range(3))


class Echo:
    """An application that does nothing."""

    body_bytes_max = 1 << 20

    def begin(self, _request: Request, reply: Reply) -> bool:
        return reply(Answer(200, "application/x-amz-json-1.0", b"{}"))

    async def handle(self, _request: Request) -> Answer:
        raise NotImplementedError

    def refuse(self, _request: Request, _error: CloudError) -> Answer:
        return Answer(400, "text/plain", b"")


async def http_us() -> float:
    """There and back over loopback, without anything done."""
    server = await serve(Echo(), "127.0.0.1", 0)
    connection = Connection("127.0.0.1", server.port)
    raw = Signer("sqs", "127.0.0.1:4566").request("AmazonSQS.SendMessage", BODY)
    found = await awaited(lambda: connection.ask(raw))
    connection.close()
    await server.stop(0)
    return found


async def parts(root: Path) -> dict[str, float]:
    """Microseconds of each, by name."""
    service = _service()
    api = QueueApi(service, b"p" * 32)
    one = served(Door("sqs", api)).faces["json"]
    codec = one.codecs["SendMessage"]
    request = request_of(Signer("sqs", "127.0.0.1:4566").request("AmazonSQS.SendMessage", BODY))
    call = Call(Caller(Scope()), "r", "sqs", "SendMessage", "http://127.0.0.1:4566")
    params = codec.read(request, {})
    await api.CreateQueue({"QueueName": "q"}, call)
    result = await api.SendMessage(params, call)

    def parse() -> None:
        codec.check(codec.read(request, {}))

    return {
        "HTTP": await http_us(),
        "SigV4": sigv4(),
        "parse": timed(parse),
        "core": await awaited(lambda: api.SendMessage(params, call)),
        "commit": await _commit(root),
        "serialise": timed(lambda: codec.write(result, "r")),
    }


def _service() -> QueueService:
    log, clock = MemoryLog(), SteadyClock(0.0)
    core = Broker(log, b"s" * 32, 1)
    core.replay()
    core.start(clock.wall())
    return QueueService(core, Ports(log, clock, random.Random(1), lambda _stored, _attributes: b""))


async def _commit(root: Path) -> float:
    log = FileLog.open(root / "parts", "bench")

    async def commit() -> None:
        log.append([bytes(1100)])
        await log.flushed()

    found = await awaited(commit, 1_000)
    await log.close()
    return found


if __name__ == "__main__":
    print(asyncio.run(parts(Path("."))))
