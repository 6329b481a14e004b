"""PolicyService on the wire: translation, no decisions."""

from __future__ import annotations

from minicloud.base.arn import Caller
from minicloud.scaling import commands, queries
from minicloud.scaling.errors import invalid
from minicloud.scaling.predictive import Predictive
from minicloud.scaling.rpc import translate
from minicloud.scaling.rpc.groups import page
from minicloud.scaling.rules import rule_of
from minicloud.scaling.service import ScalingService
from minicloud.scaling.state import State
from minicloud.wire import scaling_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["PolicyService"]


class PolicyServicer:
    """For `rpc.door.door(PolicyServicer(...), DESCRIPTOR, entry)`; `page_secret` signs page tokens."""

    def __init__(self, service: ScalingService, page_secret: bytes) -> None:
        self._service = service
        self._pages = page_secret

    async def PutPolicy(self, request: wire.PutPolicyRequest, caller: Caller) -> wire.ScalingPolicy:
        kind, config = translate.to_config(request)
        command = commands.PutPolicy(
            caller.scope,
            request.group,
            request.policy,
            kind,
            config,
            request.enabled if request.HasField("enabled") else True,
            request.warmup_s if request.HasField("warmup_s") else None,
        )
        return translate.policy(await self._service.ask(command))

    async def GetPolicy(self, request: wire.ScalingPolicyRequest, caller: Caller) -> wire.ScalingPolicy:
        found = await self._service.shown(
            lambda state: queries.policy(state, caller.scope, request.group, request.policy)
        )
        return translate.policy(found)

    async def ListPolicies(self, request: wire.ListPoliciesRequest, caller: Caller) -> wire.ListPoliciesReply:
        def look(state: State) -> wire.ListPoliciesReply:
            found = queries.policies(state, caller.scope, request.group)
            kept, token = page(self._pages, caller.scope, f"policies {request.group}", found, request)
            return wire.ListPoliciesReply(policies=[translate.policy(one) for one in kept], next_page_token=token)

        return await self._service.shown(look)

    async def DeletePolicy(self, request: wire.ScalingPolicyRequest, caller: Caller) -> wire.DeletePolicyReply:
        await self._service.ask(commands.DeletePolicy(caller.scope, request.group, request.policy))
        return wire.DeletePolicyReply()

    async def ExecutePolicy(self, request: wire.ExecutePolicyRequest, caller: Caller) -> wire.ScalingGroup:
        command = commands.ExecutePolicy(
            caller.scope,
            request.group,
            request.policy,
            (request.value,) if request.HasField("value") else (),
            request.threshold if request.HasField("threshold") else None,
            request.honor_cooldown,
        )
        await self._service.ask(command)

        def look(state: State) -> wire.ScalingGroup:
            found = state.group(caller.scope, request.group)
            return translate.group(found, queries.roster(state, found))

        return await self._service.shown(look)

    async def GetForecast(self, request: wire.GetForecastRequest, caller: Caller) -> wire.LoadForecast:
        """Raises InvalidParameterValue: the policy is not predictive."""

        def look(state: State) -> wire.LoadForecast:
            found = queries.policy(state, caller.scope, request.group, request.policy)
            rule, made = rule_of(found), queries.forecast(found)
            if not isinstance(rule, Predictive):
                raise invalid(f"The policy {request.policy} is not a predictive scaling policy.", "policy")
            if made is None:
                return wire.LoadForecast()
            rows = [
                (made.start + index * made.step_s, load, capacity)
                for index, (load, capacity) in enumerate(zip(made.load, rule.capacities(made), strict=True))
            ]
            rows = [row for row in rows if request.start <= row[0] and (not request.end or row[0] < request.end)]
            return wire.LoadForecast(
                times=[row[0] for row in rows], load=[row[1] for row in rows], capacity=[row[2] for row in rows]
            )

        return await self._service.shown(look)

    # --- scheduled actions

    async def PutScheduledAction(self, request: wire.PutScheduledActionRequest, caller: Caller) -> wire.ScheduledAction:
        command = commands.PutScheduled(
            caller.scope,
            request.group,
            request.action,
            request.recurrence,
            request.time_zone,
            request.start or None,
            request.end or None,
            request.min_size if request.HasField("min_size") else None,
            request.max_size if request.HasField("max_size") else None,
            request.desired if request.HasField("desired") else None,
        )
        made = await self._service.ask(command)
        group = await self._service.shown(lambda state: state.group(caller.scope, request.group))
        return translate.scheduled(group, made)

    async def ListScheduledActions(
        self, request: wire.ListScheduledActionsRequest, caller: Caller
    ) -> wire.ListScheduledActionsReply:
        def look(state: State) -> wire.ListScheduledActionsReply:
            found = queries.scheduled(state, caller.scope, request.group)
            kept, token = page(self._pages, caller.scope, f"scheduled {request.group}", found, request)
            return wire.ListScheduledActionsReply(
                actions=[translate.scheduled(state.groups[one.group], one) for one in kept], next_page_token=token
            )

        return await self._service.shown(look)

    async def DeleteScheduledAction(
        self, request: wire.DeleteScheduledActionRequest, caller: Caller
    ) -> wire.DeleteScheduledActionReply:
        await self._service.ask(commands.DeleteScheduled(caller.scope, request.group, request.action))
        return wire.DeleteScheduledActionReply()
