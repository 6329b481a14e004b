"""The composition root of the functions process: the service over its journal, environments on all hosts, the doors.

Another part of `cloud.py`, apart from it so that a process, which Ray restarts in a hurry, imports only what it needs.

A warm invocation crosses no other process: the gRPC door, the service, and the environment's Runtime API are on one
event loop. Environments never outlive this process; what a killed predecessor left (control groups) is swept. Those on
other nodes are made and run by function hosts there (cloud_function_host.py), which open a stream to this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import platform
import secrets
import time

from minicloud import settings
from minicloud.aws.call import Door
from minicloud.aws.forward import Place
from minicloud.aws.services import BY_NAME, FUNCTION_URL
from minicloud.aws.services import FUNCTIONS as AWS_OWNER
from minicloud.base import limits
from minicloud.cloud_broker import broker_bind
from minicloud.cloud_calls import Calls
from minicloud.cloud_events import CloudSources, EventTargets
from minicloud.cloud_feeds import way_to_metrics
from minicloud.cloud_function_host import MESSAGE_BYTES_MAX as PAYLOAD_BYTES_MAX
from minicloud.cloud_function_host import Variables, doors_of
from minicloud.cloud_function_hosts import Cordons
from minicloud.cloud_function_messages import BrokerMessages
from minicloud.cloud_gateway import AwsFace, entrance
from minicloud.cloud_shard import run
from minicloud.environment.host import FunctionHost, HostParts
from minicloud.environment.hosts_rpc import DESCRIPTOR as HOSTS
from minicloud.environment.hosts_rpc import FunctionHostServicer
from minicloud.event.aws import EventBridge
from minicloud.event.rpc import EVENTS, RULES, EventServicer, RuleServicer
from minicloud.event.service import EventService
from minicloud.event.service import Ports as EventPorts
from minicloud.flags import probe_machine
from minicloud.function.aws.functions import Lambda
from minicloud.function.aws.scheduler import Scheduler
from minicloud.function.links.balanced import TargetHandler
from minicloud.function.links.web import UrlHandler
from minicloud.function.ports import Logs, NoLogs
from minicloud.function.rpc.many import DESCRIPTOR as INVOCATIONS
from minicloud.function.rpc.many import InvocationServicer
from minicloud.function.rpc.servicer import DESCRIPTOR, FunctionServicer
from minicloud.function.service import FunctionService, Ports
from minicloud.proxy.front_door import LOOPBACK
from minicloud.rpc import fleet_auth, function_target
from minicloud.rpc.door import Entry, door
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import FUNCTIONS, ticket_door
from minicloud.rpc.tls import server_credentials
from minicloud.sandbox.sweep import cgroup_prefix
from minicloud.settings import FUNCTIONS as KIND
from minicloud.settings import CloudSettings
from minicloud.shell.reports import NoReports
from minicloud.store.sqlite import SqliteJournal

log = logging.getLogger("minicloud.functions")


def own_host(cloud: CloudSettings, name: str) -> tuple[str, int, float]:
    """The host that this process is on, and memory and cores that its environments count against: all of the machine's,
    where it is one host. In a joined cluster it is not known which of several hosts that is."""
    machine = probe_machine(cloud.data_path)
    if len(cloud.hosts) == 1:
        return cloud.hosts[0].name, machine.memory_mib, machine.cores
    if cloud.ray_address or not cloud.hosts:
        return name, machine.memory_mib, machine.cores
    host = cloud.hosts[0]
    return host.name, host.memory_mib, host.cores


def host_parts(cloud: CloudSettings, number: int, secret: bytes, logs: Logs) -> HostParts:
    name = KIND.called(number)
    host_name, memory_mib, cores = own_host(cloud, name)
    return HostParts(
        cloud.functions_path(number) / "host",
        cgroup_prefix(cloud.cloud_id, name),
        memory_mib,
        logs,
        variables=Variables(cloud, secret),
        doors=doors_of(cloud),
        doors_at=LOOPBACK if broker_bind(cloud) in ("0.0.0.0", "::") else broker_bind(cloud),
        name=host_name,
        cores=cores,
    )


class FunctionProcess:
    """Everything that runs in the functions process."""

    def __init__(self, cloud: CloudSettings, number: int) -> None:
        secret, folder = settings.read_secret(cloud), cloud.functions_path(number)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = KIND.called(number)
        self._cloud = cloud
        self._reporter = way_to_metrics(cloud, secret, name)
        self.host = FunctionHost(host_parts(cloud, number, secret, self._reporter or NoLogs()))
        self.journal = SqliteJournal(folder / "state.db")
        self._calls = Calls(cloud, secret, name)
        self._cordons = Cordons(self._calls, fleet_auth.token(secret, name), self.host.cordon)
        messages = BrokerMessages(self._calls)
        ports = Ports(self.host, self._reporter or NoReports(), messages)
        self.service = FunctionService(self.journal, folder / "packages", ports)
        self.event_journal = SqliteJournal(folder / "events.db")
        targets, sources = EventTargets(self.service, messages), CloudSources(self._calls, cloud, secret, name)
        self.events = EventService(self.event_journal, EventPorts(targets, sources, ports.reports))
        entry = Entry(
            ticket_door(FUNCTIONS, secret, number, time.time), lambda: secrets.token_hex(16), PAYLOAD_BYTES_MAX
        )
        listen = Listen(
            broker_bind(cloud),
            cloud.functions[number].port,
            None if cloud.tls is None else server_credentials(cloud.tls.cert, cloud.tls.key),
            calls_max=limits.GRPC_BROKER_CALLS_MAX,
            socket=str(cloud.shard_socket(KIND, number)),
            message_bytes_max=PAYLOAD_BYTES_MAX,
        )
        pages = hmac.new(secret, b"function pages", hashlib.sha256).digest()
        servicer = FunctionServicer(self.service, pages, self._url_of)
        own = Entry(fleet_auth.fleet_door(secret), entry.new_request_id, PAYLOAD_BYTES_MAX)
        doors = [
            door(servicer, DESCRIPTOR, entry),
            door(InvocationServicer(self.service), INVOCATIONS, entry),
            door(RuleServicer(self.events, pages), RULES, entry),
            door(EventServicer(self.events), EVENTS, own),
            door(FunctionHostServicer(self.host, self.service.packages.path), HOSTS, own),
        ]
        self.server = RpcServer(doors, entry.new_request_id, listen)
        api = Lambda(self.service, pages, self._url_of, platform.machine())
        through = entrance(cloud, Place(AWS_OWNER, number))
        aws_doors = [
            Door("lambda", api),
            Door("scheduler", Scheduler(self.service, pages)),
            Door("events", EventBridge(self.events, pages)),
        ]
        self.face = AwsFace(aws_doors, through)
        self._targets = TargetHandler(self.service, lambda text: function_target.read(secret, text))
        self._urls = UrlHandler(self.service, lambda request: through.admit(request, BY_NAME["lambda"]), time.time)

    def _url_of(self, url_id: str) -> str:
        scheme, _, rest = self._cloud.endpoints["http"].partition("://")
        port = rest.rpartition(":")[2]
        return f"{scheme}://{url_id}.lambda-url.{self._cloud.region}.localhost:{port}/"

    async def start(self) -> int:
        """Load what was, bring up a zygote, then serve. Returns the gRPC port."""
        await self.host.start()
        for warning in self.host.warnings:
            log.warning(warning)
        await self.service.start()
        await self.events.start()
        self._cordons.start()
        if self._reporter is not None:
            self._reporter.start()
        for journal in (self.journal, self.event_journal):
            for damage in journal.damage:
                log.error("%s: %s", journal.path, damage)
        await self.face.start({FUNCTION_URL: self._urls, function_target.HEADER.lower(): self._targets})
        port = await self.server.start()
        self.server.health.set_all(True)
        return port

    async def ended(self) -> str:
        waits = [asyncio.ensure_future(one.ended.wait()) for one in (self.service, self.events)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return "its journal does not take records any more"

    async def stop(self, grace_s: float = 2.0) -> None:
        await self.face.stop(grace_s)
        await self.server.stop(grace_s)
        await self.events.stop()
        await self.service.stop()
        await self._cordons.close()
        await self._calls.close()
        await self.host.close()
        if self._reporter is not None:
            await self._reporter.close()
        self.journal.close()
        self.event_journal.close()


def run_functions(cloud: CloudSettings, number: int) -> None:
    """Blocks until a journal is lost to another owner or the disk fails; then the actor ends and Ray restarts it."""
    run(lambda: FunctionProcess(cloud, number), log)
