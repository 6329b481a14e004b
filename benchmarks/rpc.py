"""How much does the door cost? A describe-like read through it, against a bare grpc.aio echo of the same bytes.

Both servers run in one process on one event loop (uvloop where it is installed), as in the control plane; clients are
this process's children, one at a time, so that client and server have a core each. Rounds alternate between the two,
and the ratio is taken per round: what disturbs the machine disturbs both. Target (issue 2): ratio >= 0.6. One Python
client may be slower than the server, which would flatter us, so the server's own CPU time a call is shown beside it.

Seam: `Target` names a set of services, a call and its request; `describe()` measures any target against the echo.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import grpc

from minicloud.base.arn import Caller, Scope
from minicloud.cloud import COMPUTE, ControlPlane
from minicloud.compute.commands import GuestSeen, HostSeen, Launch, LaunchSpec
from minicloud.compute.ports import ActorSpec
from minicloud.rpc.auth import locked_door, open_door
from minicloud.rpc.door import Entry, Service, door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.settings import CloudSettings
from minicloud.shell.union import To
from minicloud.wire import instance_pb2 as wire

ECHO = "/echo.Echo/Echo"
TARGET_RATIO = 0.6


@dataclass(frozen=True, slots=True)
class Target:
    """What is measured: services to serve, the path to call, the request and the metadata to call it with."""

    name: str
    services: Sequence[Service]
    path: str
    request: bytes
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """One client's run: calls a second, latencies in microseconds, and the server's CPU time for each call."""

    rate: float
    p50_us: float
    p99_us: float
    calls: int
    server_cpu_us: float = 0.0


# ---------------------------------------------------------------- client (child process)


def _client(pipe: Any) -> None:
    """Answer (port, path, request, metadata, seconds, concurrency) with a Round, until None."""
    asyncio.run(_client_loop(pipe))


async def _client_loop(pipe: Any) -> None:
    while (job := await asyncio.to_thread(pipe.recv)) is not None:
        pipe.send(asdict(await _measure(*job)))


def _raw_call(channel: Any, path: str) -> Callable[..., Any]:
    """Bytes in, bytes out."""
    call: Callable[..., Any] = channel.unary_unary(path)
    return call


async def _measure(
    port: int, path: str, request: bytes, metadata: tuple[tuple[str, str], ...], load: tuple[float, int]
) -> Round:
    seconds, concurrency = load
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = _raw_call(channel, path)
        for _ in range(20):
            await call(request, metadata=metadata)
        taken: list[float] = []
        end = time.perf_counter() + seconds

        async def one() -> None:
            while (began := time.perf_counter()) < end:
                await call(request, metadata=metadata)
                taken.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(concurrency)))
        wall = time.perf_counter() - began
    cuts = statistics.quantiles(taken, n=100)
    return Round(len(taken) / wall, statistics.median(taken) * 1e6, cuts[98] * 1e6, len(taken))


# ---------------------------------------------------------------- servers (this process)


async def _echo_server(answer: bytes) -> tuple[grpc.aio.Server, int]:
    """What gRPC itself costs: bytes in, the same answer out, no parsing, no metadata."""

    async def echo(_request: bytes, _context: Any) -> bytes:
        return answer

    handlers = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


class Launched:
    """The compute port Launcher for a cloud without Ray: actors are not what is measured here."""

    async def launch(self, spec: ActorSpec) -> None:
        pass

    async def kill(self, instance_id: str, generation: int) -> None:
        pass


async def plane_with(count: int, folder: str) -> tuple[ControlPlane, str]:
    """A real control plane with so many running instances in its journal, and the id of one in their middle."""
    plane = ControlPlane(CloudSettings(cloud_id="0123abcd", data_dir=folder), os.urandom(32), Launched())
    await plane.start()
    await plane.shell.submit(To(COMPUTE, _host(count)))
    spec = LaunchSpec(image_id="base", instance_type="m5.large", tags={"Name": "web", "stage": "test"})
    ids: list[str] = []
    while len(ids) < count:
        made = await plane.shell.submit(To(COMPUTE, Launch(Scope(), spec, 1, min(1_000, count - len(ids)))))
        ids += [one.id for one in made.instances]
    for one in ids:
        await plane.shell.submit(To(COMPUTE, GuestSeen(one, 1, "running", private_ip="10.0.0.7")))
    return plane, sorted(ids)[count // 2]


def _host(count: int) -> HostSeen:
    return HostSeen(
        id="h-" + "0" * 17,
        name="host-a",
        zone="us-east-1a",
        session="node",
        agent_address="127.0.0.1:9",
        arch="x86_64",
        cores=2.0 * count,
        memory_mib=8192 * count,
        gpus=0,
        disk_gib=100,
        overcommit_cpu=1,
        overcommit_memory=1,
        overcommit_gpu=1,
    )


def target(plane: ControlPlane, instance_id: str, locked: bool) -> Target:
    """Describe one of 1,000 through the real slice, with the door open or locked."""
    ids = itertools.count()

    def authenticate(key_id: str, secret: str, region: str) -> Caller:
        assert (key_id, secret, region) == ("AKIA", "secret", "us-east-1")
        return Caller(open_door()({}).scope, key_id, True)

    admit = locked_door(authenticate) if locked else open_door()
    descriptor = wire.DESCRIPTOR.services_by_name["InstanceService"]
    service = door(plane.instance_servicer(), descriptor, Entry(admit, lambda: f"bench-{next(ids)}"))
    return Target(
        name="describe 1 of 1,000, authenticated" if locked else "describe 1 of 1,000, authentication off",
        services=[service],
        path=f"/{descriptor.full_name}/Get",
        request=wire.GetInstanceRequest(instance_id=instance_id).SerializeToString(),
        metadata=(("authorization", "Bearer AKIA:secret"),) if locked else (),
    )


async def describe(target: Target, pipe: Any, rounds: int, load: tuple[float, int]) -> dict[str, Any]:
    """Measure a target against the echo of its own answer's bytes, in alternating rounds."""
    ids = itertools.count()
    server = RpcServer(target.services, lambda: f"bench-{next(ids)}", Listen())
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await _raw_call(channel, target.path)(target.request, metadata=target.metadata)
    bare, bare_port = await _echo_server(answer)
    ours: list[Round] = []
    echo: list[Round] = []
    for _ in range(rounds):
        echo.append(await _ask(pipe, (bare_port, ECHO, target.request, (), load)))
        ours.append(await _ask(pipe, (port, target.path, target.request, target.metadata, load)))
    await bare.stop(0)
    await server.stop(0)
    return _result(target.name, len(answer), ours, echo)


async def _ask(pipe: Any, job: Any) -> Round:
    before = time.process_time()
    pipe.send(job)
    done = Round(**await asyncio.to_thread(pipe.recv))
    return replace(done, server_cpu_us=(time.process_time() - before) * 1e6 / done.calls)


def _result(name: str, answer_bytes: int, ours: list[Round], echo: list[Round]) -> dict[str, Any]:
    def middle(rounds: list[Round], what: str) -> float:
        return float(statistics.median(getattr(one, what) for one in rounds))

    return {
        "name": name,
        "answer_bytes": answer_bytes,
        "ours_per_s": middle(ours, "rate"),
        "echo_per_s": middle(echo, "rate"),
        "ratio": statistics.median(o.rate / e.rate for o, e in zip(ours, echo, strict=True)),
        "ratios": [o.rate / e.rate for o, e in zip(ours, echo, strict=True)],
        "ours_p50_us": middle(ours, "p50_us"),
        "echo_p50_us": middle(echo, "p50_us"),
        "ours_p99_us": middle(ours, "p99_us"),
        "echo_p99_us": middle(echo, "p99_us"),
        "ours_server_cpu_us": middle(ours, "server_cpu_us"),
        "echo_server_cpu_us": middle(echo, "server_cpu_us"),
    }


def _print(results: list[dict[str, Any]], concurrency: int) -> None:
    print(f"read RPC against a bare grpc.aio echo, {concurrency} calls at once, {os.cpu_count()} cores")
    print(f"{'':42} {'ours/s':>9} {'echo/s':>9} {'ratio':>6} {'p50 us':>14} {'p99 us':>14} {'server CPU us':>14}")
    for one in results:
        p50 = f"{one['ours_p50_us']:.0f} / {one['echo_p50_us']:.0f}"
        p99 = f"{one['ours_p99_us']:.0f} / {one['echo_p99_us']:.0f}"
        cpu = f"{one['ours_server_cpu_us']:.0f} / {one['echo_server_cpu_us']:.0f}"
        verdict = "" if one["ratio"] >= TARGET_RATIO else f"  BELOW {TARGET_RATIO}"
        print(
            f"{one['name']:42} {one['ours_per_s']:9.0f} {one['echo_per_s']:9.0f} {one['ratio']:6.2f}"
            f" {p50:>14} {p99:>14} {cpu:>14}{verdict}"
        )


def _run(work: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="rpc", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--concurrency", type=int, default=16)
    args = parser.parse_args(argv)
    rounds, seconds = (2, 0.5) if args.quick else (5, 2.0)
    here, there = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(target=_client, args=(there,), daemon=True)
    child.start()

    async def work() -> list[dict[str, Any]]:
        load = (seconds, args.concurrency)
        with tempfile.TemporaryDirectory(prefix="mc-rpc-") as folder:
            plane, one = await plane_with(1_000, folder)
            try:
                return [await describe(target(plane, one, locked), here, rounds, load) for locked in (False, True)]
            finally:
                await plane.stop()

    try:
        results = _run(work())
    finally:
        with contextlib.suppress(OSError):
            here.send(None)
        child.join(5)
    if args.json:
        print(json.dumps({"benchmark": "rpc", "target_ratio": TARGET_RATIO, "results": results}, indent=1))
    else:
        _print(results, args.concurrency)
    return 0 if all(one["ratio"] >= TARGET_RATIO for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
