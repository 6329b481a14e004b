"""The composition root of the autoscaler: metrics and alarms, logs, groups and policies, and the doors in front.

Another part of `cloud.py`, apart from it so that a process, which Ray restarts in a hurry, imports only what it needs.

Three journals, one for each slice: points of metrics come by the thousand and are written together, records of groups
one by one and at once, lines of logs as blocks. When either is lost to another owner, the process ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import secrets
import time
from collections import Counter
from typing import Any

from minicloud import settings
from minicloud.aws.call import Door
from minicloud.aws.forward import Place
from minicloud.aws.services import AUTOSCALER as AWS_OWNER
from minicloud.base import limits
from minicloud.cloud_alarm_actions import AlarmActions
from minicloud.cloud_broker import broker_bind
from minicloud.cloud_calls import Calls
from minicloud.cloud_gateway import AwsFace, entrance
from minicloud.cloud_groups import Groups
from minicloud.cloud_logs import logs_of
from minicloud.cloud_shard import run
from minicloud.logs.aws import CloudWatchLogs
from minicloud.logs.rpc import DESCRIPTOR as LOGS
from minicloud.logs.rpc import LogServicer
from minicloud.logs.service import LogService
from minicloud.metric.aws import CloudWatch
from minicloud.metric.rpc import ALARMS, METRICS, REPORTS, AlarmServicer, MetricServicer, ReportServicer
from minicloud.metric.service import MetricService
from minicloud.rpc.broker_counters import DESCRIPTOR as COUNTERS
from minicloud.rpc.broker_counters import CountersServicer, Readings, internal_door
from minicloud.rpc.door import Entry, Service, door
from minicloud.rpc.fleet_auth import fleet_door
from minicloud.rpc.listening import DESCRIPTOR as LISTENING
from minicloud.rpc.listening import ListenServicer
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import AUTOSCALERS, ticket_door
from minicloud.rpc.tls import server_credentials
from minicloud.scaling import commands
from minicloud.scaling.aws.autoscaling import AutoScaling
from minicloud.scaling.rpc.groups import DESCRIPTOR as GROUPS
from minicloud.scaling.rpc.groups import GroupServicer
from minicloud.scaling.rpc.policies import DESCRIPTOR as POLICIES
from minicloud.scaling.rpc.policies import PolicyServicer
from minicloud.settings import AUTOSCALER, CloudSettings
from minicloud.shell.clock import SystemClock
from minicloud.store.sqlite import SqliteJournal

log = logging.getLogger("minicloud.autoscaler")


class Autoscaler:
    """Everything that runs in the autoscaler's process."""

    def __init__(self, cloud: CloudSettings, number: int) -> None:
        secret, folder = settings.read_secret(cloud), cloud.autoscaler_path
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = AUTOSCALER.called(number)
        self._clock, self._rand = SystemClock(), random.SystemRandom()
        self._secret = secret
        self.calls = Calls(cloud, secret, self._owner)
        self.groups = Groups(cloud, secret, self._owner, self.calls, self._clock)
        self.metric_journal = SqliteJournal(folder / "metrics.db")
        self.metrics = MetricService(
            self.metric_journal,
            AlarmActions(
                self.calls,
                self.groups.machine.state,
                self.groups.shell.submit,
                lambda alarm: self.metrics.newest(alarm),
            ),
            clock=self._clock,
            rand=self._rand,
            secret=self._derived("metric pages"),
        )
        self.groups.plug(self.metrics)
        self.log_journal = SqliteJournal(folder / "logs.db")
        self.logs = LogService(self.log_journal, clock=self._clock, rand=self._rand, secret=self._derived("log pages"))
        entry = Entry(ticket_door(AUTOSCALERS, secret, number, time.time), lambda: secrets.token_hex(16))
        listen = Listen(
            broker_bind(cloud),
            cloud.autoscalers[number].port,
            None if cloud.tls is None else server_credentials(cloud.tls.cert, cloud.tls.key),
            calls_max=limits.GRPC_BROKER_CALLS_MAX,
            socket=str(cloud.shard_socket(AUTOSCALER, number)),
        )
        self.server = RpcServer(self._doors(entry), entry.new_request_id, listen)
        self.face = AwsFace(self._aws_doors(), entrance(cloud, Place(AWS_OWNER, number)))

    def _derived(self, use: str) -> bytes:
        return hmac.new(self._secret, use.encode(), hashlib.sha256).digest()

    def _doors(self, entry: Entry[Any]) -> list[Service]:
        pages = self._derived("group pages")
        own = Entry(fleet_door(self._secret), entry.new_request_id)
        return [
            door(GroupServicer(self.groups.service, pages), GROUPS, entry),
            door(PolicyServicer(self.groups.service, pages), POLICIES, entry),
            door(MetricServicer(self.metrics), METRICS, entry),
            door(AlarmServicer(self.metrics), ALARMS, entry),
            door(ReportServicer(self.metrics, logs_of(self.logs)), REPORTS, own),
            door(ListenServicer(lambda scope: self.groups.shell.submit(commands.Listen(scope))), LISTENING, own),
            door(LogServicer(self.logs), LOGS, entry),
            door(CountersServicer(self.readings), COUNTERS, Entry(internal_door(self._secret), entry.new_request_id)),
        ]

    def _aws_doors(self) -> list[Door]:
        """Services by the AWS protocols."""
        groups = AutoScaling(self.groups.service, self.groups.launches, self._derived("group pages"))
        return [
            Door("autoscaling", groups),
            Door("cloudwatch", CloudWatch(self.metrics)),
            Door("logs", CloudWatchLogs(self.logs)),
        ]

    def readings(self) -> Readings:
        """For the metrics page."""
        state = self.groups.machine.state
        gauges = {
            "scaling_groups.groups": float(len(state.groups)),
            "scaling_groups.desired": float(sum(group.desired for group in state.groups.values())),
            "metric_store.metrics": float(self.metrics.size),
            "metric_store.points_waiting": float(self.metrics.waiting),
        }
        counted = {
            "scaling_members": Counter(
                one.state for roster in state.rosters.values() for one in roster.members.values()
            ),
            "alarms": self.metrics.alarm_states(),
            "logs": self.logs.counted(),
        }
        gauges |= {f"{family}.{name}": float(n) for family, names in counted.items() for name, n in names.items()}
        return Readings({}, gauges)

    async def start(self) -> int:
        """Load what was, then serve. Returns the gRPC port."""
        await self.groups.load()
        await self.metrics.start(self._owner)
        await self.logs.start(self._owner)
        self.groups.start()
        for journal in (self.groups.journal, self.metric_journal, self.log_journal):
            for damage in journal.damage:
                log.error("%s: %s", journal.path, damage)
        await self.face.start()
        port = await self.server.start()
        self.server.health.set_all(True)
        return port

    async def ended(self) -> str:
        """Returns when a journal is lost: why."""
        shells = (self.groups.shell, self.metrics.shell, self.logs.shell)
        waits = [asyncio.ensure_future(shell.ended.wait()) for shell in shells]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return "; ".join(str(shell.error) for shell in shells if shell.error is not None)

    async def stop(self, grace_s: float = 2.0) -> None:
        await self.face.stop(grace_s)
        await self.server.stop(grace_s)
        await self.groups.stop()
        await self.metrics.stop()
        await self.logs.stop()
        await self.calls.close()
        self.metric_journal.close()
        self.log_journal.close()


def run_autoscaler(cloud: CloudSettings, number: int) -> None:
    """Blocks until a journal is lost to another owner or the disk fails; then the actor ends and Ray restarts it."""
    run(lambda: Autoscaler(cloud, number), log)
