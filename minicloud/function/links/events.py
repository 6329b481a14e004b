"""Asynchronous invocations: on disk before they are accepted, run until they succeed, fail for good, or are too old.

    put(event) --on disk--> ready -> run ----- success --> destination --> gone
                              ^       |  \\--- error, tries left: a minute, then two
                              |       |-- throttled, no room: 1 s, doubling to 5 min
                              +-------+   no tries left, too old --> destination, dead letter --> gone

Source: guide, "How Lambda handles errors and retries with asynchronous invocation". An event is deleted only after its
result is where it should go, so after a crash it runs again: at least once, never lost. Payloads stay on disk; in
memory an event is a few numbers. Each function runs as many at once as it is let: one more after each that ran, fewer
where it is throttled.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    CloudError,
    Fenced,
    InsufficientStorage,
    Internal,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from minicloud.function import errors, limits, names
from minicloud.function.invoking import Answer, Request
from minicloud.function.metering import Meter
from minicloud.function.model import EventInvoke
from minicloud.function.ports import UNHANDLED, Messages, Outcome
from minicloud.function.results import EXHAUSTED, SUCCESS, TOO_OLD, Ended, dead_letter_attributes, record
from minicloud.function.state import State
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)

EVENT, TRY = "function_event", "function_event_try"
RETRY_S = (60.0, 120.0)  # guide: a minute before the first retry, two before the second
BACKOFF_S = (1.0, 300.0)  # guide: from 1 second to 5 minutes
AT_ONCE_FIRST, AT_ONCE_MAX = 10, 1_000  # ours: of one function; concurrency.py has the last word
EVENTS_MAX = 1_000_000  # ours: 300 MB of memory
ACCOUNT_EVENTS_MAX = 250_000  # ours: nobody's backlog takes the room of all
_SCAN = 64  # payloads of up to 1 MiB at once


class RawJournal(Protocol):
    """A journal with raw rows beside records (store/sqlite.py)."""

    async def commit_raw(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None: ...

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]: ...

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]: ...


@dataclass(slots=True)
class Waiting:
    """An event in memory. `tries`: how often it ran; `delays`: how often in a row it was not let run."""

    key: str
    function: str
    tries: int = 0
    delays: int = 0


@dataclass(slots=True)
class _Line:
    """The events of one function that may run now."""

    ready: deque[Waiting] = field(default_factory=deque)
    running: int = 0
    most: int = AT_ONCE_FIRST


@dataclass(frozen=True, slots=True)
class Event:
    """As it is on disk. `target`: the ARN it was invoked by. `came`: Unix seconds."""

    scope: Scope
    target: str
    request_id: str
    came: float
    client_context: str
    trace_id: str
    payload: bytes

    def raw(self) -> bytes:
        head = [self.scope.account, self.scope.region, self.target, self.request_id, self.came]
        return json.dumps([*head, self.client_context, self.trace_id]).encode() + b"\n" + self.payload

    @classmethod
    def load(cls, raw: bytes) -> Event:
        head, _, payload = raw.partition(b"\n")
        account, region, target, request_id, came, context, trace = json.loads(head)
        return cls(Scope(account, region), target, request_id, came, context, trace, payload)


@dataclass(frozen=True, slots=True)
class Outside:
    """What the queue of events is plugged into. `invoke` runs one and waits; `lost`: the journal takes no more."""

    invoke: Callable[[Request], Awaitable[Answer]]
    messages: Messages
    meter: Meter
    clock: Clock
    lost: Callable[[], None]


class Events:
    def __init__(self, journal: RawJournal, state: State, outside: Outside) -> None:
        self._journal = journal
        self._state = state
        self._out = outside
        self._lines: dict[str, _Line] = {}
        self._later: list[tuple[float, str, Waiting]] = []
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()  # of each account
        self._next = 0
        self._running = False

    def __len__(self) -> int:
        return self._counts.total()

    def start(self) -> None:
        """After the journal was loaded: everything that was not finished is ready."""
        self._running = True
        tries = {key: json.loads(raw) for key, raw in self._all(TRY)}
        now = self._out.clock.wall()
        for key, raw in self._all(EVENT):
            ran, due = tries.get(key, (0, 0.0))
            event = Event.load(raw)
            self._counts[event.scope.account] += 1
            self._next = int(key) + 1
            self._later_or_now(Waiting(key, _function_of(event.target), ran), due - now)
        self._pump_all()

    async def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put(self, target: names.Target, request: Request, request_id: str) -> None:
        """On disk when it returns. Raises TooManyRequestsException, InsufficientStorage, Unavailable."""
        if not self._running:
            raise Unavailable("The function process starts again; retry.")
        account = request.scope.account
        if self._counts[account] >= ACCOUNT_EVENTS_MAX or len(self) >= EVENTS_MAX:
            raise errors.throttled("ConcurrentInvocationLimitExceeded")
        event = Event(
            request.scope,
            target.arn,
            request_id,
            self._out.clock.wall(),
            request.client_context,
            request.trace_id,
            request.payload,
        )
        key, self._next = f"{self._next:020d}", self._next + 1
        self._counts[account] += 1
        task = asyncio.create_task(self._keep(Waiting(key, target.function.arn), event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _keep(self, waiting: Waiting, event: Event) -> None:
        """Goes on when its caller goes away: what is on disk runs."""
        try:
            await self._commit([(EVENT, waiting.key, event.raw())])
        except BaseException:
            self._left(waiting)
            raise
        self._out.meter.event_received(event.scope, waiting.function.rpartition(":")[2])
        self._line(waiting.function).ready.append(waiting)
        self._pump(waiting.function)

    async def _commit(self, rows: list[tuple[str, str, bytes | None]]) -> None:
        try:
            await self._journal.commit_raw(rows)
        except (Fenced, Internal):
            self._out.lost()
            raise

    # --- when they run

    def _all(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """A page at a time: payloads of all that wait are more than memory holds."""
        after = ""
        while page := self._journal.scan(kind, after=after, limit=_SCAN):
            yield from page
            after = page[-1][0]

    def _line(self, function: str) -> _Line:
        return self._lines.setdefault(function, _Line())

    def _pump_all(self) -> None:
        for function in list(self._lines):
            self._pump(function)

    def _pump(self, function: str) -> None:
        line = self._lines.get(function)
        if line is None or not self._running:
            return
        while line.ready and line.running < line.most:
            line.running += 1
            task = asyncio.create_task(self._run(line, line.ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if not line.ready and not line.running:
            del self._lines[function]

    def _later_or_now(self, waiting: Waiting, delay_s: float) -> None:
        if delay_s <= 0:
            self._line(waiting.function).ready.append(waiting)
            return
        due = self._out.clock.monotonic() + delay_s
        heapq.heappush(self._later, (due, waiting.key, waiting))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and self._running:
            wait_s = max(0.0, self._later[0][0] - self._out.clock.monotonic())
            self._timer = self._out.clock.call_at(self._out.clock.wall() + wait_s, self._ring)

    def _ring(self) -> None:
        now = self._out.clock.monotonic()
        functions = set()
        while self._later and self._later[0][0] <= now:
            waiting = heapq.heappop(self._later)[2]
            self._line(waiting.function).ready.append(waiting)
            functions.add(waiting.function)
        for function in functions:
            self._pump(function)
        self._arm()

    async def _run(self, line: _Line, waiting: Waiting) -> None:
        try:
            await self._once(line, waiting)
        except CloudError as error:  # the disk, or a place that does not answer: the same event again
            log.warning("the event %s of %s is tried again: %s", waiting.key, waiting.function, error)
            self._delay(waiting)
        except Exception:
            log.exception("the event %s of %s is tried again", waiting.key, waiting.function)
            self._delay(waiting)
        finally:
            line.running -= 1
            self._pump(waiting.function)

    def _delay(self, waiting: Waiting) -> None:
        waiting.delays += 1
        self._later_or_now(waiting, min(BACKOFF_S[0] * 2.0 ** (waiting.delays - 1), BACKOFF_S[1]))

    async def _once(self, line: _Line, waiting: Waiting) -> None:
        (raw,) = self._journal.read(EVENT, [waiting.key])
        if raw is None:  # damaged: it was set aside and named
            await self._gone(waiting)
            return
        event = Event.load(raw)
        config = self._config(event)
        age_s = self._out.clock.wall() - event.came
        name = waiting.function.rpartition(":")[2]
        self._out.meter.event_age(event.scope, name, age_s * 1000)
        if age_s > (limits.EVENT_AGE_S[1] if config is None or config.age_s is None else config.age_s):
            await self._ended(waiting, event, _ended(event, TOO_OLD, waiting.tries, None))
            return
        request = Request(
            event.scope,
            event.target,
            event.payload,
            client_context=event.client_context,
            trace_id=event.trace_id,
            request_id=event.request_id,
        )
        try:
            answer = await self._out.invoke(request)
        except NotFound:  # the function was deleted, or the version
            self._out.meter.event_dropped(event.scope, name)
            await self._gone(waiting)
            return
        except errors.TooManyRequests:
            line.most = max(1, line.running - 1)
            self._delay(waiting)
            return
        except InvalidRequest as error:  # the package cannot be unpacked here, there is no such runtime
            said = {"errorMessage": error.message, "errorType": error.code}
            answer = Answer(event.request_id, "", Outcome(json.dumps(said).encode(), UNHANDLED))
        waiting.tries, waiting.delays = waiting.tries + 1, 0
        line.most = min(line.most + 1, AT_ONCE_MAX)
        retries = limits.RETRIES[1] if config is None or config.retries is None else config.retries
        if answer.outcome.function_error and waiting.tries <= retries:
            pause_s = RETRY_S[min(waiting.tries, len(RETRY_S)) - 1]
            due = self._out.clock.wall() + pause_s
            await self._commit([(TRY, waiting.key, json.dumps([waiting.tries, due]).encode())])
            self._later_or_now(waiting, pause_s)
            return
        condition = EXHAUSTED if answer.outcome.function_error else SUCCESS
        await self._ended(waiting, event, _ended(event, condition, waiting.tries, answer))

    def _config(self, event: Event) -> EventInvoke | None:
        arn = event.target
        return self._state.event_invokes.get(arn if arn != _function_of(arn) else f"{arn}:$LATEST")

    # --- what comes of them

    async def _ended(self, waiting: Waiting, event: Event, ended: Ended) -> None:
        """Tell whoever wants to know, then let it go. A place that is away is told later; one that is gone, never."""
        config = self._config(event)
        good = ended.condition == SUCCESS
        destination = "" if config is None else config.on_success if good else config.on_failure
        name = waiting.function.rpartition(":")[2]
        if not good and not destination and not self._dead_letter(event):
            self._out.meter.event_dropped(event.scope, name)
        if destination:
            text = record(ended, self._out.clock.wall())
            await self._deliver(
                event, lambda: self._tell(event.scope, destination, text), self._out.meter.destination_failed
            )
        if not good and (target := self._dead_letter(event)):
            body, attributes = event.payload or b"null", dead_letter_attributes(ended)
            await self._deliver(
                event,
                lambda: self._out.messages.send(event.scope, target, body, attributes),
                self._out.meter.dead_letter_failed,
            )
        await self._gone(waiting)

    async def _deliver(
        self, event: Event, tell: Callable[[], Awaitable[None]], failed: Callable[[Scope, str], None]
    ) -> None:
        pause_s = BACKOFF_S[0]
        while True:
            try:
                await tell()
                return
            except (Unavailable, InsufficientStorage, errors.TooManyRequests) as error:
                log.info("the result of %s is delivered later: %s", event.request_id, error)
            except CloudError as error:
                log.warning("the result of %s of %s could not be delivered: %s", event.request_id, event.target, error)
                failed(event.scope, _function_of(event.target).rpartition(":")[2])
                return
            await self._out.clock.sleep(pause_s)
            pause_s = min(pause_s * 2, BACKOFF_S[1])

    def _dead_letter(self, event: Event) -> str:
        try:
            target = names.resolve(self._state, event.scope, event.target)
        except CloudError:
            return ""
        return target.version.settings.dead_letter

    async def _tell(self, scope: Scope, arn: str, text: str) -> None:
        if arn.startswith("arn:aws:lambda:"):
            target = names.resolve(self._state, scope, arn)
            await self.put(target, Request(scope, arn, text.encode()), _request_id(text))
        else:
            await self._out.messages.send(scope, arn, text.encode(), {})

    async def _gone(self, waiting: Waiting) -> None:
        rows: list[tuple[str, str, bytes | None]] = [(EVENT, waiting.key, None)]
        if waiting.tries:
            rows.append((TRY, waiting.key, None))
        await self._commit(rows)
        self._left(waiting)

    def _left(self, waiting: Waiting) -> None:
        account = waiting.function.split(":")[4]
        self._counts[account] -= 1
        if not self._counts[account]:
            del self._counts[account]


def _function_of(arn: str) -> str:
    return ":".join(arn.split(":")[:7])


def _ended(event: Event, condition: str, tries: int, answer: Answer | None) -> Ended:
    arn = event.target if event.target != _function_of(event.target) else f"{event.target}:$LATEST"
    if answer is None:
        return Ended(event.request_id, arn, condition, tries, event.payload)
    outcome = answer.outcome
    return Ended(
        event.request_id,
        arn,
        condition,
        tries,
        event.payload,
        outcome.payload,
        outcome.function_error,
        answer.version,
    )


def _request_id(text: str) -> str:
    """Of an event that follows from another: that one's."""
    found: Any = json.loads(text)
    return str(found["requestContext"]["requestId"])
