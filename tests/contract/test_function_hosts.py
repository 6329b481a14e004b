"""A function host at the end of a link: the near one and a far one in this process, with real environments on both."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from minicloud import settings
from minicloud.base.errors import Conflict, Internal, InvalidRequest, Unauthenticated, Unavailable
from minicloud.cloud_function_host import CHANNEL_OPTIONS, functions_channel
from minicloud.environment import hosts_rpc
from minicloud.environment.attached import Attached
from minicloud.environment.environment import Environment
from minicloud.environment.hosts_rpc import DESCRIPTOR, FunctionHostServicer
from minicloud.environment.link import Link
from minicloud.environment.maker import HostParts
from minicloud.environment.member import HostGone
from minicloud.environment.sites import Site
from minicloud.function.errors import TooManyRequests
from minicloud.function.ports import EnvironmentSpec, Invocation, Outcome
from minicloud.rpc import fleet_auth, function_hosts
from minicloud.rpc.certs import ensure_certs
from minicloud.rpc.door import Entry, door
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.tls import server_credentials
from minicloud.sandbox.cgroup import Cgroups
from minicloud.settings import CloudSettings, ShardSettings, TlsFiles
from minicloud.wire import fleet_pb2 as wire
from minicloud.wire import fleet_pb2_grpc
from tests.contract.function_bench import Bench, invocation, opened
from tests.contract.test_environment_walls import HERE, OTHER_HERE, RUN
from tests.machine_time import within
from tests.turns import until

SECRET = bytes(range(32))
FAR, HOST_ID = "far", "h-1"
ECHO = "def handler(event, context):\n    return event\n"
SLOW = "import os, time\ndef handler(e, c):\n  print('begun')\n  time.sleep(e)\n  return [e, os.environ['WHERE']]\n"


@dataclass
class World:
    """`near` is a bench whose host has a far host as well; `near.invoke` runs on either."""

    near: Bench
    port: int
    socket: str
    server: RpcServer
    prefix: str
    fetched: list[str] = field(default_factory=list)
    link: Link = field(init=False)

    @property
    def host(self) -> Any:
        return self.near.host

    def is_there(self) -> bool:
        return FAR in self.host._sites

    def far_groups(self) -> list[Any]:
        found = Cgroups.detect()
        return [group for name in found.existing(self.prefix) if (group := found.open(name)).pids()]

    async def only_far(self) -> None:
        await until(self.is_there)
        self.host.cordon("here", True)

    def where(self) -> dict[str, int]:
        return {name: len(site.members) for name, site in self.host._sites.items()}


def linked(world: World) -> Link:
    """A far host that runs; its `attached` has yet to be closed."""
    token = fleet_auth.token(SECRET, HOST_ID)
    target = f"127.0.0.1:{world.port}"
    link = Link(
        lambda: grpc.aio.insecure_channel(target, options=CHANNEL_OPTIONS),
        ((fleet_auth.METADATA, token),),
        lambda: hello(link),
    )
    directory = world.near.directory / "far"

    def parts(logs: Attached) -> HostParts:
        said = {"WHERE": "far"}
        return HostParts(directory, world.prefix, 64_000, logs, variables=lambda _: said, fetch=link.fetch)

    link.attached = Attached(parts)
    return link


def hello(link: Link) -> wire.FunctionHostHello:
    return wire.FunctionHostHello(
        host_id=HOST_ID,
        name=FAR,
        memory_mib=64_000,
        cores=float(os.cpu_count() or 1),
        runtimes=link.attached.maker.runtimes,
        beat=wire.FunctionHostBeat(memory_free_mib=8_000),
    )


@asynccontextmanager
async def two_hosts(directory: Path, **changes: Any) -> AsyncIterator[World]:
    async with opened(directory, variables=lambda _: {"WHERE": "near"}, **changes) as near:
        fetched: list[str] = []

        def package(sha256: str) -> str:
            fetched.append(sha256)
            return str(directory / sha256)

        entry = Entry(fleet_auth.fleet_door(SECRET), lambda: "id", 8 << 20)
        servicer = FunctionHostServicer(near.host, package)
        listen = Listen(message_bytes_max=8 << 20, socket=f"{tempfile.mkdtemp(dir='/tmp')}/s")
        server = RpcServer([door(servicer, DESCRIPTOR, entry)], lambda: "id", listen)
        world = World(near, await server.start(), listen.socket, server, f"{near.prefix}-far", fetched)
        world.link = linked(world)
        await world.link.attached.maker.start()
        world.link.start()
        try:
            yield world
        finally:
            await world.link.close()
            await server.stop(0)
            await world.link.attached.maker.close()
            shutil.rmtree(Path(listen.socket).parent)
    assert not Cgroups.detect().existing(world.prefix)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with two_hosts(tmp_path) as made:
        yield made


def slow(world: World, **changes: Any) -> EnvironmentSpec:
    return world.near.spec(SLOW, timeout_s=60, **changes)


async def test_what_nobody_foresaw_there_is_an_error_here_and_costs_one_environment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.only_far()
    spec = slow(world)
    assert await world.near.result(spec, 0) == [0, "far"]

    async def broken(self: Environment, given: Invocation) -> Outcome:
        raise RuntimeError("not foreseen")

    with monkeypatch.context() as patched:
        patched.setattr(Environment, "run", broken)
        with pytest.raises(Internal):
            await asyncio.wait_for(world.near.result(spec, 0), 60)
    assert await world.near.result(spec, 0) == [0, "far"]


async def test_one_invocation_is_near_and_a_burst_is_spread_over_both(world: World) -> None:
    await until(world.is_there)
    spec = world.near.held()
    assert (await world.near.result(spec))[1] == "near"
    await world.near.until(lambda: world.host.counts(spec.arn).idle == 1)
    calls = asyncio.gather(*(world.near.result(spec, "wait") for _ in range(8)))
    await world.near.begun(9)
    world.near.let_go(spec)
    found = await calls
    assert sorted(where for _, where in found) == ["far"] * 4 + ["near"] * 4
    await world.near.until(lambda: world.host.counts(spec.arn) == (0, 8, 0))
    assert world.where() == {"here": 4, FAR: 4}
    assert (await world.near.result(spec, 0))[1] == "near"  # warm ones of both are there


async def test_a_far_environment_is_used_again_and_its_code_comes_once(world: World) -> None:
    await world.only_far()
    spec = slow(world, layers=(world.near.package({"python/x.py": ""}),))
    first = await world.near.invoke(spec, 0)
    assert first.init_ms is not None
    assert json.loads(first.payload) == [0, "far"]
    assert first.tail.decode().splitlines()[1] == "begun"
    await world.near.until(lambda: world.host.counts(spec.arn).idle == 1)
    world.host.cordon("here", False)  # the warm one is taken, wherever a new one could be
    again = await world.near.invoke(spec, 0)
    assert again.init_ms is None
    assert again.duration_ms > 0 and again.billed_ms >= 1
    assert json.loads(again.payload)[1] == "far"
    world.host.cordon("here", True)
    await asyncio.gather(*(world.near.result(spec, 0.3) for _ in range(4)))
    assert sorted(world.fetched) == sorted({spec.code.sha256, spec.layers[0].sha256})
    (stream, *_), lines = world.near.lines.streams, world.near.lines.all()
    assert stream.startswith("000000000000/aws/lambda/f/")
    assert [line.split()[0] for line in lines[:4]] == ["START", "begun", "END", "REPORT"]


async def test_errors_of_functions_are_the_same_from_afar(world: World) -> None:
    await world.only_far()
    bench = world.near
    assert await bench.error(bench.spec("def handler(e, c):\n  raise ValueError('no')\n")) == ("ValueError", "no")
    failed = await bench.invoke(bench.spec("syntax error"))
    assert json.loads(failed.payload)["errorType"] == "Runtime.UserCodeSyntaxError"
    assert b"\nSTART RequestId" in failed.tail and b"\nREPORT RequestId" in failed.tail
    kind, _ = await bench.error(bench.spec({"x": ""}, runtime="provided.al2023"))
    assert kind == "Runtime.InvalidEntrypoint"
    spec = bench.spec(ECHO)
    os.unlink(spec.code.path)
    with pytest.raises(InvalidRequest, match="unzip"):
        await bench.invoke(spec)
    late = bench.spec("import time\ndef handler(e, c):\n  time.sleep(60)\n", timeout_s=1)
    assert (await bench.error(late))[0] == "Sandbox.Timedout"
    big = "x" * 5_000_000
    assert await bench.result(bench.spec(ECHO), big) == big


async def test_who_goes_away_takes_the_far_environment_along(world: World) -> None:
    await world.only_far()
    spec = slow(world)
    call = asyncio.ensure_future(world.near.invoke(spec, 30))
    await world.near.until(lambda: "begun" in world.near.lines.all())
    call.cancel()
    await world.near.until(lambda: world.host.counts() == (0, 0, 0))
    await until(lambda: not world.far_groups())


async def test_when_the_line_breaks_callers_hear_it_and_nothing_runs_on(world: World) -> None:
    await world.only_far()
    spec, coming = slow(world), world.near.spec("import time\ntime.sleep(2)\n" + ECHO)
    call = asyncio.ensure_future(world.near.invoke(spec, 30))
    await world.near.until(lambda: "begun" in world.near.lines.all())
    waits = asyncio.ensure_future(world.near.result(coming, 7))
    await until(lambda: world.where()[FAR] == 2)
    world.host.cordon("here", False)
    with within(1.0), pytest.raises(HostGone):
        closing = asyncio.ensure_future(world.link.close())
        await call
    assert await waits == 7  # it had not begun: it came up elsewhere
    await closing
    assert not world.far_groups()
    assert not world.is_there()
    assert (await world.near.result(spec, 0))[1] == "near"
    world.link.start()
    await until(world.is_there)


async def test_a_host_that_falls_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_rpc, "SILENT_S", 0.5)  # it beats once a second
    async with two_hosts(tmp_path) as world:
        await until(world.is_there)
        await until(lambda: not world.is_there())
        await until(world.is_there)  # and dials again


async def test_when_the_functions_process_goes_far_environments_end(world: World) -> None:
    await world.only_far()
    await world.near.result(slow(world), 0)
    assert world.far_groups()
    await world.server.stop(0)
    await until(lambda: not world.far_groups())


async def test_a_cordoned_host_gets_nothing_new_and_keeps_what_it_has(world: World) -> None:
    await until(world.is_there)
    world.host.cordon(FAR, True)
    spec = world.near.held()
    calls = asyncio.gather(*(world.near.result(spec, "wait") for _ in range(4)))
    await world.near.begun(4)
    assert world.where() == {"here": 4, FAR: 0}
    world.near.let_go(spec)
    await calls
    await world.link.close()
    await until(lambda: not world.is_there())
    world.link.start()  # another link of the same host: still cordoned
    await until(world.is_there)
    world.host.cordon("here", True)
    with pytest.raises(TooManyRequests, match="here: cordoned; far: cordoned"):
        await world.near.invoke(world.near.spec(ECHO))
    assert (await world.near.result(spec))[1] == "near"  # what is warm there stays


async def test_on_a_host_that_is_drained_what_is_idle_ends_at_once_and_what_is_busy_afterwards(world: World) -> None:
    await world.only_far()
    spec, other = world.near.held(), slow(world)
    await world.near.result(other, 0)
    await world.near.until(lambda: world.host.counts(other.arn).idle == 1)
    busy = asyncio.ensure_future(world.near.result(spec, "wait"))
    await world.near.begun(2)
    world.host.cordon("here", False)
    world.host.cordon(FAR, True, drained=True)
    await until(lambda: world.host.counts(other.arn) == (0, 0, 0))
    assert world.host.counts(spec.arn).busy == 1
    assert (await world.near.result(spec))[1] == "near"
    world.near.let_go(spec)
    assert (await busy)[1] == "far"
    await until(lambda: world.where()[FAR] == 0)
    await until(lambda: not world.far_groups())
    assert (await world.near.result(other, 0))[1] == "near"


async def test_a_host_that_is_drained_before_an_environment_is_up_serves_who_waits_for_it_and_no_more(
    world: World,
) -> None:
    await world.only_far()
    spec = world.near.spec("import time\ntime.sleep(1)\n" + ECHO)
    waits = asyncio.ensure_future(world.near.result(spec, 7))
    await until(lambda: world.where()[FAR] == 1)
    world.host.cordon(FAR, True, drained=True)
    assert await waits == 7
    await until(lambda: world.where()[FAR] == 0)


async def test_what_was_kept_warm_on_a_drained_host_is_kept_elsewhere_and_again_once_there_is_a_host(
    world: World,
) -> None:
    await world.only_far()
    spec = slow(world)
    assert await world.host.prepare(spec, 2) == 2
    world.host.cordon(FAR, True, drained=True)
    await until(lambda: world.host.counts(spec.arn) == (0, 0, 0))
    world.host.cordon("here", False)
    await until(lambda: world.where() == {"here": 2, FAR: 0})
    await world.near.until(lambda: world.host.counts(spec.arn) == (0, 2, 0))


async def test_prepared_environments_that_are_lost_come_back_elsewhere(world: World) -> None:
    await world.only_far()
    spec = slow(world)
    assert await world.host.prepare(spec, 2) == 2
    assert world.where()[FAR] == 2
    world.host.cordon("here", False)
    await world.link.close()
    await world.near.until(lambda: world.where() == {"here": 2})
    await world.near.until(lambda: world.host.counts(spec.arn) == (0, 2, 0))


async def test_memory_is_counted_by_host_and_what_is_idle_gives_way_there_too(tmp_path: Path) -> None:
    async with two_hosts(tmp_path, memory_mib=128) as world:  # near: four times that, for two of these
        await until(world.is_there)
        near, other = slow(world), slow(world)
        await asyncio.gather(*(world.near.result(near, 0.3) for _ in range(6)))
        assert world.where()["here"] <= 2
        world.host.cordon(FAR, True)
        assert (await world.near.result(other, 0))[1] == "near"
        await world.near.until(lambda: world.where()["here"] <= 2)


class Reader:
    """Takes a streamed response, when it is let."""

    def __init__(self) -> None:
        self.kind = ""
        self.chunks: list[bytes] = []
        self.gate = asyncio.Event()

    async def open(self, content_type: str) -> None:
        self.kind = content_type

    async def write(self, chunk: bytes) -> None:
        await self.gate.wait()
        self.chunks.append(chunk)


async def test_a_response_is_streamed_from_afar_no_faster_than_it_is_read(world: World) -> None:
    await world.only_far()
    reader = Reader()
    call = asyncio.ensure_future(world.near.invoke(world.near.spec(ECHO), 5, sink=reader))
    await until(lambda: reader.kind)
    assert not call.done()
    reader.gate.set()
    outcome = await call
    assert (outcome.payload, reader.kind, reader.chunks) == (b"", "application/json", [b"5"])


async def test_the_escapes_are_closed_on_far_hosts_too(world: World) -> None:
    if world.link.attached.maker.warnings:
        pytest.skip("; ".join(world.link.attached.maker.warnings))
    await world.only_far()
    secret = world.near.directory / "secret"
    secret.write_text("s")
    files = {"app.py": RUN, "escapes.py": (HERE / "sandbox_escapes.py").read_text()}
    out, err = await world.near.result(world.near.spec(files), {"secret": str(secret), "pid": os.getpid()})
    assert out, err
    results = {name: text for name, text in json.loads(out).items() if name not in OTHER_HERE}
    assert len(results) > 30
    assert not [f"{name}: {text}" for name, text in results.items() if not text.startswith("denied")]


async def test_nobody_attaches_as_a_host_that_he_is_not(world: World) -> None:
    said = wire.FunctionHostNews(news=[wire.EnvironmentNews(hello=wire.FunctionHostHello(host_id="h-2", name="x"))])
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        stub: Any = fleet_pb2_grpc.FunctionHostServiceStub(channel)  # type: ignore[no-untyped-call]
        for token in ("h-2:0", fleet_auth.token(SECRET, HOST_ID)):
            call = stub.Attach(iter([said]), metadata=((fleet_auth.METADATA, token),))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
            assert isinstance(from_rpc_error(refused.value), Unauthenticated)
    assert "x" not in world.where()
    same = Site("here", world.link.attached.maker, (64_000, 1.0))
    with pytest.raises(Conflict):
        world.host.attach(same)


async def test_an_invocation_that_a_far_environment_cannot_take_is_given_to_another(world: World) -> None:
    await world.only_far()
    spec = slow(world)
    await world.near.result(spec, 0)
    await world.near.until(lambda: world.host.counts(spec.arn).idle == 1)
    (environment,) = world.link.attached._numbers
    environment.state = "busy"  # its question was lost
    assert (await world.near.result(spec, 0))[1] == "far"
    with pytest.raises(Unavailable):
        await environment.run(invocation(spec))


async def test_status_shows_each_host_with_what_is_at_work_and_what_is_warm(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.only_far()
    spec = world.near.held()
    call = asyncio.ensure_future(world.near.result(spec, "wait"))
    await world.near.begun(1)
    await world.near.result(spec)
    await world.near.until(lambda: world.host.counts(spec.arn) == (1, 1, 0))
    cloud = CloudSettings("c", str(tmp_path), functions=(ShardSettings(world.port),))
    monkeypatch.setattr(settings, "read_secret", lambda _: SECRET)
    monkeypatch.setattr(CloudSettings, "shard_socket", lambda *_: world.socket)
    near, far = await asyncio.to_thread(function_hosts.ask, cloud)
    assert (near["name"], near["state"], near["environments_warm"]) == ("here", "cordoned", 0)
    counted = [far[f"environments_{what}"] for what in ("busy", "warm", "starting")]
    assert (far["name"], far["state"], counted) == (FAR, "open", [1, 1, 0])
    assert (far["memory_promised_mib"], far["memory_mib"]) == (512, 64_000)
    world.near.let_go(spec)
    await call
    world.host.cordon(FAR, True, drained=True)
    assert [one["state"] for one in await asyncio.to_thread(function_hosts.ask, cloud)] == ["cordoned", "drained"]
    monkeypatch.setattr(settings, "read_secret", lambda _: bytes(32))
    assert await asyncio.to_thread(function_hosts.ask, cloud) == []


async def test_in_a_joined_cluster_with_tls_the_line_is_tls_to_whom_the_clouds_ca_has_signed(tmp_path: Path) -> None:
    certs = ensure_certs(tmp_path / "mine", ["cloud.example"], time.time())
    other = ensure_certs(tmp_path / "other", ["cloud.example"], time.time())
    listen = Listen(credentials=server_credentials(str(certs.cert), str(certs.key)))
    server = RpcServer([], lambda: "id", listen)
    port = await server.start()
    bare = CloudSettings("c", str(tmp_path), ray_address="10.0.0.1:6379", functions=(ShardSettings(port),))
    found = {}
    for name, tls in {
        "mine": TlsFiles(str(certs.cert), str(certs.key), str(certs.ca)),
        "other": TlsFiles(str(certs.cert), str(certs.key), str(other.ca)),
        "plain": None,
    }.items():
        async with functions_channel(replace(bare, tls=tls), "127.0.0.1") as channel:
            try:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                found[name] = True
            except grpc.aio.AioRpcError:
                found[name] = False
    await server.stop(0)
    assert found == {"mine": True, "other": False, "plain": False}
