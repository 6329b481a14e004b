"""A job bound by CPU: counts primes below a limit with a segmented sieve, over as many processes as there are vCPUs.

    python3 -m minicloud_workers.cpu_job --limit 50000000 --processes 2

Lines of JSON tell how far it is; the last has the count, which is checked against the known values of pi(10^n).
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from collections.abc import Iterator

from minicloud_workers.progress import Progress, Stopped, stop_on_signals

SEGMENT = 1 << 20
LIMIT_MAX = 10**12
KNOWN = {10**n: count for n, count in enumerate((0, 4, 25, 168, 1229, 9592, 78498, 664579, 5761455, 50847534))}


def small_primes(limit: int) -> list[int]:
    """Primes up to and including `limit`."""
    sieve = bytearray([1]) * (limit + 1)
    sieve[:2] = b"\0" * min(2, limit + 1)
    for number in range(2, math.isqrt(limit) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, limit + 1, number)))
    return [number for number in range(limit + 1) if sieve[number]]


def count_between(start: int, end: int) -> int:
    """Primes p with start <= p < end."""
    if end <= 2:
        return 0
    start = max(start, 2)
    sieve = bytearray([1]) * (end - start)
    for prime in small_primes(math.isqrt(end)):
        first = max(prime * prime, -(-start // prime) * prime)
        if first < end:
            sieve[first - start :: prime] = bytes(len(range(first, end, prime)))
    return sum(sieve)


def _segment(bounds: tuple[int, int]) -> tuple[int, int]:
    return bounds[1] - bounds[0], count_between(*bounds)


def segments(limit: int) -> Iterator[tuple[int, int]]:
    for start in range(0, limit, SEGMENT):
        yield start, min(start + SEGMENT, limit)


def run(limit: int, processes: int) -> int:
    """Count, telling progress; the exit code."""
    progress = Progress("cpu", limit, processes=processes)
    done = primes = 0
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        stop_on_signals()
        try:
            for size, count in pool.imap_unordered(_segment, segments(limit)):
                done += size
                primes += count
                progress.at(done, primes=primes)
        except Stopped:
            progress.finished(done, ok=False, primes=primes, reason="stopped")
            return 143
    right = KNOWN.get(limit, primes) == primes
    progress.finished(done, ok=right, primes=primes)
    return 0 if right else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="cpu_job", description="Count primes on every vCPU.")
    parser.add_argument("--limit", type=int, default=100_000_000, help="count primes below this (default 10^8)")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)), help="default: one a core")
    options = parser.parse_args()
    if not 1 <= options.limit <= LIMIT_MAX:
        parser.error(f"--limit must be from 1 to {LIMIT_MAX}")
    if not 1 <= options.processes <= 1024:
        parser.error("--processes must be from 1 to 1024")
    return run(options.limit, options.processes)


if __name__ == "__main__":
    sys.exit(main())
