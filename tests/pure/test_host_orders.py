"""Which orders a host carries out: epochs fence, ids make twice once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minicloud.host.orders import Answer, OrderBook


def test_a_lower_epoch_than_the_highest_seen_is_fenced() -> None:
    book = OrderBook(epoch=4)
    assert not book.welcome(3)
    assert book.welcome(4)
    assert book.welcome(7)
    assert not book.welcome(6)
    assert book.epoch == 7


@given(st.lists(st.integers(min_value=0, max_value=50)))
def test_the_epoch_never_goes_back(epochs: list[int]) -> None:
    book = OrderBook()
    highest = 0
    for epoch in epochs:
        assert book.welcome(epoch) == (epoch >= highest)
        highest = max(highest, epoch)
        assert book.epoch == highest


def test_an_order_under_way_is_not_started_again_and_one_done_is_answered_as_then() -> None:
    book = OrderBook()
    assert book.admit("a") == "new"
    assert book.admit("a") == "open"
    assert book.admit("b") == "new"
    book.done(Answer("a", size_bytes=9))
    assert book.admit("a") == Answer("a", size_bytes=9)
    assert book.admit("b") == "open"


def test_a_refusal_is_tried_again() -> None:
    book = OrderBook()
    book.admit("a")
    book.done(Answer("a", False, "Unavailable", "not now"))
    assert book.admit("a") == "new"


def test_a_repeatable_order_is_carried_out_whenever_it_comes_but_not_twice_at_once() -> None:
    book = OrderBook()
    assert book.admit("start", repeatable=True) == "new"
    assert book.admit("start", repeatable=True) == "open"
    book.done(Answer("start"))
    assert book.admit("start", repeatable=True) == "new"


def test_an_order_that_was_dropped_is_new() -> None:
    book = OrderBook()
    book.admit("a")
    book.dropped("a")
    assert book.admit("a") == "new"


def test_answers_are_bounded() -> None:
    book = OrderBook(kept=2)
    for name in "abc":
        book.admit(name)
        book.done(Answer(name))
    assert book.admit("c") == Answer("c")
    assert book.admit("b") == Answer("b")
    assert book.admit("a") == "new"
