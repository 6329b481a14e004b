"""How fast are durable queues? Full cycles against RabbitMQ, NATS and Redis; latency, idle polls, millions of messages.

    cycles   send, receive, delete of 1 KiB, all acknowledged, fsync before each answer; producers and consumers at once
             in this process, by turns with each peer. Targets: 3 times a RabbitMQ quorum queue, 10 times NATS JetStream
             with `sync_interval: always`; the ratio to Redis Streams with `appendfsync always` is shown (goal: 1)
    latency  one message at a time: a send against a bare gRPC echo plus a commit of our log (at most 1.5 times)
    idle     a thousand waiting long polls (under 3% of a core)
    big      a queue of 5 million answers receives like one of a thousand (at least 0.8), at most 300 bytes of RAM each
    many     a broker of 100,000 queues is back from SIGKILL within 60 s

Peers are driven below any client library: precoded frames, no object a message, so that the machine is the server's.
They run as children, on loopback, with their data on the same file system as ours (`--dir`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvloop
from our_cloud import OurCloud
from our_queue import Ours
from peers.nats import Nats
from peers.rabbitmq import RabbitMq
from peers.redis_streams import RedisStreams
from peers.server import Absent, System
from queue_load import Cycles, by_turns, filesystem, middle, syncs_per_s
from queue_sections import big, idle, latency, many

SECTIONS = ("cycles", "latency", "idle", "big", "many")
TARGETS = {RabbitMq.name: 3.0, Nats.name: 10.0, RedisStreams.name: 1.0}
GOALS = {RedisStreams.name}  # shown, not asked for
LATENCY_MAX, IDLE_PERCENT_MAX, BIG_MIN, BYTES_MAX, RESTART_S_MAX = 1.5, 3.0, 0.8, 300, 60


@contextlib.asynccontextmanager
async def running(systems: Sequence[System], folder: Path) -> AsyncIterator[list[System]]:
    """Those that are on this machine, started; the others are named with what would bring them."""
    there: list[System] = []
    try:
        for number, system in enumerate(systems):
            try:
                system.start(folder / f"s{number}")  # blocks: an interrupt waits until it can be stopped
            except Absent as how:
                print(f"{system.name}: skipped, it is not here; to have it: {how}", file=sys.stderr)
            else:
                there.append(system)
        yield there
    finally:
        for system in reversed(there):
            system.stop()


async def cycles(folder: Path, names: Sequence[str], rounds: int, seconds: float) -> dict[str, Any]:
    wanted = [one for one in (RabbitMq(), Nats(), RedisStreams(), Ours()) if one.name == Ours.name or _in(one, names)]
    async with running(wanted, folder) as there:
        runs = await by_turns(there, rounds, seconds)
    found = {name: middle(each) for name, each in runs.items()}
    ours = found[Ours.name]
    return {
        "systems": {name: {field: getattr(one, field) for field in Cycles.__slots__} for name, one in found.items()},
        "ratios": {name: ours.per_s / one.per_s for name, one in found.items() if name != Ours.name},
        "runs_per_s": {name: [round(one.per_s) for one in each] for name, each in runs.items()},
    }


def _in(system: System, names: Sequence[str]) -> bool:
    return any(name in system.name.lower() for name in names)


async def measured(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """All that was asked for, each with a cloud of its own; in one event loop, which gRPC keeps to."""
    quick, found = options.quick, dict[str, Any]()
    found["filesystem"], found["syncs_per_s"] = filesystem(root), syncs_per_s(root)
    if "cycles" in options.only:
        found["cycles"] = await cycles(root, options.peers, 2 if quick else 5, 1.5 if quick else 3.0)
    sections: dict[str, Callable[[OurCloud, Path], Awaitable[dict[str, float]]]] = {
        "latency": lambda cloud, folder: latency(cloud, folder, 300 if quick else 2_000),
        "idle": lambda cloud, _folder: idle(cloud, 1_000, 5 if quick else 20),
        "big": lambda cloud, _folder: big(cloud, 100_000 if quick else 5_000_000, 5 if quick else 15),
        "many": lambda cloud, _folder: many(cloud, 2_000 if quick else 100_000),
    }
    for name in [name for name in sections if name in options.only]:
        with tempfile.TemporaryDirectory(prefix=name, dir=root) as folder:
            async with running([ours := Ours()], Path(folder)):
                found[name] = await sections[name](ours.cloud, Path(folder))
    return found


def verdicts(found: dict[str, Any]) -> Iterator[tuple[str, float, str, bool]]:
    """What was measured, the figure, the target, and whether it is met."""
    for name, ratio in found.get("cycles", {}).get("ratios", {}).items():
        target = TARGETS[name]
        yield f"cycles / {name}", ratio, f"{'goal' if name in GOALS else 'at least'} {target:g}", ratio >= target
    if one := found.get("latency"):
        yield "send / (echo + commit)", one["ratio"], f"at most {LATENCY_MAX}", one["ratio"] <= LATENCY_MAX
    if one := found.get("idle"):
        used = one["broker_percent"]
        yield "idle polls, % of a core", used, f"under {IDLE_PERCENT_MAX:g}", used < IDLE_PERCENT_MAX
    if one := found.get("big"):
        yield "receives, big / small queue", one["ratio"], f"at least {BIG_MIN}", one["ratio"] >= BIG_MIN
        memory = one["bytes_per_message"]
        yield "RAM bytes a stored message", memory, f"at most {BYTES_MAX}", memory <= BYTES_MAX
    if one := found.get("many"):
        yield (
            "restart with many queues, s",
            one["restart_s"],
            f"under {RESTART_S_MAX}",
            one["restart_s"] < RESTART_S_MAX,
        )


def table(found: dict[str, Any]) -> None:
    print(f"device: {found['filesystem']}, {found['syncs_per_s']:.0f} syncs/s; {os.cpu_count()} cores shared by all")
    if one := found.get("cycles"):
        print(f"{'full cycles, 1 KiB, durable':<28}{'per s':>10}{'server us':>11}{'client us':>11}   runs")
        for name, row in one["systems"].items():
            figures = f"{row['per_s']:>10.0f}{row['server_us']:>11.1f}{row['client_us']:>11.1f}"
            print(f"{name:<28}{figures}   {one['runs_per_s'][name]}")
    if one := found.get("latency"):
        print(f"one at a time: send {one['send']:.0f} us; echo {one['echo']:.0f} us, commit {one['commit']:.0f} us")
    if one := found.get("idle"):
        print(
            f"idle: {one['polls']} long polls, broker {one['broker_percent']:.1f}% of a core,"
            f" client {one['client_percent']:.1f}%; a send wakes one after {one['wake_ms']:.1f} ms"
        )
    if one := found.get("big"):
        print(
            f"big: {one['messages']} messages (sent at {one['filled_per_s']:.0f}/s): {one['big_per_s']:.0f} receives/s;"
            f" a thousand: {one['small_per_s']:.0f}/s; {one['bytes_per_message']:.0f} bytes of RAM each"
        )
    if one := found.get("many"):
        print(
            f"many: {one['queues']} queues made at {one['made_per_s']:.0f}/s, {one['bytes_per_queue']:.0f} bytes each;"
            f" back after {one['restart_s']:.1f} s with {one['memory_mib']:.0f} MiB"
        )
    for name, figure, target, met in verdicts(found):
        print(f"{name:<36}{figure:>10.2f}   {target}{'' if met else '   NOT MET'}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="queues", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short runs and small numbers")
    parser.add_argument("--only", metavar="SECTIONS", default=",".join(SECTIONS), help="of " + ",".join(SECTIONS))
    parser.add_argument("--peers", metavar="NAMES", default="rabbitmq,nats,redis", help="those to compare with")
    parser.add_argument("--dir", metavar="DIR", default="/var/tmp", help="where all data goes (default /var/tmp)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    options = parser.parse_args(argv)
    options.only, options.peers = options.only.split(","), [name for name in options.peers.split(",") if name]
    if unknown := set(options.only) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    with tempfile.TemporaryDirectory(prefix="mcq", dir=options.dir) as name:
        found = uvloop.run(measured(options, Path(name)))
    table(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0 if all(met for name, _, target, met in verdicts(found) if not target.startswith("goal")) else 1


if __name__ == "__main__":
    sys.exit(main())
