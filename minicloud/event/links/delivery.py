"""Events on their way to targets: on disk first, then tried until they arrive, fail for good, or are too old.

    put(parcels) --on disk--> ready -> deliver ----- arrived ------------------------------> gone
                                ^        |  \\--- away, no room, throttled: 1 s, doubling
                                +--------+   refused, no tries left, too old --> dead letter --> gone

Source: guide, "Event retry policy and using dead-letter queues". A parcel is deleted only after it has arrived, so
after a crash it is delivered again: at least once, never lost. Events stay on disk; in memory it is a few numbers.
One that is long and goes to many targets is on disk once, beside its parcels, until the last of them is gone.
Where we differ: retries of a parcel are counted anew after a restart of the process; its age is not.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AccessDenied,
    CloudError,
    DeadlineExceeded,
    Fenced,
    Internal,
    InvalidRequest,
    NotFound,
    Throttled,
    Unavailable,
)
from minicloud.event import inputs, limits, metering
from minicloud.event.metering import Meter
from minicloud.event.model import Target
from minicloud.event.ports import Targets
from minicloud.shell.clock import Clock, Timer

log = logging.getLogger(__name__)

PARCEL, EVENT = "event_parcel", "event_of_parcels"
APART_BYTES = 1_024  # ours: a shorter event lies in each of its parcels
_SCAN = 64  # events of up to 256 KiB at once
# Guide, the same page: ERROR_CODE of dead letters.
_CODES: tuple[tuple[type[CloudError], str], ...] = (
    (AccessDenied, "NO_PERMISSIONS"),
    (NotFound, "NO_RESOURCE"),
    (InvalidRequest, "INVALID_PARAMETER"),
    (Throttled, "THROTTLING"),
    (DeadlineExceeded, "TIMEOUT"),
    (Unavailable, "CONNECTION_FAILURE"),
    (Internal, "INTERNAL_ERROR"),
)
TOO_OLD, TOO_OFTEN = "MaximumEventAgeInSeconds", "MaximumRetryAttempts"


class RawJournal(Protocol):
    """A journal with raw rows beside records (store/sqlite.py)."""

    async def commit_raw(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None: ...

    def scan(self, kind: str, *, prefix: str = "", after: str = "", limit: int = 1_000) -> list[tuple[str, bytes]]: ...

    def read(self, kind: str, keys: Sequence[str]) -> list[bytes | None]: ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """One event for one target, as that was when the event came (Unix seconds). `event`: JSON. `apart`: the key under
    which that lies, '' where it is here.
    """

    scope: Scope
    rule: str
    target: Target
    came: float
    event: bytes
    apart: str = ""

    def raw(self) -> bytes:
        head = [self.scope.account, self.scope.region, self.rule, asdict(self.target), self.came, self.apart]
        return json.dumps(head).encode() + b"\n" + (b"" if self.apart else self.event)

    @classmethod
    def load(cls, raw: bytes) -> Parcel:
        head, _, event = raw.partition(b"\n")
        account, region, rule, target, came, *apart = json.loads(head)
        return cls(Scope(account, region), rule, Target.load(target), came, event, *apart)


@dataclass(slots=True)
class _Waiting:
    """A parcel in memory. `tries`: how often it was tried in vain."""

    key: str
    target: str
    apart: str = ""
    tries: int = 0


@dataclass(slots=True)
class _Line:
    """The parcels of one target that may leave now."""

    ready: deque[_Waiting] = field(default_factory=deque)
    running: int = 0


@dataclass(frozen=True, slots=True)
class Outside:
    """What deliveries are plugged into. `lost` is called when the journal takes no more."""

    targets: Targets
    meter: Meter
    clock: Clock
    lost: Callable[[], None]


class Deliveries:
    def __init__(self, journal: RawJournal, outside: Outside) -> None:
        self._journal = journal
        self._targets = outside.targets
        self._meter = outside.meter
        self._clock = outside.clock
        self._lost = outside.lost
        self._lines: dict[str, _Line] = {}
        self._later: list[tuple[float, str, _Waiting]] = []
        self._timer: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()  # of each account
        self._apart: Counter[str] = Counter()  # how many parcels are left of an event that lies apart
        self._at_once: Counter[str] = Counter()  # deliveries of each account
        self._held: dict[str, dict[str, None]] = {}  # its targets that wait until there are fewer
        self._next = 0
        self._running = False

    def __len__(self) -> int:
        return self._counts.total()

    def start(self) -> None:
        """After the journal was loaded: everything that has not arrived is ready."""
        self._running = True
        for key, raw in self._all(PARCEL):
            self._next = int(key) + 1
            parcel = Parcel.load(raw)
            self._counts[parcel.scope.account] += 1
            self._enter(_Waiting(key, parcel.target.arn, parcel.apart))
        for target in list(self._lines):
            self._pump(target)

    async def stop(self) -> None:
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def put(self, parcels: Sequence[Parcel]) -> None:
        """All on disk when it returns. Raises ThrottlingException, InsufficientStorage, Unavailable."""
        if not parcels:
            return
        if not self._running:
            raise Unavailable("The process of rules starts again; retry.")
        more = Counter(one.scope.account for one in parcels)
        full = any(self._counts[account] + count > limits.ACCOUNT_DELIVERIES_MAX for account, count in more.items())
        if full or len(self) + len(parcels) > limits.DELIVERIES_MAX:
            raise Throttled("Too many events wait for their targets.", code="ThrottlingException")
        self._counts += more
        first, self._next = self._next, self._next + len(parcels)
        numbered = _apart({f"{first + place:020d}": one for place, one in enumerate(parcels)})
        rows = [(PARCEL, key, one.raw()) for key, one in numbered.items()]
        rows += {one.apart: (EVENT, one.apart, one.event) for one in numbered.values() if one.apart}.values()
        waiting = [_Waiting(key, one.target.arn, one.apart) for key, one in numbered.items()]
        await asyncio.shield(self._spawn(self._keep(rows, waiting)))

    async def _keep(self, rows: list[tuple[str, str, bytes]], waiting: list[_Waiting]) -> None:
        """Goes on when its caller goes away: what is on disk is delivered."""
        try:
            await self._commit([*rows])
        except BaseException:
            self._counts -= Counter(map(_account, waiting))
            raise
        for one in waiting:
            self._enter(one)
            self._pump(one.target)

    def _enter(self, one: _Waiting) -> None:
        if one.apart:
            self._apart[one.apart] += 1
        self._lines.setdefault(one.target, _Line()).ready.append(one)

    async def _commit(self, rows: Sequence[tuple[str, str, bytes | None]]) -> None:
        try:
            await self._journal.commit_raw(rows)
        except (Fenced, Internal):
            self._lost()
            raise

    def _spawn(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- when they leave

    def _all(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """A page at a time: events of all that wait are more than memory holds."""
        after = ""
        while page := self._journal.scan(kind, after=after, limit=_SCAN):
            yield from page
            after = page[-1][0]

    def _pump(self, target: str) -> None:
        line = self._lines.get(target)
        if line is None or not self._running:
            return
        while line.ready and line.running < limits.AT_ONCE_MAX:
            account = _account(line.ready[0])
            if self._at_once[account] >= limits.ACCOUNT_AT_ONCE_MAX:
                self._held.setdefault(account, {})[target] = None
                return
            line.running += 1
            self._at_once[account] += 1
            self._spawn(self._run(line, line.ready.popleft()))
        if not line.ready and not line.running:
            del self._lines[target]

    def _done(self, line: _Line, waiting: _Waiting) -> None:
        """Others may leave: of targets that were held, in turn, or of the same one."""
        account = _account(waiting)
        line.running -= 1
        self._at_once[account] -= 1
        while (held := self._held.get(account)) and self._at_once[account] < limits.ACCOUNT_AT_ONCE_MAX:
            first = next(iter(held))
            del held[first]
            self._pump(first)
        self._pump(waiting.target)
        if not self._held.get(account):
            self._held.pop(account, None)
        if not self._at_once[account]:
            del self._at_once[account]

    async def _run(self, line: _Line, waiting: _Waiting) -> None:
        try:
            await self._once(waiting)
        except CloudError as error:  # the disk, or a dead-letter queue that is away: the same parcel again
            log.warning("an event for %s is tried again: %s", waiting.target, error)
            self._delay(waiting)
        except Exception:
            log.exception("an event for %s is tried again", waiting.target)
            self._delay(waiting)
        finally:
            self._done(line, waiting)

    def _delay(self, waiting: _Waiting) -> None:
        waiting.tries += 1
        pause_s = min(limits.BACKOFF_S[0] * 2.0 ** min(waiting.tries - 1, 30), limits.BACKOFF_S[1])
        heapq.heappush(self._later, (self._clock.wall() + pause_s, waiting.key, waiting))
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and self._running:
            self._timer = self._clock.call_at(self._later[0][0], self._ring)

    def _ring(self) -> None:
        now = self._clock.wall()
        while self._later and self._later[0][0] <= now:
            waiting = heapq.heappop(self._later)[2]
            self._lines.setdefault(waiting.target, _Line()).ready.append(waiting)
            self._pump(waiting.target)
        self._arm()

    async def _once(self, waiting: _Waiting) -> None:
        (raw,) = self._journal.read(PARCEL, [waiting.key])
        parcel = None if raw is None else self._whole(Parcel.load(raw))
        if parcel is None:  # damaged: it was set aside and named
            await self._gone(waiting)
            return
        error = await self._refusal(parcel)
        if error is not None:
            exhausted = self._exhausted(parcel, waiting)
            if _may_pass(error) and not exhausted:
                log.info("an event for %s is delivered later: %s", waiting.target, error)
                self._meter.count(parcel.scope, parcel.rule, metering.RETRIED)
                self._delay(waiting)
                return
            await self._failed(parcel, waiting, error, exhausted if _may_pass(error) else "")
        await self._gone(waiting)
        ended = metering.SUCCESSFUL if error is None else metering.FAILED
        self._meter.count(parcel.scope, parcel.rule, metering.INVOCATIONS, ended)

    def _whole(self, parcel: Parcel) -> Parcel | None:
        """With its event; None: that is not there."""
        if not parcel.apart:
            return parcel
        (event,) = self._journal.read(EVENT, [parcel.apart])
        return None if event is None else replace(parcel, event=event)

    async def _refusal(self, parcel: Parcel) -> CloudError | None:
        """Why it did not arrive; None: it did."""
        target = parcel.target
        try:
            body = inputs.given(target, parcel.event, parcel.rule, parcel.came)
            await self._targets.deliver(parcel.scope, parcel.rule, target, body)
        except CloudError as error:
            return error
        except Exception as error:  # of one event: it is bounded as others are
            log.exception("an event of %s for %s", parcel.rule, target.arn)
            return Internal(str(error))
        return None

    def _exhausted(self, parcel: Parcel, waiting: _Waiting) -> str:
        """Which bound of the retry policy is reached; '' for none."""
        target = parcel.target
        if waiting.tries >= (limits.RETRIES[1] if target.retries is None else target.retries):
            return TOO_OFTEN
        age_s = self._clock.wall() - parcel.came
        return TOO_OLD if age_s >= (limits.AGE_S[1] if target.age_s is None else target.age_s) else ""

    async def _failed(self, parcel: Parcel, waiting: _Waiting, error: CloudError, exhausted: str) -> None:
        """To the dead-letter queue, with AWS's attributes. One that is gone is none; one that is away is waited for."""
        target = parcel.target
        log.warning("an event of %s does not reach %s: %s", parcel.rule, target.arn, error)
        if not target.dead_letter:
            return
        attributes = {
            "RULE_ARN": parcel.rule,
            "TARGET_ARN": target.arn,
            "ERROR_CODE": next((code for kind, code in _CODES if isinstance(error, kind)), "UNKNOWN"),
            "ERROR_MESSAGE": error.message,
            "RETRY_ATTEMPTS": str(waiting.tries),
        }
        if exhausted:
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        try:
            await self._targets.dead_letter(parcel.scope, target.dead_letter, parcel.event.decode(), attributes)
        except CloudError as again:
            if _may_pass(again):
                raise
            log.warning("the dead letter of %s is dropped: %s", target.arn, again)
            self._meter.count(parcel.scope, parcel.rule, metering.DEAD_FAILED)
            return
        self._meter.count(parcel.scope, parcel.rule, metering.DEAD)

    async def _gone(self, waiting: _Waiting) -> None:
        rows: list[tuple[str, str, bytes | None]] = [(PARCEL, waiting.key, None)]
        if waiting.apart:
            self._apart[waiting.apart] -= 1
            if not self._apart[waiting.apart]:
                rows.append((EVENT, waiting.apart, None))
        try:
            await self._commit(rows)
        except BaseException:
            self._apart.update([waiting.apart] if waiting.apart else ())
            raise
        if waiting.apart and not self._apart[waiting.apart]:
            del self._apart[waiting.apart]
        account = _account(waiting)
        self._counts[account] -= 1
        if not self._counts[account]:
            del self._counts[account]


def _apart(numbered: dict[str, Parcel]) -> dict[str, Parcel]:
    """Parcels of one event, which share its bytes, are told where it lies: under the number of the first of them."""
    counts = Counter(id(one.event) for one in numbered.values())
    places: dict[int, str] = {}
    for key, one in numbered.items():
        if counts[id(one.event)] > 1 and len(one.event) > APART_BYTES:
            numbered[key] = replace(one, apart=places.setdefault(id(one.event), key))
    return numbered


def _account(one: _Waiting) -> str:
    return one.target.split(":")[4]


def _may_pass(error: CloudError) -> bool:
    return error.retryable or isinstance(error, DeadlineExceeded | Internal)
