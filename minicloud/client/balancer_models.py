"""Load balancers as the SDK shows them, and what is given to it: frozen dataclasses as in `models.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Balancer:
    """type: application | network. Its listeners bind `address`. zones (): every zone."""

    arn: str
    name: str
    type: str
    scheme: str
    address: str
    dns_name: str
    zones: tuple[str, ...]
    created_time: datetime | None
    attributes: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WeightedGroup:
    """A target group (name or ARN) and its share of what an action forwards. None: 1."""

    target_group: str
    weight: int | None = None


@dataclass(frozen=True, slots=True)
class BalancerAction:
    """What is done with a request; `forward`, `redirect` and `fixed_response` make them.

    redirect: the parts of the new URL may hold #{protocol}, #{host}, #{port}, #{path}, #{query}; "" and None leave one
    as it was, a query of "" takes it away. sticky_s: how long a client stays with one of several groups.
    """

    type: str
    groups: tuple[WeightedGroup, ...] = ()
    sticky_s: int = 0
    status: int = 0
    protocol: str = ""
    host: str = ""
    port: str = ""
    path: str = ""
    query: str | None = None
    content_type: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class RuleCondition:
    """field: host-header, path-pattern, http-header, http-request-method, query-string, source-ip; any value fits.

    header: which one, of http-header.
    """

    field: str
    values: tuple[str, ...]
    header: str = ""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port of a balancer, and what it does with requests that fit no rule.

    certificates: ARNs, the default one first. problem: why its port cannot be had at the moment.
    """

    arn: str
    balancer_arn: str
    protocol: str
    port: int
    action: BalancerAction
    certificates: tuple[str, ...]
    ssl_policy: str
    problem: str
    created_time: datetime | None
    attributes: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ListenerRule:
    """priority 0: the default rule."""

    arn: str
    listener_arn: str
    priority: int
    conditions: tuple[RuleCondition, ...]
    action: BalancerAction
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """codes: of HTTP ("200-299"), or of gRPC. healthy, unhealthy: checks in a row. port: or "traffic-port".

    Of functions: protocol and port are '', and checks are made where they are enabled.
    """

    protocol: str
    path: str
    codes: str
    interval_s: int
    timeout_s: int
    healthy: int
    unhealthy: int
    port: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """target_type: instance | ip | lambda (without protocol and port). version: HTTP1 | HTTP2 | GRPC.

    balancer_arn: who uses it ('': nobody).
    """

    arn: str
    name: str
    target_type: str
    protocol: str
    version: str
    port: int
    health: HealthCheck
    balancer_arn: str
    created_time: datetime | None
    attributes: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BalancerTarget:
    """state: initial healthy unhealthy unavailable draining unused, with AWS's reason.

    address: '' while an instance is stopped; a function's is its ARN.
    """

    id: str
    port: int
    address: str
    zone: str
    state: str
    reason: str
    description: str
    since_time: datetime | None


@dataclass(frozen=True, slots=True)
class Certificate:
    arn: str
    names: tuple[str, ...]
    expires_time: datetime | None
    created_time: datetime | None
    tags: Mapping[str, str]


def forward(*groups: str | WeightedGroup, sticky_s: int = 0) -> BalancerAction:
    """To one target group, or to several by weight."""
    weighted = tuple(WeightedGroup(one) if isinstance(one, str) else one for one in groups)
    return BalancerAction("forward", weighted, sticky_s)


def redirect(
    *, status: int = 301, protocol: str = "", host: str = "", port: str = "", path: str = "", query: str | None = None
) -> BalancerAction:
    """To another URL; what is not given stays. `redirect(protocol="HTTPS", port="443")`."""
    return BalancerAction("redirect", status=status, protocol=protocol, host=host, port=port, path=path, query=query)


def fixed_response(status: int, text: str = "", content_type: str = "text/plain") -> BalancerAction:
    return BalancerAction("fixed-response", status=status, text=text, content_type=content_type)
