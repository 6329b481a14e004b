"""What rules did since it was last reported: AWS/Events' metrics, by rule.

Source: guide, "Monitoring Amazon EventBridge". Rules that did nothing are not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from minicloud.base.arn import Scope
from minicloud.shell.reports import Reading, Report

NAMESPACE = "AWS/Events"
MATCHED, TRIGGERED = "MatchedEvents", "TriggeredRules"
INVOCATIONS, FAILED = "Invocations", "FailedInvocations"
SUCCESSFUL, RETRIED = "SuccessfulInvocationAttempts", "RetryInvocationAttempts"
DEAD, DEAD_FAILED = "InvocationsSentToDlq", "InvocationsFailedToBeSentToDlq"


class Meter:
    """`on_first`: called when there is something to report again."""

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self._on_first = on_first
        self._counts: dict[tuple[Scope, str], Counter[str]] = {}

    def count(self, scope: Scope, rule_arn: str, *metrics: str) -> None:
        """One more of each."""
        if not self._counts:
            self._on_first()
        self._counts.setdefault((scope, rule_arn.rpartition("/")[2]), Counter()).update(metrics)

    def report(self, now: float) -> list[Report]:
        """And begin anew."""
        counts, self._counts = self._counts, {}
        return [
            Report(
                scope,
                NAMESPACE,
                (("RuleName", rule),),
                now,
                [Reading(name, "Count", [float(count)]) for name, count in counted.items()],
            )
            for (scope, rule), counted in counts.items()
        ]
