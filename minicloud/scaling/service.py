"""Auto scaling, made to happen: what the records ask for goes to compute and balancers, what comes of it comes back.

    request, report -> shell.submit(command) -> reply
                         | effects (Touched)
                         v
    a member that is not plain    its orders are carried out, again and again until a report changes it
    a group with policies         every minute its metrics are read, every hour its load is forecast
    a target group that it left   is told to forget its instances
    an activity that has ended    the topics that want to know of it are told
    a refresh with alarms         is failed, or rolled back, as soon as one of them goes off

Orders are looked up when their turn comes, behind a barrier: nothing is done in the world that is not on disk. After a
restart every member is looked at once, so a crash at any point costs a repetition, and repetitions are harmless.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from minicloud.base.arn import Scope
from minicloud.base.errors import (
    CloudError,
    DeadlineExceeded,
    InsufficientCapacity,
    Internal,
    InvalidRequest,
    NotFound,
    Throttled,
    Unavailable,
)
from minicloud.scaling import commands, errors, limits
from minicloud.scaling.forecast import forecast, history
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Activity, Group, Member, Policy, Refresh, group_of
from minicloud.scaling.notices import (
    BUS,
    activity_event,
    activity_notice,
    activity_subject,
    hook_notice,
    hook_subject,
    trial_notice,
    trial_subject,
)
from minicloud.scaling.orders import Deregister, Launch, Notify, Order, Register, Start, Stop, orders
from minicloud.scaling.ports import (
    FoundTemplate,
    InstanceCatalog,
    InstanceLauncher,
    MetricReader,
    Notifier,
    TargetRegistrar,
)
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import State, Stumbled, Touched
from minicloud.scaling.tracking import Reading, TargetTracking
from minicloud.shell.clock import Clock
from minicloud.shell.reconcile import Reconciler
from minicloud.shell.waiters import Waiters

T = TypeVar("T")
log = logging.getLogger(__name__)

ARRIVED_S = 3.0  # ours: by then what a period measured has arrived
AGAIN_S = 5.0  # ours: an order that no report has answered is given again
DRAIN_AGAIN_S = 30.0  # ours: balancers tell when an instance is drained (see `wake`); so often they are asked anyway
GUARD_S = 1.0  # ours: how often the alarms of a refresh are looked at
UNKNOWN = (Unavailable, DeadlineExceeded, Throttled, Internal)  # whether it was done is not known


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into."""

    submit: Callable[[Any], Awaitable[Any]]
    barrier: Callable[[], Awaitable[None]]
    shown: Callable[[Callable[[], Any]], Awaitable[Any]]
    catalog: InstanceCatalog
    launcher: InstanceLauncher
    registrar: TargetRegistrar
    notifier: Notifier
    metrics: MetricReader
    waiters: Waiters
    clock: Clock
    rand: random.Random


class ScalingService:
    """The hands (one key a member) and the eyes (one key a group) of the autoscaler, in one event loop."""

    def __init__(self, machine: Scaling, ports: Ports) -> None:
        self.state = machine.state
        self.readings: dict[str, Reading] = {}  # the newest of each target tracking policy, by its key
        self._ports = ports
        self._hands: Reconciler[str] = Reconciler(self._serve, clock=ports.clock, rand=ports.rand)
        self._eyes: Reconciler[str] = Reconciler(self._watch, clock=ports.clock, rand=ports.rand)
        self._farewells: Reconciler[str] = Reconciler(self._leave, clock=ports.clock, rand=ports.rand)
        self._heralds: Reconciler[str] = Reconciler(self._tell, clock=ports.clock, rand=ports.rand)
        self._guards: Reconciler[str] = Reconciler(self._guard, clock=ports.clock, rand=ports.rand)
        self._forecasts: dict[
            str, tuple[Any, float]
        ] = {}  # policy -> of which load the newest is, when the next is due

    def start(self) -> None:
        """After the journal was loaded."""
        for key, group in self.state.groups.items():
            self._wake(group)
            self._eyes.wake(key)
            for activity in self.state.rosters[key].activities.values() if key in self.state.rosters else ():
                if activity.tell:
                    self._heralds.wake(activity.key)
            if group.refresh:
                self._guards.wake(group.refresh)
        self._hands.start()
        self._eyes.start()
        self._farewells.start()
        self._heralds.start()
        self._guards.start()

    async def close(self) -> None:
        await self._hands.stop()
        await self._eyes.stop()
        await self._farewells.stop()
        await self._heralds.stop()
        await self._guards.stop()
        self.waiters.notify_all()

    @property
    def waiters(self) -> Waiters:
        """Nudged by the key of a group whenever anything of it changes, or its metrics were read."""
        return self._ports.waiters

    # --- requests

    async def ask(self, command: Any) -> Any:
        """A request of a user: what it names must exist, then the machine decides. Raises CloudError."""
        if isinstance(command, commands.CreateGroup | commands.UpdateGroup):
            settings = await self._checked(command.scope, command.settings)
            if settings.zones is None and isinstance(command, commands.CreateGroup):
                settings = replace(settings, zones=await self._ports.catalog.zones(command.scope))
            command = replace(command, settings=settings)
        elif isinstance(command, commands.StartRefresh):
            command = await self._fixed(command)
            await self._check_alarms(command)
        elif isinstance(command, commands.ChangeTargets):
            await self._check_targets(command.scope, command.add)
        elif isinstance(command, commands.SetNotifications) and command.events:
            await self._try_topic(command)
        reply = await self._ports.submit(command)
        if isinstance(command, commands.Attach):
            await self._claim(command)
        return reply

    async def _claim(self, command: commands.Attach) -> None:
        """An attached instance without the group's name is a member all the same."""
        for one in command.instances:
            try:
                await self._ports.launcher.claim(one.instance_id, command.name)
            except CloudError as error:
                log.warning("%s does not carry the name of its group: %s", one.instance_id, error)

    async def shown(self, look: Callable[[State], T]) -> T:
        """What `look` sees, or raises, once all of it is on disk."""
        seen: T = await self._ports.shown(lambda: look(self.state))
        return seen

    async def found(self, scope: Scope, ids: Sequence[str]) -> tuple[commands.Found, ...]:
        """Instances that are to be attached. Raises InvalidParameterValue."""
        try:
            return tuple(await self._ports.catalog.instances(scope, ids))
        except (NotFound, InvalidRequest) as error:
            raise errors.invalid(
                f"Invalid Instance ID(s): {', '.join(ids)[:255]} ({error.message})", "instance_ids"
            ) from None

    async def _checked(self, scope: Scope, given: commands.GroupSettings) -> commands.GroupSettings:
        """Templates by their id; zones that are there; types and target groups that exist."""
        if given.template is not None and given.template.get("id"):
            found = await self._template(scope, given.template)
            given = replace(given, template={**given.template, "id": found.id, "name": found.name})
        if given.zones:
            there = await self._ports.catalog.zones(scope)
            for zone in given.zones:
                if zone not in there:
                    raise errors.no_such_zone(zone)
        await self._check_types(scope, given.types)
        await self._check_targets(scope, given.target_groups or ())
        return given

    async def _fixed(self, command: commands.StartRefresh) -> commands.StartRefresh:
        """The version of its template as a number."""
        own = await self.shown(lambda state: state.group(command.scope, command.name).template)
        found = await self._template(command.scope, command.template or own)
        await self._check_types(command.scope, command.types)
        if command.template is not None:
            command = replace(command, template={"id": found.id, "name": found.name, "version": found.number})
        return replace(command, version=found.number)

    async def _template(self, scope: Scope, template: dict[str, str]) -> FoundTemplate:
        reference, version = template["id"], template.get("version", "")
        try:
            return await self._ports.catalog.template(scope, reference, version)
        except (NotFound, InvalidRequest) as error:
            by_version = error.code == "InvalidLaunchTemplateId.VersionNotFound" or "version" in (error.field or "")
            raise errors.no_such_template(reference, version or "$Default" if by_version else "") from None

    async def _check_types(self, scope: Scope, types: Sequence[str] | None) -> None:
        try:
            await self._ports.catalog.check_types(scope, types or ())
        except (NotFound, InvalidRequest) as error:
            raise errors.invalid(error.message, "types") from None

    async def _check_targets(self, scope: Scope, arns: Sequence[str]) -> None:
        """Another account's do not exist for this one."""
        own = scope.arn("elasticloadbalancing", "targetgroup/")
        for arn in arns:
            if not arn.startswith(own):
                raise errors.no_such_target_group()
            try:
                await self._ports.registrar.check(arn)
            except (NotFound, InvalidRequest):
                raise errors.no_such_target_group() from None

    async def _check_alarms(self, command: commands.StartRefresh) -> None:
        known = await self._ports.metrics.alarms(command.scope, command.alarms)
        for name in command.alarms:
            if name not in known:
                raise errors.invalid(f"The alarm {name[:255]} does not exist", "alarms")

    async def _try_topic(self, command: commands.SetNotifications) -> None:
        """It gets a test notification, as at AWS. Raises InvalidParameterValue where it cannot be told."""
        group = await self.shown(lambda state: state.group(command.scope, command.name))
        text = trial_notice(group, self._ports.clock.wall())
        try:
            await self._ports.notifier.tell(group.scope, command.topic, trial_subject(group), text)
        except (NotFound, InvalidRequest) as error:
            why = f"Unable to publish test message to notification target {command.topic[:255]} ({error.message})"
            raise errors.invalid(why, "topic") from None

    # --- what comes of records

    def on_effects(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Stumbled):
                log.error("the group %s is looked at again later", effect.group, exc_info=effect.error)
            if not isinstance(effect, Touched):
                continue
            if effect.kind == Member.kind:
                self._hands.wake(effect.key)
            elif isinstance(effect.entity, Group):
                self._wake(effect.entity)
            elif isinstance(effect.entity, Policy):
                self._eyes.wake(effect.entity.group)
            elif isinstance(effect.entity, Activity) and effect.entity.tell:
                self._heralds.wake(effect.key)
            elif isinstance(effect.entity, Refresh) and effect.entity.guarded:
                self._guards.wake(effect.key)
            self.waiters.notify(group_of(effect.kind, effect.key))

    def wake(self, instance_id: str) -> None:
        """Something about it changed that is in no record: a balancer has let go of it."""
        member = self.state.member_of(instance_id)
        if member is not None:
            self._hands.wake(member.key)
            self._farewells.wake(member.group)

    def _wake(self, group: Group) -> None:
        """What a group is told may change what its members need: other target groups, another pool."""
        roster = self.state.rosters.get(group.key)
        if roster is None:
            return
        for key in roster.members if group.target_groups else roster.odd:
            self._hands.wake(key)
        if group.leaving:
            self._farewells.wake(group.key)

    # --- the hands

    async def _serve(self, key: str, now: float) -> float | None:
        """Carry out what a member needs now. Returns when to do it again if nothing is heard."""
        await self._ports.barrier()
        pauses = [await self._carry_out(order) for order in self._orders(key)]
        again = min((pause for pause in pauses if pause is not None), default=None)
        return None if again is None else self._ports.clock.wall() + again

    def _orders(self, key: str) -> list[Order]:
        group_key = key.rpartition("/")[0]
        group, roster = self.state.groups.get(group_key), self.state.rosters.get(group_key)
        member = roster.members.get(key) if roster is not None else None
        return orders(group, member) if group is not None and member is not None else []

    async def _carry_out(self, order: Order) -> float | None:
        if isinstance(order, Launch):
            await self._launch(order)
            return None
        if isinstance(order, Register):
            return await self._register_all(order)
        if isinstance(order, Deregister):
            return await self._deregister(order)
        if isinstance(order, Notify):
            await self._notify(order)
            return None
        launcher = self._ports.launcher
        call = launcher.start if isinstance(order, Start) else launcher.stop if isinstance(order, Stop) else None
        try:
            await (call or launcher.terminate)(order.instance_id)
        except NotFound:
            await self._ports.submit(commands.InstanceSeen(order.instance_id, "terminated"))
        return AGAIN_S

    async def _launch(self, order: Launch) -> None:
        """An answer, good or bad, is final; an error that says nothing is left to the back-off of the reconciler."""
        try:
            answer = await self._ports.launcher.launch(order)
        except UNKNOWN:
            raise
        except CloudError as error:
            failed = commands.LaunchFailed(order.group, order.number, error.code, error.message, _blames(error))
            await self._ports.submit(failed)
            return
        await self._ports.submit(
            commands.Launched(
                order.group, order.number, answer.instance_id, answer.zone, answer.type or order.type, answer.version
            )
        )

    async def _register_all(self, order: Register) -> float | None:
        """A target group that cannot take it keeps it from no other; one that is gone is the group's no more."""
        failed: CloudError | None = None
        for target_group in order.target_groups:
            try:
                await self._register(target_group, order.instance_id)
            except NotFound:
                await self._gone(target_group, order.instance_id)
            except CloudError as error:
                failed = error
        if failed is not None:
            raise failed
        return None

    async def _register(self, target_group: str, instance_id: str) -> None:
        """Undone where the group, or the instance, left meanwhile: nobody else would think of it."""
        await self._ports.registrar.register(target_group, instance_id)
        member = self.state.member_of(instance_id)
        group = self.state.groups.get(member.group) if member is not None else None
        if group is None or target_group not in group.target_groups:
            await self._ports.registrar.deregister(target_group, instance_id)

    async def _gone(self, target_group: str, instance_id: str) -> None:
        member = self.state.member_of(instance_id)
        if member is not None:
            log.warning("the target group %s of %s does not exist any more", target_group, member.group)
            await self._ports.submit(commands.TargetsGone(member.group, target_group))

    async def _deregister(self, order: Deregister) -> float | None:
        gone = [await self._ports.registrar.deregister(one, order.instance_id) for one in order.target_groups]
        if not all(gone):
            return DRAIN_AGAIN_S
        if order.release:
            with contextlib.suppress(NotFound):
                await self._ports.launcher.release(order.instance_id)
        await self._ports.submit(commands.Drained(order.instance_id))
        return None

    async def _notify(self, order: Notify) -> None:
        """What cannot be told is not tried for ever: the hook's timeout ends the waiting."""
        member = self.state.member_of(order.instance_id)
        group = self.state.groups.get(member.group) if member is not None else None
        if member is None or group is None or order.hook not in group.hooks or order.hook not in (member.waits or {}):
            return
        text, subject = (
            hook_notice(group, member, order.hook, self._ports.clock.wall()),
            hook_subject(group, order.hook),
        )
        try:
            await self._ports.notifier.tell(group.scope, group.hooks[order.hook]["target"], subject, text)
        except UNKNOWN:
            raise
        except CloudError as error:
            log.warning("the target of the lifecycle hook %s of %s is not told: %s", order.hook, group.key, error)
        await self._ports.submit(commands.HookTold(order.instance_id, order.hook, order.token))

    async def _tell(self, key: str, now: float) -> float | None:
        """Tell topics and the event bus how an activity ended. A topic that is not there any more is told no more."""
        group_key = group_of(Activity.kind, key)
        group, roster = self.state.groups.get(group_key), self.state.rosters.get(group_key)
        activity = roster.activities.get(key) if roster is not None else None
        if group is None or activity is None:
            return None
        await self._ports.barrier()
        subject, notice = activity_subject(group, activity), activity_notice(group, activity)
        for topic in activity.tell:
            text = activity_event(group, activity) if topic.startswith(BUS) else notice
            try:
                await self._ports.notifier.tell(group.scope, topic, subject, text)
            except UNKNOWN:
                raise
            except CloudError as error:
                log.warning("%s is not told of an activity of %s: %s", topic, group_key, error)
            await self._ports.submit(commands.Told(group_key, key, topic))
        return None

    async def _leave(self, key: str, now: float) -> float | None:
        """Have the target groups that a group was detached from forget its instances."""
        group, roster = self.state.groups.get(key), self.state.rosters.get(key)
        if group is None or not group.leaving:
            return None
        await self._ports.barrier()
        ids = [one.instance_id for one in roster.members.values() if one.instance_id] if roster is not None else []
        left = True
        for target_group in group.leaving:
            gone = [await self._ports.registrar.deregister(target_group, instance_id) for instance_id in ids]
            left = left and all(gone)
            if all(gone):
                await self._ports.submit(commands.TargetsLeft(key, target_group))
        return None if left else self._ports.clock.wall() + DRAIN_AGAIN_S

    # --- the eyes

    async def _watch(self, key: str, now: float) -> float | None:
        """Let a group's policies see their metrics. Returns when to do it again; None: it has no such policies."""
        roster = self.state.rosters.get(key)
        group = self.state.groups.get(key)
        if group is None or roster is None:
            return None
        period = 0
        readings: dict[str, Reading] = {}
        for policy in list(roster.policies.values()):
            rule = rule_of(policy)
            if isinstance(rule, TargetTracking) and policy.enabled:
                period = min(period or rule.period_s, rule.period_s)
                readings[policy.name] = await self._read(policy, rule.period_s)
            elif policy.type == "PredictiveScaling" and policy.enabled:
                period = period or 60
                await self._forecast(group, policy, now)
        if not period:
            return None
        self.readings.update({f"{key}:{name}": reading for name, reading in readings.items()})
        await self._ports.submit(commands.Evaluate(group.scope, group.name, readings))
        self.waiters.notify(key)
        return (math.floor((now - ARRIVED_S) / period) + 1.0) * period + ARRIVED_S

    async def _guard(self, key: str, now: float) -> float | None:
        """Look at the alarms of a refresh. One that is gone says nothing."""
        group_key = group_of(Refresh.kind, key)
        group, roster = self.state.groups.get(group_key), self.state.rosters.get(group_key)
        refresh = roster.refreshes.get(key) if roster is not None else None
        if group is None or refresh is None or group.refresh != key or not refresh.guarded:
            return None
        states = await self._ports.metrics.alarms(group.scope, refresh.alarms)
        for name in refresh.alarms:
            if states.get(name) == "ALARM":
                await self._ports.submit(commands.RollbackRefresh(group.scope, group.name, name))
                return None
        return now + GUARD_S

    async def _read(self, policy: Policy, period_s: int) -> Reading:
        """A metric that cannot be read is one without data."""
        periods = max(limits.OUT_POINTS, -(-limits.IN_S // period_s))
        try:
            return await self._ports.metrics.read(policy.group, policy.key, periods)
        except CloudError as error:
            log.warning("the metric of %s could not be read: %s", policy.key, error)
            return Reading((None,) * periods, period_s, self._ports.clock.wall())

    async def _forecast(self, group: Group, policy: Policy, now: float) -> None:
        """Every hour; with less than a day of history there is none yet."""
        of, due = self._forecasts.get(policy.key, (None, 0.0))
        if of == policy.foretells and now < due:
            return
        try:
            points = await self._ports.metrics.history(policy.group, policy.key, limits.HISTORY_S_MAX)
        except CloudError as error:
            log.warning("the history of %s could not be read: %s", policy.key, error)
            return
        self._forecasts[policy.key] = policy.foretells, now + limits.REFRESH_S
        made = forecast(history(points, now))
        if made is not None:
            await self._ports.submit(commands.ForecastMade(group.scope, group.name, policy.name, made))


def _blames(error: CloudError) -> str:
    """What a launch that was refused says something about (commands.LaunchFailed)."""
    if isinstance(error, InsufficientCapacity):
        return "place"
    if error.field == "placement.zone":
        return "zone"
    return "type" if isinstance(error, InvalidRequest) or error.field == "instance_type" else "group"
