"""The instances of groups, what they wait for, the warm pool; activities."""

from __future__ import annotations

from collections.abc import Sequence

from minicloud.aws.call import Call, harmless, only
from minicloud.scaling import commands, queries
from minicloud.scaling.aws import shown
from minicloud.scaling.aws.base import GROUP, Noun, Params, Result
from minicloud.scaling.errors import invalid
from minicloud.scaling.lifecycle import WARM
from minicloud.scaling.model import Member
from minicloud.scaling.state import State


class MemberDoor(Noun):
    async def DescribeAutoScalingInstances(self, params: Params, call: Call) -> Result:
        """InstanceType is there once the instance is launched."""
        only(params, call, "InstanceIds", "MaxRecords", "NextToken")
        names = await self._shown_names(call.caller.scope)

        def look(state: State) -> Result:
            found = queries.members(state, call.caller.scope, "", params.get("InstanceIds", ()))
            known = {key: one for key, one in found.items() if one.instance_id}
            kept, token = self._page(params, call, known)
            details = [shown.details(state.groups[one.group], names, one) for one in kept]
            return {"AutoScalingInstances": details, **token}

        return await self._service.shown(look)

    async def AttachInstances(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceIds")
        found = await self._service.found(call.caller.scope, params.get("InstanceIds", ()))
        await self._service.ask(commands.Attach(call.caller.scope, params[GROUP], found))
        return {}

    async def DetachInstances(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceIds", "ShouldDecrementDesiredCapacity")
        ids, less = tuple(params.get("InstanceIds", ())), params["ShouldDecrementDesiredCapacity"]
        return await self._moved(commands.Detach(call.caller.scope, params[GROUP], ids, less), ids)

    async def EnterStandby(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceIds", "ShouldDecrementDesiredCapacity")
        ids, less = tuple(params.get("InstanceIds", ())), params["ShouldDecrementDesiredCapacity"]
        return await self._moved(commands.EnterStandby(call.caller.scope, params[GROUP], ids, less), ids)

    async def ExitStandby(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceIds")
        ids = tuple(params.get("InstanceIds", ()))
        return await self._moved(commands.ExitStandby(call.caller.scope, params[GROUP], ids), ids)

    async def _moved(self, command: commands.OfGroup, ids: Sequence[str]) -> Result:
        await self._service.ask(command)
        found = await self._latest(command.scope, command.name, ids)
        return {"Activities": [shown.activity(one) for one in found]}

    async def SetInstanceProtection(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "InstanceIds", "ProtectedFromScaleIn")
        ids = tuple(params["InstanceIds"])
        await self._service.ask(commands.Protect(call.caller.scope, params[GROUP], ids, params["ProtectedFromScaleIn"]))
        return {}

    async def SetInstanceHealth(self, params: Params, call: Call) -> Result:
        only(params, call, "InstanceId", "HealthStatus", "ShouldRespectGracePeriod")
        command = commands.SetHealth(
            call.caller.scope,
            params["InstanceId"],
            params["HealthStatus"],
            params.get("ShouldRespectGracePeriod", True),
        )
        await self._service.ask(command)
        return {}

    async def TerminateInstanceInAutoScalingGroup(self, params: Params, call: Call) -> Result:
        """One instance a call."""
        only(params, call, "InstanceId", "ShouldDecrementDesiredCapacity")
        if "InstanceId" not in params:
            raise invalid("InstanceId is needed", "InstanceId")
        scope, one = call.caller.scope, params["InstanceId"]
        group = await self._service.ask(commands.TerminateMember(scope, one, params["ShouldDecrementDesiredCapacity"]))
        found = await self._latest(scope, group.name, [one])
        return {"Activity": shown.activity(found[0])} if found else {}

    async def DescribeScalingActivities(self, params: Params, call: Call) -> Result:
        """Of groups that are there: those of a deleted group went with it."""
        only(params, call, "ActivityIds", GROUP, "IncludeDeletedGroups", "MaxRecords", "NextToken")
        harmless(params, call, {"IncludeDeletedGroups": False})
        ids = [one.replace("-", "") for one in params.get("ActivityIds", ())]

        def look(state: State) -> Result:
            found = queries.activities(state, call.caller.scope, params.get(GROUP, ""), ids)
            kept, token = self._page(params, call, found, 100)
            return {"Activities": [shown.activity(one, state.groups[one.group].arn) for one in kept], **token}

        return await self._service.shown(look)

    # --- lifecycle hooks

    async def PutLifecycleHook(self, params: Params, call: Call) -> Result:
        """The target is a topic or a queue; no test message; RoleARN is kept and shown, nobody takes it on."""
        names = {
            "LifecycleTransition": "transition",
            "HeartbeatTimeout": "timeout_s",
            "DefaultResult": "default",
            "NotificationTargetARN": "target",
            "NotificationMetadata": "metadata",
            "RoleARN": "role",
        }
        only(params, call, GROUP, "LifecycleHookName", *names)
        given = {ours: params[name] for name, ours in names.items() if name in params}
        await self._service.ask(
            commands.PutHook(call.caller.scope, params[GROUP], params["LifecycleHookName"], **given)
        )
        return {}

    async def DeleteLifecycleHook(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "LifecycleHookName")
        await self._service.ask(commands.DeleteHook(call.caller.scope, params[GROUP], params["LifecycleHookName"]))
        return {}

    async def DescribeLifecycleHooks(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "LifecycleHookNames")

        def look(state: State) -> Result:
            group = state.group(call.caller.scope, params[GROUP])
            named = params.get("LifecycleHookNames") or sorted(group.hooks)
            return {"LifecycleHooks": [shown.hook(group, name) for name in named if name in group.hooks]}

        return await self._service.shown(look)

    async def CompleteLifecycleAction(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "LifecycleHookName", "LifecycleActionToken", "LifecycleActionResult", "InstanceId")
        return await self._answer(params, call, params["LifecycleActionResult"] or "none")

    async def RecordLifecycleActionHeartbeat(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "LifecycleHookName", "LifecycleActionToken", "InstanceId")
        return await self._answer(params, call, "")

    async def _answer(self, params: Params, call: Call, result: str) -> Result:
        command = commands.EndWait(
            call.caller.scope,
            params[GROUP],
            params["LifecycleHookName"],
            result,
            params.get("LifecycleActionToken", ""),
            params.get("InstanceId", ""),
        )
        await self._service.ask(command)
        return {}

    # --- warm pools

    async def PutWarmPool(self, params: Params, call: Call) -> Result:
        """Stopped or Running."""
        only(params, call, GROUP, "MaxGroupPreparedCapacity", "MinSize", "PoolState", "InstanceReusePolicy")
        most = params.get("MaxGroupPreparedCapacity", -1)
        command = commands.PutWarmPool(
            call.caller.scope,
            params[GROUP],
            params.get("MinSize", 0),
            None if most == -1 else most,
            params.get("PoolState", "Stopped"),
            params.get("InstanceReusePolicy", {}).get("ReuseOnScaleIn", False),
        )
        await self._service.ask(command)
        return {}

    async def DeleteWarmPool(self, params: Params, call: Call) -> Result:
        """At once, whether forced or not: its instances end by themselves."""
        only(params, call, GROUP, "ForceDelete")
        await self._service.ask(commands.DeleteWarmPool(call.caller.scope, params[GROUP]))
        return {}

    async def DescribeWarmPool(self, params: Params, call: Call) -> Result:
        only(params, call, GROUP, "MaxRecords", "NextToken")
        names = await self._shown_names(call.caller.scope)

        def look(state: State) -> Result:
            group = state.group(call.caller.scope, params[GROUP])
            found: dict[str, Member] = {
                key: one
                for key, one in queries.members(state, call.caller.scope, group.name).items()
                if one.state in WARM and one.instance_id
            }
            kept, token = self._page(params, call, found)
            pool = {} if group.warm is None else {"WarmPoolConfiguration": shown.warm_pool(group.warm)}
            return {**pool, "Instances": [shown.member(group, names, one) for one in kept], **token}

        return await self._service.shown(look)
