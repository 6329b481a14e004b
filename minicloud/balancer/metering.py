"""HAProxy's counters -> CloudWatch's metrics of balancers and target groups. Pure.

Source: ALB guide, "CloudWatch metrics for your Application Load Balancer", and NLB's page of that name: what has no
requests is not reported, and counts of 0 are left out, but for those that the guide reports always.

Counters are read from time to time; what is reported is what was added since. A process that is new starts from
nothing; a server that is gone takes what was added since the last reading with it. What targets answered is counted by
servers, what clients got by listeners: the difference is what the balancer answered by itself.

Times of answers come request by request (proxy/timing.py), in milliseconds; of a busy listener from a sample, which is
weighted so that it stands for every answer that was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from minicloud.balancer import groups, listeners
from minicloud.balancer.backends import OPEN
from minicloud.balancer.model import APPLICATION, Balancer, Group
from minicloud.balancer.state import State
from minicloud.proxy.timing import Times
from minicloud.shell.reports import Reading, Report

Row = Mapping[str, str]
APPLICATION_NAMESPACE, NETWORK_NAMESPACE = "AWS/ApplicationELB", "AWS/NetworkELB"
_CLASSES = ("2xx", "3xx", "4xx", "5xx")
_ADDED = ("req_tot", "stot", "conn_tot", "bin", "bout", "econ", "dcon", "dses", *(f"hrsp_{one}" for one in _CLASSES))
_ALWAYS = frozenset(("RequestCount", "RequestCountPerTarget", "HealthyHostCount", "UnHealthyHostCount"))
_Pairs = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class _Seen:
    """One section's counters: what was added since the last reading, and what is there now. times: by milliseconds."""

    added: Counter[str] = field(default_factory=Counter)
    open: int = 0
    times: Counter[int] = field(default_factory=Counter)

    @property
    def answers(self) -> int:
        return sum(self.added[f"hrsp_{one}"] for one in _CLASSES)


class Meter:
    """Remembers the last reading."""

    def __init__(self) -> None:
        self._pid = 0
        self._before: dict[tuple[str, str], dict[str, int]] = {}
        self._sections: dict[str, _Seen] = {}
        self.totals: Counter[str] = Counter()  # of all listeners since the start

    def read(self, pid: int, rows: Iterable[Row]) -> None:
        """Take what a process counted; several may be read for one report."""
        if pid != self._pid:
            self._pid, self._before = pid, {}
        now: dict[tuple[str, str], dict[str, int]] = {}
        for seen in self._sections.values():
            seen.open = 0  # it is what there is now, however often it was read
        for row in rows:
            if row["svname"] == "BACKEND":
                continue
            key = (row["pxname"], row["svname"])
            now[key] = {name: int(row[name] or 0) for name in _ADDED}
            before = self._before.get(key, {})
            seen = self._section(row["pxname"])
            added = {name: max(0, value - before.get(name, 0)) for name, value in now[key].items()}
            seen.added.update(added)
            if row["svname"] == "FRONTEND":
                self.totals.update(added)
            seen.open += int(row["scur"] or 0)
        self._before = now

    def report(self, state: State, times: Times, start: float) -> list[Report]:
        """Everything since the last report, as of the period that began at `start`."""
        for backend, mine in times.items():
            self._section(backend).times.update(mine)
        sections, self._sections = self._sections, {}
        found: list[Report] = []
        for balancer in state.balancers.values():
            found += _of_balancer(state, balancer, sections, start)
        return found

    def _section(self, name: str) -> _Seen:
        return self._sections.setdefault(name.removesuffix(OPEN), _Seen())


def _of_balancer(state: State, balancer: Balancer, sections: Mapping[str, _Seen], start: float) -> list[Report]:
    web = balancer.type == APPLICATION
    fronts = [sections.get(listeners.section(one), _Seen()) for one in state.listeners_of(balancer.arn)]
    added, answered, times = Counter[str](), Counter[str](), Counter[float]()
    for front in fronts:
        added.update(front.added)
    found: list[Report] = []
    mine = (("LoadBalancer", _tail(balancer.arn)),)
    for group in state.groups_of(balancer.arn):
        seen = sections.get(groups.section(group), _Seen())
        answered.update(seen.added)
        of_group = _of_group(state, group, seen, web)
        times.update(_weighted(seen))
        readings = [*_readings(of_group), *_times(_weighted(seen))]
        target = ("TargetGroup", group.arn.split(":", 5)[5])
        found += [_report(balancer, dimensions, start, readings) for dimensions in ((*mine, target), (target,))]
    kind = "Connection" if web else "Flow"
    values = {
        f"Active{kind}Count": float(sum(front.open for front in fronts)),
        f"New{kind}Count": float(added["conn_tot"]),
        "ProcessedBytes": float(added["bin"] + added["bout"]),
        "RejectedConnectionCount" if web else "RejectedFlowCount": float(added["dcon"] + added["dses"]),
    }
    if web:
        values |= {f"HTTPCode_Target_{one.upper()}_Count": float(answered[f"hrsp_{one}"]) for one in _CLASSES}
        values["RequestCount"] = float(added["req_tot"])
        for one in _CLASSES[1:]:
            ours = max(0, added[f"hrsp_{one}"] - answered[f"hrsp_{one}"])
            values[f"HTTPCode_ELB_{one.upper()}_Count"] = float(ours)
    return [*found, _report(balancer, mine, start, [*_readings(values), *_times(times)])]


def _of_group(state: State, group: Group, seen: _Seen, web: bool) -> dict[str, float]:
    states = Counter(target.state for target in state.targets_of(group.arn))
    healthy, unhealthy = states["healthy"], states["unhealthy"]
    values = {}
    if group.health.enabled:
        values = {"HealthyHostCount": float(healthy), "UnHealthyHostCount": float(unhealthy)}
    if web:
        values["RequestCount"] = float(seen.answers)
        values["RequestCountPerTarget"] = seen.answers / max(1, healthy)
        if not group.has_function:  # what of a function cannot be reached is told by function/metering.py
            values["TargetConnectionErrorCount"] = float(seen.added["econ"])
        values |= {f"HTTPCode_Target_{one.upper()}_Count": float(seen.added[f"hrsp_{one}"]) for one in _CLASSES}
    return values


def _weighted(seen: _Seen) -> dict[float, float]:
    """Seconds -> answers: the times that were told stand for all that were counted."""
    told = seen.times.total()
    share = seen.answers / told if told and seen.answers else 1.0
    return {ms / 1000: weight * share for ms, weight in sorted(seen.times.items())}


def _times(weighted: Mapping[float, float]) -> list[Reading]:
    if not weighted:
        return []
    return [Reading("TargetResponseTime", "Seconds", tuple(weighted), tuple(weighted.values()))]


def _readings(values: Mapping[str, float]) -> list[Reading]:
    return [
        Reading(name, "Bytes" if name == "ProcessedBytes" else "Count", (value,))
        for name, value in values.items()
        if value or name in _ALWAYS
    ]


def _report(balancer: Balancer, dimensions: _Pairs, start: float, readings: list[Reading]) -> Report:
    namespace = APPLICATION_NAMESPACE if balancer.type == APPLICATION else NETWORK_NAMESPACE
    return Report(balancer.scope, namespace, dimensions, start, readings)


def _tail(arn: str) -> str:
    """app/NAME/ID."""
    return arn.split(":loadbalancer/", 1)[1]
