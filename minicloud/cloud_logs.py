"""Lines of logs that come with reports (rpc/reporter.py), on their way into the log service."""

from __future__ import annotations

import logging

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.logs.model import Given
from minicloud.logs.service import Lines, LogService
from minicloud.metric.rpc import WriteLogs
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.logs")


def logs_of(service: LogService) -> WriteLogs:
    """For metric.rpc.ReportServicer: how many lines were not taken. Those of one stream are one batch, those of many
    streams share an fsync.
    """

    async def write(request: wire.ReportRequest) -> int:
        by_stream: dict[tuple[Scope, str, str], list[Given]] = {}
        for report in request.logs:
            scope = Scope(report.account, report.region)
            events = by_stream.setdefault((scope, report.group, report.stream), [])
            events += [Given(at, text) for at, text in zip(report.times_ms, report.messages, strict=True)]
        lines = [Lines(*where, events) for where, events in by_stream.items()]
        try:
            return await service.report(request.source, request.number, lines)
        except Unavailable:
            raise  # this process ends: the next one gets all of it again
        except CloudError as error:
            log.warning("lines of %d log streams are dropped: %s", len(lines), error)
            return sum(len(one.events) for one in lines)

    return write
