"""A function service over queues that tests fill and a clock that they move, for events, mappings and schedules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import NotFound, Unavailable
from minicloud.function.commands import (
    CreateFunction,
    Given,
)
from minicloud.function.model import Code
from minicloud.function.ports import Invocation, Message, Outcome
from minicloud.function.service import FunctionService, Ports
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.contract.function_world import FakeEnvironments, KeptReports, failed, packed
from tests.turns import SECONDS_MAX

HOME = Scope()
QUEUE = HOME.arn("sqs", "jobs")
DONE, FAILED, DEAD = HOME.arn("sqs", "done"), HOME.arn("sns", "failed"), HOME.arn("sqs", "dead")
GOOD = Outcome(b'{"ok":true}')
BAD = failed("Unhandled", "no")


@dataclass
class Queues:
    """One queue to receive from, and what was sent anywhere."""

    sent: list[tuple[str, Any, dict[str, tuple[str, bytes]]]] = field(default_factory=list)
    waiting: list[Message] = field(default_factory=list)
    hidden: dict[bytes, Message] = field(default_factory=dict)
    deleted: list[bytes] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)
    away: int = 0
    silent: bool = False
    unanswered: int = 0
    gone: bool = False
    broken: bool = False
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def fill(self, *bodies: str) -> None:
        for body in bodies:
            number = len(self.waiting) + len(self.hidden) + len(self.deleted)
            self.waiting.append(Message(f"m{number}", str(number).encode(), body, {}, {}))
        self.arrived.set()

    async def send(self, scope: Scope, arn: str, body: bytes, attributes: Mapping[str, tuple[str, bytes]]) -> None:
        if self.gone:
            raise NotFound("gone")
        if self.silent:
            self.unanswered += 1
            try:
                await asyncio.Event().wait()
            finally:
                self.unanswered -= 1
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        self.sent.append((arn, json.loads(body), dict(attributes)))

    async def receive(self, scope: Scope, queue: str, most: int, wait_s: int) -> list[Message]:
        if not self.waiting:
            self.arrived.clear()
            await self.arrived.wait()
        if self.broken:
            self.broken = False
            raise Unavailable("away")
        found, self.waiting = self.waiting[:most], self.waiting[most:]
        self.hidden |= {one.handle: one for one in found}
        return found

    async def delete(self, scope: Scope, queue: str, handles: Sequence[bytes]) -> None:
        for handle in handles:
            del self.hidden[handle]
            self.deleted.append(handle)

    async def release(self, scope: Scope, queue: str, handles: Sequence[bytes], after_s: int) -> None:
        self.released += handles


class Bench:
    """A service on a clock that tests move, which can be killed and started again on what is on its disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = MemoryDisk()
        self.clock = VirtualClock(1_790_000_000.0)
        self.environments = FakeEnvironments()
        self.queues = Queues()
        self.reports = KeptReports()
        self.service: FunctionService

    async def start(self) -> Bench:
        self._journal = MemoryJournal(self.disk)
        ports = Ports(self.environments, self.reports, self.queues, self.clock)
        self.service = FunctionService(self._journal, self.folder / "packages", ports)
        await self.service.start()
        return self

    async def stop(self) -> None:
        await self.service.stop()
        self._journal.close()

    async def again(self) -> None:
        await self.stop()
        await self.start()

    async def function(
        self, name: str = "f", run: Callable[[Invocation], Any] | None = None, scope: Scope = HOME, **given: Any
    ) -> None:
        if run is not None:
            self.environments.runs[name] = run
        settings = Given("python3.11", "main.run", "arn:aws:iam::000000000000:role/r", **given)
        command = CreateFunction(scope, name, settings, Code("", 0, 0))
        await self.service.with_package(packed(main="def run(e, c): pass"), command)

    async def until(self, true: Callable[[], Any]) -> None:
        """Without moving the clock. What a thread does takes as long as the machine lets it."""
        async with asyncio.timeout(SECONDS_MAX):
            while not true():
                await self.clock.settle()

    async def move(self, seconds: float, true: Callable[[], Any]) -> None:
        await self.clock.advance(seconds)
        await self.until(true)

    @property
    def calls(self) -> list[Invocation]:
        return [invocation for _, invocation in self.environments.calls]
