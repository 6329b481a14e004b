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

import json
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    AccessDenied,
    CloudError,
    DeadlineExceeded,
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
from minicloud.shell import backlog
from minicloud.shell.backlog import Backlog, Bounds, Line, RawJournal, Waiting, may_pass
from minicloud.shell.clock import Clock

log = logging.getLogger(__name__)

PARCEL, EVENT = "event_parcel", "event_of_parcels"
APART_BYTES = 1_024  # ours: a shorter event lies in each of its parcels
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
class _Waiting(Waiting):
    """A parcel in memory. `line`: its target. `delays`: how often it was tried in vain."""

    apart: str = ""


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
        bounds = Bounds(limits.AT_ONCE_MAX, limits.ACCOUNT_AT_ONCE_MAX, limits.BACKOFF_S)
        self._backlog: Backlog[_Waiting] = Backlog(
            backlog.Outside(journal, outside.clock, outside.lost), bounds, self._once
        )
        self._apart: Counter[str] = Counter()  # how many parcels are left of an event that lies apart

    def __len__(self) -> int:
        return len(self._backlog)

    def start(self) -> None:
        """After the journal was loaded: everything that has not arrived is ready."""
        for key, raw in self._backlog.stored(PARCEL):
            parcel = Parcel.load(raw)
            self._apart.update([parcel.apart] if parcel.apart else ())
            self._backlog.restore(_Waiting(key, parcel.target.arn, apart=parcel.apart))
        self._backlog.start()

    async def stop(self) -> None:
        await self._backlog.stop()

    async def put(self, parcels: Sequence[Parcel]) -> None:
        """All on disk when it returns. Raises ThrottlingException, InsufficientStorage, Unavailable."""
        if not parcels:
            return
        more = Counter(one.scope.account for one in parcels)
        most = limits.ACCOUNT_DELIVERIES_MAX
        full = any(self._backlog.count(account) + count > most for account, count in more.items())
        if full or len(self) + len(parcels) > limits.DELIVERIES_MAX:
            raise Throttled("Too many events wait for their targets.", code="ThrottlingException")
        numbered = _apart(dict(zip(self._backlog.keys(len(parcels)), parcels, strict=True)))
        rows = [(PARCEL, key, one.raw()) for key, one in numbered.items()]
        rows += {one.apart: (EVENT, one.apart, one.event) for one in numbered.values() if one.apart}.values()
        waiting = [_Waiting(key, one.target.arn, apart=one.apart) for key, one in numbered.items()]
        apart = [one.apart for one in waiting if one.apart]
        await self._backlog.put(rows, waiting, partial(self._apart.update, apart))

    async def _once(self, _line: Line[_Waiting], waiting: _Waiting) -> None:
        (raw,) = self._journal.read(PARCEL, [waiting.key])
        parcel = None if raw is None else self._whole(Parcel.load(raw))
        if parcel is None:  # damaged: it was set aside and named
            await self._gone(waiting)
            return
        error = await self._refusal(parcel)
        if error is not None:
            exhausted = self._exhausted(parcel, waiting)
            if may_pass(error) and not exhausted:
                log.info("an event for %s is delivered later: %s", waiting.line, error)
                self._meter.count(parcel.scope, parcel.rule, metering.RETRIED)
                self._backlog.again(waiting)
                return
            await self._failed(parcel, waiting, error, exhausted if may_pass(error) else "")
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
        if waiting.delays >= (limits.RETRIES[1] if target.retries is None else target.retries):
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
            "RETRY_ATTEMPTS": str(waiting.delays),
        }
        if exhausted:
            attributes["EXHAUSTED_RETRY_CONDITION"] = exhausted
        try:
            await self._targets.dead_letter(parcel.scope, target.dead_letter, parcel.event.decode(), attributes)
        except CloudError as again:
            if may_pass(again):
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
            await self._backlog.gone(waiting, rows)
        except BaseException:
            self._apart.update([waiting.apart] if waiting.apart else ())
            raise
        if waiting.apart and not self._apart[waiting.apart]:
            del self._apart[waiting.apart]


def _apart(numbered: dict[str, Parcel]) -> dict[str, Parcel]:
    """Parcels of one event, which share its bytes, are told where it lies: under the number of the first of them."""
    counts = Counter(id(one.event) for one in numbered.values())
    places: dict[int, str] = {}
    for key, one in numbered.items():
        if counts[id(one.event)] > 1 and len(one.event) > APART_BYTES:
            numbered[key] = replace(one, apart=places.setdefault(id(one.event), key))
    return numbered
