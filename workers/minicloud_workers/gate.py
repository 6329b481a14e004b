"""Where a guest that was started ahead waits until its host says who it is.

    init -> host   r  it waits
    host -> init   b  the boot document is there: boot

The host ends a guest that is not wanted; init needs no word for that. Then the gate is closed: no program of the guest
ever sees it.
"""

from __future__ import annotations

import _socket
import os

from minicloud_workers import first_boot  # noqa: F401 - loaded while there is time
from minicloud_workers.init import Init
from minicloud_workers.loop import READ

VARIABLE = "MINICLOUD_GATE"
READY, BOOT = b"r", b"b"


class Gate:
    def __init__(self, init: Init, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._init = init
        self._sock = _socket.socket(fileno=fd)
        self._sock.setblocking(False)
        init.loop.watch(fd, READ, lambda _mask: self._read())
        self._sock.send(READY)

    def _read(self) -> None:
        words = self._sock.recv(16)
        self._init.loop.forget(self._sock.fileno())
        self._sock.close()
        if BOOT in words:
            self._init.boot()
