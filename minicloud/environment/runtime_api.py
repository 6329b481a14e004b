"""The Lambda Runtime API of one environment: what its runtime asks and answers, as HTTP paths.

    GET  /2018-06-01/runtime/invocation/next           waits for an event; headers: id, deadline, ARN, trace, context
    POST /2018-06-01/runtime/invocation/<id>/response  202; whole, or streamed (Lambda-Runtime-Function-Response-Mode)
    POST /2018-06-01/runtime/invocation/<id>/error     202
    POST /2018-06-01/runtime/init/error                202; before the first `next` only

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Refusals: 400 InvalidRequestID for another id than the
one under way, 403 InvalidStateTransition for a word out of turn, 413 for a response above 6 MiB, 404 for other paths.

The order is `next`, answer, `next`, ...: `next` before the answer is out of turn. A parked `next` whose connection
closes is forgotten; the environment is idle again when another one comes. The API runs on the event loop of everybody:
a runtime that is refused, or connects, REFUSALS_MAX times between two events is ended.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from typing import Protocol

from minicloud.environment.limits import CONNECTIONS_MAX, ERROR_BYTES_MAX, REFUSALS_MAX, RESPONSE_BYTES_MAX
from minicloud.environment.outcomes import Failure, failure, too_large
from minicloud.environment.runtime_http import BodySink, Connection, reply
from minicloud.function.limits import STREAM_BYTES_MAX
from minicloud.function.ports import Invocation, Sink

NEXT = "/2018-06-01/runtime/invocation/next"
_ANSWER = re.compile(r"/2018-06-01/runtime/invocation/([^/]{1,128})/(response|error)")
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_ACCEPTED = reply(202, b'{"status":"OK"}')
_KIND = "lambda-runtime-function-error-type"
_STREAM_QUEUE_MAX = 1024 * 1024
_BROKEN_S = 0.1  # a runtime that dies closes its connections first; that it has died says more
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_KIND_USUAL = "Runtime.UnknownReason"


class Runner(Protocol):
    """Whose API it is."""

    def runtime_ready(self) -> None:
        """It asks for an event."""
        ...

    def runtime_answered(self, payload: bytes, failed: Failure | None) -> None:
        """Of the invocation under way."""
        ...

    def runtime_never(self, failed: Failure) -> None:
        """It will not come up, or not go on."""
        ...

    def runtime_closed(self) -> None:
        """The connection that it was born with is gone."""
        ...


class RuntimeApi:
    """Fulfils `runtime_http.Api`."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._connections: set[Connection] = set()
        self._parked: Connection | None = None
        self._invocation: Invocation | None = None
        self._begun = False
        self._asked = False  # for an event, and the runner does not know yet
        self._refusals = 0

    @property
    def parked(self) -> bool:
        return self._parked is not None

    def dispatch(self, invocation: Invocation, deadline_ms: int) -> None:
        """To the runtime that waits."""
        assert self._parked is not None
        self._invocation, self._refusals = invocation, 0
        connection, self._parked = self._parked, None
        headers = (
            f"Lambda-Runtime-Aws-Request-Id: {invocation.request_id}\r\n"
            f"Lambda-Runtime-Deadline-Ms: {deadline_ms}\r\n"
            f"Lambda-Runtime-Invoked-Function-Arn: {invocation.arn}\r\n"
        )
        if invocation.trace_id:
            headers += f"Lambda-Runtime-Trace-Id: {_one_line(invocation.trace_id)}\r\n"
        if invocation.client_context:
            context = _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], invocation.client_context)
            headers += f"Lambda-Runtime-Client-Context: {_one_line(context)}\r\n"
        connection.answer(reply(200, invocation.payload or b"{}", headers))  # as Lambda does without a payload

    def close(self) -> None:
        self._parked = self._invocation = None
        for connection in list(self._connections):
            connection.close()

    # ------------------------------------------------------------ runtime_http.Api

    def opened(self, connection: Connection) -> bool:
        if len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections.add(connection)
        self._strike()
        return True

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._parked is connection:
            self._parked = None
        if connection.own:
            self._runner.runtime_closed()

    def handle(
        self, connection: Connection, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> bytes | None:
        if method == "GET" and path == NEXT:
            return self._next(connection)
        if method == "POST":
            match = _ANSWER.fullmatch(path)
            if match is not None:
                return self._answer(match[1], match[2], headers, body)
            if path == _INIT_ERROR:
                return self._init_error(headers, body)
        return self._refused(404, "InvalidPath", f"there is no {method[:16]} {path[:256]}")

    def streams(self, connection: Connection, method: str, path: str, headers: Mapping[str, str]) -> BodySink | None:
        match = _ANSWER.fullmatch(path) if method == "POST" else None
        if match is None or match[2] != "response" or self._invocation is None:
            return None
        if headers.get("lambda-runtime-function-response-mode", "").lower() != "streaming":
            return None
        if match[1] != self._invocation.request_id or self._invocation.sink is None:
            return None
        return _Stream(self, connection, self._invocation, headers)

    def _next(self, connection: Connection) -> bytes | None:
        if self._invocation is not None or (self._parked is not None and self._parked is not connection):
            return self._refused(403, "InvalidStateTransition", "Transition from Running to Ready is not allowed")
        self._parked = connection
        self._begun = self._asked = True
        return None

    def read(self, connection: Connection) -> None:
        """Not before: what the runner is told may come back as `dispatch`."""
        if self._asked and self._parked is connection:
            self._asked = False
            self._runner.runtime_ready()

    def _answer(self, request_id: str, what: str, headers: Mapping[str, str], body: bytes) -> bytes:
        if self._invocation is None or self._invocation.request_id != request_id:
            return self._refused(400, "InvalidRequestID", "Invalid request ID")
        self._invocation = None
        failed = _failure(headers, body) if what == "error" else None
        self._runner.runtime_answered(body, failed)
        return _ACCEPTED

    def too_long(self, path: str) -> bytes:
        match = _ANSWER.fullmatch(path)
        if match is not None and self._invocation is not None and match[1] == self._invocation.request_id:
            self._invocation = None
            failed = too_large()
            self._runner.runtime_answered(failed.payload, failed)
        text = f"Exceeded maximum allowed payload size ({RESPONSE_BYTES_MAX} bytes)."
        return self._refused(413, "RequestEntityTooLarge", text)

    def finished(self, invocation: Invocation, failed: Failure | None) -> bytes:
        """A streamed answer is complete."""
        if self._invocation is not invocation:
            return self._refused(400, "InvalidRequestID", "Invalid request ID")
        self._invocation = None
        self._runner.runtime_answered(b"" if failed is None else failed.payload, failed)
        return _ACCEPTED

    def _refused(self, status: int, kind: str, text: str) -> bytes:
        self._strike()
        return reply(status, json.dumps({"errorMessage": text, "errorType": kind}).encode())

    def _strike(self) -> None:
        self._refusals += 1
        if self._refusals == REFUSALS_MAX:
            self._runner.runtime_never(failure("Runtime.Unruly", f"the runtime was refused {REFUSALS_MAX} times"))

    def _init_error(self, headers: Mapping[str, str], body: bytes) -> bytes:
        if self._begun:
            return self._refused(403, "InvalidStateTransition", "Transition from Ready to InitError is not allowed")
        self._begun = True
        self._runner.runtime_never(_failure(headers, body))
        return _ACCEPTED


class _Stream:
    """A response on its way to who reads it while it is made. The runtime is read no faster than that."""

    def __init__(
        self, api: RuntimeApi, connection: Connection, invocation: Invocation, headers: Mapping[str, str]
    ) -> None:
        assert invocation.sink is not None
        self._api = api
        self._connection = connection
        self._invocation = invocation
        self._sink: Sink = invocation.sink
        self._kind = headers.get("content-type", "application/octet-stream")
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._queued = 0
        self._size = 0
        self._trailers: Mapping[str, str] = {}
        self._task = asyncio.ensure_future(self._pump())

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > STREAM_BYTES_MAX or self._task.done():
            return
        self._queue.put_nowait(data)
        self._queued += len(data)
        if self._queued > _STREAM_QUEUE_MAX:
            self._connection.hold("reader")

    def finish(self, trailers: Mapping[str, str]) -> bytes | None:
        self._trailers = trailers
        self._queue.put_nowait(None)
        return _ACCEPTED

    def broken(self) -> None:
        self._task.cancel()
        failed = failure("Runtime.TruncatedResponse", "the response ended before its end")
        asyncio.get_running_loop().call_later(_BROKEN_S, self._api.finished, self._invocation, failed)

    async def _pump(self) -> None:
        failed: Failure | None = None
        try:
            await self._sink.open(self._kind)
            while (chunk := await self._queue.get()) is not None:
                await self._sink.write(chunk)
                self._queued -= len(chunk)
                if self._queued <= _STREAM_QUEUE_MAX:
                    self._connection.let("reader")
        except Exception as error:  # noqa: BLE001 - whoever reads it went away: the invocation ends all the same
            failed = failure("Runtime.StreamError", f"the reader of the response is gone: {error}")
            self._connection.let("reader")
        kind = self._trailers.get(_KIND)
        if kind:
            failed = Failure(kind, _decoded(self._trailers.get("lambda-runtime-function-error-body", "")))
        elif self._size > STREAM_BYTES_MAX:
            failed = too_large()
        self._api.finished(self._invocation, failed)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b"{}"


def _failure(headers: Mapping[str, str], body: bytes) -> Failure:
    """What a runtime says of an error, bounded. Without a type of its own in the header, the body's counts."""
    kind = headers.get(_KIND, "")[:256]
    body = body[:ERROR_BYTES_MAX]
    if not kind:
        try:
            said = json.loads(body)
            kind = str(said.get("errorType", "")) if isinstance(said, dict) else ""
        except ValueError:
            kind = ""
    return Failure(kind or _KIND_USUAL, body)


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ").replace("\0", " ")
