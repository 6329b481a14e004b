"""SecurityGroupService (protos/minicloud/wire/security.proto)."""

from __future__ import annotations

from minicloud.base.arn import Caller
from minicloud.base.errors import MissingParameter
from minicloud.compute import security
from minicloud.compute.model import SecurityGroup
from minicloud.compute.queries import Page, Pager
from minicloud.compute.security import Rule
from minicloud.compute.service import ComputeService
from minicloud.wire import security_pb2 as pb

DESCRIPTOR = pb.DESCRIPTOR.services_by_name["SecurityGroupService"]


class SecurityGroupServicer:
    def __init__(self, service: ComputeService, pager: Pager) -> None:
        self._service = service
        self._state = service.state
        self._pager = pager

    async def Create(self, request: pb.CreateSecurityGroupRequest, caller: Caller) -> pb.SecurityGroup:
        command = security.CreateSecurityGroup(
            caller.scope, request.name, request.description or request.name, dict(request.tags)
        )
        return self._message(await self._service.submit(command), caller)

    async def Get(self, request: pb.GetSecurityGroupRequest, caller: Caller) -> pb.SecurityGroup:
        return await self._service.shown(lambda: self._message(self._find(request.group, caller), caller))

    def _find(self, text: str, caller: Caller) -> SecurityGroup:
        return security.find_any(self._state, caller.scope, text)

    async def List(self, request: pb.ListSecurityGroupsRequest, caller: Caller) -> pb.ListSecurityGroupsResponse:
        return await self._service.shown(lambda: self._list(request, caller))

    def _list(self, request: pb.ListSecurityGroupsRequest, caller: Caller) -> pb.ListSecurityGroupsResponse:
        every = {one.id: one for one in security.all_of(self._state, caller.scope)}
        page = Page(request.page_size, request.page_token)
        ids, token = self._pager.cut(f"security groups {caller.scope}", page, sorted(every))
        return pb.ListSecurityGroupsResponse(
            groups=[self._message(every[one], caller) for one in ids], next_page_token=token
        )

    async def Delete(self, request: pb.GetSecurityGroupRequest, caller: Caller) -> pb.SecurityGroup:
        group = self._find(request.group, caller)
        return self._message(await self._service.submit(security.DeleteSecurityGroup(caller.scope, group.id)), caller)

    async def Allow(self, request: pb.AllowRequest, caller: Caller) -> pb.SecurityGroup:
        group, direction = self._find(request.group, caller), "egress" if request.egress else "ingress"
        rule = self._rule(request.rule, caller)
        await self._service.submit(security.ChangeRules(caller.scope, group.id, direction, add=(rule,)))
        return self._message(self._find(group.id, caller), caller)

    async def Revoke(self, request: pb.RevokeRequest, caller: Caller) -> pb.SecurityGroup:
        group = self._find(request.group, caller)
        if not request.rule_ids:
            raise MissingParameter("at least one rule id is needed", field="rule_ids")
        outward = {rule["id"] for rule in group.egress}
        for direction, ids in (
            ("egress", tuple(one for one in request.rule_ids if one in outward)),
            ("ingress", tuple(one for one in request.rule_ids if one not in outward)),
        ):
            if ids:
                await self._service.submit(security.ChangeRules(caller.scope, group.id, direction, remove_ids=ids))
        return self._message(self._find(group.id, caller), caller)

    def _rule(self, message: pb.SecurityRule, caller: Caller) -> Rule:
        rule: Rule = {"protocol": message.protocol or security.ANY, "from": message.from_port, "to": message.to_port}
        if "/" in message.peer:
            rule["cidr6" if ":" in message.peer else "cidr"] = message.peer
        elif message.peer:
            rule["group"] = self._find(message.peer, caller).id
        else:
            raise MissingParameter("a rule needs a range or a group as its peer", field="rule.peer")
        if message.description:
            rule["description"] = message.description
        return rule

    def _message(self, one: SecurityGroup, caller: Caller) -> pb.SecurityGroup:
        return pb.SecurityGroup(
            id=one.id,
            name=one.name,
            description=one.description,
            ingress=map(_shown, one.ingress),
            egress=map(_shown, one.egress),
            created_time=one.created,
            tags=one.tags,
            instances=sum(1 for _ in security.members(self._state, caller.scope, one.id)),
        )


def _shown(rule: Rule) -> pb.SecurityRule:
    return pb.SecurityRule(
        id=rule["id"],
        protocol=rule["protocol"],
        from_port=rule.get("from", -1),
        to_port=rule.get("to", -1),
        peer=rule.get("cidr") or rule.get("cidr6") or rule["group"],
        description=rule.get("description", ""),
    )
