"""Balancers in change and in trouble: drains, targets and listeners that come and go under load, kills."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from minicloud.balancer import commands as ask
from minicloud.balancer.model import Action, Condition
from minicloud.store.sqlite import SqliteJournal
from tests.cluster.balancer_world import HOME, Client, Load, World, forward, spread, until
from tests.machine_time import within

pytestmark = pytest.mark.timeout(300)
FIXED = Action("fixed-response", status=418)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="mcb-") as folder:
        made = await World(Path(folder)).start()
        yield made
        await made.close()


async def test_a_drain_lets_requests_in_flight_finish(world: World) -> None:
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one, two)
    await world.listener(web, forward(app))
    await world.healthy(app, 2)
    clients = [Client(web.address, 8080) for _ in range(4)]
    held = [asyncio.create_task(client.get("/hold")) for client in clients]
    await until(lambda: one.holding == two.holding == 2)
    await world.deregister(app, one)
    await world.service.settled()
    assert await spread(web.address, 8080, 10) == {"two": 10}
    await asyncio.sleep(0.3)
    assert "draining Target.DeregistrationInProgress" in world.health(app), "two requests are still in flight"
    one.hold.set()
    two.hold.set()
    assert sorted([(await each).who for each in held]) == ["one", "one", "two", "two"]
    await until(lambda: world.health(app) == ["healthy"])
    await world.register(app, one)
    await world.healthy(app, 2)
    assert set(await spread(web.address, 8080, 10)) == {"one", "two"}
    for client in clients:
        client.close()


async def test_a_drain_ends_with_its_time(world: World) -> None:
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    await world.attributes(app.arn, deregistration_delay__timeout_seconds="1")
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    client = Client(web.address, 8080)
    held = asyncio.create_task(client.get("/hold"))
    await until(lambda: one.holding == 1)
    began = time.monotonic()
    await world.deregister(app, one)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        assert (await held).status == 502
        raise ConnectionError
    assert 0.8 < time.monotonic() - began < 30  # 300 s where nobody had said one
    assert world.health(app) == []
    client.close()


async def test_targets_come_and_go_under_load_and_nobody_notices(world: World) -> None:
    webs = [await world.web(f"w{n}") for n in range(6)]
    web, app = await world.balancer(), await world.group(*webs[:3])
    await world.listener(web, forward(app))
    await world.healthy(app, 3)
    pid = world.service.plane.pid
    load = Load(web.address, 8080)
    for turn in range(40):
        come, go = webs[(turn + 3) % 6], webs[turn % 6]
        await world.register(app, come)
        await world.deregister(app, go)
        if turn % 8 == 0:
            await until(lambda: "healthy" in world.health(app))
    await until(lambda: sum(load.done.values()) > 50)
    await load.stop()
    assert load.failed == []
    assert world.service.plane.pid == pid, "no reload"


async def test_listeners_and_rules_change_under_load_and_nobody_notices(world: World) -> None:
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    listener = await world.listener(web, forward(app))
    await world.healthy(app, 1)
    pid, load = world.service.plane.pid, Load(web.address, 8080)
    for number in range(1, 7):
        rule = ask.CreateRule(HOME, listener.arn, number, (Condition("path-pattern", (f"/{number}",)),), FIXED)
        await world.service.submit(rule)
        await world.listener(web, FIXED, port=8080 + number)
    await until(lambda: sum(load.done.values()) > 50)
    await load.stop()
    assert load.failed == []
    assert world.service.plane.pid != pid
    assert world.health(app) == ["healthy"], "what was known of servers went along"
    assert (await Client(web.address, 8083).get("/")).status == 418
    assert (await Client(web.address, 8080).get("/5")).status == 418


async def back_after_a_kill(world: World, address: str) -> float:
    pid = world.service.plane.pid
    assert pid is not None
    began = time.monotonic()
    os.kill(pid, 9)
    await until(lambda: world.service.plane.pid not in (None, pid))
    await world.service.settled()
    assert await spread(address, 8080, 1) == {"one": 1}
    return time.monotonic() - began


async def test_a_killed_haproxy_is_back_and_so_is_the_service(world: World) -> None:
    one = await world.web("one")
    web, app = await world.balancer(), await world.group(one)
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    took = [await back_after_a_kill(world, web.address)]
    while min(took) > 2 and len(took) < 5:  # this machine may have been busy
        took.append(await back_after_a_kill(world, web.address))
    assert min(took) < 2, took
    await world.stop()
    with pytest.raises(OSError):
        await Client(web.address, 8080).get()
    await world.start()
    assert await spread(web.address, 8080, 1) == {"one": 1}
    assert world.health(app) == ["healthy"]


async def test_websockets_pass_and_outlive_a_reload(world: World) -> None:
    web, app = await world.balancer(), await world.group(await world.web("one"))
    listener = await world.listener(web, forward(app))
    await world.healthy(app, 1)
    reader, writer = await asyncio.open_connection(web.address, 8080)
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + key + b"\r\n")
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    for text in (b"1", b"22", b"333"):
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
        rule = ask.CreateRule(HOME, listener.arn, len(text), (Condition("path-pattern", ("/x",)),), FIXED)
        await world.service.submit(rule)
        await world.service.settled()
    writer.close()


async def test_a_port_of_another_program_holds_up_nobody_else(world: World) -> None:
    web = await world.balancer()
    other = await asyncio.start_server(lambda _r, w: w.close(), web.address, 8081)
    taken = await world.listener(web, FIXED, port=8081)
    await world.listener(web, FIXED, port=8082)
    assert (await Client(web.address, 8082).get()).status == 418
    assert list(world.service.plane.left_out) == [taken.arn]
    other.close()


async def test_a_port_that_a_listener_moves_to_and_that_is_taken_holds_up_nobody_over_a_crash_too(world: World) -> None:
    web = await world.balancer()
    moved = await world.listener(web, FIXED, port=8082)
    await world.listener(web, FIXED, port=8083)
    other = await asyncio.start_server(lambda _r, w: w.close(), web.address, 8081)
    await world.service.submit(ask.ModifyListener(HOME, moved.arn, port=8081))
    await world.listener(web, FIXED, port=8084)
    assert (await Client(web.address, 8084).get()).status == 418
    await world.crash()
    await asyncio.wait_for(world.start(), 30)
    assert list(world.service.plane.left_out) == [moved.arn]
    assert [(await Client(web.address, port).get()).status for port in (8083, 8084)] == [418, 418]
    other.close()


async def test_a_balancer_that_haproxy_does_not_take_holds_up_nobody_else(world: World) -> None:
    """None that the service accepts is known: one is broken by hand."""
    bad, good, third = [await world.balancer(name) for name in ("bad", "good", "third")]
    group = await world.group()
    state = world.service._machine.state
    state.groups[group.arn] = replace(group, health=replace(group.health, path="/" + "x" * 5000))
    broken = await world.listener(bad, forward(group))
    await world.listener(good, FIXED)
    await world.listener(third, FIXED)
    assert [(await Client(one.address, 8080).get()).status for one in (good, third)] == [418, 418]
    assert set(world.service.plane.left_out) == {bad.arn, broken.arn}
    await world.service.submit(ask.DeleteBalancer(HOME, bad.arn))
    await world.service.settled()
    assert world.service.plane.left_out == {}


async def test_a_target_that_dies_costs_no_more_than_what_it_had(world: World) -> None:
    """Killed, not deregistered: connections that are refused are tried elsewhere, at once."""
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one, two)
    await world.listener(web, forward(app))
    await world.healthy(app, 2)
    load = Load(web.address, 8080, connections=4)
    await until(lambda: sum(load.done.values()) > 50)
    await one.kill()
    await until(lambda: "unhealthy Target.FailedHealthChecks" in world.health(app))
    await load.stop()
    assert len(load.failed) <= 4, load.failed


async def test_a_drain_goes_on_over_a_reload(world: World) -> None:
    """The process that was replaced still has the request; the target stays draining until it is answered."""
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one)
    listener = await world.listener(web, forward(app))
    await world.healthy(app, 1)
    client = Client(web.address, 8080)
    held = asyncio.create_task(client.get("/hold"))
    await until(lambda: one.holding == 1)
    await world.register(app, two)
    await world.deregister(app, one)
    await world.service.submit(ask.CreateRule(HOME, listener.arn, 1, (Condition("path-pattern", ("/x",)),), FIXED))
    await world.service.settled()
    assert not world.service.plane.settled, "two processes"
    await world.healthy(app, 1)
    assert await spread(web.address, 8080, 5) == {"two": 5}
    await asyncio.sleep(0.3)
    assert any(one.startswith("draining") for one in world.health(app))
    one.hold.set()
    assert (await held).who == "one"
    await until(lambda: world.health(app) == ["healthy"])
    assert world.service.plane.settled
    client.close()


async def test_kills_under_load_cost_the_requests_in_flight_and_the_time_without_a_haproxy(world: World) -> None:
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one, two)
    await world.listener(web, forward(app))
    await world.healthy(app, 2)
    load = Load(web.address, 8080, connections=4)
    for _ in range(3):
        pid = world.service.plane.pid
        assert pid is not None
        os.kill(pid, 9)
        await until(lambda pid=pid: world.service.plane.pid not in (None, pid))  # type: ignore[misc]
        await world.service.settled()
        done = sum(load.done.values())
        failed = len(load.failed)
        await until(lambda done=done: sum(load.done.values()) > done + 20)  # type: ignore[misc]
        assert len(load.failed) <= failed + 4, "it serves again, and at once"
        await until(lambda: world.health(app) == ["healthy", "healthy"])
    await load.stop()
    assert all("Connect" in one or "Incomplete" in one for one in load.failed), load.failed
    assert len(world.pids) == len(set(world.pids)) >= 4


async def test_a_service_that_is_killed_leaves_traffic_alone_and_its_successor_takes_it_over(world: World) -> None:
    one, two = await world.web("one"), await world.web("two")
    web, app = await world.balancer(), await world.group(one)
    await world.listener(web, forward(app))
    await world.healthy(app, 1)
    load, before = Load(web.address, 8080), world.service.plane.pid
    await world.crash()
    await asyncio.sleep(0.2)
    with within(2):
        await world.start()
    assert world.service.plane.pid not in (None, before) and world.health(app) == ["healthy"]
    await world.register(app, two)
    await world.healthy(app, 2)
    await until(lambda: load.done["two"] > 10)
    await load.stop()
    assert load.failed == []
    await until(lambda: not Path(f"/proc/{before}").exists() or "Z" in Path(f"/proc/{before}/stat").read_text().split())


async def test_who_lost_the_journal_starts_no_haproxy(world: World) -> None:
    web = await world.balancer()
    await world.listener(web, FIXED)
    successor = SqliteJournal(world.folder / "state.db")
    successor.acquire("successor")
    pid = world.service.plane.pid
    assert pid is not None
    os.kill(pid, 9)
    await asyncio.wait_for(world.service.ended.wait(), 30)
    await asyncio.sleep(0.5)
    assert world.service.plane.pid is None and len(world.pids) == len(set(world.pids))
    with pytest.raises(OSError):
        await Client(web.address, 8080).get()
    successor.close()
