"""What a process of the cloud has measured: made by slices, carried to the metric store by rpc/reporter.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from minicloud.base.arn import Scope

MINUTE_S = 60


class Reading(NamedTuple):
    """Values of one metric. counts: how often each was met; none: once."""

    name: str
    unit: str
    values: Sequence[float]
    counts: Sequence[float] = ()


class Report(NamedTuple):
    """Readings of one namespace and dimensions. time: when the period began, Unix seconds. resolution_s: 1 or 60."""

    scope: Scope
    namespace: str
    dimensions: tuple[tuple[str, str], ...]
    time: float
    readings: Sequence[Reading]
    resolution_s: int = MINUTE_S


class Reports(Protocol):
    """Where reports go. Two implementations: rpc.reporter.Reporter, NoReports."""

    def report(self, reports: Sequence[Report]) -> None:
        """Never blocks, never raises; drops the oldest where nobody takes them, and counts it."""
        ...


class NoReports:
    """A process without a metric store."""

    def report(self, reports: Sequence[Report]) -> None:
        return None
