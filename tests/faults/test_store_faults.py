"""The store under a failing disk: full, failing writes and syncs, a killed writer."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from minicloud.base.errors import InsufficientStorage, Internal
from minicloud.base.machine import Record
from minicloud.store.blobs import Blobs
from minicloud.store.sqlite import SqliteJournal
from tests.faults.powercut import PowerVfs, io_error

_names = itertools.count()
ROUNDS = 20


class Disk:
    """A journal on a disk whose writes or syncs of the log fail while `error` is set."""

    def __init__(self, directory: Path) -> None:
        self.error: apsw.Error | None = None
        self.op = "write"
        self.vfs = PowerVfs(f"faulty-{next(_names)}", self._operation)
        self.path = directory / "state.db"
        self.journal = SqliteJournal(self.path, vfs=self.vfs.name)
        self.journal.acquire("a")

    def _operation(self, op: str, file: str) -> None:
        if self.error is not None and op == self.op:
            raise self.error

    def keys(self) -> set[str]:
        return {record.key for record in self.journal.load(["k"])}


async def put(journal: SqliteJournal, *keys: str) -> None:
    await journal.commit([Record("k", key, {"fill": "x" * 500}) for key in keys])


async def test_a_full_disk_fails_exactly_those_calls_and_the_journal_goes_on(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    await put(disk.journal, "before")
    disk.error = apsw.FullError("injected")
    calls = [put(disk.journal, f"full-{n}", f"too-{n}") for n in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [InsufficientStorage] * 20
    assert all(result.retryable for result in results if isinstance(result, InsufficientStorage))
    assert disk.keys() == {"before"}
    disk.error = None
    await put(disk.journal, "after")
    assert disk.keys() == {"before", "after"}
    disk.journal.close()
    again = SqliteJournal(disk.path)
    assert {record.key for record in again.load(["k"])} == {"before", "after"}
    assert again.damage == []
    again.close()


@pytest.mark.parametrize(
    ("op", "code"),
    [("sync", apsw.SQLITE_IOERR_FSYNC), ("write", apsw.SQLITE_IOERR_WRITE), ("sync", apsw.SQLITE_IOERR_DIR_FSYNC)],
)
async def test_after_an_io_error_nothing_is_acknowledged_until_reopened(tmp_path: Path, op: str, code: int) -> None:
    disk = Disk(tmp_path)
    await put(disk.journal, "before")
    disk.op, disk.error = op, io_error(code)
    with pytest.raises(Internal):
        await put(disk.journal, "failed")
    disk.error = None
    for _ in range(3):
        with pytest.raises(Internal):
            await put(disk.journal, "later")
    with pytest.raises(Internal):
        disk.journal.acquire("a")
    disk.journal.close()
    again = SqliteJournal(disk.path)
    again.acquire("b")
    # What failed has an unknown fate; what was refused must not be there, what was acknowledged must.
    assert {record.key for record in again.load(["k"])} - {"failed"} == {"before"}
    await put(again, "reopened")
    again.close()


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
    journal = SqliteJournal(small_disk / "state.db")
    journal.acquire("a")
    acked: set[str] = set()
    refused = 0
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1 << 20))
    for number in itertools.count():
        try:
            await put(journal, *(f"{number}-{part}" for part in range(40)))
        except InsufficientStorage:
            refused += 1
            if refused == 5:
                break
        else:
            acked |= {f"{number}-{part}" for part in range(40)}
        assert number < 1_000
    assert {record.key for record in journal.load(["k"])} == acked
    blobs = Blobs(small_disk / "blobs")
    with pytest.raises(InsufficientStorage):
        blobs.put("image", bytes(4 << 20))
    assert list(blobs.list()) == []
    assert not list(blobs.directory.iterdir())
    ballast.unlink()
    await put(journal, "recovered")
    journal.close()
    again = SqliteJournal(small_disk / "state.db")
    assert {record.key for record in again.load(["k"])} == acked | {"recovered"}
    assert again.damage == []
    again.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from minicloud.base.machine import Record
from minicloud.store.sqlite import SqliteJournal

async def call(journal, number):
    await journal.commit([Record("k", f"{number}-{part}", {"fill": "x" * (number % 700)}) for part in range(3)])
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()

async def main():
    journal = SqliteJournal(Path(sys.argv[1]))
    journal.acquire("writer")
    first = int(sys.argv[2])
    while True:
        await asyncio.gather(*(call(journal, number) for number in range(first, first + 10)))
        first += 10

asyncio.run(main())
"""


def test_what_a_killed_writer_acknowledged_is_stored(tmp_path: Path) -> None:
    path, rand, acked, first = tmp_path / "state.db", random.Random(1), set[int](), 0
    for _ in range(ROUNDS):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(first)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        seen = [int(line) for line in itertools.islice(writer.stdout, rand.randrange(1, 400))]
        os.kill(writer.pid, signal.SIGKILL)
        seen += [int(line) for line in writer.stdout if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        acked.update(seen)
        first = max(seen) + 1_000
    journal = SqliteJournal(path)
    found = {record.key for record in journal.load(["k"])}
    journal.close()
    lost = [number for number in acked for part in range(3) if f"{number}-{part}" not in found]
    numbers = {key.split("-")[0] for key in found}
    torn = [number for number in numbers if len({f"{number}-{part}" for part in range(3)} & found) != 3]
    print(f"{ROUNDS} kills: {len(acked)} acknowledged, {len(lost)} lost, {len(torn)} torn")
    assert (lost, torn, journal.damage) == ([], [], [])
