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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from minicloud.base.errors import Unavailable
from minicloud.base.machine import Journal, Touched
from minicloud.function import errors, limits, names, policies, tracing
from minicloud.function.commands import CreateFunction, PublishLayer, UpdateCode, UpdateSettings
from minicloud.function.concurrency import Ledger
from minicloud.function.invoking import Answer, Request, Specs, check_context, check_payload, want
from minicloud.function.links import events, firing, polling
from minicloud.function.links.packages import Packages
from minicloud.function.links.warmth import Warmth
from minicloud.function.machine import Functions
from minicloud.function.metering import Meter, subject
from minicloud.function.model import (
    Alias,
    Function,
    LayerVersion,
    Mapping,
    Provisioned,
    Schedule,
    Version,
)
from minicloud.function.ports import UNHANDLED, Done, Environments, Invocation, Messages, NoMessages, Outcome, Shell
from minicloud.function.state import State
from minicloud.shell.backlog import RawJournal
from minicloud.shell.clock import Clock, SystemClock, Timer
from minicloud.shell.reports import NoReports, Reports
from minicloud.shell.shell import Shell as DurableShell

log = logging.getLogger(__name__)
T = TypeVar("T")
Told = Callable[[Answer | BaseException], None]  # CancelledError: the process ends

REPORT_S = 5.0
_UUID4 = 4 << 76 | 2 << 62
_NOT_UUID4 = ~(15 << 76 | 3 << 62)
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


class RecordJournal(Journal, RawJournal, Protocol):
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
        self._tasks: set[asyncio.Future[Any]] = set()

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
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.begin(request, partial(_settle, answer), bytes_max)
        return await answer

    def begin(self, request: Request, told: Told, bytes_max: int = limits.SYNC_BYTES_MAX) -> None:
        """The same without waiting. Raises as `invoke` does; more of that, or the answer, is `told`, maybe at once."""
        target = self.checked(request, bytes_max)
        version = target.version if target.alias is None else self._chosen(target)
        function = target.function
        wanted, metered = want(self.state, target, version), subject(target, version)
        spec = self.specs.of(self.state, version)
        warm = self._environments.counts(function.arn, version.version).idle > 0
        try:
            number = self.ledger.enter(wanted, self._ports.clock.monotonic(), warm=warm)
        except errors.TooManyRequests:
            self.meter.throttled(metered)
            raise
        invocation = Invocation(
            request.request_id or self.new_request_id(),
            request.payload,
            target.arn,
            request.client_context,
            self._trace(request, version),
            request.tail,
            request.sink,
        )
        self.meter.began(metered, self.ledger.running(function.arn))

        def done(said: Outcome | BaseException) -> None:
            self.ledger.leave(wanted, number)
            if isinstance(said, Outcome):
                if not warm and said.init_ms is None:
                    self.ledger.give_back(function.arn)
                outcome = _bounded(said)
                self.meter.ended(metered, outcome)
                told(Answer(invocation.request_id, version.version, outcome))
                return
            if isinstance(said, errors.TooManyRequests):
                self.meter.throttled(metered)
            told(said)

        if warm and self._environments.begin(spec, invocation, done):
            return
        task = asyncio.ensure_future(self._environments.invoke(spec, invocation))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ran, done))

    def _ran(self, done: Done, task: asyncio.Future[Outcome]) -> None:
        self._tasks.discard(task)
        done(asyncio.CancelledError() if task.cancelled() else task.exception() or task.result())

    async def accept(self, request: Request) -> str:
        """An asynchronous invocation: on disk when its request id is returned. Raises as `invoke` does."""
        target = self.checked(request, limits.ASYNC_BYTES_MAX)
        request_id = request.request_id or self.new_request_id()
        traced = replace(request, trace_id=self._trace(request, target.version))  # all tries are of one trace
        await self.events.put(target, traced, request_id)
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

    def _trace(self, request: Request, version: Version) -> str:
        if request.trace_id or version.settings.tracing != tracing.ACTIVE:
            return request.trace_id[: tracing.HEADER_CHARS_MAX]
        return tracing.begun(self._ports.rand, self._ports.clock.wall())

    def _chosen(self, target: names.Target) -> Version:
        return names.choose(self.state, target, self._ports.rand.random())

    def new_request_id(self) -> str:
        """A UUID of version 4."""
        text = f"{self._ports.rand.getrandbits(128) & _NOT_UUID4 | _UUID4:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _arm_report(self) -> None:
        clock = self._ports.clock
        self._report_timer = clock.call_at(clock.wall() + REPORT_S, self._report)

    def _report(self) -> None:
        self._ports.reports.report(self.meter.report(self._ports.clock.wall()))


def _settle(answer: asyncio.Future[Answer], told: Answer | BaseException) -> None:
    """One that nobody waits for any more is forgotten."""
    if answer.done():
        return
    if isinstance(told, asyncio.CancelledError):
        answer.cancel()
    elif isinstance(told, BaseException):
        answer.set_exception(told)
    else:
        answer.set_result(told)


def _bounded(outcome: Outcome) -> Outcome:
    if len(outcome.payload) <= limits.SYNC_BYTES_MAX:
        return outcome
    return replace(outcome, payload=TOO_LARGE, function_error=UNHANDLED)
