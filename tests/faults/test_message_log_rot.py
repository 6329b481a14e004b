"""Damage in a message log: bits that flip, files that are cut, gone, zeroed or mixed up. Nothing wrong is ever read."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minicloud.store.log import FileLog
from minicloud.store.log_fence import NAME
from minicloud.store.log_format import FORMAT, LINK, PREFIX_BYTES, SEGMENT_SHIFT, encode_note, line
from minicloud.store.log_segments import DamagedFrame
from minicloud.store.schema import StoreRefused
from tests.faults.powerdisk import FastDisk

SEGMENT_BYTES = 1 << 15
FLIPS = 1_000
EMPTY_BYTES = 4_096  # a segment up to its frames


@pytest.fixture
def ram(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) as directory:
        yield Path(directory)


def opened(path: Path) -> FileLog:
    return FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=1, disk=FastDisk(path))


async def written(path: Path, rand: random.Random, *, sizes: int = 3_000, count: int = 60) -> dict[int, bytes]:
    """A log of several segments, closed; its frames by address."""
    log = FileLog.open(path, "test", segment_bytes=SEGMENT_BYTES, ahead=3, disk=FastDisk(path))
    frames = {}
    for _ in range(count):
        some = [rand.randbytes(rand.randrange(1, sizes)) for _ in range(rand.randrange(1, 4))]
        frames.update(zip(log.append(some), some, strict=True))
        await log.flushed()
    await log.close()
    return frames


class Rot:
    """Copies of one log, to be damaged."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.files = {path.name: path.read_bytes() for path in sorted(source.iterdir()) if path.is_file()}
        self.segments = [name for name in self.files if name != NAME]
        self.number = 0

    def copy(self, name: str = "", content: bytes | None = None) -> Path:
        """With other content of one file (None: without it)."""
        self.number += 1
        place = self.source.with_name(f"copy-{self.number}")
        place.mkdir()
        for one, data in self.files.items():
            if one != name:
                (place / one).write_bytes(data)
            elif content is not None:
                (place / one).write_bytes(content)
        return place


async def found(path: Path, frames: dict[int, bytes]) -> tuple[set[int], FileLog]:
    """What a replay of prefixes and then a reading of everything gives: all of it right, or named as damaged."""
    log = opened(path)
    good = set[int]()
    for address, prefix in list(log.replay(PREFIX_BYTES)):
        assert prefix == frames[address][:PREFIX_BYTES]
        try:
            assert log.read(address, 0, 1 << 20) == frames[address]
        except DamagedFrame as error:
            assert error.address == address
            assert error.prefix == prefix
        else:
            good.add(address)
    assert dict(log.replay()) == {address: frames[address] for address in good}
    await log.close()
    return good, log


async def test_a_flipped_bit_costs_at_most_its_frame_and_is_named(ram: Path) -> None:
    rand = random.Random(1)
    frames = await written(ram / "log", rand, sizes=1_500, count=50)
    rot, hits = Rot(ram / "log"), 0
    names = [name for name, data in rot.files.items() for _ in range(len(data) // 512)]
    for number in range(FLIPS):
        name = NAME if number < 20 else rand.choice(names)
        data = bytearray(rot.files[name])
        at = rand.randrange(len(data)) if number % 5 else rand.randrange(min(len(data), 6_000))
        data[at] ^= 1 << rand.randrange(8)
        place = rot.copy(name, bytes(data))
        good, log = await found(place, frames)
        missing = set(frames) - good
        assert len(missing) <= 1, f"flip {number} of {name} at {at}: {log.damage}"
        if missing:
            hits += 1
            (address,) = missing
            assert f"{address >> SEGMENT_SHIFT:08d}.segment" == name
            assert [(d.segment, d.offset) for d in log.damage] == [divmod(address, 1 << SEGMENT_SHIFT)]
            assert not log.damage[0].torn
            assert Path(log.damage[0].kept).stat().st_size > 0
        shutil.rmtree(place)
    print(f"{FLIPS} flipped bits: {hits} frames lost, each named; no wrong read, nothing else lost")
    assert hits > FLIPS // 2


async def test_flips_behind_a_crash_cost_at_most_their_frame(ram: Path) -> None:
    rand = random.Random(2)
    log = FileLog.open(ram / "log", "test", segment_bytes=SEGMENT_BYTES, ahead=3, disk=FastDisk(ram / "log"))
    some = [rand.randbytes(rand.randrange(1, 2_000)) for _ in range(20)]
    frames = dict(zip(log.append(some), some, strict=True))
    await log.flushed()
    rot = Rot(ram / "log")
    await log.close()
    last = rot.segments[0]
    for _ in range(100):
        data = bytearray(rot.files[last])
        data[rand.randrange(EMPTY_BYTES, len(data.rstrip(b"\0")))] ^= 1 << rand.randrange(8)
        place = rot.copy(last, bytes(data))
        for _ in range(2):  # what the first opening left out stays out
            good, _ = await found(place, frames)
            assert len(good) >= len(frames) - 1
        shutil.rmtree(place)


async def test_many_damages_at_once(ram: Path) -> None:
    rand = random.Random(3)
    frames = await written(ram / "log", rand, sizes=400, count=300)
    rot = Rot(ram / "log")
    for _ in range(30):
        name = rand.choice(rot.segments)
        data = bytearray(rot.files[name])
        flips = rand.randrange(2, 30)
        for _ in range(flips):
            at = rand.randrange(EMPTY_BYTES, len(data))
            data[at] ^= 1 << rand.randrange(8)
        start = rand.randrange(EMPTY_BYTES, len(data))
        stop = min(start + rand.randrange(600), len(data))
        data[start:stop] = rand.randbytes(stop - start)
        place = rot.copy(name, bytes(data))
        good, log = await found(place, frames)
        assert len(frames) - len(good) <= flips + 600 // 20
        assert (len(good) < len(frames)) == bool(log.damage)
        shutil.rmtree(place)


async def test_files_that_are_cut_gone_or_zeroed_cost_only_what_was_in_them(ram: Path) -> None:
    rand = random.Random(4)
    frames = await written(ram / "log", rand)
    rot = Rot(ram / "log")
    assert len(rot.segments) >= 4
    for index, name in enumerate(rot.segments):
        number = int(name[:8])
        others = {address for address in frames if address >> SEGMENT_SHIFT != number}
        data = rot.files[name]
        half = rand.randrange(5_000, len(data))
        before = {a for a in frames if a >> SEGMENT_SHIFT == number and (a & 0xFFFFFFFF) + len(frames[a]) + 20 <= half}
        for content, still in (
            (None, set()),
            (b"", set()),
            (bytes(len(data)), set()),
            (data[:half], before),
            (data[:half] + bytes(len(data) - half), before),
        ):
            good, log = await found(rot.copy(name, content), frames)
            assert good == others | still
            lost_at_an_end = index == 0 or index == len(rot.segments) - 1
            assert log.damage or lost_at_an_end


async def test_zeros_or_another_logs_bytes_behind_the_end_are_no_frames(ram: Path) -> None:
    rand = random.Random(5)
    frames = await written(ram / "log", rand, count=5)
    await written(ram / "other", rand, count=30)
    rot, other = Rot(ram / "log"), Rot(ram / "other")
    (name,) = rot.segments
    stale = next(iter(other.files[segment] for segment in other.segments))
    for tail in (bytes(50_000), rot.files[name][EMPTY_BYTES:], stale[EMPTY_BYTES:], stale, rand.randbytes(9_000)):
        good, log = await found(rot.copy(name, rot.files[name] + tail), frames)
        assert good == set(frames)
        assert all(damage.torn for damage in log.damage)


async def test_a_body_cannot_pass_for_a_frame(ram: Path) -> None:
    """Bytes of a sender that look like a frame are not one, even where the frame around them is destroyed."""
    forged = encode_note(LINK - (1 << 24), b"forged", 0, 0, 0)
    log = opened(ram / "log")
    (first,) = log.append([forged * 50])
    (second,) = log.append([b"second"])
    await log.flushed()
    await log.close()
    rot = Rot(ram / "log")
    data = bytearray(rot.files[rot.segments[0]])
    at = first & 0xFFFFFFFF
    data[at : at + 20] = bytes(20)
    good, _ = await found(rot.copy(rot.segments[0], bytes(data)), {second: b"second"})
    assert good == {second}


async def test_a_lost_epoch_file_goes_on_from_the_segments(ram: Path) -> None:
    frames = await written(ram / "log", random.Random(6), count=5)
    rot = Rot(ram / "log")
    for content in (None, b"", b"x" * 512, bytes(512)):
        good, log = await found(rot.copy(NAME, content), frames)
        assert good == set(frames)
        assert log.epoch == 2
        assert len(log.damage) == 1


async def test_a_newer_format_is_refused_untouched(ram: Path) -> None:
    await written(ram / "log", random.Random(7), count=5)
    rot = Rot(ram / "log")
    fields = json.loads(rot.files[NAME].partition(b"log ")[2].rpartition(b" ")[0])
    newer = line({**fields, "format": FORMAT + 1}, 512)
    header = line({"format": FORMAT + 1, "number": 1, "epoch": 1, "salt": 1}, EMPTY_BYTES // 2)
    name = rot.segments[0]
    for place in (rot.copy(NAME, newer), rot.copy(name, header + rot.files[name][EMPTY_BYTES // 2 :])):
        before = {path.name: path.read_bytes() for path in place.iterdir()}
        with pytest.raises(StoreRefused, match="written by a newer minicloud"):
            opened(place)
        assert {path.name: path.read_bytes() for path in place.iterdir()} == before


async def test_an_unreadable_sector_is_damage_of_its_frame(ram: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = await written(ram / "log", random.Random(8), count=5)
    log = opened(ram / "log")
    assert len(list(log.replay(12))) == len(frames)
    address = next(iter(frames))

    def broken(file: int, at: int, length: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(log._disk, "read", broken)
    with pytest.raises(DamagedFrame):
        log.read(address, 0, 10)
    (error,) = log.read_all([address], [len(frames[address])])
    assert isinstance(error, DamagedFrame)
    monkeypatch.undo()
    assert log.read(address, 0, 1 << 20) == frames[address]
    await log.close()
