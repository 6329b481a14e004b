"""What fires by time: one that cannot keeps no other from its own time, and is done again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import ClassVar

import pytest

from minicloud.base.errors import Throttled
from minicloud.base.machine import Entity
from minicloud.shell import firing
from minicloud.shell.clock import VirtualClock
from minicloud.shell.firing import AGAIN_S, Firing


@dataclass(frozen=True, slots=True)
class One(Entity):
    kind: ClassVar[str] = "one"

    arn: str
    at: float


class Table:
    def __init__(self, *ones: One) -> None:
        self.ones = {one.arn: one for one in ones}

    def next(self, after: float = -inf) -> float | None:
        return min((one.at for one in self.ones.values() if one.at > after), default=None)

    def due(self, now: float) -> list[One]:
        return sorted((one for one in self.ones.values() if one.at <= now), key=lambda one: one.at)

    def holds(self, one: One) -> bool:
        return self.ones.get(one.arn) == one


@pytest.mark.parametrize("error", [Throttled("full"), ValueError("oops")])
async def test_one_that_fails_is_done_again_and_keeps_no_other_from_its_time(error: Exception) -> None:
    clock = VirtualClock(1_000.0)
    table = Table(One("bad", 1_010.0), *(One(f"good{number}", 1_010.0 + number) for number in range(4)))
    fired: list[tuple[str, float]] = []

    async def fire(one: One) -> None:
        fired.append((one.arn, clock.wall()))
        if one.arn == "bad" and clock.wall() < 1_010.0 + 2 * AGAIN_S:
            raise error
        table.ones[one.arn] = replace(one, at=one.at + 1_000)

    made = Firing("one", table, fire, clock)
    made.follow()
    for _ in range(40):
        await clock.advance(0.5)
        made.follow()  # the table changes all the time
    assert [at for arn, at in fired if arn == "bad"] == [1_010.0 + AGAIN_S * tries for tries in range(3)]
    assert [at for arn, at in fired if arn != "bad"] == [1_010.0, 1_011.0, 1_012.0, 1_013.0]
    await made.stop()


async def test_many_that_are_due_together_fire_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing, "AT_ONCE_MAX", 4)
    clock = VirtualClock(1_000.0)
    table = Table(*(One(f"{number}", 1_010.0) for number in range(10)))

    async def fire(one: One) -> None:
        await clock.sleep(1.0)
        del table.ones[one.arn]

    made = Firing("one", table, fire, clock)
    made.follow()
    await clock.advance(10.0)
    left = []
    for _ in range(3):
        await clock.advance(1.0)
        left.append(len(table.ones))
    assert left == [6, 2, 0]
    await made.stop()
