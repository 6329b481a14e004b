"""What does a balancer cost over bare HAProxy, and do 1,000 changes of targets under load cost anybody a request?

    speed    requests/s and p99 of keep-alive connections through one of our balancers and through the same HAProxy with
             a minimal configuration written by hand, by turns, four back ends (uvloop, 100 bytes). Target: 0.95.
             The CPU time that each HAProxy took for a request is shown too: it says more on a busy machine
    changes  targets are registered and deregistered, one call each, while the load runs. Target: 0 failed requests

Load by wrk (Debian: apt install wrk). Back ends, both proxies and wrk share this machine, so the ratio is what counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import uvloop

from minicloud.balancer import attributes
from minicloud.balancer import commands as ask
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.model import Action, Balancer, Group, Weighted
from minicloud.balancer.service import BalancerService, Work
from minicloud.base.arn import Scope
from minicloud.proxy.process import find_haproxy
from minicloud.store.sqlite import SqliteJournal

HOME = Scope()
SPEED_TARGET = 0.95
LOCAL = "127.0.0.1"
BACK_ENDS = 4
BODY = b"x" * 100
REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\ncontent-type: text/plain\r\n\r\n" + BODY
MINIMAL = """
global
    maxconn 4000
    nbthread {threads}
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
frontend web
    bind {local}:{port}
    default_backend app
backend app
    balance roundrobin
{servers}
"""


class BackEnd(asyncio.Protocol):
    """Answers each request head; bodies are not expected."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(REPLY * data.count(b"\r\n\r\n"))  # type: ignore[attr-defined]


async def serve(count: int) -> None:
    """Listen on free ports, say them, and go on until the parent is gone."""
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(BackEnd, LOCAL, 0) for _ in range(count)]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


@dataclass(frozen=True, slots=True)
class Run:
    """What wrk saw in one run."""

    requests_s: float
    p99_ms: float
    requests: int
    failed: int
    cpu_us: float = 0.0


async def metered(pid: int, place: tuple[str, int], seconds: float, connections: int) -> Run:
    """A run, and what of the CPU the proxy took for each request."""
    before = psutil.Process(pid).cpu_times()
    run = await wrk(*place, seconds, connections)
    after = psutil.Process(pid).cpu_times()
    taken_s = after.user + after.system - before.user - before.system
    return replace(run, cpu_us=taken_s * 1e6 / max(1, run.requests))


async def wrk(address: str, port: int, seconds: float, connections: int) -> Run:
    command = ("wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency", f"http://{address}:{port}/")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    text = (await process.communicate())[0].decode()

    def number(form: str) -> float:
        found = re.search(form, text)
        return float(found[1]) if found else 0.0

    late = re.search(r"99%\s+([\d.]+)(us|ms|s)\b", text)
    p99_ms = float(late[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[late[2]] if late else 0.0
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    broken = sum(map(int, failed.groups())) if failed else 0
    refused = int(number(r"Non-2xx or 3xx responses: (\d+)"))
    return Run(number(r"Requests/sec:\s+([\d.]+)"), p99_ms, int(number(r"(\d+) requests in")), broken + refused)


async def bare(folder: Path, ports: Sequence[int], threads: int) -> tuple[asyncio.subprocess.Process, int]:
    """HAProxy with the minimal configuration; its port."""
    probe = await asyncio.start_server(lambda _r, _w: None, LOCAL, 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    servers = "\n".join(f"    server s{n} {LOCAL}:{back} check" for n, back in enumerate(ports))
    path = folder / "minimal.cfg"
    path.write_text(MINIMAL.format(threads=threads, local=LOCAL, port=port, servers=servers))
    command = (str(find_haproxy()), "-db", "-f", str(path))
    return await asyncio.create_subprocess_exec(*command, start_new_session=True), port  # as ours: a scheduling group


async def ours(service: BalancerService, ports: Sequence[int]) -> tuple[Balancer, Group]:
    """A balancer with every target healthy, listening on 8080."""
    balancer: Balancer = await service.submit(ask.CreateBalancer(HOME, "bench"))
    health = HealthSpec(interval_s=5, timeout_s=2, healthy=2)
    group: Group = await service.submit(ask.CreateGroup(HOME, "app", "HTTP", 80, target_type="ip", health=health))
    await service.submit(ask.RegisterTargets(HOME, group.arn, targets(ports)))
    action = Action("forward", (Weighted(group.arn),))
    await service.submit(ask.CreateListener(HOME, balancer.arn, "HTTP", 8080, action))
    await service.settled()
    while any(  # noqa: ASYNC110
        one.state != "healthy" for one in service.read(lambda state: state.targets_of(group.arn))
    ):
        await asyncio.sleep(0.1)
    return balancer, group


def targets(ports: Sequence[int]) -> tuple[TargetSpec, ...]:
    return tuple(TargetSpec(LOCAL, port) for port in ports)


async def speed(
    service: BalancerService, balancer: Balancer, peer: tuple[int, int], options: argparse.Namespace
) -> dict[str, Any]:
    """Rounds by turns; the ratio is the median of each round's."""
    pairs = []
    places = [(service.plane.pid or 0, (balancer.address, 8080)), (peer[0], (LOCAL, peer[1]))]
    for turn in range(options.rounds):
        order = places[:: 1 - 2 * (turn % 2)]
        runs = {place: await metered(*place, options.seconds, options.connections) for place in order}
        pairs.append((runs[places[0]], runs[places[1]]))
        print(
            f"  ours {pairs[-1][0].requests_s:8,.0f}/s p99 {pairs[-1][0].p99_ms:6.2f} ms    "
            f"bare {pairs[-1][1].requests_s:8,.0f}/s p99 {pairs[-1][1].p99_ms:6.2f} ms"
        )
    middle = statistics.median
    return {
        "ours_requests_s": middle(one.requests_s for one, _ in pairs),
        "bare_requests_s": middle(two.requests_s for _, two in pairs),
        "ours_p99_ms": middle(one.p99_ms for one, _ in pairs),
        "ours_cpu_us": middle(one.cpu_us for one, _ in pairs),
        "bare_cpu_us": middle(two.cpu_us for _, two in pairs),
        "bare_p99_ms": middle(two.p99_ms for _, two in pairs),
        "ratio": middle(one.requests_s / two.requests_s for one, two in pairs),
        "failed": sum(one.failed for one, _ in pairs),
    }


async def changes(
    service: BalancerService, balancer: Balancer, group: Group, spare: Sequence[int], count: int
) -> dict[str, Any]:
    """Targets come and go, each in a call of its own, until `count` calls are done or the load is over."""
    await service.submit(ask.SetAttributes(HOME, group.arn, {attributes.DELAY: "30"}))
    await service.settled()
    pid = service.plane.pid
    load = asyncio.create_task(wrk(balancer.address, 8080, 20, 64))
    await asyncio.sleep(0.5)
    began = time.monotonic()
    for number in range(count // 2):
        one = targets([spare[number % len(spare)]])
        await service.submit(ask.RegisterTargets(HOME, group.arn, one))
        await asyncio.sleep(0.004)
        await service.submit(ask.DeregisterTargets(HOME, group.arn, one))
        await asyncio.sleep(0.004)
    seconds = time.monotonic() - began
    run = await load
    return {
        "changes": count,
        "changes_s": count / seconds,
        "under_load": seconds < 19,
        "requests": run.requests,
        "failed": run.failed,
        "reloads": int(service.plane.pid != pid),
    }


async def measured(options: argparse.Namespace) -> dict[str, Any]:
    command = (sys.executable, __file__, "--serve", "1")
    children = [
        await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        for _ in range(2 * BACK_ENDS)
    ]
    ports = [json.loads(await child.stdout.readline())[0] for child in children if child.stdout]
    with tempfile.TemporaryDirectory(prefix="mcb-") as name:
        folder = Path(name)
        journal = SqliteJournal(folder / "state.db")
        service = BalancerService(journal, Work(folder / "shard", dict(os.environ), threads=options.threads))
        await service.start()
        peer, port = await bare(folder, ports[:BACK_ENDS], options.threads)
        try:
            balancer, group = await ours(service, ports[:BACK_ENDS])
            found = {"speed": await speed(service, balancer, (peer.pid, port), options)}
            found["changes"] = await changes(service, balancer, group, ports[BACK_ENDS:], options.changes)
        finally:
            peer.kill()
            await peer.wait()
            await service.stop(grace_s=0)
            journal.close()
            for child in children:
                child.kill()
                await child.wait()
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="balancers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1, help="of each HAProxy")
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    parser.add_argument("--serve", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.serve:
        uvloop.run(serve(options.serve))
        return 0
    found = uvloop.run(measured(options))
    pace, moves = found["speed"], found["changes"]
    print(
        f"speed    ours {pace['ours_requests_s']:,.0f}/s, p99 {pace['ours_p99_ms']:.2f} ms; bare HAProxy "
        f"{pace['bare_requests_s']:,.0f}/s, p99 {pace['bare_p99_ms']:.2f} ms; ratio {pace['ratio']:.3f} "
        f"(target {SPEED_TARGET}); CPU a request {pace['ours_cpu_us']:.1f} and {pace['bare_cpu_us']:.1f} us\n"
        f"changes  {moves['changes']} at {moves['changes_s']:.0f}/s, {moves['requests']:,} requests meanwhile, "
        f"{moves['failed']} failed (target 0), {moves['reloads']} reloads"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0 if pace["ratio"] >= SPEED_TARGET and pace["failed"] == moves["failed"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
