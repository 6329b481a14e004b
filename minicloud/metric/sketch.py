"""Percentiles of many values in few numbers: counts in log-spaced buckets (DDSketch, Masson et al., VLDB 2019).

Bucket i holds the values in (G^(i-1), G^i] with G = (1+a)/(1-a); what stands for them all, 2 G^i / (G+1), is off by at
most a = 1 % of the value, for every quantile, however many sketches were merged: merging adds counts and loses
nothing. (CloudWatch's own agent spaces its buckets by 10 %.) Zero, and what is below 2^-360, has the bucket 0.
Negative values have none, as CloudWatch has no percentiles of them.

A quantile is the nearest rank: the least value below or at which q of the weight lies.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

ERROR = 0.01
BUCKET_BITS = 16
_GAMMA = (1 + ERROR) / (1 - ERROR)
_LOG = math.log(_GAMMA)
_BIAS = 1 << (BUCKET_BITS - 1)
_LEAST = 2.0**-360
_ROUNDING = 1e-12  # counts are floats: a rank may miss its place by their rounding


def buckets_of(values: Floats) -> Ints:
    """The bucket of each value (>= 0), 0 to 65,535."""
    positive = values >= _LEAST
    found = np.zeros(len(values), np.int64)
    found[positive] = np.ceil(np.log(values[positive]) / _LOG).astype(np.int64) + _BIAS
    return found


def values_of(buckets: Ints) -> Floats:
    shown: Floats = np.exp((buckets - _BIAS) * _LOG) * (2 / (_GAMMA + 1))
    shown[buckets == 0] = 0.0
    return shown


def merge(codes: Ints, weights: Floats) -> tuple[Ints, Floats]:
    """Sorted, each code once, with the sum of its weights; those of no weight left out."""
    order = np.argsort(codes, kind="stable")
    codes, weights = codes[order], weights[order]
    if not len(codes):
        return codes, weights
    starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
    sums = np.add.reduceat(weights, starts)
    kept = sums > 0
    return codes[starts][kept], sums[kept]


def quantiles(codes: Ints, weights: Floats, groups: int, q: float) -> tuple[Floats, Floats]:
    """For each of `groups`: the q-quantile (NaN: no weight), and the weight. codes: group << 16 | bucket."""
    codes, weights = merge(codes, weights)
    owner = codes >> BUCKET_BITS
    totals: Floats = np.bincount(owner, weights, groups)[:groups].astype(np.float64)
    found = np.full(groups, np.nan)
    if not len(codes):
        return found, totals
    ends = np.searchsorted(owner, np.arange(groups), "right")
    running = np.cumsum(weights)
    before = np.concatenate(([0.0], running))[np.searchsorted(owner, np.arange(groups), "left")]
    some = np.flatnonzero(totals > 0)
    wanted = before[some] + np.maximum(q * totals[some], 0.0)
    at = np.searchsorted(running, wanted - _ROUNDING * (wanted + 1.0), "left")
    first = np.searchsorted(owner, some, "left")
    at = np.clip(at, first, ends[some] - 1)
    found[some] = values_of(codes[at] & ((1 << BUCKET_BITS) - 1))
    return found, totals
