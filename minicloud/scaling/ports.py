"""What auto scaling needs from the outside. Each call may be made again: after a crash, after a lost answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from minicloud.base.arn import Scope
from minicloud.scaling.commands import Found
from minicloud.scaling.orders import Launch
from minicloud.scaling.tracking import Reading


@dataclass(frozen=True, slots=True)
class Answer:
    """What was launched under a token: `version` is the number that the template's version stood for."""

    instance_id: str
    zone: str
    version: str = ""
    type: str = ""


class FoundTemplate(NamedTuple):
    """A launch template, and the number that the version which was asked for stands for now."""

    id: str
    number: str
    name: str = ""


class InstanceLauncher(Protocol):
    """The instances of compute. Idempotent by client token and by id."""

    async def launch(self, order: Launch) -> Answer:
        """Raises InsufficientCapacity or another CloudError for a definite no; Unavailable, DeadlineExceeded,
        Throttled and Internal say nothing about the outcome, and the same token is asked for again."""
        ...

    async def terminate(self, instance_id: str) -> None:
        """Raises NotFound when it is long gone."""
        ...

    async def start(self, instance_id: str) -> None: ...

    async def stop(self, instance_id: str) -> None: ...

    async def claim(self, instance_id: str, group: str) -> None:
        """It carries the name of its group from now on."""
        ...

    async def release(self, instance_id: str) -> None:
        """It does not any more. Raises NotFound."""
        ...


class InstanceCatalog(Protocol):
    """What requests name of compute. Raises its own NotFound, InvalidRequest; Unavailable when it is away."""

    async def template(self, scope: Scope, reference: str, version: str) -> FoundTemplate:
        """A launch template by id or name; version: a number, $Default, $Latest, ''."""
        ...

    async def zones(self, scope: Scope) -> list[str]:
        """Those that have hosts."""
        ...

    async def check_types(self, scope: Scope, types: Sequence[str]) -> None:
        """Raises where one of the instance types is none."""
        ...

    async def instances(self, scope: Scope, ids: Sequence[str]) -> list[Found]: ...


class TargetRegistrar(Protocol):
    """The target groups of balancers."""

    async def check(self, target_group: str) -> None:
        """Raises NotFound where there is no such target group."""
        ...

    async def register(self, target_group: str, instance_id: str) -> None:
        """Raises NotFound where there is no such target group any more."""
        ...

    async def deregister(self, target_group: str, instance_id: str) -> bool:
        """True once it is drained, or was never registered."""
        ...


class MetricReader(Protocol):
    """The metrics that policies look at; `group` and `policy` are keys of the machine's records."""

    async def read(self, group: str, policy: str, periods: int) -> Reading:
        """The newest periods of a target tracking policy's metric, None where there is no data."""
        ...

    async def history(self, group: str, policy: str, seconds: int) -> list[tuple[float, float]]:
        """The load metric of a predictive policy as (Unix seconds, total)."""
        ...

    async def alarms(self, scope: Scope, names: Sequence[str]) -> dict[str, str]:
        """The state of each of these alarms that there is: OK, ALARM, INSUFFICIENT_DATA."""
        ...


class Notifier(Protocol):
    """The targets of lifecycle hooks, topics, and the event bus."""

    async def tell(self, scope: Scope, target: str, subject: str, text: str) -> None:
        """target: the ARN of a topic, a queue or a bus, whose text is notices.activity_event's.

        Raises a CloudError for a definite no; Unavailable, DeadlineExceeded, Throttled and Internal leave open whether
        it was told.
        """
        ...
