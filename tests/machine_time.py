"""Time limits on machines that are busy: a promise holds where work gets the processor, and tests run where it waits.

A limit of five seconds is over after five in which nobody of the machine waited for a processor or the disk, as the
kernel counts them (pressure stall information, /proc/pressure); after PATIENCE times five in any case, or where the
kernel does not count.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 4
_STALLED = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)  # microseconds since the machine started


def stalled_s() -> float | None:
    """Seconds in which some work waited, since the machine started."""
    try:
        found = [_STALLED.search(Path(f"/proc/pressure/{name}").read_text()) for name in ("cpu", "io")]
    except OSError:
        return None
    return sum(int(one[1]) for one in found if one is not None) / 1e6


class Limit:
    """From now on."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began, self._stalled = time.monotonic(), stalled_s()

    def is_over(self) -> bool:
        return self.spent_s() > self.seconds

    def spent_s(self) -> float:
        """What counts of the time since."""
        elapsed, stalled = time.monotonic() - self._began, stalled_s()
        if stalled is None or self._stalled is None:
            return elapsed / PATIENCE
        return max(elapsed / PATIENCE, elapsed - (stalled - self._stalled))


@contextlib.contextmanager
def within(seconds: float) -> Iterator[float]:
    """What is done inside takes no longer; the timeout to give to it."""
    limit = Limit(seconds)
    yield seconds * PATIENCE
    spent = limit.spent_s()
    assert spent <= seconds, f"took {spent:.1f} s, and may take {seconds}"
