"""What every message log keeps (queue.ports.MessageLog): in memory for simulations, and on disk."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from minicloud.queue import ports
from minicloud.queue.ports import MessageLog
from minicloud.sim.log import MemoryLog
from minicloud.store import log_format
from minicloud.store.log import FileLog

SEGMENT_BYTES = 1 << 16


class Bench:
    """A log of one kind, with small segments, that can be opened again as after a crash or a stop."""

    def __init__(self, kind: str, path: Path) -> None:
        self.kind = kind
        self.path = path
        self.log: MessageLog = MemoryLog(SEGMENT_BYTES) if kind == "memory" else self.opened()

    def opened(self) -> FileLog:
        return FileLog.open(self.path, "test", segment_bytes=SEGMENT_BYTES, ahead=8)

    async def flush(self) -> None:
        if isinstance(self.log, FileLog):
            await self.log.flushed()

    async def reopen(self) -> MessageLog:
        if isinstance(self.log, MemoryLog):
            self.log = self.log.reopened()
        else:
            await self.close()
            self.log = self.opened()
        return self.log

    async def close(self) -> None:
        if isinstance(self.log, FileLog):
            await self.log.close()


@pytest.fixture(params=["memory", "file"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(request.param, tmp_path / "log")
    yield bench
    await bench.close()


def frames_of(rand: random.Random, count: int, longest: int = 3_000) -> list[bytes]:
    return [rand.randbytes(rand.randrange(1, longest)) for _ in range(count)]


async def test_frames_are_readable_at_once_and_after_a_restart(bench: Bench) -> None:
    frames = frames_of(random.Random(1), 30)
    addresses = bench.log.append(frames)
    assert addresses == sorted(set(addresses))
    for _ in range(3):
        for address, frame in zip(addresses, frames, strict=True):
            assert bench.log.read(address, 0, len(frame)) == frame
            assert bench.log.read(address, 0, 1 << 20) == frame
            assert bench.log.read(address, 5, 100) == frame[5:105]
        await bench.flush()
        await bench.reopen()


async def test_replay_gives_every_frame_in_order(bench: Bench) -> None:
    rand, stored = random.Random(2), list[tuple[int, bytes]]()
    for _ in range(60):
        frames = frames_of(rand, rand.randrange(1, 6))
        stored += zip(bench.log.append(frames), frames, strict=True)
        if rand.random() < 0.1:
            await bench.flush()
            await bench.reopen()
        else:
            await bench.flush()
    assert len({address >> ports.SEGMENT_SHIFT for address, _ in stored}) > 3
    for prefix in (None, 12, 300, 700):
        assert list(bench.log.replay(prefix)) == [(address, frame[:prefix]) for address, frame in stored]
    await bench.flush()
    await bench.reopen()
    assert list(bench.log.replay()) == stored
    assert list(bench.log.replay(12)) == [(address, frame[:12]) for address, frame in stored]


async def test_replay_sees_what_is_not_yet_flushed(bench: Bench) -> None:
    frames = frames_of(random.Random(3), 10)
    addresses = bench.log.append(frames[:5]) + bench.log.append(frames[5:])
    assert list(bench.log.replay()) == list(zip(addresses, frames, strict=True))


async def test_frames_of_every_size_up_to_the_greatest(tmp_path: Path) -> None:
    for log in (MemoryLog(), FileLog.open(tmp_path, "test", segment_bytes=1 << 21, ahead=3)):
        frames = [bytes([n % 251]) * n for n in (1, 511, 512, 513, 65_536, 1_100_000)]
        assert [log.read(a, 0, 1 << 21) for a in log.append(frames)] == frames
        if isinstance(log, FileLog):
            await log.flushed()
            addresses = log.append(frames)  # the great one goes to the next segment
            await log.close()
            log = FileLog.open(tmp_path, "test", segment_bytes=1 << 21)
            assert [frame for _, frame in log.replay()] == frames * 2
            assert log.read_all(addresses, [len(frame) for frame in frames]) == frames
            await log.close()


async def test_live_frames_are_counted_by_segment(bench: Bench) -> None:
    (address,) = bench.log.append([b"x"])
    bench.log.keep(address, 3)
    bench.log.drop(address, 2)
    bench.log.drop(address)
    with pytest.raises(AssertionError):
        bench.log.drop(address)


def test_the_shape_of_an_address_is_the_ports() -> None:
    assert log_format.SEGMENT_SHIFT == ports.SEGMENT_SHIFT
