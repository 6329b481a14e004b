"""Made from `minicloud/client/target_groups.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Unpack

from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread
from minicloud.client.target_groups import AsyncTargetGroups, HealthOptions

if TYPE_CHECKING:
    from minicloud.client import balancer_models
else:
    balancer_models = lazy("minicloud.client.balancer_models")


class TargetGroups:
    """Instances, addresses or a function that a balancer forwards to."""

    _inner: AsyncTargetGroups

    def __init__(self, inner: AsyncTargetGroups, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
        self,
        name: str,
        port: int = 0,
        *,
        protocol: str | None = None,
        target_type: str = "instance",
        version: str = "",
        tags: Mapping[str, str] | None = None,
        **health: Unpack[HealthOptions],
    ) -> balancer_models.TargetGroup:
        """Make a group; the same request again is answered with the one that is there.

        protocol: HTTP (unless it is given), HTTPS, TCP. target_type: instance, ip, lambda (a function, which has no
        port and no protocol). version: HTTP1, HTTP2, GRPC. Raises InvalidParameterValue, AlreadyExists, LimitExceeded.
        """
        return self._loop.run(
            self._inner.create(
                name, port, protocol=protocol, target_type=target_type, version=version, tags=tags, **health
            )
        )

    def get(self, target_group: str) -> balancer_models.TargetGroup:
        """With its attributes and tags. Raises NotFound."""
        return self._loop.run(self._inner.get(target_group))

    def list(self, balancer: str = "", *, page_size: int = 100) -> Iterator[balancer_models.TargetGroup]:
        """Those that a balancer uses, or all. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(balancer, page_size=page_size))

    def modify(self, target_group: str, **health: Unpack[HealthOptions]) -> balancer_models.TargetGroup:
        """Change its health checks. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.modify(target_group, **health))

    def delete(self, target_group: str) -> None:
        """With its targets; one that is not there is not an error. Raises Conflict (a rule uses it)."""
        self._loop.run(self._inner.delete(target_group))

    def register(
        self, target_group: str, *targets: str | tuple[str, int]
    ) -> tuple[balancer_models.BalancerTarget, ...]:
        """Instances have to run, and follow the instance: stopped they are `unused`, terminated they are gone.

        A function is named by its ARN, of a version or alias too; it must let elasticloadbalancing.amazonaws.com invoke
        it. Raises NotFound, InvalidRequest (InvalidTarget), AccessDenied (a function's permission), LimitExceeded.
        """
        return self._loop.run(self._inner.register(target_group, *targets))

    def deregister(
        self, target_group: str, *targets: str | tuple[str, int]
    ) -> tuple[balancer_models.BalancerTarget, ...]:
        """Requests in flight finish; answers with those that drain. Without a port: on every port.

        Raises NotFound, InvalidRequest (InvalidTarget).
        """
        return self._loop.run(self._inner.deregister(target_group, *targets))

    def health(self, target_group: str, *targets: str | tuple[str, int]) -> tuple[balancer_models.BalancerTarget, ...]:
        """Of these targets, or all. Raises NotFound."""
        return self._loop.run(self._inner.health(target_group, *targets))
