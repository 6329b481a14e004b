"""How quickly does a queue feed a function? A mapping of batches of ten, ten at once, beside a consumer without one.

A cloud of its own is brought up and two queues are filled. One is drained by ten workers of this process, each in a
loop of receive ten, delete ten: what the queue gives. The other is mapped to an empty Python function (batch size 10,
MaximumConcurrency 10). Each of its invocations prints when it began, when it ended and which messages it had; from
these lines, read back from the function's log, comes everything that is claimed: messages a second, how many
invocations were under way at the same moment, and what was lost or came twice. A tenth as many messages go through a
handler that takes SLOW_S, so that more than ten at once would be of use: there are ten, and never more.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from functions import package
from our_cloud import OurCloud

from minicloud import AsyncClient

CODE = """
import os, time
SLEEP_S = float(os.environ["SLEEP_S"])
def handler(event, context):
    began = time.time()
    ids = ",".join(record["body"] for record in event["Records"])
    time.sleep(SLEEP_S)
    print("BATCH", began, time.time(), ids)
"""
BATCH, AT_ONCE = 10, 10
SLOW_S = 0.05
PAGE = 1_000  # messages of one send
QUIET_S = 120.0  # so long without a message less, and it is given up


async def fill(client: AsyncClient, queue: str, count: int) -> str:
    """ARN of a new queue with messages "0", "1", ..."""
    made = await client.queues.create(queue, {"VisibilityTimeout": 300})
    for first in range(0, count, PAGE):
        results = await client.queues.send_batch(queue, [str(n) for n in range(first, min(first + PAGE, count))])
        assert not [one for one in results if one.error]
    return made.arn


async def drained(client: AsyncClient, queue: str, count: int) -> float:
    """Messages a second of ten workers without a function."""
    left = count

    async def work() -> None:
        nonlocal left
        while left > 0:
            messages = await client.queues.receive(queue, BATCH, wait_s=1)
            if messages:
                assert not await client.queues.delete_messages(queue, messages)
                left -= len(messages)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - began)


async def mapped(client: AsyncClient, name: str, count: int, sleep_s: float) -> list[tuple[float, float, list[int]]]:
    """(began, ended, messages) of every invocation, from the log."""
    code, variables = package({"app.py": CODE}), {"SLEEP_S": str(sleep_s)}
    await client.functions.create(name, code, runtime="python3.11", handler="app.handler", environment=variables)
    arn = await fill(client, name, count)
    await client.triggers.map(name, arn, batch_size=BATCH, concurrency=AT_ONCE)
    await emptied(client, name)
    runs = []
    async for event in client.logs.filter(f"/aws/lambda/{name}", "BATCH"):
        _, began, ended, ids = event.message.split()
        runs.append((float(began), float(ended), [int(one) for one in ids.split(",")]))
    return runs


async def emptied(client: AsyncClient, queue: str) -> None:
    """Nothing waits in it and nothing is in flight, and what was printed is in the log."""
    before, since = -1, time.monotonic()
    while before:
        found = (await client.queues.get(queue)).attributes
        left = int(found["ApproximateNumberOfMessages"]) + int(found["ApproximateNumberOfMessagesNotVisible"])
        if left != before:
            before, since = left, time.monotonic()
        elif time.monotonic() - since > QUIET_S:
            return
        await asyncio.sleep(0.5)
    await asyncio.sleep(5.0)


def most_at_once(runs: Sequence[tuple[float, float, Any]]) -> int:
    """Of the handlers."""
    steps = sorted([(began, 1) for began, _, _ in runs] + [(ended, -1) for _, ended, _ in runs])
    now = most = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def told(runs: Sequence[tuple[float, float, list[int]]], count: int) -> dict[str, float]:
    seen = Counter(number for _, _, numbers in runs for number in numbers)
    seconds = max(ended for _, ended, _ in runs) - min(began for began, _, _ in runs)
    return {
        "messages": count,
        "per_s": count / seconds,
        "invocations": len(runs),
        "at_once_max": most_at_once(runs),
        "lost": count - len(seen),
        "twice": sum(times - 1 for times in seen.values()),
    }


async def measure(cloud: OurCloud, count: int) -> dict[str, Any]:
    async with AsyncClient(cloud.endpoint) as client:
        await fill(client, "bare", count)
        bare = await drained(client, "bare", count)
        empty = told(await mapped(client, "empty", count, 0.0), count)
        slow = told(await mapped(client, "slow", count // 10, SLOW_S), count // 10)
    return {"bare_per_s": bare, "empty": empty, "slow": slow, "ratio": empty["per_s"] / bare}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    cloud = OurCloud()
    with tempfile.TemporaryDirectory(prefix="mcb", dir="/tmp") as folder:
        cloud.start(Path(folder))
        try:
            found = uvloop.run(measure(cloud, options.messages))
        finally:
            cloud.stop()
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"ten workers, receive and delete, no function   {found['bare_per_s']:8.0f} messages/s")
    for name in ("empty", "slow"):
        row = found[name]
        print(f"mapping, {name:5} handler, batch 10, 10 at once    {row['per_s']:8.0f} messages/s", end="")
        print(f"   {row['messages']:.0f} in {row['invocations']:.0f} invocations", end=", ")
        print(f"at once at most {row['at_once_max']}, lost {row['lost']}, twice {row['twice']}")
    print(f"  empty handler to no function {found['ratio']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
