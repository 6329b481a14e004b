"""Auto scaling groups: as many instances as desired, replaced when they fail, scaled by policies (`policies.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from minicloud.base.errors import DeadlineExceeded, NotFound, Unavailable
from minicloud.client.broker import Broker
from minicloud.client.convert import check_names, check_range, to_model
from minicloud.client.lazy import lazy

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from minicloud.client import group_models
    from minicloud.wire import instance_pb2, scaling_pb2
else:
    group_models = lazy("minicloud.client.group_models")
    instance_pb2 = lazy("minicloud.wire.instance_pb2")
    scaling_pb2 = lazy("minicloud.wire.scaling_pb2")

_ENDED = frozenset({"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"})


class GroupOptions(TypedDict, total=False):
    """Keyword arguments of a group; what is not given has AWS's default, or stays.

    zones (all); types: instance types instead of the template's, the first that has room is taken; cooldown_s (300),
    warmup_s (as the cooldown; -1: so again); health_types (["EC2"], or with "ELB"), grace_s (0);
    termination_policies (["Default"]); protect_new: from scale-in; max_lifetime_s (0: without end);
    target_groups: ARNs.
    """

    zones: Sequence[str]
    types: Sequence[str]
    cooldown_s: int
    warmup_s: int
    health_types: Sequence[str]
    grace_s: int
    termination_policies: Sequence[str]
    protect_new: bool
    max_lifetime_s: int
    target_groups: Sequence[str]


class AsyncGroups:
    """Groups of this account and region. Those that change one answer with it; instances follow by themselves."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def create(
        self,
        name: str,
        template: str,
        *,
        min_size: int,
        max_size: int,
        desired: int | None = None,
        version: str = "",
        tags: Mapping[str, str] | None = None,
        local_tags: Sequence[str] = (),
        hooks: Sequence[group_models.LifecycleHook] = (),
        **options: Unpack[GroupOptions],
    ) -> group_models.ScalingGroup:
        """Make a group of instances of a launch template (id or name; version: number, $Default, $Latest).

        desired: min_size where it is not given. local_tags: keys of tags that instances do not get. hooks: in force
        before the first launch. Raises InvalidParameterValue, AlreadyExists, LimitExceeded.
        """
        spec = _spec(options, min_size=min_size, max_size=max_size, desired=desired, template=(template, version))
        request = scaling_pb2.CreateGroupRequest(
            name=name, spec=spec, tags=tags or {}, local_tags=local_tags, hooks=[_hook(one) for one in hooks]
        )
        return await self._group("CreateGroup", request)

    async def update(
        self,
        name: str,
        *,
        min_size: int | None = None,
        max_size: int | None = None,
        desired: int | None = None,
        template: str | None = None,
        version: str = "",
        **options: Unpack[GroupOptions],
    ) -> group_models.ScalingGroup:
        """Change what is given. Raises NotFound, InvalidParameterValue, Conflict (it is being deleted)."""
        named = None if template is None else (template, version)
        spec = _spec(options, min_size=min_size, max_size=max_size, desired=desired, template=named)
        return await self._group("UpdateGroup", scaling_pb2.UpdateGroupRequest(name=name, spec=spec))

    async def get(self, name: str) -> group_models.ScalingGroup:
        """Raises NotFound."""
        return await self._group("GetGroup", scaling_pb2.ScalingGroupRequest(name=name))

    async def list(self, *names: str, page_size: int = 100) -> AsyncIterator[group_models.ScalingGroup]:
        """All, or those of these names that there are. Pages are fetched as they are needed."""
        request = scaling_pb2.ListGroupsRequest(names=names, page_size=page_size)
        while True:
            reply = await self._broker.call("GroupService/ListGroups", request, scaling_pb2.ListGroupsReply)
            for item in reply.groups:
                yield to_model(group_models.ScalingGroup, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def delete(self, name: str, *, force: bool = False) -> None:
        """With `force` its instances are ended first: `wait_gone`. Raises NotFound, Conflict (it has instances)."""
        request = scaling_pb2.DeleteGroupRequest(name=name, force=force)
        await self._broker.call("GroupService/DeleteGroup", request, scaling_pb2.DeleteGroupReply)

    async def set_desired(self, name: str, desired: int, *, honor_cooldown: bool = False) -> group_models.ScalingGroup:
        """Raises NotFound, InvalidParameterValue (outside of min and max), Conflict (in its cooldown)."""
        check_range(desired=desired)
        request = scaling_pb2.SetDesiredCapacityRequest(name=name, desired=desired, honor_cooldown=honor_cooldown)
        return await self._group("SetDesiredCapacity", request)

    # --- watching

    async def watch(self, name: str) -> AsyncIterator[group_models.GroupView]:
        """Its present state, then every change, until the caller stops or the group is gone. Raises NotFound."""
        request = scaling_pb2.ScalingGroupRequest(name=name)
        seen: group_models.GroupView | None = None
        async for message in self._broker.follow("GroupService/Watch", request, scaling_pb2.GroupView):
            view = to_model(group_models.GroupView, message)
            if view != seen:  # a reconnect repeats the present state
                seen = view
                yield view

    async def wait_stable(self, name: str, timeout: float = 300.0) -> group_models.ScalingGroup:
        """Until as many are in service as desired and nothing comes or goes.

        Raises NotFound, DeadlineExceeded (with what failed last).
        """
        failed = ""
        try:
            async with asyncio.timeout(timeout):
                async for view in self.watch(name):
                    if view.group.stable:
                        return view.group
                    failed = next((f": {one.message}" for one in view.activities if one.status == "Failed"), "")
        except TimeoutError:
            raise DeadlineExceeded(f"{name} is not stable after {timeout:g} s{failed}", field="timeout") from None
        raise NotFound(f"the group {name} was deleted meanwhile")

    async def wait_gone(self, name: str, timeout: float = 300.0) -> None:
        """Until a group that was deleted is no more. Raises DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout):
                async for _ in self.watch(name):
                    pass
        except NotFound:
            return
        except TimeoutError:
            raise DeadlineExceeded(f"{name} is still there after {timeout:g} s", field="timeout") from None

    # --- its instances

    async def members(
        self, name: str = "", *, instance_ids: Sequence[str] = (), page_size: int = 100
    ) -> AsyncIterator[group_models.GroupMember]:
        """Of one group, or of all. Raises NotFound."""
        request = scaling_pb2.ListMembersRequest(group=name, instance_ids=instance_ids, page_size=page_size)
        while True:
            reply = await self._broker.call("GroupService/ListMembers", request, scaling_pb2.ListMembersReply)
            for item in reply.members:
                yield to_model(group_models.GroupMember, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def attach(self, name: str, *instance_ids: str) -> group_models.ScalingGroup:
        """Running instances become members; desired grows by as many. Raises NotFound, InvalidParameterValue."""
        request = scaling_pb2.MembersRequest(group=name, instance_ids=instance_ids)
        return await self._group("AttachInstances", request)

    async def detach(self, name: str, *instance_ids: str, decrement: bool) -> group_models.ScalingGroup:
        """They run on, on their own. decrement: desired shrinks; else they are replaced."""
        request = scaling_pb2.MembersRequest(group=name, instance_ids=instance_ids, decrement=decrement)
        return await self._group("DetachInstances", request)

    async def enter_standby(self, name: str, *instance_ids: str, decrement: bool) -> group_models.ScalingGroup:
        """They get no requests and are not replaced when they fail; as for `detach`."""
        request = scaling_pb2.MembersRequest(group=name, instance_ids=instance_ids, decrement=decrement)
        return await self._group("EnterStandby", request)

    async def exit_standby(self, name: str, *instance_ids: str) -> group_models.ScalingGroup:
        """Back into service; desired grows by as many."""
        request = scaling_pb2.MembersRequest(group=name, instance_ids=instance_ids)
        return await self._group("ExitStandby", request)

    async def protect(self, name: str, *instance_ids: str, protected: bool = True) -> group_models.ScalingGroup:
        """From being ended by a scale-in, or no longer."""
        request = scaling_pb2.SetInstanceProtectionRequest(group=name, instance_ids=instance_ids, protected=protected)
        return await self._group("SetInstanceProtection", request)

    async def set_health(
        self, instance_id: str, status: str, *, ignore_grace: bool = False
    ) -> group_models.ScalingGroup:
        """status: Healthy, Unhealthy. What is unhealthy is replaced. Raises NotFound, InvalidParameterValue."""
        request = scaling_pb2.SetInstanceHealthRequest(
            instance_id=instance_id, status=status, ignore_grace=ignore_grace
        )
        return await self._group("SetInstanceHealth", request)

    async def terminate_instance(self, instance_id: str, *, decrement: bool) -> group_models.ScalingGroup:
        """decrement: desired shrinks; else it is replaced. Raises NotFound, InvalidParameterValue."""
        request = scaling_pb2.TerminateMemberRequest(instance_id=instance_id, decrement=decrement)
        return await self._group("TerminateInstance", request)

    async def attach_target_groups(self, name: str, *arns: str) -> group_models.ScalingGroup:
        """Its instances become targets. Raises InvalidParameterValue: there is no such target group."""
        return await self._group("ChangeTargetGroups", scaling_pb2.ChangeTargetGroupsRequest(name=name, attach=arns))

    async def detach_target_groups(self, name: str, *arns: str) -> group_models.ScalingGroup:
        """Its instances are drained, and targets no more."""
        return await self._group("ChangeTargetGroups", scaling_pb2.ChangeTargetGroupsRequest(name=name, detach=arns))

    # --- processes, tags, metrics

    async def suspend(self, name: str, *processes: str) -> group_models.ScalingGroup:
        """Launch, Terminate, AddToLoadBalancer, AlarmNotification, AZRebalance, HealthCheck, InstanceRefresh,
        ReplaceUnhealthy, ScheduledActions; none named: all. Raises NotFound, InvalidParameterValue."""
        request = scaling_pb2.ScalingProcessesRequest(name=name, processes=processes)
        return await self._group("SuspendProcesses", request)

    async def resume(self, name: str, *processes: str) -> group_models.ScalingGroup:
        request = scaling_pb2.ScalingProcessesRequest(name=name, processes=processes)
        return await self._group("ResumeProcesses", request)

    async def tag(
        self, name: str, tags: Mapping[str, str], *, local_tags: Sequence[str] = ()
    ) -> group_models.ScalingGroup:
        """local_tags: which of them instances do not get. Those that run keep what they have."""
        return await self._group("TagGroup", scaling_pb2.TagGroupRequest(name=name, tags=tags, local_tags=local_tags))

    async def untag(self, name: str, *keys: str) -> group_models.ScalingGroup:
        """A key that is not there is not an error."""
        return await self._group("TagGroup", scaling_pb2.TagGroupRequest(name=name, remove=keys))

    async def collect_metrics(self, name: str, *metrics: str, stop: bool = False) -> group_models.ScalingGroup:
        """Report group metrics (GroupDesiredCapacity, ...) once a minute, or no longer; none named: all."""
        request = scaling_pb2.CollectGroupMetricsRequest(name=name, metrics=metrics, stop=stop)
        return await self._group("CollectGroupMetrics", request)

    async def set_notifications(self, name: str, topic: str, *events: str) -> group_models.ScalingGroup:
        """Have a topic (ARN) told how launches and terminations ended; no events: no longer.

        events: "launch", "launch-error", "terminate", "terminate-error", or AWS's names. The topic gets a test
        notification first. Raises NotFound, InvalidParameterValue (it cannot be told).
        """
        request = scaling_pb2.SetGroupNotificationsRequest(name=name, topic=topic, events=map(_event, events))
        return await self._group("SetGroupNotifications", request)

    # --- hooks, warm pool

    async def put_hook(
        self,
        name: str,
        hook: str,
        transition: str | None = None,
        *,
        timeout_s: int | None = None,
        default_result: str | None = None,
        target: str | None = None,
        metadata: str | None = None,
    ) -> group_models.ScalingGroup:
        """Instances wait for it in a transition ("launching", "terminating", or AWS's name; needed at first).

        timeout_s: 30 to 7,200 (3,600); default_result: CONTINUE, ABANDON (default). Raises InvalidParameterValue.
        """
        check_range(timeout_s=timeout_s)
        request = scaling_pb2.PutHookRequest(
            group=name,
            hook=hook,
            transition=_transition(transition),
            timeout_s=timeout_s,
            default_result=default_result,
            target=target,
            metadata=metadata,
        )
        return await self._group("PutHook", request)

    async def delete_hook(self, name: str, hook: str) -> group_models.ScalingGroup:
        """What waits for it is abandoned. Raises NotFound."""
        return await self._group("DeleteHook", scaling_pb2.DeleteHookRequest(group=name, hook=hook))

    async def complete_action(
        self, name: str, hook: str, result: str, *, token: str = "", instance_id: str = ""
    ) -> None:
        """Let what waits go on. result: CONTINUE, ABANDON. By token or by instance. Raises InvalidParameterValue."""
        request = scaling_pb2.LifecycleActionRequest(
            group=name, hook=hook, result=result, token=token, instance_id=instance_id
        )
        await self._broker.call("GroupService/CompleteLifecycleAction", request, scaling_pb2.LifecycleActionReply)

    async def heartbeat(self, name: str, hook: str, *, token: str = "", instance_id: str = "") -> None:
        """Renew the time that it waits. Raises InvalidParameterValue."""
        request = scaling_pb2.LifecycleActionRequest(group=name, hook=hook, token=token, instance_id=instance_id)
        await self._broker.call("GroupService/RecordLifecycleHeartbeat", request, scaling_pb2.LifecycleActionReply)

    async def put_warm_pool(
        self,
        name: str,
        *,
        min_size: int = 0,
        max_prepared: int | None = None,
        state: str = "Stopped",
        reuse_on_scale_in: bool = False,
    ) -> group_models.ScalingGroup:
        """Instances that have booted ahead. max_prepared: of group and pool together (the group's maximum).

        reuse_on_scale_in: what the group no longer needs goes back into it, where it has room.
        """
        check_range(min_size=min_size, max_prepared=max_prepared)
        request = scaling_pb2.PutWarmPoolRequest(
            group=name, min_size=min_size, max_prepared=max_prepared, state=state, reuse_on_scale_in=reuse_on_scale_in
        )
        return await self._group("PutWarmPool", request)

    async def delete_warm_pool(self, name: str) -> group_models.ScalingGroup:
        return await self._group("DeleteWarmPool", scaling_pb2.ScalingGroupRequest(name=name))

    # --- refreshes, history

    async def start_refresh(
        self,
        name: str,
        *,
        template: str | None = None,
        version: str = "",
        types: Sequence[str] | None = None,
        min_healthy: int | None = None,
        max_healthy: int | None = None,
        warmup_s: int | None = None,
        checkpoints: Sequence[int] = (),
        checkpoint_delay_s: int | None = None,
        skip_matching: bool = False,
        auto_rollback: bool = False,
        protected_instances: str = "Wait",
        standby_instances: str = "Wait",
        bake_s: int = 0,
        alarms: Sequence[str] = (),
    ) -> group_models.InstanceRefresh:
        """Replace the instances a few at a time, by those of `template` (the group's own).

        min_healthy, max_healthy: percent of desired (90, 100). checkpoints: percents to wait at; the last ends it.
        protected_instances: Refresh, Ignore, Wait; standby_instances: Terminate, Ignore, Wait. alarms: one of them in
        ALARM fails it, or rolls it back; bake_s: so long they are looked at after the last replacement. Raises
        NotFound, InvalidParameterValue, Conflict (one is under way).
        """
        check_range(min_healthy=min_healthy, max_healthy=max_healthy, warmup_s=warmup_s, bake_s=bake_s)
        request = scaling_pb2.StartRefreshRequest(
            group=name,
            template=None if template is None else _template(template, version),
            types=_strings(types),
            min_healthy=min_healthy,
            max_healthy=max_healthy,
            warmup_s=warmup_s,
            checkpoints=checkpoints,
            checkpoint_delay_s=checkpoint_delay_s,
            skip_matching=skip_matching,
            auto_rollback=auto_rollback,
            protected_instances=protected_instances,
            standby_instances=standby_instances,
            bake_s=bake_s,
            alarms=alarms,
        )
        return await self._refresh("StartRefresh", request)

    async def cancel_refresh(self, name: str) -> group_models.InstanceRefresh:
        """What is being replaced is finished. Raises NotFound: none is under way."""
        return await self._refresh("CancelRefresh", scaling_pb2.ScalingGroupRequest(name=name))

    async def rollback_refresh(self, name: str) -> group_models.InstanceRefresh:
        """Back to what the group had. Raises NotFound, InvalidParameterValue (there is no way back)."""
        return await self._refresh("RollbackRefresh", scaling_pb2.ScalingGroupRequest(name=name))

    async def refreshes(self, name: str, *, page_size: int = 100) -> AsyncIterator[group_models.InstanceRefresh]:
        """The newest first. Raises NotFound."""
        request = scaling_pb2.ListRefreshesRequest(group=name, page_size=page_size)
        while True:
            reply = await self._broker.call("GroupService/ListRefreshes", request, scaling_pb2.ListRefreshesReply)
            for item in reply.refreshes:
                yield to_model(group_models.InstanceRefresh, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def wait_refresh(self, name: str, refresh_id: str, timeout: float = 3_600.0) -> group_models.InstanceRefresh:
        """Until it has ended, well or not. Raises NotFound, DeadlineExceeded."""
        try:
            async with asyncio.timeout(timeout):
                async for _ in self.watch(name):
                    found = await self._find_refresh(name, refresh_id)
                    if found.status in _ENDED:
                        return found
        except TimeoutError:
            raise DeadlineExceeded(f"{refresh_id} goes on after {timeout:g} s", field="timeout") from None
        raise Unavailable(f"the cloud says no more of {name}")

    async def _find_refresh(self, name: str, refresh_id: str) -> group_models.InstanceRefresh:
        async for found in self.refreshes(name):
            if found.id == refresh_id:
                return found
        raise NotFound(f"{name} has no instance refresh {refresh_id}", field="refresh_id")

    async def activities(self, name: str = "", *, page_size: int = 100) -> AsyncIterator[group_models.ScalingActivity]:
        """What happened and why, the newest first, of one group or of all. Raises NotFound."""
        request = scaling_pb2.ListActivitiesRequest(group=name, page_size=page_size)
        while True:
            reply = await self._broker.call("GroupService/ListActivities", request, scaling_pb2.ListActivitiesReply)
            for item in reply.activities:
                yield to_model(group_models.ScalingActivity, item)
            if not reply.next_page_token:
                return
            request.page_token = reply.next_page_token

    async def _group(self, method: str, request: Message) -> group_models.ScalingGroup:
        reply = await self._broker.call(f"GroupService/{method}", request, scaling_pb2.ScalingGroup)
        return to_model(group_models.ScalingGroup, reply)

    async def _refresh(self, method: str, request: Message) -> group_models.InstanceRefresh:
        reply = await self._broker.call(f"GroupService/{method}", request, scaling_pb2.InstanceRefresh)
        return to_model(group_models.InstanceRefresh, reply)


def _spec(
    options: Any,
    *,
    min_size: int | None,
    max_size: int | None,
    desired: int | None,
    template: tuple[str, str] | None,
) -> scaling_pb2.GroupSpec:
    check_names(options, GroupOptions)
    numbers = {key: value for key, value in options.items() if isinstance(value, int)}
    check_range(min_size=min_size, max_size=max_size, desired=desired, **numbers)
    given: dict[str, Any] = {
        key: value if isinstance(value, int) else _strings(value) for key, value in options.items() if value is not None
    }
    return scaling_pb2.GroupSpec(
        min_size=min_size,
        max_size=max_size,
        desired=desired,
        template=None if template is None else _template(*template),
        **given,
    )


def _strings(values: Sequence[str] | None) -> scaling_pb2.StringList | None:
    return None if values is None else scaling_pb2.StringList(values=values)


def _template(reference: str, version: str) -> instance_pb2.LaunchTemplateRef:
    if reference.startswith("lt-"):
        return instance_pb2.LaunchTemplateRef(id=reference, version=version)
    return instance_pb2.LaunchTemplateRef(name=reference, version=version)


def _transition(name: str | None) -> str | None:
    if name in ("launching", "terminating"):
        return f"autoscaling:EC2_INSTANCE_{name.upper()}"
    return name


def _event(name: str) -> str:
    plain = name in ("launch", "launch-error", "terminate", "terminate-error")
    return f"autoscaling:EC2_INSTANCE_{name.replace('-', '_').upper()}" if plain else name


def _hook(one: group_models.LifecycleHook) -> scaling_pb2.LifecycleHook:
    return scaling_pb2.LifecycleHook(
        name=one.name,
        transition=_transition(one.transition) or "",
        timeout_s=one.timeout_s,
        default_result=one.default_result,
        target=one.target,
        metadata=one.metadata,
    )
