"""The Python runtime of functions: it loads a handler and answers invocations, over Lambda's Runtime API (HTTP/1.1).

    GET  /2018-06-01/runtime/invocation/next            -> an event, when there is one
    POST /2018-06-01/runtime/invocation/<id>/response   what the handler returned, as JSON
    POST /2018-06-01/runtime/invocation/<id>/error      {"errorMessage", "errorType", "requestId", "stackTrace"}
    POST /2018-06-01/runtime/init/error                 the same, when there will be no handler

It runs in a process forked from a zygote, where this module was loaded before (`preloaded`); its connection is open
already. An answer and the request for the next event leave together, in one write: HTTP's pipelining, and half of the
system calls. What handlers see (context, log format, error texts, sys.path) is as the published runtime client has it.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import socket
import sys
import time
import traceback

from minicloud_workers import function_context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Any

API = "/2018-06-01/runtime"
NEXT = f"GET {API}/invocation/next HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
TASK, OPT = "/var/task", "/opt"
RECEIVE_BYTES = 256 * 1024
_PRELOADED: set[str] = set()
_JSON = json.JSONEncoder(ensure_ascii=False)


class Gone(Exception):
    """The host has closed the line."""


class Fault(Exception):
    """An error of the runtime's, not of the handler's code. `kind`: the errorType."""

    def __init__(self, kind: str, message: str, stack: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.stack = list(stack)


class Line:
    """The connection to the Runtime API: whole answers in, whole requests out."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""
        self._usual = b"\0"  # the last 202, which most are the same as: passed over unread

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def answer(self) -> tuple[dict[bytes, bytes], bytes]:
        """Headers (names in lower case) and body of the next answer that has content; others are passed over."""
        while True:
            status, headers, body = self._one()
            if status == b"200":
                return headers, body
            if status >= b"300":
                sys.stderr.write(f"[WARN] the Runtime API answered {status.decode()}: {body[:512]!r}\n")

    def _one(self) -> tuple[bytes, dict[bytes, bytes], bytes]:
        data = self._unread
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._receive()
            if data.startswith(self._usual):
                data = data[len(self._usual) :]
        first, *lines = data[:end].split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        size = int(headers.get(b"content-length", 0))
        start = end + 4
        if len(data) - start < size:
            data = self._fill(data, start + size)
        self._unread = data[start + size :]
        status = first.split(b" ", 2)[1]
        if status == b"202":
            self._usual = data[: start + size]
        return status, headers, data[start : start + size]

    def _fill(self, data: bytes, size: int) -> bytes:
        parts, count = [data], len(data)
        while count < size:
            parts.append(self._receive())
            count += len(parts[-1])
        return b"".join(parts)

    def _receive(self) -> bytes:
        part = self._sock.recv(RECEIVE_BYTES)
        if not part:
            raise Gone
        return part


def preloaded(names: Iterable[str]) -> None:
    """Called in the zygote: modules that are loaded because of us. A function's own of the same name come first."""
    _PRELOADED.update(name for name in names if "." not in name and name not in sys.builtin_module_names)
    _PRELOADED.difference_update(("sys", "os", "importlib", "encodings", "codecs", "io", "site", "__main__"))


def main(fd: int, order: dict[str, Any]) -> None:
    """Serves invocations until the host ends this process. `order`: as the zygote got it."""
    sock = socket.socket(fileno=fd)
    line = Line(sock)
    _prepare_process(order)
    function_context.set_up_logging()
    try:
        handler = load(os.environ.get("_HANDLER", ""), os.environ["LAMBDA_TASK_ROOT"])
    except Fault as fault:
        body = _error_body(fault.kind, str(fault), fault.stack, "")
        _log_error(fault.kind, str(fault), fault.stack)
        line.send(_post("/init/error", body, fault.kind))
        _flush()
        raise SystemExit(1) from None
    try:
        _serve(line, handler)
    except (Gone, OSError):
        raise SystemExit(1) from None


def _prepare_process(order: dict[str, Any]) -> None:
    """From a zygote's child to an ordinary Python process."""
    task = os.environ["LAMBDA_TASK_ROOT"]
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    layers = order.get("opt") or OPT
    own = [task, f"{layers}/python/lib/{version}/site-packages", f"{layers}/python"]
    stdlib = [path for path in sys.path if path not in order.get("foreign", ())]
    sys.path[:] = [*own, *stdlib]
    sys.argv[:] = ["bootstrap"]
    for name in [name for name in sys.modules if name == "minicloud" or name.startswith("minicloud.")]:
        del sys.modules[name]
    _give_way(own)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - these live as long as the process
    sys.stdout = open(1, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    time.tzset()
    importlib.invalidate_caches()


def _give_way(folders: Iterable[str]) -> None:
    """A module of the function's own that is named as one we have loaded: forget ours."""
    for folder in folders:
        try:
            names = {name.partition(".")[0] for name in os.listdir(folder)}
        except OSError:
            continue
        for name in names & _PRELOADED:
            for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
                del sys.modules[loaded]


def load(handler: str, task: str) -> Callable[[Any, Any], Any]:
    """`module.function`, slashes for packages. Raises Fault in the words of AWS's runtime."""
    module_name, dot, function = handler.rpartition(".")
    if not dot:
        text = f"Bad handler '{handler}': not enough values to unpack (expected 2, got 1)"
        raise Fault("Runtime.MalformedHandlerName", text)
    name = module_name.replace("/", ".")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise Fault("Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}") from None
    except SyntaxError as error:
        where = f'  File "{error.filename}" Line {error.lineno}\n    {error.text}'
        text = f"Syntax error in module '{module_name}': {error}"
        raise Fault("Runtime.UserCodeSyntaxError", text, [where]) from None
    except Exception as error:
        stack = traceback.format_list(_own_frames(error.__traceback__, task))
        raise Fault(type(error).__name__, str(error), stack) from None
    found = getattr(module, function, None)
    if found is None:
        raise Fault("Runtime.HandlerNotFound", f"Handler '{function}' missing on module '{module_name}'")
    if not callable(found):
        raise Fault("Runtime.HandlerNotFound", f"Handler '{function}' on module '{module_name}' cannot be called")
    return found  # type: ignore[no-any-return]


def _serve(line: Line, handler: Callable[[Any, Any], Any]) -> None:
    line.send(NEXT)
    while True:
        headers, event = line.answer()
        request_id = headers[b"lambda-runtime-aws-request-id"].decode()
        function_context.REQUEST_ID[0] = request_id
        trace = headers.get(b"lambda-runtime-trace-id")
        if trace:
            os.environ["_X_AMZN_TRACE_ID"] = trace.decode()
        elif "_X_AMZN_TRACE_ID" in os.environ:  # of the invocation before
            del os.environ["_X_AMZN_TRACE_ID"]
        answer = _handle(handler, event, headers, request_id)
        _flush()
        line.send(answer + NEXT)


def _handle(handler: Callable[[Any, Any], Any], event: bytes, headers: dict[bytes, bytes], request_id: str) -> bytes:
    """The request that tells what became of it."""
    try:
        context = function_context.Context(headers, request_id)
        result = _to_json(handler(_from_json(event), context))
    except Fault as fault:
        kind, message, stack = fault.kind, str(fault), fault.stack
    except Exception as error:
        kind, message = type(error).__name__, str(error)
        stack = traceback.format_list(_own_frames(error.__traceback__, os.environ["LAMBDA_TASK_ROOT"]))
    else:
        return _post(f"/invocation/{request_id}/response", result)
    _log_error(kind, message, stack)
    return _post(f"/invocation/{request_id}/error", _error_body(kind, message, stack, request_id), kind)


def _from_json(event: bytes) -> Any:
    try:
        return json.loads(event)
    except ValueError as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _to_json(result: Any) -> bytes:
    try:
        return _JSON.encode(result).encode()
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None


def _post(path: str, body: bytes, kind: str = "") -> bytes:
    extra = f"Lambda-Runtime-Function-Error-Type: {_header(kind)}\r\n" if kind else ""
    head = f"POST {API}{path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _header(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~")[:256]


def _own_frames(trace: TracebackType | None, task: str) -> list[traceback.FrameSummary]:
    """Of the function's code: not ours, nor the import system's."""
    frames = traceback.extract_tb(trace)
    first = next((i for i, frame in enumerate(frames) if frame.filename.startswith((task, "/opt/"))), 0)
    return list(frames[first:])


def _error_body(kind: str, message: str, stack: Iterable[str], request_id: str) -> bytes:
    said = {"errorMessage": message, "errorType": kind, "requestId": request_id, "stackTrace": list(stack)}
    return json.dumps(said).encode()


def _log_error(kind: str, message: str, stack: Iterable[str]) -> None:
    if os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON":
        function_context.write_json("ERROR", message, {"errorType": kind, "stackTrace": list(stack)})
        return
    text = f"[ERROR] {kind}: {message}\nTraceback (most recent call last):\n" + "".join(stack)
    sys.stdout.write(text.rstrip("\n").replace("\n", "\r") + "\n")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    logging.getLogger()
