"""Lines of logs that come with reports (rpc/reporter.py), on their way into the log service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.logs.model import Given
from minicloud.logs.service import LogService
from minicloud.metric.rpc import WriteLogs
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.logs")


def logs_of(service: LogService) -> WriteLogs:
    """For metric.rpc.ReportServicer. Lines of one stream are one batch, those of many streams share an fsync."""

    async def write(reports: Sequence[wire.LogReport]) -> int:
        by_stream: dict[tuple[Scope, str, str], list[Given]] = {}
        for report in reports:
            scope = Scope(report.account, report.region)
            events = by_stream.setdefault((scope, report.group, report.stream), [])
            events += [Given(at, text) for at, text in zip(report.times_ms, report.messages, strict=True)]
        return sum(await asyncio.gather(*(_write(service, *where, events) for where, events in by_stream.items())))

    return write


async def _write(service: LogService, scope: Scope, group: str, stream: str, events: Sequence[Given]) -> int:
    try:
        await service.write(scope, group, stream, events)
    except Unavailable:
        raise  # this process ends: the next one gets all of it again
    except CloudError as error:
        log.warning("%d lines of %s %s are dropped: %s", len(events), group, stream, error)
        return 1
    return 0
