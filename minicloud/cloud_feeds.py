"""What a process measures, reported at every full minute (or ten seconds): for control plane, brokers, balancers.

Data of a period leave at once when it ends, because alarms look at it two seconds later (metric/limits.py).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from minicloud.base.errors import CloudError
from minicloud.rpc.reporter import Reporter
from minicloud.settings import AUTOSCALER, CloudSettings
from minicloud.shell.background import Background
from minicloud.shell.clock import Clock
from minicloud.shell.reports import MINUTE_S, NoReports, Report, Reports

log = logging.getLogger("minicloud.feeds")

Measure = Callable[[int], Awaitable[Sequence[Report]]]


class Feed(Background):
    """Calls `measure(moment)` at each full period, Unix seconds, and hands on what it says."""

    def __init__(self, measure: Measure, reports: Reports, clock: Clock, period_s: int = MINUTE_S) -> None:
        self._measure = measure
        self._reports = reports
        self._clock = clock
        self._period_s = period_s

    async def _run(self) -> None:
        """Moments that were missed (the machine slept) are passed over: what was added then is in the next report."""
        last = 0
        while True:
            moment = (max(int(self._clock.wall()), last) // self._period_s + 1) * self._period_s
            last = moment
            await self._clock.sleep(moment - self._clock.wall())
            try:
                self._reports.report(await self._measure(moment))
            except CloudError as error:
                log.warning("nothing is reported this time: %s", error)
            except Exception:
                log.exception("nothing is reported this time")


def way_to_metrics(cloud: CloudSettings, secret: bytes, name: str) -> Reporter | None:
    """To the autoscaler's socket: for processes on the head. None: this cloud has no autoscaler."""
    if not cloud.autoscalers:
        return None
    return Reporter(f"unix:{cloud.shard_socket(AUTOSCALER, 0)}", secret, name)


class Reporting:
    """What one process measures, on its way. Without an autoscaler nothing is measured."""

    def __init__(self, reporter: Reporter | None, measure: Measure, clock: Clock, period_s: int = MINUTE_S) -> None:
        self.reporter = reporter
        self._feed = Feed(measure, reporter or NoReports(), clock, period_s)

    def start(self) -> None:
        if self.reporter is not None:
            self.reporter.start()
            self._feed.start()

    def lost(self) -> dict[str, float]:
        """For the metrics page: what could not be delivered."""
        way = self.reporter
        return {} if way is None else {"reports": float(way.dropped), "log_lines": float(way.lines_dropped)}

    async def close(self) -> None:
        await self._feed.close()
        if self.reporter is not None:
            await self.reporter.close()
