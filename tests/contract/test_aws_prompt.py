"""Requests that are decided in one turn: nothing is told before it is on disk, and answers stay in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from minicloud.aws import http
from minicloud.aws.call import Call, Decided, Door
from minicloud.aws.credentials import open_admit
from minicloud.aws.gateway import Gateway, Way
from minicloud.base.errors import CloudError, Internal
from tests.turns import turn, until

AUTH = (
    "Authorization: AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sqs/aws4_request, SignedHeaders=host, Signature=a"
)


class Disk:
    """An SQS door over a disk that is done when the test says so. Bodies: `wait`: not in one turn; `bad`: refused."""

    server: http.HttpServer

    def __init__(self) -> None:
        self.decided: list[str] = []
        self.waited: list[str] = []
        self.undone: list[str] = []
        self.flushes: list[Callable[[CloudError | None], None]] = []
        self.decides = {"SendMessage": self._decide}

    def _decide(self, params: dict[str, Any], _call: Call) -> Decided | None:
        body = params["MessageBody"]
        if body == "bad":
            raise CloudError("no", code="Bad")
        if body == "wait":
            return None
        self.decided.append(body)
        return Decided({"MessageId": body}, lambda: self.undone.append(body))

    async def SendMessage(self, params: dict[str, Any], _call: Call) -> dict[str, Any]:
        self.waited.append(params["MessageBody"])
        return {"MessageId": params["MessageBody"]}

    def after_flush(self, done: Callable[[CloudError | None], None]) -> None:
        self.flushes.append(done)

    async def flush(self, error: CloudError | None = None) -> None:
        await until(lambda: bool(self.flushes))
        self.flushes.pop(0)(error)
        await turn(20)


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[tuple[Disk, asyncio.StreamReader, asyncio.StreamWriter]]:
    disk = Disk()
    gateway = Gateway([Door("sqs", disk)], Way(open_admit(), lambda: "request-1"))
    disk.server = server = await http.serve(gateway, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield disk, reader, writer
    finally:
        writer.close()
        await server.stop(0)


def send(body: str) -> bytes:
    content = f'{{"QueueUrl": "http://h/000000000000/q", "MessageBody": "{body}"}}'.encode()
    lines = [
        "POST / HTTP/1.1",
        "Host: x",
        AUTH,
        "X-Amz-Target: AmazonSQS.SendMessage",
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def test_nothing_is_told_before_it_is_on_disk_and_the_next_begins_after_it() -> None:
    async with world() as (disk, reader, writer):
        writer.write(send("a") + send("b") + send("c"))
        for sent in "abc":
            await until(lambda: bool(disk.flushes))
            assert disk.decided[-1] == sent and len(disk.flushes) == 1
            asked = asyncio.ensure_future(answer(reader))
            await turn(20)
            assert not asked.done()
            await disk.flush()
            assert await asked == (200, f'{{"MessageId":"{sent}"}}'.encode())
        assert not disk.undone


async def test_what_waits_and_what_is_refused_keep_their_place() -> None:
    async with world() as (disk, reader, writer):
        writer.write(send("a") + send("wait") + send("bad") + send("b") + send("bad"))
        await disk.flush()
        await disk.flush()
        assert [(await answer(reader))[0] for _ in range(5)] == [200, 200, 400, 200, 400]
        assert disk.decided == ["a", "b"] and disk.waited == ["wait"]


async def test_a_disk_that_fails_is_an_error_and_nothing_is_taken_back() -> None:
    async with world() as (disk, reader, writer):
        writer.write(send("a"))
        await disk.flush(Internal("the disk failed"))
        status, body = await answer(reader)
        assert (status == 500 and b"InternalFailure" in body) or b"InternalError" in body
        assert not disk.undone


async def test_a_caller_that_has_gone_undoes_what_was_for_it() -> None:
    async with world() as (disk, _, writer):
        writer.write(send("a") + send("b"))
        await until(lambda: bool(disk.flushes))
        writer.transport.abort()
        await until(lambda: not disk.server._connections)
        assert not disk.undone  # while it is on its way to the disk
        await disk.flush()
        assert disk.undone == ["a"] and disk.decided == ["a"]


async def test_all_that_came_before_what_is_malformed_is_answered() -> None:
    async with world() as (disk, reader, writer):
        writer.write(send("a") + send("b") + b"\x16\x03\x01")
        await disk.flush()
        await disk.flush()
        assert [(await answer(reader))[0] for _ in range(3)] == [200, 200, 400]
        assert await reader.read() == b""


async def test_answers_that_nobody_reads_hold_up_the_next_request() -> None:
    async with world() as (disk, _reader, writer):
        body = "x" * 500_000
        for _ in range(40):
            writer.write(send(body))
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1):
                    await disk.flush()
        assert 1 < len(disk.decided) < 40
