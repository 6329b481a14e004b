"""A first-in-first-out line of sequence numbers, kept as ranges: one packed int for each run of consecutive numbers."""

from __future__ import annotations

from collections import deque

_BITS = 24
_RUN_MAX = (1 << _BITS) - 1


_NONE: deque[int] = deque(maxlen=0)  # what an empty line shares with all others: a deque costs 600 bytes


class Ranges:
    """`start << 24 | count` in a deque. Entries may be stale (their message is gone); whoever pops checks the state."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs = _NONE

    def __bool__(self) -> bool:
        return bool(self._runs)

    def push(self, start: int, count: int) -> None:
        """Append `start .. start+count-1`; joins the last run where it continues it."""
        runs = self._runs
        if runs is _NONE:
            runs = self._runs = deque()
        while count > 0:
            if runs:
                last = runs[-1]
                size = last & _RUN_MAX
                if (last >> _BITS) + size == start and size < _RUN_MAX:
                    step = min(count, _RUN_MAX - size)
                    runs[-1] = last + step
                    start, count = start + step, count - step
                    continue
            step = min(count, _RUN_MAX)
            runs.append(start << _BITS | step)
            start, count = start + step, count - step

    def head(self) -> tuple[int, int]:
        """The first run: (start, count). Raises IndexError when empty."""
        run = self._runs[0]
        return run >> _BITS, run & _RUN_MAX

    def cut(self, count: int) -> None:
        """Remove the first `count` numbers of the first run."""
        run = self._runs[0]
        size = run & _RUN_MAX
        if count >= size:
            self._runs.popleft()
        else:
            self._runs[0] = ((run >> _BITS) + count) << _BITS | (size - count)
