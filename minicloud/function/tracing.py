"""Trace headers: who is told that an invocation belongs to a trace, and which.

    Root=1-<8 hex: seconds>-<24 hex>;Parent=<16 hex>;Sampled=0 or 1

One that a caller hands in is passed on as it is. Where none came, a function with tracing Active begins a trace, always
sampled; one with PassThrough begins none. There is no X-Ray here: a trace is in the header that the runtime is
given (and AWS's SDKs pass on), and in the REPORT line. Nobody collects segments.
https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

from __future__ import annotations

import random
import re
from typing import NamedTuple

ACTIVE = "Active"
HEADER_CHARS_MAX = 1_024  # ours
_ROOT = re.compile(r"(?:^|;)\s*Root=(1-[0-9a-f]{8}-[0-9a-f]{24})\s*(?:;|$)")
_PARENT = re.compile(r"(?:^|;)\s*Parent=([0-9a-f]{16})\s*(?:;|$)")
_SAMPLED = re.compile(r"(?:^|;)\s*Sampled=1\s*(?:;|$)")


class Trace(NamedTuple):
    """One that is sampled. `segment`: whose part of it this is."""

    header: str
    root: str
    segment: str


def begun(rand: random.Random, now: float) -> str:
    """The header of a new trace, sampled."""
    return f"Root=1-{int(now):08x}-{rand.getrandbits(96):024x};Parent={rand.getrandbits(64):016x};Sampled=1"


def read(header: str) -> Trace | None:
    """None where it is not sampled, or no header of a trace."""
    root, parent = _ROOT.search(header), _PARENT.search(header)
    if root is None or not _SAMPLED.search(header):
        return None
    return Trace(header, root[1], parent[1] if parent is not None else "")
