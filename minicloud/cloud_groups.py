"""Auto scaling groups, plugged in: the machine in its shell, the service over it, and the streams that tell it what is.

    instances    one stream of the control plane (cloud_members.py)
    targets      one stream of each balancer process (cloud_targets.py)
    the sweep    once after a start, for instances that are nobody's (cloud_orphans.py); not after damage of the
                 journal, which may have lost the member

Streams that break are opened again and ask for everything again, so nothing that happened meanwhile is missed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.cloud_alarm_actions import publish, send
from minicloud.cloud_calls import Calls
from minicloud.cloud_group_metrics import GroupReports, PolicyMetrics
from minicloud.cloud_launches import Launches
from minicloud.cloud_members import MemberInstances
from minicloud.cloud_orphans import OrphanSweep
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
        self._sweep = OrphanSweep(self.launches, self.machine.state, clock)
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
        if self.journal.damage:
            log.error("instances of groups are not swept: the journal of groups is damaged")
        else:
            self._sweep.start()

    async def stop(self) -> None:
        await self._sweep.close()
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


class Notices:
    """Implements scaling.ports.Notifier."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def tell(self, scope: Scope, target: str, subject: str, text: str) -> None:
        if target.startswith("arn:aws:sns:"):
            await publish(self._calls, scope, target, subject, text)
        else:
            await send(self._calls, scope, target, text)
