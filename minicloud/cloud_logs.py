"""Lines of logs that come with reports (rpc/reporter.py), on their way into the log service."""

from __future__ import annotations

import logging

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.logs.model import Given
from minicloud.logs.service import LogService
from minicloud.metric.rpc import WriteLogs
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.logs")


def logs_of(service: LogService) -> WriteLogs:
    """For metric.rpc.ReportServicer."""

    async def write(report: wire.LogReport) -> int:
        events = [Given(at, text) for at, text in zip(report.times_ms, report.messages, strict=True)]
        try:
            await service.write(Scope(report.account, report.region), report.group, report.stream, events)
        except Unavailable:
            raise  # this process ends: the next one gets all of it again
        except CloudError as error:
            log.warning("%d lines of %s %s are dropped: %s", len(events), report.group, report.stream, error)
            return 1
        return 0

    return write
