"""The first check of a new server: as HAProxy would make it, at once, and again until it passes or time is up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from minicloud.cluster.ports import free_port
from minicloud.proxy import first_checks
from minicloud.proxy.config import HealthCheck
from minicloud.proxy.first_checks import Candidate, FirstChecks, is_ours, passes
from tests.turns import turn, until

LOCAL, PLACE = "127.0.0.1", ("tg-1", "i-1:80")
CHECK = HealthCheck("/up", expect="200,301-302", timeout_ms=300, agent="ELB-HealthChecker/2.0")


class Site:
    """Answers every connection with the same bytes; b"": with nothing."""

    def __init__(self) -> None:
        self.port = free_port(LOCAL)
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        self.asked: list[bytes] = []

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, LOCAL, self.port)

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
    assert await passes(replace(site.candidate, check=HealthCheck("", timeout_ms=300)))
    assert not await passes(Candidate(LOCAL, free_port(LOCAL), HealthCheck(""), 1.0))


async def test_a_port_of_its_own(site: Site) -> None:
    assert await passes(Candidate(LOCAL, 1, replace(CHECK, port=site.port), 1.0))


def test_what_is_left_to_haproxy() -> None:
    assert is_ours(CHECK, tls=False, h2=False)
    assert not is_ours(CHECK, tls=True, h2=False) and not is_ours(CHECK, tls=False, h2=True)
    assert is_ours(replace(CHECK, tls=False), tls=True, h2=False)
    assert not is_ours(replace(CHECK, tls=True), tls=False, h2=False)
    assert not is_ours(replace(CHECK, grpc=True), tls=False, h2=False)


async def test_one_that_begins_to_listen_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_checks, "AGAIN_S", 0.01)
    site, told = Site(), asyncio.Queue[tuple[str, str]]()
    checks = FirstChecks(told.put)
    checks.follow({PLACE: site.candidate})
    await site.start()
    async with asyncio.timeout(5):
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
