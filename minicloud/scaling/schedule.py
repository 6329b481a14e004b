"""Recurring schedules: five-field cron expressions in a time zone.

After the API's PutScheduledUpdateGroupAction and crontab(5): minute, hour, day of month, month, day of week (0 and 7
are Sunday; names of months and days in three letters). `*`, lists, ranges and steps; where both kinds of day are given,
a day that matches either counts.

When the clocks change: a time that does not exist runs as much later as the clocks jumped; a time that comes twice runs
the first time, except for schedules of every hour, which run in both. So nothing runs twice and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from minicloud.scaling.errors import invalid

DAYS_AHEAD_MAX = 366 * 8 + 1  # 29 February may be eight years away (1896 to 1904, 2096 to 2104)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0: Sunday
    either_day: bool  # both kinds of day are given: one of them suffices

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Raises InvalidParameterValue (ValidationError)."""
        fields = text.split()
        if len(fields) != 5:
            raise _bad(text)
        try:
            weekdays = _field(fields[4], 0, 7, _DAYS)
            return cls(
                minutes=_field(fields[0], 0, 59),
                hours=_field(fields[1], 0, 23),
                days=_field(fields[2], 1, 31),
                months=_field(fields[3], 1, 12, ("", *_MONTHS)),
                weekdays=frozenset(day % 7 for day in weekdays),
                either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
            )
        except ValueError:
            raise _bad(text) from None

    def next(self, after: float, zone: tzinfo = UTC) -> float | None:
        """The first time after an instant (Unix seconds); None for a date that never comes (31 February)."""
        first = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
        for ahead in range(DAYS_AHEAD_MAX):
            day = first + timedelta(days=ahead)
            if self._on(day):
                later = [at for at in self._times(day, zone) if at > after]
                if later:
                    return min(later)
        return None

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date or by_week if self.either_day else by_date and by_week

    def _times(self, day: date, zone: tzinfo) -> Iterator[float]:
        every_hour = len(self.hours) == 24
        for hour in self.hours:
            for minute in self.minutes:
                local = datetime.combine(day, time(hour, minute), zone)
                yield local.timestamp()
                if every_hour:
                    yield local.replace(fold=1).timestamp()


def time_zone(name: str) -> tzinfo:
    """A zone of the IANA database; "" is UTC. Raises InvalidParameterValue (ValidationError)."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise invalid(f"TimeZone '{name[:64]}' is not a name of the IANA time zone database", "time_zone") from None


def _bad(text: str) -> Exception:
    return invalid(f"Given recurrence string: {text[:255]} is invalid", "recurrence")


def _field(text: str, low: int, high: int, names: tuple[str, ...] = ()) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text) if slash else 1
        if span == "*":
            first, last = low, high
        else:
            first_text, dash, last_text = span.partition("-")
            first = _value(first_text, names)
            last = _value(last_text, names) if dash else high if slash else first
        if not (low <= first <= last <= high and step >= 1):
            raise ValueError(text)
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _value(text: str, names: tuple[str, ...]) -> int:
    return names.index(text.lower()) if text and text.lower() in names else _number(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text[:4])
