"""What only the file store promises: formats, permissions, a bounded log, repair, interrupted repair. And blobs."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from minicloud.base.errors import Fenced, InvalidParameterValue, NotFound, Unavailable
from minicloud.base.machine import Record
from minicloud.store import pages, repair, schema, sqlite
from minicloud.store.blobs import Blobs
from minicloud.store.schema import StoreRefused
from minicloud.store.sqlite import SqliteJournal

FORMAT_1 = Path(__file__).parent / "data" / "store-v1.db"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def owned(path: Path) -> SqliteJournal:
    journal = SqliteJournal(path)
    journal.acquire("test")
    return journal


def filled(path: Path, count: int = 400) -> SqliteJournal:
    journal = owned(path)
    asyncio.run(journal.commit([Record("k", f"{n:04d}", {"fill": "x" * 400}) for n in range(count)]))
    return journal


def keys(journal: SqliteJournal) -> set[str]:
    return {record.key for record in journal.load(["k"])}


def test_the_file_is_ours_alone(path: Path) -> None:
    journal = filled(path)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    journal.close()
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_store_of_format_1_opens(path: Path) -> None:
    shutil.copy(FORMAT_1, path)
    journal = owned(path)
    records = sorted(journal.load(["instance"]))
    assert [record.body for record in records] == [
        {"n": n, "name": "ä" * n, "tags": {"k": [1, 2.5, None, True]}} for n in range(20)
    ]
    assert journal.scan("message") == [("q/1", b"\x00\xff" * 700)]
    assert journal.damage == []
    journal.close()


def _second(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE extra(x)")
    connection.execute("INSERT INTO extra VALUES(1)")


def _broken(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE other(x)")
    raise RuntimeError("cut off")


def test_an_older_store_is_migrated_once_and_then_refused_by_the_older_program(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(FORMAT_1, path)
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", [_second])
        for _ in range(2):
            journal = owned(path)
            assert len(list(journal.load(["instance"]))) == 20
            assert journal._read.execute("SELECT count(*) FROM extra").get == 1
            journal.close()
    before = path.read_bytes()
    with pytest.raises(StoreRefused, match="format 2") as refused:
        SqliteJournal(path)
    assert refused.value.details == {"format": "2", "format_max": "1"}
    assert path.read_bytes() == before


def test_a_migration_that_is_cut_off_leaves_the_old_format(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FORMAT_1, path)
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", [_second, _broken])
        with pytest.raises(RuntimeError):
            SqliteJournal(path)
    journal = SqliteJournal(path)
    assert len(list(journal.load(["instance"]))) == 20
    journal.close()


@pytest.mark.parametrize("content", [b"this is a diary\n" * 500, None])
def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path, content: bytes | None) -> None:
    if content is None:
        other = apsw.Connection(str(path))
        other.execute("CREATE TABLE mine(x)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreRefused):
        SqliteJournal(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]


def test_the_entity_table_lies_where_the_page_reader_looks(path: Path) -> None:
    journal = filled(path)
    assert journal._read.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entity'").get == pages.ENTITY_ROOT
    journal.close()


def test_the_log_stays_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_PAGES", 50)
    journal = owned(path)
    for _ in range(60):
        asyncio.run(journal.commit([Record("k", f"{n}", {"fill": "x" * 3_000}) for n in range(10)]))
    size = path.with_name("state.db-wal").stat().st_size
    journal.close()
    assert size < 100 * 4_120
    assert not path.with_name("state.db-wal").exists()


def test_a_store_that_was_removed_is_not_written_any_more(path: Path) -> None:
    journal = filled(path)
    path.unlink()
    with pytest.raises(Fenced):
        asyncio.run(journal.commit([Record("k", "lost", {})]))
    journal.close()


def test_another_process_that_holds_the_file_makes_calls_fail_retryably(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_MS", 20)
    journal = filled(path)
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        asyncio.run(journal.commit([Record("k", "busy", {})]))
    other.execute("ROLLBACK")
    asyncio.run(journal.commit([Record("k", "free", {})]))
    assert "free" in keys(journal)
    assert "busy" not in keys(journal)
    other.close()
    journal.close()


def overwrite(path: Path, page: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek((page - 1) * pages.PAGE_BYTES)
        file.write(content)


def test_a_page_of_zeros_costs_only_its_rows_and_the_file_is_kept_aside(path: Path) -> None:
    filled(path).close()
    overwrite(path, 20, bytes(pages.PAGE_BYTES))
    damaged = path.read_bytes()
    journal = owned(path)
    assert 380 <= len(keys(journal)) < 400
    assert (path.parent / "state.db.damaged-1").read_bytes() == damaged
    assert "state.db.damaged-1" in str(journal.damage[0])
    assert "20" in journal.damage[0].reason
    journal.close()
    again = owned(path)
    assert again.damage == []
    again.close()


def test_a_destroyed_header_and_schema_cost_nothing(path: Path) -> None:
    filled(path).close()
    overwrite(path, 1, bytes(pages.PAGE_BYTES))
    journal = owned(path)
    assert len(keys(journal)) == 400
    assert len(journal.damage) == 1
    journal.close()


def test_a_truncated_file_costs_only_what_was_cut_off(path: Path) -> None:
    filled(path).close()
    os.truncate(path, path.stat().st_size // 2 + 100)
    journal = owned(path)
    assert 150 <= len(keys(journal)) < 400
    assert journal.damage
    journal.close()


def test_a_scan_reads_no_more_rows_than_it_gives(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path).close()
    journal = owned(path)
    every = journal.scan("k")
    asked: list[int] = []
    page = SqliteJournal._page

    def counted(self: SqliteJournal, given: Any, sql: str) -> list[Any]:
        found = page(self, given, sql)
        asked.append(len(found))
        return found

    monkeypatch.setattr(SqliteJournal, "_page", counted)
    found: list[tuple[str, bytes]] = []
    while part := journal.scan("k", after=found[-1][0] if found else "", limit=7):
        found += part
    assert found == every and max(asked) == 7
    journal.close()


def test_damage_found_while_loading_is_repaired_under_a_new_epoch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "PAGE_ROWS", 50)
    filled(path).close()
    journal, stale = owned(path), SqliteJournal(path)
    stale.acquire("stale")
    journal.acquire("test")
    loading = journal.load(["k"])
    found = {next(loading).key}
    journal._read.execute("PRAGMA cache_size = 1")
    overwrite(path, 30, b"\xff" * 600)
    journal._read.execute("PRAGMA shrink_memory").fetchall()
    found |= {record.key for record in loading}
    assert 380 <= len(found) < 400
    assert journal.damage
    asyncio.run(journal.commit([Record("k", "new", {})]))
    with pytest.raises(Fenced):
        asyncio.run(stale.commit([Record("k", "stale", {})]))
    stale.close()
    journal.close()
    again = SqliteJournal(path)
    assert keys(again) == found | {"new"}
    again.close()


@pytest.mark.parametrize("step", range(8))
def test_a_repair_can_be_cut_off_anywhere(path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    filled(path).close()
    overwrite(path, 20, bytes(pages.PAGE_BYTES))
    left = step

    class Cut(BaseException):
        pass

    def counted(function: object) -> object:
        def call(*args: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Cut
            return function(*args)  # type: ignore[operator]

        return call

    with monkeypatch.context() as cutting:
        for name in ("_move", "_sync"):
            cutting.setattr(repair, name, counted(getattr(repair, name)))
        try:
            SqliteJournal(path).close()
        except Cut:
            assert step < 7
    journal = owned(path)
    assert 380 <= len(keys(journal)) < 400
    journal.close()
    assert (path.parent / "state.db.damaged-1").exists()
    assert not (path.parent / "state.db.repaired").exists()


# --- blobs


def test_blobs_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    assert blobs.put("ami-1.tar", b"one") == 3
    assert blobs.put("b", io.BytesIO(b"x" * 3_000_000)) == 3_000_000
    with blobs.open("ami-1.tar") as reader:
        blobs.put("ami-1.tar", b"two!")
        assert reader.read() == b"one"
    assert blobs.get("ami-1.tar") == b"two!"
    assert list(blobs.list()) == [("ami-1.tar", 4), ("b", 3_000_000)]
    assert (blobs.delete("b"), blobs.delete("b")) == (True, False)
    with pytest.raises(NotFound):
        blobs.get("b")


def test_a_failed_put_leaves_the_old_content_and_no_remains(tmp_path: Path) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    blobs = Blobs(tmp_path)
    blobs.put("a", b"old")
    with pytest.raises(ConnectionResetError):
        blobs.put("a", Failing())
    assert blobs.get("a") == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_what_a_crash_left_behind_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".put-x").write_bytes(b"half")
    assert list(Blobs(tmp_path).list()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", ".put-x", "a\0", "ä", "x" * 201])
def test_names_that_could_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameterValue) as refused:
        Blobs(tmp_path).put(name, b"")
    assert refused.value.field == "name"
