"""Made from `minicloud/client/groups.py` by `python minicloud/client/generate.py`; not edited by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Unpack

from minicloud.client.groups import AsyncGroups, GroupOptions
from minicloud.client.lazy import lazy
from minicloud.client.loop import LoopThread

if TYPE_CHECKING:
    from minicloud.client import group_models
else:
    group_models = lazy("minicloud.client.group_models")


class Groups:
    """Groups of this account and region. Those that change one answer with it; instances follow by themselves."""

    _inner: AsyncGroups

    def __init__(self, inner: AsyncGroups, loop: LoopThread) -> None:
        self._inner = inner
        self._loop = loop

    def create(
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
        return self._loop.run(
            self._inner.create(
                name,
                template,
                min_size=min_size,
                max_size=max_size,
                desired=desired,
                version=version,
                tags=tags,
                local_tags=local_tags,
                hooks=hooks,
                **options,
            )
        )

    def update(
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
        return self._loop.run(
            self._inner.update(
                name,
                min_size=min_size,
                max_size=max_size,
                desired=desired,
                template=template,
                version=version,
                **options,
            )
        )

    def get(self, name: str) -> group_models.ScalingGroup:
        """Raises NotFound."""
        return self._loop.run(self._inner.get(name))

    def list(self, *names: str, page_size: int = 100) -> Iterator[group_models.ScalingGroup]:
        """All, or those of these names that there are. Pages are fetched as they are needed."""
        return self._loop.iterate(self._inner.list(*names, page_size=page_size))

    def delete(self, name: str, *, force: bool = False) -> None:
        """With `force` its instances are ended first: `wait_gone`. Raises NotFound, Conflict (it has instances)."""
        self._loop.run(self._inner.delete(name, force=force))

    def set_desired(self, name: str, desired: int, *, honor_cooldown: bool = False) -> group_models.ScalingGroup:
        """Raises NotFound, InvalidParameterValue (outside of min and max), Conflict (in its cooldown)."""
        return self._loop.run(self._inner.set_desired(name, desired, honor_cooldown=honor_cooldown))

    def watch(self, name: str) -> Iterator[group_models.GroupView]:
        """Its present state, then every change, until the caller stops or the group is gone. Raises NotFound."""
        return self._loop.iterate(self._inner.watch(name))

    def wait_stable(self, name: str, timeout: float = 300.0) -> group_models.ScalingGroup:
        """Until as many are in service as desired and nothing comes or goes.

        Raises NotFound, DeadlineExceeded (with what failed last).
        """
        return self._loop.run(self._inner.wait_stable(name, timeout))

    def wait_gone(self, name: str, timeout: float = 300.0) -> None:
        """Until a group that was deleted is no more. Raises DeadlineExceeded."""
        self._loop.run(self._inner.wait_gone(name, timeout))

    def members(
        self, name: str = "", *, instance_ids: Sequence[str] = (), page_size: int = 100
    ) -> Iterator[group_models.GroupMember]:
        """Of one group, or of all. Raises NotFound."""
        return self._loop.iterate(self._inner.members(name, instance_ids=instance_ids, page_size=page_size))

    def attach(self, name: str, *instance_ids: str) -> group_models.ScalingGroup:
        """Running instances become members; desired grows by as many. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.attach(name, *instance_ids))

    def detach(self, name: str, *instance_ids: str, decrement: bool) -> group_models.ScalingGroup:
        """They run on, on their own. decrement: desired shrinks; else they are replaced."""
        return self._loop.run(self._inner.detach(name, *instance_ids, decrement=decrement))

    def enter_standby(self, name: str, *instance_ids: str, decrement: bool) -> group_models.ScalingGroup:
        """They get no requests and are not replaced when they fail; as for `detach`."""
        return self._loop.run(self._inner.enter_standby(name, *instance_ids, decrement=decrement))

    def exit_standby(self, name: str, *instance_ids: str) -> group_models.ScalingGroup:
        """Back into service; desired grows by as many."""
        return self._loop.run(self._inner.exit_standby(name, *instance_ids))

    def protect(self, name: str, *instance_ids: str, protected: bool = True) -> group_models.ScalingGroup:
        """From being ended by a scale-in, or no longer."""
        return self._loop.run(self._inner.protect(name, *instance_ids, protected=protected))

    def set_health(self, instance_id: str, status: str, *, ignore_grace: bool = False) -> group_models.ScalingGroup:
        """status: Healthy, Unhealthy. What is unhealthy is replaced. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.set_health(instance_id, status, ignore_grace=ignore_grace))

    def terminate_instance(self, instance_id: str, *, decrement: bool) -> group_models.ScalingGroup:
        """decrement: desired shrinks; else it is replaced. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.terminate_instance(instance_id, decrement=decrement))

    def attach_target_groups(self, name: str, *arns: str) -> group_models.ScalingGroup:
        """Its instances become targets. Raises InvalidParameterValue: there is no such target group."""
        return self._loop.run(self._inner.attach_target_groups(name, *arns))

    def detach_target_groups(self, name: str, *arns: str) -> group_models.ScalingGroup:
        """Its instances are drained, and targets no more."""
        return self._loop.run(self._inner.detach_target_groups(name, *arns))

    def suspend(self, name: str, *processes: str) -> group_models.ScalingGroup:
        """Launch, Terminate, AddToLoadBalancer, AlarmNotification, AZRebalance, HealthCheck, InstanceRefresh,
        ReplaceUnhealthy, ScheduledActions; none named: all. Raises NotFound, InvalidParameterValue."""
        return self._loop.run(self._inner.suspend(name, *processes))

    def resume(self, name: str, *processes: str) -> group_models.ScalingGroup:
        return self._loop.run(self._inner.resume(name, *processes))

    def tag(self, name: str, tags: Mapping[str, str], *, local_tags: Sequence[str] = ()) -> group_models.ScalingGroup:
        """local_tags: which of them instances do not get. Those that run keep what they have."""
        return self._loop.run(self._inner.tag(name, tags, local_tags=local_tags))

    def untag(self, name: str, *keys: str) -> group_models.ScalingGroup:
        """A key that is not there is not an error."""
        return self._loop.run(self._inner.untag(name, *keys))

    def collect_metrics(self, name: str, *metrics: str, stop: bool = False) -> group_models.ScalingGroup:
        """Report group metrics (GroupDesiredCapacity, ...) once a minute, or no longer; none named: all."""
        return self._loop.run(self._inner.collect_metrics(name, *metrics, stop=stop))

    def set_notifications(self, name: str, topic: str, *events: str) -> group_models.ScalingGroup:
        """Have a topic (ARN) told how launches and terminations ended; no events: no longer.

        events: "launch", "launch-error", "terminate", "terminate-error", or AWS's names. The topic gets a test
        notification first. Raises NotFound, InvalidParameterValue (it cannot be told).
        """
        return self._loop.run(self._inner.set_notifications(name, topic, *events))

    def put_hook(
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
        return self._loop.run(
            self._inner.put_hook(
                name,
                hook,
                transition,
                timeout_s=timeout_s,
                default_result=default_result,
                target=target,
                metadata=metadata,
            )
        )

    def delete_hook(self, name: str, hook: str) -> group_models.ScalingGroup:
        """What waits for it is abandoned. Raises NotFound."""
        return self._loop.run(self._inner.delete_hook(name, hook))

    def complete_action(self, name: str, hook: str, result: str, *, token: str = "", instance_id: str = "") -> None:
        """Let what waits go on. result: CONTINUE, ABANDON. By token or by instance. Raises InvalidParameterValue."""
        self._loop.run(self._inner.complete_action(name, hook, result, token=token, instance_id=instance_id))

    def heartbeat(self, name: str, hook: str, *, token: str = "", instance_id: str = "") -> None:
        """Renew the time that it waits. Raises InvalidParameterValue."""
        self._loop.run(self._inner.heartbeat(name, hook, token=token, instance_id=instance_id))

    def put_warm_pool(
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
        return self._loop.run(
            self._inner.put_warm_pool(
                name, min_size=min_size, max_prepared=max_prepared, state=state, reuse_on_scale_in=reuse_on_scale_in
            )
        )

    def delete_warm_pool(self, name: str) -> group_models.ScalingGroup:
        return self._loop.run(self._inner.delete_warm_pool(name))

    def start_refresh(
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
        return self._loop.run(
            self._inner.start_refresh(
                name,
                template=template,
                version=version,
                types=types,
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
        )

    def cancel_refresh(self, name: str) -> group_models.InstanceRefresh:
        """What is being replaced is finished. Raises NotFound: none is under way."""
        return self._loop.run(self._inner.cancel_refresh(name))

    def rollback_refresh(self, name: str) -> group_models.InstanceRefresh:
        """Back to what the group had. Raises NotFound, InvalidParameterValue (there is no way back)."""
        return self._loop.run(self._inner.rollback_refresh(name))

    def refreshes(self, name: str, *, page_size: int = 100) -> Iterator[group_models.InstanceRefresh]:
        """The newest first. Raises NotFound."""
        return self._loop.iterate(self._inner.refreshes(name, page_size=page_size))

    def wait_refresh(self, name: str, refresh_id: str, timeout: float = 3600.0) -> group_models.InstanceRefresh:
        """Until it has ended, well or not. Raises NotFound, DeadlineExceeded."""
        return self._loop.run(self._inner.wait_refresh(name, refresh_id, timeout))

    def activities(self, name: str = "", *, page_size: int = 100) -> Iterator[group_models.ScalingActivity]:
        """What happened and why, the newest first, of one group or of all. Raises NotFound."""
        return self._loop.iterate(self._inner.activities(name, page_size=page_size))
