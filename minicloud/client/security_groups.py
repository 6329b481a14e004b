"""Security groups: what may reach instances, and what they may reach."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING

from minicloud.client.convert import to_model
from minicloud.client.lazy import lazy
from minicloud.client.transport import Transport

if TYPE_CHECKING:
    from minicloud.client import security_models
    from minicloud.wire import security_pb2
else:
    security_models = lazy("minicloud.client.security_models")
    security_pb2 = lazy("minicloud.wire.security_pb2")


class AsyncSecurityGroups:
    """Security groups, named by id or name. A new one lets nothing in and everything out."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def create(
        self, name: str, description: str = "", *, tags: Mapping[str, str] | None = None
    ) -> security_models.SecurityGroup:
        """Raises AlreadyExists, LimitExceeded."""
        request = security_pb2.CreateSecurityGroupRequest(name=name, description=description, tags=tags or {})
        return await self._one("Create", request)

    async def get(self, group: str) -> security_models.SecurityGroup:
        """Raises NotFound."""
        return await self._one("Get", security_pb2.GetSecurityGroupRequest(group=group), idempotent=True)

    async def list(self, *, page_size: int = 100) -> AsyncIterator[security_models.SecurityGroup]:
        request = security_pb2.ListSecurityGroupsRequest(page_size=page_size)
        while True:
            reply = await self._transport.call(
                "SecurityGroupService/List", request, security_pb2.ListSecurityGroupsResponse
            )
            for item in reply.groups:
                yield to_model(security_models.SecurityGroup, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def allow(
        self,
        group: str,
        protocol: str = "-1",
        ports: int | tuple[int, int] = -1,
        *,
        peer: str = "0.0.0.0/0",
        egress: bool = False,
        description: str = "",
    ) -> security_models.SecurityGroup:
        """Let something in (egress: out). protocol: tcp | udp | icmp | "-1" (any). ports: one, or the first and last.

        peer: an IPv4 or IPv6 range, or a group, which stands for the addresses of its members.
        """
        low, high = (ports, ports) if isinstance(ports, int) else ports
        rule = security_pb2.SecurityRule(
            protocol=protocol, from_port=low, to_port=high, peer=peer, description=description
        )
        return await self._one("Allow", security_pb2.AllowRequest(group=group, egress=egress, rule=rule))

    async def revoke(self, group: str, rule_ids: Sequence[str]) -> security_models.SecurityGroup:
        """Take rules away. Raises NotFound."""
        return await self._one("Revoke", security_pb2.RevokeRequest(group=group, rule_ids=rule_ids))

    async def delete(self, group: str) -> security_models.SecurityGroup:
        """Raises NotFound, DependencyViolation (instances or rules of other groups have it)."""
        return await self._one("Delete", security_pb2.GetSecurityGroupRequest(group=group))

    async def _one(
        self,
        verb: str,
        request: security_pb2.CreateSecurityGroupRequest
        | security_pb2.GetSecurityGroupRequest
        | security_pb2.AllowRequest
        | security_pb2.RevokeRequest,
        idempotent: bool = False,
    ) -> security_models.SecurityGroup:
        reply = await self._transport.call(
            f"SecurityGroupService/{verb}", request, security_pb2.SecurityGroup, idempotent=idempotent
        )
        return to_model(security_models.SecurityGroup, reply)
