"""What AWS says when a function does not come to an end of its own: error documents.

Texts as Lambda has them: https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
"""

from __future__ import annotations

import json
import signal
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
