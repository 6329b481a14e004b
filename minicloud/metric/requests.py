"""What PutMetricData, GetMetricStatistics and ListMetrics are given, checked. Raises CloudWatch's errors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from minicloud.base.errors import CloudError
from minicloud.metric import errors, limits
from minicloud.metric.model import UNITS, Datum, Dimensions, dimensions_of

_NAMESPACE = re.compile(r"[0-9A-Za-z.\-_/#:]+\Z")  # guide, "Namespaces"


@dataclass(frozen=True, slots=True)
class Summary:
    """API, StatisticSet."""

    sample_count: float
    total: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class GivenDatum:
    """API, MetricDatum, as it comes. timestamp: Unix seconds, None: now."""

    name: str
    dimensions: Mapping[str, str] = field(default_factory=dict)
    timestamp: float | None = None
    value: float | None = None
    values: Sequence[float] = ()
    counts: Sequence[float] = ()
    summary: Summary | None = None
    unit: str = ""
    width: int = 60


def check_put(namespace: str, data: Sequence[GivenDatum], now: float, service: bool = False) -> list[Datum]:
    """`service`: a service of the cloud reports, which may use the namespaces AWS/..."""
    check_namespace(namespace)
    if namespace.startswith("AWS/") and not service:
        raise errors.bad_value("The value AWS/ for parameter Namespace is invalid.", "Namespace")
    if not data:
        raise errors.missing("MetricData")
    if len(data) > limits.DATA_PER_PUT_MAX:
        most = f"{limits.DATA_PER_PUT_MAX:,}"
        raise errors.bad_value(f"The collection MetricData must not have a size greater than {most}.", "MetricData")
    return [_datum(one, f"MetricData.member.{number}", now) for number, one in enumerate(data, 1)]


def check_namespace(namespace: str) -> None:
    if not namespace:
        raise errors.missing("Namespace")
    if len(namespace) > limits.NAMESPACE_CHARS_MAX or namespace.startswith(":") or not _NAMESPACE.match(namespace):
        raise errors.bad_value(f"The value {namespace[:64]} for parameter Namespace is invalid.", "Namespace")


def check_name(name: str, field: str) -> None:
    if not name:
        raise errors.missing(field)
    if len(name) > limits.METRIC_NAME_CHARS_MAX or not _printable(name):
        raise errors.bad_value(f"The value {name[:64]} for parameter {field} is invalid.", field)


def check_dimensions(given: Mapping[str, str], field: str) -> Dimensions:
    known = _valid(tuple(given.items()))
    if known is None:
        _say_what_is_wrong(given, field)
    assert known is not None
    return known


@lru_cache(maxsize=16_384)
def _valid(given: Dimensions) -> Dimensions | None:
    """Sorted; None: not valid. Remembered, because the same metrics come every minute."""
    try:
        _say_what_is_wrong(dict(given), "Dimensions")
    except CloudError:
        return None
    return dimensions_of(dict(given))


def _say_what_is_wrong(given: Mapping[str, str], field: str) -> None:
    if len(given) > limits.DIMENSIONS_MAX:
        most = limits.DIMENSIONS_MAX
        raise errors.bad_value(f"The collection {field} must not have a size greater than {most}.", field)
    for number, (name, value) in enumerate(given.items(), 1):
        place = f"{field}.member.{number}"
        if not 0 < len(name) <= limits.DIMENSION_NAME_CHARS_MAX or name[0] == ":" or not _printable(name):
            raise errors.bad_value(f"The value {name[:64]} for parameter {place}.Name is invalid.", f"{place}.Name")
        if not 0 < len(value) <= limits.DIMENSION_VALUE_CHARS_MAX or not value.strip() or not _printable(value):
            raise errors.bad_value(f"The value {value[:64]} for parameter {place}.Value is invalid.", f"{place}.Value")


def check_unit(unit: str, field: str) -> str:
    if unit not in UNITS:
        raise errors.bad_value(f"The value {unit[:64]} for parameter {field} is invalid.", field)
    return unit


def check_period(period: int, field: str = "Period") -> int:
    if (period not in limits.PERIODS_SHORT and (period < 60 or period % 60)) or period > limits.PERIOD_S_MAX:
        text = f"The parameter {field} must be 1, 5, 10, 20, 30, or a multiple of 60, {limits.PERIOD_S_MAX} at most"
        raise errors.bad_value(f"{text}.", field)
    return period


def _datum(given: GivenDatum, place: str, now: float) -> Datum:
    check_name(given.name, f"{place}.MetricName")
    dimensions = check_dimensions(given.dimensions, f"{place}.Dimensions") if given.dimensions else ()
    unit = check_unit(given.unit, f"{place}.Unit") if given.unit else "None"
    if given.width not in (1, 60):
        text = f"The parameter {place}.StorageResolution must be 1 or 60."
        raise errors.bad_value(text, f"{place}.StorageResolution")
    time = _time(given.timestamp, f"{place}.Timestamp", now)
    if given.value is not None and not (given.values or given.counts or given.summary):
        value = _number(given.value, f"{place}.Value")
        return Datum(given.name, dimensions, unit, time, (value,), (1.0,), None, given.width)
    values, counts, summary = _content(given, place)
    return Datum(given.name, dimensions, unit, time, values, counts, summary, given.width)


_Content = tuple[tuple[float, ...], tuple[float, ...], tuple[float, float, float, float] | None]


def _content(given: GivenDatum, place: str) -> _Content:
    forms = {
        "Value": given.value is not None,
        "Values": bool(given.values or given.counts),
        "StatisticValues": given.summary is not None,
    }
    used = [f"{place}.{name}" for name, there in forms.items() if there]
    if not used:
        raise errors.missing(f"{place}.Value")
    if len(used) > 1:
        text = f"The parameters {used[0]} and {used[1]} are mutually exclusive and you have specified both."
        raise errors.bad_mix(text, used[1])
    if given.summary is not None:
        return (), (), _summary(given.summary, f"{place}.StatisticValues")
    return (*_values(given.values, given.counts, place), None)


def _values(
    values: Sequence[float], counts: Sequence[float], place: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not values:
        raise errors.missing(f"{place}.Values")
    if len(values) > limits.VALUES_MAX:
        text = f"The collection {place}.Values must not have a size greater than {limits.VALUES_MAX}."
        raise errors.bad_value(text, f"{place}.Values")
    if counts and len(counts) != len(values):
        text = f"The parameters {place}.Values and {place}.Counts must be of the same size."
        raise errors.bad_value(text, f"{place}.Counts")
    checked = tuple(_number(value, f"{place}.Values.member.{at}") for at, value in enumerate(values, 1))
    weights = tuple(_number(count, f"{place}.Counts.member.{at}") for at, count in enumerate(counts, 1))
    if any(weight <= 0 for weight in weights):
        raise errors.bad_value(f"The parameter {place}.Counts must be greater than 0.", f"{place}.Counts")
    return checked, weights or (1.0,) * len(checked)


def _summary(given: Summary, place: str) -> tuple[float, float, float, float]:
    count = _number(given.sample_count, f"{place}.SampleCount")
    total = _number(given.total, f"{place}.Sum")
    low, high = _number(given.minimum, f"{place}.Minimum"), _number(given.maximum, f"{place}.Maximum")
    if count <= 0:
        text = f"The parameter {place}.SampleCount must be greater than 0."
        raise errors.bad_value(text, f"{place}.SampleCount")
    if low > high:
        text = f"The parameter {place}.Maximum must be greater than or equal to {place}.Minimum."
        raise errors.bad_value(text, f"{place}.Maximum")
    return count, total, low, high


def _number(value: float, field: str) -> float:
    if not math.isfinite(value):
        raise errors.bad_value(f"The value {value} for parameter {field} is invalid.", field)
    if abs(value) > limits.VALUE_MAX:
        raise errors.bad_value(f"The parameter {field} must be between -2^360 and 2^360.", field)
    return float(value)


def _time(given: float | None, field: str, now: float) -> float:
    if given is None:
        return now
    if given < now - limits.PAST_S_MAX:
        raise errors.bad_value(f"The parameter {field} must specify a time no more than two weeks in the past.", field)
    if given > now + limits.FUTURE_S_MAX:
        text = f"The parameter {field} must specify a time no more than two hours in the future."
        raise errors.bad_value(text, field)
    return given


def _printable(text: str) -> bool:
    """API: ASCII without control characters. ours: the same for names and values."""
    return text.isascii() and text.isprintable()
