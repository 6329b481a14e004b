"""The first check of a new server: as HAProxy would make it, at once, and again until it passes or time is up."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trustme

from minicloud.cluster.ports import free_port
from minicloud.proxy import first_checks
from minicloud.proxy.first_checks import Candidate, FirstChecks, passes
from minicloud.proxy.health import HealthCheck
from minicloud.proxy.relay import Relay, grpc_code
from tests.http2_server import Answer, Http2
from tests.turns import turn, until

LOCAL, PLACE = "127.0.0.1", ("tg-1", "i-1:80")
CHECK = HealthCheck("/up", expect="200,301-302", timeout_ms=1_000, agent="ELB-HealthChecker/2.0")


class Site:
    """Answers every connection with the same bytes; b"": with nothing."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.port = free_port(LOCAL)
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        self.asked: list[bytes] = []

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, LOCAL, self.port, ssl=self.tls)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read(4096))
        if self.answer:
            writer.write(self.answer)
        else:
            await reader.read()
        writer.close()

    @property
    def candidate(self) -> Candidate:
        return Candidate(LOCAL, self.port, CHECK, 10.0)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    await made.start()
    yield made
    made.server.close()


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.0 302 Found\r\n\r\n", True),
        (b"HTTP/1.1 303 See Other\r\n\r\n", False),
        (b"HTTP/1.1 503 No\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"HTTP/1.1 20", False),
        (b"x" * 100_000, False),
        (b"", False),
    ],
)
async def test_what_passes(site: Site, answer: bytes, passed: bool) -> None:
    site.answer = answer
    assert await passes(site.candidate) is passed
    assert (
        site.asked[0].startswith(b"GET /up HTTP/1.1\r\n") and b"User-Agent: ELB-HealthChecker/2.0\r\n" in site.asked[0]
    )


async def test_a_connection_is_enough_without_a_path(site: Site) -> None:
    site.answer = b""
    assert await passes(replace(site.candidate, check=HealthCheck("", timeout_ms=5_000)))
    assert not await passes(Candidate(LOCAL, free_port(LOCAL), HealthCheck(""), 1.0))


async def test_a_port_of_its_own(site: Site) -> None:
    assert await passes(Candidate(LOCAL, 1, replace(CHECK, port=site.port), 1.0))


@pytest.fixture(scope="module")
def secure() -> ssl.SSLContext:
    """Of a server that nobody has reason to trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    return context


async def test_over_tls_without_a_look_at_the_certificate(secure: ssl.SSLContext) -> None:
    site = Site(secure)
    await site.start()
    one = replace(site.candidate, tls=True)
    assert await passes(one) and site.asked[0].startswith(b"GET /up HTTP/1.1\r\n")
    assert await passes(replace(one, h2=True)), "who does not agree to HTTP/2 is spoken to in HTTP/1.1"
    assert await passes(replace(one, tls=False, check=replace(CHECK, tls=True)))
    assert await passes(replace(one, check=HealthCheck("", timeout_ms=5_000)))
    assert not await passes(site.candidate) and not await passes(replace(one, check=replace(CHECK, tls=False)))
    site.server.close()


async def test_a_handshake_is_part_of_a_check_over_tls(site: Site) -> None:
    site.answer = b""
    assert not await passes(replace(site.candidate, tls=True, check=HealthCheck("", timeout_ms=300)))


async def test_who_expects_the_proxy_protocol_gets_it(site: Site) -> None:
    assert await passes(replace(site.candidate, proxy_v2=True))
    assert site.asked[0].startswith(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET /up")
    assert await passes(replace(site.candidate, proxy_v2=True, port=1, check=replace(CHECK, port=site.port)))
    assert site.asked[1].startswith(b"GET /up")


@asynccontextmanager
async def http2(
    answer: Answer, asked: list[dict[bytes, bytes]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Candidate]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http2(answer, asked), LOCAL, 0, ssl=tls)
    yield Candidate(LOCAL, server.sockets[0].getsockname()[1], replace(CHECK, agent=""), 10.0, tls is not None, True)
    server.close()


@pytest.mark.parametrize(
    ("answer", "passed"),
    [
        ([(":status", "200")], True),
        ([(":status", "302"), ("location", "/x")], True),
        ([(":status", "503")], False),
        (None, False),
    ],
)
async def test_http2_by_prior_knowledge(answer: Answer, passed: bool) -> None:
    asked: list[dict[bytes, bytes]] = []
    async with http2(answer, asked) as one:
        assert await passes(one) is passed
    assert (asked[0][b":method"], asked[0][b":path"], asked[0][b":scheme"]) == (b"GET", b"/up", b"http")


async def test_http2_where_tls_agrees_to_it(secure: ssl.SSLContext) -> None:
    secure.set_alpn_protocols(["h2", "http/1.1"])
    asked: list[dict[bytes, bytes]] = []
    async with http2([(":status", "200")], asked, secure) as one:
        assert await passes(one)
    assert asked[0][b":scheme"] == b"https"


async def test_who_speaks_no_http2_does_not_pass(site: Site) -> None:
    assert not await passes(replace(site.candidate, h2=True))


@pytest.mark.parametrize(
    ("codes", "status", "passed"),
    [("12", "12", True), ("0-11,12", "12", True), ("1-11", "12", False), ("12", "", False)],
)
async def test_grpc_by_the_code_of_a_call_that_fails_at_once(codes: str, status: str, passed: bool) -> None:
    asked: list[dict[bytes, bytes]] = []
    answer = [(":status", "200"), ("content-type", "application/grpc"), *([("grpc-status", status)] if status else [])]
    async with http2(answer, asked) as one:
        check = replace(one.check, path="/AWS.ALB/healthcheck", grpc=True, expect=codes)
        assert await passes(replace(one, check=check)) is passed
    assert asked[0][b":method"] == b"POST" and asked[0][b"content-type"] == b"application/grpc"


async def relayed(one: Candidate, head: bytes) -> bytes:
    """What HAProxy is answered."""
    relay = Relay(lambda place: one if place == PLACE else None)
    reader, writer = await asyncio.open_connection(LOCAL, await relay.start())
    writer.write(head)
    async with asyncio.timeout(60):
        found = await reader.read()
    writer.close()
    relay.stop()
    return found.split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (
            b"GET / HTTP/1.1\r\nX-Haproxy-Server-State: UP 2/2; address=::; port=1; name=tg-1/i-1:80; node=a\r\n\r\n",
            b"200",
        ),
        (b"GET / HTTP/1.1\r\nx-haproxy-server-state: DOWN; name=tg-1/i-2:80\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b""),
        (b"GET / HTTP/1.1\r\n" + b"x" * 10_000, b""),
        (b"\xff\xfe\r\n\r\n", b""),
    ],
)
async def test_a_relay_asks_those_whom_haproxy_has(head: bytes, status: bytes) -> None:
    asked: list[dict[bytes, bytes]] = []
    async with http2([(":status", "200"), ("grpc-status", "0")], asked) as one:
        check = replace(one.check, path="/up", grpc=True, expect="0", relay=1, timeout_ms=5_000)
        said = await relayed(replace(one, check=check), head)
        assert said == (b"HTTP/1.1 200 ." if status else b"") and len(asked) == (1 if status else 0)
        assert grpc_code("414") == "14" and grpc_code("400") == "0" and grpc_code("") == ""


async def test_one_that_begins_to_listen_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_checks, "AGAIN_S", 0.01)
    site, told = Site(), asyncio.Queue[tuple[str, str]]()
    checks = FirstChecks(told.put)
    checks.follow({PLACE: site.candidate})
    await site.start()
    async with asyncio.timeout(60):
        assert await told.get() == PLACE
    checks.follow({PLACE: site.candidate})
    await turn(20)
    assert told.empty() and len(site.asked) == 1
    await checks.close()
    site.server.close()


async def test_who_is_no_candidate_any_more_is_asked_no_more(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setattr(first_checks, "AGAIN_S", 0.0)
    site.answer = b"HTTP/1.1 500 No\r\n\r\n"
    checks = FirstChecks(asyncio.Queue[tuple[str, str]]().put)
    checks.follow({PLACE: site.candidate})
    await until(lambda: len(site.asked) >= 3)
    checks.follow({})
    await checks.close()
    count = len(site.asked)
    await turn(50)
    assert len(site.asked) <= count + 1
