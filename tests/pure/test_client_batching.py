"""The lanes of the SDK: nothing lost, doubled, given to another, or out of order, in whatever order calls end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import CloudError, Internal, InvalidRequest, NotFound, Unavailable
from minicloud.client.batching import BYTES_MAX, COUNT_MAX, Lane, LaneLimits, chunks
from minicloud.client.window import Window
from tests.turns import turn

Item = tuple[int, int]  # number, bytes


@dataclass
class Wire:
    """Calls stay open until the test ends them."""

    open: list[tuple[list[Item], asyncio.Future[Sequence[int | CloudError]]]] = field(default_factory=list)
    sent: list[Item] = field(default_factory=list)
    lost: int = 0
    most: int = 0

    async def call(self, items: list[Item]) -> Sequence[int | CloudError]:
        answer: asyncio.Future[Sequence[int | CloudError]] = asyncio.get_running_loop().create_future()
        self.open.append((items, answer))
        self.sent += items
        self.most = max(self.most, len(self.open))
        try:
            return await answer
        finally:
            self.open.remove((items, answer))

    def tell_lost(self, count: int, error: CloudError) -> None:
        self.lost += count

    def end(self, which: int, how: str) -> None:
        items, answer = self.open[which % len(self.open)]
        if answer.done():
            return
        if how == "all":
            answer.set_result([number for number, _ in items])
        elif how == "some":
            answer.set_result([NotFound(str(number)) if number % 3 == 0 else number for number, _ in items])
        elif how == "short":
            answer.set_result([number for number, _ in items[1:]])
        else:
            errors = {"away": Unavailable("away"), "refused": InvalidRequest("refused"), "bug": ZeroDivisionError("0")}
            answer.set_exception(errors[how])


ENDS = ("all", "all", "all", "some", "short", "away", "refused", "bug")
ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(1, 9), st.integers(1, 40)),
    st.tuples(st.just("post"), st.integers(1, 9), st.integers(1, 40)),
    st.tuples(st.just("cancel"), st.integers(0, 99), st.just(0)),
    st.tuples(st.just("end"), st.integers(0, 9), st.integers(0, len(ENDS) - 1)),
    st.tuples(st.just("turn"), st.integers(1, 3), st.just(0)),
)


class Story:
    """One lane, what was asked of it, and what its callers were told."""

    def __init__(self, limits: LaneLimits) -> None:
        self.wire = Wire()
        self.limits = limits
        self.lane: Lane[Item, int] = Lane(self.wire.call, lambda item: item[1], limits, self.wire.tell_lost)
        self.futures: list[tuple[int, asyncio.Future[int]]] = []
        self.posts: list[asyncio.Task[None]] = []
        self.numbers = 0

    def item(self, size: int) -> Item:
        self.numbers += 1
        return self.numbers, size

    async def act(self, what: str, first: int, second: int) -> None:
        if what == "put":
            for _ in range(first):
                item = self.item(second)
                self.futures.append((item[0], self.lane.put(item)))
        elif what == "post":
            self.posts += [asyncio.ensure_future(self.lane.post(self.item(second))) for _ in range(first)]
        elif what == "cancel" and self.futures:
            self.futures[first % len(self.futures)][1].cancel()
        elif what == "end" and self.wire.open:
            self.wire.end(first, ENDS[second])
        elif what == "turn":
            await turn(first)

    async def finish(self) -> None:
        """Every call ends well, until the lane is empty: a post that got its place late may linger again."""
        for _ in range(1_000):
            if self.lane.idle and all(post.done() for post in self.posts):
                break
            drained = asyncio.ensure_future(self.lane.drain())
            while not drained.done():
                await turn(2)
                for index in range(len(self.wire.open)):
                    self.wire.end(index, "all")
            await turn(2)
        await turn(3)

    def check_calls(self) -> None:
        assert self.wire.most <= self.limits.flights
        for items, _ in self.wire.open:
            assert 1 <= len(items) <= self.limits.count_max
            assert len(items) == 1 or sum(size for _, size in items) <= self.limits.bytes_max

    def check_end(self) -> None:
        sent = [number for number, _ in self.wire.sent]
        assert len(sent) == len(set(sent)), "sent twice"
        assert self.lane.idle and all(future.done() for _, future in self.futures)
        told = dict(self.futures)
        assert [n for n in sent if n in told] == sorted(n for n in sent if n in told), "out of order"
        for number, future in self.futures:
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                assert future.result() == number and number in sent
            elif isinstance(error, NotFound):
                assert error.message == str(number)
            else:
                assert isinstance(error, Unavailable | InvalidRequest | Internal)
                assert number in sent or isinstance(error, Unavailable)


LIMITS = st.builds(
    LaneLimits,
    flights=st.integers(1, 3),
    count_max=st.integers(1, 7),
    bytes_max=st.integers(1, 60),
    buffer_max=st.integers(1, 5),
    linger_s=st.sampled_from([0.0, 3600.0]),
    linger_count=st.integers(1, 5),
)


@given(st.lists(ACTIONS, max_size=60), LIMITS)
def test_nothing_is_lost_doubled_or_given_to_another(actions: list[tuple[str, int, int]], limits: LaneLimits) -> None:
    async def run() -> None:
        story = Story(limits)
        for action in actions:
            await story.act(*action)
            story.check_calls()
        await story.finish()
        story.check_end()

    asyncio.run(run())


async def test_the_first_goes_at_once_and_those_behind_it_share_a_call() -> None:
    wire = Wire()
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1], LaneLimits(flights=1))
    first = lane.put((1, 1))
    await turn()
    rest = [lane.put((number, 1)) for number in range(2, 50)]
    await turn(2)
    assert [len(items) for items, _ in wire.open] == [1]
    wire.end(0, "all")
    assert await first == 1
    await turn(2)
    assert [len(items) for items, _ in wire.open] == [48]
    wire.end(0, "all")
    assert await asyncio.gather(*rest) == list(range(2, 50))


async def test_each_caller_gets_an_error_of_its_own() -> None:
    wire = Wire()
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1])
    futures = [lane.put((number, 1)) for number in range(3)]
    await turn(2)
    wire.end(0, "refused")
    caught = await asyncio.gather(*futures, return_exceptions=True)
    assert len({id(error) for error in caught}) == 3 and {str(error) for error in caught} == {"InvalidRequest: refused"}


async def test_who_waits_behind_a_call_that_found_nobody_fails_with_it() -> None:
    wire = Wire()
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1], LaneLimits(flights=1))
    futures = [lane.put((1, 1))]
    await turn(2)
    futures.append(lane.put((2, 1)))
    await lane.post((3, 1))
    wire.end(0, "away")
    caught = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(error) for error in caught] == [Unavailable, Unavailable]
    assert lane.idle and wire.lost == 0  # no one was named to tell


async def test_a_caller_that_leaves_before_its_item_left_takes_it_back() -> None:
    wire = Wire()
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1])
    kept, gone = lane.put((1, 1)), lane.put((2, 1))
    gone.cancel()
    await turn(2)
    assert wire.sent == [(1, 1)]
    wire.end(0, "all")
    assert await kept == 1


async def test_a_post_waits_for_room() -> None:
    wire = Wire()
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1], LaneLimits(flights=1, count_max=2, buffer_max=2))
    posts = [asyncio.ensure_future(lane.post((number, 1))) for number in range(6)]
    await turn(5)
    assert [post.done() for post in posts] == [True] * 4 + [False] * 2  # two left, two wait in the lane
    wire.end(0, "all")
    await turn(5)
    assert all(post.done() for post in posts)


async def test_what_is_only_posted_may_linger_for_company_but_no_one_who_waits() -> None:
    wire = Wire()
    limits = LaneLimits(linger_s=3600, linger_count=4)
    lane: Lane[Item, int] = Lane(wire.call, lambda item: item[1], limits)
    await lane.post((1, 1))
    await turn(3)
    assert wire.open == []
    waits = lane.put((2, 1))
    await turn(2)
    assert wire.sent == [(1, 1), (2, 1)]
    for number in range(3, 7):
        await lane.post((number, 1))
    await turn(2)
    assert len(wire.sent) == 6  # four of them are company enough
    await lane.post((7, 1))
    drained = asyncio.ensure_future(lane.drain())
    for _ in range(4):
        await turn(2)
        for index in range(len(wire.open)):
            wire.end(index, "all")
    await drained
    assert await waits == 2 and len(wire.sent) == 7


def test_chunks_fit_into_a_call() -> None:
    assert [len(chunk) for chunk in chunks([1] * (COUNT_MAX + 1), lambda _: 1)] == [COUNT_MAX, 1]
    assert [len(chunk) for chunk in chunks([1] * 5, lambda _: BYTES_MAX // 2)] == [2, 2, 1]
    assert [len(chunk) for chunk in chunks([1] * 2, lambda _: BYTES_MAX * 2)] == [1, 1]
    assert list(chunks([], len)) == []


# ---------------------------------------------------------------- the window of a consumer


def test_a_window_opens_while_the_program_waits_and_closes_when_it_is_slow() -> None:
    window = Window(prefetch=256, polls=2)
    assert (window.size, window.next(0, 0), window.next(0, 8), window.next(0, 16)) == (16, 8, 8, 0)
    for _ in range(10):
        window.fetched(8, 8, 8_000, starved=True)
    assert window.size == 256
    window.fetched(3, 8, 3_000, starved=True)  # the queue has no more: no reason to hold more
    window.taken(5.0)
    assert window.size == 128
    window.floor(100)
    for _ in range(9):
        window.taken(5.0)
    assert window.size == 100


@given(st.integers(1, 10_000), st.integers(1, 3), st.integers(0, 20_000), st.integers(0, 2**20))
def test_a_window_never_asks_for_more_than_it_may_hold(prefetch: int, polls: int, held: int, size: int) -> None:
    window = Window(prefetch, polls)
    window.floor(prefetch)
    window.fetched(1, 1, max(size, 1), starved=False)
    asked = window.next(held, 0)
    assert 0 <= asked <= COUNT_MAX and (not asked or held + asked <= prefetch)
    assert asked * size <= 32 * 1024 * 1024
    assert held or asked >= 1


@pytest.mark.parametrize("prefetch", [0, 10_001])
def test_a_window_has_bounds(prefetch: int) -> None:
    with pytest.raises(InvalidRequest):
        Window(prefetch, 2)
