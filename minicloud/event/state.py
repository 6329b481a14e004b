"""The table of rules and its indexes: by scope, by target, by those that have a pattern, and by time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import takewhile
from math import inf
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.machine import ScopedTables, keep_sorted
from minicloud.event.model import KINDS, Rule

_PATTERN, _TARGET = "pattern", "target"
_BEHIND = "\U0010ffff"  # behind every key


class State(ScopedTables):
    """Every rule of one shard."""

    def __init__(self) -> None:
        super().__init__(KINDS)
        self.rules: dict[str, Rule] = self.tables[Rule.kind]
        self._due: list[tuple[float, str]] = []

    def with_pattern(self, scope: Scope) -> list[Rule]:
        """Enabled or not."""
        return [self.rules[key] for key in self.keys_under(_PATTERN, scope.key())]

    def of_target(self, arn: str) -> list[Rule]:
        return [self.rules[key] for key in self.keys_under(_TARGET, arn)]

    def next(self, after: float = -inf) -> float | None:
        at = bisect_right(self._due, (after, _BEHIND))
        return self._due[at][0] if at < len(self._due) else None

    def due(self, now: float) -> list[Rule]:
        return [self.rules[key] for when, key in takewhile(lambda one: one[0] <= now, self._due)]

    def holds(self, one: Rule) -> bool:
        return self.rules.get(one.arn) == one

    def keep(self, entity: Any, *, there: bool) -> None:
        super().keep(entity, there=there)
        if entity.next is not None:
            keep_sorted(self._due, (entity.next, entity.key), there)

    def parents(self, entity: Any) -> Iterator[tuple[str, str]]:
        if entity.pattern:
            yield (_PATTERN, entity.scope.key())
        for arn in {target.arn for target in entity.targets}:
            yield (_TARGET, arn)
