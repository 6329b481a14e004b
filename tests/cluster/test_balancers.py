"""Balancers on a real HAProxy: every kind of rule, health, stickiness, drain, reloads and kills under load."""

from __future__ import annotations

import re
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from minicloud.balancer import attributes, service
from minicloud.balancer import commands as ask
from minicloud.balancer.access import Entries
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.model import Action, Condition
from tests.cluster import balancer_world
from tests.cluster.balancer_world import HOME, QUICK, Client, World, forward, secure, specs, spread, until

pytestmark = pytest.mark.timeout(300)
REDIRECT = Action("redirect", status=302, path="/elsewhere")
FIXED = Action("fixed-response", status=418, content_type="application/json", text='{"it\'s": "100 %"}\n\tx')


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="mcb-") as folder:
        made = await World(Path(folder)).start()
        yield made
        await made.close()


async def test_requests_reach_targets_with_the_headers_of_a_balancer(world: World) -> None:
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one, two)
    await world.listener(web, forward(app))
    await world.healthy(app, 2)
    assert await spread(web.address, 8080, 10) == {"one": 5, "two": 5}
    client = Client(web.address, 8080)
    said = (await client.get("/a?b=c", X_Forwarded_For="10.9.9.9", X_Forwarded_Proto="https")).body.lower()
    assert "x-forwarded-for: 10.9.9.9, 127." in said
    assert "x-forwarded-proto: http\r" in said and "x-forwarded-port: 8080" in said
    assert "x-amzn-trace-id: root=1-" in said and "get /a?b=c " in said and "host: app.example" in said
    await world.attributes(web.arn, routing__http__xff_header_processing__mode="remove")
    client.close()
    assert "x-forwarded-for" not in (await client.get("/")).body.lower()
    odd = {"X_Odd~Name": "1", "X_Plain": "2"}
    assert "x-odd~name: 1" in (await client.get("/", **odd)).body.lower()
    await world.attributes(web.arn, routing__http__drop_invalid_header_fields__enabled="true")
    client.close()
    said = (await client.get("/", **odd)).body.lower()
    assert "x-odd~name" not in said and "x-plain: 2" in said
    client.close()


RULES = [
    ((Condition("host-header", ("*.shop.example",)),), "/", {"host": "A.shop.example:8080"}, {"host": "shop.example"}),
    ((Condition("path-pattern", ("/img/*", "/exact")),), "/img/a", {}, {}),
    ((Condition("http-header", ("*Fire?ox",), header="X-Agent"),), "/", {"X_Agent": "a firefox"}, {"X_Agent": "b"}),
    ((Condition("http-request-method", ("DELETE", "PUT")),), "/", {"method": "PUT"}, {"method": "GET"}),
    ((Condition("source-ip", ("127.0.0.0/8",)), Condition("path-pattern", ("/in",))), "/in", {}, {}),
]  # fmt: skip


async def test_every_kind_of_condition(world: World) -> None:
    web = await world.balancer()
    listener = await world.listener(web, FIXED)
    app = await world.group(await world.web("app"))
    for number, (conditions, *_) in enumerate(RULES, 1):
        await world.service.submit(ask.CreateRule(HOME, listener.arn, number, conditions, forward(app)))
    pair = (Condition("query-string", ("version=v?", "=*debug*")),)
    await world.service.submit(ask.CreateRule(HOME, listener.arn, 50, pair, forward(app)))
    never = (Condition("source-ip", ("10.0.0.0/8",)),)
    await world.service.submit(ask.CreateRule(HOME, listener.arn, 51, never, forward(app)))
    await world.service.settled()
    client = Client(web.address, 8080)
    for conditions, path, fits, differs in RULES:
        assert (await client.get(path, **fits)).who == "app", conditions
        if differs:
            assert (await client.get(path, **differs)).status == 418, conditions
    for path in ("/exact", "/?version=V2", "/?a=b&version=v3", "/?any=xdebugx"):
        assert (await client.get(path)).who == "app", path
    for path in ("/exact/", "/", "/IMG/a", "/?version=v", "/?xversion=v2", "/?version=v2x"):
        reply = await client.get(path)
        assert reply.status == 418, path
    assert reply.body == FIXED.text and reply.headers["content-type"] == "application/json"
    assert reply.headers["server"] == "awselb/2.0"
    client.close()


async def test_priorities_decide_and_redirects_are_made_of_the_request(world: World) -> None:
    web = await world.balancer()
    listener = await world.listener(web, FIXED)
    away = Action("redirect", status=301, protocol="HTTPS", port="443")
    there = Action("redirect", status=302, host="new.#{host}", path="/v2/#{path}", query="from=#{path}&#{query}")
    first = await world.service.submit(
        ask.CreateRule(HOME, listener.arn, 1, (Condition("path-pattern", ("/*",)),), away)
    )
    second = await world.service.submit(
        ask.CreateRule(HOME, listener.arn, 2, (Condition("path-pattern", ("/x",)),), there)
    )
    await world.service.settled()
    client = Client(web.address, 8080)
    assert (await client.get("/x?y=1")).headers["location"] == "https://app.example:443/x?y=1"
    assert (await client.get("/x")).headers["location"] == "https://app.example:443/x"
    await world.service.submit(ask.SetPriorities(HOME, {first.arn: 2, second.arn: 1}))
    await world.service.settled()
    client.close()
    reply = await client.get("/x?y=1")
    assert (reply.status, reply.headers["location"]) == (302, "http://new.app.example:8080/v2/x?from=x&y=1")
    client.close()


async def test_weights_and_clients_that_stay_with_a_group(world: World) -> None:
    blue, green = (
        await world.group(await world.web("blue"), name="blue"),
        await world.group(await world.web("green"), name="green"),
    )
    web = await world.balancer()
    listener = await world.listener(web, forward((blue, 3), (green, 1)))
    await world.healthy(blue, 1)
    await world.healthy(green, 1)
    found = await spread(web.address, 8080, 400)
    assert 240 <= found["blue"] <= 350 and sum(found.values()) == 400
    await world.service.submit(
        ask.ModifyListener(HOME, listener.arn, action=forward((blue, 1), (green, 1), sticky_s=60))
    )
    await world.service.settled()
    client = Client(web.address, 8080)
    first = await client.get()
    (cookie,) = first.cookies
    assert cookie.startswith("AWSALBTG=tg-") and "Expires=" in cookie and "Path=/" in cookie
    word = cookie.split(";")[0]
    assert await spread(web.address, 8080, 20, Cookie=word) == {first.who: 20}
    assert len(await spread(web.address, 8080, 40, Cookie="AWSALBTG=tg-nobody")) == 2
    client.close()


async def test_clients_stay_with_a_target_until_it_leaves(world: World) -> None:
    webs = [await world.web(name, head="Set-Cookie: session=abc\r\n") for name in ("one", "two", "three")]
    web, app = await world.balancer(), await world.group(*webs)
    await world.listener(web, forward(app))
    await world.healthy(app, 3)
    await world.attributes(app.arn, stickiness__enabled="true")
    client = Client(web.address, 8080)
    first = await client.get()
    (cookie,) = [one for one in first.cookies if one.startswith("AWSALB=")]
    word = cookie.split(";")[0]
    assert await spread(web.address, 8080, 12, Cookie=word) == {first.who: 12}
    await world.deregister(app, world.webs[first.who])
    await world.service.settled()
    assert first.who not in await spread(web.address, 8080, 12, Cookie=word)
    await world.attributes(app.arn, stickiness__type="app_cookie", stickiness__app_cookie__cookie_name="session")
    client.close()
    first = await client.get()
    word = first.cookies[0].split(";")[0]
    assert word.endswith("~abc")
    assert await spread(web.address, 8080, 12, Cookie=word) == {first.who: 12}
    assert "cookie: session=abc\r" in (await client.get(Cookie=word)).body.lower(), "the target sees its own"
    client.close()


async def test_health_in_awss_words_and_half_dead_targets_are_left_out(world: World) -> None:
    good, bad, mute = [await world.web(name) for name in ("good", "bad", "mute")]
    bad.health, mute.mute = 503, True
    web, app = await world.balancer(), await world.group(good)
    gone = await world.web("gone")
    await gone.stop()
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    await world.register(app, bad, mute, gone)
    await until(lambda: len([one for one in world.health(app) if one.startswith("unhealthy")]) == 3)
    said = dict(zip(sorted(web_.port for web_ in (good, bad, mute, gone)), world.health(app), strict=True))
    assert said == {
        good.port: "healthy",
        bad.port: "unhealthy Target.ResponseCodeMismatch",
        mute.port: "unhealthy Target.Timeout",
        gone.port: "unhealthy Target.FailedHealthChecks",
    }
    targets = world.service.read(lambda state: state.targets_of(app.arn))
    assert "Health checks failed with these codes: [503]" in {one.description for one in targets}
    assert await spread(web.address, 8080, 20) == {"good": 20}
    bad.health = 200
    await world.healthy(app, 2)
    good.mute = True
    await until(lambda: world.health(app).count("unhealthy Target.Timeout") == 2)
    assert await spread(web.address, 8080, 10) == {"bad": 10}
    bad.health = 500
    await until(lambda: "healthy" not in world.health(app))
    await world.deregister(app, good, mute, gone)
    await until(lambda: len(world.health(app)) <= 2)
    assert "bad" in await spread(web.address, 8080, 2), "fail open: all are unhealthy, so all are tried"


async def test_tls_with_a_certificate_for_each_name(world: World) -> None:
    web, app = await world.balancer(), await world.group(await world.web("one"))
    trust = await secure(world, web, forward(app), "a.example", "b.example")
    await world.healthy(app, 1)
    for name in ("a.example", "b.example"):
        client = Client(web.address, 8443, trust, name)
        said = (await client.get()).body.lower()
        assert "x-forwarded-proto: https" in said
        client.close()
    with pytest.raises(ssl.SSLError):
        await Client(web.address, 8443, trust, "c.example").get()
    files = list((world.folder / "balancer" / "certificates").iterdir())
    assert len(files) == 2 and all(file.stat().st_mode & 0o077 == 0 for file in files)


async def test_network_balancers_pass_bytes(world: World) -> None:
    web = await world.web("one")
    net = await world.balancer("net", type="network")
    spec = HealthSpec(interval_s=5, timeout_s=2, healthy=2)
    raw = await world.group(web, name="raw", protocol="TCP", health=spec)
    await world.listener(net, forward(raw), protocol="TCP")
    trust = await secure(world, net, forward(raw), "a.example", protocol="TLS")
    await world.healthy(raw, 1)
    said = (await Client(net.address, 8080).get()).body.lower()
    assert said.startswith("one") and "x-forwarded" not in said
    assert (await Client(net.address, 8443, trust, "a.example").get()).who == "one"


async def test_access_logs_say_who_asked_what(world: World) -> None:
    web, app = await world.balancer(), await world.group(await world.web("one"))
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    path = world.folder / "balancer" / "access.log"
    told: Entries = {}
    world.service.on_access = told.update
    await spread(web.address, 8080, 1, "/silent")
    await world.attributes(web.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    await spread(web.address, 8080, 1, "/said?a=b")
    await until(lambda: "/said?a=b" in path.read_text())
    assert len(path.read_text().splitlines()) == 1
    await until(lambda: bool(told))
    (((scope, group, stream), ((at, line),)),) = told.items()
    assert (scope, group) == (HOME, "/aws/elasticloadbalancing/logs") and abs(at - time.time()) < 30
    assert stream.startswith("AWSLogs/000000000000/elasticloadbalancing/us-east-1/app.web.")
    words = re.findall(r'"[^"]*"|\S+', line)
    assert len(words) == 30 and words[0] == "http" and words[2] == web.arn.split(":loadbalancer/")[1]
    assert words[8:10] == ["200", "200"] and words[4].startswith("127.0.0.1:") and words[16] == app.arn
    assert words[12] == f'"GET http://{web.address}:8080/said?a=b HTTP/1.1"' and words[17].startswith('"Root=1-')
    await Client(web.address, 8080).get("/agent", **{"User-Agent": 'a "quoted" \\ agent'})
    await until(lambda: any("/agent" in entry for entries in told.values() for _, entry in entries))
    (((_, line),),) = told.values()
    assert r'"a \"quoted\" \\ agent"' in line


async def test_access_logs_of_network_balancers_are_of_tls_connections(world: World) -> None:
    web = await world.web("one")
    net = await world.balancer("net", type="network")
    spec = HealthSpec(interval_s=5, timeout_s=2, healthy=2)
    raw = await world.group(web, name="raw", protocol="TCP", health=spec)
    await world.listener(net, forward(raw), protocol="TCP")
    trust = await secure(world, net, forward(raw), "a.example", "b.example", protocol="TLS")
    await world.attributes(net.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    await world.healthy(raw, 1)
    told: list[tuple[float, str]] = []
    world.service.on_access = lambda found: told.extend(one for entries in found.values() for one in entries)
    await spread(net.address, 8080, 1)
    client = Client(net.address, 8443, trust, "b.example")
    await client.get()
    client.close()
    await until(lambda: bool(told))
    ((at, line),) = told
    words = line.split(" ")
    listener = world.service.read(lambda state: next(one for one in state.listeners.values() if one.protocol == "TLS"))
    assert len(words) == 22 and words[:2] == ["tls", "2.0"] and abs(at - time.time()) < 30
    assert words[3:5] == [net.arn.split(":loadbalancer/")[1], listener.arn.rsplit("/", 1)[-1]]
    assert words[5].startswith("127.") and words[6] == f"{net.address}:8443"
    assert 0 <= int(words[8]) <= int(words[7]) < 30_000 and int(words[9]) > 20 and int(words[10]) > 20
    assert (words[12], words[15], words[17]) == (listener.certificates[1], "tlsv12", "b.example")
    assert words[14].startswith("ECDHE-") and {words[place] for place in (11, 13, 16, 18, 19, 20)} == {"-"}
    assert "T" in words[2] and words[21] <= words[2]


async def test_an_access_log_says_what_was_done_and_with_which_certificate(world: World) -> None:
    web = await world.balancer()
    trust = await secure(world, web, FIXED, "a.example", "b.example")
    (listener,) = world.service.read(lambda state: state.listeners_of(web.arn))
    app = await world.group(await world.web("one"))
    for priority, path, action in ((1, "/on", forward(app)), (2, "/to", REDIRECT)):
        rule = ask.CreateRule(HOME, listener.arn, priority, (Condition("path-pattern", (path,)),), action)
        await world.service.submit(rule)
    await world.attributes(web.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    told: list[list[str]] = []
    world.service.on_access = lambda found: told.extend(
        re.findall(r'"[^"]*"|\S+', line) for entries in found.values() for _, line in entries
    )
    client = Client(web.address, 8443, trust, "b.example")
    for path in ("/on", "/to", "/"):
        await client.get(path)
    client.close()
    await until(lambda: len(told) == 3)
    assert [words[22] for words in told] == ['"forward"', '"redirect"', '"fixed-response"']
    assert {words[19] for words in told} == {f'"{listener.certificates[1]}"'} and told[0][18] == '"b.example"'


async def test_the_longest_line_is_whole(world: World) -> None:
    web = await world.balancer()
    await world.listener(web, FIXED)
    await world.attributes(web.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    told: list[str] = []
    world.service.on_access = lambda found: told.extend(line for one in found.values() for _, line in one)
    path, agent, trace = "/" + "x" * 15_900, '"' * 20_000, '"' * 5_000
    await Client(web.address, 8080).get(path, **{"User-Agent": agent, "X-Amzn-Trace-Id": trace})
    await Client(web.address, 8080).get("/" + '"' * 40_000)
    await until(lambda: len(told) == 2)
    assert f":8080{path} HTTP/1.1" in told[0] and told[0].endswith(' "fixed-response" "-" "-" "-" "-" "-" "-" -')
    assert '\\"' * 8_192 + '"' in told[0] and '\\"' * 8_193 not in told[0]
    assert told[1].endswith(' "fixed-response" "-" "-" "-" "-" "-" "-" -')


async def test_lines_that_come_faster_than_they_are_read_are_counted(world: World) -> None:
    web = await world.balancer()
    await world.listener(web, FIXED)
    await world.attributes(web.arn, access_logs__s3__enabled="true", access_logs__s3__bucket="logs")
    told = 0

    def count(found: Entries) -> None:
        nonlocal told
        told += sum(map(len, found.values()))

    world.service.on_access = count
    path, asked = "/" + "x" * 6_000, 800

    def ask_and_ask() -> None:
        """In a thread of its own, while nobody reads."""
        with socket.create_connection((web.address, 8080)) as connection, connection.makefile("rb") as answers:
            for _ in range(asked):
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                while answers.readline() != b"\r\n":
                    pass
                answers.read(len(FIXED.text))

    thread = threading.Thread(target=ask_and_ask)
    thread.start()
    thread.join()  # the loop, which reads, stands still
    await until(lambda: told > 0)
    await spread(web.address, 8080, 1)  # with the next line HAProxy says how many it had no room for
    await until(lambda: told + world.service.lines_dropped > asked)
    assert told + world.service.lines_dropped == asked + 1 and world.service.lines_dropped > 0


async def test_logs_start_anew_when_they_are_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOG_BYTES_MAX", 10)
    web = await world.balancer()
    await world.listener(web, FIXED)
    await world.listener(web, FIXED, port=8081)  # the process that leaves says so
    folder = world.folder / "balancer"
    await until(lambda: (folder / "haproxy.log.1").exists() and (folder / "haproxy.log").stat().st_size == 0)


async def test_zones_get_the_same_share_where_traffic_does_not_cross(world: World) -> None:
    webs = [await world.web(f"w{n}") for n in range(4)]
    web, app = await world.balancer(), await world.group(health=QUICK)
    zones = ("a", "b", "b", "b")
    targets = tuple(
        ask.TargetSpec(spec.id, spec.port, zone=zone) for spec, zone in zip(specs(*webs), zones, strict=True)
    )
    await world.service.submit(ask.RegisterTargets(HOME, app.arn, targets))
    await world.listener(web, forward(app))
    await world.healthy(app, 4)
    assert (await spread(web.address, 8080, 60))["w0"] == 15
    await world.attributes(app.arn, load_balancing__cross_zone__enabled="false")
    assert 28 <= (await spread(web.address, 8080, 60))["w0"] <= 32


class Answers(grpc.GenericRpcHandler):
    """Echoes under /any/; who asked with what headers is in the answer."""

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if not details.method.startswith("/any/"):
            return None
        said = dict(details.invocation_metadata)

        async def answer(message: bytes, _context: object) -> bytes:
            return message + said["x-forwarded-proto"].encode()

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_grpc_and_its_health_checks(world: World) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answers(),))
    target = TargetSpec("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    web = await world.balancer()
    quick = {"interval_s": 10, "timeout_s": 9, "healthy": 2}
    kinds = {
        "default": HealthSpec(**quick),
        "other": HealthSpec(path="/any.Package/Nothing", codes="3,11-12", **quick),
        "wrong": HealthSpec(codes="1-11", **quick),
    }
    groups = {name: await world.group(name=name, version="GRPC", health=spec) for name, spec in kinds.items()}
    trust = await secure(world, web, forward(groups["default"]), "a.example")
    for number, group in enumerate(groups.values(), 444):
        await world.service.submit(ask.RegisterTargets(HOME, group.arn, (target,)))
        (arn,) = world.service.read(lambda state: list(state.certificates))
        await world.listener(web, forward(group), number, protocol="HTTPS", certificates=(arn,))
    await world.healthy(groups["default"], 1)
    await world.healthy(groups["other"], 1)
    await until(lambda: world.health(groups["wrong"]) == ["unhealthy Target.ResponseCodeMismatch"])
    roots = "".join(ssl.DER_cert_to_PEM_cert(one) for one in trust.get_ca_certs(binary_form=True)).encode()
    options = [("grpc.ssl_target_name_override", "a.example")]
    place = f"{web.address}:8443"
    async with grpc.aio.secure_channel(place, grpc.ssl_channel_credentials(roots), options) as channel:
        assert await channel.unary_unary("/any/thing")(b"hello ", timeout=30) == b"hello https"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/no/thing")(b"", timeout=30)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    await server.stop(0)


async def test_a_new_target_is_asked_at_once_over_tls_and_grpc_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interval lasts longer than the test."""
    monkeypatch.setattr(balancer_world, "SECOND_MS", 1_000)
    await world.stop()
    await world.start()
    slow = {"interval_s": 300, "timeout_s": 5, "healthy": 2}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Answers(),))
    calls = TargetSpec("127.0.0.1", server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("target.example").configure_cert(context)
    secret = await world.web("secret", tls=context)
    web = await world.balancer()
    over_grpc = await world.group(name="grpc", version="GRPC", health=HealthSpec(**slow))
    over_tls = await world.group(name="tls", protocol="HTTPS", health=HealthSpec(path="/health", **slow))
    await secure(world, web, forward(over_grpc), "a.example")
    await world.listener(web, forward(over_tls))
    await world.service.submit(ask.RegisterTargets(HOME, over_grpc.arn, (calls,)))
    await world.register(over_tls, secret)
    for group in (over_grpc, over_tls):
        await until(lambda: world.health(group) == ["healthy"])  # noqa: B023  it is called at once
    assert (await spread(web.address, 8080, 1)) == {"secret": 1}
    await server.stop(0)


async def test_metrics_say_who_answered_what(world: World) -> None:
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    listener = await world.listener(web, forward(app))
    await world.healthy(app, 1)
    await world.service.measure()
    await spread(web.address, 8080, 5)
    rule = ask.CreateRule(HOME, listener.arn, 1, (Condition("path-pattern", ("/x",)),), FIXED)
    await world.service.submit(rule)
    await world.service.settled()  # a reload: what was counted before it is not lost
    await spread(web.address, 8080, 3)
    await spread(web.address, 8080, 2, "/x")
    of_web, of_app = ("LoadBalancer", web.arn.split(":loadbalancer/")[1]), ("TargetGroup", app.arn.split(":", 5)[5])
    await until(lambda: sum(times.total() for times in world.service._times._times.values()) == 8)
    reports = await world.service.measure(60.0)
    said = {(each.name, one.dimensions): each for one in reports for each in one.readings}

    def value(name: str, *dimensions: tuple[str, str]) -> float:
        return said[(name, dimensions)].values[0]

    assert value("RequestCount", of_web) == 10
    for where in ((of_web, of_app), (of_app,)):
        assert value("RequestCount", *where) == value("HTTPCode_Target_2XX_Count", *where) == 8
        assert value("RequestCountPerTarget", *where) == 8 and value("HealthyHostCount", *where) == 1
    assert value("HTTPCode_Target_2XX_Count", of_web) == 8
    assert value("HTTPCode_ELB_4XX_Count", of_web) == 2 and ("HTTPCode_ELB_5XX_Count", (of_web,)) not in said
    assert value("NewConnectionCount", of_web) == 3
    for where in ((of_web,), (of_web, of_app), (of_app,)):
        times = said[("TargetResponseTime", where)]
        assert sum(times.counts) == 8 and max(times.values) < 10
    assert {(one.namespace, one.time) for one in reports} == {("AWS/ApplicationELB", 60.0)}
    counted = await world.service.counted()
    assert (counted["req_tot"], counted["hrsp_2xx"], counted["hrsp_4xx"]) == (10, 8, 2)
    again = await world.service.measure()
    assert [each.values for one in again for each in one.readings if each.name == "RequestCount"] == [(0.0,)] * 3


async def test_times_of_answers_are_told_where_an_access_log_is_kept_too(world: World) -> None:
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    await world.listener(web, forward(app))
    await world.service.submit(ask.SetAttributes(HOME, web.arn, {attributes.LOGS: "true", attributes.LOGS_BUCKET: "b"}))
    await world.service.settled()
    await world.healthy(app, 1)
    await spread(web.address, 8080, 5, "/a%20b")
    await until(lambda: sum(times.total() for times in world.service._times._times.values()) == 5)
    assert (world.service._work.folder / "access.log").read_text().count("a%20b") == 5
