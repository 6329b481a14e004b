"""What does the journal cost over bare SQLite, and the shell over the journal? And what can the disk do at all?

    device      one 4 KiB append and fdatasync: no durable commit can be faster
    raw         apsw by hand: BEGIN IMMEDIATE, read the lease, one upsert, COMMIT (WAL, synchronous=FULL)
    journal     `await SqliteJournal.commit([record])`, one at a time: thread hop, codec and checksum added
    shell       `await Shell.submit(command)`, one at a time: decide, apply, timer and reply added
    grouped     many at a time: records a second (journal.commit of one record each; shell.submit; commit_raw in bulk)

The ways take turns call by call, because a shared disk's mood changes by the second; medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import uvloop

from minicloud.base.machine import Context, Outcome, Record
from minicloud.shell.clock import SystemClock
from minicloud.shell.shell import Shell
from minicloud.store.memory import MemoryJournal
from minicloud.store.sqlite import SqliteJournal

BODY = {"name": "web-1", "state": "running", "tags": {"team": "a"}, "fill": "x" * 200}


class Puts:
    """The smallest machine: every command is a key to put."""

    kinds = frozenset({"k"})

    def __init__(self) -> None:
        self.bodies: dict[str, dict[str, Any]] = {}

    def decide(self, command: Any, context: Context) -> Outcome:
        return Outcome(command, [Record("k", command, BODY)])

    def apply(self, record: Record) -> None:
        if record.body is None:
            self.bodies.pop(record.key, None)
        else:
            self.bodies[record.key] = record.body

    def lookup(self, kind: str, key: str) -> dict[str, Any] | None:
        return self.bodies.get(key)

    def due(self) -> float | None:
        return None


class Device:
    """Appends and syncs, nothing else."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.pwrite(self._file, bytes(16 << 20), 0)
        os.fsync(self._file)
        self._at = 0

    async def once(self, key: str) -> None:
        os.pwrite(self._file, bytes(4_120), self._at % (16 << 20))
        os.fdatasync(self._file)
        self._at += 4_120


class Raw:
    """What a commit costs in SQLite alone."""

    def __init__(self, path: Path) -> None:
        self._db = apsw.Connection(str(path))
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 0"):
            self._db.execute(f"PRAGMA {pragma}").fetchall()
        self._db.execute("CREATE TABLE entity(kind TEXT, key TEXT, body BLOB, PRIMARY KEY(kind, key)) WITHOUT ROWID")
        self._db.execute("CREATE TABLE lease(name TEXT PRIMARY KEY, epoch INTEGER)")
        self._db.execute("INSERT INTO lease VALUES('journal', 1)")
        self._body = json.dumps(BODY).encode()

    async def once(self, key: str) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("SELECT epoch FROM lease WHERE name = 'journal'").fetchall()
        self._db.execute("INSERT OR REPLACE INTO entity VALUES('k', ?, ?)", (key, self._body))
        self._db.execute("COMMIT")


def shell_on(journal: SqliteJournal | MemoryJournal) -> Shell:
    return Shell(Puts(), journal, clock=SystemClock(), rand=random.Random(1), on_effects=lambda effects: None)


async def alternate(ways: dict[str, Callable[[str], Awaitable[Any]]], count: int) -> dict[str, float]:
    """Median microseconds of one call each way, taken in turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(count):
        for name, way in ways.items():
            began = time.perf_counter()
            await way(f"{number:07d}")
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) * 1e6 for name, times in took.items()}


async def rate(count: int, work: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    await work()
    return count / (time.perf_counter() - began)


async def grouped(journal: SqliteJournal, shell: Shell, count: int) -> dict[str, float]:
    """Records a second, many calls at a time."""

    async def commits() -> None:
        await asyncio.gather(*(journal.commit([Record("g", f"{n:07d}", BODY)]) for n in range(count)))

    async def submits() -> None:
        await asyncio.gather(*(shell.submit(f"s{n:07d}") for n in range(count)))

    async def bulk() -> None:
        body = json.dumps(BODY).encode()
        await asyncio.gather(
            *(journal.commit_raw([("b", f"{n + m:07d}", body) for m in range(1_000)]) for n in range(0, count, 1_000))
        )

    return {
        "journal_commit": await rate(count, commits),
        "shell_submit": await rate(count, submits),
        "commit_raw": await rate(count, bulk),
    }


async def measure(directory: Path, quick: bool) -> dict[str, Any]:
    journal, mem = SqliteJournal(directory / "state.db"), MemoryJournal()
    beside = SqliteJournal(directory / "shell.db")
    journal.acquire("bench")
    shell, memory_shell = shell_on(beside), shell_on(mem)
    await shell.start()
    await memory_shell.start()

    async def commit(key: str) -> None:
        await journal.commit([Record("k", key, BODY)])

    async def memory_commit(key: str) -> None:
        await mem.commit([Record("m", key, BODY)])

    device, raw = Device(directory / "device"), Raw(directory / "raw.db")
    single = await alternate(
        {
            "device": device.once,
            "raw": raw.once,
            "journal": commit,
            "shell": shell.submit,
            "memory_journal": memory_commit,
            "memory_shell": memory_shell.submit,
        },
        400 if quick else 2_000,
    )
    rates = await grouped(journal, shell, 10_000 if quick else 50_000)
    await shell.stop()
    journal.close()
    beside.close()
    return {
        "single_us": single,
        "journal_over_raw_us": single["journal"] - single["raw"],
        "shell_over_journal_us": single["memory_shell"] - single["memory_journal"],
        "grouped_per_s": rates,
        "device_fsyncs_per_s": 1e6 / single["device"],
    }


def table(found: dict[str, Any]) -> str:
    lines = [f"{'one at a time':<16}{'median us':>12}{'per s':>10}"]
    for name, micros in found["single_us"].items():
        lines.append(f"{name:<16}{micros:>12.0f}{1e6 / micros:>10.0f}")
    lines.append(f"journal over raw apsw: {found['journal_over_raw_us']:.0f} us (aim: under 100)")
    lines.append(f"shell over its journal (both in memory): {found['shell_over_journal_us']:.0f} us (aim: under 50)")
    lines.append(f"{'grouped':<16}{'records/s':>12}")
    lines += [f"{name:<16}{per_s:>12.0f}" for name, per_s in found["grouped_per_s"].items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench journal", description="What does durability cost?")
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
