"""How quick are functions? Warm and cold invocations through the SDK, beside what they could be at best, and Ray.

A cloud of its own is brought up; references run in the same minutes, each a process of its own (peers/functions.py):

    warm        SDK invoke of an empty Python handler, one after another; target: at most 1.5 times (a bare gRPC echo +
                one awslambdaric loop over a bare HTTP Runtime API), and below a Ray actor behind the same gRPC hop
    in flight   16 invocations at once on 4 environments; target: at least 0.5 times four such loops, 2 times Ray actors
    cold        first byte of the invocation -> the handler is entered, 10 MB zip on the host; target: 30 ms Python,
                custom bootstrap (perl) 1.3 times `python -c pass`
    burst       100 invocations at once, all cold -> the last handler is entered; target: 0.25 times 100 new Ray actors

The direct limit is a forked process that answers JSON over a pipe. MiniStack where it is installed (--peers-bin).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop
from our_cloud import OurCloud
from peers.aws import MiniStack
from peers.functions import METHOD
from peers.server import Absent, free_ports

from minicloud import AsyncClient

HERE = Path(__file__).parent
ECHO = "def handler(event, context):\n    return event\n"
CLOCK = "import time\nentered = time.time()\ndef handler(event, context):\n    return time.time()\n"
SLEEPER = "import time\ndef handler(event, context):\n    now = time.time()\n    time.sleep(event)\n    return now\n"
PERL = r"""#!/usr/bin/perl
use Socket; use Time::HiRes 'time';
my ($host, $port) = split /:/, $ENV{AWS_LAMBDA_RUNTIME_API};
socket(my $s, PF_INET, SOCK_STREAM, 0); connect($s, sockaddr_in($port, inet_aton($host))); select($s); $| = 1;
my $buffer = '';
sub answer {
    while ($buffer !~ /\r\n\r\n/) { sysread($s, $buffer, 65536, length $buffer) or exit 1 }
    my ($head, $rest) = split /\r\n\r\n/, $buffer, 2;
    my ($size) = $head =~ /Content-Length: (\d+)/i;
    while (length $rest < $size) { sysread($s, $rest, 65536, length $rest) or exit 1 }
    $buffer = substr $rest, $size;
    return $head;
}
while (1) {
    print "GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n";
    my ($id) = answer() =~ /Request-Id: (\S+)/i;
    my $now = sprintf '%.6f', time;
    my $path = "/2018-06-01/runtime/invocation/$id/response";
    print "POST $path HTTP/1.1\r\nHost: x\r\nContent-Length: " . length($now) . "\r\n\r\n$now";
    answer();
}
"""
EVENT = {"a": 1}
PYTHON = os.path.realpath(sys.executable)
IN_FLIGHT, ENVIRONMENTS = 16, 4
TARGETS = {
    "warm_ratio": 1.5,
    "in_flight_loop": 0.5,
    "in_flight_ray": 2.0,
    "cold_ms": 30.0,
    "custom": 1.3,
    "burst": 0.25,
}


def package(files: dict[str, str], bytes_more: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16
            archive.writestr(info, text)
        if bytes_more:
            archive.writestr("data.bin", os.urandom(bytes_more))
    return buffer.getvalue()


@contextlib.contextmanager
def peer(*words: str) -> Iterator[None]:
    child = subprocess.Popen([sys.executable, str(HERE / "peers" / "functions.py"), *words])
    try:
        yield
    finally:
        child.kill()
        child.wait()


async def one_by_one(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Median in milliseconds."""
    took = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await call()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


async def at_once(call: Callable[[], Awaitable[Any]], seconds: float) -> float:
    """Calls a second, with IN_FLIGHT under way."""
    count, end = 0, time.perf_counter() + seconds

    async def go() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    began = time.perf_counter()
    await asyncio.gather(*(go() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - began)


async def warm(client: AsyncClient, echo_port: int, ray_port: int, seconds: float) -> dict[str, Any]:
    """Ours, the echo and Ray, in turns."""
    functions = client.functions
    await functions.create(
        "echo", package({"app.py": ECHO}), runtime="python3.11", handler="app.handler", memory_mib=1769
    )
    await functions.invoke("echo", EVENT)
    payload = json.dumps(EVENT).encode()
    found: dict[str, list[float]] = {}
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}") as near,
        grpc.aio.insecure_channel(f"127.0.0.1:{ray_port}") as far,
    ):
        echo, ray = near.unary_unary(METHOD), far.unary_unary(METHOD)
        await echo(payload, wait_for_ready=True)
        await ray(payload, wait_for_ready=True)
        calls = {
            "ours": lambda: functions.invoke("echo", EVENT),
            "echo": lambda: echo(payload),
            "ray": lambda: ray(payload),
        }
        for _ in range(3):
            for name, call in calls.items():
                found.setdefault(name, []).append(await one_by_one(call, seconds / 3))
        for _ in range(3):
            for name, call in calls.items():
                found.setdefault(f"{name}_per_s", []).append(await at_once(call, seconds / 3))
    return {name: statistics.median(values) for name, values in found.items()}


async def cold(client: AsyncClient, rounds: int) -> dict[str, Any]:
    functions = client.functions
    await functions.create(
        "cold", package({"app.py": CLOCK}, 10_000_000), runtime="python3.11", handler="app.handler", memory_mib=512
    )
    await functions.create(
        "perl", package({"bootstrap": PERL}, 10_000_000), runtime="provided.al2023", handler="x", memory_mib=512
    )
    found: dict[str, list[float]] = {"cold": [], "perl": [], "python -c pass": []}
    for number in range(rounds + 1):
        for name in ("cold", "perl"):
            await functions.update(name, environment={"ROUND": str(number)})
            await asyncio.sleep(0.2)
            asked = time.time()
            outcome = await functions.invoke(name)
            if number and outcome.init_ms is not None:  # the first unpacks
                found[name].append((float(outcome.json()) - asked) * 1000)
        began = time.perf_counter()
        await asyncio.to_thread(subprocess.run, [PYTHON, "-c", "pass"], check=True)
        found["python -c pass"].append((time.perf_counter() - began) * 1000)
    return {
        name: {"median": statistics.median(times), "min": min(times), "max": max(times)}
        for name, times in found.items()
    }


async def burst(client: AsyncClient, count: int) -> float:
    """Seconds until the last of them has its handler entered."""
    await client.functions.create(
        "burst", package({"app.py": SLEEPER}), runtime="python3.11", handler="app.handler", timeout_s=60
    )
    await client.functions.invoke("burst", 0)
    await client.functions.update("burst", environment={"AGAIN": "1"})
    asked = time.time()
    outcomes = await asyncio.gather(*(client.functions.invoke("burst", 8) for _ in range(count)))
    await client.functions.delete("burst")
    return max(float(outcome.json()) for outcome in outcomes) - asked


async def new_actors(port: int, count: int) -> float:
    """Seconds until the last of so many new Ray actors has answered."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return float(await channel.unary_unary(METHOD)(b"actors %d" % count, wait_for_ready=True))


def ministack(folder: Path, bin_dir: str, seconds: float) -> dict[str, float] | None:
    """Median of Invoke over HTTP, None where it is not installed."""
    import boto3

    server = MiniStack(bin_dir)
    try:
        server.start(folder)
    except Absent:
        return None
    try:
        client = boto3.client(
            "lambda", endpoint_url=server.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        client.create_function(
            FunctionName="f",
            Runtime="python3.11",
            Role="arn:aws:iam::000000000000:role/r",
            Handler="app.handler",
            Code={"ZipFile": package({"app.py": ECHO})},
        )
        client.invoke(FunctionName="f", Payload=b"{}")["Payload"].read()
        took, end = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            client.invoke(FunctionName="f", Payload=b"{}")["Payload"].read()
            took.append(time.perf_counter() - began)
        return {"median_ms": statistics.median(took) * 1000, "per_s": len(took) / sum(took)}
    finally:
        server.stop()


async def measure(cloud: OurCloud, options: argparse.Namespace) -> dict[str, Any]:
    assert cloud.folder is not None
    gcs = _gcs_address(cloud.folder)
    token = str(cloud.folder / "run" / "s" / "ray" / "token")
    echo_port, ray_port = free_ports(2)
    async with AsyncClient(cloud.endpoint) as client:
        with peer("echo", str(echo_port)), peer("ray", str(ray_port), gcs, token):
            found: dict[str, Any] = {"warm": await warm(client, echo_port, ray_port, options.seconds)}
        for what in ("loop", "pipe"):
            words = [sys.executable, str(HERE / "peers" / "functions.py"), what, str(options.seconds / 2)]
            done = await asyncio.to_thread(subprocess.run, words, stdout=subprocess.PIPE, check=True)
            found[what] = json.loads(done.stdout)
        found["cold"] = await cold(client, options.rounds)
        if options.burst:
            found["burst_s"] = await burst(client, options.burst)
    if options.actors:
        with peer("ray", str(ray_port), gcs, token):
            found["actors_s"] = await new_actors(ray_port, options.actors)
    found["ministack"] = await asyncio.to_thread(
        ministack, cloud.folder / "ministack", options.peers_bin, options.seconds / 4
    )
    return found


def _gcs_address(folder: Path) -> str:
    processes = json.loads((folder / "run" / "processes.json").read_text())["processes"]
    for process in processes:
        words = Path(f"/proc/{process['pid']}/cmdline").read_text().split("\0")
        for word in words:
            if word.startswith("--gcs-address="):
                return word.partition("=")[2]
    raise RuntimeError("this cloud has no raylet")


def ratios(found: dict[str, Any], options: argparse.Namespace) -> dict[str, float]:
    run, loop = found["warm"], found["loop"]
    result = {
        "warm_ratio": run["ours"] / (run["echo"] + loop["1"]["loop_ms"]),
        "warm_to_ray": run["ours"] / run["ray"],
        "in_flight_loop": run["ours_per_s"] / loop["4"]["per_s"],
        "in_flight_ray": run["ours_per_s"] / run["ray_per_s"],
        "cold_ms": found["cold"]["cold"]["median"],
        "custom": found["cold"]["perl"]["median"] / found["cold"]["python -c pass"]["median"],
    }
    if "burst_s" in found and "actors_s" in found:
        result["burst"] = (found["burst_s"] / options.burst) / (found["actors_s"] / options.actors)
    return result


def table(found: dict[str, Any], numbers: dict[str, float], options: argparse.Namespace) -> None:
    run, loop, pipe = found["warm"], found["loop"], found["pipe"]
    print("warm, an empty Python handler                    one by one      16 in flight")
    print(f"  SDK invoke                                     {run['ours']:7.2f} ms   {run['ours_per_s']:9.0f}/s")
    print(f"  bare gRPC echo                                 {run['echo']:7.2f} ms   {run['echo_per_s']:9.0f}/s")
    print(
        f"  awslambdaric on a bare Runtime API (1, 4)      {loop['1']['loop_ms']:7.2f} ms   {loop['4']['per_s']:9.0f}/s"
    )
    print(f"  Ray actor behind gRPC (1, 4)                   {run['ray']:7.2f} ms   {run['ray_per_s']:9.0f}/s")
    print(f"  forked process over a pipe                     {pipe['median_ms']:7.2f} ms   {pipe['per_s']:9.0f}/s")
    if found["ministack"]:
        print(f"  MiniStack, Invoke over HTTP                    {found['ministack']['median_ms']:7.2f} ms")
    print("cold, until the handler is entered (median, min, max)")
    for name, row in found["cold"].items():
        print(f"  {name:20} {row['median']:7.1f} {row['min']:7.1f} {row['max']:7.1f} ms")
    if "burst_s" in found:
        print(f"  {options.burst} at once: {found['burst_s']:.2f} s")
    if "actors_s" in found:
        print(f"  {options.actors} new Ray actors: {found['actors_s']:.2f} s")
    for name, number in numbers.items():
        target = f"target {TARGETS[name]:g}" if name in TARGETS else "below 1"
        print(f"  {name:16} {number:8.2f}   {target}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each warm measurement")
    parser.add_argument("--rounds", type=int, default=20, help="cold starts of each kind")
    parser.add_argument("--burst", type=int, default=100, help="0: no burst")
    parser.add_argument("--actors", type=int, default=100, help="new Ray actors; 0: none")
    parser.add_argument("--peers-bin", default="", help="where ministack is, if not on the path")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    cloud = OurCloud()
    with tempfile.TemporaryDirectory(prefix="mcb", dir="/tmp") as folder:
        cloud.start(Path(folder))
        try:
            found = uvloop.run(measure(cloud, options))
        finally:
            cloud.stop()
    numbers = ratios(found, options)
    if options.json:
        print(json.dumps({**found, "ratios": numbers, "targets": TARGETS}, indent=1))
    else:
        table(found, numbers, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
