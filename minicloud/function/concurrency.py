"""Who may run now: the decision before an invocation, and the ledger that it is taken from.

    reserved       a function with reserved concurrency has that many at once, and nobody else can use them
    provisioned    what is kept warm for a version or alias belongs to it; what it needs beyond comes from the pool
    pool           the rest of the account's concurrency, shared by all functions without reserved concurrency
    growth         environments of one function come up by at most SCALE_STEP in SCALE_STEP_S

Concurrency is the number of invocations that run. Source: guide, "Understanding Lambda function scaling" and
"Configuring reserved concurrency". Where we differ: requests are not limited to ten a second for each of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from minicloud.base.arn import Scope
from minicloud.function import errors, limits

RESERVED_FULL = "ReservedFunctionConcurrentInvocationLimitExceeded"
POOL_EMPTY = "ConcurrentInvocationLimitExceeded"
TOO_FAST = "FunctionInvocationRateLimitExceeded"


@dataclass(frozen=True, slots=True)
class Want:
    """One invocation. `key`: the ARN that concurrency is provisioned for, `provisioned` how much (0: none).

    `reserved_of_all`, `provisioned_of_all`: sums over the account's functions; the latter of those without reserved.
    """

    scope: Scope
    function: str
    reserved: int | None
    key: str = ""
    provisioned: int = 0
    reserved_of_all: int = 0
    provisioned_of_all: int = 0


class Ledger:
    """Counts of what runs. `enter` before, `leave` after, with the same Want."""

    def __init__(self, account: int = limits.ACCOUNT_CONCURRENCY) -> None:
        self._account = account
        self._functions: Counter[str] = Counter()
        self._keys: Counter[str] = Counter()
        self._pools: Counter[Scope] = Counter()
        self._growth: dict[str, tuple[float, float]] = {}  # function -> tokens left, when
        self._pooled: set[int] = set()
        self._serial = 0

    def running(self, function: str) -> int:
        return self._functions[function]

    def enter(self, want: Want, now: float, *, warm: bool) -> int:
        """A number for `leave`. `warm`: an environment waits for it. Raises TooManyRequests."""
        pooled = want.reserved is None and self._keys[want.key] >= want.provisioned
        if want.reserved is not None and self._functions[want.function] >= want.reserved:
            raise errors.throttled(RESERVED_FULL)
        if pooled:
            size = self._account - want.reserved_of_all - want.provisioned_of_all
            if self._pools[want.scope] >= size:
                raise errors.throttled(POOL_EMPTY)
        if not warm:
            self._grow(want.function, now)
        self._functions[want.function] += 1
        if want.provisioned:
            self._keys[want.key] += 1
        self._serial += 1
        if pooled:
            self._pools[want.scope] += 1
            self._pooled.add(self._serial)
        return self._serial

    def leave(self, want: Want, number: int) -> None:
        _less(self._functions, want.function)
        if want.provisioned:
            _less(self._keys, want.key)
        if number in self._pooled:
            self._pooled.remove(number)
            _less(self._pools, want.scope)

    def give_back(self, function: str) -> None:
        """One that entered as not warm needed no new environment after all: another was free in time."""
        tokens, then = self._growth.get(function, (float(limits.SCALE_STEP), 0.0))
        self._growth[function] = (min(tokens + 1.0, float(limits.SCALE_STEP)), then)

    def _grow(self, function: str, now: float) -> None:
        """Takes one of the tokens that come back by SCALE_STEP in SCALE_STEP_S."""
        tokens, then = self._growth.get(function, (float(limits.SCALE_STEP), now))
        back = max(now - then, 0.0) * limits.SCALE_STEP / limits.SCALE_STEP_S
        tokens = min(tokens + back, float(limits.SCALE_STEP))
        if tokens < 1.0:
            raise errors.throttled(TOO_FAST)
        self._growth[function] = (tokens - 1.0, now)
        if len(self._growth) > 4 * limits.SCALE_STEP:
            full = [key for key, (_, since) in self._growth.items() if now - since > limits.SCALE_STEP_S]
            for key in full:
                del self._growth[key]


def _less(counts: Counter[Any], key: object) -> None:
    counts[key] -= 1
    if counts[key] <= 0:
        del counts[key]
