"""A balancer service on a real HAProxy and a real journal, with small web servers behind it, all in one event loop."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from minicloud.balancer import commands as ask
from minicloud.balancer.commands import HealthSpec, TargetSpec
from minicloud.balancer.model import Action, Balancer, Group, Listener, Rule, Weighted
from minicloud.balancer.ports import Functions, NoFunctions
from minicloud.balancer.service import BalancerService, Work
from minicloud.base.arn import Scope
from minicloud.identity.seal import AesGcmSeal
from minicloud.store.sqlite import SqliteJournal

HOME = Scope()
SEAL = AesGcmSeal(b"s" * 32)
SECOND_MS = 20  # of health checks: an interval of 5 s passes in 100 ms
QUICK = HealthSpec(path="/health", interval_s=5, timeout_s=2, healthy=2, unhealthy=2)


@dataclass(slots=True)
class Web:
    """An HTTP/1.1 server that says who it is and what it was sent. What it does next can be set from outside."""

    name: str
    address: str = "127.0.0.1"
    port: int = 0
    health: int = 200
    mute: bool = False  # accepts, and never answers
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # /hold answers once it is set
    head: str = ""  # more headers of the answer
    seen: list[str] = field(default_factory=list)
    server: asyncio.Server | None = None
    holding: int = 0
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    tls: ssl.SSLContext | None = None

    async def start(self) -> Web:
        self.server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        if self.server:
            self.server.close()

    async def kill(self) -> None:
        """The listener and every connection, at once."""
        await self.stop()
        for writer in list(self.open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while (head := (await reader.readuntil(b"\r\n\r\n")).decode()) and await self._answer(head, reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def _answer(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.mute:
            await asyncio.Event().wait()
        path = head.split(" ", 2)[1]
        if "upgrade: websocket" in head.lower():
            accept = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
            writer.write(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + accept + b"\r\n")
            while data := await reader.read(1000):
                writer.write(data)
            return False
        status, body = 200, f"{self.name}\n{head}"
        if path == "/health":
            status = self.health
        else:
            self.seen.append(head)
        if path.startswith("/hold"):
            self.holding += 1
            await self.hold.wait()
        lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{self.head}\r\n{body}"
        writer.write(lines.encode())
        await writer.drain()
        return True


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: str
    cookies: list[str]

    @property
    def who(self) -> str:
        return self.body.split("\n", 1)[0]


class Client:
    """One connection, kept open."""

    def __init__(self, address: str, port: int, tls: ssl.SSLContext | None = None, name: str = "") -> None:
        self._where = (address, port)
        self._tls = tls
        self._name = name
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str = "/", method: str = "GET", host: str = "app.example", **headers: str) -> Reply:
        if self._streams is None:
            extra: dict[str, Any] = {"ssl": self._tls, "server_hostname": self._name} if self._tls else {}
            self._streams = await asyncio.open_connection(*self._where, **extra)
        reader, writer = self._streams
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: {host}",
            *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
        ]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in head[1:] if line]
        found = {key.lower(): value for key, value in pairs}
        body = await reader.readexactly(int(found.get("content-length", "0")))
        if found.get("connection", "") == "close":
            self.close()
        cookies = [value for key, value in pairs if key.lower() == "set-cookie"]
        return Reply(int(head[0].split()[1]), found, body.decode(), cookies)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None


class World:
    """The service, and shorthand for what tests do with it."""

    def __init__(self, folder: Path, functions: Functions | None = None) -> None:
        self.folder = folder
        self.functions = functions or NoFunctions()
        self.webs: dict[str, Web] = {}
        self.pids: list[int] = []
        self.service: BalancerService

    async def start(self) -> World:
        self.journal = SqliteJournal(self.folder / "state.db")
        work = Work(
            self.folder / "balancer",
            dict(os.environ),
            threads=1,
            second_ms=SECOND_MS,
            look_s=0.05,
            seal=AesGcmSeal(b"s" * 32),
            functions=self.functions,
        )
        self.service = BalancerService(self.journal, work, on_pid=self.pids.append)
        await self.service.start()
        return self

    async def stop(self) -> None:
        await self.service.stop(grace_s=0)
        self.journal.close()

    async def crash(self) -> None:
        """As if this process were killed: HAProxy stays, and nobody looks after it."""
        for task in self.service._tasks:
            task.cancel()
        await asyncio.gather(*self.service._tasks, return_exceptions=True)
        self.journal.close()

    async def close(self) -> None:
        await self.stop()
        for web in self.webs.values():
            await web.stop()

    async def web(self, name: str, **fields: Any) -> Web:
        self.webs[name] = await Web(name, **fields).start()
        return self.webs[name]

    async def balancer(self, name: str = "web", **fields: Any) -> Balancer:
        made: Balancer = await self.service.submit(ask.CreateBalancer(HOME, name, **fields))
        return made

    async def group(self, *webs: Web, name: str = "app", protocol: str = "HTTP", **fields: Any) -> Group:
        fields.setdefault("health", QUICK)
        made: Group = await self.service.submit(ask.CreateGroup(HOME, name, protocol, 80, target_type="ip", **fields))
        if webs:
            await self.register(made, *webs)
        return made

    async def register(self, group: Group, *webs: Web) -> None:
        await self.service.submit(ask.RegisterTargets(HOME, group.arn, specs(*webs)))

    async def deregister(self, group: Group, *webs: Web) -> None:
        await self.service.submit(ask.DeregisterTargets(HOME, group.arn, specs(*webs)))

    async def listener(self, balancer: Balancer, action: Action, port: int = 8080, **fields: Any) -> Listener:
        protocol = fields.pop("protocol", "HTTP")
        command = ask.CreateListener(HOME, balancer.arn, protocol, port, action, **fields)
        made: tuple[Listener, Rule] = await self.service.submit(command)
        await self.service.settled()
        return made[0]

    async def attributes(self, arn: str, **values: str) -> None:
        given = {key.replace("__", "."): value for key, value in values.items()}
        await self.service.submit(ask.SetAttributes(HOME, arn, given))
        await self.service.settled()

    def health(self, group: Group) -> list[str]:
        targets = self.service.read(lambda state: state.targets_of(group.arn))
        by_port = sorted(targets, key=lambda one: one.port)
        return [one.state + (f" {one.reason}" if one.reason else "") for one in by_port]

    async def healthy(self, group: Group, count: int) -> None:
        await until(lambda: self.health(group).count("healthy") == count)


def specs(*webs: Web) -> tuple[TargetSpec, ...]:
    return tuple(TargetSpec(web.address, web.port) for web in webs)


def forward(*groups: Group | tuple[Group, int], **fields: Any) -> Action:
    pairs = [one if isinstance(one, tuple) else (one, 1) for one in groups]
    return Action("forward", tuple(Weighted(group.arn, weight) for group, weight in pairs), **fields)


def pems(ca: trustme.CA, *names: str) -> tuple[str, str]:
    made = ca.issue_cert(*names)
    return made.cert_chain_pems[0].bytes().decode(), made.private_key_pem.bytes().decode()


async def secure(
    world: World, balancer: Balancer, action: Action, *names: str, protocol: str = "HTTPS"
) -> ssl.SSLContext:
    """A TLS listener on 8443 with a certificate for each name; what a client needs to trust them."""
    ca = trustme.CA()
    arns = [(await world.service.submit(ask.ImportCertificate(HOME, *pems(ca, name)))).arn for name in names]
    listener = await world.listener(balancer, action, 8443, protocol=protocol, certificates=(arns[0],))
    await world.service.submit(ask.ModifyListener(HOME, listener.arn, add=tuple(arns[1:])))
    await world.service.settled()
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    return trust


async def until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def spread(address: str, port: int, times: int, path: str = "/", **headers: str) -> Counter[str]:
    """Who answered how often, on one connection."""
    client = Client(address, port)
    replies = [await client.get(path, **headers) for _ in range(times)]
    client.close()
    return Counter(reply.who if reply.status == 200 else str(reply.status) for reply in replies)


class Load:
    """Requests one after the other on several connections, until told to stop. What fails is kept."""

    def __init__(self, address: str, port: int, connections: int = 4, path: str = "/") -> None:
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self._stop = False
        self._path = path
        self._tasks = [asyncio.create_task(self._run(Client(address, port))) for _ in range(connections)]

    async def _run(self, client: Client) -> None:
        while not self._stop:
            try:
                reply = await client.get(self._path)
                if reply.status == 200:
                    self.done[reply.who] += 1
                else:
                    self.failed.append(str(reply.status))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failed.append(repr(error))
                client.close()
                await asyncio.sleep(0.01)
        client.close()

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)
