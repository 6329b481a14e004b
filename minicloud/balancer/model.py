"""Load balancers and what belongs to them, as they are stored: one JSON body each, an upsert of the whole.

    balancer -< listener -< rule (a default rule and any number with priorities)
    rule, listener -> target groups -< target
    listener -> certificates

The key of a record is the ARN; a target's is its group's ARN, its id and its port.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from minicloud.base.machine import Entity, known_fields

SERVICE = "elasticloadbalancing"
APPLICATION, NETWORK = "application", "network"
DEFAULT_PRIORITY = 0  # of the default rule, which is tried last
WEB_PROTOCOLS = ("HTTP", "HTTPS")
INSTANCE, ADDRESS, FUNCTION = "instance", "ip", "lambda"  # target types


@dataclass(frozen=True, slots=True)
class Balancer(Entity):
    """`address`: what its listeners bind. `attributes`: as given, defaults left out. `zones` (): every zone."""

    kind: ClassVar[str] = "balancer"

    arn: str
    account: str
    region: str
    name: str
    type: str
    scheme: str
    address: str
    dns_name: str
    created: float
    zones: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Weighted:
    """A target group and its share of what an action forwards."""

    group: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Action:
    """What is done with a request. `type`: forward, redirect, fixed-response; the fields of the others stay empty.

    forward: `groups`, and `sticky_s` (0: off), how long a client stays with one of them. redirect: the parts of the
    new URL with AWS's #{...} words, `status` 301 or 302. fixed-response: `status`, `content_type`, `text`.
    """

    type: str
    groups: tuple[Weighted, ...] = ()
    sticky_s: int = 0
    status: int = 0
    protocol: str = "#{protocol}"
    host: str = "#{host}"
    port: str = "#{port}"
    path: str = "/#{path}"
    query: str = "#{query}"
    content_type: str = ""
    text: str = ""

    @classmethod
    def load(cls, body: dict[str, Any]) -> Action:
        known = known_fields(cls, body)
        known["groups"] = tuple(Weighted(**one) for one in body.get("groups", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Condition:
    """`field`: host-header, path-pattern, http-header, http-request-method, query-string, source-ip.

    Any of `values` has to fit; a value of a query string is "key=value" or "=value" (any key).
    """

    field: str
    values: tuple[str, ...]
    header: str = ""


@dataclass(frozen=True, slots=True)
class Listener(Entity):
    """A port of a balancer. `certificates`: ARNs, the default one first."""

    kind: ClassVar[str] = "listener"

    arn: str
    account: str
    region: str
    balancer: str
    protocol: str
    port: int
    created: float
    certificates: tuple[str, ...] = ()
    ssl_policy: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule(Entity):
    """All of `conditions` must hold. The default rule has none, and priority 0."""

    kind: ClassVar[str] = "listener_rule"

    arn: str
    account: str
    region: str
    listener: str
    priority: int
    action: Action
    conditions: tuple[Condition, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_default(self) -> bool:
        return self.priority == DEFAULT_PRIORITY

    @classmethod
    def load(cls, body: dict[str, Any]) -> Rule:
        known = known_fields(cls, body)
        known["action"] = Action.load(body["action"])
        known["conditions"] = tuple(Condition(**known_fields(Condition, one)) for one in body.get("conditions", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Seconds and counts of answers in a row. `codes`: HTTP codes, or gRPC codes where the group speaks gRPC.

    `port` "traffic-port": the one that the target has traffic on. Of functions, `protocol` and `port` are '', and
    checks may be off (`enabled`).
    """

    protocol: str
    path: str
    codes: str
    interval_s: int = 30
    timeout_s: int = 5
    healthy: int = 5
    unhealthy: int = 2
    port: str = "traffic-port"
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Group(Entity):
    """A target group. `balancer`: the ARN of the one that uses it, '' while none does.

    Of functions, `protocol` and `version` are '', and `port` is 0.
    """

    kind: ClassVar[str] = "target_group"

    arn: str
    account: str
    region: str
    name: str
    target_type: str
    protocol: str
    version: str
    port: int
    health: HealthCheck
    created: float
    balancer: str = ""
    attributes: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def has_function(self) -> bool:
        return self.target_type == FUNCTION

    @property
    def web(self) -> bool:
        """Its targets are given requests, not bytes."""
        return self.has_function or self.protocol in WEB_PROTOCOLS

    @classmethod
    def load(cls, body: dict[str, Any]) -> Group:
        known = known_fields(cls, body)
        known["health"] = HealthCheck(**known_fields(HealthCheck, body["health"]))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Target(Entity):
    """One instance, address or function in a group. `address` '': an instance that does not run.

    A function is its own address, and has port 0. `until`: when a draining target is cut off (Unix seconds).
    """

    kind: ClassVar[str] = "target"

    group: str
    account: str
    region: str
    id: str
    port: int
    address: str
    zone: str
    state: str
    reason: str
    description: str
    since: float
    until: float = 0.0

    @property
    def key(self) -> str:
        return target_key(self.group, self.id, self.port)


@dataclass(frozen=True, slots=True)
class Certificate(Entity):
    """A pair that was imported. `private_key`: sealed (certificates.key_of)."""

    kind: ClassVar[str] = "certificate"

    arn: str
    account: str
    region: str
    certificate: str
    private_key: str
    chain: str
    names: tuple[str, ...]
    expires: float
    created: float
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shard(Entity):
    """The service itself. `starts`: of HAProxy; each is recorded before it, which the journal refuses who lost it."""

    kind: ClassVar[str] = "shard"

    starts: int = 0
    account: str = ""
    region: str = ""

    @property
    def key(self) -> str:
        return SHARD


SHARD = "haproxy"


def target_key(group: str, target_id: str, port: int) -> str:
    return f"{group}/{target_id}/{port}"


def short(arn: str) -> str:
    """The last part of an ARN: what HAProxy's sections are named by."""
    return arn.rsplit("/", 1)[-1]


KINDS: dict[str, type[Any]] = {one.kind: one for one in (Balancer, Listener, Rule, Group, Target, Certificate, Shard)}
