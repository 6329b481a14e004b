"""Rules of events as the SDK shows them, and what is given to it: frozen dataclasses as in `models.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class EventTarget:
    """Where a rule's events go: a function, a queue, a topic, by its ARN. At most one of input, input_path, template.

    input: JSON in the event's stead. input_path: a part of the event, as $.detail. template: a text or JSON with
    <names> of paths. group_id: the message group in a FIFO queue. retries, age_s None: AWS's default (185, a day).
    """

    id: str
    arn: str
    input: str = ""
    input_path: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)
    template: str = ""
    group_id: str = ""
    retries: int | None = None
    age_s: int | None = None
    dead_letter_arn: str = ""


@dataclass(frozen=True, slots=True)
class EventRule:
    """pattern: JSON, "" for none. expression: rate or cron in UTC, "" for none. next_time None: not by time."""

    arn: str
    name: str
    pattern: str
    expression: str
    enabled: bool
    description: str
    created_time: datetime | None
    next_time: datetime | None
    targets: tuple[EventTarget, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of an event that was put. error_code "": it was taken, and has an id."""

    event_id: str
    error_code: str
    error_message: str
