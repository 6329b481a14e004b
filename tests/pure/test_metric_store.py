"""The metric store against a plain list of values: random puts, flushes that fail, crashes, late data, expiry."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minicloud.base.errors import LimitExceeded
from minicloud.metric import limits
from minicloud.metric.journal import CHUNK, SERIES, TAIL
from minicloud.metric.model import Datum
from minicloud.metric.page import SLOTS, Chunk, empty_points, pack, unpack
from minicloud.metric.reading import Span, span_of, statistics, window
from minicloud.metric.registry import DimensionFilter, Registry, Where
from minicloud.metric.statistics import Statistic, parse
from tests.pure.metric_world import NOW, SCOPE, Twin, World, datum, metric, nearest_rank

MINUTE, HOUR, DAY = 60, 3_600, 86_400
NAMES = ("a", "b", "c")


def read(world: World, name: str, stat: str, span: Span) -> list[float | None]:
    found = statistics(world.store, metric(name), "", parse(stat), span, world.now)
    return [None if np.isnan(value) else float(value) for value in found]


def check(world: World, twin: Twin, span: Span) -> None:
    for name in NAMES:
        expected = twin.values(name, span)
        assert read(world, name, "SampleCount", span) == [len(one) or None for one in expected], (name, span)
        for stat, rule in (("Minimum", min), ("Maximum", max)):
            assert read(world, name, stat, span) == [rule(one) if one else None for one in expected]
        sums = [sum(one) if one else None for one in expected]
        assert read(world, name, "Sum", span) == pytest.approx(sums)
        for q in (0.0, 0.5, 0.9, 1.0):
            for got, values in zip(read(world, name, f"p{q * 100:g}", span), expected, strict=True):
                want = nearest_rank(values, q) if values else None
                assert got == want if want is None else got == pytest.approx(want, rel=0.0101)


def spans(now: float) -> list[Span]:
    """Recent ones of every width, an odd window as alarms have, one over everything late."""
    minute = int(now // 60) * 60
    day = int(now // DAY) * DAY
    return [
        Span(minute - 7 * MINUTE, 60, 8),
        Span(minute - 13 * MINUTE, 180, 4),
        Span(minute // 300 * 300 - 3 * HOUR, 300, 37),
        Span(minute // 3_600 * 3_600 - DAY, 3_600, 25),
        Span(day - 14 * DAY, DAY, 15),
        Span(int(now) // 10 * 10 - 60, 10, 7),
        Span(int(now) - 20, 1, 21),
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_what_is_read_is_what_was_put(seed: int) -> None:
    rand = random.Random(seed)
    world, twin = World(), Twin()
    for _ in range(rand.randrange(1, 25)):
        data = [
            datum(
                rand.choice(NAMES),
                world.now - rand.choice((0, 0, 3, 70, 400, 9_000, 3 * DAY, 13 * DAY)) * rand.random(),
                *(rand.choice((0.0, 1.0, rand.expovariate(0.01), 7.5)) for _ in range(rand.randrange(1, 4))),
                width=rand.choice((1, 60, 60)),
            )
            for _ in range(rand.randrange(1, 6))
        ]
        world.put(*data)
        twin.put(*data)
        action = rand.random()
        if action < 0.3:
            world.flush()
        elif action < 0.4:
            world.flush(fails=True)
        elif action < 0.6:
            world.flush()
            world.crash()
        elif action < 0.7:
            world.flush(most=1)
        if rand.random() < 0.5:
            check(world, twin, rand.choice(spans(world.now)))
        world.now += rand.choice((1, 5, 60, 700, 9_000))
    world.flush()
    world.crash()
    for span in spans(world.now):
        check(world, twin, span)


def test_a_crash_loses_what_was_not_flushed_and_nothing_else() -> None:
    world = World()
    world.put(datum("a", world.now, 1.0))
    world.flush()
    world.put(datum("a", world.now, 2.0))
    world.crash()
    assert read(world, "a", "Sum", Span(int(NOW) // 60 * 60, 60, 1)) == [1.0]


def test_a_flush_that_failed_is_repeated_and_counts_once() -> None:
    world = World()
    span = Span(int(NOW) // HOUR * HOUR, HOUR, 3)
    world.put(datum("a", world.now, 1.0))
    batch = world.persistence.collect(world.now)
    world.disk.commit(batch.rows)  # it was written, but nobody heard
    world.put(datum("a", world.now, 10.0))
    world.flush()
    world.now += 3 * HOUR
    world.flush()
    world.crash()
    assert read(world, "a", "Sum", span)[0] == 11.0


@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 6, 8, 9])
def test_a_crash_between_any_two_commits_of_sealing(cut: int) -> None:
    """300 series: their chunks of three widths take two commits; after any of them the process may die."""
    world = World()
    names = [f"m{number}" for number in range(300)]
    world.put(*(datum(name, world.now, 2.0) for name in names))
    world.flush()
    world.now += 3 * HOUR
    world.put(*(datum(name, world.now - 3 * HOUR, 3.0) for name in names))  # late
    world.flush(most=cut)
    survived = 5.0 if cut else 2.0
    world.crash()
    for _ in range(2):
        for name in names[::37]:
            for period in (60, 300, HOUR):
                start = int(NOW) // period * period
                assert read(world, name, "Sum", Span(start, period, 1)) == [survived]
                assert read(world, name, "p100", Span(start, period, 1)) == [survived - 2.0 or 2.0]
        world.flush()
        world.crash()
    world.flush()
    world.flush()
    assert len(world.disk.of(TAIL)) == 1  # the newest stays


def test_roll_up_outlives_the_minutes_and_the_minutes_expire() -> None:
    world = World()
    start = int(NOW) // HOUR * HOUR
    for minute in range(0, 60, 7):
        world.put(datum("a", start + minute * 60, float(minute)))
    world.now += 16 * DAY
    world.flush()
    world.crash()
    assert read(world, "a", "Sum", Span(start, 60, 60)) == [None] * 60
    assert read(world, "a", "Maximum", Span(start, 300, 12)) == [0, 7, 14, None, 21, 28, None, 35, 42, 49, None, 56]
    world.now += 60 * DAY
    world.flush()
    assert read(world, "a", "Maximum", Span(start, 300, 12)) == [None] * 12
    assert read(world, "a", "SampleCount", Span(start, HOUR, 1)) == [9.0]
    assert {key.split("/")[0] for key in world.disk.keys} == {"3600"}
    world.now += 460 * DAY
    world.flush()
    assert not world.disk.of(CHUNK)
    assert not world.disk.of(SERIES)
    assert len(world.store.registry) == 0


def test_a_tail_older_than_its_minutes_is_not_rolled_up_again() -> None:
    """The newest tail stays on disk for good; replaying it after its chunks expired must not undo the roll-up."""
    world = World()
    start = int(NOW) // HOUR * HOUR
    world.put(datum("a", start + 60, 1.0))
    world.flush()
    world.put(datum("a", start + 60, 2.0))
    world.flush()
    world.now += 3 * HOUR
    world.flush()
    world.now += 20 * DAY
    world.flush()
    world.crash()
    world.flush()
    assert read(world, "a", "Sum", Span(start, HOUR, 1)) == [3.0]


def test_late_data_that_came_before_a_crash_are_found_when_their_page_is_cold() -> None:
    """The record of the series says when its data begin; a tail may know of older ones."""
    world = World(NOW // 7_200 * 7_200 + 400)
    late = world.now - 500
    world.put(datum("a", world.now, 1.0))
    world.flush()
    world.put(datum("a", late, 2.0))  # in the page before, which is not written yet
    world.flush()
    world.crash()
    world.now += DAY
    for _ in range(3):  # chunks are written, then the tails go, but for the newest
        world.put(datum("b", world.now, 1.0))
        world.flush()
    assert len(world.disk.of(TAIL)) == 3
    world.crash()
    for period in (60, 300):
        assert read(world, "a", "Sum", Span(int(late) // period * period, period, 1)) == [2.0]


def test_what_comes_while_a_chunk_is_being_written_is_in_the_next_one() -> None:
    world = World()
    span = Span(int(NOW) // 60 * 60, 60, 1)
    world.put(datum("a", NOW, 1.0))
    world.flush()
    world.now += 5 * HOUR
    batch = world.persistence.collect(world.now)
    assert CHUNK in {kind for kind, _, _ in batch.rows}
    world.put(datum("a", NOW, 2.0))
    assert read(world, "a", "Sum", span) == [3.0]
    world.disk.commit(batch.rows)
    world.persistence.confirm(batch, world.now)
    assert read(world, "a", "Sum", span) == [3.0]
    for _ in range(3):
        world.put(datum("b", world.now, 1.0))
        world.flush()
    world.crash()
    assert read(world, "a", "Sum", span) == [3.0]


def test_pages_that_were_made_written_and_evicted_in_one_life_are_read_from_disk() -> None:
    world = World()
    world.now += DAY
    at = int(world.now)
    world.put(datum("a", at, 1.0))
    for _ in range(3):
        world.now += 3 * HOUR
        world.flush()
    assert not [page for page in world.store.pages.values() if page.width == 60]
    assert read(world, "a", "Sum", Span(at // 60 * 60, 60, 1)) == [1.0]
    world.put(datum("a", at, 2.0))
    assert read(world, "a", "Sum", Span(at // HOUR * HOUR, HOUR, 1)) == [3.0]


def test_numbers_of_tails_are_never_used_again() -> None:
    world = World()
    for value in (1.0, 2.0, 4.0):
        world.put(datum("a", NOW, value))
        world.flush()
        world.now += 3 * HOUR
        world.flush()
        world.crash()
    assert read(world, "a", "Sum", Span(int(NOW) // 60 * 60, 60, 1)) == [7.0]


def test_short_periods_are_kept_three_hours_and_their_minutes_longer() -> None:
    world = World()
    second = int(NOW)
    world.put(datum("a", second, 1.0, width=1), datum("a", second + 1, 3.0, width=1), datum("a", second + 2, 5.0))
    assert read(world, "a", "Sum", Span(second, 1, 4)) == [1.0, 3.0, None, None]
    assert read(world, "a", "Sum", Span(second // 60 * 60, 60, 1)) == [9.0]
    world.now += 200
    world.flush()
    world.crash()
    assert read(world, "a", "Maximum", Span(second // 10 * 10, 10, 1)) == [3.0]
    world.now += 3 * HOUR
    assert read(world, "a", "Sum", Span(second, 1, 4)) == [None] * 4
    world.flush()
    assert read(world, "a", "Sum", Span(second // 60 * 60, 60, 1)) == [9.0]
    assert not [key for key in world.disk.keys if key.startswith("0001/")]


def test_statistic_sets_count_but_say_nothing_about_ranks() -> None:
    world = World()
    at = Span(int(NOW) // 60 * 60, 60, 1)
    world.put(Datum("a", (), "None", NOW, (), (), (4.0, 10.0, 1.0, 5.0)))
    assert read(world, "a", "Average", at) == [2.5]
    assert read(world, "a", "p50", at) == [None]
    world.put(Datum("b", (), "None", NOW, (), (), (4.0, 8.0, 2.0, 2.0)))
    assert read(world, "b", "p50", at) == [2.0]
    world.put(datum("c", NOW, -1.0, 3.0))
    assert read(world, "c", "p50", at) == [None]
    assert read(world, "c", "Minimum", at) == [-1.0]


def test_units_are_apart_and_together() -> None:
    world = World()
    at = Span(int(NOW) // 60 * 60, 60, 1)
    world.put(datum("a", NOW, 1.0, unit="Bytes"), datum("a", NOW, 3.0, unit="Count"))
    get = lambda unit: statistics(world.store, metric("a"), unit, Statistic("Sum"), at, world.now).tolist()  # noqa: E731
    assert get("Bytes") == [1.0]
    assert get("Count") == [3.0]
    assert get("") == [4.0]
    assert np.isnan(get("Percent")[0])
    both = statistics(world.store, metric("a"), "", Statistic("p", 1.0), at, world.now)
    assert both.tolist() == [3.0]


def test_too_many_metrics_are_refused_whole() -> None:
    world = World()
    world.store.registry = Registry(most=2)
    with pytest.raises(LimitExceeded):
        world.put(datum("a", NOW, 1.0), datum("b", NOW, 1.0), datum("c", NOW, 1.0))
    assert len(world.store.registry) == 0
    world.put(datum("a", NOW, 1.0), datum("b", NOW, 1.0), datum("a", NOW, 1.0))
    world.put(datum("b", NOW, 1.0))


def test_listing_filters_pages_and_forgets() -> None:
    world = World()
    world.put(*(datum(f"m{number:04d}", NOW, 1.0, dims=(("Host", str(number % 3)),)) for number in range(700)))
    world.put(datum("other", NOW, 1.0), namespace="O")
    find = lambda where, after="": world.store.registry.find(SCOPE, where, after, world.now)  # noqa: E731
    first, after = find(Where())
    second, end = find(Where(), after)
    assert (len(first), len(second), end) == (limits.LIST_PAGE, 201, "")
    assert len({*first, *second}) == 701
    assert [one.namespace for one in find(Where(namespace="O"))[0]] == ["O"]
    assert [one.name for one in find(Where("N", "m0004"))[0]] == ["m0004"]
    assert len(find(Where("N", "", (DimensionFilter("Host", "1"),)))[0]) == 233
    assert not find(Where("N", "", (DimensionFilter("Disk"),)))[0]
    world.flush()
    world.crash()
    world.now += 3 * HOUR + 1
    world.put(datum("m0001", world.now, 1.0, dims=(("Host", "1"),)))
    assert [one.name for one in find(Where(recently=True))[0]] == ["m0001"]
    world.now += 14 * DAY + 1
    assert [one.name for one in find(Where())[0]] == []
    assert read(world, "other", "Sum", Span(0, 60, 1)) == [None]


def test_a_call_looks_at_so_many_metrics_and_says_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LIST_LOOKED_AT_MAX", 100)
    world = World()
    world.put(*(datum(f"m{number:04d}", NOW, 1.0, dims=(("Host", str(number // 250)),)) for number in range(700)))
    where = Where("N", "", (DimensionFilter("Host", "1"),))
    pages, after = [], ""
    while True:
        page, after = world.store.registry.find(SCOPE, where, after, world.now)
        pages.append(page)
        if not after:
            break
    assert [len(page) for page in pages] == [0, 0, 50, 100, 100, 0, 0]
    assert [one.name for page in pages for one in page] == [f"m{number:04d}" for number in range(250, 500)]


def test_a_chunk_keeps_every_bit() -> None:
    points = empty_points(1)[:, 0]
    points[:, 7] = (2, 0.1 + 0.2, -1e-300, 2.0**360)
    points[:, SLOTS - 1] = (1, 5, 5, 5)
    codes = np.array([7 << 16 | 65_535, 119 << 16], np.int64)
    back = unpack(pack(Chunk(2**40, points, codes, np.array([2.0, 0.5]))))
    assert back.seq == 2**40
    assert np.array_equal(back.points, points)
    assert back.codes.tolist() == codes.tolist()
    assert back.weights.tolist() == [2.0, 0.5]
    with pytest.raises(ValueError, match="format 9"):
        unpack(b"\x09" + pack(back)[1:])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(2.0**-360, 2.0**360) | st.sampled_from((0.0, 1e-100, 1.0)), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_percentiles_are_within_one_per_cent(values: list[float], q: float) -> None:
    world = World()
    half = len(values) // 2
    world.put(datum("a", NOW, *values[:half]), datum("a", NOW - 120, *values[half:]))
    got = read(world, "a", f"p{q * 100:.10f}", Span(int(NOW) // 300 * 300, 300, 1))[0]
    assert got is not None
    q = float(f"{q * 100:.10f}") / 100
    want = min((nearest_rank(values, q), nearest_rank(values, max(q - 1e-12, 0))), key=lambda one: abs(one - got))
    assert abs(got - want) <= 0.01001 * want


def test_memory_and_disk_per_series_are_as_documented() -> None:
    """Of a series with one value a minute: docs in store.py (memory) and journal.py (disk) give these figures."""
    world, rand = World(int(NOW) // DAY * DAY), random.Random(1)
    names = [f"m{number}" for number in range(16)]
    resident = 0.0
    for _ in range(DAY // 60):
        world.put(*(datum(name, world.now, 100 * rand.random()) for name in names))
        world.now += 60
        if world.now % 600 == 0:
            world.flush()
            resident = max(resident, sum(page.nbytes for page in world.store.pages.values()) / len(names))
    world.now += HOUR * 12
    world.flush()
    stored = sum(len(body) for _, body in world.disk.of(CHUNK)) / len(names)
    assert 12_000 < resident < 48_000, resident
    assert 12_000 < stored < 36_000, stored


def test_a_request_is_rounded_as_cloudwatch_does() -> None:
    now = 1_700_000_000.0 + 100 * DAY
    at = int(now) // DAY * DAY + 12 * HOUR + 32 * 60 + 34.0
    assert span_of(at - DAY, at, 60, now).start % HOUR == 32 * 60
    assert span_of(at - 20 * DAY, at, 60, now).start % HOUR == 30 * 60
    assert span_of(at - 70 * DAY, at, 60, now).start % HOUR == 0
    assert span_of(at, at + 61, 60, now).count == 2
    assert span_of(at, at, 60, now).count <= 1
    assert window(World().store, [], Span(0, 60, 3), now).counts.tolist() == [0, 0, 0]


def test_metrics_that_nobody_puts_make_room_for_new_ones() -> None:
    world = World()
    world.store.registry = Registry(most=10)
    for number in range(9):
        world.put(datum(f"m{number}", world.now, 1.0))
        world.now += MINUTE
    world.flush()
    world.now += limits.SILENT_S_MIN + HOUR
    world.put(datum("m0", world.now, 2.0))  # heard again
    world.flush()
    listed, _ = world.store.registry.find(SCOPE, Where(), "", world.now)
    assert [one.name for one in listed] == ["m0", *(f"m{number}" for number in range(2, 9))], "the longest silent went"
    assert {key for key, _ in world.disk.of(SERIES)} == {f"{ordinal:08x}" for ordinal in (0, *range(2, 9))}
    world.put(*(datum(f"new{number}", world.now, 1.0) for number in range(2)))
    world.now += HOUR
    world.flush()
    world.put(datum("new2", world.now, 1.0), datum("new3", world.now, 1.0))
    world.crash()
    assert read(world, "m1", "Sum", Span(int(world.now) // 60 * 60 - DAY, 60, 1_500)) == [None] * 1_500
    assert 2.0 in read(world, "m0", "Sum", Span(int(world.now) // 60 * 60 - DAY, 60, 1_500))


def test_a_metric_that_comes_again_while_it_is_being_forgotten_stays() -> None:
    world = World()
    world.store.registry = Registry(most=1)
    world.put(datum("a", world.now, 1.0))
    world.flush()
    world.now += limits.SILENT_S_MIN + HOUR
    batch = world.persistence.collect(world.now)
    assert batch.dropped == [0]
    world.put(datum("a", world.now, 2.0))
    world.disk.commit(batch.rows)
    world.persistence.confirm(batch, world.now)
    world.flush()
    world.crash()
    assert 2.0 in read(world, "a", "Sum", Span(int(world.now) // 60 * 60 - DAY, 60, 1_500))
