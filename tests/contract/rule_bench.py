"""A service of rules over targets that tests look into and a clock that they move; it can be killed and start again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError
from minicloud.event import commands
from minicloud.event.events import Entry, Happening
from minicloud.event.model import Rule, Target
from minicloud.event.service import EventService, Ports
from minicloud.shell.clock import VirtualClock
from minicloud.store.memory import MemoryDisk, MemoryJournal
from tests.contract.function_world import KeptReports
from tests.turns import SECONDS_MAX

HOME, OTHER = Scope(), Scope("111122223333")
QUEUE, DEAD, FUNCTION = HOME.arn("sqs", "jobs"), HOME.arn("sqs", "dead"), HOME.arn("lambda", "function:f")
PATTERN = json.dumps({"source": ["my.app"]})
STATES = json.dumps({"source": ["aws.ec2"], "detail": {"state": ["running", "terminated"]}})


@dataclass
class World:
    """Targets and sources. `refuse`: what a target answers, by its ARN; `after`: that many times, then no more."""

    arrived: list[tuple[str, str, str]] = field(default_factory=list)  # target, rule, body
    dead: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    refuse: dict[str, CloudError | Exception] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    tried: int = 0
    listened: list[Scope] = field(default_factory=list)
    deaf: CloudError | None = None

    async def deliver(self, scope: Scope, rule_arn: str, target: Target, body: str) -> None:
        self.tried += 1
        self._refused(target.arn)
        self.arrived.append((target.arn, rule_arn.rpartition("/")[2], body))

    async def dead_letter(self, scope: Scope, queue: str, body: str, attributes: Mapping[str, str]) -> None:
        self._refused(queue)
        self.dead.append((queue, body, dict(attributes)))

    async def listen(self, scope: Scope) -> None:
        if self.deaf is not None:
            raise self.deaf
        self.listened.append(scope)

    def _refused(self, arn: str) -> None:
        error = self.refuse.get(arn)
        if error is not None and self.times.get(arn, 1) > 0:
            if arn in self.times:
                self.times[arn] -= 1
            raise error

    def events(self, target: str = QUEUE) -> list[Any]:
        return [json.loads(body) for arn, _, body in self.arrived if arn == target]


class Bench:
    def __init__(self) -> None:
        self.disk = MemoryDisk()
        self.clock = VirtualClock(1_790_000_000.0)
        self.world = World()
        self.reports = KeptReports()
        self.service: EventService

    async def start(self) -> Bench:
        self.journal = MemoryJournal(self.disk)
        self.service = EventService(self.journal, Ports(self.world, self.world, self.reports, self.clock))
        await self.service.start()
        return self

    async def stop(self) -> None:
        await self.service.stop()
        self.journal.close()

    async def again(self) -> None:
        await self.stop()
        await self.start()

    async def rule(
        self, *targets: Target, name: str = "r", pattern: str = PATTERN, scope: Scope = HOME, **more: Any
    ) -> Rule:
        made: Rule = await self.service.submit(commands.PutRule(scope, name, pattern, **more))
        if targets:
            made = await self.service.submit(commands.PutTargets(scope, name, targets))
        return made

    async def send(self, *sources: str, scope: Scope = HOME, **detail: Any) -> list[Any]:
        entries = [Entry(source, "t", json.dumps(detail)) for source in sources or ("my.app",)]
        return await self.service.put_events(scope, entries)

    async def until(self, true: Callable[[], Any]) -> None:
        """Without moving the clock. What a thread does takes as long as the machine lets it."""
        async with asyncio.timeout(SECONDS_MAX):
            while not true():
                await self.clock.settle()

    async def move(self, seconds: float, true: Callable[[], Any]) -> None:
        await self.clock.advance(seconds)
        await self.until(true)


def state_change(instance_id: str, state: str, scope: Scope = HOME) -> Happening:
    arn = scope.arn("ec2", f"instance/{instance_id}")
    detail = {"instance-id": instance_id, "state": state}
    kind = "EC2 Instance State-change Notification"
    return Happening(f"id-{state}", scope, "aws.ec2", kind, 1_790_000_000.0, (arn,), detail)
