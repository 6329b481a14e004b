"""What can be asked of the balancer machine. Fields that are None in a Modify... stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicloud.balancer.model import APPLICATION, Action, Condition
from minicloud.base.arn import Scope


@dataclass(frozen=True, slots=True)
class CreateBalancer:
    scope: Scope
    name: str
    type: str = APPLICATION
    scheme: str = "internet-facing"
    zones: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteBalancer:
    scope: Scope
    arn: str


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Of the balancer, listener or target group with this ARN."""

    scope: Scope
    arn: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CreateListener:
    scope: Scope
    balancer: str
    protocol: str
    port: int
    action: Action
    certificates: tuple[str, ...] = ()
    ssl_policy: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModifyListener:
    """`certificate` is the default one; `add` and `remove` are those chosen by SNI."""

    scope: Scope
    arn: str
    protocol: str | None = None
    port: int | None = None
    action: Action | None = None
    certificate: str | None = None
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    ssl_policy: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteListener:
    scope: Scope
    arn: str


@dataclass(frozen=True, slots=True)
class CreateRule:
    scope: Scope
    listener: str
    priority: int
    conditions: tuple[Condition, ...]
    action: Action
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModifyRule:
    scope: Scope
    arn: str
    conditions: tuple[Condition, ...] | None = None
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class SetPriorities:
    """All or none. `priorities`: rule ARN -> priority."""

    scope: Scope
    priorities: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DeleteRule:
    scope: Scope
    arn: str


@dataclass(frozen=True, slots=True)
class HealthSpec:
    """What a request says of health checks; None takes AWS's default (creating), or leaves it (modifying)."""

    protocol: str | None = None
    path: str | None = None
    codes: str | None = None
    interval_s: int | None = None
    timeout_s: int | None = None
    healthy: int | None = None
    unhealthy: int | None = None
    port: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class CreateGroup:
    scope: Scope
    name: str
    protocol: str
    port: int
    version: str = ""
    target_type: str = "instance"
    health: HealthSpec = HealthSpec()
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModifyGroup:
    scope: Scope
    arn: str
    health: HealthSpec


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    scope: Scope
    arn: str


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """`port` 0: the group's. `address`, `zone`: an instance's are looked up by the service ('': it does not run)."""

    id: str
    port: int = 0
    address: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class RegisterTargets:
    scope: Scope
    group: str
    targets: tuple[TargetSpec, ...]


@dataclass(frozen=True, slots=True)
class DeregisterTargets:
    """A target without a port means that id on every port."""

    scope: Scope
    group: str
    targets: tuple[TargetSpec, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What HAProxy's checks say of one target: `passed`, or the reason and the code that was answered."""

    target: str
    passed: bool
    reason: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class ObserveHealth:
    """From the data plane: changes of health, and the targets that it knows now (registration done)."""

    verdicts: tuple[Verdict, ...] = ()
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TargetIdle:
    """From the data plane: nothing is in flight on this draining target any more, or its time is over."""

    target: str


@dataclass(frozen=True, slots=True)
class ProxyStarts:
    """The data plane is about to start a HAProxy: only who still owns the journal may."""


@dataclass(frozen=True, slots=True)
class InstanceSeen:
    """An instance has another address now, or ('') does not run."""

    id: str
    address: str
    zone: str = ""


@dataclass(frozen=True, slots=True)
class ImportCertificate:
    scope: Scope
    certificate: str
    private_key: str
    chain: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteCertificate:
    scope: Scope
    arn: str


@dataclass(frozen=True, slots=True)
class SetTags:
    scope: Scope
    arn: str
    tags: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
