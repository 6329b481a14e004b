"""Who may run: reserved, provisioned and pooled concurrency, and how fast environments come up."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest

from minicloud.base.arn import Scope
from minicloud.function.concurrency import POOL_EMPTY, RESERVED_FULL, TOO_FAST, Ledger, Want
from minicloud.function.errors import TooManyRequests

FREE = Want(Scope(), "f", None)


def reason(ledger: Ledger, want: Want, now: float = 0.0, *, warm: bool = True) -> str:
    with pytest.raises(TooManyRequests) as caught:
        ledger.enter(want, now, warm=warm)
    assert caught.value.code == "TooManyRequestsException" and caught.value.retryable
    return caught.value.details["Reason"]


def test_reserved_concurrency_is_a_ceiling_and_a_floor() -> None:
    ledger = Ledger(10)
    mine, others = Want(Scope(), "f", 2, reserved_of_all=2), replace(FREE, function="g", reserved_of_all=2)
    numbers = [ledger.enter(mine, 0.0, warm=True) for _ in range(2)]
    assert reason(ledger, mine) == RESERVED_FULL
    rest = [ledger.enter(others, 0.0, warm=True) for _ in range(8)]
    assert reason(ledger, others) == POOL_EMPTY
    ledger.leave(mine, numbers[0])
    ledger.enter(mine, 0.0, warm=True)
    assert reason(ledger, others) == POOL_EMPTY
    ledger.leave(others, rest[0])
    ledger.enter(others, 0.0, warm=True)


def test_nothing_reserved_is_nothing_allowed() -> None:
    assert reason(Ledger(), Want(Scope(), "f", 0)) == RESERVED_FULL


def test_provisioned_concurrency_is_had_before_the_pool() -> None:
    ledger = Ledger(3)
    kept = Want(Scope(), "f", None, "f:prod", 2, provisioned_of_all=2)
    other = replace(FREE, function="g", provisioned_of_all=2)
    ledger.enter(other, 0.0, warm=True)
    assert reason(ledger, other) == POOL_EMPTY
    numbers = [ledger.enter(kept, 0.0, warm=True) for _ in range(2)]
    assert reason(ledger, kept) == POOL_EMPTY
    ledger.leave(kept, numbers[0])
    ledger.enter(kept, 0.0, warm=True)


def test_environments_come_up_a_thousand_in_ten_seconds() -> None:
    ledger = Ledger(10_000)
    for _ in range(1_000):
        ledger.enter(FREE, 0.0, warm=False)
    assert reason(ledger, FREE, warm=False) == TOO_FAST
    ledger.enter(FREE, 0.0, warm=True)
    ledger.enter(replace(FREE, function="g"), 0.0, warm=False)
    for _ in range(100):
        ledger.enter(FREE, 1.0, warm=False)
    assert reason(ledger, FREE, 1.0, warm=False) == TOO_FAST


@pytest.mark.parametrize("seed", range(20))
def test_the_ledger_against_a_plain_count(seed: int) -> None:
    rand = random.Random(seed)
    wants = [
        Want(Scope(), "r", 3, reserved_of_all=3, provisioned_of_all=2),
        Want(Scope(), "p", None, "p:1", 2, reserved_of_all=3, provisioned_of_all=2),
        Want(Scope(), "q", None, reserved_of_all=3, provisioned_of_all=2),
    ]
    ledger, running = Ledger(8), list[tuple[Want, int]]()
    for _ in range(400):
        if running and rand.random() < 0.5:
            want, number = running.pop(rand.randrange(len(running)))
            ledger.leave(want, number)
            continue
        want = rand.choice(wants)
        with contextlib.suppress(TooManyRequests):
            running.append((want, ledger.enter(want, 0.0, warm=True)))
        counts = {name: sum(one.function == name for one, _ in running) for name in "rpq"}
        assert counts["r"] <= 3
        assert sum(counts.values()) <= 8
        assert ledger.running("p") == counts["p"]
    for want, number in running:
        ledger.leave(want, number)
    assert not ledger._functions and not ledger._pools and not ledger._keys and not ledger._pooled


def test_invocations_that_needed_no_new_environment_do_not_use_up_growth() -> None:
    ledger = Ledger()
    for _ in range(3_000):
        ledger.leave(FREE, ledger.enter(FREE, 0.0, warm=False))
        ledger.give_back("f")
    for _ in range(1_000):
        ledger.leave(FREE, ledger.enter(FREE, 0.0, warm=False))
    assert reason(ledger, FREE, warm=False) == TOO_FAST
