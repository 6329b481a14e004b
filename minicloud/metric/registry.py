"""Which metrics there are: their numbers (ordinals), when they were last heard of, and how they are listed."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minicloud.base.arn import Scope
from minicloud.metric import errors, limits
from minicloud.metric.model import Datum, Dimensions, Metric, Series

_Name = tuple[str, str, Dimensions, str]  # namespace, name, dimensions, unit


class DimensionFilter(NamedTuple):
    """A dimension that a metric must have; value None: any."""

    name: str
    value: str | None = None


class Registry:
    """Ordinals are given in order and never again while a series' data may be there."""

    def __init__(self, most: int = limits.SERIES_MAX) -> None:
        self._most = most
        self._ids: dict[Scope, dict[_Name, int]] = {}
        self._series: dict[int, Series] = {}
        self._of_metric: dict[Metric, list[int]] = {}
        self._listed: dict[Scope, list[str]] = {}
        self._metrics: dict[tuple[Scope, str], Metric] = {}
        self.first = array("d")  # by ordinal: the oldest point, Unix seconds
        self.newest = array("d")
        self.heard = array("d")  # when a point last came
        self.unsaved: set[int] = set()

    def __len__(self) -> int:
        return len(self._series)

    # --- making

    def open(self, scope: Scope, namespace: str, data: Sequence[Datum], now: float) -> list[int]:
        """The ordinals of the series of these points; those that are new are made. Raises LimitExceeded, makes none."""
        ids = self._ids.setdefault(scope, {})
        found = [ids.get((namespace, datum.name, datum.dimensions, datum.unit), -1) for datum in data]
        if -1 in found:
            names = [(namespace, datum.name, datum.dimensions, datum.unit) for datum in data]
            if len(self) + len({name for name, ordinal in zip(names, found, strict=True) if ordinal < 0}) > self._most:
                raise errors.too_many_metrics(self._most)
            found = [ids[name] if name in ids else self._make(scope, name) for name in names]
        for ordinal, datum in zip(found, data, strict=True):
            self.heard[ordinal] = now
            if datum.time > self.newest[ordinal]:
                self.newest[ordinal] = datum.time
            if datum.time < self.first[ordinal]:
                self.first[ordinal] = datum.time
        return found

    def _make(self, scope: Scope, name: _Name) -> int:
        ordinal = len(self.first)
        self._enter(ordinal, Series(Metric(scope, *name[:3]), name[3]))
        self.unsaved.add(ordinal)
        return ordinal

    def _enter(self, ordinal: int, series: Series) -> None:
        for column, value in ((self.first, float("inf")), (self.newest, 0.0), (self.heard, 0.0)):
            column.extend([value] * (ordinal + 1 - len(column)))
        metric = series.metric
        self._ids.setdefault(metric.scope, {})[_name(series)] = ordinal
        self._series[ordinal] = series
        siblings = self._of_metric.setdefault(metric, [])
        siblings.append(ordinal)
        if len(siblings) == 1:
            key = list_key(metric)
            insort(self._listed.setdefault(metric.scope, []), key)
            self._metrics[metric.scope, key] = metric

    def drop(self, ordinal: int) -> None:
        """Forget a series whose data has expired."""
        series = self._series.pop(ordinal)
        metric = series.metric
        del self._ids[metric.scope][_name(series)]
        siblings = self._of_metric[metric]
        siblings.remove(ordinal)
        if not siblings:
            del self._of_metric[metric]
            key = list_key(metric)
            keys = self._listed[metric.scope]
            del keys[bisect_left(keys, key)], self._metrics[metric.scope, key]
        self.unsaved.discard(ordinal)

    # --- reading

    def known(self, ordinal: int) -> bool:
        return ordinal in self._series

    def series(self, metric: Metric, unit: str = "") -> list[int]:
        """The ordinals of a metric in one unit ("": in every unit)."""
        found = self._of_metric.get(metric, [])
        return [ordinal for ordinal in found if self._series[ordinal].unit == unit] if unit else found

    def unit(self, ordinal: int) -> str:
        return self._series[ordinal].unit

    def idle(self, before: float) -> list[int]:
        """Series whose newest point and last word are older than that."""
        return [one for one in self._series if max(self.newest[one], self.heard[one]) < before]

    def is_crowded(self) -> bool:
        return len(self) > limits.CROWDED * self._most

    def surplus(self, before: float) -> list[int]:
        """Where there are too many: those silent since `before`, the longest first, until there are not too many."""
        count = len(self) - int(limits.CROWDED * self._most)
        silent = sorted(self.idle(before), key=lambda one: max(self.newest[one], self.heard[one])) if count > 0 else []
        return silent[: max(count, 0)]

    def find(self, scope: Scope, where: Where, after: str, now: float) -> tuple[list[Metric], str]:
        """A page of metrics behind the key `after`, and the key behind which the next one begins ("": it was the last).

        A page may have few metrics, or none, and not be the last.
        """
        keys = self._listed.get(scope, [])
        low, high = where.bounds()
        at = max(bisect_left(keys, low), bisect_right(keys, after) if after else 0)
        since = now - (limits.RECENTLY_ACTIVE_S if where.recently else limits.LISTED_S)
        found: list[Metric] = []
        last = ""
        for looked, place in enumerate(range(at, bisect_left(keys, high))):
            metric = self._metrics[scope, keys[place]]
            fits = where.fits(metric) and any(self.heard[one] >= since for one in self._of_metric[metric])
            if looked == limits.LIST_LOOKED_AT_MAX or (fits and len(found) == limits.LIST_PAGE):
                return found, last
            if fits:
                found.append(metric)
            last = keys[place]
        return found, ""

    # --- storing

    def replayed(self, ordinal: int, first: float, newest: float) -> None:
        """Points of a known series came back, from a tail that is younger than the series' record."""
        self.first[ordinal] = min(self.first[ordinal], first)
        self.newest[ordinal] = max(self.newest[ordinal], newest)
        self.heard[ordinal] = max(self.heard[ordinal], newest)

    def body(self, ordinal: int) -> bytes:
        metric, unit = self._series[ordinal]
        times = [self.first[ordinal], self.newest[ordinal], self.heard[ordinal]]
        scope = [metric.scope.account, metric.scope.region]
        return json.dumps([*scope, metric.namespace, metric.name, metric.dimensions, unit, *times]).encode()

    def restore(self, stored: Iterable[tuple[str, bytes]]) -> None:
        for key, body in stored:
            account, region, namespace, name, dimensions, unit, first, newest, heard = json.loads(body)
            ordinal = int(key, 16)
            pairs = tuple((str(one), str(two)) for one, two in dimensions)
            self._enter(ordinal, Series(Metric(Scope(account, region), namespace, name, pairs), unit))
            self.first[ordinal], self.newest[ordinal], self.heard[ordinal] = first, newest, heard


class Where(NamedTuple):
    """What ListMetrics asks for. `namespace` and `name`: "" for any."""

    namespace: str = ""
    name: str = ""
    dimensions: tuple[DimensionFilter, ...] = ()
    recently: bool = False

    def fits(self, metric: Metric) -> bool:
        if self.name and metric.name != self.name:
            return False
        if not self.dimensions:
            return True
        has = dict(metric.dimensions)
        return all(one.name in has and one.value in (None, has[one.name]) for one in self.dimensions)

    def bounds(self) -> tuple[str, str]:
        """The keys between which every match lies."""
        if not self.namespace:
            return "", "\U0010ffff"
        start = f"{self.namespace}\0{self.name}\0" if self.name else f"{self.namespace}\0"
        return start, start[:-1] + "\1"


def _name(series: Series) -> _Name:
    metric = series.metric
    return metric.namespace, metric.name, metric.dimensions, series.unit


def list_key(metric: Metric) -> str:
    """Where a metric stands in a listing."""
    return "\0".join((metric.namespace, metric.name, *(part for pair in metric.dimensions for part in pair)))
