"""Tickets into guests: good ones open one guest for a time, and nothing else opens anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.base.errors import Unauthenticated
from minicloud.host.ticket import check, checker, issue

SECRET = b"s" * 32
ONE, OTHER = "i-0123456789abcdef0", "i-0123456789abcdef1"
ACCOUNT = "123456789012"
GOOD = issue(SECRET, ONE, ACCOUNT, 1000.5)


def test_a_good_ticket_names_its_account_until_it_ends() -> None:
    assert check(SECRET, GOOD, ONE, 0) == ACCOUNT
    assert check(SECRET, GOOD, ONE, 1000.9) == ACCOUNT
    with pytest.raises(Unauthenticated, match="expired"):
        check(SECRET, GOOD, ONE, 1001)


@pytest.mark.parametrize(
    ("secret", "ticket", "instance"),
    [
        (b"t" * 32, GOOD, ONE),
        (SECRET, GOOD, OTHER),
        (SECRET, GOOD.replace(ONE, OTHER), OTHER),
        (SECRET, GOOD.replace(ACCOUNT, "999999999999"), ONE),
        (SECRET, GOOD.replace(".1001.", ".9001."), ONE),
        (SECRET, GOOD.replace("v1", "v2"), ONE),
        (SECRET, GOOD + "=", ONE),
        (SECRET, GOOD + "\n", ONE),
        (SECRET, GOOD[:-1], ONE),
        (SECRET, "", ONE),
        (SECRET, "é" * 99, ONE),
    ],
)
def test_everything_else_is_refused(secret: bytes, ticket: str, instance: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        check(secret, ticket, instance, 0)
    assert "expired" not in caught.value.message


@given(st.text(max_size=120))
def test_no_text_is_a_ticket(text: str) -> None:
    with pytest.raises(Unauthenticated):
        check(SECRET, text, ONE, 0)


def test_the_checker_reads_the_clock_at_each_call() -> None:
    now = 0.0
    check_ticket = checker(SECRET, lambda: now)
    check_ticket(GOOD, ONE, "Exec")
    now = 2000.0
    with pytest.raises(Unauthenticated):
        check_ticket(GOOD, ONE, "Exec")
