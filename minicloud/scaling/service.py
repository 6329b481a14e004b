"""Auto scaling, made to happen: what the records ask for goes to compute and balancers, what comes of it comes back.

    request, report -> shell.submit(command) -> reply
                         | effects (Touched)
                         v
    a member that is not plain    its orders are carried out, again and again until a report changes it
    a group with policies         every minute its metrics are read, every hour its load is forecast

Orders are looked up when their turn comes, behind a barrier: nothing is done in the world that is not on disk. After a
restart every member is looked at once, so a crash at any point costs a repetition, and repetitions are harmless.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from minicloud.base.errors import (
    CloudError,
    DeadlineExceeded,
    InsufficientCapacity,
    Internal,
    NotFound,
    Throttled,
    Unavailable,
)
from minicloud.scaling import commands, limits
from minicloud.scaling.forecast import forecast, history
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Group, Member, Policy
from minicloud.scaling.orders import Deregister, Launch, Order, Register, Start, Stop, orders
from minicloud.scaling.ports import InstanceLauncher, MetricReader, TargetRegistrar
from minicloud.scaling.rules import rule_of
from minicloud.scaling.state import Touched
from minicloud.scaling.tracking import Reading, TargetTracking
from minicloud.shell.clock import Clock
from minicloud.shell.reconcile import Reconciler

log = logging.getLogger(__name__)

AGAIN_S = 5.0  # ours: an order that no report has answered is given again
DRAIN_AGAIN_S = 1.0  # ours: how often balancers are asked whether an instance is drained
UNKNOWN = (Unavailable, DeadlineExceeded, Throttled, Internal)  # whether it was done is not known


@dataclass(frozen=True, slots=True)
class Ports:
    """What the service is plugged into."""

    submit: Callable[[Any], Awaitable[Any]]
    barrier: Callable[[], Awaitable[None]]
    launcher: InstanceLauncher
    registrar: TargetRegistrar
    metrics: MetricReader
    clock: Clock
    rand: random.Random


class ScalingService:
    """The hands (one key a member) and the eyes (one key a group) of the autoscaler, in one event loop."""

    def __init__(self, machine: Scaling, ports: Ports) -> None:
        self.state = machine.state
        self._ports = ports
        self._hands: Reconciler[str] = Reconciler(self._serve, clock=ports.clock, rand=ports.rand)
        self._eyes: Reconciler[str] = Reconciler(self._watch, clock=ports.clock, rand=ports.rand)
        self._forecast_at: dict[str, float] = {}

    def start(self) -> None:
        """After the journal was loaded."""
        for key, group in self.state.groups.items():
            self._wake(group)
            self._eyes.wake(key)
        self._hands.start()
        self._eyes.start()

    async def close(self) -> None:
        await self._hands.stop()
        await self._eyes.stop()

    def on_effects(self, effects: Iterable[Any]) -> None:
        for effect in effects:
            if not isinstance(effect, Touched):
                continue
            if effect.kind == Member.kind:
                self._hands.wake(effect.key)
            elif isinstance(effect.entity, Group):
                self._wake(effect.entity)
            elif isinstance(effect.entity, Policy):
                self._eyes.wake(effect.entity.group)

    def _wake(self, group: Group) -> None:
        """What a group is told may change what its members need: other target groups, another pool."""
        roster = self.state.rosters.get(group.key)
        if roster is None:
            return
        for key in roster.members if group.target_groups else roster.odd:
            self._hands.wake(key)

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
            for target_group in order.target_groups:
                await self._ports.registrar.register(target_group, order.instance_id)
            return None
        if isinstance(order, Deregister):
            return await self._deregister(order)
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
            full = isinstance(error, InsufficientCapacity)
            failed = commands.LaunchFailed(order.group, order.number, error.code, error.message, capacity=full)
            await self._ports.submit(failed)
            return
        await self._ports.submit(
            commands.Launched(order.group, order.number, answer.instance_id, answer.zone, order.type, answer.version)
        )

    async def _deregister(self, order: Deregister) -> float | None:
        gone = [await self._ports.registrar.deregister(one, order.instance_id) for one in order.target_groups]
        if not all(gone):
            return DRAIN_AGAIN_S
        await self._ports.submit(commands.Drained(order.instance_id))
        return None

    # --- the eyes

    async def _watch(self, key: str, now: float) -> float | None:
        """Let a group's policies see their metrics. Returns the next whole period; None: it has no such policies."""
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
        await self._ports.submit(commands.Evaluate(group.scope, group.name, readings))
        return (math.floor(now / period) + 1.0) * period

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
        if now < self._forecast_at.get(policy.key, 0.0):
            return
        try:
            points = await self._ports.metrics.history(policy.group, policy.key, limits.HISTORY_S_MAX)
        except CloudError as error:
            log.warning("the history of %s could not be read: %s", policy.key, error)
            return
        self._forecast_at[policy.key] = now + limits.REFRESH_S
        made = forecast(history(points, now))
        if made is not None:
            await self._ports.submit(commands.ForecastMade(group.scope, group.name, policy.name, made))
