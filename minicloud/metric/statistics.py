"""The names of statistics: what `Average` or `p99.9` asks of a period."""

from __future__ import annotations

import re
from typing import NamedTuple

from minicloud.metric import errors

SIMPLE = ("SampleCount", "Sum", "Average", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(\d{1,3}(?:\.\d{1,10})?)\Z")
# Guide, "CloudWatch statistics definitions": they would need the values between two ranks, which are not kept.
_REFUSED = re.compile(r"(tm|wm|pr|tc|ts|TM|WM|PR|TC|TS|IQM)(\d.*|\(.*)?\Z")


class Statistic(NamedTuple):
    """`kind`: one of SIMPLE, or "p" with the quantile (0 to 1)."""

    kind: str
    quantile: float = 0.0


def parse(name: str, field: str = "Stat") -> Statistic:
    """Raises InvalidParameterValue (no statistic), UnsupportedOperation (one that is not computed here)."""
    if name in SIMPLE:
        return Statistic(name)
    percentile = _PERCENTILE.match(name)
    if percentile and float(percentile[1]) <= 100:
        return Statistic("p", float(percentile[1]) / 100)
    if _REFUSED.match(name):
        raise errors.not_supported(f"The statistic {name[:32]}", field)
    raise errors.bad_value(f"The value {name[:64]} for parameter {field} is not supported.", field)
