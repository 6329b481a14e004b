"""A real HAProxy: the front door's walls, gRPC through it, the runtime API, reload and crash."""

from __future__ import annotations

import asyncio
import http.server
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent import futures
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from minicloud.base.errors import CloudError, Internal, NotFound
from minicloud.cluster.ports import free_port
from minicloud.proxy.config import Backend, Bind, Frontend, Global, ProxyConfig, Server, Timeouts
from minicloud.proxy.front_door import DoorPaths, front_door
from minicloud.proxy.health import HealthCheck
from minicloud.proxy.process import Haproxy, ProxyEvents
from minicloud.proxy.runtime import RuntimeApi
from minicloud.settings import CloudSettings
from tests.machine_time import within

pytestmark = pytest.mark.timeout(300)
LOCAL = "127.0.0.1"


class Web(http.server.BaseHTTPRequestHandler):
    """Answers with its port and the headers that reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(0.5)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = f"port {self.server.server_address[1]}\n{self.headers}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Echo(grpc.GenericRpcHandler):
    """Every method is a stream that answers each message with itself."""

    def service(self, _details: object) -> Any:
        return grpc.stream_stream_rpc_method_handler(lambda messages, _context: messages)


def web() -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer((LOCAL, 0), Web)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mcp-") as made:
        yield Path(made)


@pytest.fixture
def ended() -> list[tuple[int, int, bool]]:
    return []


@pytest.fixture
async def proxy(folder: Path, ended: list[tuple[int, int, bool]]) -> AsyncIterator[Haproxy]:
    events = ProxyEvents(lambda _pid: None, lambda *end: ended.append(end))
    made = Haproxy(folder, folder / "log", dict(os.environ), events)
    yield made
    await made.stop(grace_s=0)
    assert made.pid is None


@pytest.fixture
async def door(proxy: Haproxy, folder: Path) -> AsyncIterator[CloudSettings]:
    server = web()
    grpc_server = grpc.server(futures.ThreadPoolExecutor(4))
    grpc_server.add_generic_rpc_handlers((Echo(),))
    settings = CloudSettings(
        cloud_id="0" * 8,
        data_dir=str(folder),
        grpc_port=free_port(LOCAL),
        http_port=free_port(LOCAL),
        control_port=grpc_server.add_insecure_port(f"{LOCAL}:0"),
        control_http_port=server.server_address[1],
        allowed_hosts=("cloud.example",),
    )
    grpc_server.start()
    await proxy.start(front_door(settings, DoorPaths(folder / "door")))
    yield settings
    grpc_server.stop(None)
    server.shutdown()


def ask(port: int, data: bytes, seconds: float = 30.0) -> bytes:
    """The answer, and what follows until the other side says no more for a moment."""
    with socket.create_connection((LOCAL, port), timeout=seconds) as connection:
        connection.sendall(data)
        reply = b""
        with suppress(TimeoutError):
            while more := connection.recv(65536):
                reply += more
                if is_whole(reply):
                    connection.settimeout(0.1)
        return reply


def is_whole(reply: bytes) -> bool:
    head, ended, body = reply.partition(b"\r\n\r\n")
    said = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(ended) and len(body) >= (int(said[1]) if said else 0)


def status(reply: bytes) -> int:
    return int(reply.split()[1])


HEAD = b"GET / HTTP/1.1\r\nHost: %s\r\n%s\r\n"


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [
        (HEAD % (b"localhost:1", b""), 200),
        (HEAD % (b"LOCALHOST", b""), 200),
        (HEAD % (b"[::1]:4566", b""), 200),
        (HEAD % (b"10.20.0.1:4566", b""), 200),  # a guest's gateway: addresses cannot be rebound
        (HEAD % (b"sqs.localhost", b""), 200),
        (HEAD % (b"cloud.example", b""), 200),
        (HEAD % (b"evil.example", b""), 403),
        (HEAD % (b"localhost.evil.example", b""), 403),
        (HEAD % (b"127.0.0.1.evil.example", b""), 403),
        (HEAD % (b"notlocalhost", b""), 403),
        (b"GET / HTTP/1.0\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEAD % (b"localhost", b"Origin: http://localhost:4566\r\n"), 200),
        (HEAD % (b"localhost", b"Origin: http://evil.example\r\n"), 403),
        (HEAD % (b"localhost", b"Origin: null\r\n"), 403),
        (HEAD % (b"localhost", b"Origin: http://evil.example\r\nOrigin: http://localhost\r\n"), 400),
        (HEAD % (b"localhost", b"Sec-Fetch-Site: same-origin\r\n"), 200),
        (HEAD % (b"localhost", b"Sec-Fetch-Site: cross-site\r\n"), 403),
        (b"POST /_minicloud/%69nternal/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108865\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\nabcde", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD % (b"localhost", b"X: " + b"a" * 15_000 + b"\r\n"), 200),
        (HEAD % (b"localhost", b"X: " + b"a" * 17_500 + b"\r\n"), 400),
        (b"GET /" + b"a" * 17_500 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEAD % (b"localhost", b"X: " + b"a" * 70_000 + b"\r\n"), 400),
        (HEAD % (b"localhost", b"X: a\r\n" * 200), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    ],
)  # fmt: skip
async def test_walls_of_the_http_door(door: CloudSettings, request_: bytes, wanted: int) -> None:
    assert status(await asyncio.to_thread(ask, door.http_port, request_)) == wanted


async def test_a_request_with_two_lengths_reaches_nobody_in_two_ways(door: CloudSettings) -> None:
    """Content-Length beside Transfer-Encoding: RFC 9112 6.3 has the length removed before it is passed on."""
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: evil.example\r\n\r\n"
    reply = await asyncio.to_thread(ask, door.http_port, head + smuggled)
    assert b"content-length: 50" not in reply.lower()
    assert reply.count(b"HTTP/1.1 200") <= 1, "what follows is no second request, or one that is refused by its Host"


async def test_what_a_client_says_about_its_way_is_not_believed(door: CloudSettings) -> None:
    request = HEAD % (b"localhost", b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n")
    reply = await asyncio.to_thread(ask, door.http_port, request)
    assert b"6.6.6.6" not in reply and b"x-forwarded-for: 127.0.0.1" in reply.lower()


async def test_grpc_streams_pass_both_ways(door: CloudSettings) -> None:
    def talk() -> list[bytes]:
        with grpc.insecure_channel(f"{LOCAL}:{door.grpc_port}") as channel:
            messages = [b"a", b"b" * 1_000_000, b"c"]
            return list(channel.stream_stream("/any/thing")(iter(messages), timeout=30))

    assert await asyncio.to_thread(talk) == [b"a", b"b" * 1_000_000, b"c"]


@pytest.mark.parametrize(
    ("target", "metadata", "code"),
    [
        ("evil.example", (), grpc.StatusCode.PERMISSION_DENIED),
        ("localhost", (("origin", "http://localhost"),), grpc.StatusCode.PERMISSION_DENIED),
    ],
)
async def test_walls_of_the_grpc_door(
    door: CloudSettings, target: str, metadata: tuple[tuple[str, str], ...], code: grpc.StatusCode
) -> None:
    def talk() -> None:
        options = [("grpc.default_authority", target)]
        with grpc.insecure_channel(f"{LOCAL}:{door.grpc_port}", options=options) as channel:
            list(channel.stream_stream("/any/thing")(iter([b"a"]), timeout=30, metadata=metadata))

    with pytest.raises(grpc.RpcError) as caught:
        await asyncio.to_thread(talk)
    assert caught.value.code() == code  # type: ignore[attr-defined]


async def test_health_says_503_at_once_when_nobody_is_there(proxy: Haproxy, folder: Path) -> None:
    settings = CloudSettings(
        "0" * 8,
        str(folder),
        grpc_port=free_port(LOCAL),
        http_port=free_port(LOCAL),
        control_port=1,
        control_http_port=1,
    )
    await proxy.start(front_door(settings, DoorPaths(folder / "door")))
    request = b"GET /_minicloud/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with within(1.0):
        assert status(await asyncio.to_thread(ask, settings.http_port, request)) == 503


def balancer(folder: Path, port: int, *servers: Server) -> ProxyConfig:
    return ProxyConfig(
        Global(str(folder / "stats"), threads=1),
        (Frontend("web", (Bind(LOCAL, port),), default_backend="app", timeouts=Timeouts(client=5000)),),
        (Backend("app", servers, health=HealthCheck("/ping", interval_ms=100)),),
    )


async def test_servers_come_and_go_without_a_reload(proxy: Haproxy, folder: Path) -> None:
    first, second, port = web(), web(), free_port(LOCAL)
    one, two = (Server(name, LOCAL, made.server_address[1]) for name, made in (("one", first), ("two", second)))
    await proxy.start(balancer(folder, port, one))
    api, pid = RuntimeApi(folder / "stats"), proxy.pid
    await api.add_server("app", two, HealthCheck("/ping", interval_ms=100))

    async def up(count: int) -> None:
        async with asyncio.timeout(30):
            while sum(server.status == "UP" for server in await api.servers()) != count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def seen(times: int = 6) -> set[str]:
        replies = [await asyncio.to_thread(ask, port, HEAD % (b"x", b"")) for _ in range(times)]
        assert all(status(reply) == 200 for reply in replies)
        return {reply.split(b"\r\n\r\n")[1].split(b"\n")[0].decode() for reply in replies}

    await up(2)
    assert await seen() == {f"port {one.port}", f"port {two.port}"}
    slow = asyncio.create_task(asyncio.to_thread(ask, port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await api.set_state("app", "one", "drain")
    assert await seen() == {f"port {two.port}"}
    assert status(await slow) == 200
    await api.set_state("app", "one", "ready")
    await api.set_weight("app", "one", 0)
    assert await seen() == {f"port {two.port}"}
    await api.remove_server("app", "two")
    await api.set_weight("app", "one", 100)
    assert await seen() == {f"port {one.port}"}
    assert proxy.pid == pid
    with pytest.raises(NotFound):
        await api.set_state("app", "nobody", "drain")
    with pytest.raises(CloudError):
        await api.command("show info; disable frontend web")


async def test_reload_loses_nothing_and_a_bad_one_changes_nothing(
    proxy: Haproxy, folder: Path, ended: list[tuple[int, int, bool]]
) -> None:
    server, port = web(), free_port(LOCAL)
    config = balancer(folder, port, Server("one", LOCAL, server.server_address[1]))
    await proxy.start(config)
    before = proxy.pid
    slow = asyncio.create_task(asyncio.to_thread(ask, port, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await asyncio.sleep(0.1)
    await proxy.reload(config)
    assert proxy.pid != before
    assert status(await asyncio.to_thread(ask, port, HEAD % (b"x", b""))) == 200
    assert status(await slow) == 200
    after = proxy.pid
    with pytest.raises(Internal, match="cannot bind"):
        await proxy.reload(
            replace(config, frontends=(replace(config.frontends[0], binds=(Bind("192.0.2.77", port),)),))
        )
    assert proxy.pid == after
    assert status(await asyncio.to_thread(ask, port, HEAD % (b"x", b""))) == 200
    assert (before, 0, True) in ended


async def test_a_crash_is_told_from_a_stop(proxy: Haproxy, folder: Path, ended: list[tuple[int, int, bool]]) -> None:
    await proxy.start(balancer(folder, free_port(LOCAL)))
    crashed = proxy.pid
    assert crashed is not None
    os.kill(crashed, 9)
    async with asyncio.timeout(30):
        while not ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert ended == [(crashed, -9, False)] and proxy.pid is None
    await proxy.start(balancer(folder, free_port(LOCAL)))
    stopped = proxy.pid
    await proxy.stop(grace_s=1)
    assert ended[1][0] == stopped and ended[1][2] is True


async def crashed(proxy: Haproxy, ended: list[tuple[int, int, bool]]) -> None:
    pid = proxy.pid
    assert pid is not None
    os.kill(pid, 9)
    async with asyncio.timeout(30):
        while not any(end[0] == pid for end in ended):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_who_comes_while_a_killed_one_is_away_is_served_by_the_next(
    proxy: Haproxy, folder: Path, ended: list[tuple[int, int, bool]]
) -> None:
    server, port = web(), free_port(LOCAL)
    config = balancer(folder, port, Server("one", LOCAL, server.server_address[1]))
    await proxy.start(config)
    for _ in range(3):
        await crashed(proxy, ended)
        assert proxy.held.ports == {(LOCAL, port)}
        waiting = [asyncio.create_task(asyncio.to_thread(ask, port, HEAD % (b"x", b""))) for _ in range(20)]
        await asyncio.sleep(0.2)
        await proxy.start(config)
        assert [status(reply) for reply in await asyncio.gather(*waiting)] == [200] * 20
    await proxy.reload(config)
    assert status(await asyncio.to_thread(ask, port, HEAD % (b"x", b""))) == 200
    await proxy.stop(grace_s=0)
    with pytest.raises(ConnectionRefusedError):
        ask(port, HEAD % (b"x", b""))


async def test_another_configuration_after_a_crash_takes_the_sockets_that_it_knows(
    proxy: Haproxy, folder: Path, ended: list[tuple[int, int, bool]]
) -> None:
    """More sockets than go into one message; one of them is wanted again."""
    server = web()
    config = balancer(folder, free_port(LOCAL), Server("one", LOCAL, server.server_address[1]))
    binds = tuple(Bind(LOCAL, free_port(LOCAL)) for _ in range(300))
    await proxy.start(replace(config, frontends=(replace(config.frontends[0], binds=binds),)))
    await crashed(proxy, ended)
    assert len(proxy.held.ports) == 300
    kept = binds[-1]
    waiting = asyncio.create_task(asyncio.to_thread(ask, kept.port, HEAD % (b"x", b"")))
    await asyncio.sleep(0.05)
    await proxy.start(replace(config, frontends=(replace(config.frontends[0], binds=(kept,)),)))
    assert status(await waiting) == 200 and proxy.held.ports == {(LOCAL, kept.port)}
    with pytest.raises(ConnectionRefusedError):
        ask(binds[0].port, HEAD % (b"x", b""))
