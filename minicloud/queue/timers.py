"""When something is due in the queues of a broker: one heap with lazy deletion.

An entry may be stale (its messages were deleted, its queue is gone): that is found out when it is due. A consumer that
deletes what it receives leaves one such entry for each receive until the visibility timeout would have ended, up to 12
hours: so when the heap has doubled, what is stale is thrown out. It stays in proportion to what is in flight.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minicloud.queue.book import Queue

_WEIGHT_MIN = 20_000


class Timers:
    def __init__(self, queues: Mapping[int, Queue], wanted: Callable[[Queue, Any], bool]) -> None:
        """queues: those that live; wanted: whether an entry of one (queue, what) is still good for anything."""
        self._queues = queues
        self._wanted = wanted
        self._heap: list[tuple[int, int, Callable[[Queue, Any], None], Queue, Any, int]] = []
        self._serial = 0
        self._weight = 0
        self._weight_max = _WEIGHT_MIN

    def __len__(self) -> int:
        return len(self._heap)

    def due_ms(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def at(
        self, when_ms: int, action: Callable[[Queue, Any], None], queue: Queue, what: object = None, weight: int = 1
    ) -> None:
        """Call `action(queue, what)` at that time, unless the queue is gone then. weight: its number of messages."""
        self._serial += 1
        heapq.heappush(self._heap, (when_ms, self._serial, action, queue, what, weight))
        self._weight += weight
        if self._weight > self._weight_max:
            self._prune()

    def run(self, now_ms: int) -> None:
        """Everything that is due, in order; also what the actions add."""
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            _, _, action, queue, what, _ = heapq.heappop(heap)
            if self._queues.get(queue.number) is queue:
                action(queue, what)

    def _prune(self) -> None:
        """Costs O(messages of the entries), and comes after as many were added."""
        queues, wanted = self._queues, self._wanted
        self._heap[:] = [
            entry for entry in self._heap if queues.get(entry[3].number) is entry[3] and wanted(entry[3], entry[4])
        ]
        heapq.heapify(self._heap)
        self._weight = sum(entry[5] for entry in self._heap)
        self._weight_max = max(_WEIGHT_MIN, 2 * self._weight)
