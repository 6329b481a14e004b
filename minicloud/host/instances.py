"""The door where instance actors of this host report: a unix socket with one JSON object a line.

An actor proves itself with a secret that only the cloud can make (HMAC of its instance and generation under the cluster
secret), so neither order nor memory is needed to let it in: hello and StartGuest may come in either order, and a new
agent knows the actors of its predecessor. Its pid is the kernel's word (SO_PEERCRED), not its own.

The protocol stands in minicloud.cluster.instance_loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud.host.watch import ProcessRef, identify

log = logging.getLogger("minicloud.host.instances")

HELLO_S_MAX = 10.0
LINE_BYTES_MAX = 1024 * 1024


def instance_secret(cluster_secret: bytes, instance_id: str, generation: int) -> str:
    """What an instance actor shows its agent. The launcher gives it to the actor, the agent makes it again."""
    text = f"instance/{instance_id}/{generation}".encode()
    return hmac.new(cluster_secret, text, hashlib.sha256).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class ActorHello:
    """What an actor said when it came in. `boot`, `guest`: the boot it spawned last and that guest's pid (0: none)."""

    instance_id: str
    generation: int
    process: ProcessRef
    gpu_ids: tuple[str, ...]
    boot: int
    guest: int


class ActorLink:
    """One connection of one actor."""

    def __init__(self, hello: ActorHello, writer: asyncio.StreamWriter) -> None:
        self.hello = hello
        self._writer = writer

    def send(self, order: dict[str, Any]) -> None:
        """Never blocks; a line to an actor that is gone goes nowhere, its end is noticed by its pid."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(order).encode() + b"\n")

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True, slots=True)
class DoorEnds:
    """Who is told: an actor came in, it said something, its connection ended (it may come again)."""

    on_hello: Callable[[ActorLink], None]
    on_message: Callable[[ActorLink, dict[str, Any]], None]
    on_closed: Callable[[ActorLink], None]


class InstanceDoor:
    """Listens on `path` (mode 0600, its directory is the agent's own)."""

    def __init__(self, path: Path, cluster_secret: bytes, ends: DoorEnds) -> None:
        self._path = path
        self._secret = cluster_secret
        self._ends = ends
        self._server: asyncio.Server | None = None
        self._links: set[ActorLink] = set()

    async def open(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()  # of a predecessor that was killed; the host's lock says that it is gone
        self._server = await asyncio.start_unix_server(self._talk, path=str(self._path), limit=LINE_BYTES_MAX)
        self._path.chmod(0o600)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for link in list(self._links):
            link.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link: ActorLink | None = None
        try:
            first = await asyncio.wait_for(reader.readline(), HELLO_S_MAX)
            link = self._let_in(first, writer)
            if link is None:
                return
            self._links.add(link)
            self._ends.on_hello(link)
            while line := await reader.readline():
                self._ends.on_message(link, json.loads(line))
        except (TimeoutError, ValueError, KeyError, TypeError, OSError) as error:
            log.warning("an instance actor was hung up: %r", error)
        finally:
            if link is not None:
                self._links.discard(link)
                self._ends.on_closed(link)
            writer.close()

    def _let_in(self, line: bytes, writer: asyncio.StreamWriter) -> ActorLink | None:
        if not line:
            return None
        said = json.loads(line)
        instance_id, generation = str(said["instance_id"]), int(said["generation"])
        expected = instance_secret(self._secret, instance_id, generation)
        if said["op"] != "hello" or not hmac.compare_digest(expected, str(said["secret"])):
            log.warning("refused a connection that says it is %s:%d", instance_id, generation)
            return None
        process = identify(_peer_pid(writer.get_extra_info("socket")))
        if process is None:
            return None
        gpus = tuple(str(gpu) for gpu in said["gpu_ids"])
        return ActorLink(
            ActorHello(instance_id, generation, process, gpus, int(said["boot"]), int(said["guest"])), writer
        )


def _peer_pid(sock: socket.socket) -> int:
    """Raises OSError (PermissionError for another user's process)."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", raw)
    if uid not in (os.getuid(), 0):
        raise PermissionError(f"user {uid} is not ours")
    return int(pid)
