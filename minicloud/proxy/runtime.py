"""HAProxy's runtime API: change servers of a running proxy without a reload, and read what it counts.

One connection per command over the stats socket (HAProxy manual, management guide 9.3); 0.5 ms each. HAProxy answers an
accepted change with an empty line, and anything else with a sentence: that sentence is the error.
"""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minicloud.base.errors import Internal, InvalidParameterValue, NotFound, Unavailable
from minicloud.proxy.config import HealthCheck, Server, endpoint, name, whole

COMMAND_S_MAX = 5.0
REPLY_BYTES_MAX = 16 * 1024 * 1024
ServerState = Literal["ready", "drain", "maint"]
_DONE = ("", "New server registered.", "Server deleted.")


@dataclass(frozen=True, slots=True)
class ServerStats:
    """One server as HAProxy sees it. `status`: UP, DOWN, MAINT, DRAIN, 'no check'... `sessions`: in use now."""

    backend: str
    server: str
    status: str
    sessions: int
    sessions_total: int
    errors_connect: int
    check_status: str


class RuntimeApi:
    """Stateless: the socket is opened for each command. Raises Unavailable where the proxy does not answer."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def command(self, text: str) -> str:
        """Send one command, return the whole reply. Raises InvalidParameterValue for one that is not a single line."""
        if any(character in text for character in "\n\r;") or not text.isprintable():
            raise InvalidParameterValue("a command is one printable line without ';'", field="command")
        try:
            async with asyncio.timeout(COMMAND_S_MAX):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                writer.write(text.encode() + b"\n")
                reply = await _read_all(reader)
                writer.close()
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"the proxy does not answer: {error or 'timed out'}") from None
        return reply.decode(errors="replace").strip()

    async def _change(self, text: str) -> None:
        reply = await self.command(text)
        if reply in _DONE:
            return
        if "No such" in reply or "not found" in reply.lower():
            raise NotFound(reply)
        raise Internal(f"the proxy refused '{text}': {reply}")

    async def add_server(self, backend: str, server: Server, health: HealthCheck | None = None) -> None:
        """Add a server that takes traffic at once (with a health check: once it is up)."""
        target = f"{name(backend, 'backend')}/{name(server.name, 'server')}"
        definition = server.render().split(" ", 2)[2]  # what follows "server NAME"
        check = f" {health.server_options()}" if health else ""
        await self._change(f"add server {target} {definition}{check}")
        if health:
            await self._change(f"enable health {target}")
        await self._change(f"enable server {target}")

    async def remove_server(self, backend: str, server: str) -> None:
        """Remove it. Raises Internal while connections are left on it: drain first."""
        target = f"{name(backend, 'backend')}/{name(server, 'server')}"
        await self._change(f"disable server {target}")
        await self._change(f"del server {target}")

    async def set_state(self, backend: str, server: str, state: ServerState) -> None:
        """drain: finish what is there, take nothing new. maint: take nothing, checks off. ready: as usual."""
        await self._change(f"set server {name(backend, 'backend')}/{name(server, 'server')} state {state}")

    async def set_weight(self, backend: str, server: str, weight: int) -> None:
        target = f"{name(backend, 'backend')}/{name(server, 'server')}"
        await self._change(f"set server {target} weight {whole(weight, 0, 256, 'weight')}")

    async def set_address(self, backend: str, server: str, address: str, port: int) -> None:
        """Point a server elsewhere; connections it has stay. Replies with what changed, so the reply is not checked."""
        endpoint(address, port)
        target = f"{name(backend, 'backend')}/{name(server, 'server')}"
        reply = await self.command(f"set server {target} addr {address} port {port}")
        if "changed" not in reply and "no need to change" not in reply:
            raise NotFound(reply)

    async def close_sessions(self, backend: str, server: str) -> None:
        """Cut the connections that a server has."""
        await self._change(f"shutdown sessions server {name(backend, 'backend')}/{name(server, 'server')}")

    async def servers(self) -> list[ServerStats]:
        rows = await self.stats()
        return [_server(row) for row in rows if row["svname"] not in ("FRONTEND", "BACKEND")]

    async def stats(self) -> list[dict[str, str]]:
        """Every counter of every frontend, backend and server: management guide 9.1, by column name."""
        text = await self.command("show stat")
        return list(csv.DictReader(io.StringIO(text.removeprefix("# "))))

    async def info(self) -> dict[str, str]:
        """`show info`: Pid, CurrConns, Uptime_sec, ..."""
        lines = (await self.command("show info")).splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if key}


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    reply = bytearray()
    while chunk := await reader.read(65_536):
        reply += chunk
        if len(reply) > REPLY_BYTES_MAX:
            raise Internal("the proxy's reply has no end")
    return bytes(reply)


def _server(row: dict[str, str]) -> ServerStats:
    return ServerStats(
        backend=row["pxname"],
        server=row["svname"],
        status=row["status"],
        sessions=int(row["scur"] or 0),
        sessions_total=int(row["stot"] or 0),
        errors_connect=int(row["econ"] or 0),
        check_status=row["check_status"],
    )
