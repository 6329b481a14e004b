"""The metadata service over real sockets: botocore's own readers, and clients that mean no good."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from botocore.session import Session
from botocore.utils import IMDSRegionProvider, InstanceMetadataFetcher

from minicloud.host import imds as module
from minicloud.host.imds import Guests, Imds
from minicloud.host.metadata import GuestFacts
from minicloud.wire.fleet_pb2 import GuestSpec
from minicloud.wire.instance_pb2 import MetadataOptions

ONE, OTHER = "i-0123456789abcdef0", "i-0123456789abcdef1"
TTL, TOKEN = "X-aws-ec2-metadata-token-ttl-seconds", "X-aws-ec2-metadata-token"


def facts(instance_id: str, address: str, tokens: str = "optional", endpoint: str = "enabled") -> GuestFacts:
    options = MetadataOptions(http_tokens=tokens, http_endpoint=endpoint)
    spec = GuestSpec(
        instance_id=instance_id,
        region="us-east-1",
        zone="us-east-1a",
        user_data="#!/bin/sh\n",
        metadata_options=options,
    )
    return GuestFacts(spec, address)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: str


class World:
    def __init__(self, service: Imds, guests: Guests, port: int) -> None:
        self.service = service
        self.guests = guests
        self.port = port

    async def ask(self, method: str, path: str, source: str = "127.0.0.5", **headers: str) -> Reply:
        async with asyncio.timeout(60):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
            writer.write("\r\n".join([f"{method} {path} HTTP/1.1", "Connection: close", *lines, "", ""]).encode())
            reply = parsed(await reader.read())
            writer.close()
            return reply

    async def token(self, ttl: int = 60, source: str = "127.0.0.5") -> str:
        reply = await self.ask("PUT", "/latest/api/token", source, **{TTL: str(ttl)})
        assert reply.status == 200 and reply.headers[TTL.lower()] == str(ttl)
        return reply.body


def parsed(raw: bytes) -> Reply:
    head, _, body = raw.decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    return Reply(int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    guests = Guests()
    guests.put(facts(ONE, "127.0.0.5"))
    guests.put(facts(OTHER, "127.0.0.6", tokens="required"))
    guests.put(facts("i-0123456789abcdef2", "127.0.0.7", endpoint="disabled"))
    service = Imds(guests, b"k" * 32)
    server = await service.serve(bound())
    yield World(service, guests, server.sockets[0].getsockname()[1])
    service.close()


def bound() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    return sock


async def test_guests_are_told_apart_by_their_address(world: World) -> None:
    assert (await world.ask("GET", "/latest/meta-data/instance-id")).body == ONE
    token = await world.token(source="127.0.0.6")
    reply = await world.ask("GET", "/latest/meta-data/instance-id", "127.0.0.6", **{TOKEN: token})
    assert reply.body == OTHER and int(reply.headers[TTL.lower()]) <= 60
    assert (await world.ask("GET", "/latest/meta-data/instance-id", "127.0.0.8")).status == 403


async def test_version_two_only(world: World) -> None:
    reply = await world.ask("GET", "/latest/meta-data/", "127.0.0.6")
    assert reply.status == 401 and "<title>401 - Unauthorized</title>" in reply.body
    assert reply.headers["content-type"] == "text/html"
    mine = await world.token()
    assert (await world.ask("GET", "/latest/meta-data/", "127.0.0.6", **{TOKEN: mine})).status == 401
    for bad in ("x", "", "A" * 54, mine[:-3] + "AAA", "é"):
        assert (await world.ask("GET", "/latest/meta-data/", **{TOKEN: bad})).status == 401


async def test_a_disabled_endpoint_is_forbidden(world: World) -> None:
    for method in ("GET", "PUT"):
        assert (await world.ask(method, "/latest/api/token", "127.0.0.7", **{TTL: "60"})).status == 403


@pytest.mark.parametrize("ttl", ["0", "21601", "-1", "1.5", "x", "999999", ""])
async def test_a_lifetime_out_of_range_is_bad(world: World, ttl: str) -> None:
    assert (await world.ask("PUT", "/latest/api/token", **{TTL: ttl})).status == 400


async def test_refusals(world: World) -> None:
    assert (await world.ask("PUT", "/latest/api/token")).status == 400
    assert (await world.ask("PUT", "/latest/api/token", X_Forwarded_For="1.2.3.4", **{TTL: "60"})).status == 403
    reply = await world.ask("GET", "/latest/api/token")
    assert (reply.status, reply.headers["allow"]) == (405, "options, put")
    assert (await world.ask("POST", "/latest/meta-data/")).status == 405
    assert (await world.ask("DELETE", "/latest/user-data")).status == 405
    assert (await world.ask("GET", "/latest/meta-data/iam/security-credentials/")).status == 404
    assert (await world.ask("GET", "/latest/meta-data/none")).body.count("404 - Not Found") == 2


@pytest.mark.parametrize(
    ("host", "status"),
    [("169.254.169.254", 200), ("127.0.0.1:80", 200), ("[::1]:80", 200), ("instance-data", 200), ("evil.example", 403)],
)
async def test_a_web_page_of_elsewhere_reads_nothing(world: World, host: str, status: int) -> None:
    assert (await world.ask("GET", "/latest/user-data", Host=host)).status == status


async def test_content_types_and_head(world: World) -> None:
    reply = await world.ask("GET", "/latest/user-data")
    assert (reply.headers["content-type"], reply.body) == ("application/octet-stream", "#!/bin/sh\n")
    head = await world.ask("HEAD", "/latest/user-data")
    assert (head.status, head.headers["content-length"], head.body) == (200, "10", "")


async def test_options_can_change_while_it_runs(world: World) -> None:
    world.guests.put(facts(ONE, "127.0.0.5", tokens="required"))
    assert (await world.ask("GET", "/latest/meta-data/")).status == 401
    world.guests.remove(ONE)
    assert (await world.ask("GET", "/latest/meta-data/")).status == 403


async def test_tokens_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await world.token(1)
    later = asyncio.get_running_loop().time() + 1.01
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: later)
    left = world.service.tokens.left(token.encode(), ONE, later)
    monkeypatch.undo()
    assert left == 0.0
    assert world.service.tokens.left(token.encode(), ONE, later - 1) > 0


async def test_one_socket_for_one_guest(world: World) -> None:
    server = await world.service.serve(bound(), OTHER)
    alone = World(world.service, world.guests, server.sockets[0].getsockname()[1])
    token = await alone.token(source="127.0.0.1")
    reply = await alone.ask("GET", "/latest/meta-data/instance-id", "127.0.0.1", **{TOKEN: token})
    assert reply.body == OTHER
    world.service.stop(OTHER)
    with pytest.raises(OSError):
        await alone.ask("GET", "/", "127.0.0.1")
    assert (await world.ask("GET", "/")).status == 200


async def test_botocore_reads_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await world.service.serve(bound(), OTHER)  # tokens required
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)

    def read() -> tuple[str | None, dict[str, str]]:
        region = IMDSRegionProvider(Session()).provide()
        credentials = InstanceMetadataFetcher(base_url=endpoint).retrieve_iam_role_credentials()
        return region, credentials

    assert await asyncio.to_thread(read) == ("us-east-1", {})


# --- clients that mean no good


async def exchange(world: World, data: bytes, source: str = "127.0.0.5") -> bytes:
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port, local_addr=(source, 0))
        writer.write(data)
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 20_000,
        b"GET /" + b"a" * 20_000,
        b"PUT /latest/api/token HTTP/1.1\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000,
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_nonsense_is_refused_and_the_service_goes_on(world: World, data: bytes) -> None:
    reply = await exchange(world, data)
    assert b" 200 " not in reply
    assert (await world.ask("GET", "/")).status == 200


async def test_requests_on_one_connection(world: World) -> None:
    one = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"
    last = one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert (await exchange(world, one * 3 + last)).count(ONE.encode()) == 4


async def test_slow_heads_are_cut(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_S", 0.1)
    assert await exchange(world, b"GET / HT") == b""


async def test_connections_are_bounded_each(world: World) -> None:
    held = [await asyncio.open_connection("127.0.0.1", world.port, local_addr=("127.0.0.5", 0)) for _ in range(64)]
    assert (await world.ask("GET", "/")).status == 503
    assert (await world.ask("GET", "/", "127.0.0.6")).status == 401
    for _reader, writer in held:
        writer.close()
    async with asyncio.timeout(60):
        while (await world.ask("GET", "/")).status != 200:
            pass
