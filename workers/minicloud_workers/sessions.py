"""What a client may ask of the guest's init, by the `kind` of its OPEN frame; the frames are described in `protocol`.

A session lives from OPEN to the last frame, or until its client is gone.
"""

from __future__ import annotations

from minicloud_workers import protocol
from minicloud_workers.command import Exec
from minicloud_workers.connection import Connection
from minicloud_workers.streams import Forward, Transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minicloud_workers.init import Init

GRACE_S_MAX = 3600.0


def ping(init: Init, connection: Connection, _fields: dict[str, Any]) -> None:
    """One answer, then the end."""
    connection.send_control(protocol.OPENED, init.status())
    connection.finish()


def watch(init: Init, connection: Connection, _fields: dict[str, Any]) -> None:
    """The status, and again at every change of it."""
    connection.send_control(protocol.OPENED, init.status())
    init.watchers.append(connection)
    connection.on_gone = lambda: init.watchers.remove(connection)


def shutdown(init: Init, connection: Connection, fields: dict[str, Any]) -> None:
    """Answers, then ends the guest; the client sees the connection close when init exits."""
    grace = fields.get("grace_s", 10)
    if not isinstance(grace, (int, float)) or isinstance(grace, bool) or not 0 <= grace <= GRACE_S_MAX:
        raise protocol.Refused("InvalidParameterValue", f"grace_s must be from 0 to {GRACE_S_MAX:g}", "grace_s")
    reason = protocol.text_of(fields, "reason", "asked by the host")
    connection.send_control(protocol.OPENED, {})
    init.begin_shutdown(float(grace), reason)


KINDS: dict[str, Callable[[Init, Connection, dict[str, Any]], object]] = {
    "ping": ping,
    "watch": watch,
    "shutdown": shutdown,
    "exec": Exec,
    "upload": lambda init, connection, fields: Transfer(init, connection, fields, upload=True),
    "download": lambda init, connection, fields: Transfer(init, connection, fields, upload=False),
    "forward": Forward,
}


def open_session(init: Init, connection: Connection, kind: bytes, payload: bytes) -> None:
    """The first frame of a client. Raises BadFrame, Refused."""
    if kind != protocol.OPEN:
        raise protocol.BadFrame("the first frame must be OPEN")
    fields = protocol.parse_control(payload)
    name = protocol.text_of(fields, "kind")
    opener = KINDS.get(name)
    if opener is None:
        raise protocol.Refused("UnsupportedOperation", f"no such kind of session: '{name[:64]}'", "kind")
    if init.stopping and name not in ("ping", "watch", "shutdown"):
        raise protocol.Refused("IncorrectState", "the guest is shutting down")
    connection.on_frame = _nothing_more
    opener(init, connection, fields)


def _nothing_more(kind: bytes, _payload: bytes) -> None:
    raise protocol.BadFrame(f"frame {kind!r} has no place in this session")
