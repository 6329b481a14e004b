"""Logs as the SDK shows them, and what is given to it: frozen dataclasses as in `models.py`. Times: Unix milliseconds,
as in CloudWatch Logs; the properties `time` and `taken` are datetimes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class LogGroup:
    """retention_days 0: events are kept for ever."""

    name: str
    arn: str
    created_ms: int
    retention_days: int
    tags: Mapping[str, str]
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class LogStream:
    """first_event_ms, last_event_ms, last_taken_ms: 0 where it has no events."""

    name: str
    arn: str
    created_ms: int
    first_event_ms: int
    last_event_ms: int
    last_taken_ms: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class LogEvent:
    """id: where it stands. time_ms: when it happened, as its writer said; taken_ms: when it came."""

    id: str
    stream: str
    time_ms: int
    taken_ms: int
    message: str

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.time_ms / 1000, UTC)

    @property
    def taken(self) -> datetime:
        return datetime.fromtimestamp(self.taken_ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class LogPage:
    """Events by time. At the end, the token of that direction is the one that was given."""

    events: tuple[LogEvent, ...]
    forward_token: str
    backward_token: str


@dataclass(frozen=True, slots=True)
class RejectedEvents:
    """Places in the batch; -1: none. Those from too_new_from on, and those before the other two, were not taken."""

    too_new_from: int
    too_old_until: int
    expired_until: int

    def __bool__(self) -> bool:
        return max(self.too_new_from, self.too_old_until, self.expired_until) >= 0
