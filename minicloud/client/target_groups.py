"""Target groups, and what is in them. `target_group` is a name or ARN; a target an id, "id:port", (id, port) or ARN."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from minicloud.client.broker import Broker
from minicloud.client.convert import check_names, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from minicloud.client import balancer_models
    from minicloud.wire import balancer_pb2
else:
    balancer_models = lazy("minicloud.client.balancer_models")
    balancer_pb2 = lazy("minicloud.wire.balancer_pb2")


class HealthOptions(TypedDict, total=False):
    """Keyword arguments of health checks; what is not given has AWS's default, or stays.

    health_protocol, health_port ("traffic-port" or a number), path, codes ("200-299,301"); interval_s, timeout_s;
    healthy, unhealthy: checks in a row; health_enabled: whether functions are checked.
    """

    health_protocol: str
    health_port: str
    path: str
    codes: str
    interval_s: int
    timeout_s: int
    healthy: int
    unhealthy: int
    health_enabled: bool


class AsyncTargetGroups:
    """Instances, addresses or a function that a balancer forwards to."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(
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
        if protocol is None:
            protocol = "" if target_type == "lambda" else "HTTP"
        request = balancer_pb2.CreateTargetGroupRequest(
            name=name,
            port=port,
            protocol=protocol,
            target_type=target_type,
            version=version,
            health=_health(health),
            tags=tags or {},
        )
        reply = await self._broker.call("BalancerService/CreateTargetGroup", request, balancer_pb2.TargetGroup)
        return to_model(balancer_models.TargetGroup, reply)

    async def get(self, target_group: str) -> balancer_models.TargetGroup:
        """With its attributes and tags. Raises NotFound."""
        request = balancer_pb2.GetTargetGroupRequest(target_group=target_group)
        reply = await self._broker.call("BalancerService/GetTargetGroup", request, balancer_pb2.TargetGroup)
        return to_model(balancer_models.TargetGroup, reply)

    async def list(self, balancer: str = "", *, page_size: int = 100) -> AsyncIterator[balancer_models.TargetGroup]:
        """Those that a balancer uses, or all. Pages are fetched as they are needed."""
        request = balancer_pb2.ListTargetGroupsRequest(balancer=balancer, page_size=page_size)
        while True:
            method = "BalancerService/ListTargetGroups"
            reply = await self._broker.call(method, request, balancer_pb2.ListTargetGroupsReply)
            for item in reply.target_groups:
                yield to_model(balancer_models.TargetGroup, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def modify(self, target_group: str, **health: Unpack[HealthOptions]) -> balancer_models.TargetGroup:
        """Change its health checks. Raises NotFound, InvalidParameterValue."""
        request = balancer_pb2.ModifyTargetGroupRequest(target_group=target_group, health=_health(health))
        reply = await self._broker.call("BalancerService/ModifyTargetGroup", request, balancer_pb2.TargetGroup)
        return to_model(balancer_models.TargetGroup, reply)

    async def delete(self, target_group: str) -> None:
        """With its targets; one that is not there is not an error. Raises Conflict (a rule uses it)."""
        request = balancer_pb2.DeleteTargetGroupRequest(target_group=target_group)
        await self._broker.call("BalancerService/DeleteTargetGroup", request, balancer_pb2.DeleteTargetGroupReply)

    async def register(
        self, target_group: str, *targets: str | tuple[str, int]
    ) -> tuple[balancer_models.BalancerTarget, ...]:
        """Instances have to run, and follow the instance: stopped they are `unused`, terminated they are gone.

        A function is named by its ARN, of a version or alias too; it must let elasticloadbalancing.amazonaws.com invoke
        it. Raises NotFound, InvalidRequest (InvalidTarget), AccessDenied (a function's permission), LimitExceeded.
        """
        request = balancer_pb2.RegisterTargetsRequest(target_group=target_group, targets=_targets(targets))
        return _shown(await self._broker.call("BalancerService/RegisterTargets", request, balancer_pb2.TargetsReply))

    async def deregister(
        self, target_group: str, *targets: str | tuple[str, int]
    ) -> tuple[balancer_models.BalancerTarget, ...]:
        """Requests in flight finish; answers with those that drain. Without a port: on every port.

        Raises NotFound, InvalidRequest (InvalidTarget).
        """
        request = balancer_pb2.DeregisterTargetsRequest(target_group=target_group, targets=_targets(targets))
        return _shown(await self._broker.call("BalancerService/DeregisterTargets", request, balancer_pb2.TargetsReply))

    async def health(
        self, target_group: str, *targets: str | tuple[str, int]
    ) -> tuple[balancer_models.BalancerTarget, ...]:
        """Of these targets, or all. Raises NotFound."""
        request = balancer_pb2.DescribeTargetHealthRequest(target_group=target_group, targets=_targets(targets))
        method = "BalancerService/DescribeTargetHealth"
        return _shown(await self._broker.call(method, request, balancer_pb2.TargetsReply))


def _health(given: HealthOptions) -> balancer_pb2.HealthCheckSpec:
    check_names(given, HealthOptions)
    fields: dict[str, Any] = {name.removeprefix("health_"): value for name, value in given.items()}
    return balancer_pb2.HealthCheckSpec(**fields)


def _targets(given: Sequence[str | tuple[str, int]]) -> list[balancer_pb2.TargetRef]:
    found = []
    for one in given:
        target_id, port = one if isinstance(one, tuple) else _parted(one)
        found.append(balancer_pb2.TargetRef(id=target_id, port=port))
    return found


def _parted(text: str) -> tuple[str, int]:
    """An id that is followed by a number is one on a port; anything else is for the cloud to judge."""
    target_id, _, port = text.rpartition(":")
    if target_id.startswith("arn:"):
        return (text, 0)
    return (target_id, int(port)) if target_id and port.isascii() and port.isdigit() else (text, 0)


def _shown(reply: balancer_pb2.TargetsReply) -> tuple[balancer_models.BalancerTarget, ...]:
    return tuple(to_model(balancer_models.BalancerTarget, item) for item in reply.targets)
