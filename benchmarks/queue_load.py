"""The measure that queues share: full cycles a second, peer and ours by turns, and what the disk below them can do."""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from peers.server import Meter, System

PAYLOAD = b"x" * 1_024
WARM_S = 0.7
DRAIN_S = 5.0
GARBAGE = (
    20_000,
    20,
    50,
)  # as programs with many short-lived objects set it; else a fifth of our client


@dataclass(frozen=True, slots=True)
class Cycles:
    """One run: messages sent, received and deleted, all acknowledged, a second; CPU microseconds of one of them."""

    per_s: float
    server_us: float
    client_us: float


async def measure(system: System, seconds: float) -> Cycles:
    """Producers and consumers in this process, at once, after a short while for getting under way."""
    meter = Meter(system.window)
    load = system.load(meter, PAYLOAD)
    await load.start()
    try:
        await asyncio.sleep(WARM_S)
        began, deleted = time.perf_counter(), meter.deleted
        server, client = system.cpu_s(), time.process_time()
        await asyncio.sleep(seconds)
        took, count = time.perf_counter() - began, max(1, meter.deleted - deleted)
        server, client = system.cpu_s() - server, time.process_time() - client
        meter.open = False
        await _drained(system.name, meter)
    finally:
        meter.open = False
        await load.stop()
    return Cycles(count / took, 1e6 * server / count, 1e6 * client / count)


async def _drained(name: str, meter: Meter) -> None:
    """The next run finds an empty queue. Raises RuntimeError when messages are lost."""
    deadline = time.monotonic() + DRAIN_S
    while meter.deleted < meter.begun:
        if time.monotonic() > deadline:
            left = f"{meter.begun - meter.sent} not confirmed, {meter.sent - meter.deleted} not deleted"
            raise RuntimeError(f"{name}: of {meter.begun} messages {left}")
        await asyncio.sleep(0.01)


async def by_turns(systems: Sequence[System], rounds: int, seconds: float) -> dict[str, list[Cycles]]:
    """Each in turn, so often: what disturbs the machine disturbs all."""
    gc.set_threshold(*GARBAGE)
    found: dict[str, list[Cycles]] = {system.name: [] for system in systems}
    for _ in range(rounds):
        for system in systems:
            await asyncio.to_thread(os.sync)  # nobody pays for what the one before left to the disk
            found[system.name].append(await measure(system, seconds))
    return found


def middle(runs: Sequence[Cycles]) -> Cycles:
    """The median of each figure."""
    return Cycles(*(statistics.median(getattr(run, name) for run in runs) for name in Cycles.__slots__))


def syncs_per_s(folder: Path, seconds: float = 0.5) -> float:
    """Appends of 4 KiB, each followed by fdatasync: what the disk can do for one writer without grouping."""
    path = folder / "device"
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.pwrite(file, bytes(16 << 20), 0)
        os.fsync(file)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            os.pwrite(file, bytes(4_096), 4_096 * (count % 4_096))
            os.fdatasync(file)
            count += 1
        return count / (time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()


def filesystem(folder: Path) -> str:
    """The kind of the file system that holds the folder."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == number:
            return words[words.index("-") + 1]
    return "unknown"
