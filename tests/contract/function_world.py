"""FunctionService at its own door and Locate at another, over a real journal and environments that tests program.

async with function_world(tmp_path) as world:
    world.client()                          # an AsyncClient of account 000000000000
    world.runs["f"] = lambda invocation: Outcome(b"1")
"""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from minicloud.base import limits
from minicloud.base.arn import Caller, Scope
from minicloud.client import AsyncClient
from minicloud.event.rpc import RULES, RuleServicer
from minicloud.event.service import EventService
from minicloud.event.service import Ports as EventPorts
from minicloud.function.ports import Counts, Done, EnvironmentSpec, Invocation, Outcome
from minicloud.function.rpc.many import DESCRIPTOR as MANY
from minicloud.function.rpc.many import InvocationServicer
from minicloud.function.rpc.servicer import DESCRIPTOR, FunctionServicer
from minicloud.function.service import FunctionService, Ports
from minicloud.rpc.door import Entry, Metadata, door
from minicloud.rpc.locate import COMPUTING, Listening, Locator, visitors
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import FUNCTIONS, ticket_door
from minicloud.shell.reports import NoReports, Report, Reports
from minicloud.store.sqlite import SqliteJournal

SECRET = bytes(range(32))
Run = Callable[[Invocation], Outcome | Awaitable[Outcome]]


@dataclass
class FakeEnvironments:
    """`runs`: what a function does, by its name; without an entry it echoes. Remembers what it was asked."""

    runs: dict[str, Run] = field(default_factory=dict)
    calls: list[tuple[EnvironmentSpec, Invocation]] = field(default_factory=list)
    retired: list[tuple[str, str, str]] = field(default_factory=list)
    prepared: dict[str, int] = field(default_factory=dict)
    called: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self, spec: EnvironmentSpec, invocation: Invocation, done: Done) -> bool:
        """As if none was ever warm."""
        return False

    async def invoke(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        self.calls.append((spec, invocation))
        self.called.set()
        run = self.runs.get(spec.name)
        if run is None:
            return Outcome(invocation.payload or b"null", duration_ms=1.5, billed_ms=2, tail=b"tail")
        found = run(invocation)
        return found if isinstance(found, Outcome) else await found

    async def prepare(self, spec: EnvironmentSpec, count: int) -> int:
        self.prepared[f"{spec.arn}:{spec.version}"] = count
        return count

    async def retire(self, arn: str, version: str = "", revision: str = "") -> None:
        self.retired.append((arn, version, revision))

    def counts(self, arn: str = "", version: str = "") -> Counts:
        return Counts()

    def runtimes(self) -> Sequence[str]:
        return ("python3.11", "provided.al2023")


@dataclass
class KeptReports:
    kept: list[Report] = field(default_factory=list)

    def report(self, reports: Sequence[Report]) -> None:
        self.kept += reports


@dataclass
class World:
    service: FunctionService
    rules: EventService
    environments: FakeEnvironments
    address: str
    folder: Path

    @property
    def runs(self) -> dict[str, Run]:
        return self.environments.runs

    def client(self, account: str = "000000000000") -> AsyncClient:
        """The front door of this world takes the name of a key for an account."""
        return AsyncClient(self.address, access_key_id=account, secret_access_key="s")

    def packages(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "packages").iterdir())


@asynccontextmanager
async def function_world(folder: Path, reports: Reports | None = None) -> AsyncIterator[World]:
    environments = FakeEnvironments()
    ports = Ports(environments, reports or NoReports())
    service = FunctionService(SqliteJournal(folder / "state.db"), folder / "packages", ports)
    await service.start()
    rules = EventService(SqliteJournal(folder / "events.db"), EventPorts())
    await rules.start()
    servicer = FunctionServicer(service, b"pages", lambda url: f"http://{url}.lambda-url.test/")
    entry = Entry(ticket_door(FUNCTIONS, SECRET, 0, time.time), _id, limits.GRPC_FUNCTION_BYTES_MAX)
    listen = Listen(message_bytes_max=limits.GRPC_FUNCTION_BYTES_MAX)
    doors = [
        door(servicer, DESCRIPTOR, entry),
        door(InvocationServicer(service), MANY, entry),
        door(RuleServicer(rules, b"pages"), RULES, entry),
    ]
    shard = RpcServer(doors, _id, listen)
    locator = Locator(FUNCTIONS, Listening("127.0.0.1", (await shard.start(),)), SECRET, time.time)
    front = RpcServer([door(locator, COMPUTING, Entry(visitors(_admit), _id))], _id, Listen())
    port = await front.start()
    try:
        yield World(service, rules, environments, f"127.0.0.1:{port}", folder)
    finally:
        await front.stop(0)
        await shard.stop(0)
        await rules.stop()
        await service.stop()


def packed(**files: str) -> bytes:
    """A zip of files by name, without their `.py`."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, text in files.items():
            opened.writestr(f"{name}.py", text)
    return raw.getvalue()


def failed(kind: str, message: str) -> Outcome:
    body = json.dumps({"errorMessage": message, "errorType": "Exception"}).encode()
    return Outcome(body, kind, duration_ms=1.0, billed_ms=1)


async def after(seconds_of: asyncio.Event, outcome: Outcome) -> Outcome:
    await seconds_of.wait()
    return outcome


def _id() -> str:
    return "id"


def _admit(metadata: Metadata) -> Caller:
    named = str(metadata.get("authorization", "")).removeprefix("Bearer ").partition(":")[0]
    return Caller(Scope(named) if named else Scope())
