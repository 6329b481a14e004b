"""Recurring times: cron expressions of two dialects, in a time zone.

    five fields   crontab(5): minute, hour, day of month, month, day of week (0 and 7 are Sunday); where both kinds of
                  day are given, a day that matches either counts
    six fields    EventBridge: the same and a year; day of week 1 is Sunday; one kind of day is `?`; `L` (the last day
                  of the month; 5L: the last Thursday), `15W` (the weekday nearest to the 15th), `3#2` (second Tuesday)

`*`, lists, ranges, steps, and names of months and days in three letters, in both. EventBridge's whole expressions:

    cron(0 18 ? * MON-FRI *)    rate(5 minutes)    rate(1 hour)    rate(7 days)

When the clocks change: a time that does not exist runs as much later as the clocks jumped; a time that comes twice runs
the first time, except for schedules of every hour, which run in both. So nothing runs twice and nothing is left out.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS_AHEAD_MAX = 366 * 8 + 1  # 29 February may be eight years away (1896 to 1904, 2096 to 2104)
YEARS = (1970, 2199)  # EventBridge
_WHOLE = re.compile(r"(?P<kind>rate|cron)\((?P<inside>[^()]{1,250})\)\Z")
_RATE = re.compile(r"(?P<count>[1-9]\d{0,8}) (?P<unit>minute|hour|day)(?P<many>s?)\Z")
_UNIT_S = {"minute": 60, "hour": 3_600, "day": 86_400}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class Cron:
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0: Sunday
    either_day: bool = False  # both kinds of day are given: one of them suffices
    years: frozenset[int] | None = None
    last_day: bool = False  # of the month
    nearest: frozenset[int] = frozenset()  # days whose nearest weekday counts
    last_weekdays: frozenset[int] = frozenset()  # the last such day of the month
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()  # (weekday, 1 to 5)

    @classmethod
    def parse(cls, text: str) -> Cron:
        """Five fields. Raises ValueError."""
        fields = text.split()
        if len(fields) != 5:
            raise ValueError(text)
        weekdays = _field(fields[4], 0, 7, _DAYS)
        return cls(
            minutes=_field(fields[0], 0, 59),
            hours=_field(fields[1], 0, 23),
            days=_field(fields[2], 1, 31),
            months=_field(fields[3], 1, 12, ("", *_MONTHS)),
            weekdays=frozenset(day % 7 for day in weekdays),
            either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
        )

    @classmethod
    def parse_six(cls, text: str) -> Cron:
        """Six fields, EventBridge's. Raises ValueError."""
        fields = text.split()
        if len(fields) != 6 or (fields[2] == "?") == (fields[4] == "?"):
            raise ValueError(text)
        plain = cls(
            minutes=_field(fields[0], 0, 59),
            hours=_field(fields[1], 0, 23),
            days=frozenset(range(1, 32)),
            months=_field(fields[3], 1, 12, ("", *_MONTHS)),
            weekdays=frozenset(range(7)),
            years=None if fields[5] == "*" else _field(fields[5], *YEARS),
        )
        return _on_weekdays(plain, fields[4]) if fields[2] == "?" else _on_days(plain, fields[2])

    def next(self, after: float, zone: tzinfo = UTC) -> float | None:
        """The first time after an instant (Unix seconds); None for a date that never comes (31 February)."""
        day = datetime.fromtimestamp(after, zone).date() - timedelta(days=1)
        for _ in range(DAYS_AHEAD_MAX):
            if self.years is not None and day.year not in self.years:
                later_years = [year for year in self.years if year > day.year]
                if not later_years:
                    return None
                day = date(min(later_years), 1, 1)
            if self._on(day):
                later = [at for at in self._times(day, zone) if at > after]
                if later:
                    return min(later)
            day += timedelta(days=1)
        return None

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        weekday = day.isoweekday() % 7
        by_date = day.day in self.days or self._special_date(day)
        by_week = weekday in self.weekdays or self._special_weekday(day, weekday)
        return by_date or by_week if self.either_day else by_date and by_week

    def _special_date(self, day: date) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if self.last_day and day.day == last:
            return True
        return any(wanted <= last and _nearest_weekday(day, wanted, last) == day.day for wanted in self.nearest)

    def _special_weekday(self, day: date, weekday: int) -> bool:
        last = calendar.monthrange(day.year, day.month)[1]
        if weekday in self.last_weekdays and day.day + 7 > last:
            return True
        return (weekday, (day.day - 1) // 7 + 1) in self.nth_weekdays

    def _times(self, day: date, zone: tzinfo) -> Iterator[float]:
        every_hour = len(self.hours) == 24
        for hour in self.hours:
            for minute in self.minutes:
                local = datetime.combine(day, time(hour, minute), zone)
                yield local.timestamp()
                if every_hour:
                    yield local.replace(fold=1).timestamp()


def time_zone(name: str) -> tzinfo:
    """A zone of the IANA database; "" is UTC. Raises ValueError."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(name) from None


def next_time(expression: str, zone: tzinfo, now: float, last: float) -> float | None:
    """The first time after now of rate(...) or cron(...); a rate counts from `last`. None: never. Raises ValueError."""
    found = _WHOLE.match(expression)
    if found is None:
        raise ValueError(expression)
    if found["kind"] == "cron":
        return Cron.parse_six(found["inside"]).next(now, zone)
    rate = _RATE.match(found["inside"])
    if rate is None or (rate["count"] == "1") == bool(rate["many"]):
        raise ValueError(expression)
    period = int(rate["count"]) * _UNIT_S[rate["unit"]]
    return last + period * (int((now - last) // period) + 1)


def _on_days(plain: Cron, text: str) -> Cron:
    days: set[int] = set()
    nearest: set[int] = set()
    last_day = False
    for part in text.split(","):
        if part == "L":
            last_day = True
        elif part.endswith("W"):
            nearest.add(_between(_number(part[:-1]), 1, 31))
        else:
            days |= _field(part, 1, 31)
    return replace(plain, days=frozenset(days), nearest=frozenset(nearest), last_day=last_day)


def _on_weekdays(plain: Cron, text: str) -> Cron:
    names = ("", *_DAYS)
    weekdays: set[int] = set()
    lasts: set[int] = set()
    nths: set[tuple[int, int]] = set()
    for part in text.split(","):
        day, hash_sign, nth = part.partition("#")
        if hash_sign:
            nths.add((_between(_value(day, names), 1, 7) - 1, _between(_number(nth), 1, 5)))
        elif part == "L":
            weekdays.add(6)
        elif part.endswith("L"):
            lasts.add(_between(_value(part[:-1], names), 1, 7) - 1)
        else:
            weekdays |= {day - 1 for day in _field(part, 1, 7, names)}
    return replace(plain, weekdays=frozenset(weekdays), last_weekdays=frozenset(lasts), nth_weekdays=frozenset(nths))


def _nearest_weekday(day: date, wanted: int, last: int) -> int:
    """The working day nearest to a day of this month, within the month."""
    weekday = day.replace(day=wanted).isoweekday()
    if weekday == 6:
        return wanted - 1 if wanted > 1 else wanted + 2
    if weekday == 7:
        return wanted + 1 if wanted < last else wanted - 2
    return wanted


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


def _between(value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise ValueError(value)
    return value


def _value(text: str, names: tuple[str, ...]) -> int:
    return names.index(text.lower()) if text and text.lower() in names else _number(text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(text)
    return int(text[:4])
