"""The wire between a host and the init of a guest: framed messages on a unix stream socket, one connection a session.

    frame    1 byte kind, 4 bytes payload length (big endian), payload; at most FRAME_BYTES_MAX of payload
    control  payload is a JSON object in UTF-8      data  payload is raw bytes

The client speaks first, with OPEN (within OPEN_TIMEOUT_S), whose `kind` names the session; the guest answers OPENED or
ERROR. ERROR and EXIT are last frames: the guest closes after them. A client that closes ends the session.

    kind      OPEN's fields                          then, to the guest         from the guest
    ping      -                                      -                          OPENED status, end
    watch     -                                      -                          OPENED status, STATUS at every change
    exec      argv env cwd tty rows columns          DATA EOF WINDOW SIGNAL     OPENED {pid}, DATA, STDERR, EXIT
    upload    path (existing directory)              DATA EOF (a tar)           OPENED {}, EXIT {code, files, bytes}
    download  path (file or directory)               -                          OPENED {}, DATA (a tar), EXIT
    forward   port                                   DATA EOF                   OPENED {}, DATA, EOF
    shutdown  grace_s                                -                          OPENED {}, then the end of the guest

    status    {uptime_s, load: [1, 5, 15 min], processes, sessions, user_data: {state, exit}, stopping}
    ERROR     {code, message, field}: code is a class name of minicloud.base.errors
    EXIT      {code, error}; 128+n: ended by signal n; 126, 127: could not be started, `error` says why
    WINDOW    {rows, columns}      SIGNAL  {signal}: a number, to the foreground group of the terminal or the command's

Backpressure is the socket's own: who does not read is not sent more; a control frame waits behind the data before it.
A connection that ends early ends its command: hang-up to its process group, and the kill HANGUP_GRACE_S later.
"""

from __future__ import annotations

from minicloud_workers import quickjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

HEADER_BYTES = 5
FRAME_BYTES_MAX = 256 * 1024
OPEN_TIMEOUT_S = 10.0
HANGUP_GRACE_S = 2.0

OPEN, WINDOW, SIGNAL = b"O", b"W", b"S"  # to the guest, control
OPENED, STATUS, EXIT, ERROR = b"K", b"U", b"X", b"E"  # from the guest, control
DATA, STDERR, EOF = b"D", b"2", b"Z"  # data; EOF is empty
KINDS = frozenset((OPEN, WINDOW, SIGNAL, OPENED, STATUS, EXIT, ERROR, DATA, STDERR, EOF))
SOCKET_NAME = "init.sock"
BOOT_NAME = "boot.json"


class BadFrame(ValueError):
    """The peer does not speak this protocol."""


class Refused(Exception):
    """The session, or this frame of it, is not possible. `code`: a class name of minicloud.base.errors."""

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field


def header(kind: bytes, size: int) -> bytes:
    return kind + size.to_bytes(4, "big")


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    return header(kind, len(payload)) + payload


def control(kind: bytes, fields: dict[str, Any]) -> bytes:
    return frame(kind, quickjson.dumps(fields).encode())


def parse_header(raw: bytes) -> tuple[bytes, int]:
    """Kind and payload size. Raises BadFrame."""
    kind, size = raw[:1], int.from_bytes(raw[1:HEADER_BYTES], "big")
    if kind not in KINDS:
        raise BadFrame(f"unknown frame kind {kind!r}")
    if size > FRAME_BYTES_MAX:
        raise BadFrame(f"a frame of {size} bytes is larger than {FRAME_BYTES_MAX}")
    return kind, size


def parse_control(payload: bytes) -> dict[str, Any]:
    """Raises BadFrame when it is not a JSON object."""
    try:
        fields = quickjson.loads(payload.decode())
    except (ValueError, RecursionError) as error:
        raise BadFrame("a control frame is not JSON") from error
    if not isinstance(fields, dict):
        raise BadFrame("a control frame is not a JSON object")
    return fields


class Decoder:
    """Bytes in, whole frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Every whole frame that has come. Raises BadFrame. May be left early and asked again."""
        buffer = self._buffer
        while len(buffer) >= HEADER_BYTES:
            kind, size = parse_header(bytes(buffer[:HEADER_BYTES]))
            if len(buffer) < HEADER_BYTES + size:
                return
            payload = bytes(memoryview(buffer)[HEADER_BYTES : HEADER_BYTES + size])
            del buffer[: HEADER_BYTES + size]
            yield kind, payload


def text_of(fields: dict[str, Any], name: str, default: str = "") -> str:
    """Raises Refused."""
    value = fields.get(name, default)
    if not isinstance(value, str) or "\0" in value:
        raise Refused("InvalidParameterValue", f"{name} must be text without NUL", name)
    return value


def number_of(fields: dict[str, Any], name: str, highest: int, lowest: int = 0) -> int:
    """A field that is absent is 0. Raises Refused."""
    value = fields.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise Refused("InvalidParameterValue", f"{name} must be a whole number from {lowest} to {highest}", name)
    return value
