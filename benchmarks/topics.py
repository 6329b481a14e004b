"""What does fan-out cost? One topic to ten queues, durable, against as many sends to a queue; RabbitMQ beside it.

    send       batched sends to one queue, by many tasks at once, 1 KiB, each answered when it is on disk
    publish    the same to a topic with ten queues: on disk for all ten when it is answered; a delivery is one of ten
    received   all that was published, received from the ten queues and deleted, as consumers do it

Target (issue 3): deliveries a second at least 0.7 times ten times the sends a second of the same run; by turns.
RabbitMQ's figure is a fan-out exchange with ten quorum queues and publisher confirms; it has no target.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop
from our_cloud import OurCloud
from peers.rabbitmq import RabbitFanOut, RabbitMq
from peers.server import Absent
from queue_load import GARBAGE, PAYLOAD, filesystem, syncs_per_s

from minicloud import AsyncClient

QUEUES = 10
TASKS = 2_000
TARGET = 0.7
RAW = {"RawMessageDelivery": True}


async def many(count: int, act: Callable[[bytes], Awaitable[object]]) -> float:
    """Calls a second of so many, made by tasks that await each of theirs."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await act(PAYLOAD)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(min(TASKS, count))))
    return count / (time.perf_counter() - began)


async def rabbit(folder: Path, rounds: int, count: int) -> float | None:
    """Deliveries a second; None where it is not on this machine."""
    peer = RabbitMq()
    try:
        peer.start(folder)
    except Absent as how:
        print(f"{peer.name}: skipped, it is not here; to have it: {how}", file=sys.stderr)
        return None
    try:
        fan = RabbitFanOut(peer, PAYLOAD, QUEUES)
        await fan.start()
        rates = []
        for _ in range(rounds):
            await asyncio.to_thread(os.sync)
            began = time.perf_counter()
            await fan.publish(count)
            rates.append(QUEUES * count / (time.perf_counter() - began))
            await fan.clear()
        await fan.stop()
        return statistics.median(rates)
    finally:
        peer.stop()


async def fan_out(cloud: OurCloud, rounds: int, count: int, raw: bool) -> dict[str, Any]:
    """Sends and publishes by turns, then all that was published is received and deleted."""
    async with AsyncClient(cloud.endpoint) as client:
        names = [f"fan-{number}" for number in range(QUEUES)]
        await client.queues.create("alone")
        topic = await client.topics.create("fan")
        for name in names:
            queue = await client.queues.create(name)
            await client.topics.subscribe(topic.arn, "sqs", queue.arn, RAW if raw else None)
        send, publish = client.queues.bound("alone").send, client.topics.bound(topic.arn).publish
        sends, publishes = [], []
        for number in range(rounds + 1):
            await asyncio.to_thread(os.sync)
            sent = await many(count, send)
            await asyncio.to_thread(os.sync)
            published, cpu = cloud.cpu_s(), 0.0
            rate = await many(count, publish)
            cpu = cloud.cpu_s() - published
            if number:  # the first round pays for what is made once
                sends.append(sent)
                publishes.append((rate, 1e6 * cpu / count / QUEUES))
        received = await drain(client, names, (rounds + 1) * count)
    return {
        "sends_per_s": statistics.median(sends),
        "deliveries_per_s": QUEUES * statistics.median(rate for rate, _ in publishes),
        "server_us_per_delivery": statistics.median(cpu for _, cpu in publishes),
        "ratio": statistics.median(rate / sent for (rate, _), sent in zip(publishes, sends, strict=True)),
        "received_per_s": received,
        "raw": raw,
    }


async def drain(client: AsyncClient, names: Sequence[str], count: int) -> float:
    """Messages a second, received and deleted, until so many have come from each. Raises RuntimeError."""
    came = dict.fromkeys(names, 0)

    async def take(name: str) -> None:
        consumer = client.queues.consumer(name, prefetch=1_000)

        async def handle(message: Any) -> None:
            if len(message.body) < len(PAYLOAD):
                raise RuntimeError(f"{len(message.body)} bytes came")
            came[name] += 1
            if came[name] >= count:
                await consumer.stop()

        await consumer.run(handle)

    began = time.perf_counter()
    await asyncio.gather(*(take(name) for name in names))
    took = time.perf_counter() - began
    if set(came.values()) != {count}:
        raise RuntimeError(f"{count} were published, and there came {came}")
    return count * len(names) / took


async def measured(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    rounds, count = (2, 10_000) if options.quick else (5, 40_000)
    gc.set_threshold(*GARBAGE)
    found: dict[str, Any] = {"filesystem": filesystem(root), "syncs_per_s": syncs_per_s(root)}
    if "rabbitmq" in options.peers:
        found["rabbitmq_deliveries_per_s"] = await rabbit(root / "rabbitmq", rounds, count // 4)
    cloud = OurCloud()
    cloud.start(root / "ours")
    try:
        found |= await fan_out(cloud, rounds, count, not options.enveloped)
    finally:
        cloud.stop()
    return found


def table(found: dict[str, Any]) -> None:
    print(f"device: {found['filesystem']}, {found['syncs_per_s']:.0f} syncs/s; {os.cpu_count()} cores shared by all")
    print(f"sends to one queue       {found['sends_per_s']:>10.0f}/s")
    print(
        f"deliveries to {QUEUES} queues  {found['deliveries_per_s']:>10.0f}/s,"
        f" {found['server_us_per_delivery']:.2f} us of the broker each"
    )
    print(f"received and deleted     {found['received_per_s']:>10.0f}/s{'' if found['raw'] else ', in envelopes'}")
    if other := found.get("rabbitmq_deliveries_per_s"):
        print(f"RabbitMQ quorum fan-out  {other:>10.0f}/s, ours {found['deliveries_per_s'] / other:.1f} times")
    met = "" if found["ratio"] >= TARGET else "   NOT MET"
    print(f"deliveries / ({QUEUES} x sends) {found['ratio']:.2f}   at least {TARGET}{met}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="topics", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few messages")
    parser.add_argument("--enveloped", action="store_true", help="messages in SNS's JSON instead of raw")
    parser.add_argument("--peers", metavar="NAMES", default="rabbitmq", help="rabbitmq, or none")
    parser.add_argument("--dir", metavar="DIR", default="/var/tmp", help="where all data goes (default /var/tmp)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="mct", dir=options.dir) as folder:
        found = uvloop.run(measured(options, Path(folder)))
    table(found)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["ratio"] >= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
