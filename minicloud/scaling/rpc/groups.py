"""GroupService on the wire: translation, no decisions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar

from minicloud.base import pages
from minicloud.base.arn import Caller, Scope
from minicloud.base.errors import NotFound
from minicloud.scaling import commands, limits, queries
from minicloud.scaling.model import Refresh
from minicloud.scaling.rpc import translate
from minicloud.scaling.service import ScalingService
from minicloud.scaling.state import State
from minicloud.wire import scaling_pb2 as wire

DESCRIPTOR = wire.DESCRIPTOR.services_by_name["GroupService"]
VIEW_ACTIVITIES = 10  # ours
PAUSE_S_EACH = 20e-6  # ours: after a view, for each member; a group of thousands is not shown a thousand times a second
T = TypeVar("T")


def page(secret: bytes, scope: Scope, what: str, found: Mapping[str, T], request: Any) -> tuple[list[T], str]:
    """What a listing answers of all that was found, and the token of the rest."""
    context = f"{what} {scope.account} {scope.region}"
    size = pages.checked_size(request.page_size)
    keys, token = pages.cut(secret, context, list(found), request.page_token, size)
    return [found[key] for key in keys], token


class GroupServicer:
    """For `rpc.door.door(GroupServicer(...), DESCRIPTOR, entry)`; `page_secret` signs page tokens."""

    def __init__(self, service: ScalingService, page_secret: bytes) -> None:
        self._service = service
        self._pages = page_secret

    # --- groups

    async def CreateGroup(self, request: wire.CreateGroupRequest, caller: Caller) -> wire.ScalingGroup:
        settings = translate.to_settings(request.spec, dict(request.tags), list(request.local_tags))
        hooks = {one.name: _to_hook(one) for one in request.hooks}
        return await self._done(commands.CreateGroup(caller.scope, request.name, settings, hooks))

    async def UpdateGroup(self, request: wire.UpdateGroupRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(commands.UpdateGroup(caller.scope, request.name, translate.to_settings(request.spec)))

    async def GetGroup(self, request: wire.ScalingGroupRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._shown(caller.scope, request.name)

    async def ListGroups(self, request: wire.ListGroupsRequest, caller: Caller) -> wire.ListGroupsReply:
        def look(state: State) -> wire.ListGroupsReply:
            found = queries.groups(state, caller.scope, request.names)
            kept, token = page(self._pages, caller.scope, f"groups {list(request.names)}", found, request)
            shown = [translate.group(one, queries.roster(state, one)) for one in kept]
            return wire.ListGroupsReply(groups=shown, next_page_token=token)

        return await self._service.shown(look)

    async def DeleteGroup(self, request: wire.DeleteGroupRequest, caller: Caller) -> wire.DeleteGroupReply:
        await self._service.ask(commands.DeleteGroup(caller.scope, request.name, request.force))
        return wire.DeleteGroupReply()

    async def SetDesiredCapacity(self, request: wire.SetDesiredCapacityRequest, caller: Caller) -> wire.ScalingGroup:
        command = commands.SetDesired(caller.scope, request.name, request.desired, request.honor_cooldown)
        return await self._done(command)

    async def Watch(self, request: wire.ScalingGroupRequest, caller: Caller) -> AsyncIterator[wire.GroupView]:
        """Raises NotFound where there is no such group; one that goes meanwhile ends the stream."""
        scope, name = caller.scope, request.name
        seen: wire.GroupView | None = None
        async with self._service.waiters.watch(scope.key(name)) as watch:
            while True:
                try:
                    view = await self._service.shown(lambda state: self._view(state, scope, name))
                except NotFound:
                    if seen is None:
                        raise
                    return
                if view != seen:
                    yield view
                seen = view
                await asyncio.sleep(len(view.members) * PAUSE_S_EACH)
                await watch.wait()

    # --- their instances

    async def ListMembers(self, request: wire.ListMembersRequest, caller: Caller) -> wire.ListMembersReply:
        def look(state: State) -> wire.ListMembersReply:
            found = queries.members(state, caller.scope, request.group, request.instance_ids)
            what = f"members {request.group} {list(request.instance_ids)}"
            kept, token = page(self._pages, caller.scope, what, found, request)
            shown = [translate.member(state.groups[one.group], one) for one in kept]
            return wire.ListMembersReply(members=shown, next_page_token=token)

        return await self._service.shown(look)

    async def AttachInstances(self, request: wire.MembersRequest, caller: Caller) -> wire.ScalingGroup:
        found = await self._service.found(caller.scope, request.instance_ids)
        return await self._done(commands.Attach(caller.scope, request.group, found))

    async def DetachInstances(self, request: wire.MembersRequest, caller: Caller) -> wire.ScalingGroup:
        ids = tuple(request.instance_ids)
        return await self._done(commands.Detach(caller.scope, request.group, ids, request.decrement))

    async def EnterStandby(self, request: wire.MembersRequest, caller: Caller) -> wire.ScalingGroup:
        ids = tuple(request.instance_ids)
        return await self._done(commands.EnterStandby(caller.scope, request.group, ids, request.decrement))

    async def ExitStandby(self, request: wire.MembersRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(commands.ExitStandby(caller.scope, request.group, tuple(request.instance_ids)))

    async def SetInstanceProtection(
        self, request: wire.SetInstanceProtectionRequest, caller: Caller
    ) -> wire.ScalingGroup:
        ids = tuple(request.instance_ids)
        return await self._done(commands.Protect(caller.scope, request.group, ids, request.protected))

    async def SetInstanceHealth(self, request: wire.SetInstanceHealthRequest, caller: Caller) -> wire.ScalingGroup:
        command = commands.SetHealth(caller.scope, request.instance_id, request.status, not request.ignore_grace)
        group = await self._service.ask(command)
        return await self._shown(caller.scope, group.name)

    async def TerminateInstance(self, request: wire.TerminateMemberRequest, caller: Caller) -> wire.ScalingGroup:
        group = await self._service.ask(commands.TerminateMember(caller.scope, request.instance_id, request.decrement))
        return await self._shown(caller.scope, group.name)

    async def ChangeTargetGroups(self, request: wire.ChangeTargetGroupsRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(
            commands.ChangeTargets(caller.scope, request.name, tuple(request.attach), tuple(request.detach))
        )

    # --- processes, tags, metrics

    async def SuspendProcesses(self, request: wire.ScalingProcessesRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(commands.SuspendProcesses(caller.scope, request.name, tuple(request.processes)))

    async def ResumeProcesses(self, request: wire.ScalingProcessesRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(
            commands.SuspendProcesses(caller.scope, request.name, tuple(request.processes), resume=True)
        )

    async def TagGroup(self, request: wire.TagGroupRequest, caller: Caller) -> wire.ScalingGroup:
        command = commands.TagGroup(
            caller.scope, request.name, dict(request.tags), tuple(request.local_tags), tuple(request.remove)
        )
        return await self._done(command)

    async def SetGroupNotifications(
        self, request: wire.SetGroupNotificationsRequest, caller: Caller
    ) -> wire.ScalingGroup:
        return await self._done(
            commands.SetNotifications(caller.scope, request.name, request.topic, tuple(request.events))
        )

    async def CollectGroupMetrics(self, request: wire.CollectGroupMetricsRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(
            commands.CollectMetrics(caller.scope, request.name, tuple(request.metrics), request.stop)
        )

    # --- hooks

    async def PutHook(self, request: wire.PutHookRequest, caller: Caller) -> wire.ScalingGroup:
        given = {field.name: value for field, value in request.ListFields() if field.has_presence}
        given |= {"default": given.pop("default_result")} if "default_result" in given else {}
        return await self._done(commands.PutHook(caller.scope, request.group, request.hook, **given))

    async def DeleteHook(self, request: wire.DeleteHookRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(commands.DeleteHook(caller.scope, request.group, request.hook))

    async def CompleteLifecycleAction(
        self, request: wire.LifecycleActionRequest, caller: Caller
    ) -> wire.LifecycleActionReply:
        await self._service.ask(_wait(request, caller, request.result or "none"))
        return wire.LifecycleActionReply()

    async def RecordLifecycleHeartbeat(
        self, request: wire.LifecycleActionRequest, caller: Caller
    ) -> wire.LifecycleActionReply:
        await self._service.ask(_wait(request, caller, ""))
        return wire.LifecycleActionReply()

    # --- warm pools

    async def PutWarmPool(self, request: wire.PutWarmPoolRequest, caller: Caller) -> wire.ScalingGroup:
        command = commands.PutWarmPool(
            caller.scope,
            request.group,
            request.min_size,
            request.max_prepared if request.HasField("max_prepared") else None,
            request.state or "Stopped",
            request.reuse_on_scale_in,
        )
        return await self._done(command)

    async def DeleteWarmPool(self, request: wire.ScalingGroupRequest, caller: Caller) -> wire.ScalingGroup:
        return await self._done(commands.DeleteWarmPool(caller.scope, request.name))

    # --- refreshes

    async def StartRefresh(self, request: wire.StartRefreshRequest, caller: Caller) -> wire.InstanceRefresh:
        given = {field.name: value for field, value in request.ListFields() if field.name in _REFRESH}
        command = commands.StartRefresh(
            caller.scope,
            request.group,
            template=translate.to_template(request),
            types=list(request.types.values) if request.HasField("types") else None,
            checkpoints=tuple(request.checkpoints),
            alarms=tuple(request.alarms),
            protected=request.protected_instances or "Wait",
            standby=request.standby_instances or "Wait",
            **given,
        )
        return await self._refresh(caller.scope, request.group, await self._service.ask(command))

    async def CancelRefresh(self, request: wire.ScalingGroupRequest, caller: Caller) -> wire.InstanceRefresh:
        found = await self._service.ask(commands.CancelRefresh(caller.scope, request.name))
        return await self._refresh(caller.scope, request.name, found)

    async def RollbackRefresh(self, request: wire.ScalingGroupRequest, caller: Caller) -> wire.InstanceRefresh:
        found = await self._service.ask(commands.RollbackRefresh(caller.scope, request.name))
        return await self._refresh(caller.scope, request.name, found)

    async def ListRefreshes(self, request: wire.ListRefreshesRequest, caller: Caller) -> wire.ListRefreshesReply:
        def look(state: State) -> wire.ListRefreshesReply:
            found = queries.refreshes(state, caller.scope, request.group)
            kept, token = page(self._pages, caller.scope, f"refreshes {request.group}", found, request)
            return wire.ListRefreshesReply(refreshes=[translate.refresh(one) for one in kept], next_page_token=token)

        return await self._service.shown(look)

    async def ListActivities(self, request: wire.ListActivitiesRequest, caller: Caller) -> wire.ListActivitiesReply:
        def look(state: State) -> wire.ListActivitiesReply:
            found = queries.activities(state, caller.scope, request.group)
            kept, token = page(self._pages, caller.scope, f"activities {request.group}", found, request)
            return wire.ListActivitiesReply(activities=[translate.activity(one) for one in kept], next_page_token=token)

        return await self._service.shown(look)

    # --- answers

    async def _done(self, command: commands.OfGroup) -> wire.ScalingGroup:
        await self._service.ask(command)
        return await self._shown(command.scope, command.name)

    async def _shown(self, scope: Scope, name: str) -> wire.ScalingGroup:
        """Raises NotFound."""

        def look(state: State) -> wire.ScalingGroup:
            found = state.group(scope, name)
            return translate.group(found, queries.roster(state, found))

        return await self._service.shown(look)

    async def _refresh(self, scope: Scope, name: str, refresh_id: str) -> wire.InstanceRefresh:
        def look(state: State) -> Refresh:
            return next(iter(queries.refreshes(state, scope, name, [refresh_id]).values()))

        return translate.refresh(await self._service.shown(look))

    def _view(self, state: State, scope: Scope, name: str) -> wire.GroupView:
        group = state.group(scope, name)
        its = queries.roster(state, group)
        loads = []
        for key, policy in sorted(its.policies.items()):
            reading = self._service.readings.get(key)
            value = reading.values[-1] if reading is not None and reading.values else None
            loads.append(translate.load(policy, value, reading.at if reading is not None else 0.0))
        newest = list(queries.activities(state, scope, name).values())[:VIEW_ACTIVITIES]
        return wire.GroupView(
            group=translate.group(group, its),
            members=[translate.member(group, one) for _, one in sorted(its.members.items())],
            loads=[one for one in loads if one is not None],
            activities=[translate.activity(one) for one in newest],
            refresh=None if not its.refreshes else translate.refresh(its.refreshes[max(its.refreshes)]),
        )


_REFRESH = frozenset(
    {
        "min_healthy", "max_healthy", "warmup_s", "checkpoint_delay_s", "skip_matching", "auto_rollback", "bake_s",
    }
)  # fmt: skip


def _wait(request: wire.LifecycleActionRequest, caller: Caller, result: str) -> commands.EndWait:
    return commands.EndWait(caller.scope, request.group, request.hook, result, request.token, request.instance_id)


def _to_hook(one: wire.LifecycleHook) -> commands.HookSpec:
    return commands.HookSpec(
        one.transition,
        one.timeout_s or limits.HOOK_TIMEOUT_S_DEFAULT,
        one.default_result or "ABANDON",
        one.target,
        one.metadata,
    )
