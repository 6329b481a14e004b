"""The composition root of a balancer process: its journal, the service over it with its HAProxy, and the door in front.

Another part of `cloud.py`, apart from it so that a process, which Ray restarts in a hurry, imports only what it needs.

A HAProxy outlives the process that started it and carries traffic until the next one relieves it; one that does not
answer any more is ended first, because it would keep the ports.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import time
from collections import Counter

from minicloud import settings
from minicloud.aws.call import Door
from minicloud.aws.forward import Place
from minicloud.aws.services import BALANCER as AWS_OWNER
from minicloud.balancer.access import Entries
from minicloud.balancer.aws.elbv2 import Elbv2
from minicloud.balancer.rpc import DESCRIPTOR, BalancerServicer
from minicloud.balancer.service import BalancerService, Work
from minicloud.balancer.state import State
from minicloud.balancer.targets_rpc import DESCRIPTOR as TARGETS
from minicloud.balancer.targets_rpc import TargetServicer
from minicloud.base import limits
from minicloud.cloud_broker import broker_bind
from minicloud.cloud_calls import Calls
from minicloud.cloud_feeds import Reporting, way_to_metrics
from minicloud.cloud_gateway import AwsFace, entrance
from minicloud.cloud_network import DefaultNetwork
from minicloud.cloud_places import InstancePlaces
from minicloud.cloud_shard import run
from minicloud.cloud_target_functions import FunctionTargets
from minicloud.cluster.processes import ProcessTable, end, is_alive, marks, read_table
from minicloud.identity.seal import AesGcmSeal
from minicloud.proxy.process import find_orphan
from minicloud.rpc.broker_counters import DESCRIPTOR as COUNTERS
from minicloud.rpc.broker_counters import CountersServicer, Readings, internal_door
from minicloud.rpc.door import Entry, door
from minicloud.rpc.fleet_auth import fleet_door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import BALANCERS, ticket_door
from minicloud.rpc.tls import server_credentials
from minicloud.settings import BALANCER, CloudSettings, child_env
from minicloud.shell.clock import SystemClock
from minicloud.shell.reports import MINUTE_S, Report
from minicloud.store.sqlite import SqliteJournal

log = logging.getLogger("minicloud.balancer")


class BalancerProcess:
    """Everything that runs in a balancer's process, around one journal."""

    def __init__(self, cloud: CloudSettings, number: int) -> None:
        folder, secret = cloud.balancer_path(number), settings.read_secret(cloud)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._processes = cloud.run_path / f"balancer-{number}.json"
        self._table = ProcessTable(self._processes)
        self.journal = SqliteJournal(folder / "state.db")
        self.places = InstancePlaces(f"{cloud.control_host}:{cloud.control_port}", secret, f"balancer-{number}")
        self._stats = cloud.socket_path / f"balancer-{number}-stats"
        seal = AesGcmSeal(secret, "keys of certificates")
        self._calls = Calls(cloud, secret, BALANCER.called(number))
        functions = FunctionTargets(cloud, secret, self._calls)
        work = Work(
            folder / "proxy",
            child_env() | marks(cloud),
            stats=self._stats,
            seal=seal,
            loopback=not cloud.auth,
            functions=functions,
        )
        self.service = BalancerService(self.journal, work, self.places, on_pid=self._started)
        way = way_to_metrics(cloud, secret, BALANCER.called(number))
        self._reporting = Reporting(way, self._measured, SystemClock())
        self.service.on_access = self._access
        entry = Entry(ticket_door(BALANCERS, secret, number, time.time), lambda: secrets.token_hex(16))
        pages = hmac.new(secret, b"balancer pages", hashlib.sha256).digest()
        listen = Listen(
            broker_bind(cloud),
            cloud.balancers[number].port,
            None if cloud.tls is None else server_credentials(cloud.tls.cert, cloud.tls.key),
            calls_max=limits.GRPC_BROKER_CALLS_MAX,
            socket=str(cloud.shard_socket(BALANCER, number)),
        )
        api = Elbv2(self.service, DefaultNetwork(self._calls), pages)
        self.face = AwsFace([Door("elbv2", api)], entrance(cloud, Place(AWS_OWNER, number)))
        self.server = RpcServer(
            [
                door(BalancerServicer(self.service, pages), DESCRIPTOR, entry),
                door(CountersServicer(self.readings), COUNTERS, Entry(internal_door(secret), entry.new_request_id)),
                door(TargetServicer(self.service), TARGETS, Entry(fleet_door(secret), entry.new_request_id)),
            ],
            entry.new_request_id,
            listen,
        )

    async def start(self) -> int:
        """Carry traffic again, then serve. Returns the gRPC port."""
        if await find_orphan(self._stats) is None:
            await asyncio.to_thread(end, read_table(self._processes))
        await self.service.start()
        self.places.start(self.service)
        self._reporting.start()
        for damage in self.journal.damage:
            log.error("%s: %s", self.journal.path, damage)
        await self.face.start()
        port = await self.server.start()
        self.server.health.set_all(True)
        return port

    async def ended(self) -> str:
        await self.service.ended.wait()
        return "its journal does not take records any more"

    async def stop(self, grace_s: float = 2.0) -> None:
        await self.face.stop(grace_s)
        await self.server.stop(grace_s)
        await self._reporting.close()
        await self.places.close()
        await self._calls.close()
        await self.service.stop(grace_s)
        self.journal.close()

    async def _measured(self, moment: int) -> list[Report]:
        return await self.service.measure(moment - MINUTE_S)

    def _access(self, found: Entries) -> None:
        """Into the log groups that stand for buckets."""
        if self._reporting.reporter is not None:
            for place, events in found.items():
                self._reporting.reporter.write(*place, events)

    async def readings(self) -> Readings:
        """For the metrics page."""
        counted = await self.service.counted()
        requests = {"total": counted["req_tot"], **{f"{n}xx": counted[f"hrsp_{n}xx"] for n in range(2, 6)}}
        traffic = {"connections": counted["conn_tot"], "bytes_in": counted["bin"], "bytes_out": counted["bout"]}
        totals = {f"balancer_requests.{name}": float(count) for name, count in requests.items()}
        totals |= {f"balancer_traffic.{name}": float(count) for name, count in traffic.items()}
        lost = {**self._reporting.lost(), "proxy_lines": float(self.service.lines_dropped)}
        totals |= {f"balancer_lost.{name}": count for name, count in lost.items()}
        return Readings(totals, self.service.read(_holds))

    def _started(self, pid: int) -> None:
        for record in self._table.all():
            if not is_alive(record):
                self._table.discard(record.pid)
        self._table.add("haproxy", pid)


def run_balancer(cloud: CloudSettings, number: int) -> None:
    """Blocks until a journal is lost to another owner or the disk fails; then the actor ends and Ray restarts it."""
    run(lambda: BalancerProcess(cloud, number), log)


def _holds(state: State) -> dict[str, float]:
    states = Counter(target.state for target in state.targets.values())
    kept = {
        "balancers": len(state.balancers),
        "listeners": len(state.listeners),
        "target_groups": len(state.groups),
    }
    found = {f"balancer_targets.{name}": float(count) for name, count in states.items()}
    return found | {f"balancer_holds.{name}": float(count) for name, count in kept.items()}
