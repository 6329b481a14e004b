"""What HAProxy's health checks say, in AWS's words. Pure.

A registered target is initial until one check passes; it is unhealthy, if none does, once the checks that its group
allows to fail have had the time to. Afterwards HAProxy counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minicloud.balancer import health
from minicloud.balancer.commands import Verdict
from minicloud.balancer.model import Target
from minicloud.proxy.relay import grpc_code
from minicloud.proxy.runtime import ServerStats

_PASSED = frozenset({"L4OK", "L6OK", "L7OK", "L7OKC"})
_TIMEOUT = frozenset({"L4TOUT", "L6TOUT", "L7TOUT"})
_NONE_YET = frozenset({"", "INI", "UNK"})


@dataclass(frozen=True, slots=True)
class Watched:
    """A target under checks, and how long it may be initial (seconds). `relayed`: its codes are gRPC's, in HTTP's."""

    target: Target
    patience_s: float
    relayed: bool = False


@dataclass(slots=True)
class Findings:
    """Changes to report, and servers (backend, name) that HAProxy is to take up at once."""

    verdicts: list[Verdict] = field(default_factory=list)
    promote: list[tuple[str, str]] = field(default_factory=list)


def judge(rows: Iterable[ServerStats], watched: Mapping[tuple[str, str], Watched], now: float) -> Findings:
    """What of the rows is news."""
    found = Findings()
    for row in rows:
        one = watched.get((row.backend, row.server))
        if one is not None and row.check_status.removeprefix("* ") not in _NONE_YET:
            _judge(row, one, now, found)
    return found


def _judge(row: ServerStats, one: Watched, now: float, found: Findings) -> None:
    target = one.target
    checked = row.check_status.removeprefix("* ")  # "*": another check is under way
    initial = target.state == "initial"
    if row.status.startswith("UP") or (initial and checked in _PASSED):
        if not row.status.startswith("UP"):
            found.promote.append((row.backend, row.server))
        if target.state != "healthy":
            found.verdicts.append(Verdict(target.key, True))
        return
    if not row.status.startswith("DOWN") or checked in _PASSED:
        return
    if initial and now - target.since < one.patience_s:
        return
    reason, code = _reason(checked, grpc_code(row.check_code) if one.relayed else row.check_code)
    if (target.state, target.reason, target.description) != ("unhealthy", reason, health.describe(reason, code)):
        found.verdicts.append(Verdict(target.key, False, reason, code))


def _reason(status: str, code: str) -> tuple[str, str]:
    if status == "L7STS":
        return health.MISMATCH, code
    return (health.TIMEOUT if status in _TIMEOUT else health.FAILED), ""
