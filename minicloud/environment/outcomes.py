"""What AWS says when a function does not come to an end of its own: error documents, START, END and REPORT lines.

Texts as Lambda has them: https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html;
its log lines, plain and JSON ("platform.start", "platform.report").
"""

from __future__ import annotations

import json
import math
import signal
import time
from dataclasses import dataclass

from minicloud.environment.limits import RESPONSE_BYTES_MAX

EXIT = "Runtime.ExitError"
OUT_OF_MEMORY = "Runtime.OutOfMemory"
TIMED_OUT = "Sandbox.Timedout"
TOO_LARGE = "Function.ResponseSizeTooLarge"
NO_BOOTSTRAP = "Runtime.InvalidEntrypoint"
_SIGNAL_WORDS = {9: "killed", 11: "segmentation fault", 6: "aborted"}


@dataclass(frozen=True, slots=True)
class Failure:
    """`kind`: the errorType. `payload`: the JSON document that the caller gets."""

    kind: str
    payload: bytes

    def of(self, request_id: str) -> Failure:
        """The same, of an invocation that was not known when it happened."""
        named = self.payload.replace(b'"RequestId:  Error: ', f'"RequestId: {request_id} Error: '.encode(), 1)
        return Failure(self.kind, named)


def failure(kind: str, message: str) -> Failure:
    return Failure(kind, json.dumps({"errorType": kind, "errorMessage": message}).encode())


def timed_out(request_id: str, timeout_s: float) -> Failure:
    return failure(TIMED_OUT, f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds")


def exited(request_id: str, status: int | None, *, out_of_memory: bool = False) -> Failure:
    """`status`: as a shell gives it; None: it is gone, and nobody knows why."""
    if out_of_memory:
        return failure(OUT_OF_MEMORY, f"RequestId: {request_id} Error: Runtime exited with error: signal: killed")
    if status is None or status == 0:
        return failure(EXIT, f"RequestId: {request_id} Error: Runtime exited without providing a reason")
    if status > 128:
        why = f"signal: {_SIGNAL_WORDS.get(status - 128) or _signal_name(status - 128)}"
    else:
        why = f"exit status {status}"
    return failure(EXIT, f"RequestId: {request_id} Error: Runtime exited with error: {why}")


def too_large() -> Failure:
    return failure(
        TOO_LARGE, f"Response payload size exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
    )


def no_bootstrap(request_id: str) -> Failure:
    text = "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    return failure(NO_BOOTSTRAP, f"RequestId: {request_id} Error: {text}")


def _signal_name(number: int) -> str:
    try:
        return signal.strsignal(number) or str(number)
    except ValueError:
        return str(number)


# ---------------------------------------------------------------- log lines


@dataclass(frozen=True, slots=True)
class Report:
    """What the last line of an invocation tells. `status`: "" where all went well, else timeout, error."""

    request_id: str
    duration_ms: float
    billed_ms: int
    memory_mib: int
    memory_max_mib: int
    init_ms: float | None = None
    status: str = ""
    error: str = ""


def billed(duration_ms: float, init_ms: float | None) -> int:
    """Whole milliseconds, initialisation included (AWS Lambda pricing, since August 2025)."""
    return math.ceil(duration_ms + (init_ms or 0.0))


def start_line(request_id: str, version: str, as_json: bool) -> str:
    if as_json:
        return _platform("start", {"requestId": request_id, "version": version})
    return f"START RequestId: {request_id} Version: {version}"


def end_lines(report: Report, as_json: bool) -> list[str]:
    if as_json:
        return [_platform("report", _record(report))]
    words = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mib} MB",
        f"Max Memory Used: {report.memory_max_mib} MB",
    ]
    if report.init_ms is not None:
        words.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.status:
        words.append(f"Status: {report.status}")
    if report.error and report.status == "error":
        words.append(f"Error Type: {report.error}")
    return [f"END RequestId: {report.request_id}", "\t".join(words) + "\t"]


def timeout_line(request_id: str, timeout_s: float, now: float) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return f"{stamp} {request_id} Task timed out after {timeout_s:.2f} seconds"


def _record(report: Report) -> dict[str, object]:
    metrics: dict[str, object] = {
        "durationMs": round(report.duration_ms, 3),
        "billedDurationMs": report.billed_ms,
        "memorySizeMB": report.memory_mib,
        "maxMemoryUsedMB": report.memory_max_mib,
    }
    if report.init_ms is not None:
        metrics["initDurationMs"] = round(report.init_ms, 3)
    record: dict[str, object] = {
        "requestId": report.request_id,
        "metrics": metrics,
        "status": report.status or "success",
    }
    if report.error and report.status == "error":
        record["errorType"] = report.error
    return record


def _platform(kind: str, record: dict[str, object]) -> str:
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    return json.dumps({"time": stamp, "type": f"platform.{kind}", "record": record}, separators=(",", ":"))
