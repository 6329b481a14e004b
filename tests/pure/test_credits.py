"""CPU credits: AWS's own examples as numbers, and what no history may break."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minicloud.compute import credits
from minicloud.compute.credits import Account, Rate

NANO = Rate(2, 5.0)  # t3.nano: 6 credits an hour, 144 at most (EC2 User Guide, table of credits)
MICRO = Rate(2, 10.0)  # t3.micro: 12 an hour, 288


@pytest.mark.parametrize(("rate", "hourly", "cap"), [(NANO, 6, 144), (MICRO, 12, 288), (Rate(2, 30.0), 36, 864)])
def test_rates_are_those_of_awss_table(rate: Rate, hourly: float, cap: float) -> None:
    assert rate.per_second * 3600 == pytest.approx(hourly)
    assert rate.cap == pytest.approx(cap)


def test_an_idle_instance_earns_up_to_a_day() -> None:
    account = Account(0.0, 0.0, 0.0, 0.0)
    assert credits.step(NANO, account, 0.0, 3600.0).balance == pytest.approx(6)
    assert credits.step(NANO, account, 0.0, 100 * 3600.0).balance == pytest.approx(144)


def test_launch_credits_are_spent_first_and_do_not_come_back() -> None:
    account = credits.open_account(NANO, None, 0.0)
    assert account.launch == 60
    account = credits.step(NANO, account, 600.0, 60.0)  # ten vCPU-minutes
    assert account.launch == pytest.approx(50) and account.earned == pytest.approx(0.1)
    again = credits.open_account(NANO, account, 120.0)
    assert again.launch == account.launch
    assert credits.open_account(NANO, account, 60.0 + 8 * 24 * 3600).balance == 0


def test_running_dry_throttles_to_the_baseline_and_idling_lets_go() -> None:
    account = Account(0.05, 0.0, 0.0, 0.0)
    account = credits.step(NANO, account, 6.0, 3.0)
    assert account.throttled and credits.cap_vcpus(NANO, account) == pytest.approx(0.1)
    account = credits.step(NANO, account, 0.1, 4.0)  # at the baseline it stays dry
    assert account.throttled
    account = credits.step(NANO, account, 0.0, 10.0)
    assert not account.throttled and credits.cap_vcpus(NANO, account) is None


def test_unlimited_owes_instead_and_pays_back() -> None:
    rate = Rate(2, 5.0, unlimited=True)
    account = credits.step(rate, credits.open_account(rate, None, 0.0), 120.0, 60.0)
    assert not account.throttled and account.balance == 0 and account.surplus == pytest.approx(1.9)
    account = credits.step(rate, account, 0.0, 60.0 + 3600.0)
    assert account.surplus == 0 and account.balance == pytest.approx(6 - 1.9)


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(-5, 20)), max_size=60), st.booleans())
def test_balances_stay_in_bounds_and_survive_a_file(steps: list[tuple[float, float]], unlimited: bool) -> None:
    rate = Rate(2, 5.0, unlimited)
    account, now = credits.open_account(rate, None, 1000.0), 1000.0
    for used, passed in steps:
        now += passed
        account = Account.load(credits.step(rate, account, used, now).body())
        assert 0 <= account.earned <= rate.cap and account.launch >= 0 and account.surplus >= 0
        assert not (unlimited and account.throttled)
