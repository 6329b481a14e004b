"""Statistics of a metric over periods, as arrays. Missing periods are NaN."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicloud.metric import limits
from minicloud.metric.model import Metric
from minicloud.metric.page import Chunk, empty_points
from minicloud.metric.sketch import BUCKET_BITS, Floats, quantiles
from minicloud.metric.statistics import Statistic
from minicloud.metric.store import FINE, Store, reduced

_SLOT_BITS = (1 << BUCKET_BITS) - 1


@dataclass(frozen=True, slots=True)
class Span:
    """Equal periods: the first begins at `start` (Unix seconds; any whole minute, or second for short periods)."""

    start: int
    period: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.period * self.count

    def times(self) -> list[int]:
        return list(range(self.start, self.end, self.period))


class Window:
    """What the store holds of one or more series over a span: all statistics come from it."""

    def __init__(self, span: Span, points: Floats, sketch: Chunk | None) -> None:
        self.span = span
        self._points = points
        self._sketch = sketch

    @property
    def counts(self) -> Floats:
        """Sample counts; 0 where there is nothing."""
        counts: Floats = self._points[0]
        return counts

    def statistic(self, statistic: Statistic) -> Floats:
        """NaN where there is none: no data, or for a percentile data that tell nothing about ranks."""
        if statistic.kind == "p":
            return self._percentile(statistic.quantile)
        count, total, low, high = self._points
        if statistic.kind == "Average":
            with np.errstate(invalid="ignore"):
                average: Floats = total / count  # 0 / 0 is NaN
            return average
        column = {"SampleCount": count, "Sum": total, "Minimum": low, "Maximum": high}[statistic.kind]
        found: Floats = np.where(count > 0, column, np.nan)
        return found

    def _percentile(self, q: float) -> Floats:
        count, _, low, high = self._points
        assert self._sketch is not None
        found, weight = quantiles(self._sketch.codes, self._sketch.weights, self.span.count, q)
        whole = (count > 0) & (np.abs(weight - count) <= 1e-9 * count)
        edge = low if q <= 0 else high if q >= 1 else np.clip(found, low, high)
        shown: Floats = np.where(whole, edge, np.nan)
        return shown


def window(store: Store, ordinals: list[int], span: Span, now: float, sketch: bool = False) -> Window:
    """Read the series together. Periods that are no longer kept are empty."""
    width = _width(span)
    many = span.period // width
    first, slots = span.start // width, span.count * many
    gone = min(max(int((now - limits.RETENTION_S[width]) // width) - first, 0), slots)
    points: Floats | None = None
    codes, weights = [], []
    for ordinal in ordinals:
        chunk = store.window(ordinal, width, first, slots, sketch)
        if gone:
            chunk = _without(chunk, gone)
        codes.append(chunk.codes)
        weights.append(chunk.weights)
        mine = chunk.points if many == 1 else reduced(chunk.points, many)
        points = mine if points is None else _joined(points, mine)
    if points is None:
        points = empty_points(1, span.count)[:, 0]
    if not sketch or not ordinals:
        return Window(span, points, Chunk(0, points, np.zeros(0, np.int64), np.zeros(0)))
    joined = np.concatenate(codes)
    grouped = (((joined >> BUCKET_BITS) // many) << BUCKET_BITS) + (joined & _SLOT_BITS)
    return Window(span, points, Chunk(0, points, grouped, np.concatenate(weights)))


def statistics(store: Store, metric: Metric, unit: str, statistic: Statistic, span: Span, now: float) -> Floats:
    """One statistic of a metric; without a unit, of its data in all units together."""
    ordinals = store.registry.series(metric, unit)
    return window(store, ordinals, span, now, statistic.kind == "p").statistic(statistic)


def span_of(start: float, end: float, period: int, now: float) -> Span:
    """The periods of a request that touch [start, end).

    `start` goes down to the minute, to five after 15 days, to the hour after 63 (API, GetMetricData: StartTime), and on
    to a multiple of the period (ours: so that the same points come whenever one asks).
    """
    age = now - start
    unit = 3_600 if age > limits.RETENTION_S[300] else 300 if age > limits.RETENTION_S[60] else 60
    unit = max(unit if period >= 60 else period, period)
    first = int(start // unit) * unit
    return Span(first, period, max(int(-(-(end - first) // period)), 0))


def _width(span: Span) -> int:
    """The widest stored periods that the span's are made of: they are the fewest, and kept longest."""
    for width in sorted(limits.RETENTION_S, reverse=True):
        if span.period % width == 0 and span.start % width == 0:
            return width
    return FINE


def _without(chunk: Chunk, gone: int) -> Chunk:
    """Without its first periods."""
    chunk.points[:, :gone] = empty_points(1, gone)[:, 0]
    kept = chunk.codes >= gone << BUCKET_BITS
    return Chunk(0, chunk.points, chunk.codes[kept], chunk.weights[kept])


def _joined(one: Floats, two: Floats) -> Floats:
    joined = one + two
    joined[2], joined[3] = np.minimum(one[2], two[2]), np.maximum(one[3], two[3])
    return joined
