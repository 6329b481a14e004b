"""The control plane's HTTP paths on a real socket, and the guard around uvicorn."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from minicloud.base.errors import Unavailable
from minicloud.rpc.http import TOKEN_HEADER, CloudHealth, Operations, control_app, internal_token, known_host
from minicloud.rpc.http_guard import App, HttpLimits, HttpServer, serve

SECRET = b"s" * 32
READY = CloudHealth(True, "ok", "0a1b2c3d", "1.2.3", hosts_up=2, hosts_down=1, shards={"brokers": ("up", "down")})


class Cloud:
    def __init__(self) -> None:
        self.answer: CloudHealth | Exception = READY
        self.stopped = asyncio.Event()
        registry = CollectorRegistry()
        Counter("minicloud_launches", "Instances launched.", registry=registry).inc(3)
        self.app = control_app(
            Operations(self.health, registry, self.stopped.set, SECRET, allowed_hosts=frozenset({"cloud.example"}))
        )

    async def health(self) -> CloudHealth:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def serving(app: App, limits: HttpLimits | None = None) -> AsyncIterator[HttpServer]:
    server = await serve(app, "127.0.0.1", 0, limits)
    yield server
    await server.stop()


@pytest.fixture
async def cloud() -> AsyncIterator[tuple[Cloud, HttpServer]]:
    one = Cloud()
    async with serving(one.app) as server:
        yield one, server


class Response:
    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = dict(line.lower().split(": ", 1) for line in lines[1:])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def talk(server: HttpServer, raw: bytes) -> bytes:
    """Everything the server says until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw)
    async with asyncio.timeout(60):
        answer = b""
        try:
            while part := await reader.read(65_536):
                answer += part
        except ConnectionError:
            pass
    writer.close()
    return answer


async def ask(server: HttpServer, line: str, *headers: str) -> Response:
    host = [] if any(header.lower().startswith("host:") for header in headers) else ["Host: 127.0.0.1:4566"]
    head = "\r\n".join([f"{line} HTTP/1.1", *host, "Connection: close", *headers, "", ""])
    return Response(await talk(server, head.encode()))


# ---------------------------------------------------------------- paths


async def test_health(cloud: tuple[Cloud, HttpServer]) -> None:
    one, server = cloud
    answer = await ask(server, "GET /_minicloud/health")
    assert answer.status == 200
    assert answer.json == {
        "status": "ok",
        "cloud_id": "0a1b2c3d",
        "version": "1.2.3",
        "hosts_up": 2,
        "hosts_down": 1,
        "brokers": ["up", "down"],
    }
    assert answer.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in answer.headers
    one.answer = CloudHealth(False, "starting", "0a1b2c3d", "1.2.3", 0, 3)
    answer = await ask(server, "GET /_minicloud/health")
    assert (answer.status, answer.json["status"]) == (503, "starting")


async def test_health_that_fails_is_a_503_and_one_that_is_broken_says_nothing(
    cloud: tuple[Cloud, HttpServer],
) -> None:
    one, server = cloud
    one.answer = Unavailable("the shell stopped")
    answer = await ask(server, "GET /_minicloud/health")
    assert (answer.status, answer.json["message"]) == (503, "the shell stopped")
    one.answer = RuntimeError("swordfish")
    answer = await ask(server, "GET /_minicloud/health")
    assert answer.status == 500
    assert b"swordfish" not in answer.body


async def test_health_that_hangs_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minicloud.rpc.http.HEALTH_S_MAX", 0.05)

    async def hang() -> CloudHealth:
        await asyncio.Event().wait()
        raise AssertionError

    app = control_app(Operations(hang, CollectorRegistry(), asyncio.Event().set, SECRET))
    async with serving(app) as server:
        assert (await ask(server, "GET /_minicloud/health")).status == 503


async def test_metrics(cloud: tuple[Cloud, HttpServer]) -> None:
    answer = await ask(cloud[1], "GET /_minicloud/metrics")
    assert answer.status == 200
    assert b"minicloud_launches_total 3.0" in answer.body
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET /", 404),
        ("GET /_minicloud/health/", 404),
        ("GET /_minicloud/../_minicloud/health", 404),
        ("POST /_minicloud/health", 405),
        ("GET /_minicloud/internal/shutdown", 405),
        ("HEAD /_minicloud/health", 200),
        ("GET /_minicloud/health?x=1", 200),
    ],
)
async def test_everything_else(cloud: tuple[Cloud, HttpServer], line: str, status: int) -> None:
    answer = await ask(cloud[1], line)
    assert answer.status == status
    if status >= 400:
        assert answer.json["status"] == "error"


async def test_shutdown_needs_the_clusters_secret(cloud: tuple[Cloud, HttpServer]) -> None:
    one, server = cloud
    post = "POST /_minicloud/internal/shutdown"
    good = f"{TOKEN_HEADER}: {internal_token(SECRET)}"
    for headers in (
        [],
        [f"{TOKEN_HEADER}: {internal_token(b'other')}"],
        [f"{TOKEN_HEADER}: {internal_token(SECRET, '/other/path')}"],
        [f"{TOKEN_HEADER}: \xff"],
        [good, "Origin: http://evil.example"],
    ):
        assert (await ask(server, post, *headers)).status == 403
    assert not one.stopped.is_set()
    assert (await ask(server, post, good)).status == 202
    assert one.stopped.is_set()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:4566", True),
        ("[::1]:4566", True),
        ("10.0.0.7", True),
        ("localhost:4566", True),
        ("Cloud.Example:4566", True),
        ("", True),
        ("evil.example", False),
        ("evil.example:4566", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("[evil", False),
    ],
)
async def test_a_rebound_name_is_refused(cloud: tuple[Cloud, HttpServer], host: str, known: bool) -> None:
    assert known_host(host, {"cloud.example", "localhost"}) is known
    answer = await ask(cloud[1], "GET /_minicloud/health", f"Host: {host}")
    assert answer.status == (200 if known else 403)


# ---------------------------------------------------------------- the guard

SHORT = HttpLimits(head_s=0.2, body_s=0.2, head_bytes=1_000, body_bytes=1_000)


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with how much body came."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = str(size).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 2_000, 431),  # not even complete
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 2_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 2_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 400 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2_000, 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + b"x" * 2_000, 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
async def test_requests_that_are_refused_end_the_connection(raw: bytes, status: int) -> None:
    async with serving(echo, SHORT) as server:
        assert Response(await talk(server, raw)).status == status
        fine = await talk(server, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert Response(fine).body == b"0"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
    ],
    ids=["nothing", "half a head", "half a body"],
)
async def test_slow_requests_are_cut(raw: bytes) -> None:
    async with serving(echo, SHORT) as server:
        assert await talk(server, raw) == b""


async def test_the_next_request_of_a_connection_has_its_deadline_too() -> None:
    async with serving(echo, SHORT) as server:
        whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        answer = await talk(server, whole + whole + b"GET / HTTP/1.1\r\nHo")
        assert answer.count(b"HTTP/1.1 200") == 2


async def test_requests_within_the_limits_pass_on_one_connection() -> None:
    async with serving(echo, SHORT) as server:
        body = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n" + b"x" * 900
        last = body.replace(b"Host: x", b"Host: x\r\nConnection: close")
        answer = await talk(server, body * 3 + last)
        assert answer.count(b"HTTP/1.1 200") == 4


async def test_embedding_leaves_signals_alone_and_says_when_the_port_is_taken() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    async with serving(echo) as server:
        assert {number: signal.getsignal(number) for number in before} == before
        with pytest.raises(Unavailable, match="cannot listen"):
            await serve(echo, "127.0.0.1", server.port)
        await server.stop()
        await server.stop()
    with pytest.raises(ConnectionError):
        await asyncio.open_connection("127.0.0.1", server.port)
