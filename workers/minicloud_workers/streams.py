"""The sessions that move bytes: tar streams in and out, and TCP connections to the guest's own ports.

Tars are packed and unpacked by forked children of init, so that a slow or full disk never stops init itself.
"""

from __future__ import annotations

import _socket
import errno
import os

from minicloud_workers import processes, protocol, quickjson
from minicloud_workers.connection import Connection, Sink, Source
from minicloud_workers.loop import GONE, WRITE, close_all
from minicloud_workers.processes import Start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minicloud_workers.init import Init

RESULT_BYTES_MAX = 8192
CONNECT_TIMEOUT_S = 10.0


class Transfer:
    """A tar stream into or out of the guest, through a forked child that writes its result as JSON."""

    def __init__(self, init: Init, connection: Connection, fields: dict[str, Any], upload: bool) -> None:
        path = init.place(protocol.text_of(fields, "path"))
        init.claim_session(self, lambda: None)
        self._init = init
        self._connection = connection
        self._code: int | None = None
        self._pid = 0
        self._results = -1
        self._sink: Sink | None = None
        self._source: Source | None = None
        try:
            self._start(path, upload)
        except OSError as error:
            self._done()
            raise protocol.Refused("Unavailable", f"no new process: {error.strerror}") from error
        connection.on_frame = self._frame
        connection.on_gone = self._gone
        connection.on_drained = self._drained
        connection.send_control(protocol.OPENED, {})

    def _start(self, path: str, upload: bool) -> None:
        fds: list[int] = []
        start = Start([], self._init.env, run=lambda: _transfer(upload, path))
        try:
            fds += os.pipe()
            fds += os.pipe()
            start.stdin, start.stdout, start.stderr = (fds[0], -1, fds[3]) if upload else (-1, fds[1], fds[3])
            self._pid = self._init.children.start(start, self._exited, lambda _error: None)
        except OSError:
            close_all(fds)
            raise
        close_all([fds[0] if upload else fds[1], fds[3]])
        self._results = fds[2]
        os.set_blocking(self._results, False)
        loop, connection = self._init.loop, self._connection
        if upload:
            self._sink = Sink(loop, connection, fds[1])
        else:
            self._source = Source(loop, connection, fds[0], protocol.DATA, self._check_end)

    def _drained(self) -> None:
        if self._source is not None:
            self._source.resume()

    def _frame(self, kind: bytes, payload: bytes) -> None:
        if self._sink is None or kind not in (protocol.DATA, protocol.EOF):
            raise protocol.BadFrame(f"frame {kind!r} has no place in this session")
        if kind == protocol.DATA:
            self._sink.write(payload)
        else:
            self._sink.end()

    def _exited(self, code: int) -> None:
        self._code = code
        if self._source is not None:
            self._source.drain()
        self._check_end()

    def _check_end(self) -> None:
        if self._code is None or self._results < 0 or (self._source is not None and self._source.fd >= 0):
            return
        self._connection.on_gone = lambda: None
        result = self._result()
        if self._code == 0 and "message" not in result:
            self._connection.send_control(protocol.EXIT, {**result, "code": 0})
            self._connection.finish()
        else:
            code, message, field = (str(result.get(name, "")) for name in ("code", "message", "field"))
            self._connection.fail(code, message, field)
        self._done()

    def _result(self) -> dict[str, Any]:
        try:
            text = os.read(self._results, RESULT_BYTES_MAX)
            return protocol.parse_control(text)
        except (OSError, protocol.BadFrame):
            return {"code": "Internal", "message": f"the transfer ended with code {self._code}"}

    def _gone(self) -> None:
        if self._code is None:
            processes.kill_group(self._pid, processes.SIGKILL)
        self._done()

    def _done(self) -> None:
        if self._sink is not None:
            self._sink.close()
        if self._source is not None:
            self._source.close()
        if self._results >= 0:
            os.close(self._results)
            self._results = -1
        self._init.release_session(self)


def _transfer(upload: bool, path: str) -> int:
    """In a child: the tar on file 0 or 1, the result on file 2."""
    from minicloud_workers import archive

    try:
        result = archive.unpack(0, path) if upload else archive.pack(path, 1)
    except archive.Refused as error:
        os.write(2, quickjson.dumps({"code": error.code, "message": str(error), "field": error.field}).encode())
        return 1
    os.write(2, quickjson.dumps(result).encode())
    return 0


class Forward:
    """A TCP connection to a port of the guest, each direction with an end of its own."""

    def __init__(self, init: Init, connection: Connection, fields: dict[str, Any]) -> None:
        self._init = init
        self._connection = connection
        self._port = protocol.number_of(fields, "port", 65535, lowest=1)
        self._addresses = list(init.addresses)
        self._sock: _socket.socket | None = None
        self._sink: Sink | None = None
        self._source: Source | None = None
        self._deadline = init.loop.after(CONNECT_TIMEOUT_S, lambda: self._refuse(errno.ETIMEDOUT))
        connection.on_gone = self._release
        connection.read_more(False)
        self._try_next(errno.ECONNREFUSED)

    def _try_next(self, reason: int) -> None:
        self._drop_socket()
        if not self._addresses:
            self._refuse(reason)
            return
        sock = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        self._sock = sock
        try:
            sock.connect((self._addresses.pop(0), self._port))
        except BlockingIOError:
            self._init.loop.watch(sock.fileno(), WRITE | GONE, lambda _mask: self._connected())
        except OSError as error:
            self._try_next(error.errno or errno.ECONNREFUSED)
        else:
            self._connected()

    def _connected(self) -> None:
        sock = self._sock
        if sock is None:
            return
        self._init.loop.forget(sock.fileno())
        failed = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if failed:
            self._try_next(failed)
            return
        self._deadline.cancel()
        sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        loop, connection = self._init.loop, self._connection
        connection.send_control(protocol.OPENED, {})
        self._sink = Sink(loop, connection, os.dup(sock.fileno()))
        self._sink.on_ended = self._client_ended
        self._sink.on_broken = connection.finish
        self._source = Source(loop, connection, os.dup(sock.fileno()), protocol.DATA, self._guest_ended)
        connection.on_frame = self._frame
        connection.on_drained = self._source.resume
        connection.read_more(True)

    def _frame(self, kind: bytes, payload: bytes) -> None:
        if self._sink is None or kind not in (protocol.DATA, protocol.EOF):
            raise protocol.BadFrame(f"frame {kind!r} has no place in this session")
        if kind == protocol.DATA:
            self._sink.write(payload)
        else:
            self._sink.end()

    def _client_ended(self) -> None:
        if self._sock is not None:
            try:
                self._sock.shutdown(_socket.SHUT_WR)
            except OSError:  # reset by the guest, which the other direction tells
                self._drop_socket()
        if self._sink is not None:
            self._sink.close()
        self._check_end()

    def _guest_ended(self) -> None:
        self._connection.send(protocol.EOF)
        self._check_end()

    def _check_end(self) -> None:
        if self._sink is not None and self._source is not None and self._sink.fd < 0 and self._source.fd < 0:
            self._connection.finish()

    def _refuse(self, reason: int) -> None:
        self._deadline.cancel()
        code = "Conflict" if reason == errno.ECONNREFUSED else "Unavailable"
        self._connection.fail(code, f"port {self._port} of the guest: {os.strerror(reason)}", "port")

    def _drop_socket(self) -> None:
        if self._sock is not None:
            self._init.loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _release(self) -> None:
        self._deadline.cancel()
        for end in (self._sink, self._source):
            if end is not None:
                end.close()
        self._drop_socket()
