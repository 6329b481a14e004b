"""What a Python handler is given beside its event, and how its log lines look: as in AWS's runtime.

Text: `[LEVEL]<tab>2026-01-31T12:00:00.123Z<tab>request id<tab>message`. JSON: one object a line, with timestamp, level,
message, logger and requestId. Levels and format come from AWS_LAMBDA_LOG_LEVEL and AWS_LAMBDA_LOG_FORMAT.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REQUEST_ID = [""]  # of the invocation under way
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "aws_request_id", "taskName"}
_VARIABLES = {
    "function_name": "AWS_LAMBDA_FUNCTION_NAME",
    "function_version": "AWS_LAMBDA_FUNCTION_VERSION",
    "memory_limit_in_mb": "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "log_group_name": "AWS_LAMBDA_LOG_GROUP_NAME",
    "log_stream_name": "AWS_LAMBDA_LOG_STREAM_NAME",
}
_OF_ALL: dict[str, str] = {}  # of every invocation the same
_LEVELS = {"TRACE": logging.DEBUG, "FATAL": logging.CRITICAL, "WARN": logging.WARNING}


class Context:
    """The second argument of a handler."""

    def __init__(self, headers: dict[bytes, bytes], request_id: str) -> None:
        if not _OF_ALL:
            _OF_ALL.update({name: os.environ.get(variable, "") for name, variable in _VARIABLES.items()})
        self.aws_request_id = request_id
        self.function_name = _OF_ALL["function_name"]
        self.function_version = _OF_ALL["function_version"]
        self.memory_limit_in_mb = _OF_ALL["memory_limit_in_mb"]
        self.log_group_name = _OF_ALL["log_group_name"]
        self.log_stream_name = _OF_ALL["log_stream_name"]
        self.invoked_function_arn = headers.get(b"lambda-runtime-invoked-function-arn", b"").decode()
        self.tenant_id = None
        self._epoch_deadline_time_in_ms = int(headers.get(b"lambda-runtime-deadline-ms", b"0"))
        self.client_context = _client_context(headers.get(b"lambda-runtime-client-context"))
        self.identity = CognitoIdentity(headers.get(b"lambda-runtime-cognito-identity"))

    def get_remaining_time_in_millis(self) -> int:
        """0 when it is over."""
        return max(0, self._epoch_deadline_time_in_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """A line of the function's log, without any prefix."""
        sys.stdout.write(f"{message}\n")

    def __repr__(self) -> str:
        public = ",".join(f"{name}={value}" for name, value in vars(self).items() if not name.startswith("_"))
        return f"LambdaContext([{public}])"


class CognitoIdentity:
    """Whom a mobile application's user is; empty for everybody else."""

    def __init__(self, text: bytes | None) -> None:
        said = json.loads(text) if text else {}
        self.cognito_identity_id = said.get("cognitoIdentityId")
        self.cognito_identity_pool_id = said.get("cognitoIdentityPoolId")


class Client:
    """The application of a client context."""

    def __init__(self, said: dict[str, Any]) -> None:
        for name in ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"):
            setattr(self, name, said.get(name))


class ClientContext:
    def __init__(self, said: dict[str, Any]) -> None:
        self.custom = said.get("custom")
        self.env = said.get("env")
        self.client = Client(said["client"]) if isinstance(said.get("client"), dict) else None


def _client_context(text: bytes | None) -> ClientContext | None:
    if not text:
        return None
    said = json.loads(text)
    return ClientContext(said) if isinstance(said, dict) else None


# ---------------------------------------------------------------- logging


class _Handler(logging.Handler):
    """Writes to stdout whatever it is at the moment: handlers may replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record).replace("\n", "\r") + "\n")
        except Exception:
            self.handleError(record)


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s")
        self.datefmt = "%Y-%m-%dT%H:%M:%S"
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.aws_request_id = REQUEST_ID[0]
        return super().format(record)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": REQUEST_ID[0],
        }
        said.update({name: value for name, value in vars(record).items() if name not in _PLAIN})
        if record.exc_info and record.exc_info[0]:
            said["errorType"] = record.exc_info[0].__name__
            said["errorMessage"] = str(record.exc_info[1])
            said["stackTrace"] = self.formatException(record.exc_info).splitlines()
        return json.dumps(said, default=str)


def set_up_logging() -> None:
    """One handler on the root logger, before the function's code is loaded."""
    handler = _Handler()
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
    handler.setFormatter(_Json() if as_json else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    root.setLevel(_LEVELS.get(level, level) if level else logging.INFO if as_json else logging.WARNING)


def write_json(level: str, message: str, more: dict[str, Any]) -> None:
    said = {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "level": level,
        "errorMessage": message,
        "requestId": REQUEST_ID[0],
        **more,
    }
    sys.stdout.write(json.dumps(said) + "\n")
