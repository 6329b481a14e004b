"""Which state an alarm is in: M out of N with missing data, as the guide has it, and the reason in CloudWatch's words.

The range that is looked at is N + 2 periods (guide, "How alarm state is evaluated when data is missing": more than N,
how many it does not say; 5 for 3 in its examples). Of these, oldest first:

    N or more are there           the N newest decide; how missing ones are treated does not matter
    fewer, treated as breaching   the missing ones that are needed to make N breach; M breaching: ALARM, else OK
    ... as notBreaching           the same with ones that do not
    ... missing or ignore         M breaching: ALARM. One not breaching: OK. None there: INSUFFICIENT_DATA, or as it is.
                                  All that are there breach: ALARM if the oldest of them is at least M periods old,
                                  since newer data could not make it OK ("premature transitions"), else
                                  INSUFFICIENT_DATA; with ignore the state stays as it is in both cases
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
STATES = (OK, ALARM, INSUFFICIENT)
MISSING, IGNORE, BREACHING, NOT_BREACHING = "missing", "ignore", "breaching", "notBreaching"
TREATMENTS = (MISSING, IGNORE, BREACHING, NOT_BREACHING)

COMPARISONS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (lambda value, threshold: value >= threshold, "greater than or equal to"),
    "GreaterThanThreshold": (lambda value, threshold: value > threshold, "greater than"),
    "LessThanThreshold": (lambda value, threshold: value < threshold, "less than"),
    "LessThanOrEqualToThreshold": (lambda value, threshold: value <= threshold, "less than or equal to"),
}

_SHOWN = 15  # ours: points in a reason, newest first; it has 1,023 characters


@dataclass(frozen=True, slots=True)
class Rule:
    """What an alarm compares. `needed` (M) out of `periods` (N)."""

    comparison: str
    threshold: float
    needed: int
    periods: int
    missing: str = MISSING


class Verdict(NamedTuple):
    """`state` None: it stays as it is. `used`: places in the range of the points that decided, oldest first."""

    state: str | None
    used: list[int]
    filled: int = 0


def judge(rule: Rule, values: Sequence[float | None]) -> Verdict:
    """values: of the whole range, oldest first, None: missing."""
    there = [at for at, value in enumerate(values) if value is not None]
    used = there[-rule.periods :]
    beyond = COMPARISONS[rule.comparison][0]
    bad = [at for at in used if beyond(values[at], rule.threshold)]  # type: ignore[arg-type]
    filled = rule.periods - len(used)
    if not filled:
        return Verdict(ALARM if len(bad) >= rule.needed else OK, used)
    if rule.missing == BREACHING:
        return Verdict(ALARM if len(bad) + filled >= rule.needed else OK, used, filled)
    if rule.missing == NOT_BREACHING:
        return Verdict(ALARM if len(bad) >= rule.needed else OK, used, filled)
    return Verdict(_sparse(rule, used, bad, len(values)), used, filled)


def _sparse(rule: Rule, used: list[int], bad: list[int], count: int) -> str | None:
    """Fewer than N are there, and what is missing counts for nothing."""
    if len(bad) >= rule.needed:
        return ALARM
    if len(bad) < len(used):
        return OK
    if rule.missing == IGNORE:
        return None
    return ALARM if used and count - used[0] >= rule.needed else INSUFFICIENT


def reason(rule: Rule, verdict: Verdict, values: Sequence[float | None], times: Sequence[int]) -> str:
    """StateReason of a state that was decided. times: Unix seconds of the range's periods."""
    used, filled = verdict.used, verdict.filled
    if verdict.state == INSUFFICIENT:
        return f"Insufficient Data: {_count(rule.periods - len(used), 'datapoint')} unknown."
    treated = {BREACHING: "Breaching", NOT_BREACHING: "NonBreaching"}.get(rule.missing)
    if not used:
        what = f"no datapoints were received for {_plain(rule.periods, 'period')}"
        missing = f"{_count(filled, 'missing datapoint')} treated as [{treated}]"
        return f"Threshold Crossed: {what} and {missing}."
    beyond, words = COMPARISONS[rule.comparison]
    bad = verdict.state == ALARM
    decisive = [at for at in used if beyond(values[at], rule.threshold) == bad]  # type: ignore[arg-type]
    shown = ", ".join(f"{values[at]} ({_short(times[at])})" for at in decisive[: -_SHOWN - 1 : -1])
    plural = len(decisive) != 1
    compared = f"{'were' if plural else 'was'} {'' if bad else 'not '}{words} the threshold ({rule.threshold})"
    needed = rule.needed if bad else rule.periods - rule.needed + 1
    change = "OK -> ALARM" if bad else "ALARM -> OK"
    text = f"Threshold Crossed: {len(decisive)} out of the last {rule.periods} datapoints [{shown}] {compared}"
    if filled and treated and (rule.missing == BREACHING) == bad:
        text += f" and {_count(filled, 'missing datapoint')} treated as [{treated}]"
    return f"{text} (minimum {_plain(needed, 'datapoint')} for {change} transition)."


def _plain(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _count(number: int, noun: str) -> str:
    return f"{_plain(number, noun)} {'were' if number != 1 else 'was'}"


def _short(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%d/%m/%y %H:%M:%S")


def stamp(ms: int) -> str:
    """As in CloudWatch's JSON: 2026-11-25T02:10:00.000+0000."""
    return f"{datetime.fromtimestamp(ms // 1000, UTC):%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}+0000"


def low_samples(count: float, quantile: float) -> bool:
    """Guide, "Percentile-based alarms and low data samples": too few to mean something."""
    far = 1 - quantile if quantile >= 0.5 else quantile
    return far > 0 and count < 10 / far - 1e-9
