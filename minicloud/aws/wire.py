"""A request and an answer, as bytes of HTTP see them; and how values stand in text.

Malformed values raise BadInput, which carries where it happened: whoever knows the way there puts its part in front.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from minicloud.base.errors import InvalidRequest


@dataclass(slots=True)
class Request:
    """`path` and `query` are as sent, still quoted. `headers`: names in lower case; repeated ones joined by a comma.

    `repeated`: the values, one by one, of names that came more than once.
    `form`: what face.form_of read of query and body; who changes the body sets it to None.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    peer: str = ""
    repeated: dict[str, list[str]] = field(default_factory=dict)
    form: list[tuple[str, str]] | None = None


@dataclass(slots=True)
class Answer:
    """`body`: whole; or whole in pieces, so that a long one that is kept needs no copy; or what comes bit by bit."""

    status: int
    content_type: str
    body: bytes | tuple[bytes, ...] | AsyncIterator[bytes]
    headers: list[tuple[str, str]] = field(default_factory=list)

    def whole(self) -> bytes:
        """The body, where it is here."""
        assert isinstance(self.body, bytes | tuple), "it comes bit by bit"
        return self.body if isinstance(self.body, bytes) else b"".join(self.body)


class BadInput(InvalidRequest):
    """A value cannot be read."""

    default_code = "SerializationException"

    def __init__(self, message: str | None = None, **options: Any) -> None:
        super().__init__(message, **options)
        self.path: list[str] = []

    def within(self, part: str) -> BadInput:
        self.path.insert(0, part)
        return self

    @property
    def where(self) -> str:
        return ".".join(self.path)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LIST_MAX = 100_000  # ours: the highest index of a list in a query
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9})\d*)?)?)?\s*([Zz]|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_BOUNDS = {"integer": 2**31, "long": 2**63}
_ODD = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


def integer(kind: str) -> Callable[[str], int]:
    bound = _BOUNDS[kind]

    def read(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise BadInput("it must be a whole number")
        return in_bounds(int(text), bound)

    return read


def in_bounds(value: int, bound: int) -> int:
    if not -bound <= value < bound:
        raise BadInput(f"it must be between {-bound} and {bound - 1}")
    return value


def bound_of(kind: str) -> int:
    return _BOUNDS[kind]


def number(text: str) -> float:
    if text in _ODD:
        return _ODD[text]
    if not _NUMBER.fullmatch(text):
        raise BadInput("it must be a number")
    return float(text)


def boolean(text: str) -> bool:
    low = text.lower()
    if low not in ("true", "false"):
        raise BadInput("it must be true or false")
    return low == "true"


def blob(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("it must be base64") from None


def timestamp(text: str) -> float:
    """ISO 8601, or seconds since 1970 as text, or an HTTP date."""
    match = _ISO.fullmatch(text)
    try:
        if match is not None:
            return _of_iso(match)
        if _NUMBER.fullmatch(text):
            return checked_time(float(text))
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):
        raise BadInput("it must be a point in time") from None


def _of_iso(match: re.Match[str]) -> float:
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    whole = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
    seconds = float(calendar.timegm(whole.timetuple()))
    if zone and zone not in "Zz":
        digits = zone[1:].replace(":", "")
        shift = int(digits[:2]) * 3600 + int(digits[2:]) * 60
        seconds += -shift if zone[0] == "+" else shift
    if fraction:
        seconds += int(fraction.ljust(9, "0")[:6]) / 1e6
    return seconds


def checked_time(seconds: float) -> float:
    if not -62_135_596_800 <= seconds < 253_402_300_800:  # years 1 to 9999
        raise BadInput("it must be a point in time between the years 1 and 9999")
    return seconds


def iso_time(seconds: float) -> str:
    """`2026-11-25T04:22:02.123Z`; microseconds only where there are any."""
    moment = EPOCH + timedelta(microseconds=round(seconds * 1e6))
    head = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}T{moment.hour:02d}:{moment.minute:02d}"
    micros = moment.microsecond
    tail = f"{micros // 1000:03d}" if micros % 1000 == 0 else f"{micros:06d}"
    return f"{head}:{moment.second:02d}.{tail}Z"


def http_time(seconds: float) -> str:
    return formatdate(int(seconds), usegmt=True)


def plain_time(seconds: float) -> float | int:
    """As JSON writes it: whole seconds without a point."""
    rounded = round(seconds, 6)
    return int(rounded) if rounded == int(rounded) else rounded


def seconds_of(value: Any) -> float:
    """What a door gave as a time: seconds, or a datetime."""
    return value.timestamp() if isinstance(value, datetime) else float(value)


def float_text(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(float(value))


READERS: dict[str, Callable[[str], Any]] = {
    "string": lambda text: text,
    "integer": integer("integer"),
    "long": integer("long"),
    "float": number,
    "double": number,
    "boolean": boolean,
    "blob": blob,
    "timestamp": timestamp,
}


def writer(kind: str, timestamp_format: str = "iso8601") -> Callable[[Any], str]:
    """Scalars as text, for XML, headers and paths."""
    if kind == "timestamp":
        return lambda value: time_text(seconds_of(value), timestamp_format)
    return _WRITERS[kind]


def time_text(seconds: float, form: str) -> str:
    if form == "unixTimestamp":
        return str(plain_time(seconds))
    return http_time(seconds) if form == "rfc822" else iso_time(seconds)


_WRITERS: dict[str, Callable[[Any], str]] = {
    "string": str,
    "integer": lambda value: str(int(value)),
    "long": lambda value: str(int(value)),
    "float": float_text,
    "double": float_text,
    "boolean": lambda value: "true" if value else "false",
    "blob": lambda value: base64.b64encode(value).decode(),
}


def unquoted(text: str, *, plus: bool = False) -> str:
    """Percent-encoding taken off. Raises BadInput where it is not UTF-8."""
    try:
        return unquote(text.replace("+", " ") if plus else text, errors="strict")
    except UnicodeDecodeError:
        raise BadInput("it must be UTF-8") from None


def today(now: float) -> str:
    return time.strftime("%Y%m%d", time.gmtime(now))
