"""BalancerService on the wire: translation, no decisions. A change that is served waits for HAProxy to follow it."""

from __future__ import annotations

from typing import Any

from minicloud.balancer import balancers, commands, groups, listeners, targets, translate
from minicloud.balancer.model import APPLICATION, Balancer, Certificate, Group, Listener, Rule
from minicloud.balancer.service import BalancerService
from minicloud.balancer.state import State
from minicloud.base import pages
from minicloud.base.arn import Caller, Scope
from minicloud.wire import balancer_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["BalancerService"]


class BalancerServicer:
    """For `rpc.door.door(BalancerServicer(...), DESCRIPTOR, entry)`; `pages` signs page tokens."""

    def __init__(self, service: BalancerService, page_secret: bytes) -> None:
        self._service = service
        self._pages = page_secret

    # --- balancers

    async def CreateBalancer(self, request: wire.CreateBalancerRequest, caller: Caller) -> wire.Balancer:
        command = commands.CreateBalancer(
            caller.scope,
            request.name,
            request.type or APPLICATION,
            request.scheme or balancers.SCHEMES[0],
            tuple(request.zones),
            dict(request.tags),
        )
        return translate.balancer(await self._service.submit(command))

    async def GetBalancer(self, request: wire.GetBalancerRequest, caller: Caller) -> wire.Balancer:
        return await self._service.shown(
            lambda state: translate.balancer(self._balancer(state, request.balancer, caller))
        )

    async def ListBalancers(self, request: wire.ListBalancersRequest, caller: Caller) -> wire.ListBalancersReply:
        def look(state: State) -> wire.ListBalancersReply:
            page, after = self._cut(state, Balancer.kind, caller.scope, request)
            found = [translate.balancer(state.balancers[arn]) for arn in page]
            return wire.ListBalancersReply(balancers=found, next_page_token=after)

        return await self._service.shown(look)

    async def DeleteBalancer(self, request: wire.DeleteBalancerRequest, caller: Caller) -> wire.DeleteBalancerReply:
        arn = self._arn(Balancer.kind, request.balancer, caller)
        await self._service.served(commands.DeleteBalancer(caller.scope, arn))
        return wire.DeleteBalancerReply()

    # --- listeners

    async def CreateListener(self, request: wire.CreateListenerRequest, caller: Caller) -> wire.Listener:
        command = commands.CreateListener(
            scope=caller.scope,
            balancer=self._arn(Balancer.kind, request.balancer, caller),
            protocol=request.protocol,
            port=request.port,
            action=self._action(request.action, caller),
            certificates=tuple(request.certificates),
            ssl_policy=request.ssl_policy,
            tags=dict(request.tags),
        )
        return self._listener(*await self._service.served(command))

    async def ModifyListener(self, request: wire.ModifyListenerRequest, caller: Caller) -> wire.Listener:
        command = commands.ModifyListener(
            scope=caller.scope,
            arn=request.listener_arn,
            protocol=request.protocol if request.HasField("protocol") else None,
            port=request.port if request.HasField("port") else None,
            action=self._action(request.action, caller) if request.HasField("action") else None,
            certificate=request.certificate if request.HasField("certificate") else None,
            add=tuple(request.add_certificates),
            remove=tuple(request.remove_certificates),
            ssl_policy=request.ssl_policy if request.HasField("ssl_policy") else None,
        )
        return self._listener(*await self._service.served(command))

    async def ListListeners(self, request: wire.ListListenersRequest, caller: Caller) -> wire.ListListenersReply:
        def look(state: State) -> wire.ListListenersReply:
            owner = self._balancer(state, request.balancer, caller)
            found = [self._listener(one, state.rules_of(one.arn)[-1]) for one in state.listeners_of(owner.arn)]
            return wire.ListListenersReply(listeners=sorted(found, key=lambda one: one.port))

        return await self._service.shown(look)

    async def DeleteListener(self, request: wire.DeleteListenerRequest, caller: Caller) -> wire.DeleteListenerReply:
        await self._service.served(commands.DeleteListener(caller.scope, request.listener_arn))
        return wire.DeleteListenerReply()

    # --- rules

    async def CreateRule(self, request: wire.CreateRuleRequest, caller: Caller) -> wire.ListenerRule:
        command = commands.CreateRule(
            scope=caller.scope,
            listener=request.listener_arn,
            priority=request.priority,
            conditions=translate.to_conditions(request.conditions),
            action=self._action(request.action, caller),
            tags=dict(request.tags),
        )
        return translate.rule(await self._service.served(command))

    async def ModifyRule(self, request: wire.ModifyRuleRequest, caller: Caller) -> wire.ListenerRule:
        command = commands.ModifyRule(
            scope=caller.scope,
            arn=request.rule_arn,
            conditions=translate.to_conditions(request.conditions) or None,
            action=self._action(request.action, caller) if request.HasField("action") else None,
        )
        return translate.rule(await self._service.served(command))

    async def SetRulePriorities(self, request: wire.SetRulePrioritiesRequest, caller: Caller) -> wire.ListRulesReply:
        changed = await self._service.served(commands.SetPriorities(caller.scope, dict(request.priorities)))
        return _rules(sorted(changed, key=lambda one: int(one.priority)))

    async def ListRules(self, request: wire.ListRulesRequest, caller: Caller) -> wire.ListRulesReply:
        return await self._service.shown(
            lambda state: _rules(state.rules_of(listeners.find(state, caller.scope, request.listener_arn).arn))
        )

    async def DeleteRule(self, request: wire.DeleteRuleRequest, caller: Caller) -> wire.DeleteRuleReply:
        await self._service.served(commands.DeleteRule(caller.scope, request.rule_arn))
        return wire.DeleteRuleReply()

    # --- target groups

    async def CreateTargetGroup(self, request: wire.CreateTargetGroupRequest, caller: Caller) -> wire.TargetGroup:
        command = commands.CreateGroup(
            scope=caller.scope,
            name=request.name,
            protocol=request.protocol,
            port=request.port,
            version=request.version,
            target_type=request.target_type or "instance",
            health=translate.to_health(request.health),
            tags=dict(request.tags),
        )
        return translate.group(await self._service.submit(command))

    async def GetTargetGroup(self, request: wire.GetTargetGroupRequest, caller: Caller) -> wire.TargetGroup:
        return await self._service.shown(
            lambda state: translate.group(self._group(state, request.target_group, caller))
        )

    async def ListTargetGroups(
        self, request: wire.ListTargetGroupsRequest, caller: Caller
    ) -> wire.ListTargetGroupsReply:
        def look(state: State) -> wire.ListTargetGroupsReply:
            if request.balancer:
                owner = self._balancer(state, request.balancer, caller)
                page, after = [one.arn for one in state.groups_of(owner.arn)], ""
            else:
                page, after = self._cut(state, Group.kind, caller.scope, request)
            found = [translate.group(state.groups[arn]) for arn in page]
            return wire.ListTargetGroupsReply(target_groups=found, next_page_token=after)

        return await self._service.shown(look)

    async def ModifyTargetGroup(self, request: wire.ModifyTargetGroupRequest, caller: Caller) -> wire.TargetGroup:
        arn = self._arn(Group.kind, request.target_group, caller)
        command = commands.ModifyGroup(caller.scope, arn, translate.to_health(request.health))
        return translate.group(await self._service.served(command))

    async def DeleteTargetGroup(
        self, request: wire.DeleteTargetGroupRequest, caller: Caller
    ) -> wire.DeleteTargetGroupReply:
        arn = self._arn(Group.kind, request.target_group, caller)
        await self._service.submit(commands.DeleteGroup(caller.scope, arn))
        return wire.DeleteTargetGroupReply()

    # --- targets

    async def RegisterTargets(self, request: wire.RegisterTargetsRequest, caller: Caller) -> wire.TargetsReply:
        arn = self._arn(Group.kind, request.target_group, caller)
        specs = translate.to_targets(request.targets)
        return translate.targets(await self._service.served(commands.RegisterTargets(caller.scope, arn, specs)))

    async def DeregisterTargets(self, request: wire.DeregisterTargetsRequest, caller: Caller) -> wire.TargetsReply:
        """Answers with what is left of them: those that drain."""
        arn = self._arn(Group.kind, request.target_group, caller)
        specs = translate.to_targets(request.targets)
        await self._service.served(commands.DeregisterTargets(caller.scope, arn, specs))
        ids = {spec.id for spec in specs}
        return await self._service.shown(
            lambda state: translate.targets(one for one in state.targets_of(arn) if one.id in ids)
        )

    async def DescribeTargetHealth(
        self, request: wire.DescribeTargetHealthRequest, caller: Caller
    ) -> wire.TargetsReply:
        wanted = translate.to_targets(request.targets)
        return await self._service.shown(
            lambda state: translate.targets(
                targets.described(state, self._group(state, request.target_group, caller), wanted)
            )
        )

    # --- attributes, tags, certificates

    async def SetBalancerAttributes(
        self, request: wire.SetBalancerAttributesRequest, caller: Caller
    ) -> wire.AttributesReply:
        command = commands.SetAttributes(caller.scope, request.arn, dict(request.attributes))
        return wire.AttributesReply(attributes=await self._service.served(command))

    async def SetBalancerTags(self, request: wire.SetBalancerTagsRequest, caller: Caller) -> wire.BalancerTagsReply:
        command = commands.SetTags(caller.scope, request.arn, dict(request.tags), tuple(request.remove))
        return wire.BalancerTagsReply(tags=await self._service.submit(command))

    async def ImportCertificate(self, request: wire.ImportCertificateRequest, caller: Caller) -> wire.Certificate:
        command = commands.ImportCertificate(
            caller.scope, request.certificate, request.private_key, request.chain, dict(request.tags)
        )
        return translate.certificate(await self._service.submit(command))

    async def ListCertificates(
        self, request: wire.ListCertificatesRequest, caller: Caller
    ) -> wire.ListCertificatesReply:
        def look(state: State) -> wire.ListCertificatesReply:
            page, after = self._cut(state, Certificate.kind, caller.scope, request)
            found = [translate.certificate(state.certificates[arn]) for arn in page]
            return wire.ListCertificatesReply(certificates=found, next_page_token=after)

        return await self._service.shown(look)

    async def DeleteCertificate(
        self, request: wire.DeleteCertificateRequest, caller: Caller
    ) -> wire.DeleteCertificateReply:
        await self._service.submit(commands.DeleteCertificate(caller.scope, request.arn))
        return wire.DeleteCertificateReply()

    # --- names

    def _arn(self, kind: str, reference: str, caller: Caller) -> str:
        """Of a balancer or target group by name; an ARN is handed on. A name that is unknown is none of an ARN."""
        if reference.startswith("arn:"):
            return reference
        found = self._service.read(lambda state: state.named(kind, caller.scope, reference))
        return str(found.arn) if found is not None else reference

    def _balancer(self, state: State, reference: str, caller: Caller) -> Balancer:
        return balancers.find(state, caller.scope, self._arn(Balancer.kind, reference, caller))

    def _group(self, state: State, reference: str, caller: Caller) -> Group:
        return groups.find(state, caller.scope, self._arn(Group.kind, reference, caller))

    def _action(self, action: wire.BalancerAction, caller: Caller) -> Any:
        return translate.to_action(action, lambda reference: self._arn(Group.kind, reference, caller))

    def _listener(self, one: Listener, default: Rule) -> wire.Listener:
        return translate.listener(one, default, self._service.plane.left_out.get(one.arn, ""))

    def _cut(self, state: State, kind: str, scope: Scope, request: Any) -> tuple[Any, str]:
        context = f"{kind} {scope.account} {scope.region}"
        size = pages.checked_size(request.page_size)
        return pages.cut(self._pages, context, state.page(kind, scope), request.page_token, size)


def _rules(found: list[Rule]) -> wire.ListRulesReply:
    return wire.ListRulesReply(rules=[translate.rule(one) for one in found])
