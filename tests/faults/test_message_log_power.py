"""Power cuts: what the message log acknowledged is there afterwards, whatever sectors made it to disk."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicloud.store.log import FileLog
from tests.faults.powerdisk import FastDisk, PowerDisk

SEGMENT_BYTES = 1 << 16
SEEDS = 240


def opened(path: Path, disk: FastDisk | None = None) -> FileLog:
    return FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=8, disk=disk or FastDisk(path))


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory where there is one: these tests bring their own disk."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


class Outage:
    """One run: appends, deletions of old segments, restarts, and a power cut at some disk operation in between."""

    def __init__(self, seed: int, directory: Path, *, lies: bool = False) -> None:
        self.rand = random.Random(seed)
        self.directory = directory
        self.disk = PowerDisk(directory / "log", self._operation, lies=lies)
        self.sent: set[bytes] = set()
        self.acked: dict[int, bytes] = {}  # by address, without what was dropped since
        self.survived: dict[int, bytes] | None = None
        self.operations = 0
        self.cut_at = self.rand.randrange(1, 200)
        self.in_write = seed % 4 > 0  # most cuts come while something is on its way to the platter

    def _operation(self, op: str, name: str) -> None:
        self.operations += 1
        if self.survived is None and self.operations >= self.cut_at and (op == "sync" or not self.in_write):
            self.survived = dict(self.acked)
            self.disk.cut(self.directory / "after", random.Random(self.operations))

    async def run(self) -> None:
        for _ in range(self.rand.randrange(1, 4)):
            log = opened(self.directory / "log", self.disk)
            for address, _frame in log.replay(12):
                if address in self.acked:
                    log.keep(address)
            for _ in range(12):
                await asyncio.gather(*(self._call(log) for _ in range(self.rand.randrange(1, 5))))
                self._drop(log)
            await log.close()
            assert log.error is None
        if self.survived is None:
            self.cut_at = 0
            self._operation("sync", "")

    async def _call(self, log: FileLog) -> None:
        frames = [
            self.rand.randbytes(8 + int(9_000 * self.rand.random() ** 3)) for _ in range(self.rand.randrange(1, 6))
        ]
        self.sent.update(frames)
        addresses = log.append(frames)
        for address in addresses:
            log.keep(address)
        await log.flushed()
        self.acked.update(zip(addresses, frames, strict=True))

    def _drop(self, log: FileLog) -> None:
        """The oldest messages end; their segments go when the next calls are on disk."""
        if self.rand.random() < 0.5:
            for address in list(self.acked)[: self.rand.choice((3, 3, 15, 80))]:
                del self.acked[address]
                log.drop(address)
            log.release()

    async def after(self) -> tuple[dict[int, bytes], FileLog]:
        """What a restart finds; a second one must find the same."""
        log = opened(self.directory / "after")
        found = dict(log.replay())
        await log.close()
        again = opened(self.directory / "after")
        assert dict(again.replay()) == found
        await again.close()
        return found, log


def lost(outage: Outage, found: dict[int, bytes]) -> list[int]:
    assert outage.survived is not None
    return [address for address, frame in outage.survived.items() if found.get(address) != frame]


async def test_no_acknowledged_frame_is_lost_in_a_power_cut(ram: Path) -> None:
    acked = torn = 0
    for seed in range(SEEDS):
        outage = Outage(seed, ram / str(seed))
        await outage.run()
        found, log = await outage.after()
        assert lost(outage, found) == [], f"seed {seed}: {log.damage}"
        assert set(found.values()) <= outage.sent, f"seed {seed}: frames from thin air"
        assert all(damage.torn for damage in log.damage), f"seed {seed}: {log.damage}"
        acked += len(outage.survived or ())
        torn += len(log.damage)
        shutil.rmtree(outage.directory)  # it may be in memory
    print(f"{SEEDS} power cuts: {acked} acknowledged frames, 0 lost; {torn} torn places")
    assert acked > 2_500
    assert torn > 20


async def test_the_harness_sees_the_loss_when_the_disk_lies(ram: Path) -> None:
    losses = 0
    for seed in range(20):
        outage = Outage(seed, ram / str(seed), lies=True)
        await outage.run()
        losses += bool(lost(outage, (await outage.after())[0]))
        shutil.rmtree(outage.directory)
    assert losses >= 5
