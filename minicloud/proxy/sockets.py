"""The listening sockets of an HAProxy, held by whoever runs it, so that they outlive it.

While a socket is open the kernel takes connections on it. One whose HAProxy was killed keeps them waiting, and the next
HAProxy is handed the socket with all who wait: nobody is refused, however the first one ended.

The words are those of HAProxies among themselves at a reload (HAProxy 2.8, src/cli.c, src/sock.c):

    -> "_getsocks\\n"    <- how many (int)    <- up to 252 sockets a message, with what tells them apart    -> 4 bytes
"""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

ASK = b"_getsocks\n"
PER_MESSAGE_MAX = 252  # MAX_SEND_FD
BYTES_MAX = PER_MESSAGE_MAX * (2 + 2 * 255 + 4)
ANSWER_S_MAX = 2.0
START_S_MAX = 10.0
_INT = struct.Struct("i")


class HeldSockets:
    """TCP sockets; its stats socket ends with an HAProxy, so that nobody takes a dead one for one that is slow."""

    def __init__(self) -> None:
        self._sockets: list[_Held] = []

    def __bool__(self) -> bool:
        return bool(self._sockets)

    @property
    def ports(self) -> frozenset[tuple[str, int]]:
        """Where they listen (IPv4)."""
        found = [one.socket.getsockname() for one in self._sockets if one.socket.family == socket.AF_INET]
        return frozenset(found)

    def take(self, stats_socket: Path) -> None:
        """Hold what this HAProxy listens on, in place of what was held. Blocks for a moment.

        Where it does not tell, nothing is held: then its sockets end with it.
        """
        found: list[_Held] = []
        try:
            _ask(stats_socket, found)
        except (OSError, struct.error, IndexError) as error:
            log.warning("the sockets of the proxy are not held: %s", error)
            _close(found)
            found = []
        self._sockets, before = found, self._sockets
        _close(before)

    def drop(self) -> None:
        """Nobody listens there any more, unless HAProxy does."""
        self._sockets, before = [], self._sockets
        _close(before)

    @contextmanager
    def offered(self, path: Path) -> Iterator[None]:
        """Within, an HAProxy that starts with `-x path` is given what is held."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(START_S_MAX)
            door.bind(str(path))
            door.listen(1)
            giver = threading.Thread(target=self._give, args=(door,), name="held-sockets", daemon=True)
            giver.start()
            try:
                yield
            finally:
                door.shutdown(socket.SHUT_RDWR)  # wakes an accept that nobody came to
                giver.join()
                path.unlink(missing_ok=True)

    def _give(self, door: socket.socket) -> None:
        with contextlib.suppress(OSError):
            asker, _ = door.accept()
            with asker:
                asker.settimeout(ANSWER_S_MAX)
                asker.recv(len(ASK))
                asker.sendall(_INT.pack(len(self._sockets)))
                for start in range(0, len(self._sockets), PER_MESSAGE_MAX):
                    part = self._sockets[start : start + PER_MESSAGE_MAX]
                    said = b"".join(one.said for one in part)
                    socket.send_fds(asker, [said], [one.socket.fileno() for one in part])
                    asker.recv(_INT.size)


class _Held(NamedTuple):
    """A socket, and what HAProxy said of it: namespace, interface (each with its length), options (int)."""

    said: bytes
    socket: socket.socket


def _ask(stats_socket: Path, found: list[_Held]) -> None:
    """Raises OSError, struct.error, IndexError; `found` has what came by then."""
    with socket.socket(socket.AF_UNIX) as asker:
        asker.settimeout(ANSWER_S_MAX)
        asker.connect(str(stats_socket))
        asker.sendall(ASK)
        (left,) = _INT.unpack(asker.recv(_INT.size))
        while left > 0:
            said, handles, _, _ = socket.recv_fds(asker, BYTES_MAX, PER_MESSAGE_MAX, socket.MSG_CMSG_CLOEXEC)
            sockets = [socket.socket(fileno=handle) for handle in handles]
            if not sockets:
                raise OSError(f"{left} sockets did not come")
            left -= len(sockets)
            asker.sendall(_INT.pack(len(sockets)))
            for one in sockets:
                length = _said_of_one(said)
                found.append(_Held(said[:length], one))
                said = said[length:]
    stats = [one for one in found if one.socket.family == socket.AF_UNIX]
    found[:] = [one for one in found if one not in stats]
    _close(stats)


def _said_of_one(said: bytes) -> int:
    namespace = said[0]
    return 1 + namespace + 1 + said[1 + namespace] + _INT.size


def _close(held: list[_Held]) -> None:
    for one in held:
        one.socket.close()
