"""What the platform itself writes to a function's log: START, END and REPORT lines, or their JSON; and which lines of
the function's own its level lets through.

    plain text   every line, whatever it says
    JSON         by level: what went well is INFO (start, report) or DEBUG (the rest), what did not is WARN
                 a line of the function's that is an object with a `level` has that one, any other is INFO

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html, and its "event mapping".
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minicloud.function.ports import LogSettings
from minicloud.function.tracing import Trace

_LEVELS = {"TRACE": 0, "DEBUG": 1, "INFO": 2, "WARN": 3, "ERROR": 4, "FATAL": 5, "WARNING": 3, "CRITICAL": 5}
_INFO = _LEVELS["INFO"]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What the last line of an invocation tells. `status`: "" where all went well, else timeout, error.

    `trace`: where it is traced.
    """

    request_id: str
    duration_ms: float
    billed_ms: int
    memory_mib: int
    memory_max_mib: int
    init_ms: float | None = None
    status: str = ""
    error: str = ""
    trace: Trace | None = None


def billed(duration_ms: float, init_ms: float | None) -> int:
    """Whole milliseconds, initialisation included (AWS Lambda pricing, since August 2025)."""
    return math.ceil(duration_ms + (init_ms or 0.0))


class SystemLog:
    """Of the functions of one configuration."""

    def __init__(self, settings: LogSettings) -> None:
        self._json = settings.format == "JSON"
        self._level = _LEVELS.get(settings.system_level, _INFO)

    def init(self, name: str, kind: str, init_ms: float) -> list[str]:
        """An environment is up. `kind`: on-demand or provisioned-concurrency."""
        if not self._json:
            return []
        which = {"initializationType": kind, "phase": "init"}
        done = {**which, "status": "success"}
        asked = "INFO" if kind != "on-demand" else "DEBUG"
        metrics = {"durationMs": round(init_ms, 3)}
        return [
            *self._said("initStart", "DEBUG", {**which, "instanceId": name}),
            *self._said("initRuntimeDone", "DEBUG", done),
            *self._said("initReport", asked, {**done, "metrics": metrics}),
        ]

    def start(self, request_id: str, version: str) -> list[str]:
        if not self._json:
            return [f"START RequestId: {request_id} Version: {version}"]
        return self._said("start", "INFO", {"requestId": request_id, "version": version})

    def end(self, report: Report, timeout_s: float) -> list[str]:
        if not self._json:
            late = [_timeout_line(report.request_id, timeout_s, time.time())] if report.status == "timeout" else []
            return [*late, f"END RequestId: {report.request_id}", _report_line(report)]
        well = not report.status
        done: Record = {"requestId": report.request_id, "status": report.status or "success"}
        if report.status == "error" and report.error:
            done["errorType"] = report.error
        if report.trace is not None:
            value = {"spanId": report.trace.segment, "type": "X-Amzn-Trace-Id", "value": report.trace.header}
            done["tracing"] = value
        short = {"durationMs": round(report.duration_ms, 3)}
        return [
            *self._said("runtimeDone", "DEBUG" if well else "WARN", {**done, "metrics": short}),
            *self._said("report", "INFO" if well else "WARN", {**done, "metrics": _metrics(report)}),
        ]

    def _said(self, kind: str, level: str, record: Record) -> list[str]:
        if _LEVELS[level] < self._level:
            return []
        said = {"time": _stamp(time.time()), "type": f"platform.{kind}", "record": record}
        return [json.dumps(said, separators=(",", ":"))]


def filter_of(settings: LogSettings) -> Callable[[bytes], bool] | None:
    """Which lines of the function's own are kept; None: all."""
    least = _LEVELS.get(settings.application_level, 0)
    if settings.format != "JSON" or not least:
        return None
    return lambda line: _level_of(line) >= least


def _level_of(line: bytes) -> int:
    if b'"level"' not in line:
        return _INFO
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return _INFO
    level = said.get("level") if isinstance(said, dict) else None
    return _LEVELS.get(level.upper(), _INFO) if isinstance(level, str) else _INFO


def _report_line(report: Report) -> str:
    words = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mib} MB",
        f"Max Memory Used: {report.memory_max_mib} MB",
    ]
    if report.init_ms is not None:
        words.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.trace is not None:
        words += [f"XRAY TraceId: {report.trace.root}", f"SegmentId: {report.trace.segment}", "Sampled: true"]
    if report.status:
        words.append(f"Status: {report.status}")
    if report.error and report.status == "error":
        words.append(f"Error Type: {report.error}")
    return "\t".join(words) + "\t"


def _metrics(report: Report) -> Record:
    metrics: Record = {
        "durationMs": round(report.duration_ms, 3),
        "billedDurationMs": report.billed_ms,
        "memorySizeMB": report.memory_mib,
        "maxMemoryUsedMB": report.memory_max_mib,
    }
    if report.init_ms is not None:
        metrics["initDurationMs"] = round(report.init_ms, 3)
    return metrics


def _timeout_line(request_id: str, timeout_s: float, now: float) -> str:
    return f"{_stamp(now)} {request_id} Task timed out after {timeout_s:.2f} seconds"


def _stamp(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
