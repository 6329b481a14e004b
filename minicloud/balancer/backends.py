"""A target group as HAProxy has it: two backends with the same servers. Pure.

    tg-<id>        with health checks: takes traffic while enough targets are healthy
    tg-<id>_open   without: takes it while fewer are (ALB guide: "fail open"), so a wrong health check stops nobody

A server is named by its target's id and port. A target that drains is in maintenance: its requests in flight finish,
clients that stick to it go elsewhere.

The server of a function is the process that runs functions; a header says for which group and function a request is,
and proves that it comes from here. The function is in every request's way, so another one is a reload.

Cross-zone off: each zone with targets gets the same share (a balancer's addresses, one a zone, would), which its
targets divide among them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from minicloud.balancer import attributes
from minicloud.balancer.groups import TRAFFIC_PORT, may_succeed, section
from minicloud.balancer.health import SERVED
from minicloud.balancer.model import Balancer, Group, Target
from minicloud.balancer.ports import Functions, NoFunctions, Way
from minicloud.balancer.state import State
from minicloud.proxy.config import Backend, Cookie, Server, Timeouts
from minicloud.proxy.directives import Header
from minicloud.proxy.health import HealthCheck

OPEN = "_open"
AGENT = "ELB-HealthChecker/2.0"  # AWS's
COOKIE = "AWSALB"  # AWS's
CONNECT_MS = 3_000  # ALB guide, "HTTP 504": a target that takes no connection within 10 seconds; ours tries 3 targets
WEIGHT = 100  # of a target; 256 steps are what HAProxy has
WEIGHT_MAX = 256
NO_FUNCTIONS = NoFunctions()
RETRIES = 2  # connections that are refused, or not taken, are tried with other targets
_BALANCE = {
    "round_robin": "roundrobin",
    "least_outstanding_requests": "leastconn",
    "weighted_random": "random(1)",
}


@dataclass(frozen=True, slots=True)
class Served:
    """What HAProxy is to know of one group: its servers by name, and whose they are. `check` goes with the first
    backend only; None: there is none. `cut`: connections end with the deregistration delay. `way`: to a function.
    """

    name: str
    check: HealthCheck | None
    servers: dict[str, Server]
    targets: dict[str, Target]
    cut: bool
    way: Way | None = None


def served(
    state: State, group: Group, second_ms: int = 1_000, functions: Functions = NO_FUNCTIONS, relay: int = 0
) -> Served:
    """`second_ms`: how long a second of a health check takes; tests are short of time. `relay`: see `check`."""
    targets = [one for one in state.targets_of(group.arn) if one.state in SERVED]
    if group.has_function:
        return _of_function(group, targets, check(group, second_ms), functions)
    weights = _weights(state, group, targets)
    return Served(
        section(group),
        check(group, second_ms, relay),
        {server_name(one): _server(group, one, weights.get(one.zone, WEIGHT)) for one in targets},
        {server_name(one): one for one in targets},
        group.web or attributes.value(group, attributes.CUT) == attributes.TRUE,
    )


def _of_function(group: Group, targets: list[Target], checked: HealthCheck | None, functions: Functions) -> Served:
    if not targets:
        return Served(section(group), checked, {}, {}, True)
    (target,) = targets
    multi = attributes.value(group, attributes.MULTI_VALUE) == attributes.TRUE
    way = functions.way(group.scope, (group.balancer, group.arn, target.id), multi)
    if checked is not None:
        checked = replace(checked, header=(way.header, way.proof))
    server = Server(server_name(target), way.address, way.port, weight=WEIGHT)
    return Served(section(group), checked, {server.name: server}, {server.name: target}, True, way)


def server_name(target: Target) -> str:
    return f"{target.id}:{target.port}" if target.port else "function"


def _server(group: Group, target: Target, weight: int) -> Server:
    web = group.web
    sticky = web and attributes.value(group, attributes.STICKY) == attributes.TRUE
    word = hashlib.sha256(target.key.encode()).hexdigest()[:20]
    return Server(
        server_name(target),
        target.address,
        target.port,
        weight=weight,
        h2=group.version in ("HTTP2", "GRPC"),
        cookie=word if sticky else "",
        slow_start_s=int(attributes.value(group, attributes.SLOW_START)) if web else 0,
        tls=group.protocol == "HTTPS",
        proxy_v2=not web and attributes.value(group, attributes.PROXY_V2) == attributes.TRUE,
    )


def crosses_zones(balancer: Balancer, group: Group) -> bool:
    said = attributes.value(group, attributes.CROSS_ZONE)
    if said == attributes.USE_BALANCER:
        said = attributes.value(balancer, attributes.CROSS_ZONE)
    return said == attributes.TRUE


def _weights(state: State, group: Group, targets: Iterable[Target]) -> dict[str, int]:
    """The weight of a target in each zone; {}: the same everywhere."""
    balancer = state.balancers.get(group.balancer)
    counts = Counter(target.zone for target in targets)
    if balancer is None or len(counts) < 2 or crosses_zones(balancer, group):
        return {}
    fewest = min(counts.values())
    return {zone: max(1, round(WEIGHT_MAX * fewest / count)) for zone, count in counts.items()}


def check(group: Group, second_ms: int, relay: int = 0) -> HealthCheck | None:
    """None: the group makes none. `relay`: who makes those that HAProxy cannot, calls by gRPC that may succeed."""
    wanted = group.health
    if not wanted.enabled:
        return None
    return HealthCheck(
        wanted.path,
        interval_ms=wanted.interval_s * second_ms,
        rise=wanted.healthy,
        fall=wanted.unhealthy,
        expect=wanted.codes or "200",
        port=0 if wanted.port in (TRAFFIC_PORT, "") else int(wanted.port),
        timeout_ms=wanted.timeout_s * second_ms,
        grpc=group.version == "GRPC",
        tls=_check_tls(group),
        agent="" if group.version == "GRPC" else AGENT,
        relay=relay if group.version == "GRPC" and may_succeed(wanted.codes) else 0,
    )


def _check_tls(group: Group) -> bool | None:
    """None: as the traffic is."""
    tls = group.health.protocol == "HTTPS"
    return None if tls == (group.protocol == "HTTPS") else tls


def backends(
    state: State, balancer: Balancer, group: Group, second_ms: int, functions: Functions = NO_FUNCTIONS, relay: int = 0
) -> Iterator[Backend]:
    group_as = served(state, group, second_ms, functions, relay)
    web, way = group.web, group_as.way
    servers = tuple(group_as.servers.values())
    idle_ms = int(attributes.value(balancer, attributes.IDLE)) * 1000 if web else _TCP_IDLE_MS
    for name, health in ((group_as.name, group_as.check), (group_as.name + OPEN, None)):
        yield Backend(
            name,
            servers,
            rules=(Header(way.header, (way.proof,)),) if way else (),
            tcp=not web,
            balance=_balance(group),
            retries=RETRIES,
            timeouts=Timeouts(server=idle_ms, tunnel=idle_ms, connect=CONNECT_MS),
            health=health,
            cookie=_cookie(group) if web and not group.has_function else None,
            elsewhere=True,
        )


_TCP_IDLE_MS = 6_000_000  # the listener's own timeout, which is shorter or equal, is what ends a connection


def _balance(group: Group) -> str:
    if group.has_function:
        return "roundrobin"
    if group.web:
        return _BALANCE[attributes.value(group, attributes.ALGORITHM)]
    return "source" if attributes.value(group, attributes.STICKY) == attributes.TRUE else "roundrobin"


def _cookie(group: Group) -> Cookie | None:
    if attributes.value(group, attributes.STICKY) != attributes.TRUE:
        return None
    if attributes.value(group, attributes.STICKY_TYPE) == "app_cookie":
        return Cookie(attributes.value(group, attributes.STICKY_NAME))
    return Cookie(COOKIE, int(attributes.value(group, attributes.STICKY_S)))
