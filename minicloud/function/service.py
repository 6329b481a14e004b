"""Functions at work: the machine behind its shell, and what follows from its records.

    submit(command) -> on disk -> reply; then environments, packages, pollers and schedules follow
    invoke(request) -> which version -> may it run now? -> environments -> answer

A package is on disk before the record that names it. An invocation that began goes on when its caller goes away: the
guest may be half-way, and its concurrency is in use until it ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from minicloud.base.errors import Unavailable
from minicloud.base.machine import Journal, Touched
from minicloud.function import errors, limits, names, policies
from minicloud.function.commands import CreateFunction, PublishLayer, UpdateCode, UpdateSettings
from minicloud.function.concurrency import Ledger
from minicloud.function.invoking import Answer, Request, Specs, check_context, check_payload, want
from minicloud.function.links import events, firing, polling
from minicloud.function.links.packages import Packages
from minicloud.function.links.warmth import Warmth
from minicloud.function.machine import Functions
from minicloud.function.metering import Meter
from minicloud.function.model import (
    Alias,
    Function,
    LayerVersion,
    Mapping,
    Provisioned,
    Schedule,
    Version,
)
from minicloud.function.ports import UNHANDLED, Environments, Invocation, Messages, NoMessages, Outcome, Shell
from minicloud.function.state import State
from minicloud.shell.clock import Clock, SystemClock, Timer
from minicloud.shell.reports import NoReports, Reports
from minicloud.shell.shell import Shell as DurableShell

log = logging.getLogger(__name__)
T = TypeVar("T")

REPORT_S = 5.0
TOO_LARGE = (
    b'{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291456 bytes).",'
    b'"errorType":"Function.ResponseSizeTooLarge"}'
)


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into."""

    environments: Environments
    reports: Reports = field(default_factory=NoReports)
    messages: Messages = field(default_factory=NoMessages)
    clock: Clock = field(default_factory=SystemClock)
    rand: random.Random = field(default_factory=random.SystemRandom)


class RecordJournal(Journal, events.RawJournal, Protocol):
    """Records of the machine, and beside them the events that wait."""


class FunctionService:
    """One shard. `folder`: where packages are kept."""

    def __init__(self, journal: RecordJournal, folder: Path, ports: Ports) -> None:
        self._ports = ports
        self._environments = ports.environments
        self._machine = Functions()
        state = self.state = self._machine.state
        shell = DurableShell(self._machine, journal, clock=ports.clock, rand=ports.rand, on_effects=self._changed)
        self.shell: Shell = shell
        self.ended = shell.ended  # another owner took over, or the disk failed: nothing is served any more
        self.packages = Packages(folder, state.packages)
        self.specs = Specs(self.packages.path)
        self.warmth = Warmth(state, self.specs, ports.environments)
        self.ledger = Ledger()
        self.meter = Meter(self._arm_report)
        self._report_timer: Timer | None = None
        outside = events.Outside(self.invoke, ports.messages, self.meter, ports.clock, self.ended.set)
        self.events = events.Events(journal, state, outside)
        self.polling = polling.Polling(polling.Outside(self.invoke, ports.messages, ports.clock))
        self._firing = firing.Firing(
            state, firing.Outside(self.events.put, self.submit, self.new_request_id, ports.clock)
        )
        self.followers: list[Callable[[Sequence[Touched]], None]] = []  # who else hears of changes
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Raises what the journal raises."""
        await self.shell.start()
        self.packages.sweep()
        self.warmth.follow()
        self.events.start()
        self._poll()
        self._firing.follow()

    async def stop(self) -> None:
        await self.polling.stop()
        await self._firing.stop()
        await self.events.stop()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.warmth.close()
        if self._report_timer is not None:
            self._report_timer.cancel()
        self._report()
        await self.shell.stop()

    # --- records

    async def submit(self, command: Any) -> Any:
        """One of function.commands; its reply, once it is on disk. Raises as Functions.decide and the shell do."""
        if isinstance(command, UpdateSettings):
            self._check_runtime(command.given.runtime or "")
        return await self.shell.submit(command)

    async def with_package(self, raw: bytes, command: CreateFunction | UpdateCode | PublishLayer) -> Any:
        """`submit` of a command whose package these bytes are (its `code` is overwritten).

        Raises BadZip, MessageTooLarge, InsufficientStorage too.
        """
        if isinstance(command, CreateFunction):
            self._check_runtime(command.given.runtime or "")
        async with self.packages.kept(raw) as code:
            return await self.shell.submit(replace(command, code=code))

    async def shown(self, look: Callable[[State], T]) -> T:
        """What `look` sees, or raises, once all of it is on disk."""
        return await self.shell.shown(lambda: look(self.state))

    def read(self, look: Callable[[State], T]) -> T:
        return self.shell.read(lambda: look(self.state))

    def _check_runtime(self, runtime: str) -> None:
        """What is not installed would fail at every invocation; the machine refuses what is no runtime at all."""
        here = self._environments.runtimes()
        known = runtime.partition(".")[0].rstrip("0123456789") in ("python", "nodejs", "provided")
        if runtime and known and runtime not in here:
            text = f"The runtime {runtime} is not installed on the machines of this cloud; there are {', '.join(here)}"
            raise errors.invalid(text, "runtime")

    # --- what follows from records

    def _changed(self, effects: Sequence[Touched]) -> None:
        for one in effects:
            if one.kind == Version.kind:
                self._follow_version(one.before, one.after)
            elif one.kind == LayerVersion.kind and one.after is None:
                self.packages.let_go(one.before.code.sha256)
            elif one.kind == Function.kind and one.after is None:
                self._spawn(self._environments.retire(one.key))
        if any(one.kind in (Provisioned.kind, Alias.kind, Version.kind) for one in effects):
            self.warmth.follow()
        if any(one.kind == Mapping.kind for one in effects):
            self._poll()
        if any(one.kind == Schedule.kind for one in effects):
            self._firing.follow()
        for follower in self.followers:
            follower(effects)

    def _poll(self) -> None:
        self.polling.follow([one for one in self.state.mappings.values() if one.enabled])

    def _follow_version(self, before: Version | None, after: Version | None) -> None:
        if before is None:
            return
        self.specs.forget(before)
        if after is None:
            self._spawn(self._environments.retire(before.function, before.version))
        else:
            self._spawn(self._environments.retire(before.function, before.version, after.revision))
        if after is None or after.code != before.code:
            self.packages.let_go(before.code.sha256)

    def _spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("functions: what follows from a change was not done", exc_info=task.exception())

    # --- invocations

    async def invoke(self, request: Request, bytes_max: int = limits.SYNC_BYTES_MAX) -> Answer:
        """Run it and wait for it.

        Raises ResourceNotFoundException, InvalidParameterValueException, InvalidRequestContentException,
        RequestTooLargeException, TooManyRequestsException, AccessDeniedException, Unavailable.
        """
        return await asyncio.shield(self.begin(request, bytes_max))

    def begin(self, request: Request, bytes_max: int = limits.SYNC_BYTES_MAX) -> asyncio.Task[Answer]:
        """The same without waiting: the answer, or more of what `invoke` raises, will be the task's.

        It is the service's: not to be cancelled, and it may be forgotten.
        """
        target = self.checked(request, bytes_max)
        version = names.choose(self.state, target, self._ports.rand.random())
        function = target.function
        wanted = want(self.state, target, version)
        warm = self._environments.counts(function.arn, version.version).idle > 0
        try:
            number = self.ledger.enter(wanted, self._ports.clock.monotonic(), warm=warm)
        except errors.TooManyRequests:
            self.meter.throttled(function.scope, function.name)
            raise
        invocation = Invocation(
            request.request_id or self.new_request_id(),
            request.payload,
            target.arn,
            request.client_context,
            request.trace_id,
            request.tail,
            request.sink,
        )
        self.meter.began(function.scope, function.name, self.ledger.running(function.arn))

        async def run() -> Answer:
            try:
                outcome = await self._environments.invoke(self.specs.of(self.state, version), invocation)
            except errors.TooManyRequests:
                self.meter.throttled(function.scope, function.name)
                raise
            finally:
                self.ledger.leave(wanted, number)
            if not warm and outcome.init_ms is None:
                self.ledger.give_back(function.arn)
            outcome = _bounded(outcome)
            self.meter.ended(function.scope, function.name, outcome)
            return Answer(invocation.request_id, version.version, outcome)

        task = asyncio.create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._ran)
        return task

    def _ran(self, task: asyncio.Task[Answer]) -> None:
        """Whatever it raised is its caller's; one that went away does not hear of it."""
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    async def accept(self, request: Request) -> str:
        """An asynchronous invocation: on disk when its request id is returned. Raises as `invoke` does."""
        target = self.checked(request, limits.ASYNC_BYTES_MAX)
        request_id = request.request_id or self.new_request_id()
        await self.events.put(target, request, request_id)
        return request_id

    def checked(self, request: Request, bytes_max: int) -> names.Target:
        """What is to be invoked. Raises as `invoke` does, except for throttling."""
        if self.ended.is_set():
            raise Unavailable("The function process lost its journal and starts again; retry.")
        target = names.resolve(self.state, request.scope, request.function, request.qualifier)
        check_payload(request.payload, bytes_max)
        check_context(request.client_context)
        origin = request.origin
        if origin is not None:
            policy = self.state.policies.get(target.arn)
            if not policies.allows(policy, policies.INVOKE, origin.principal, origin.source_arn):
                raise errors.not_allowed(policies.INVOKE, target.arn)
        return target

    def new_request_id(self) -> str:
        return str(uuid.UUID(int=self._ports.rand.getrandbits(128), version=4))

    def _arm_report(self) -> None:
        clock = self._ports.clock
        self._report_timer = clock.call_at(clock.wall() + REPORT_S, self._report)

    def _report(self) -> None:
        self._ports.reports.report(self.meter.report(self._ports.clock.wall()))


def _bounded(outcome: Outcome) -> Outcome:
    if len(outcome.payload) <= limits.SYNC_BYTES_MAX:
        return outcome
    return replace(outcome, payload=TOO_LARGE, function_error=UNHANDLED)
