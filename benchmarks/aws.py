"""How fast is the AWS face? SQS and EC2 over signed HTTP and boto3: ours, which is durable, and two that are not.

    cycles    send, receive, delete of 1 KiB by raw signed HTTP on 1, 16, 64 connections, one message and ten a request,
              through the front door (the broker's own port is shown beside it), and the same cycles in AMQP by a
              RabbitMQ quorum queue, which is durable (targets at 64: 5 times MiniStack, once RabbitMQ)
    boto3     the same, one client, as a program would
    describe  DescribeInstances of 100 instances, one connection (target: 3 times MiniStack)
    latency   one send at a time: p50 at most 1 ms and one sync of the disk, with its parts
    sigv4     what verifying a signature adds to a request (target: at most 40 us)

By turns with each peer, on loopback. `--peers-bin DIR`: where moto_server and ministack are (a venv of their own).
RabbitMQ is Debian's rabbitmq-server.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import boto3
import uvloop
from aws_http import Ec2, Sqs
from aws_parts import parts, sigv4
from aws_rabbit import Rabbit
from our_cloud import OurCloud
from peers.aws import MiniStack, Moto
from peers.server import Absent
from queue_load import filesystem, syncs_per_s

from minicloud.compiled import in_use

SECTIONS = ("cycles", "boto3", "describe", "latency", "sigv4")
CONNECTIONS, BATCHES = (1, 16, 64), (1, 10)
CYCLES_MIN = {MiniStack.name: 5.0, Rabbit.name: 1.0}
DESCRIBE_MIN, LATENCY_MS_MAX, SIGV4_US_MAX = 3.0, 1.0, 40.0
SETTLE_S = 5.0
T = TypeVar("T")
OURS, DIRECT = "minicloud", "minicloud, broker's port"


class Process(Protocol):
    name: str

    def start(self, folder: Path) -> None: ...

    def stop(self) -> None: ...

    def cpu_s(self) -> float: ...


class System(Process, Protocol):
    """What speaks SQS."""

    url: str


class Ours:
    """A cloud of our own; `direct`: past its front door."""

    name = OURS

    def __init__(self) -> None:
        self.cloud = OurCloud("--overcommit-cpu", "8")
        self.url = self.direct = ""

    def start(self, folder: Path) -> None:
        self.cloud.start(folder)
        state = json.loads((folder / "run" / "state.json").read_text())
        self.url = state["endpoints"]["http"]
        self.direct = f"http://127.0.0.1:{self.cloud.broker_http_port()}"

    def stop(self) -> None:
        self.cloud.stop()

    def cpu_s(self) -> float:
        return self.cloud.cpu_s()


class Direct:
    """The same cloud at its broker's own port."""

    name = DIRECT

    def __init__(self, ours: Ours) -> None:
        self._ours = ours
        self.cpu_s = ours.cpu_s

    @property
    def url(self) -> str:
        return self._ours.direct

    def start(self, folder: Path) -> None:
        """It runs."""

    def stop(self) -> None:
        """With the cloud."""


# --- raw HTTP


async def one_loop(url: str, queue: str, batch: int, until: float, done: list[int]) -> None:
    """Cycles on one connection."""
    sqs, body = Sqs(url), "x" * 1024
    entries = [{"Id": str(index), "MessageBody": body} for index in range(batch)]
    while time.perf_counter() < until:
        if batch == 1:
            await sqs("SendMessage", QueueUrl=queue, MessageBody=body)
        else:
            await sqs("SendMessageBatch", QueueUrl=queue, Entries=entries)
        got = (await sqs("ReceiveMessage", QueueUrl=queue, MaxNumberOfMessages=batch)).get("Messages", [])
        if batch == 1 and got:
            await sqs("DeleteMessage", QueueUrl=queue, ReceiptHandle=got[0]["ReceiptHandle"])
        elif got:
            gone = [{"Id": str(index), "ReceiptHandle": one["ReceiptHandle"]} for index, one in enumerate(got)]
            await sqs("DeleteMessageBatch", QueueUrl=queue, Entries=gone)
        done[0] += len(got)
    sqs.close()


async def http_cycles(url: str, connections: int, batch: int, seconds: float) -> tuple[int, float]:
    """How many messages went round, and in how many seconds."""
    first = Sqs(url)
    queue = (await first("CreateQueue", QueueName=f"bench-{connections}-{batch}"))["QueueUrl"]
    first.close()
    done, began = [0], time.perf_counter()
    await asyncio.gather(*(one_loop(url, queue, batch, began + seconds, done) for _ in range(connections)))
    return done[0], time.perf_counter() - began


async def cycles(system: System | Rabbit, connections: int, batch: int, seconds: float) -> dict[str, float]:
    """Messages that went round, a second; CPU of the server for one of them."""
    cpu = system.cpu_s()
    if isinstance(system, Rabbit):
        count, took = await system.cycles(connections, batch, seconds)
    else:
        count, took = await http_cycles(system.url, connections, batch, seconds)
    return {"per_s": count / took, "server_us": 1e6 * (system.cpu_s() - cpu) / max(1, count)}


async def all_cycles(systems: Sequence[System | Rabbit], rounds: int, seconds: float) -> dict[str, Any]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {one.name: {} for one in systems}
    for _ in range(rounds):
        for batch in BATCHES:
            for connections in CONNECTIONS:
                for system in systems:
                    run = await cycles(system, connections, batch, seconds)
                    found[system.name].setdefault(f"{connections}x{batch}", []).append(run)
    return {
        name: {
            case: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for case, runs in all_.items()
        }
        for name, all_ in found.items()
    }


# --- boto3


def boto(url: str, service: str) -> Any:
    return boto3.Session().client(
        service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="0" * 12, aws_secret_access_key="secret"
    )


def boto3_cycles(url: str, seconds: float) -> float:
    sqs = boto(url, "sqs")
    queue = sqs.create_queue(QueueName="bench-boto3")["QueueUrl"]
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        sqs.send_message(QueueUrl=queue, MessageBody="x" * 1024)
        for one in sqs.receive_message(QueueUrl=queue).get("Messages", []):
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
            count += 1
    sqs.close()
    return count / (time.perf_counter() - began)


def hundred(url: str) -> None:
    """A hundred instances. They are stopped: all that is shown of one but its state is there, and this machine has no
    room for so many that run.
    """
    ec2 = boto(url, "ec2")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    for _ in range(25):
        made = ec2.run_instances(ImageId=image, InstanceType="t3.nano", MinCount=4, MaxCount=4)
        ids = [one["InstanceId"] for one in made["Instances"]]
        ec2.stop_instances(InstanceIds=ids, Force=True)
        ec2.get_waiter("instance_stopped").wait(InstanceIds=ids, WaiterConfig={"Delay": 1})
    ec2.close()


async def describes(url: str, seconds: float) -> float:
    """DescribeInstances, a second, by raw HTTP: from request to the answer's last byte. That each has its hundred is
    looked at between them, and is no server's time.
    """
    ec2, count, took = Ec2(url), 0, 0.0
    while took < seconds:
        began = time.perf_counter()
        answer = await ec2("DescribeInstances")
        took += time.perf_counter() - began
        assert answer.count(b"<instanceId>") == 100
        count += 1
    ec2.close()
    return count / took


def all_describes(systems: Sequence[System], rounds: int, seconds: float) -> dict[str, float]:
    """The median of each, by turns, once what the launches set off has ended."""
    there = tried(lambda system: hundred(system.url), systems)
    time.sleep(SETTLE_S)
    runs = [tried(lambda system: uvloop.run(describes(system.url, seconds)), list(there)) for _ in range(rounds)]
    return {system.name: statistics.median(run[system] for run in runs) for system in there}


def tried(measure: Callable[[System], T], systems: Sequence[System]) -> dict[System, T]:
    found = {}
    for system in systems:
        try:
            found[system] = measure(system)
        except Exception as error:  # noqa: BLE001  # a peer that cannot do it is told, and left out
            print(f"{system.name}: {error}", file=sys.stderr)
    return found


# --- one at a time


async def latency(url: str, count: int) -> dict[str, float]:
    """Milliseconds of a send."""
    sqs, times = Sqs(url), []
    queue = (await sqs("CreateQueue", QueueName="bench-latency"))["QueueUrl"]
    for _ in range(count):
        began = time.perf_counter()
        await sqs("SendMessage", QueueUrl=queue, MessageBody="x" * 1024)
        times.append(1e3 * (time.perf_counter() - began))
    sqs.close()
    times.sort()
    return {"p50": times[count // 2], "p99": times[count * 99 // 100]}


# --- all of it


@contextlib.contextmanager
def running(systems: Sequence[Process], folder: Path) -> Iterator[list[Any]]:
    """Those that are here."""
    there: list[Process] = []
    try:
        for number, system in enumerate(systems):
            try:
                system.start(folder / f"s{number}")
            except Absent as how:
                print(f"{system.name}: skipped, it is not here; to have it: {how}", file=sys.stderr)
            else:
                there.append(system)
        yield there
    finally:
        for system in reversed(there):
            system.stop()


def measured(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    quick, ours = options.quick, Ours()
    found: dict[str, Any] = {"filesystem": filesystem(root), "syncs_per_s": syncs_per_s(root), "compiled": in_use()}
    peers = [MiniStack(options.peers_bin), Moto(options.peers_bin), *([Rabbit()] if "cycles" in options.only else [])]
    with running([*peers, ours, Direct(ours)], root) as there:
        spoken = [one for one in there if not isinstance(one, Rabbit)]
        real = [one for one in spoken if one.name != DIRECT]
        if "cycles" in options.only:
            found["cycles"] = uvloop.run(all_cycles(there, 1 if quick else 3, 1.0 if quick else 2.0))
        if "boto3" in options.only:
            seconds = 1.0 if quick else 3.0
            rates = tried(lambda one: boto3_cycles(one.url, seconds), real)
            found["boto3"] = {one.name: rate for one, rate in rates.items()}
        if "describe" in options.only:
            found["describe"] = all_describes(real, 1 if quick else 3, 1.0 if quick else 2.0)
        if "latency" in options.only:
            runs = {one.name: uvloop.run(latency(one.url, 300 if quick else 2_000)) for one in spoken}
            found["latency"] = runs | {"parts_us": uvloop.run(parts(root))}
    if "sigv4" in options.only:
        found["sigv4_us"] = sigv4()
    return found


def verdicts(found: dict[str, Any]) -> Iterator[tuple[str, float, str, bool]]:
    """What was measured, the figure, the target, and whether it is met."""
    rows = found.get("cycles", {})
    for name, least in CYCLES_MIN.items():
        for batch in BATCHES if name in rows else ():
            case = f"64x{batch}"
            ratio = rows[OURS][case]["per_s"] / rows[name][case]["per_s"]
            yield f"cycles of {batch} / {name}", ratio, f"at least {least:g}", ratio >= least
    rows = found.get("describe", {})
    if OURS in rows and MiniStack.name in rows:
        ratio = rows[OURS] / rows[MiniStack.name]
        yield "DescribeInstances / MiniStack", ratio, f"at least {DESCRIBE_MIN:g}", ratio >= DESCRIBE_MIN
    if rows := found.get("latency"):
        over = rows[OURS]["p50"] - 1e3 / found["syncs_per_s"]
        yield "p50 of a send less one sync, ms", over, f"at most {LATENCY_MS_MAX:g}", over <= LATENCY_MS_MAX
    if "sigv4_us" in found:
        added = found["sigv4_us"]
        yield "SigV4, us a request", added, f"at most {SIGV4_US_MAX:g}", added <= SIGV4_US_MAX


def table(found: dict[str, Any]) -> None:
    print(f"device: {found['filesystem']}, {found['syncs_per_s']:.0f} syncs/s; {os.cpu_count()} cores shared by all")
    print(f"minicloud's hot modules: {'compiled' if found['compiled'] else 'plain Python'}")
    if rows := found.get("cycles"):
        cases = [f"{connections}x{batch}" for batch in BATCHES for connections in CONNECTIONS]
        print(f"{'messages/s, connections x batch':<34}" + "".join(f"{case:>9}" for case in cases) + "   server us")
        for name, row in rows.items():
            figures = "".join(f"{row[case]['per_s']:>9.0f}" for case in cases)
            print(f"{name:<34}{figures}   {row['64x1']['server_us']:.0f}, in tens {row['64x10']['server_us']:.0f}")
    for section, unit in (("boto3", "cycles/s"), ("describe", "calls/s")):
        for name, figure in found.get(section, {}).items():
            print(f"{section}: {name:<32}{figure:>9.0f} {unit}")
    for name, row in found.get("latency", {}).items():
        if name == "parts_us":
            print("parts of a send, us: " + ", ".join(f"{part} {figure:.0f}" for part, figure in row.items()))
        else:
            print(f"one send: {name:<34} p50 {row['p50']:.2f} ms, p99 {row['p99']:.2f} ms")
    for name, figure, target, met in verdicts(found):
        print(f"{name:<36}{figure:>10.2f}   {target}{'' if met else '   NOT MET'}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="aws", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs and small numbers")
    parser.add_argument("--only", metavar="SECTIONS", default=",".join(SECTIONS), help="of " + ",".join(SECTIONS))
    parser.add_argument("--peers-bin", metavar="DIR", default="", help="where moto_server and ministack are")
    parser.add_argument("--dir", metavar="DIR", default="/var/tmp", help="where all data goes (default /var/tmp)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    options = parser.parse_args(argv)
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory(prefix="mca", dir=options.dir) as name:
        found = measured(options, Path(name))
    table(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(met for _, _, _, met in verdicts(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
