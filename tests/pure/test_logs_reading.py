"""Blocks, their index and readings, against a plain list of events."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minicloud.logs import limits, reading, rules
from minicloud.logs.block import Head, decode, encode, head_of
from minicloud.logs.index import SEALED, Index, level_of
from minicloud.logs.model import Event, Given
from minicloud.logs.pattern import needed
from minicloud.logs.reading import END, START, Found, Place

DAY_MS = 86_400_000
NOW = 1_700_000_000_000


def events(*times: int, first: int = 0, text: str = "m") -> list[Event]:
    return [Event(time, first + at, NOW, f"{text}{first + at}") for at, time in enumerate(times)]


def test_a_block_is_what_it_was() -> None:
    for text in ("x", "caf\u00e9 \U0001f600 ", "a" * 3_000):
        given_events = events(5, 3, 9, first=7, text=text)
        head, body = encode(12, given_events)
        assert decode(body) == given_events
        assert (head.first, head.events, head.low_ms, head.high_ms, head.size) == (7, 3, 3, 9, len(body))
        assert head_of(head.key, head.packed()) == head
        assert head.text == sum(len(one.message.encode()) for one in given_events) + 3 * 26
    _, plain = encode(1, events(1))
    _, packed = encode(1, events(*range(1_000), text="the same text again and again "))
    assert plain[:1] == b"\0" and packed[:1] == b"\1" and len(packed) < 15_000


def put(index: Index, *batches: list[Event], stream: int = 1) -> dict[str, bytes]:
    bodies = {}
    for batch in batches:
        head, body = encode(stream, batch)
        index.add(head)
        bodies[head.key] = body
    return bodies


def test_sixteen_blocks_of_a_size_become_one_and_so_on() -> None:
    index = Index()
    for number in range(limits.MERGED_AT - 1):
        put(index, events(number, first=number))
    assert index.to_merge(1) == []
    put(index, events(99, first=limits.MERGED_AT - 1))
    old = index.to_merge(1)
    assert [head.first for head in old] == list(range(limits.MERGED_AT))
    new = encode(1, events(*range(limits.MERGED_AT)))[0]._replace(level=1)
    size = index.size
    assert index.replace(old, new) and index.streams[1].heads == [new]
    assert index.size == size + new.size - sum(head.size for head in old)
    assert not index.replace(old, new), "they are gone already"
    assert level_of(limits.BLOCK_BYTES, 2) == SEALED and level_of(10, 2) == 2


def test_a_gap_in_the_numbers_is_not_merged_over() -> None:
    index = Index()
    for number in range(limits.MERGED_AT):
        put(index, events(number, first=number + (number > 5)))
    assert index.to_merge(1) == []


def test_what_expired_is_a_whole_block_or_stays() -> None:
    index = Index()
    put(index, events(10, 20), events(15, 30, first=2), events(40, first=4))
    assert [head.first for head in index.expired(1, 31)] == [0, 2]
    assert [head.first for head in index.expired(1, 30)] == [0]
    assert index.expired(1, 5) == [] == index.expired(9, 5)
    index.drop(index.expired(1, 31))
    kept = index.streams[1]
    assert (kept.low_ms, kept.high_ms, kept.next, kept.text) == (40, 40, 5, 2 + 26)
    assert index.size == kept.heads[0].size


batches = st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=8)


@given(
    st.tuples(batches, batches),
    st.integers(0, 32),
    st.integers(0, 32),
    st.one_of(st.none(), st.tuples(st.integers(0, 30), st.integers(1, 2), st.integers(0, 30))),
)
def test_readings_are_those_of_a_sorted_list(
    written: tuple[list[list[int]], list[list[int]]], start: int, end: int, at: tuple[int, int, int] | None
) -> None:
    index, bodies, every = Index(), {}, []
    for stream, parts in enumerate(written, 1):
        number = 0
        for part in parts:
            batch = events(*part, first=number)
            bodies |= put(index, batch, stream=stream)
            every += [(Place(one.time_ms, stream, one.number), one) for one in batch]
            number += len(part)
    every.sort()
    heads = [head for kept in index.streams.values() for head in kept.heads]

    def open_(head: Head) -> list[Event]:
        return decode(bodies[head.key])

    after, before = (Place(*at), Place(*at)) if at else (START, END)
    found = list(reading.forward(heads, open_, after, end))
    assert found == [Found(*one) for one in every if one[0] > after and one[0].time_ms < end]
    found = list(reading.backward(heads, open_, before, start))
    assert found == [Found(*one) for one in reversed(every) if one[0] < before and one[0].time_ms >= start]


def test_a_page_is_full_by_number_size_and_work() -> None:
    found = [Found(Place(at, 1, at), Event(at, at, NOW, "x" * 100)) for at in range(60_000)]
    page = reading.page(iter(found), 3)
    assert (len(page.found), page.more, page.reached) == (3, True, Place(2, 1, 2))
    page = reading.page(iter(found[:3]), 3)
    assert (len(page.found), page.more) == (3, False)
    assert len(reading.page(iter(found), 10_000).found) == limits.REPLY_BYTES_MAX // 126
    page = reading.page(iter(found), 10, lambda message: False)
    assert page == ([], True, Place(limits.LOOKED_AT_MAX - 1, 1, limits.LOOKED_AT_MAX - 1))


def test_a_reading_does_so_much_work_and_says_where_to_go_on() -> None:
    index = Index()
    bodies = put(index, *(events(at // 3, at // 3, first=2 * at) for at in range(30)))
    heads = index.streams[1].heads

    def open_(head: Head) -> list[Event]:
        return decode(bodies[head.key])

    seen: list[Place] = []
    after, calls = START, 0
    while True:
        page = reading.page(reading.forward(heads, open_, after, 100, work=100), 50)
        seen += [one.place for one in page.found]
        calls += 1
        if not page.more:
            break
        assert page.reached is not None and page.reached > after
        after = page.reached
    assert seen == [Place(at // 3, 1, number) for at in range(30) for number in (2 * at, 2 * at + 1)] and calls > 5


def test_blocks_without_a_needed_word_are_not_taken_apart() -> None:
    _, body = encode(1, events(1, 2, text="some ERROR "))
    assert len(decode(body, (b"ERROR",))) == 2 and decode(body, (b"ERROR", b"absent")) == []
    assert needed('ERROR "a \\"b" ?or -not %re%') == (b"ERROR", b'a "b')
    assert needed("{ $.a = ERROR }") == needed("[a, b]") == needed("") == ()


def test_which_events_of_a_batch_are_taken() -> None:
    hour = 3_600_000
    fine = [Given(NOW, "a"), Given(NOW + hour, "b")]
    assert rules.check_batch(fine, NOW, 0) == (slice(0, 2), rules.Rejected())
    late = [Given(NOW + hour, "a"), Given(NOW + 3 * hour, "b")]
    assert rules.check_batch(late, NOW, 0) == (slice(0, 1), rules.Rejected(too_new_from=1))
    old = [Given(NOW - 14 * DAY_MS - hour, "a"), Given(NOW - 14 * DAY_MS + hour, "b")]
    assert rules.check_batch(old, NOW, 0) == (slice(1, 2), rules.Rejected(too_old_until=1))
    expired = [Given(NOW - DAY_MS - hour, "a"), Given(NOW - hour - 1, "b")]
    taken, rejected = rules.check_batch(expired, NOW, 1)
    assert taken == slice(1, 2) and rejected == rules.Rejected(expired_until=1) and rejected
