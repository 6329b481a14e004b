"""One client of the guest's init: frames in, frames out, and the pumps between frames and descriptors.

    Connection   the socket. `on_frame` gets every frame; `on_gone` comes once, when the client or the session has ended
    Source       a descriptor whose bytes become frames; rests while the client lags behind (OUT_BYTES_HIGH)
    Sink         frames that become bytes of a descriptor; the connection rests while the descriptor lags behind

A session that ends first lingers: its last frames are sent, what still comes in is thrown away until the client closes.
Closing at once would turn a client's next write into an error that hides the last frame from it.

A resting descriptor is not watched at all: epoll reports a hang-up whether it was asked for or not, and would spin.
"""

from __future__ import annotations

import _socket
import os

from minicloud_workers import protocol
from minicloud_workers.loop import GONE, READ, WRITE, Loop, log_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OUT_BYTES_HIGH = 512 * 1024
DRAIN_BYTES_MAX = 256 * 1024  # more than a pipe or a terminal holds
IN_BYTES_HIGH = 256 * 1024
READ_BYTES = protocol.FRAME_BYTES_MAX
LINGER_S = 5.0


class Connection:
    """Owns the socket. After `close` nothing is called any more."""

    def __init__(self, loop: Loop, sock: _socket.socket) -> None:
        self._loop = loop
        self._sock = sock
        self._decoder = protocol.Decoder()
        self._out = bytearray()
        self._reading = True
        self._closing = False
        self.closed = False
        self.on_frame: Callable[[bytes, bytes], None] = lambda _kind, _payload: None
        self.on_gone: Callable[[], None] = lambda: None
        self.on_closed: Callable[[], None] = lambda: None  # the same moment, for who keeps the list of connections
        self.on_drained: Callable[[], None] = lambda: None
        self._watch()

    @property
    def full(self) -> bool:
        return len(self._out) >= OUT_BYTES_HIGH

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Queue one frame; raises nothing. `full` tells when to rest until `on_drained`."""
        if self.closed or self._closing:
            return
        header = protocol.header(kind, len(payload))
        if self._out or not self._send_now(header, payload):
            self._out += header
            self._out += payload
            self._watch()

    def _send_now(self, header: bytes, payload: bytes) -> bool:
        """Without a copy; what does not fit is queued. False: nothing was sent."""
        try:
            sent = self._sock.sendmsg((header, payload))
        except OSError:  # a broken one is noticed by the loop
            return False
        if sent < len(header) + len(payload):
            self._out += header[sent:]
            self._out += memoryview(payload)[max(sent - len(header), 0) :]
            self._watch()
        return True

    def send_control(self, kind: bytes, fields: dict[str, object]) -> None:
        frame = protocol.control(kind, fields)
        self.send(kind, frame[protocol.HEADER_BYTES :])

    def fail(self, code: str, message: str, field: str = "") -> None:
        """The last frame: an error."""
        self.send_control(protocol.ERROR, {"code": code, "message": message[:1024], "field": field})
        self.finish()

    def finish(self) -> None:
        """The session is over: send the rest, then close when the client does."""
        if self.closed or self._closing:
            return
        self._closing = True
        if not self._out:
            self._linger()
        self._watch()
        self._say_gone()

    def _linger(self) -> None:
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:  # the client was quicker
            self.close()
        else:
            self._loop.after(LINGER_S, self.close)

    def _say_gone(self) -> None:
        gone, self.on_gone = self.on_gone, lambda: None
        gone()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.forget(self._sock.fileno())
        self._sock.close()
        self._out.clear()
        try:
            self._say_gone()
        finally:
            self.on_closed()

    def read_more(self, wanted: bool) -> None:
        """Take frames, or rest. Frames that wait already are handed on at once."""
        if self.closed or self._reading == wanted:
            return
        self._reading = wanted
        self._watch()
        if wanted:
            self._loop.after(0, self._dispatch)

    def _watch(self) -> None:
        if self.closed:
            return
        mask = GONE | (READ if self._reading or self._closing else 0) | (WRITE if self._out else 0)
        self._loop.watch(self._sock.fileno(), mask, self._ready)

    def _ready(self, mask: int) -> None:
        try:
            if mask & READ:
                self._receive()
            if mask & WRITE and not self.closed:
                self._flush()
            if mask & GONE and not self.closed:
                self.close()
        except Exception as error:  # this client's, whatever it is; the others go on
            log_error("client", error)
            self.close()

    def _receive(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        if not self._closing:
            self._decoder.feed(data)
            self._dispatch()

    def _dispatch(self) -> None:
        if self.closed or self._closing or not self._reading:
            return
        try:
            for kind, payload in self._decoder.frames():
                self.on_frame(kind, payload)
                if self.closed or self._closing or not self._reading:
                    return
        except protocol.BadFrame as error:
            self.fail("InvalidRequest", str(error))
        except protocol.Refused as error:
            self.fail(error.code, error.message, error.field)
        except Exception as error:
            log_error("frame", error)
            self.fail("Internal", f"{type(error).__name__}: {error}")

    def _flush(self) -> None:
        was_full = self.full
        try:
            del self._out[: self._sock.send(self._out)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not self._out and self._closing:
            self._linger()
        self._watch()
        if was_full and not self.full:
            self.on_drained()


class Source:
    """Bytes of `fd` -> frames of `kind`. Owns `fd`. `on_end` comes once, when the last byte is queued."""

    def __init__(self, loop: Loop, connection: Connection, fd: int, kind: bytes, on_end: Callable[[], None]) -> None:
        self._loop = loop
        self._connection = connection
        self._kind = kind
        self._on_end = on_end
        self._last_call = DRAIN_BYTES_MAX + 1  # once lower: bytes that may still be taken before the end
        self.fd = fd
        os.set_blocking(fd, False)
        self.resume()

    def resume(self) -> None:
        """Go on after the client caught up."""
        if self.fd < 0 or self._connection.closed or self._connection.full:
            return
        if self._last_call <= DRAIN_BYTES_MAX:
            self._loop.after(0, self.drain)
        else:
            self._loop.watch(self.fd, READ, self._ready)

    def drain(self) -> None:
        """Take what is there right now, then end: the process that wrote is gone."""
        self._last_call = min(self._last_call, DRAIN_BYTES_MAX)
        while self.fd >= 0 and not self._connection.closed and not self._connection.full:
            if self._last_call <= 0 or not self._read():
                self.close()
        if self.fd >= 0:
            self._loop.forget(self.fd)

    def close(self) -> None:
        if self.fd < 0:
            return
        self._loop.forget(self.fd)
        os.close(self.fd)
        self.fd = -1
        self._on_end()

    def _ready(self, _mask: int) -> None:
        if self._read() and self._connection.full and self.fd >= 0:
            self._loop.forget(self.fd)

    def _read(self) -> bool:
        """False: nothing there at the moment."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # EIO: the last program has closed the terminal
            data = b""
        if data:
            self._connection.send(self._kind, data)
            if self._last_call <= DRAIN_BYTES_MAX:
                self._last_call -= len(data)
        else:
            self.close()
        return True


class Sink:
    """Frames -> bytes of `fd`. Owns `fd`. What a reader that went away would have got is thrown away, as by a shell."""

    def __init__(self, loop: Loop, connection: Connection, fd: int) -> None:
        self._loop = loop
        self._connection = connection
        self._pending = bytearray()
        self._ending = False
        self.on_broken: Callable[[], None] = lambda: None
        self.on_ended: Callable[[], None] | None = None  # instead of closing `fd` at the end of the data
        self.fd = fd
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        if self.fd < 0 or self._ending:
            return
        self._pending += data
        self._flush(0)

    def end(self) -> None:
        """Close after the last byte."""
        self._ending = True
        if self.fd >= 0:
            self._flush(0)

    def close(self) -> None:
        if self.fd < 0:
            return
        self._loop.forget(self.fd)
        os.close(self.fd)
        self.fd = -1
        self._pending.clear()
        self._connection.read_more(True)

    def _flush(self, _mask: int) -> None:
        try:
            while self._pending:
                del self._pending[: os.write(self.fd, self._pending)]
        except (BlockingIOError, InterruptedError):
            self._loop.watch(self.fd, WRITE, self._flush)
            self._connection.read_more(len(self._pending) < IN_BYTES_HIGH)
            return
        except OSError:
            self.close()
            self.on_broken()
            return
        self._loop.forget(self.fd)
        self._connection.read_more(True)
        if self._ending and self.on_ended is not None:
            self.on_ended()
        elif self._ending:
            self.close()
