"""What does the message log cost over a bare pwrite and fdatasync? And how fast are reading and replay?

    raw         one pwrite of the same bytes into reserved space and one fdatasync, on the caller's thread
    thread      the same, handed to another thread and awaited: what any event loop must pay
    log         `append` and `await flushed()`: checksums, places, group commit and the fence added
    callers     16 callers at once, 100 frames a call: frames a second
    read        frames of 1 KiB: from memory, one by one from the file, 100 neighbours at a time
    replay      frames a second of a log of 1 KiB frames (first 355 bytes; whole) and of 60-byte frames

Raw, thread and log take turns call by call, because a shared disk's mood changes by the second; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import uvloop

from minicloud.store.log import FileLog

FRAME = os.urandom(1024)
SMALL = os.urandom(60)
PREFIX_BYTES = 355
RAW_BYTES = 64 * 1024 * 1024


class Raw:
    """The disk alone."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.posix_fallocate(self._file, 0, RAW_BYTES)
        os.fsync(self._file)
        self._at = 0
        self._thread = ThreadPoolExecutor(1)

    def write(self, data: bytes) -> None:
        if self._at + len(data) > RAW_BYTES:
            os.ftruncate(self._file, 0)  # fresh space, as a log's next segment is
            os.posix_fallocate(self._file, 0, RAW_BYTES)
            os.fsync(self._file)
            self._at = 0
        os.pwrite(self._file, data, self._at)
        os.fdatasync(self._file)
        self._at += len(data)

    async def here(self, data: bytes) -> None:
        self.write(data)

    async def there(self, data: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self.write, data)


async def alternate(ways: dict[str, Callable[[], Awaitable[None]]], count: int) -> dict[str, float]:
    """Median microseconds of one call each way, taken in turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(count):
        for name, way in ways.items():
            began = time.perf_counter()
            await way()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) * 1e6 for name, times in took.items()}


async def calls(directory: Path, frames: int, count: int) -> dict[str, float]:
    raw, thread, log = Raw(directory / "raw"), Raw(directory / "thread"), FileLog.open(directory / "log", "bench")
    batch = [FRAME] * frames
    data = bytes(20).join((b"", *batch))

    async def ours() -> None:
        log.append(batch)
        await log.flushed()

    found = await alternate({"raw": lambda: raw.here(data), "thread": lambda: thread.there(data), "log": ours}, count)
    await log.close()
    return found


async def callers(directory: Path, count: int) -> float:
    log = FileLog.open(directory / "callers", "bench")
    batch = [FRAME] * 100

    async def one() -> None:
        for _ in range(count):
            log.append(batch)
            await log.flushed()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(16)))
    took = time.perf_counter() - began
    await log.close()
    return 16 * 100 * count / took


async def filled(path: Path, frame: bytes, count: int) -> list[int]:
    log, addresses = FileLog.open(path, "bench"), list[int]()
    for _ in range(count // 100):
        addresses += log.append([frame] * 100, essential=True)
        if len(addresses) % 10_000 == 0:
            await log.flushed()
    await log.close()
    return addresses


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


async def reading(directory: Path, count: int) -> dict[str, float]:
    addresses = await filled(directory / "reading", FRAME, count)
    small = await filled(directory / "small", SMALL, count)
    log, other = FileLog.open(directory / "reading", "bench"), FileLog.open(directory / "small", "bench")
    recent = log.append([FRAME] * 1000)
    lengths = [len(FRAME)] * 100

    def neighbours() -> None:
        for index in range(0, count, 100):
            log.read_all(addresses[index : index + 100], lengths)

    found = {
        "read_memory_us": timed(lambda: [log.read(address, 0, 1024) for address in recent]) / len(recent) * 1e6,
        "read_file_us": timed(lambda: [log.read(address, 0, 1024) for address in addresses]) / count * 1e6,
        "read_neighbours_us": timed(neighbours) / count * 1e6,
        "replay_prefix_per_s": count / timed(lambda: sum(1 for _ in log.replay(PREFIX_BYTES))),
        "replay_whole_per_s": count / timed(lambda: sum(1 for _ in log.replay())),
        "replay_small_per_s": len(small) / timed(lambda: sum(1 for _ in other.replay(PREFIX_BYTES))),
    }
    await log.close()
    await other.close()
    return found


async def measure(directory: Path, quick: bool) -> dict[str, Any]:
    times = 1 if quick else 5
    return {
        "single_us": await calls(directory, 1, 300 * times),
        "hundred_us": await calls(directory, 100, 100 * times),
        "callers_per_s": await callers(directory, 20 * times),
        **await reading(directory, 20_000 * times),
    }


def table(found: dict[str, Any]) -> str:
    lines = [f"{'one call':<12}{'raw us':>10}{'thread us':>12}{'log us':>10}{'log/thread':>12}{'frames/s':>12}"]
    for name, key, frames in (("1 frame", "single_us", 1), ("100 frames", "hundred_us", 100)):
        raw, thread, log = (found[key][way] for way in ("raw", "thread", "log"))
        lines.append(
            f"{name:<12}{raw:>10.0f}{thread:>12.0f}{log:>10.0f}{log / thread:>12.2f}{frames / log * 1e6:>12.0f}"
        )
    lines.append(f"16 callers, 100 frames a call: {found['callers_per_s']:.0f} frames/s (aim: 150,000)")
    lines.append(
        f"read 1 KiB: {found['read_memory_us']:.2f} us from memory, {found['read_file_us']:.2f} us from the file, "
        f"{found['read_neighbours_us']:.2f} us as one of 100 neighbours"
    )
    lines.append(
        f"replay: {found['replay_prefix_per_s']:.0f} prefixes/s, {found['replay_whole_per_s']:.0f} whole frames/s, "
        f"{found['replay_small_per_s']:.0f} small frames/s (aim: 500,000)"
    )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench message_log", description="What does a durable message cost?")
    parser.add_argument("--quick", action="store_true", help="a fifth of the work")
    parser.add_argument("--json", metavar="FILE", help="write the figures here too")
    parser.add_argument("--dir", metavar="DIR", help="measure the disk of this directory")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        found = uvloop.run(measure(Path(directory), options.quick))
    print(table(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
