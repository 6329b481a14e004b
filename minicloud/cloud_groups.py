"""Auto scaling groups, plugged in: the machine in its shell, the service over it, and the streams that tell it what is.

    instances    one stream of the control plane (cloud_members.py)
    targets      one stream of each balancer process (cloud_targets.py)
    the sweep    once after a start: an instance that carries a group's name and is none of its members is ended

Streams that break are opened again and ask for everything again, so nothing that happened meanwhile is missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, NotFound
from minicloud.cloud_alarm_actions import publish, send
from minicloud.cloud_calls import Calls
from minicloud.cloud_group_metrics import GroupReports, PolicyMetrics
from minicloud.cloud_launches import Launches
from minicloud.cloud_members import MemberInstances
from minicloud.cloud_targets import TargetHealth, Targets
from minicloud.metric.service import MetricService
from minicloud.rpc import fleet_auth
from minicloud.scaling.commands import TargetSeen
from minicloud.scaling.errors import no_such_instance
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Group, Member
from minicloud.scaling.service import Ports, ScalingService
from minicloud.scaling.state import Touched
from minicloud.settings import CloudSettings
from minicloud.shell.clock import Clock
from minicloud.shell.shell import Shell
from minicloud.shell.waiters import Waiters
from minicloud.store.sqlite import SqliteJournal

log = logging.getLogger("minicloud.autoscaler")

SWEEP_AGAIN_S = 5.0


class Groups:
    """Everything of groups in the autoscaler's process, around one journal."""

    def __init__(self, cloud: CloudSettings, secret: bytes, who: str, calls: Calls, clock: Clock) -> None:
        folder = cloud.autoscaler_path
        rand = random.SystemRandom()
        self._cloud, self._calls, self._clock, self._rand = cloud, calls, clock, rand
        self._who = who
        self.journal = SqliteJournal(folder / "groups.db")
        self.machine = Scaling()
        self.shell = Shell(self.machine, self.journal, clock=clock, rand=rand, on_effects=self._on_effects)
        self.launches = Launches(calls, self._scope_of)
        self._health = TargetHealth(cloud, secret, calls, who)
        proof = ((fleet_auth.METADATA, fleet_auth.token(secret, who)),)
        self._instances = MemberInstances(calls, proof, self.machine.state, self.shell.submit, clock)
        self._sweep: asyncio.Task[None] | None = None
        self.service: ScalingService
        self._reports: GroupReports

    def plug(self, metrics: MetricService) -> None:
        """What policies read; before anything else."""
        state = self.machine.state
        self._reports = GroupReports(metrics, state, self._clock)
        self.service = ScalingService(
            self.machine,
            Ports(
                submit=self.shell.submit,
                barrier=self.shell.barrier,
                shown=self.shell.shown,
                catalog=self.launches,
                launcher=self.launches,
                registrar=Targets(self._calls),
                notifier=Notices(self._calls),
                metrics=PolicyMetrics(metrics, state, self._clock),
                waiters=Waiters(self._clock),
                clock=self._clock,
                rand=self._rand,
            ),
        )

    async def load(self) -> None:
        """Take the lease, replay. Raises what the journal raises."""
        await self.shell.start(self._who)

    def start(self) -> None:
        """Go on with what was under way."""
        self.service.start()
        self._instances.start()
        self._health.start(self)
        self._reports.start()
        self._sweep = asyncio.create_task(self._sweep_all())

    async def stop(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait([self._sweep])
        await self._reports.close()
        await self._health.close()
        await self._instances.close()
        await self.service.close()
        await self.shell.stop()
        self.journal.close()

    def _scope_of(self, instance_id: str) -> Scope:
        member = self.machine.state.member_of(instance_id)
        if member is None:
            raise no_such_instance(instance_id)
        return self.machine.state.groups[member.group].scope

    # --- what records ask for

    def _on_effects(self, effects: Sequence[Any]) -> None:
        for one in effects:
            if not isinstance(one, Touched):
                continue
            if isinstance(one.entity, Member) and one.entity.instance_id:
                self._instances.ask(one.entity.instance_id)
            elif isinstance(one.entity, Group):
                self._health.follow((*one.entity.target_groups, *one.entity.leaving))
        self.service.on_effects(effects)

    # --- cloud_targets.Finder

    def target_groups(self) -> Iterable[str]:
        groups = self.machine.state.groups.values()
        return {arn for group in groups for arn in (*group.target_groups, *group.leaving)}

    async def fares(self, instance_id: str, healthy: bool) -> None:
        member = self.machine.state.member_of(instance_id)
        if member is not None and member.target_bad == healthy:
            await self.shell.submit(TargetSeen(instance_id, healthy))

    def let_go(self, instance_id: str) -> None:
        self.service.wake(instance_id)

    # --- the sweep

    async def _sweep_all(self) -> None:
        """A damaged journal may have lost a member: then nobody is ended for not being one."""
        if self.journal.damage:
            log.error("instances of groups are not swept: the journal of groups is damaged")
            return
        waiting = {group.scope for group in self.machine.state.groups.values()}
        while waiting:
            for scope in list(waiting):
                with contextlib.suppress(CloudError):
                    if await self._swept(scope):
                        waiting.discard(scope)
            if waiting:
                await asyncio.sleep(SWEEP_AGAIN_S)

    async def _swept(self, scope: Scope) -> bool:
        """End the orphans of a scope. False: a launch is under way, so whose its instance is cannot be said yet."""
        before, serials = set(self._instances.ids()), self._settled(scope)
        if serials is None:
            return False
        found = [pair async for pair in self.launches.of_groups(scope)]
        if self._settled(scope) != serials:
            return False
        for instance_id, name in found:
            known = instance_id in before or self.machine.state.member_of(instance_id) is not None
            if not known and scope.key(name) in serials:
                log.warning("%s carries the name of the group %s and is none of its members: ended", instance_id, name)
                with contextlib.suppress(NotFound):
                    await self.launches.terminate(instance_id, scope)
        return True

    def _settled(self, scope: Scope) -> dict[str, int] | None:
        """The groups of a scope with the number of their next member; None while one waits for its instance."""
        state, serials = self.machine.state, dict[str, int]()
        for group in state.of_scope(scope):
            roster = state.rosters.get(group.key)
            if roster is not None and any(not member.instance_id for member in roster.members.values()):
                return None
            serials[group.key] = group.serial
        return serials


class Notices:
    """Implements scaling.ports.Notifier."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def tell(self, scope: Scope, target: str, subject: str, text: str) -> None:
        if target.startswith("arn:aws:sns:"):
            await publish(self._calls, scope, target, subject, text)
        else:
            await send(self._calls, scope, target, text)
