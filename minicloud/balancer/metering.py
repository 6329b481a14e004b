"""HAProxy's counters -> CloudWatch's metrics of balancers and target groups. Pure.

Source: ALB guide, "CloudWatch metrics for your Application Load Balancer", and NLB's page of that name.

Counters are read from time to time; what is reported is what was added since. A process that is new starts from
nothing; a server that is gone takes what was added since the last reading with it. What targets answered is counted by
servers, what clients got by listeners: the difference is what the balancer answered by itself.

Where we differ: TargetResponseTime is HAProxy's mean over a target's last 1,024 requests, so it has no percentiles; the
access log has each request's time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minicloud.balancer import groups, listeners
from minicloud.balancer.backends import OPEN
from minicloud.balancer.model import APPLICATION, Balancer, Group
from minicloud.balancer.state import State
from minicloud.base.arn import Scope

Row = Mapping[str, str]
APPLICATION_NAMESPACE, NETWORK_NAMESPACE = "AWS/ApplicationELB", "AWS/NetworkELB"
_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_ADDED = ("req_tot", "stot", "conn_tot", "bin", "bout", "econ", "dcon", "dses", *(f"hrsp_{one}" for one in _CLASSES))


@dataclass(frozen=True, slots=True)
class Measure:
    """One value for one metric, as PutMetricData takes it."""

    scope: Scope
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    unit: str
    value: float


@dataclass(slots=True)
class _Seen:
    """One section's counters: what was added since the last reading, and what is there now."""

    added: Counter[str] = field(default_factory=Counter)
    open: int = 0
    times: list[float] = field(default_factory=list)  # seconds, one for each server that answered


class Meter:
    """Remembers the last reading."""

    def __init__(self) -> None:
        self._pid = 0
        self._before: dict[tuple[str, str], dict[str, int]] = {}
        self._sections: dict[str, _Seen] = {}

    def read(self, pid: int, rows: Iterable[Row]) -> None:
        """Take what a process counted; several may be read for one report."""
        if pid != self._pid:
            self._pid, self._before = pid, {}
        now: dict[tuple[str, str], dict[str, int]] = {}
        for row in rows:
            if row["svname"] == "BACKEND":
                continue
            key = (row["pxname"], row["svname"])
            now[key] = {name: int(row[name] or 0) for name in _ADDED}
            before = self._before.get(key, {})
            seen = self._sections.setdefault(row["pxname"].removesuffix(OPEN), _Seen())
            fresh = {name: max(0, value - before.get(name, 0)) for name, value in now[key].items()}
            seen.added.update(fresh)
            seen.open += int(row["scur"] or 0)
            if row["rtime"] and any(fresh[f"hrsp_{one}"] for one in _CLASSES):
                seen.times.append(int(row["rtime"]) / 1000)
        self._before = now

    def report(self, state: State) -> list[Measure]:
        """Everything since the last report."""
        sections, self._sections = self._sections, {}
        found: list[Measure] = []
        for balancer in state.balancers.values():
            found += _of_balancer(state, balancer, sections)
        return found


def _of_balancer(state: State, balancer: Balancer, sections: Mapping[str, _Seen]) -> list[Measure]:
    fronts = [sections.get(listeners.section(one), _Seen()) for one in state.listeners_of(balancer.arn)]
    added, answered = Counter[str](), Counter[str]()
    for front in fronts:
        added.update(front.added)
    found: list[Measure] = []
    for group in state.groups_of(balancer.arn):
        seen = sections.get(groups.section(group), _Seen())
        answered.update(seen.added)
        found += _of_group(state, balancer, group, seen)
    web = balancer.type == APPLICATION
    kind = "Connection" if web else "Flow"
    values = {
        f"Active{kind}Count": float(sum(front.open for front in fronts)),
        f"New{kind}Count": float(added["conn_tot"]),
        "ProcessedBytes": float(added["bin"] + added["bout"]),
        "RejectedConnectionCount" if web else "RejectedFlowCount": float(added["dcon"] + added["dses"]),
    }
    if web:
        values["RequestCount"] = float(added["req_tot"])
        for one in _CLASSES[1:]:
            ours = max(0, added[f"hrsp_{one}"] - answered[f"hrsp_{one}"])
            values[f"HTTPCode_ELB_{one.upper()}_Count"] = float(ours)
    return found + _measures(balancer, (("LoadBalancer", _tail(balancer.arn)),), values)


def _of_group(state: State, balancer: Balancer, group: Group, seen: _Seen) -> list[Measure]:
    states = Counter(target.state for target in state.targets_of(group.arn))
    healthy, unhealthy = states["healthy"], states["unhealthy"]
    values = {"HealthyHostCount": float(healthy), "UnHealthyHostCount": float(unhealthy)}
    if balancer.type == APPLICATION:
        answers = sum(seen.added[f"hrsp_{one}"] for one in _CLASSES)
        values["RequestCount"] = float(answers)
        values["RequestCountPerTarget"] = answers / max(1, healthy)
        values["TargetConnectionErrorCount"] = float(seen.added["econ"])
        values |= {f"HTTPCode_Target_{one.upper()}_Count": float(seen.added[f"hrsp_{one}"]) for one in _CLASSES}
        if seen.times:
            values["TargetResponseTime"] = sum(seen.times) / len(seen.times)
    name = group.arn.split(":", 5)[5]
    return _measures(balancer, (("LoadBalancer", _tail(balancer.arn)), ("TargetGroup", name)), values)


def _measures(
    balancer: Balancer, dimensions: tuple[tuple[str, str], ...], values: Mapping[str, float]
) -> list[Measure]:
    namespace = APPLICATION_NAMESPACE if balancer.type == APPLICATION else NETWORK_NAMESPACE
    units = {"ProcessedBytes": "Bytes", "TargetResponseTime": "Seconds"}
    return [
        Measure(balancer.scope, namespace, name, dimensions, units.get(name, "Count"), value)
        for name, value in values.items()
    ]


def _tail(arn: str) -> str:
    """app/NAME/ID."""
    return arn.split(":loadbalancer/", 1)[1]
