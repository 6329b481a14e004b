"""What queues did and hold -> CloudWatch's metrics of SQS. Pure.

Source: SQS guide, "Available CloudWatch metrics for Amazon SQS". As there, a queue is reported for six hours after it
was last used or held a message; here every five minutes of AWS are one. Messages that the cloud moves to a dead-letter
queue are not sent ones. Sizes of messages are not reported.
"""

from __future__ import annotations

from collections.abc import Iterator

from minicloud.queue.book import Book, Queue, Tally
from minicloud.queue.rows import DELAYED, IN_FLIGHT, VISIBLE
from minicloud.shell.reports import Reading, Report

NAMESPACE = "AWS/SQS"
ACTIVE_S = 6 * 3_600  # the same page: a queue is active for up to six hours
QUEUES_MAX = 10_000  # ours: of one report; a metric store holds 100,000 series
AT_ONCE = 500  # ours: queues between two turns of the event loop


class QueueMeter:
    """Remembers when queues were last used. After a start every queue counts as used."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._used: dict[int, float] = {}
        self._asked = False

    def report(self, start: float) -> Iterator[list[Report]]:
        """Of the period that began at `start`, a part at a time: others may have their turn in between."""
        book = self._book
        tallies, book.tallies = book.tallies, {}
        if not self._asked:
            self._used = dict.fromkeys(book.queues, start)
            self._asked = True
        part: list[Report] = []
        reported = 0
        for looked, number in enumerate(list(book.queues), 1):
            queue = book.queues.get(number)
            if queue is not None and not queue.hidden and self._is_active(queue, number in tallies, start):
                if reported < QUEUES_MAX:
                    part.append(_report(book, queue, tallies.get(number) or Tally(), start))
                reported += 1
            if looked % AT_ONCE == 0:
                yield part
                part = []
        for number in self._used.keys() - book.queues.keys():
            del self._used[number]
        yield part

    def _is_active(self, queue: Queue, used: bool, start: float) -> bool:
        counts = queue.rows.counts
        if used or counts[VISIBLE] or counts[IN_FLIGHT] or counts[DELAYED]:
            self._used[queue.number] = start
            return True
        last = self._used.get(queue.number)
        if last is not None and last < start - ACTIVE_S:
            del self._used[queue.number]
            return False
        return last is not None


def _report(book: Book, queue: Queue, tally: Tally, start: float) -> Report:
    counts, oldest = queue.rows.counts, queue.rows.oldest()
    age_s = max(0, book.now_ms - oldest[0].sent[oldest[1]]) / 1000 if oldest is not None else 0.0
    values = {
        "ApproximateNumberOfMessagesVisible": counts[VISIBLE],
        "ApproximateNumberOfMessagesNotVisible": counts[IN_FLIGHT],
        "ApproximateNumberOfMessagesDelayed": counts[DELAYED],
        "NumberOfMessagesSent": tally.sent,
        "NumberOfMessagesReceived": tally.received,
        "NumberOfMessagesDeleted": tally.deleted,
        "NumberOfEmptyReceives": tally.empty,
    }
    readings = [Reading(name, "Count", (float(value),)) for name, value in values.items()]
    readings.append(Reading("ApproximateAgeOfOldestMessage", "Seconds", (age_s,)))
    return Report(queue.scope, NAMESPACE, (("QueueName", queue.name),), start, readings)
