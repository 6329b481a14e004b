"""HAProxy's runtime API: change servers of a running proxy without a reload, and read what it counts.

One connection per command, or per batch, over the stats socket (HAProxy manual, management guide 9.3); 0.5 ms each.
HAProxy answers an accepted change with an empty line, and anything else with a sentence: that sentence is the error.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from minicloud.base.errors import Internal, InvalidParameterValue, NotFound, Unavailable
from minicloud.proxy.checked import endpoint, name, whole
from minicloud.proxy.config import Server
from minicloud.proxy.health import HealthCheck

COMMAND_S_MAX = 5.0
REPLY_BYTES_MAX = 16 * 1024 * 1024
_MOVED = ("no need to change the addr", "IP changed from", "port changed from", "no need to change the port")
BATCH_MAX = 50  # commands of one line: it must fit into HAProxy's buffer
ServerState = Literal["ready", "drain", "maint"]
_DONE = ("", "New server registered.", "Server deleted.")


@dataclass(frozen=True, slots=True)
class ServerStats:
    """One server as HAProxy sees it. `status`: UP, DOWN, DOWN 1/2, MAINT, DRAIN, 'no check'... `sessions`: in use now.

    `check_status`: L4OK, L7STS, L7TOUT...; `check_code`: the answer's code, where there was one.
    """

    backend: str
    server: str
    status: str
    sessions: int
    sessions_total: int
    errors_connect: int
    check_status: str
    check_code: str = ""


class RuntimeApi:
    """Stateless: the socket is opened for each command. Raises Unavailable where the proxy does not answer."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def command(self, text: str) -> str:
        """Send one command, return the whole reply. Raises InvalidParameterValue for one that is not a single line."""
        return await self._send(_checked(text))

    async def batch(self, commands: Sequence[str]) -> list[str]:
        """Send changes together; the sentences of those that were refused. The others are carried out."""
        refused: list[str] = []
        for start in range(0, len(commands), BATCH_MAX):
            reply = await self._send(";".join(map(_checked, commands[start : start + BATCH_MAX])))
            lines = (line.strip() for line in reply.splitlines())
            refused += [line for line in lines if line not in _DONE and not line.startswith(_MOVED)]
        return refused

    async def _send(self, text: str) -> str:
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
        """Add a server that takes traffic at once (with a health check: once one has passed)."""
        for command in adding(backend, server, health):
            await self._change(command)

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
        text = await self.command("show stat -1 4 -1")
        rows = csv.reader(io.StringIO(text.removeprefix("# ")))
        places = {name: place for place, name in enumerate(next(rows, []))}
        wanted = [places[name] for name in _COLUMNS] if places else []
        return [_server([row[place] for place in wanted]) for row in rows if row]

    async def stats(self) -> list[dict[str, str]]:
        """Every counter of every frontend, backend and server: management guide 9.1, by column name."""
        text = await self.command("show stat")
        return list(csv.DictReader(io.StringIO(text.removeprefix("# "))))

    async def info(self) -> dict[str, str]:
        """`show info`: Pid, CurrConns, Uptime_sec, ..."""
        lines = (await self.command("show info")).splitlines()
        return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if key}


def _checked(text: str) -> str:
    if any(character in text for character in "\n\r;") or not text.isprintable():
        raise InvalidParameterValue("a command is one printable line without ';'", field="command")
    return text


def adding(backend: str, server: Server, health: HealthCheck | None) -> list[str]:
    """The commands that add a server. With a health check it takes traffic once one has passed, and not a moment
    before: it enters with weight 0, is said to be down, and gets its weight then.
    """
    target = f"{name(backend, 'backend')}/{name(server.name, 'server')}"
    definition = (replace(server, weight=0) if health else server).render().split(" ", 2)[2]
    if health is None:
        return [f"add server {target} {definition}", f"enable server {target}"]
    return [
        f"add server {target} {definition} {health.server_options()}",
        f"enable health {target}",
        f"enable server {target}",
        f"set server {target} health down",
        f"set server {target} weight {whole(server.weight, 0, 256, 'weight')}",
    ]


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    reply = bytearray()
    while chunk := await reader.read(65_536):
        reply += chunk
        if len(reply) > REPLY_BYTES_MAX:
            raise Internal("the proxy's reply has no end")
    return bytes(reply)


_COLUMNS = ("pxname", "svname", "status", "scur", "stot", "econ", "check_status", "check_code")


def _server(row: list[str]) -> ServerStats:
    """`row`: the columns above."""
    backend, server, status, now, total, errors, check_status, check_code = row
    return ServerStats(
        backend, server, status, int(now or 0), int(total or 0), int(errors or 0), check_status, check_code
    )
