"""What topics counted -> CloudWatch's metrics of SNS. Pure.

Source: SNS guide, "Monitoring Amazon SNS topics using CloudWatch". Topics that did nothing are not reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from minicloud.shell.reports import Reading, Report
from minicloud.topic.state import scope_of

NAMESPACE = "AWS/SNS"
PUBLISHED, SIZE = "NumberOfMessagesPublished", "PublishSize"


class TopicMeter:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self._before: dict[str, Counter[str]] = {}

    def report(self, counted: Mapping[str, Counter[str]], start: float) -> list[Report]:
        """counted: by topic ARN, since the start of the process. Of the period that began at `start`."""
        found = []
        for arn, now in counted.items():
            added = now - self._before.get(arn, Counter())
            if added:
                found.append(_report(arn, added, start))
                self._before[arn] = Counter(now)
        for arn in self._before.keys() - counted.keys():
            del self._before[arn]
        return found


def _report(arn: str, added: Counter[str], start: float) -> Report:
    readings = [Reading(name, "Count", (float(count),)) for name, count in added.items() if name != SIZE]
    if added[PUBLISHED]:
        readings.append(Reading(SIZE, "Bytes", (added[SIZE] / added[PUBLISHED],), (float(added[PUBLISHED]),)))
    return Report(scope_of(arn), NAMESPACE, (("TopicName", arn.rsplit(":", 1)[1]),), start, readings)
