"""What names, batches and times must be like. Pure. Raises CloudWatch Logs' errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from minicloud.base.errors import CloudError
from minicloud.base.tags import check_tags as check_any_tags
from minicloud.logs import errors, limits
from minicloud.logs.model import Given

_GROUP = re.compile(r"[.\-_/#A-Za-z0-9]+\Z")
_STREAM = re.compile(r"[^:*\x00-\x1f\x7f]+\Z")


@dataclass(frozen=True, slots=True)
class Rejected:
    """API, RejectedLogEventsInfo; -1: none. Events from `too_new_from` on are, those before the other two."""

    too_new_from: int = -1
    too_old_until: int = -1
    expired_until: int = -1

    def __bool__(self) -> bool:
        return max(self.too_new_from, self.too_old_until, self.expired_until) >= 0


def check_group_name(name: str, field: str = "logGroupName") -> str:
    if not 0 < len(name) <= limits.NAME_CHARS_MAX or not _GROUP.match(name):
        raise errors.not_of_form(name, field, r"[\.\-_/#A-Za-z0-9]+")
    return name


def check_stream_name(name: str, field: str = "logStreamName") -> str:
    if not 0 < len(name) <= limits.NAME_CHARS_MAX or not _STREAM.match(name):
        raise errors.not_of_form(name, field, "[^:*]*")
    return name


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    try:
        return check_any_tags(tags)
    except CloudError as error:
        raise errors.invalid(error.message, "tags") from None


def check_retention(days: int) -> int:
    if days not in limits.RETENTION_DAYS:
        known = ", ".join(map(str, limits.RETENTION_DAYS))
        raise errors.invalid(f"Invalid retention of {days} days; there are: {known}", "retentionInDays")
    return days


def check_batch(events: Sequence[Given], now_ms: int, retention_days: int) -> tuple[slice, Rejected]:
    """Which of them are taken: those that are neither too new nor too old nor expired already."""
    if not events:
        raise errors.invalid("Log events must not be empty.", "logEvents")
    if len(events) > limits.BATCH_EVENTS_MAX:
        raise errors.invalid(f"A batch has at most {limits.BATCH_EVENTS_MAX:,} log events.", "logEvents")
    size, before = 0, 0
    for number, event in enumerate(events):
        message = event.message
        length = len(message) if message.isascii() else len(message.encode("utf-8", "surrogatepass"))
        if not length:
            raise errors.invalid(f"The message of log event {number} is empty.", "logEvents")
        if length > limits.EVENT_BYTES_MAX:
            raise errors.invalid(
                f"Log event too large: {length} bytes exceeds limit of {limits.EVENT_BYTES_MAX}", "logEvents"
            )
        if event.time_ms < before:
            text = "Log events in a single PutLogEvents request must be in chronological order."
            raise errors.invalid(text, "logEvents")
        before = event.time_ms
        size += length + limits.EVENT_BYTES
    if size > limits.BATCH_BYTES_MAX:
        raise errors.invalid(f"Upload too large: {size} bytes exceeds limit of {limits.BATCH_BYTES_MAX}", "logEvents")
    if events[-1].time_ms - events[0].time_ms > limits.BATCH_SPAN_S_MAX * 1000:
        text = "The batch of log events in a single PutLogEvents request cannot span more than 24 hours."
        raise errors.invalid(text, "logEvents")
    return _taken([event.time_ms for event in events], now_ms, retention_days)


def _taken(times: Sequence[int], now_ms: int, retention_days: int) -> tuple[slice, Rejected]:
    expired = sum(time < now_ms - retention_days * limits.DAY_S * 1000 for time in times) if retention_days else 0
    old = sum(time < now_ms - limits.PAST_S_MAX * 1000 for time in times)
    new = sum(time > now_ms + limits.FUTURE_S_MAX * 1000 for time in times)
    first, last = max(old, expired), len(times) - new
    rejected = Rejected(
        last if new else -1, old if old > expired else -1, expired if expired >= old and expired else -1
    )
    return slice(first, max(first, last)), rejected
