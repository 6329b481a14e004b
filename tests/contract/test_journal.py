"""What every journal promises: the same suite on SQLite and in memory."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import Fenced, Unavailable
from minicloud.base.machine import Record
from minicloud.store.memory import MemoryDisk, MemoryJournal
from minicloud.store.sqlite import SqliteJournal
from tests.turns import turn

Journal = SqliteJournal | MemoryJournal


class Place:
    """A disk that journals are opened on: again after a close, or beside each other."""

    def __init__(self, engine: str, path: Path) -> None:
        self.engine = engine
        self.path = path
        self.disk = MemoryDisk()
        self.opened: list[Journal] = []

    def open(self) -> Journal:
        journal = SqliteJournal(self.path) if self.engine == "sqlite" else MemoryJournal(self.disk)
        self.opened.append(journal)
        return journal

    def owned(self) -> Journal:
        journal = self.open()
        journal.acquire("test")
        return journal

    def rot(self, kind: str, key: str) -> None:
        """Change a body behind the journal's back."""
        if isinstance(journal := self.opened[-1], SqliteJournal):
            journal._writer.call(
                lambda: journal._write.execute(
                    "UPDATE entity SET body = CAST(body || ' ' AS BLOB) WHERE kind = ? AND key = ?", (kind, key)
                )
            )
        else:
            row = self.disk.rows[kind, key]
            self.disk.rows[kind, key] = row._replace(body=(row.body or b"") + b" ")

    def close(self) -> None:
        for journal in self.opened:
            journal.close()


@pytest.fixture(params=["sqlite", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    place = Place(request.param, tmp_path / "state.db")
    yield place
    place.close()


def bodies(journal: Journal, *kinds: str) -> dict[tuple[str, str], Any]:
    return {(record.kind, record.key): record.body for record in journal.load(kinds)}


async def test_the_newest_body_of_each_live_key_is_loaded(place: Place) -> None:
    journal = place.owned()
    await journal.commit([Record("a", "1", {"n": 1}), Record("a", "2", {"n": 2}), Record("b", "1", {"n": 3})])
    await journal.commit([Record("a", "1", {"n": 4}), Record("b", "1", None), Record("b", "absent", None)])
    await journal.commit([])
    expected = {("a", "1"): {"n": 4}, ("a", "2"): {"n": 2}}
    assert bodies(journal, "a", "b") == expected
    assert bodies(journal, "b", "unknown") == {}
    journal.close()
    again = place.open()
    assert bodies(again, "a", "b") == expected
    assert again.damage == []


async def test_a_key_that_changes_often_in_one_commit_has_its_last_body(place: Place) -> None:
    journal = place.owned()
    await journal.commit(
        [Record("a", "1", {"n": n}) for n in range(200)] + [Record("a", "2", {}), Record("a", "2", None)]
    )
    await journal.commit([Record("a", "3", None), Record("a", "3", {"n": 1})])
    assert bodies(journal, "a") == {("a", "1"): {"n": 199}, ("a", "3"): {"n": 1}}


@pytest.mark.parametrize("name", ["", "ä/ö", "\U0001f600", "a\0b", "'; DROP TABLE entity; --", "x" * 2_000])
async def test_any_text_is_a_name(place: Place, name: str) -> None:
    journal = place.owned()
    await journal.commit([Record("kind" + name, name, {"text": name, "list": [1, 2.5, None, True]})])
    assert bodies(journal, "kind" + name) == {("kind" + name, name): {"text": name, "list": [1, 2.5, None, True]}}


UNSTORABLE = {"object": ("1", {"n": object()}), "surrogate": ("\ud800", {}), "key": ("1", {1: 2})}


@pytest.mark.parametrize("name", UNSTORABLE)
async def test_a_record_that_cannot_be_stored_fails_its_own_call_alone(place: Place, name: str) -> None:
    journal = place.owned()
    key, body = UNSTORABLE[name]
    before, bad, after = await asyncio.gather(
        journal.commit([Record("a", "before", {})]),
        journal.commit([Record("a", "same-call", {}), Record("a", key, body)]),  # type: ignore[arg-type]
        journal.commit([Record("a", "after", {})]),
        return_exceptions=True,
    )
    assert isinstance(bad, TypeError | ValueError)
    assert before is after is None
    assert bodies(journal, "a") == {("a", "before"): {}, ("a", "after"): {}}


async def test_what_was_committed_does_not_change_with_the_object(place: Place) -> None:
    journal = place.owned()
    body = {"list": [1]}
    await journal.commit([Record("a", "1", body)])
    body["list"].append(2)
    next(iter(journal.load(["a"]))).body["list"].append(3)  # type: ignore[index]
    assert bodies(journal, "a") == {("a", "1"): {"list": [1]}}


async def test_concurrent_calls_share_transactions_and_keep_their_order(place: Place) -> None:
    journal = place.owned()
    before = journal.counters.transactions
    await asyncio.gather(
        *(journal.commit([Record("a", "1", {"n": n}), Record("a", f"k{n}", {})]) for n in range(2_000))
    )
    transactions = journal.counters.transactions - before
    assert transactions <= 200, f"{transactions} transactions for 2000 concurrent calls"
    assert journal.counters.calls == 2_000
    found = bodies(journal, "a")
    assert found["a", "1"] == {"n": 1_999}
    assert len(found) == 2_001


async def test_a_new_owner_fences_the_old_one(place: Place) -> None:
    old, new = place.open(), place.open()
    first = old.acquire("old")
    await old.commit([Record("a", "1", {"by": "old"})])
    assert new.acquire("new") == first + 1
    for _ in range(2):
        with pytest.raises(Fenced) as caught:
            await old.commit([Record("a", "1", {"by": "stale"})])
        assert isinstance(caught.value, Unavailable)
    with pytest.raises(Fenced):
        await old.commit_raw([("r", "1", b"stale")])
    await new.commit([Record("a", "2", {"by": "new"})])
    assert bodies(new, "a", "r") == {("a", "1"): {"by": "old"}, ("a", "2"): {"by": "new"}}
    assert old.acquire("old") == first + 2
    await old.commit([Record("a", "1", {"by": "old again"})])
    with pytest.raises(Fenced):
        await new.commit([Record("a", "1", {"by": "stale"})])


async def test_alternating_owners_never_both_write(place: Place) -> None:
    """P9: of two owners that take over from each other at random, only the newest is ever acknowledged."""
    rand, owners = random.Random(1), [place.open(), place.open()]
    current, accepted = -1, 0
    for number in range(300):
        if rand.random() < 0.2:
            current = rand.randrange(2)
            owners[current].acquire(str(current))
        writer = rand.randrange(2)
        try:
            await owners[writer].commit([Record("a", str(number), {"by": writer})])
        except Fenced:
            assert writer != current
        else:
            assert writer == current
            accepted += 1
    assert accepted > 50
    assert len(bodies(owners[0], "a")) == accepted


async def test_who_never_acquired_may_read_but_not_write(place: Place) -> None:
    await place.owned().commit([Record("a", "1", {})])
    stranger = place.open()
    with pytest.raises(Fenced):
        await stranger.commit([Record("a", "2", {})])
    assert bodies(stranger, "a") == {("a", "1"): {}}


async def test_a_cancelled_call_does_not_disturb_others(place: Place) -> None:
    journal = place.owned()
    calls = [asyncio.create_task(journal.commit([Record("a", str(n), {})])) for n in range(10)]
    await turn()
    calls[4].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [n == 4 for n in range(10)]
    await journal.commit([Record("a", "last", {})])
    assert {key for _, key in bodies(journal, "a")} >= {str(n) for n in range(10) if n != 4} | {"last"}


async def test_a_closed_journal_refuses(place: Place) -> None:
    journal = place.owned()
    journal.close()
    journal.close()
    with pytest.raises(Unavailable):
        await journal.commit([Record("a", "1", {})])


async def test_raw_bodies_come_back_in_ranges_of_keys(place: Place) -> None:
    journal = place.owned()
    rows = [("q", f"{queue}/{n:04d}", bytes([n % 256]) * n) for queue in ("a", "b", "ba") for n in range(1_500)]
    await journal.commit_raw(rows)
    await journal.commit_raw([("q", f"a/{n:04d}", None) for n in range(0, 1_500, 2)])
    assert [key for key, _ in journal.scan("q", prefix="a/", limit=3)] == ["a/0001", "a/0003", "a/0005"]
    assert journal.scan("q", prefix="a/", after="a/0005", limit=1) == [("a/0007", b"\x07" * 7)]
    assert len(journal.scan("q", prefix="b", limit=10_000)) == 3_000
    assert len(journal.scan("q", prefix="b/", after="b/1400", limit=10_000)) == 99
    assert journal.scan("q", prefix="c") == journal.scan("q", after="z") == journal.scan("z") == []
    assert len(journal.scan("q")) == 1_000
    assert journal.read("q", ["b/0002", "a/0002", "a/0001", "a"]) == [b"\x02\x02", None, b"\x01", None]
    assert journal.read("q", []) == []
    with pytest.raises(ValueError, match="scan"):
        list(journal.load(["q"]))
    with pytest.raises(TypeError):
        await journal.commit_raw([("q", "x", "text")])  # type: ignore[list-item]


async def test_a_damaged_row_is_reported_and_the_rest_is_served(place: Place) -> None:
    journal = place.owned()
    await journal.commit([Record("a", f"{n:04d}", {"n": n}) for n in range(2_500)])
    for key in ("0000", "0999", "2499"):
        place.rot("a", key)
    found = bodies(journal, "a")
    assert len(found) == 2_497
    assert [(one.kind, one.key) for one in journal.damage] == [("a", "0000"), ("a", "0999"), ("a", "2499")]
    assert "checksum" in str(journal.damage[0])
    assert len(journal.scan("a", limit=5_000)) == 2_497
    assert journal.read("a", ["0000", "0001"]) == [None, b'{"n":1}']
    assert len(journal.damage) == 3
    await journal.commit([Record("a", "0000", {"n": "new"})])
    assert bodies(journal, "a")["a", "0000"] == {"n": "new"}


async def test_a_damaged_row_is_not_read(place: Place) -> None:
    journal = place.owned()
    await journal.commit_raw([("a", "1", b"one"), ("a", "2", b"two")])
    place.rot("a", "1")
    assert journal.read("a", ["1", "2"]) == [None, b"two"]
    assert [(one.kind, one.key) for one in journal.damage] == [("a", "1")]


names = st.sampled_from(["", "a", "a/1", "a/2", "a0", "b", "ä", "\U0001f600", "\uffff"])
changes = st.lists(st.tuples(st.sampled_from(["k", "l"]), names, st.none() | st.binary(max_size=6_000)), max_size=12)
_numbers = itertools.count()


@pytest.mark.parametrize("engine", ["sqlite", "memory"])
@settings(max_examples=40, deadline=None)
@given(batches=st.lists(changes, max_size=6), prefix=names, after=names, limit=st.integers(1, 6))
def test_any_history_equals_a_dict(
    engine: str, batches: list[list[tuple[str, str, bytes | None]]], prefix: str, after: str, limit: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = Place(engine, Path(directory) / f"{next(_numbers)}.db")
        journal, twin = place.owned(), {}
        asyncio.run(_commit_all(journal.commit_raw, batches))
        for kind, key, body in itertools.chain.from_iterable(batches):
            twin[kind, key] = body
        expected = sorted(
            ((key, body) for (kind, key), body in twin.items() if kind == "k" and body is not None),
            key=lambda item: item[0].encode(),
        )
        journal.close()
        again = place.open()
        assert again.scan("k") == expected
        ranged = [
            (key, body)
            for key, body in expected
            if key.startswith(prefix) and (not after or key.encode() > after.encode())
        ]
        assert again.scan("k", prefix=prefix, after=after, limit=limit) == ranged[:limit]
        place.close()


async def _commit_all(commit: Callable[..., Any], batches: list[Any]) -> None:
    await asyncio.gather(*(commit(batch) for batch in batches))
