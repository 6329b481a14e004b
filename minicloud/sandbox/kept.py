"""A guest that was started ahead, as the actor holds it: over the connection to its keeper (minicloud.sandbox.keeper).

Standard library only: this is on the launch path.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import Any

ANSWER_S = 5.0
LINE_BYTES_MAX = 1024 * 1024
KEEPER_DIED = -9  # the status of a guest whose keeper cannot tell: it was killed with it


def keeper_socket(socket_dir: str, instance_id: str, generation: int) -> str:
    """Where the keeper of an instance's guest listens; agent and actor know it alike."""
    return os.path.join(socket_dir, f"{instance_id}.{generation}")


class Lines:
    """One JSON object a line over a stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._unread = b""

    def read(self) -> list[dict[str, Any]] | None:
        """What one read brings; None: the other end is gone, silent for too long, or talks without end."""
        try:
            data = self.sock.recv(256 * 1024)
        except OSError:
            return None
        if not data or len(self._unread) > LINE_BYTES_MAX:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def say(self, message: dict[str, Any]) -> None:
        """To one who is gone it goes nowhere: its end is read."""
        with contextlib.suppress(OSError):
            self.sock.sendall(json.dumps(message).encode() + b"\n")


class KeptGuest:
    """Ours from here on: it runs, and ends with this process. Raises OSError where there is none for us."""

    def __init__(self, path: str, secret: str) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(ANSWER_S)
            sock.connect(path)
            self._line = Lines(sock)
            self._line.say({"op": "adopt", "secret": secret})
            words = self._line.read()
            if not words:
                raise ConnectionError(f"no guest is kept for us at {path}")
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        self.pid = int(words[0]["pid"])
        self._early = words[1:]

    def fileno(self) -> int:
        """Readable once it has ended."""
        return self._line.sock.fileno()

    def reap(self) -> int | None:
        """Its exit status, -n for signal n; None: it goes on. Waits for the next word, unless it has ended."""
        words, self._early = self._early or self._line.read(), []
        if words is None:
            self._line.sock.close()
            return KEEPER_DIED
        for word in words:
            if word["op"] == "exited":
                self._line.sock.close()
                return int(word["status"])
        return None

    def kill(self) -> int:
        """Its status; returns when it is gone."""
        self._line.say({"op": "kill"})
        while (status := self.reap()) is None:
            continue
        return status
