"""Auto scaling groups, plugged in: the machine in its shell, the service over it, and the streams that tell it what is.

    instances    one stream of the control plane (cloud_members.py)
    targets      one stream of each balancer process (cloud_targets.py)
    the sweep    once after a start, for instances that are nobody's (cloud_orphans.py); not after damage of the
                 journal, which may have lost the member

Streams that break are opened again and ask for everything again, so nothing that happened meanwhile is missed.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from minicloud.base.arn import Scope
from minicloud.cloud_alarm_actions import publish, send
from minicloud.cloud_calls import FUNCTIONS_OF, Calls
from minicloud.cloud_group_metrics import GroupReports, PolicyMetrics
from minicloud.cloud_launches import Launches
from minicloud.cloud_members import MemberInstances
from minicloud.cloud_orphans import OrphanSweep
from minicloud.cloud_targets import TargetHealth, Targets
from minicloud.cloud_telling import event_id, tell
from minicloud.metric.service import MetricService
from minicloud.rpc import fleet_auth
from minicloud.scaling.commands import TargetSeen, TargetsGone, Unheard
from minicloud.scaling.errors import no_such_instance
from minicloud.scaling.machine import Scaling
from minicloud.scaling.model import Group, Member
from minicloud.scaling.notices import BUS
from minicloud.scaling.service import Ports, ScalingService
from minicloud.scaling.state import State, Touched
from minicloud.settings import CloudSettings
from minicloud.shell.clock import Clock
from minicloud.shell.shell import Shell
from minicloud.shell.waiters import Waiters
from minicloud.store.sqlite import SqliteJournal
from minicloud.wire import fleet_pb2

log = logging.getLogger("minicloud.autoscaler")


class Groups:
    """Everything of groups in the autoscaler's process, around one journal."""

    def __init__(self, cloud: CloudSettings, secret: bytes, who: str, calls: Calls, clock: Clock) -> None:
        folder = cloud.autoscaler_path
        rand = random.SystemRandom()
        self._cloud, self._calls, self._clock, self._rand = cloud, calls, clock, rand
        self._who, self._secret = who, secret
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
                notifier=Notices(self._calls, self._secret, self._who, state, self.shell.submit),
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
                if not (one.entity.target_bad or one.entity.target_passed):  # it may have been attached just now
                    self._health.repeat(one.entity.instance_id)
            elif isinstance(one.entity, Group):
                self._health.follow((*one.entity.target_groups, *one.entity.leaving))
        self.service.on_effects(effects)

    # --- cloud_targets.Finder

    def target_groups(self) -> Iterable[str]:
        groups = self.machine.state.groups.values()
        return {arn for group in groups for arn in (*group.target_groups, *group.leaving)}

    async def fares(self, instance_id: str, healthy: bool, passed: bool) -> None:
        member = self.machine.state.member_of(instance_id)
        if member is not None and (member.target_bad, member.target_passed) != (not healthy, passed):
            await self.shell.submit(TargetSeen(instance_id, healthy, passed))

    def let_go(self, instance_id: str) -> None:
        self.service.wake(instance_id)

    async def gone(self, target_group: str) -> None:
        for group in [one for one in self.machine.state.groups.values() if target_group in one.target_groups]:
            log.warning("the target group %s of %s does not exist any more", target_group, group.key)
            await self.shell.submit(TargetsGone(group.key, target_group))


class Notices:
    """Implements scaling.ports.Notifier. `submit` takes what the event bus says of a scope to the machine."""

    def __init__(
        self, calls: Calls, secret: bytes, who: str, state: State, submit: Callable[[Unheard], Awaitable[Any]]
    ) -> None:
        self._calls, self._secret, self._who, self._state, self._submit = calls, secret, who, state, submit

    async def tell(self, scope: Scope, target: str, subject: str, text: str) -> None:
        if target.startswith(BUS):
            await self._happened(scope, json.loads(text))
        elif target.startswith("arn:aws:sns:"):
            await publish(self._calls, scope, target, subject, text)
        else:
            await send(self._calls, scope, target, text)

    async def _happened(self, scope: Scope, told: dict[str, Any]) -> None:
        listener = self._state.listeners.get(scope.key())
        event = fleet_pb2.CloudEvent(
            id=event_id(told["key"]),
            account=scope.account,
            region=scope.region,
            source=told["source"],
            detail_type=told["detail-type"],
            time=told["time"],
            resources=told["resources"],
            detail=json.dumps(told["detail"]),
        )
        unheard = await tell(self._calls.shard_channel(FUNCTIONS_OF, scope), self._secret, self._who, [event])
        if listener is not None and unheard:
            await self._submit(Unheard(scope, listener.number))
