"""Balancers on a real HAProxy: how requests are shared out, bodies on their way, HTTP/2 to targets, idle and many
connections."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from minicloud.balancer import attributes, layout, service
from minicloud.balancer import commands as ask
from minicloud.balancer.commands import HealthSpec, TargetSpec
from tests.cluster.balancer_world import HOME, QUICK, Client, Web, World, forward, pems, secure, spread, until
from tests.http2_server import Http2

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="mcb-") as folder:
        made = await World(Path(folder)).start()
        yield made
        await made.close()


async def test_http2_is_spoken_to_targets_that_do(world: World) -> None:
    asked: list[dict[bytes, bytes]] = []
    answer = [(":status", "200"), ("x-from", "h2"), ("content-length", "0")]
    server = await asyncio.get_running_loop().create_server(lambda: Http2(answer, asked), "127.0.0.1", 0)
    target = TargetSpec("127.0.0.1", server.sockets[0].getsockname()[1])
    web = await world.balancer()
    group = await world.group(version="HTTP2", health=HealthSpec(path="/health", interval_s=5, timeout_s=2, healthy=2))
    await world.listener(web, forward(group))
    await world.service.submit(ask.RegisterTargets(HOME, group.arn, (target,)))
    await world.healthy(group, 1)
    checks = len(asked)
    await until(lambda: len(asked) > checks + 2)  # HAProxy's own, which go on
    assert world.health(group) == ["healthy"]
    reply = await Client(web.address, 8080).get("/through")
    assert (reply.status, reply.headers["x-from"]) == (200, "h2")
    (request,) = [one for one in asked if one[b":path"] == b"/through"]
    assert request[b":method"] == b"GET" and request[b"x-forwarded-proto"] == b"http"
    server.close()


class Health(grpc.GenericRpcHandler):
    """Answers with a message, or fails with a code, or not at all (None)."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = grpc.StatusCode.OK
        self.asked: list[bytes] = []

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        async def answer(message: bytes, context: Any) -> bytes:
            self.asked.append(message)
            if self.code is None:
                await asyncio.Event().wait()
            if self.code is not grpc.StatusCode.OK:
                await context.abort(self.code, "no")
            return b"\x08\x01"

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_a_grpc_health_check_may_wait_for_success(world: World) -> None:
    health, server = Health(), grpc.aio.server()
    server.add_generic_rpc_handlers((health,))
    target = TargetSpec("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    web = await world.balancer()
    path, quick = "/grpc.health.v1.Health/Check", {"interval_s": 10, "timeout_s": 8, "healthy": 2, "unhealthy": 2}
    calls = await world.group(version="GRPC", health=HealthSpec(path=path, codes="0", **quick))
    await secure(world, web, forward(calls), "a.example")
    await world.service.submit(ask.RegisterTargets(HOME, calls.arn, (target,)))
    await world.healthy(calls, 1)
    count = len(health.asked)
    await until(lambda: len(health.asked) > count + 3)  # HAProxy's own, by way of us
    assert world.health(calls) == ["healthy"] and set(health.asked) == {b""}
    await world.attributes(web.arn, **{attributes.IDLE: "50"})  # a reload: the server is in the configuration now
    for code, told in (
        (grpc.StatusCode.UNAVAILABLE, "unhealthy Target.ResponseCodeMismatch"),
        (grpc.StatusCode.OK, "healthy"),
        (None, "unhealthy Target.Timeout"),
        (grpc.StatusCode.OK, "healthy"),
    ):
        health.code = code
        await until(lambda: world.health(calls) == [told])  # noqa: B023  it is called at once
        if code is grpc.StatusCode.UNAVAILABLE:
            (found,) = world.service.read(lambda state: state.targets_of(calls.arn))
            assert found.description == "Health checks failed with these codes: [14]"
    await server.stop(0)
    await until(lambda: world.health(calls) == ["unhealthy Target.FailedHealthChecks"])


async def test_a_grpc_health_check_over_tls_may_wait_for_success_too(world: World) -> None:
    health, server = Health(), grpc.aio.server()
    server.add_generic_rpc_handlers((health,))
    certificate, key = (part.encode() for part in pems(trustme.CA(), "target.example"))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    web, path = await world.balancer(), "/grpc.health.v1.Health/Check"
    spec = HealthSpec(path=path, codes="0-5", interval_s=10, timeout_s=8, healthy=2, unhealthy=2)
    calls = await world.group(protocol="HTTPS", version="GRPC", health=spec)
    await secure(world, web, forward(calls), "a.example")
    await world.service.submit(ask.RegisterTargets(HOME, calls.arn, (TargetSpec("127.0.0.1", port),)))
    await world.healthy(calls, 1)
    count = len(health.asked)
    await until(lambda: len(health.asked) > count + 3)
    assert world.health(calls) == ["healthy"]
    health.code = grpc.StatusCode.UNAVAILABLE
    await until(lambda: world.health(calls) == ["unhealthy Target.ResponseCodeMismatch"])
    await server.stop(0)


async def test_a_body_goes_on_while_it_comes(world: World) -> None:
    came = asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/health" not in await reader.readuntil(b"\r\n\r\n"):
            while data := await reader.read(100_000):
                came.put_nowait(data)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    web, app = await world.balancer(), await world.group(health=QUICK)
    await world.listener(web, forward(app))
    target = TargetSpec("127.0.0.1", server.sockets[0].getsockname()[1])
    await world.service.submit(ask.RegisterTargets(HOME, app.arn, (target,)))
    await world.healthy(app, 1)
    for head, parts in (
        (b"Content-Length: 10000000", (b"first", b"second")),
        (b"Transfer-Encoding: chunked", (b"5\r\nfirst\r\n", b"6\r\nsecond\r\n")),
    ):
        _, writer = await asyncio.open_connection(web.address, 8080)
        writer.write(b"POST /in HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
        for part in parts:
            writer.write(part)
            seen = b""
            async with asyncio.timeout(60):
                while part.strip().rsplit(b"\r\n", 1)[-1] not in seen:
                    seen += await came.get()
        writer.close()
    server.close()


async def test_an_idle_connection_is_closed_after_its_time(world: World) -> None:
    web, app = await world.balancer(), await world.group(await world.web("one"))
    await world.listener(web, forward(app))
    await world.attributes(web.arn, **{attributes.IDLE: "1"})
    await world.healthy(app, 1)
    reader, writer = await asyncio.open_connection(web.address, 8080)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(60):  # a minute where nobody had said one second
        await reader.read()  # the body, and then the end
    assert asyncio.get_running_loop().time() - began > 0.8
    writer.close()
    hung = await Client(web.address, 8080).get("/hold")  # a target that does not answer in this time
    assert hung.status == 504


async def test_who_comes_when_there_are_too_many_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "CONNECTIONS_MAX", 3)
    await world.stop()
    await world.start()
    web, app = await world.balancer(), await world.group(await world.web("one"))
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    clients = [Client(web.address, 8080) for _ in range(5)]
    for client in clients[:3]:
        assert (await client.get()).status == 200
    late = [asyncio.create_task(client.get()) for client in clients[3:]]
    done, _ = await asyncio.wait(late, timeout=0.3)
    assert not done, "there are three connections already"
    for client in clients[:2]:
        client.close()
    async with asyncio.timeout(60):
        assert [reply.status for reply in await asyncio.gather(*late)] == [200, 200]


async def raw(address: str, *parts: bytes) -> bytes:
    """What is answered until the other side closes, which may be before it has read everything."""
    reader, writer = await asyncio.open_connection(address, 8080)
    writer.write(b"".join(parts))
    found = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1_000):
                found += part
    writer.close()
    return found


async def test_heads_without_an_end_long_ones_and_ambiguous_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "HEAD_MS_MAX", 1_000)
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    assert (await raw(web.address, b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ")).startswith(b"HTTP/1.1 408 ")
    assert (await Client(web.address, 8080).get("/", **{"X-Long": "x" * 60_000})).status == 200
    head, last = b"GET / HTTP/1.1\r\nHost: a\r\n", b"Connection: close\r\n\r\n"
    count = len(one.seen)
    refused = await raw(web.address, head, b"X-Long: " + b"x" * 70_000 + b"\r\n", last)
    assert not refused or refused.startswith(b"HTTP/1.1 400 ")
    for bad in (b"Content-Length: 3\r\nContent-Length: 4\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: x\r\n"):
        assert (await raw(web.address, head, bad, last)).startswith(b"HTTP/1.1 400 "), bad
    assert len(one.seen) == count, "no target has seen one of these"
    both = b"POST /both HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n"
    await raw(web.address, both, last, b"0\r\n\r\n")
    assert "content-length" not in one.seen[-1].lower() and "/both" in one.seen[-1]


async def two(world: World, **said: str) -> tuple[str, list[Web]]:
    """A balancer's address, and its two targets."""
    webs = [await world.web("one"), await world.web("two")]
    web, app = await world.balancer(), await world.group(*webs)
    await world.listener(web, forward(app))
    await world.attributes(app.arn, **said)
    await world.healthy(app, 2)
    return web.address, webs


async def test_who_has_fewest_requests_in_flight_gets_the_next(world: World) -> None:
    address, webs = await two(world, **{attributes.ALGORITHM: "least_outstanding_requests"})
    held = [asyncio.create_task(Client(address, 8080).get("/hold")) for _ in range(6)]
    await until(lambda: [web.holding for web in webs] == [3, 3])
    webs[0].hold.set()
    await asyncio.wait(held, return_when=asyncio.FIRST_COMPLETED)
    await until(lambda: sum(task.done() for task in held) == 3)
    assert await spread(address, 8080, 12) == {"one": 12}, "the other one has three requests in flight"
    webs[1].hold.set()
    await asyncio.gather(*held)


async def test_by_lot(world: World) -> None:
    address, _ = await two(world, **{attributes.ALGORITHM: "weighted_random"})
    order = [(await spread(address, 8080, 1)).most_common(1)[0][0] for _ in range(60)]
    assert 10 < Counter(order)["one"] < 50
    assert any(a == b for a, b in pairwise(order)), "not by turns"


async def test_a_new_target_starts_slowly(world: World) -> None:
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one)
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    await world.attributes(app.arn, **{attributes.SLOW_START: "900"})
    await world.register(app, two)
    await world.healthy(app, 2)
    shares = await spread(web.address, 8080, 100)
    assert shares["two"] < 20 and shares.total() == 100, "it has not had its quarter of an hour yet"


async def test_a_network_balancer_reports_its_flows(world: World) -> None:
    net = await world.balancer("net", type="network")
    spec = HealthSpec(interval_s=5, timeout_s=2, healthy=2)
    raw = await world.group(await world.web("one"), name="raw", protocol="TCP", health=spec)
    await world.listener(net, forward(raw), protocol="TCP")
    await world.healthy(raw, 1)
    await world.service.measure()
    clients = [Client(net.address, 8080) for _ in range(2)]
    for client in clients:
        await client.get()
    clients[0].close()
    dimensions = (("LoadBalancer", net.arn.split(":loadbalancer/")[1]),)
    sums, open_now = Counter[str](), 0.0
    async with asyncio.timeout(60):
        while not sums["ProcessedBytes"] or open_now != 1:  # HAProxy counts bytes when a flow ends
            for report in await world.service.measure(60.0):
                if report.dimensions == dimensions:
                    values = {each.name: each.values[0] for each in report.readings}
                    assert report.namespace == "AWS/NetworkELB" and "RequestCount" not in values
                    sums.update(values)
                    open_now = values.get("ActiveFlowCount", 0.0)
    assert sums["NewFlowCount"] == 2 and sums["ProcessedBytes"] > 100
    clients[1].close()
