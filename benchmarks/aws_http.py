"""A signed HTTP client with little in it: kept-alive connections, precomputed parts; the CPU is for the server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from typing import Any

import orjson

PREFIX = b"content-length:"
PIECE_BYTES = 256 * 1024


class Signer:
    """SigV4 of POSTs to `/`: the key is derived once, the time is looked at once a second."""

    def __init__(self, service: str, host: str, key_id: str = "000000000000", secret: str = "secret") -> None:
        self._service, self._host, self._key_id, self._secret = service, host, key_id, secret
        self._until = 0.0
        self._made: dict[tuple[str, bytes], bytes] = {}

    def _refresh(self) -> None:
        now = time.time()
        self._until = now + 1
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        self._scope = f"{self._stamp[:8]}/us-east-1/{self._service}/aws4_request"
        key = b"AWS4" + self._secret.encode()
        for part in (self._stamp[:8], "us-east-1", self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    def request(self, target: str, body: bytes) -> bytes:
        """A whole request: JSON for this target, a query without one. The same within a second is the same bytes."""
        if time.time() > self._until:
            self._refresh()
            self._made.clear()
        made = self._made.get((target, body))
        if made is None:
            made = self._signed(target, body)
            if len(self._made) < 4:
                self._made[target, body] = made
        return made

    def _signed(self, target: str, body: bytes) -> bytes:
        kind = "application/x-amz-json-1.0" if target else "application/x-www-form-urlencoded"
        signed = "content-type;host;x-amz-date" + (";x-amz-target" if target else "")
        named = f"x-amz-target:{target}\n" if target else ""
        canonical = (
            f"POST\n/\n\ncontent-type:{kind}\nhost:{self._host}\nx-amz-date:{self._stamp}\n{named}\n"
            f"{signed}\n{hashlib.sha256(body).hexdigest()}"
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{self._stamp}\n{self._scope}\n{digest}"
        proof = hmac.digest(self._key, text.encode(), "sha256").hex()
        return self._head(target, kind, signed, proof, len(body)) + body

    def _head(self, target: str, kind: str, signed: str, proof: str, length: int) -> bytes:
        named = f"x-amz-target: {target}\r\n" if target else ""
        return (
            f"POST / HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: {kind}\r\nx-amz-date: {self._stamp}\r\n"
            f"{named}content-length: {length}\r\nauthorization: AWS4-HMAC-SHA256 "
            f"Credential={self._key_id}/{self._scope}, SignedHeaders={signed}, Signature={proof}\r\n\r\n"
        ).encode()


class Connection(asyncio.BufferedProtocol):
    """One request at a time; opened again where the server closes it after each answer. Bytes are read to where they
    stay, so a long answer costs the client little.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._transport: Any = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = bytearray(2 * PIECE_BYTES)
        self._got = self._end = 0
        self._need = -1

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        loop = asyncio.get_running_loop()
        if self._transport is None or self._transport.is_closing():
            await loop.create_connection(lambda: self, *self._address)
        self._answer = loop.create_future()
        self._got, self._need = 0, -1
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def get_buffer(self, _hint: int) -> memoryview:
        if len(self._buffer) - self._got < PIECE_BYTES:
            self._buffer = self._buffer + bytearray(len(self._buffer))
        return memoryview(self._buffer)[self._got :]

    def buffer_updated(self, count: int) -> None:
        self._got += count
        if self._need < 0:
            self._end = self._buffer.find(b"\r\n\r\n", 0, self._got)
            if self._end < 0:
                return
            low = self._buffer[: self._end].lower()
            at = low.find(PREFIX)
            length = int(low[at + len(PREFIX) :].split(b"\r", 1)[0]) if at >= 0 else 0
            self._need = self._end + 4 + length
        if self._got >= self._need and self._answer is not None and not self._answer.done():
            head, body = bytes(self._buffer[: self._end]), bytes(memoryview(self._buffer)[self._end + 4 : self._need])
            if b"connection: close" in head.lower() or head.startswith(b"HTTP/1.0"):
                self._transport.close()
            self._answer.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionError("closed before the answer"))


class Sqs:
    """SQS in JSON over one connection."""

    def __init__(self, url: str) -> None:
        host = url.partition("://")[2]
        name, _, port = host.partition(":")
        self._signer = Signer("sqs", host)
        self._connection = Connection(name, int(port))

    async def __call__(self, operation: str, **params: Any) -> Any:
        request = self._signer.request(f"AmazonSQS.{operation}", orjson.dumps(params))
        status, body = await self._connection.ask(request)
        if status != 200:
            raise RuntimeError(f"{operation}: {status} {body[:300]!r}")
        return orjson.loads(body) if body else {}

    def close(self) -> None:
        self._connection.close()


class Ec2:
    """EC2's queries over one connection."""

    def __init__(self, url: str) -> None:
        host = url.partition("://")[2]
        name, _, port = host.partition(":")
        self._signer = Signer("ec2", host)
        self._connection = Connection(name, int(port))

    async def __call__(self, operation: str) -> bytes:
        body = f"Action={operation}&Version=2016-11-15&MaxResults=100".encode()
        status, answer = await self._connection.ask(self._signer.request("", body))
        if status != 200:
            raise RuntimeError(f"{operation}: {status} {answer[:300]!r}")
        return answer

    def close(self) -> None:
        self._connection.close()
