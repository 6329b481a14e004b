"""The message log under a full and a failing disk, SIGKILL, and owners that wake up too late."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from minicloud.base.errors import Fenced, InsufficientStorage, Internal
from minicloud.store.log import FileLog
from minicloud.store.log_format import PAGE_BYTES, Header, Link, encode, encode_link
from minicloud.store.log_segments import make_segment
from tests.faults.powerdisk import FastDisk

SEGMENT_BYTES = 1 << 16


def opened(path: Path, disk: FastDisk | None = None) -> FileLog:
    return FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=8, disk=disk or FastDisk(path))


# --- a failing disk


class Faulty(FastDisk):
    """Fails with `errno` in the operation named `op`."""

    op = ""
    errno = errno.EIO
    size_max = 1 << 40

    def _check(self, op: str) -> None:
        if op == self.op:
            raise OSError(self.errno, os.strerror(self.errno))

    def create(self, name: str, size: int) -> int:
        if size > self.size_max:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._check("create")
        return super().create(name, size)

    def write(self, file: int, data: bytes, at: int) -> None:
        super().write(file, data, at)
        self._check("write")


async def test_after_a_failed_sync_nothing_is_acknowledged_until_reopened(tmp_path: Path) -> None:
    disk = Faulty(tmp_path)
    log = opened(tmp_path, disk)
    (before,) = log.append([b"before"])
    await log.flushed()
    disk.op = "write"
    log.append([b"failed"])
    waiting = [asyncio.ensure_future(log.flushed()) for _ in range(3)]
    ended = asyncio.ensure_future(log.ended.wait())
    assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [Internal] * 3
    await ended
    disk.op = ""
    for _ in range(3):
        with pytest.raises(Internal):
            log.append([b"later"], essential=True)
        with pytest.raises(Internal):
            await log.flushed()
    assert isinstance(log.error, Internal)
    assert log.ended.is_set()
    assert log.read(before, 0, 10) == b"before"
    await log.close()
    again = opened(tmp_path)
    # What failed has an unknown fate; what was refused must not be there, what was acknowledged must.
    assert {frame for _, frame in again.replay()} - {b"failed"} == {b"before"}
    again.append([b"reopened"])
    await again.flushed()
    await again.close()


class Slow(FastDisk):
    """A disk on which a write waits until it is let go, with some of its bytes written before."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.go = threading.Event()
        self.go.set()
        self.began = threading.Event()
        self.first = slice(0, 0)
        self.error: OSError | None = None
        self.writes = 0

    def write(self, file: int, data: bytes, at: int) -> None:
        self.writes += 1
        os.pwrite(file, data[self.first], at + self.first.start)
        self.began.set()
        self.go.wait()
        if self.error is not None:
            raise self.error
        super().write(file, data, at)

    async def hold(self, log: FileLog, frames: list[bytes]) -> None:
        """Append, and return when the write has begun."""
        self.go.clear()
        self.began.clear()
        log.append(frames)
        await asyncio.to_thread(self.began.wait)


async def test_what_waits_behind_a_failed_write_is_not_written(tmp_path: Path) -> None:
    disk = Slow(tmp_path)
    log = opened(tmp_path, disk)
    await disk.hold(log, [b"failed"])
    log.append([b"behind"])
    disk.error, before = OSError(errno.EIO, "Input/output error"), disk.writes
    disk.go.set()
    with pytest.raises(Internal):
        await log.flushed()
    await log.close()
    assert disk.writes == before
    again = opened(tmp_path)
    assert list(again.replay()) == []
    await again.close()


async def fill(log: FileLog, frame: bytes, *, essential: bool = False) -> list[int]:
    """Append until the disk is full."""
    addresses: list[int] = []
    while True:
        try:
            addresses += log.append([frame], essential=essential)
        except InsufficientStorage:
            return addresses
        await log.flushed()
        assert len(addresses) < 10_000


async def test_a_full_disk_refuses_sends_and_lets_the_rest_go_on(tmp_path: Path) -> None:
    disk = Faulty(tmp_path)
    disk.errno = errno.ENOSPC
    log = opened(tmp_path, disk)
    disk.op = "create"
    addresses = await fill(log, bytes(1_000))
    assert len(addresses) > 3 * SEGMENT_BYTES // 1_100  # what was made ahead, but for the reserve
    essential: list[int] = []
    while log.stats()["segments"] == 8:
        essential += log.append([bytes(1_000)], essential=True)
    with pytest.raises(InsufficientStorage):  # there is room, but it is the reserve
        log.append([b"x"])
    essential += await fill(log, bytes(28), essential=True)
    assert len(essential) >= (SEGMENT_BYTES - 8_192) // 48  # the reserve
    assert log.read(addresses[0], 0, 2_000) == bytes(1_000)
    with pytest.raises(InsufficientStorage):
        log.append([b"x"])
    disk.op = ""
    while True:  # tried again by the appends themselves, with pauses
        try:
            more = log.append([b"recovered"])
        except InsufficientStorage:
            await asyncio.sleep(0.05)
        else:
            break
    await log.flushed()
    await log.close()
    again = opened(tmp_path)
    assert [address for address, _ in again.replay(12)] == addresses + essential + more
    assert again.damage == []
    await again.close()


async def test_a_full_disk_recovers_by_release(tmp_path: Path) -> None:
    disk = Faulty(tmp_path)
    disk.errno = errno.ENOSPC
    log = opened(tmp_path, disk)
    assert list(log.replay()) == []
    disk.op = "create"
    addresses = await fill(log, bytes(1_000))
    for address in addresses:
        log.keep(address)
    assert log.release() == 0
    for address in addresses:
        log.drop(address)
    disk.op = ""
    assert log.release() >= 3
    log.append([bytes(28)], essential=True)
    await log.flushed()
    log.append([bytes(1_000)])
    await log.close()


async def test_a_log_opens_on_a_full_disk(tmp_path: Path) -> None:
    log = opened(tmp_path)
    (address,) = log.append([b"before"])
    await log.close()
    disk = Faulty(tmp_path)
    disk.size_max = SEGMENT_BYTES // 4
    log = opened(tmp_path, disk)
    assert list(log.replay()) == [(address, b"before")]
    with pytest.raises(InsufficientStorage):
        log.append([b"x"])
    log.append([bytes(28)] * 100, essential=True)
    await log.close()
    disk.size_max = 0
    with pytest.raises(InsufficientStorage):
        opened(tmp_path, disk)
    log = opened(tmp_path)
    assert len(list(log.replay())) == 101
    assert log.damage == []
    await log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.decode()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
async def test_a_really_full_disk(small_disk: Path) -> None:
    log = FileLog.open(small_disk / "log", "a", segment_bytes=1 << 19)
    assert list(log.replay()) == []
    addresses = await fill(log, bytes(1_000))
    assert 2_000 < len(addresses) < 4_000
    for address in addresses:
        log.keep(address)
    gone, kept = addresses[: len(addresses) // 2], addresses[len(addresses) // 2 :]
    log.append([bytes(1_000)] * 100, essential=True)
    for address in gone:
        log.drop(address)
    assert log.release() > 0
    log.append([bytes(28)], essential=True)
    await log.flushed()
    assert await fill(log, bytes(1_000))
    await log.close()
    again = FileLog.open(small_disk / "log", "b", segment_bytes=1 << 19)
    assert {address for address, _ in again.replay()} >= set(kept)
    assert again.damage == []
    await again.close()


# --- other owners, and none


async def test_a_second_owner_fences_the_first(tmp_path: Path) -> None:
    first = opened(tmp_path)
    (address,) = first.append([b"first"])
    await first.flushed()
    second = opened(tmp_path)
    assert second.epoch == first.epoch + 1
    first.append([b"stale"])
    for _ in range(2):
        with pytest.raises(Fenced):
            await first.flushed()
    with pytest.raises(Fenced):
        first.append([b"later"])
    assert list(second.replay()) == [(address, b"first")]
    second.append([b"second"])
    await second.flushed()
    await first.close()
    await second.close()
    third = opened(tmp_path)
    assert [frame for _, frame in third.replay()] == [b"first", b"second"]
    assert third.damage == []
    await third.close()


@pytest.mark.parametrize("first", [slice(0, 0), slice(3_500, 5_000), slice(1_300, 5_000)], ids=str)
async def test_a_write_that_ends_after_the_take_over_changes_nothing(tmp_path: Path, first: slice) -> None:
    """Whatever the new owner found of it, this is what every later one finds."""
    disk = Slow(tmp_path)
    old = opened(tmp_path, disk)
    old.append([b"before"])
    await old.flushed()
    disk.first = first
    await disk.hold(old, [bytes([n]) * 1_000 for n in range(4)])
    new = opened(tmp_path)
    found = list(new.replay())
    assert len(found) < 5
    disk.go.set()
    with pytest.raises(Fenced):
        await old.flushed()
    (address,) = new.append([b"after"])
    await new.flushed()
    await new.close()
    await old.close()
    for _ in range(2):
        again = opened(tmp_path)
        assert list(again.replay()) == [*found, (address, b"after")]
        await again.close()


async def test_a_segment_made_after_the_take_over_is_set_aside(tmp_path: Path) -> None:
    old = opened(tmp_path)
    disk = old._disk
    new = opened(tmp_path)
    new.append([b"new"])
    await new.flushed()
    await new.close()
    # As an owner does that sleeps between its look at the epoch and making a segment, and wakes once more to write.
    header = Header(30, old.epoch, old._fence.salt)
    segment = make_segment(disk, header, SEGMENT_BYTES)
    link = encode_link(Link(1, 5_000, []), segment.seed)
    disk.write(
        segment.file, link + b"".join(encode([b"stale"], PAGE_BYTES + len(link), segment.seed, 0)[1]), PAGE_BYTES
    )
    again = opened(tmp_path)
    assert [frame for _, frame in again.replay()] == [b"new"]
    assert list(tmp_path.glob("*.stray"))
    await again.close()


OWNER = """
import asyncio, sys
from pathlib import Path
from minicloud.base.errors import CloudError
from minicloud.store.log import FileLog

def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()

async def main():
    number = 0
    while True:
        log = FileLog.open(Path(sys.argv[1]), "child", segment_bytes=1 << 16, ahead=3)
        try:
            while True:
                number += 1
                log.append([b"child-%d-" % number + bytes(number % 700)])
                await log.flushed()
                say(str(number))
        except CloudError as error:
            say(type(error).__name__)
        await log.close()
        if sys.stdin.readline() != "again\\n":
            return

asyncio.run(main())
"""


class Child:
    """Another process that owns the log, and says what it got acknowledged."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin: IO[str] = self.process.stdin
        self.stdout: IO[str] = self.process.stdout
        self.acked: set[int] = set()

    def read(self, count: int) -> None:
        for _ in range(count):
            self.acked.add(int(self.stdout.readline()))

    def stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def wake(self) -> list[str]:
        """What it said from then on, up to how it ended."""
        os.kill(self.process.pid, signal.SIGCONT)
        said = [self.stdout.readline().strip()]
        while said[-1].isdigit():
            said.append(self.stdout.readline().strip())
        return said

    def again(self) -> None:
        self.stdin.write("again\n")
        self.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        for line in self.stdout:
            if line.endswith("\n") and line.strip().isdigit():
                self.acked.add(int(line))
        self.process.wait()
        self.stdin.close()
        self.stdout.close()


def numbers_in(log: FileLog) -> set[int]:
    return {int(frame.split(b"-")[1]) for _, frame in log.replay() if frame.startswith(b"child-")}


async def test_an_owner_that_slept_through_its_replacement_acknowledges_nothing(tmp_path: Path) -> None:
    rand, child, cycles, late = random.Random(1), Child(tmp_path), 25, 0
    ours: set[bytes] = set()
    for cycle in range(cycles):
        child.read(rand.randrange(1, 60))
        child.stop()
        log = opened(tmp_path)
        known = numbers_in(log)
        frame = b"parent-%d" % cycle
        log.append([frame])
        await log.flushed()
        ours.add(frame)
        *said, end = child.wake()
        # Lines that were written before the stop may come now; each is known to the new owner, as all before.
        child.acked.update(map(int, said))
        late += len(child.acked - known)
        assert child.acked <= known
        assert end == "Fenced"
        log.append([frame + b"-later"])
        await log.flushed()
        ours.add(frame + b"-later")
        await log.close()
        child.again()
    child.read(1)
    child.kill()
    log = opened(tmp_path)
    assert ours <= {frame for _, frame in log.replay()}
    assert child.acked <= numbers_in(log)
    assert not [damage for damage in log.damage if not damage.torn]
    await log.close()
    print(f"{cycles} take-overs from a stopped owner: {len(child.acked)} acknowledged, {late} too late")


async def test_what_a_killed_owner_acknowledged_is_stored(tmp_path: Path) -> None:
    rand = random.Random(2)
    for round_ in range(5):
        path = tmp_path / str(round_)
        child = Child(path)
        child.read(rand.randrange(1, 400))
        child.kill()
        log = opened(path)
        found = numbers_in(log)
        assert child.acked <= found
        assert found <= set(range(1, max(child.acked) + 2))
        assert not [damage for damage in log.damage if not damage.torn]
        await log.close()
