"""Progress of a job as lines of JSON on stdout: one at the start, at most one a second, one at the end."""

from __future__ import annotations

import json
import signal
import time

EVERY_S = 1.0


class Stopped(Exception):
    """SIGTERM or SIGINT came: finish what is at hand and say how far it got."""


class Progress:
    """`done` and `total` in units of the job's own."""

    def __init__(self, job: str, total: float | None, **facts: object) -> None:
        self._job = job
        self._total = total
        self._started = self._last = time.monotonic()
        self._say({"event": "started", "total": total, **facts})

    def at(self, done: float, **facts: object) -> None:
        """Say how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._last >= EVERY_S:
            self._last = now
            self._say({"event": "progress", "done": done, **self._share(done), **facts})

    def finished(self, done: float, ok: bool = True, **facts: object) -> None:
        self._say({"event": "finished" if ok else "failed", "done": done, **self._share(done), **facts})

    def _share(self, done: float) -> dict[str, object]:
        return {"percent": round(100 * done / self._total, 1)} if self._total else {}

    def _say(self, fields: dict[str, object]) -> None:
        seconds = round(time.monotonic() - self._started, 3)
        print(json.dumps({"job": self._job, "seconds": seconds, **fields}), flush=True)


def stop_on_signals() -> None:
    """SIGTERM and SIGINT raise Stopped in the main thread."""

    def stop(*_: object) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
