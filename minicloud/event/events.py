"""Events: what comes in by PutEvents, what the cloud itself tells, and how both look. Source: guide, "Events".

{"version": "0", "id", "detail-type", "source", "account", "time", "region", "resources": [...], "detail": {...}}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from minicloud.base.arn import Scope
from minicloud.event import errors, limits

OWN = "aws."  # how the sources begin that only the cloud itself may name
INVALID, MALFORMED, NOT_YOURS = "InvalidArgument", "MalformedDetail", "NotAuthorizedForSourceException"


@dataclass(frozen=True, slots=True)
class Entry:
    """An event as it is put. `detail`: JSON. `time`: Unix seconds, None: now. None: it was not given."""

    source: str | None = None
    detail_type: str | None = None
    detail: str | None = None
    resources: tuple[str, ...] = ()
    time: float | None = None


class Flaw(NamedTuple):
    """Why an entry is not taken."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Happening:
    """What the cloud itself tells. `id`: the same one each time it is told. `time`: Unix seconds."""

    id: str
    scope: Scope
    source: str
    detail_type: str
    time: float
    resources: tuple[str, ...]
    detail: dict[str, Any]

    def event(self) -> dict[str, Any]:
        return event(self.id, self.scope, (self.source, self.detail_type), self.time, self.resources, self.detail)


def event(
    event_id: str,
    scope: Scope,
    kind: tuple[str, str],
    time: float,
    resources: Sequence[str],
    detail: dict[str, Any],
) -> dict[str, Any]:
    """kind: source and detail-type."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": kind[1],
        "source": kind[0],
        "account": scope.account,
        "time": when(time),
        "region": scope.region,
        "resources": list(resources),
        "detail": detail,
    }


def when(time: float) -> str:
    """2026-11-25T18:00:00Z"""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check_size(entries: Sequence[Entry]) -> None:
    """Raises ValidationException."""
    if not 1 <= len(entries) <= limits.ENTRIES_MAX:
        bound = f"Member must have length between 1 and {limits.ENTRIES_MAX}"
        raise errors.out_of_model("entries", len(entries), bound)
    if sum(map(size, entries)) > limits.ENTRIES_BYTES_MAX:
        raise errors.invalid("Total size of the entries in the request is over the limit.", "Entries")


def size(entry: Entry) -> int:
    """Guide, "Calculating PutEvents event entry size"."""
    texts = (entry.source or "", entry.detail_type or "", entry.detail or "", *entry.resources)
    whole = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return whole + (limits.TIME_BYTES if entry.time is not None else 0)


def parsed(entry: Entry, event_id: str, scope: Scope, now: float) -> dict[str, Any] | Flaw:
    """The event that an entry stands for."""
    for name, value in (("Source", entry.source), ("DetailType", entry.detail_type), ("Detail", entry.detail)):
        if not value:
            return Flaw(INVALID, f"Parameter {name} is not valid. Reason: {name} is a required argument.")
    assert entry.source is not None and entry.detail_type is not None and entry.detail is not None
    if entry.source.startswith(OWN):
        return Flaw(NOT_YOURS, "Not authorized for the source.")
    try:
        detail = json.loads(entry.detail, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        detail = None
    if not isinstance(detail, dict):
        return Flaw(MALFORMED, "Detail is malformed.")
    time = now if entry.time is None else entry.time
    try:
        return event(event_id, scope, (entry.source, entry.detail_type), time, entry.resources, detail)
    except (ValueError, OverflowError, OSError):
        return Flaw(INVALID, "Parameter Time is not valid.")


def _no_constant(name: str) -> float:
    raise ValueError(name)
