"""Which rules take an event, and what that may cost (shell/looking.py): some 10 ms of the event loop at the most.

A pattern costs its conditions, more of them where a text may be long, and each again for each element of a list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from minicloud.event import limits
from minicloud.event.model import Rule
from minicloud.event.patterns import Pattern, compile_pattern
from minicloud.shell.looking import Looking, Room
from minicloud.shell.patterns import Whole, tests_of

T = TypeVar("T")


def takes(pattern: Pattern, whole: Whole, size: int) -> bool:
    """size: of the event, in bytes. Raises TooMuch."""
    whole.spend(tests_of(pattern.weight, size))
    return pattern.takes(whole)


class Matching:
    """Belongs to one event loop."""

    def __init__(self) -> None:
        self._looking = Looking("ThrottlingException")
        self.close = self._looking.close

    async def rules_for(self, account: str, rules: Sequence[Rule], event: Mapping[str, Any], size: int) -> list[Rule]:
        """Those of `rules` that take it. Raises TooMuch, ThrottlingException."""

        def look(tests: int) -> list[Rule]:
            whole = Whole(event, tests)
            return [one for one in rules if takes(compile_pattern(one.pattern), whole, size)]

        return await self.look(account, look)

    async def look(self, account: str, work: Callable[[int], T]) -> T:
        """work: takes how many tests there may be; raises TooMuch beyond that."""
        room = Room(limits.TESTS_AT_ONCE, limits.TESTS_BESIDE, limits.BESIDE_MAX)
        return await self._looking.look(account, work, room)
