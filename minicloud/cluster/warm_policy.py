"""How many never-used Ray workers a host keeps ready. Pure.

A worker costs about 0.6 s of CPU and 50 MB of its own; an actor that finds one ready starts in some 20 ms, one that
does not in some 600. The pool should hold what a burst of the recent past took, so that the next one finds its workers;
a burst larger than the pool's ceiling is bound by the CPU that starting workers costs, ready or not.
"""

from __future__ import annotations

from collections.abc import Sequence

FLOOR = 2  # an idle host: one launch, and one while its successor is being made
CEILING = 8  # 400 MB
BURST_S = 10.0  # launches this close together are one burst: a pool is not refilled much faster
MEMORY_S = 300.0  # how long a burst is remembered
BYTES_PER_WORKER = 50 * 1024 * 1024
MEMORY_SHARE = 0.05  # of what the host has free


def wanted_workers(launches: Sequence[float], now: float, floor: int = FLOOR, free_bytes: float = float("inf")) -> int:
    """`launches`: ascending times (s) of recent launches; `floor`: what the control plane asked for.

    The largest burst of the last MEMORY_S, at least `floor`, at most CEILING (or `floor`, where that is higher) and a
    twentieth of the free memory. O(n).
    """
    recent = [when for when in launches if now - when <= MEMORY_S]
    largest = first = 0
    for last, when in enumerate(recent):
        while when - recent[first] > BURST_S:
            first += 1
        largest = max(largest, last - first + 1)
    affordable = free_bytes * MEMORY_SHARE / BYTES_PER_WORKER
    return int(min(max(floor, min(largest, CEILING)), affordable))
