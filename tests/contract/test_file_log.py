"""What FileLog has beyond the port: group commit, memory, space, compaction, its end."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from itertools import chain
from pathlib import Path

import pytest

from minicloud import compiled
from minicloud.base.errors import CloudError, Fenced, Throttled, Unavailable
from minicloud.store import log as module
from minicloud.store.log import FileLog
from minicloud.store.log_format import SEGMENT_SHIFT
from minicloud.store.log_segments import DamagedFrame
from tests.turns import turn

SEGMENT_BYTES = 1 << 16
FRAME = bytes(1_000)


def opened(path: Path) -> FileLog:
    return FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=8)


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[FileLog]:
    log = opened(tmp_path / "log")
    assert list(log.replay()) == []
    yield log
    await log.close()


async def put(log: FileLog, count: int) -> list[int]:
    """Live frames."""
    addresses: list[int] = []
    while len(addresses) < count:
        some = log.append([FRAME] * min(30, count - len(addresses)))
        for address in some:
            log.keep(address)
        addresses += some
        await log.flushed()
    return addresses


def files(path: Path) -> int:
    return len(list(path.glob("*.segment")))


async def test_many_calls_share_few_syncs(log: FileLog) -> None:
    async def call() -> None:
        log.append([b"x"])
        await log.flushed()

    before = log.stats()["syncs"]
    await asyncio.gather(*(call() for _ in range(500)))
    assert log.stats()["syncs"] - before <= 5
    assert log.stats()["pending_bytes"] == 0


async def test_a_caller_that_gives_up_takes_nobody_along(log: FileLog) -> None:
    log.append([b"x"])
    waiting = [asyncio.ensure_future(log.flushed()) for _ in range(3)]
    await turn()
    waiting[1].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), asyncio.CancelledError, type(None)]


async def test_who_does_not_wait_is_told_in_order_and_never_at_once(log: FileLog) -> None:
    told: list[tuple[str, CloudError | None]] = []
    log.append([b"x"])
    log.after_flush(lambda error: told.append(("written", error)))
    log.after_flush(lambda _error: told.remove(("", None)))  # one that fails takes nobody along
    assert not told and log.stats()["pending_bytes"] > 0
    await log.flushed()
    assert told == [("written", None)] and log.stats()["pending_bytes"] == 0
    log.after_flush(lambda error: told.append(("nothing to write", error)))
    assert len(told) == 1
    await turn()
    assert told[1:] == [("nothing to write", None)]


async def test_who_does_not_wait_hears_of_a_log_that_is_anothers(tmp_path: Path) -> None:
    log, told = opened(tmp_path), list[CloudError | None]()
    log.append([b"x"])
    other = opened(tmp_path)
    log.after_flush(told.append)
    with pytest.raises(Fenced):
        await log.flushed()
    await turn()
    assert [type(error) for error in told] == [Fenced]
    await log.close()
    await other.close()


async def test_who_only_asks_hears_of_a_log_that_is_anothers(tmp_path: Path) -> None:
    log, told = opened(tmp_path), list[CloudError | None]()
    other = opened(tmp_path)
    log.after_flush(told.append)  # nothing is on its way to the disk
    await turn()
    assert [type(error) for error in told] == [Fenced]
    await log.close()
    await other.close()


@pytest.mark.skipif(compiled.in_use(), reason="nobody can replace a method of machine code")
async def test_what_is_asked_after_the_writers_look_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is frozen between the writer's look at the fence and its word to the event loop."""
    log, told = opened(tmp_path), list[CloudError | None]()
    looked, go_on = threading.Event(), threading.Event()

    def frozen() -> bool:
        looked.set()
        return go_on.wait(10)

    monkeypatch.setattr(log._fence, "in_place", frozen)
    log.append([b"x"])
    await asyncio.to_thread(looked.wait, 10)
    other = opened(tmp_path)
    log.after_flush(told.append)
    go_on.set()
    while not told:
        await asyncio.to_thread(log._writer._queue.empty)
    assert [type(error) for error in told] == [Fenced]
    await log.close()
    await other.close()


async def test_memory_holds_the_newest_frames_only(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_BYTES_MAX", 60_000)
    addresses = await put(log, 200)
    log.append([b"last"])
    assert sum(map(len, log._recent.values())) < 60_000
    assert len(log._recent) > 10
    assert log.read_all(addresses, [len(FRAME)] * 200) == [FRAME] * 200
    assert [log.read(address, 0, 2_000) for address in random.Random(1).sample(addresses, 50)] == [FRAME] * 50


async def test_reading_in_order_reads_blocks(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RECENT_BYTES_MAX", 0)
    rand, reads, read = random.Random(2), list[int](), log._disk.read
    monkeypatch.setattr(log._disk, "read", lambda file, at, length: (reads.append(length), read(file, at, length))[1])
    frames = [rand.randbytes(rand.randrange(1, 1_500)) for _ in range(200)]
    addresses: list[int] = []
    for start in range(0, 200, 10):
        addresses += log.append(frames[start : start + 10])
        await log.flushed()
        some = slice(max(start - 3, 0), start)  # just fallen out of memory: what is read ahead is not yet written
        assert log.read_all(addresses[some], [len(frame) for frame in frames[some]]) == frames[some]
    log.append([b"last"])
    reads.clear()
    assert [log.read(address, 0, 2_000) for address in addresses] == frames
    assert len(reads) < 20
    order = rand.sample(range(200), 200)
    assert [log.read(addresses[n], 0, 2_000) for n in order] == [frames[n] for n in order]
    assert sum(length > 100_000 for length in reads) < 50


async def test_senders_are_slowed_down_when_the_disk_lags(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PENDING_BYTES_MAX", 50_000)
    with pytest.raises(Throttled):
        for _ in range(100):
            log.append([FRAME])
    log.append([FRAME], essential=True)
    await log.flushed()
    log.append([FRAME])


async def test_a_call_is_queued_whole_or_not_at_all(log: FileLog) -> None:
    with pytest.raises(CloudError):
        log.append([FRAME] * 1_000)  # more than was made ahead
    with pytest.raises(ValueError, match="does not fit"):
        log.append([b"small", bytes(SEGMENT_BYTES)])
    assert list(log.replay()) == []
    assert log.append([]) == []


async def test_compaction_moves_what_lives_and_deletes_the_oldest(tmp_path: Path) -> None:
    log = opened(tmp_path)
    assert list(log.replay()) == []
    addresses = await put(log, 600)
    assert log.compactable() is None
    assert log.release() == 0
    kept = set(addresses[::10])
    for address in set(addresses) - kept:
        log.drop(address)

    def wanted(address: int, head: bytes) -> bool:
        assert FRAME.startswith(head)
        return address in kept

    while (segment := log.compactable()) is not None:
        for address, frame in chain.from_iterable(log.frames(segment, wanted)):
            assert frame == FRAME
            (new,) = log.append([frame], essential=True)
            log.keep(new)
            log.drop(address)
            kept = kept - {address} | {new}
        assert log.live(segment) == 0
        assert log.release() == 1
        await log.flushed()
    assert log.stats()["segments"] <= 5
    assert log.stats()["live"] == len(kept) == 60
    gone = addresses[0]
    with pytest.raises(DamagedFrame):
        log._recent.clear()
        log.read(gone, 0, 10)
    await log.close()
    assert files(tmp_path) == log.stats()["segments"]
    log = opened(tmp_path)
    assert kept <= {address for address, _ in log.replay(12)}
    assert log.damage == []
    await log.close()


async def test_a_segment_goes_after_what_replaces_its_frames_is_on_disk(
    log: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = log.append([b"old"])
    log.keep(old)
    assert log.seal()
    await log.flushed()
    log.append([b"old again"], essential=True)
    log.drop(old)
    path = tmp_path / "log" / f"{old >> SEGMENT_SHIFT:08d}.segment"
    delete, synced = log._disk.delete, list[int]()
    monkeypatch.setattr(log._disk, "delete", lambda name: (synced.append(log._writer.synced), delete(name)))
    assert log.release() == 1
    ticket = log._ticket
    await log.close()
    assert not path.exists()
    assert synced[0] >= ticket


async def test_nothing_is_deleted_before_it_was_counted(tmp_path: Path) -> None:
    log = opened(tmp_path)
    await put(log, 100)
    await log.close()
    log = opened(tmp_path)
    assert log.compactable() is None
    assert log.release() == 0
    assert len(list(log.replay(12))) == 100
    assert log.stats()["frames"] == 100
    assert log.compactable() is not None
    await log.close()


async def test_a_closed_log_is_small_and_takes_nothing(tmp_path: Path) -> None:
    log = opened(tmp_path)
    log.append([FRAME])
    await log.close()
    await log.close()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.segment")) < 6_000
    with pytest.raises(Unavailable):
        log.append([FRAME])
    await log.flushed()
    assert log.error is None
    assert not log.ended.is_set()


async def test_many_restarts_leave_few_files(tmp_path: Path) -> None:
    for number in range(10):
        log = opened(tmp_path)
        assert log.epoch == number + 1
        assert len(list(log.replay())) == min(number, 1)
        log.release()
        (address,) = log.append([b"only"])
        log.keep(address)
        await log.close()
        assert files(tmp_path) <= 2
