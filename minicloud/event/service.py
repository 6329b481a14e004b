"""Rules at work: the machine behind its shell, and what becomes of events.

    put_events, happened -> which rules match -> a parcel for each of their targets, on disk -> reply -> delivered
    a rule's time        -> the same for its own targets -> its next time is recorded

What happens in the cloud is told only for scopes that listen: before a scope's first rule with a pattern is recorded,
`Sources.listen` has returned; and who tells is told back which scopes have no such rule (any more). After a start it is
said again of every scope that has one: whoever tells may have lost it with its disk.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Unavailable
from minicloud.base.machine import Journal, Touched
from minicloud.event import errors, events
from minicloud.event.commands import PutRule, RuleFired
from minicloud.event.links.delivery import Deliveries, Outside, Parcel
from minicloud.event.links.matching import Matching, takes
from minicloud.event.machine import Rules
from minicloud.event.metering import MATCHED, TRIGGERED, Meter
from minicloud.event.model import Rule
from minicloud.event.patterns import compile_pattern, event_of
from minicloud.event.ports import NoSources, NoTargets, Sources, Targets
from minicloud.event.state import State
from minicloud.shell.backlog import RawJournal
from minicloud.shell.clock import Clock, SystemClock, Timer
from minicloud.shell.firing import Firing
from minicloud.shell.patterns import TooMuch, Whole
from minicloud.shell.reports import NoReports, Reports
from minicloud.shell.shell import Shell

log = logging.getLogger(__name__)
T = TypeVar("T")
AGAIN_S = 5.0  # ours: after a source that did not hear
REPORT_S = 5.0
SCHEDULED = ("aws.events", "Scheduled Event")


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into."""

    targets: Targets = field(default_factory=NoTargets)
    sources: Sources = field(default_factory=NoSources)
    reports: Reports = field(default_factory=NoReports)
    clock: Clock = field(default_factory=SystemClock)
    rand: random.Random = field(default_factory=random.SystemRandom)


class RecordJournal(Journal, RawJournal, Protocol):
    """Records of the machine, and beside them the events on their way."""


class EventService:
    """One shard."""

    def __init__(self, journal: RecordJournal, ports: Ports) -> None:
        self._ports = ports
        machine = Rules()
        self.state: State = machine.state
        self.shell = Shell(machine, journal, clock=ports.clock, rand=ports.rand, on_effects=self._changed)
        self.ended = self.shell.ended  # another owner took over, or the disk failed: nothing is served any more
        self.meter = Meter(self._arm_report)
        self._report_timer: Timer | None = None
        self.deliveries = Deliveries(journal, Outside(ports.targets, self.meter, ports.clock, self.ended.set))
        self._matching = Matching()
        self._firing = Firing("rule", self.state, self._fire, ports.clock)
        self._listening: asyncio.Task[None] | None = None
        self._opening: Counter[Scope] = Counter()  # scopes whose first rule with a pattern may be on its way

    async def start(self, owner: str = "") -> None:
        """Raises what the journal raises."""
        await self.shell.start(owner)
        self.deliveries.start()
        self._firing.follow()
        self._listening = asyncio.create_task(self._listen_again())

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self._firing.stop()
        await self.deliveries.stop()
        self._matching.close()
        if self._report_timer is not None:
            self._report_timer.cancel()
        self._report()
        await self.shell.stop()

    # --- records

    async def submit(self, command: Any) -> Any:
        """One of event.commands; its reply, once it is on disk. Raises as the machine and the shell do."""
        if not isinstance(command, PutRule) or not command.pattern:
            return await self.shell.submit(command)
        compile_pattern(command.pattern)
        self._opening[command.scope] += 1
        try:
            if not self.state.with_pattern(command.scope):
                await self._ports.sources.listen(command.scope)
            return await self.shell.submit(command)
        finally:
            self._opening[command.scope] -= 1
            if not self._opening[command.scope]:
                del self._opening[command.scope]

    async def _listen_again(self) -> None:
        left = {rule.scope for rule in self.state.rules.values() if rule.pattern}
        while left:
            for scope in list(left):
                try:
                    await self._ports.sources.listen(scope)
                    left.discard(scope)
                except CloudError as error:
                    log.warning("what happens in %s may not be told yet: %s", scope.key(), error)
            if left:
                await self._ports.clock.sleep(AGAIN_S)

    async def shown(self, look: Callable[[State], T]) -> T:
        """What `look` sees, or raises, once all of it is on disk."""
        return await self.shell.shown(lambda: look(self.state))

    def _changed(self, _effects: Sequence[Touched]) -> None:
        self._firing.follow()

    # --- events

    async def put_events(self, scope: Scope, entries: Sequence[events.Entry]) -> list[str | events.Flaw]:
        """The id of each event, once all are on disk, or why an entry is not taken.

        Raises ValidationException, ThrottlingException, InsufficientStorage, Unavailable.
        """
        events.check_size(entries)
        now = self._ports.clock.wall()
        results: list[str | events.Flaw] = []
        parcels: list[Parcel] = []
        for entry in entries:
            found = events.parsed(entry, self._new_id(), scope, now)
            results.append(found if isinstance(found, events.Flaw) else found["id"])
            if not isinstance(found, events.Flaw):
                try:
                    parcels += await self._matched(scope, found, now)
                except TooMuch:
                    results[-1] = events.Flaw(events.INVALID, "It takes too long to match the event against the rules.")
        await self._put(parcels)
        return results

    async def happened(self, told: Sequence[events.Happening]) -> set[Scope]:
        """What the cloud tells, on disk when it returns. The reply: scopes in which nobody listens."""
        now = self._ports.clock.wall()
        await self._put([one for each in told for one in await self._matched(each.scope, each.event(), now)])
        return await self.shown(lambda _: {one.scope for one in told if not self._listens(one.scope)})

    def _listens(self, scope: Scope) -> bool:
        return bool(self._opening[scope] or self.state.with_pattern(scope))

    async def _put(self, parcels: list[Parcel]) -> None:
        if self.ended.is_set():
            raise Unavailable("The process lost its journal and starts again; retry.")
        await self.deliveries.put(parcels)

    async def _matched(self, scope: Scope, event: dict[str, Any], now: float) -> list[Parcel]:
        """Raises TooMuch, ThrottlingException."""
        rules = [one for one in self.state.with_pattern(scope) if one.enabled and one.targets]
        if not rules:
            return []
        raw = json.dumps(event, separators=(",", ":")).encode()
        found = await self._matching.rules_for(scope.account, rules, event, len(raw))
        for rule in found:
            self.meter.count(scope, rule.arn, MATCHED, TRIGGERED)
        return [parcel for rule in found for parcel in _parcels(rule, raw, now)]

    async def tested(self, scope: Scope, pattern: str, event: str) -> bool:
        """Whether a pattern takes an event. Raises InvalidEventPatternException, ValidationException, ..."""
        compiled, given = compile_pattern(pattern), event_of(event)
        try:
            return await self._matching.look(
                scope.account, lambda tests: takes(compiled, Whole(given, tests), len(event))
            )
        except TooMuch:
            raise errors.not_valid("Event", "It takes too long to match it against the pattern.") from None

    async def _fire(self, rule: Rule) -> None:
        assert rule.next is not None
        event = events.event(self._new_id(), rule.scope, SCHEDULED, rule.next, [rule.arn], {})
        raw = json.dumps(event, separators=(",", ":")).encode()
        await self._put([*_parcels(rule, raw, self._ports.clock.wall())])
        self.meter.count(rule.scope, rule.arn, TRIGGERED)
        await self.shell.submit(RuleFired(rule.arn, rule.next))

    def _arm_report(self) -> None:
        clock = self._ports.clock
        self._report_timer = clock.call_at(clock.wall() + REPORT_S, self._report)

    def _report(self) -> None:
        self._ports.reports.report(self.meter.report(self._ports.clock.wall()))

    def _new_id(self) -> str:
        return str(uuid.UUID(int=self._ports.rand.getrandbits(128), version=4))


def _parcels(rule: Rule, event: bytes, now: float) -> Iterator[Parcel]:
    return (Parcel(rule.scope, rule.arn, target, now, event) for target in rule.targets)
