"""Metrics and their data points as they are given and named."""

from __future__ import annotations

from typing import NamedTuple

from minicloud.base.arn import Scope

Dimensions = tuple[tuple[str, str], ...]  # (name, value), sorted by name

_SIZES = ("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes")
_BITS = ("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits")
_RATES = tuple(f"{unit}/Second" for unit in (*_SIZES, *_BITS, "Count"))
# API, MetricDatum: Unit
UNITS = frozenset(("Seconds", "Microseconds", "Milliseconds", *_SIZES, *_BITS, "Percent", "Count", *_RATES, "None"))


class Metric(NamedTuple):
    """What identifies a metric in one account and region."""

    scope: Scope
    namespace: str
    name: str
    dimensions: Dimensions = ()


class Datum(NamedTuple):
    """One element of PutMetricData, checked. `time`: Unix seconds; `values` and `counts` go together.

    `summary`: a statistic set (sample count, sum, minimum, maximum) instead of values. `width`: StorageResolution.
    """

    name: str
    dimensions: Dimensions
    unit: str
    time: float
    values: tuple[float, ...] = ()
    counts: tuple[float, ...] = ()
    summary: tuple[float, float, float, float] | None = None
    width: int = 60


class Series(NamedTuple):
    """One stored line of numbers: a metric in one unit."""

    metric: Metric
    unit: str


def dimensions_of(given: dict[str, str]) -> Dimensions:
    return tuple(sorted(given.items()))
