"""Asynchronous invocations: on disk before they are accepted, run until they succeed, fail for good, or are too old.

    put(event) --on disk--> ready -> run ------------ success --> letter (letters.py) --> gone
                              ^       |  \\--- error, tries left: a minute, then two
                              |       |-- throttled, no room: 1 s, doubling to 5 min
                              +-------+   no tries left, too old --> letter --> gone

Source: guide, "How Lambda handles errors and retries with asynchronous invocation". An event is deleted only once its
result is where it should go, or on disk as a letter, so after a crash it runs again: at least once, never lost. Each
function runs as many at once as it is let: one more after each that ran, fewer where it is throttled.

Whoever waits for a destination takes no place of the function: the result is sent beside the line, and written down
where that fails or many are being sent. Letters wait in lines of their own, one for each destination; one that is away
is tried with one letter after another, with pauses. A result for another function becomes its event in one commit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, InvalidRequest, NotFound
from minicloud.function import errors, limits, names
from minicloud.function.invoking import Answer, Request
from minicloud.function.links.letters import Letter, Post, Send, is_function
from minicloud.function.metering import Meter
from minicloud.function.model import EventInvoke
from minicloud.function.ports import UNHANDLED, Messages, Outcome
from minicloud.function.results import EXHAUSTED, SUCCESS, TOO_OLD, Ended, dead_letter_attributes, record
from minicloud.function.state import State
from minicloud.shell import backlog
from minicloud.shell.backlog import Backlog, Bounds, Line
from minicloud.shell.clock import Clock

EVENT, TRY, LETTER = "function_event", "function_event_try", "function_event_letter"
RETRY_S = (60.0, 120.0)  # guide: a minute before the first retry, two before the second
BACKOFF_S = (1.0, 300.0)  # guide: from 1 second to 5 minutes
AT_ONCE_FIRST, AT_ONCE_MAX = 10, 1_000  # ours: of one function; concurrency.py has the last word
ACCOUNT_AT_ONCE_MAX = 10_000  # ours: of one account, in all its regions
LETTERS_AT_ONCE_MAX = 64  # ours: of one destination
SENT_BESIDE_MAX = 64  # ours: results of one account that are in memory while they are sent; others are written down
EVENTS_MAX = 1_000_000  # ours: 300 MB of memory
ACCOUNT_EVENTS_MAX = 250_000  # ours: nobody's backlog takes the room of all
_TO = "to "  # before a destination, in the name of the line of its letters


@dataclass(slots=True)
class Waiting(backlog.Waiting):
    """An event, or what is left of it (`letter`). `line`: its function; `tries`: how often it ran."""

    tries: int = 0
    letter: bool = False


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
    def __init__(self, journal: backlog.RawJournal, state: State, outside: Outside) -> None:
        self._journal = journal
        self._state = state
        self._out = outside
        bounds = Bounds(AT_ONCE_FIRST, ACCOUNT_AT_ONCE_MAX, BACKOFF_S)
        self._backlog: Backlog[Waiting] = Backlog(
            backlog.Outside(journal, outside.clock, outside.lost), bounds, self._run
        )
        self._post = Post(outside.messages, outside.meter)
        self._beside: Counter[str] = Counter()  # results that are being sent, of each account

    def __len__(self) -> int:
        return len(self._backlog)

    def start(self) -> None:
        """After the journal was loaded: everything that was not finished is ready."""
        tries = {key: json.loads(raw) for key, raw in self._backlog.stored(TRY)}
        now = self._out.clock.wall()
        for key, raw in self._backlog.stored(EVENT):
            ran, due = tries.get(key, (0, 0.0))
            self._backlog.restore(Waiting(key, _function_of(Event.load(raw).target), tries=ran), due - now)
        for key, raw in self._backlog.stored(LETTER):
            self._backlog.restore(Waiting(key, _line_of(Letter.load(raw)), letter=True))
        self._backlog.start()

    async def stop(self) -> None:
        await self._backlog.stop()

    async def put(self, target: names.Target, request: Request, request_id: str) -> None:
        """On disk when it returns. Raises TooManyRequestsException, InsufficientStorage, Unavailable."""
        if self._full(request.scope.account):
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
        (key,) = self._backlog.keys(1)
        waiting = Waiting(key, target.function.arn)
        await self._backlog.put([(EVENT, key, event.raw())], [waiting], partial(self._received, [event]))

    def _full(self, account: str) -> bool:
        return self._backlog.count(account) >= ACCOUNT_EVENTS_MAX or len(self) >= EVENTS_MAX

    def _received(self, events: list[Event]) -> None:
        for event in events:
            self._out.meter.event_received(event.scope, _name_of(event.target))

    # --- when they run

    async def _run(self, line: Line[Waiting], waiting: Waiting) -> None:
        if waiting.letter:
            await self._again(line, waiting)
        else:
            await self._once(line, waiting)

    async def _once(self, line: Line[Waiting], waiting: Waiting) -> None:
        (raw,) = self._journal.read(EVENT, [waiting.key])
        if raw is None:  # damaged: it was set aside and named
            await self._gone(waiting)
            return
        event = Event.load(raw)
        config = self._config(event)
        age_s = self._out.clock.wall() - event.came
        name = _name_of(waiting.line)
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
            self._backlog.again(waiting)
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
            await self._backlog.commit([(TRY, waiting.key, json.dumps([waiting.tries, due]).encode())])
            self._backlog.later(waiting, pause_s)
            return
        condition = EXHAUSTED if answer.outcome.function_error else SUCCESS
        await self._ended(waiting, event, _ended(event, condition, waiting.tries, answer))

    def _config(self, event: Event) -> EventInvoke | None:
        arn = event.target
        return self._state.event_invokes.get(arn if arn != _function_of(arn) else f"{arn}:$LATEST")

    # --- what comes of them

    async def _ended(self, waiting: Waiting, event: Event, ended: Ended) -> None:
        """Tell whoever wants to know, beside the line where there is room, then let it go."""
        letter = self._letter(event, ended)
        outside = [one for one in letter.sends if not is_function(one.arn)]
        away = any(self._backlog.busy(_TO + one.arn) for one in outside)
        if outside and not away and self._beside[event.scope.account] < SENT_BESIDE_MAX:
            self._beside[event.scope.account] += 1
            self._backlog.beside(waiting, self._send(waiting, letter))
        else:
            await self._settle(waiting, letter)

    async def _send(self, waiting: Waiting, letter: Letter) -> None:
        try:
            left = await self._post.send(letter)
            await self._settle(waiting, left, rest=True)
        finally:
            account = letter.scope.account
            self._beside[account] -= 1
            if not self._beside[account]:
                del self._beside[account]

    async def _again(self, line: Line[Waiting], waiting: Waiting) -> None:
        """A letter that was written down."""
        (raw,) = self._journal.read(LETTER, [waiting.key])
        if raw is None:
            await self._gone(waiting)
            return
        letter = Letter.load(raw)
        left = await self._post.send(letter)
        if left.sends == letter.sends:
            self._backlog.again(waiting, rest=True)
            return
        line.most = min(line.most + 1, LETTERS_AT_ONCE_MAX)
        await self._settle(waiting, left, rest=True)

    def _letter(self, event: Event, ended: Ended) -> Letter:
        config = self._config(event)
        good = ended.condition == SUCCESS
        destination = "" if config is None else config.on_success if good else config.on_failure
        dead = "" if good else self._dead_letter(event)
        if not good and not destination and not dead:
            self._out.meter.event_dropped(event.scope, _name_of(event.target))
        sends = []
        if destination:
            sends.append(Send(destination, record(ended, self._out.clock.wall()).encode(), {}))
        if dead:
            sends.append(Send(dead, event.payload or b"null", dead_letter_attributes(ended), dead=True))
        return Letter(event.scope, event.target, event.request_id, tuple(sends))

    async def _settle(self, waiting: Waiting, letter: Letter, *, rest: bool = False) -> None:
        """In one commit it ends, what goes to functions is theirs, and what is left is a letter (which may rest).

        A function that is a destination of itself does not fill the disk: without room its event stays in the letter.
        """
        outside = tuple(one for one in letter.sends if not is_function(one.arn))
        onward = [one for one in letter.sends if is_function(one.arn)]
        if outside and onward and self._full(letter.scope.account):
            outside, onward = letter.sends, []
        left = replace(letter, sends=outside)
        events = [one for send in onward if (one := self._onward(letter, send))]
        keys = self._backlog.keys(len(events))
        rows = [(EVENT, key, one.raw()) for key, one in zip(keys, events, strict=True)]
        new = [Waiting(key, _function_of(one.target)) for key, one in zip(keys, events, strict=True)]
        ends = _rows_of(waiting)
        if outside:
            ends = [*(row for row in ends if row[0] != LETTER), (LETTER, waiting.key, left.raw())]
        await self._backlog.put([*ends, *rows], new, partial(self._received, events))
        if not outside:
            self._backlog.drop(waiting)
            return
        if not waiting.letter:
            waiting.letter, waiting.tries, waiting.delays = True, 0, 0
        waiting.line = _line_of(left)
        if rest:
            self._backlog.again(waiting, rest=True)
        else:
            self._backlog.later(waiting, 0.0)

    def _onward(self, letter: Letter, send: Send) -> Event | None:
        """A result as an event of the function that is its destination; None: that is gone."""
        try:
            target = names.resolve(self._state, letter.scope, send.arn)
        except CloudError as error:
            self._post.failed(letter, send, error)
            return None
        return Event(letter.scope, target.arn, letter.request_id, self._out.clock.wall(), "", "", send.body)

    def _dead_letter(self, event: Event) -> str:
        try:
            target = names.resolve(self._state, event.scope, event.target)
        except CloudError:
            return ""
        return target.version.settings.dead_letter

    async def _gone(self, waiting: Waiting) -> None:
        await self._backlog.gone(waiting, _rows_of(waiting))


def _rows_of(waiting: Waiting) -> list[tuple[str, str, bytes | None]]:
    """What ends with it."""
    if waiting.letter:
        return [(LETTER, waiting.key, None)]
    tries = [(TRY, waiting.key, None)] if waiting.tries else []
    return [(EVENT, waiting.key, None), *tries]


def _line_of(letter: Letter) -> str:
    """Of the first destination that is waited for."""
    return _TO + next(one.arn for one in letter.sends if not is_function(one.arn))


def _function_of(arn: str) -> str:
    return ":".join(arn.split(":")[:7])


def _name_of(arn: str) -> str:
    return arn.split(":")[6]


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
