"""Logs that are read while their blocks are merged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from minicloud.base.arn import Scope
from minicloud.logs import limits
from minicloud.logs.block import BLOCK
from minicloud.logs.merging import _merged
from minicloud.shell.clock import VirtualClock
from minicloud.store.sqlite import SqliteJournal
from tests.contract.test_logs import everything, merged, put, service


async def test_who_reads_while_blocks_are_merged_sees_everything(tmp_path: Path) -> None:
    clock, journal = VirtualClock(), SqliteJournal(tmp_path / "logs.db")
    one = await service(journal, clock)
    done = 0

    async def write() -> None:
        nonlocal done
        for number in range(300):
            await put(one, clock, f"m{number}")
            done = number + 1

    writing = asyncio.create_task(write())
    looks = 0
    while not writing.done():
        there = done
        seen = await everything(one)
        assert seen[:there] == [f"m{number}" for number in range(there)]
        looks += 1
    await writing
    await merged(one)
    assert looks > 3 and len(await everything(one)) == 300
    await one.stop()
    journal.close()


async def test_who_reads_when_a_merge_is_on_disk_and_not_in_the_index_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, journal = VirtualClock(), SqliteJournal(tmp_path / "logs.db")
    one = await service(journal, clock)
    commit, is_written, go_on = journal.commit_raw, asyncio.Event(), asyncio.Event()

    async def late(rows: Any) -> None:
        await commit(rows)
        if any(body is None for _, _, body in rows):
            is_written.set()
            await go_on.wait()

    monkeypatch.setattr(journal, "commit_raw", late)
    texts = [f"m{number}" for number in range(limits.MERGED_AT)]
    for text in texts:
        await put(one, clock, text)
    await is_written.wait()
    reading = asyncio.create_task(everything(one))
    await asyncio.wait([reading], timeout=0.3)
    go_on.set()
    assert await reading == texts
    await one.stop()
    journal.close()


async def test_a_merge_between_two_blocks_of_one_look_shows_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is merged lies under the key of its first block: who read the others before finds them there again."""
    clock, journal = VirtualClock(), SqliteJournal(tmp_path / "logs.db")
    one = await service(journal, clock)
    texts = [f"m{number}" for number in range(limits.MERGED_AT - 1)]
    for text in texts:
        await put(one, clock, text)
    read, blocks = journal.read, journal.scan(BLOCK)
    _, whole = _merged(1, [body for _, body in blocks], 1)

    def just_merged(kind: str, keys: Any) -> Any:
        return [whole] if list(keys) == [blocks[0][0]] else read(kind, keys)

    monkeypatch.setattr(journal, "read", just_merged)
    found, _, _ = await one.get(Scope(), "g", "s", (0, 0), "", 100, head=False)
    assert [shown.event.message for shown in found] == texts
    await one.stop()
    journal.close()
