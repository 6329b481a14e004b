"""The composition root: the one file that knows every adapter. What runs where is decided here, and nothing else is.

run_control_plane   in the control plane actor: journal, machines, doors
run_host_agent      in each host agent actor: sandboxes, streams into guests                    (cloud_host.py)
run_message_broker  in each message broker actor: the log, queues and topics, their doors       (cloud_broker.py)
run_balancer        in each balancer actor: journal, load balancers, HAProxy                    (cloud_balancer.py)
run_autoscaler      in the autoscaler actor: metrics, alarms, groups                            (cloud_autoscaler.py)
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop

from minicloud import __version__, settings
from minicloud.aws.asgi import of_asgi
from minicloud.aws.forward import Place
from minicloud.aws.services import CONTROL
from minicloud.aws.signature import Key
from minicloud.base import limits
from minicloud.base.arn import Caller
from minicloud.base.errors import CloudError
from minicloud.base.machine import Context
from minicloud.cloud_aws import control_doors
from minicloud.cloud_feeds import Reporting, way_to_metrics
from minicloud.cloud_gateway import AwsFace, entrance
from minicloud.cloud_host import advertised, machine_arch, socket_dir
from minicloud.cloud_transitions import Transitions
from minicloud.compute import transitions
from minicloud.compute.machine import Compute
from minicloud.compute.metering import DETAILED_S
from minicloud.compute.ports import ActorSpec
from minicloud.compute.queries import Pager
from minicloud.compute.rpc.catalog import (
    ImageServicer,
    KeyPairServicer,
    LaunchTemplateServicer,
    PlacementGroupServicer,
)
from minicloud.compute.rpc.fleet import FleetServicer
from minicloud.compute.rpc.hosts import HostServicer, TypeServicer
from minicloud.compute.rpc.instances import DoorPorts, InstanceServicer
from minicloud.compute.rpc.places import PlaceServicer
from minicloud.compute.rpc.security import DESCRIPTOR as SECURITY
from minicloud.compute.rpc.security import SecurityGroupServicer
from minicloud.compute.service import ComputeService
from minicloud.compute.service import Ports as ComputePorts
from minicloud.compute.ssm import Ssm
from minicloud.host import ticket, user_data
from minicloud.host.agent import agent_socket
from minicloud.host.instances import instance_secret
from minicloud.identity.iam.model import Profile
from minicloud.identity.machine import IdentityMachine
from minicloud.identity.rpc import DESCRIPTOR as IDENTITY
from minicloud.identity.rpc import KEYS, IdentityRpc, KeyServicer
from minicloud.identity.seal import AesGcmSeal
from minicloud.identity.service import Identity, ensure_admin
from minicloud.rpc import auth, broker_counters, fleet_auth, internal, metrics
from minicloud.rpc.door import Entry, Service, door
from minicloud.rpc.errors import from_rpc_error
from minicloud.rpc.http import OWN_PATHS, CloudHealth, Operations, control_app
from minicloud.rpc.listening import DESCRIPTOR as LISTENING
from minicloud.rpc.listening import ListenServicer
from minicloud.rpc.locate import AUTOSCALING, BALANCING, COMPUTING, MESSAGING, Listening, Locator, visitors
from minicloud.rpc.peer import Peer
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.shard_ticket import AUTOSCALERS, BALANCERS, BROKERS, Shards
from minicloud.rpc.shard_ticket import FUNCTIONS as FUNCTION_TICKETS
from minicloud.rpc.tls import channel_credentials
from minicloud.settings import AUTOSCALER, BALANCER, FUNCTIONS, MESSAGE_BROKER, SHARD_KINDS, CloudSettings, ShardKind
from minicloud.shell.clock import SystemClock
from minicloud.shell.reports import Report
from minicloud.shell.shell import Shell
from minicloud.shell.union import To, Union
from minicloud.shell.waiters import Waiters
from minicloud.store.images import ImageFiles
from minicloud.store.sqlite import SqliteJournal
from minicloud.wire import catalog_pb2, fleet_pb2, guest_pb2, guest_pb2_grpc, host_pb2, instance_pb2

log = logging.getLogger("minicloud")

SHUTDOWN_GUESTS_S = 10.0
CONSOLE_S_MAX = 10.0
COMPUTE, IDENTITY_SLICE, SSM = "compute", "identity", "ssm"
LOCATED = {  # kinds of shards that users find, their tickets, and the service that finds them
    MESSAGE_BROKER: (BROKERS, MESSAGING),
    BALANCER: (BALANCERS, BALANCING),
    AUTOSCALER: (AUTOSCALERS, AUTOSCALING),
    FUNCTIONS: (FUNCTION_TICKETS, COMPUTING),
}


@dataclass(slots=True)
class Late:
    """A launcher that is plugged in after what uses it: Ray's needs a running loop and a callback into the service."""

    launcher: Any = None

    async def launch(self, spec: ActorSpec) -> None:
        await self.launcher.launch(spec)

    async def kill(self, instance_id: str, generation: int) -> None:
        await self.launcher.kill(instance_id, generation)


class ActorLauncher:
    """Compute's port Launcher on Ray's launcher: the same fields under the names that each side uses."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    async def launch(self, spec: ActorSpec) -> None:
        from minicloud.cluster.launcher import LaunchSpec

        await self._ray.launch(
            LaunchSpec(
                spec.instance_id,
                spec.generation,
                spec.host_name,
                spec.session,
                spec.cpus,
                spec.memory_bytes,
                spec.gpus,
            )
        )

    async def kill(self, instance_id: str, generation: int) -> None:
        await self._ray.kill(instance_id, generation)

    async def close(self) -> None:
        await self._ray.close()


@dataclass(slots=True)
class Usage:
    """Quotas in use, as identity asks for them."""

    compute: Compute

    def used(self, account: str) -> Mapping[str, float]:
        tally = self.compute.state.tally(account)
        return {"instances": float(tally.instances), "vcpus": tally.vcpus}


@dataclass(slots=True)
class Addressed:
    """The shell as one slice sees it."""

    shell: Shell
    name: str

    async def submit(self, command: Any) -> Any:
        return await self.shell.submit(To(self.name, command))

    async def shown(self, look: Callable[[], Any]) -> Any:
        return await self.shell.shown(look)


class ControlPlane:
    """Everything that runs in the control plane actor, around one journal. Also what tests start without Ray.

    `launcher`: implements compute's port Launcher; `serve_http` starts the HTTP side and returns how to stop it.
    """

    def __init__(self, cloud: CloudSettings, secret: bytes, launcher: Any) -> None:
        self.cloud = cloud
        self.secret = secret
        self._clock = SystemClock()
        self._rand = random.SystemRandom()
        self.journal = SqliteJournal(cloud.state_path)
        self.compute = Compute(check_user_data=user_data.check)
        self.identity_machine = IdentityMachine(AesGcmSeal(secret))
        self.ssm = Ssm(AesGcmSeal(secret))
        self.waiters = Waiters(self._clock)
        self.store = ImageFiles(cloud.images_path)
        self.shell = Shell(
            Union({COMPUTE: self.compute, IDENTITY_SLICE: self.identity_machine, SSM: self.ssm}),
            self.journal,
            clock=self._clock,
            rand=self._rand,
            on_effects=lambda effects: self.service.on_effects(effects),
        )
        self.service = ComputeService(
            self.compute,
            ComputePorts(
                Addressed(self.shell, COMPUTE).submit,
                self.shell.shown,
                self.shell.settled,
                launcher,
                self.waiters,
                self._rand,
                self._role_of,
            ),
        )
        self.identity = Identity(
            self.identity_machine, Addressed(self.shell, IDENTITY_SLICE), Usage(self.compute), self.derived("pages")
        )
        self.shards = {
            kind.part: [Peer(f"unix:{cloud.shard_socket(kind, number)}") for number in range(len(cloud.shards(kind)))]
            for kind in SHARD_KINDS
        }
        self._transitions = Transitions(self.service, self.shards[FUNCTIONS.part], secret)
        self._readings: dict[str, dict[int, broker_counters.Readings | None]] = {}
        way = way_to_metrics(cloud, secret, "control-plane")
        self._reporting = Reporting(way, self._measured, self._clock, DETAILED_S)
        self.server: RpcServer | None = None
        self.stopped = asyncio.Event()

    def derived(self, use: str) -> bytes:
        return hmac.new(self.secret, use.encode(), hashlib.sha256).digest()

    async def submit_ssm(self, command: Any) -> Any:
        return await self.shell.submit(To(SSM, command))

    async def start(self) -> int:
        """Load, take the lease, serve. Returns the gRPC port."""
        await self.shell.start("control-plane")
        for damage in self.journal.damage:
            log.error("state.db: %s", damage)
        if not self.journal.damage:  # a record that was set aside may be of an image
            await self._sweep_images()
        if self.cloud.auth:
            await ensure_admin(self.identity, self._rand, self._write_admin)
        self.service.start()
        for peer in self._peers():
            peer.start()
        self._reporting.start()
        self._transitions.start()
        self.server = RpcServer(
            self._services(), self._request_id, Listen(self.cloud.control_host, self.cloud.control_port)
        )
        port = await self.server.start()
        self.server.health.set_all(True)
        return port

    async def _measured(self, moment: int) -> list[Report]:
        return self.service.meter.report(self.compute.state.instances, moment)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()
        await self._reporting.close()
        await self._transitions.close()
        for peer in self._peers():
            await peer.close()
        await self.service.close()
        await self.shell.stop()
        self.journal.close()

    async def _sweep_images(self) -> None:
        images = self.compute.state.images.values()
        known = {image.id for image in images if image.state in ("pending", "available")}
        for name in await asyncio.to_thread(self.store.keep, known):
            log.warning("%s is deleted: no record knows this image", name)

    def _write_admin(self, content: bytes) -> None:
        settings.write_file(self.cloud.data_path / "admin.json", content)

    def _peers(self) -> list[Peer]:
        return [peer for peers in self.shards.values() for peer in peers]

    def _request_id(self) -> str:
        return secrets.token_hex(16)

    def _services(self) -> list[Service]:
        admit: Callable[[Any], Caller] = (
            auth.locked_door(self.identity_machine.authenticate, self.cloud.region)
            if self.cloud.auth
            else auth.open_door(self.cloud.region)
        )
        admit = internal.or_internal(admit, self.secret)
        users = Entry(admit, self._request_id)
        agents = Entry(fleet_auth.fleet_door(self.secret), self._request_id)
        pager = Pager(self.derived("pages"))
        service, catalog = self.service, catalog_pb2.DESCRIPTOR.services_by_name
        fleet = FleetServicer(service, self.store, self.cloud.cloud_id, self.shell.epoch)
        return [
            door(self.instance_servicer(), instance_pb2.DESCRIPTOR.services_by_name["InstanceService"], users),
            door(HostServicer(service, pager), host_pb2.DESCRIPTOR.services_by_name["HostService"], users),
            door(TypeServicer(service, pager), catalog["TypeService"], users),
            door(
                ImageServicer(service, pager, self.store, self._new_image_id, machine_arch()),
                catalog["ImageService"],
                users,
            ),
            door(LaunchTemplateServicer(service, pager), catalog["LaunchTemplateService"], users),
            door(KeyPairServicer(service, pager), catalog["KeyPairService"], users),
            door(PlacementGroupServicer(service, pager), catalog["PlacementGroupService"], users),
            door(SecurityGroupServicer(service, pager), SECURITY, users),
            door(IdentityRpc(self.identity, __version__), IDENTITY, users),
            door(KeyServicer(self.identity), KEYS, agents),
            *(
                door(self._locator(of, kind), locating, Entry(visitors(admit), self._request_id))
                for kind, (of, locating) in LOCATED.items()
            ),
            door(fleet, fleet_pb2.DESCRIPTOR.services_by_name["FleetService"], agents),
            door(ListenServicer(lambda scope: service.submit(transitions.Listen(scope))), LISTENING, agents),
            door(PlaceServicer(service), fleet_pb2.DESCRIPTOR.services_by_name["PlaceService"], agents),
        ]

    def instance_servicer(self) -> InstanceServicer:
        ports = DoorPorts(
            quotas=self.identity_machine,
            pager=Pager(self.derived("pages")),
            issue_ticket=self.issue_ticket,
            read_console=self.read_console,
            tls=self.cloud.tls is not None,
        )
        return InstanceServicer(self.service, ports)

    def _locator(self, of: Shards, kind: ShardKind) -> Locator:
        ports = tuple(one.port for one in self.cloud.shards(kind))
        return Locator(
            of, Listening(advertised(self.cloud.bind), ports, self.cloud.tls is not None), self.secret, time.time
        )

    def _new_image_id(self) -> str:
        return Context(self._clock.wall(), self._rand).new_id("ami")

    def issue_ticket(self, instance_id: str, account: str, expires: float) -> str:
        return ticket.issue(self.secret, instance_id, account, expires)

    async def read_console(self, address: str, instance_id: str, account: str) -> bytes:
        proof = self.issue_ticket(instance_id, account, time.time() + 60.0)
        return await read_console(address, instance_id, proof, self.cloud.tls)

    def ray_launcher(self) -> Any:
        """The launcher that makes Ray actors; call it in an actor, on its loop."""
        from minicloud.cluster.launcher import LauncherPorts, RayLauncher

        def failed(instance_id: str, generation: int, error: CloudError) -> None:
            self.service.actor_failed(instance_id, generation, error)

        ports = LauncherPorts(
            secret=lambda instance_id, generation: instance_secret(self.secret, instance_id, generation),
            agent_socket=lambda host_name: str(agent_socket(socket_dir(self.cloud, host_name))),
            on_failed=failed,
        )
        return ActorLauncher(RayLauncher(ports, self.cloud.ray_namespace))

    def aws_face(self) -> AwsFace:
        """The services that the control plane owns, by the AWS protocols."""
        return AwsFace(control_doors(self), entrance(self.cloud, Place(CONTROL), self._find_key))

    def _find_key(self, key_id: str) -> Key | None:
        body = self.identity_machine.active_key(key_id)
        return Key(self.identity_machine.secret(key_id), body["account"], body["admin"]) if body is not None else None

    def _role_of(self, account: str, arn: str) -> fleet_pb2.GuestRole | None:
        """The role of an instance profile, as guests are told of it."""
        profile = self.identity_machine.iam.get(Profile, account, arn.rpartition("/")[2])
        if profile is None or not profile.roles:
            return None
        return fleet_pb2.GuestRole(name=profile.roles[0], profile_arn=profile.arn, profile_id=profile.id)

    def operations(self, shut_down: Callable[[], None]) -> Operations:
        return Operations(
            health=self.health,
            registry=metrics.registry(metrics.CloudCollector(self, self.shell.counters, lambda: self._readings)),
            refresh=self._ask_shards,
            shutdown=shut_down,
            secret=self.secret,
            allowed_hosts=frozenset({settings.GUEST_NAME, *(name.lower() for name in self.cloud.allowed_hosts)}),
        )

    async def _ask_shards(self) -> None:
        nouns = {MESSAGE_BROKER: "broker", BALANCER: "balancer", AUTOSCALER: "autoscaler"}

        async def ask(peers: list[Peer]) -> dict[int, broker_counters.Readings | None]:
            asked = [broker_counters.ask(peer.channel, self.secret) for peer in peers if peer.channel is not None]
            return dict(enumerate(await asyncio.gather(*asked)))

        found = await asyncio.gather(*(ask(self.shards[kind.part]) for kind in nouns))
        self._readings = dict(zip(nouns.values(), found, strict=True))

    # --- metrics.Inventory

    def instance_states(self) -> Iterable[str]:
        return [instance.state for instance in self.compute.state.instances.values()]

    def host_states(self) -> Iterable[str]:
        return [host.state for host in self.compute.state.hosts.values()]

    def usage(self) -> Iterable[tuple[str, dict[str, float]]]:
        for host in self.compute.state.hosts.values():
            used, sellable, link = self.compute.state.used(host.id), host.sellable, self.service.links.get(host.id)
            yield (
                host.name,
                {
                    "vcpus_used": used.vcpus,
                    "vcpus_sellable": sellable.vcpus,
                    "memory_mib_used": used.memory_mib,
                    "memory_mib_sellable": sellable.memory_mib,
                    "warm_workers": link.vitals.warm_workers if link else 0,
                },
            )

    async def health(self) -> CloudHealth:
        """Ready once every host has said hello or is known to be down, one at least is up, and every shard answered.

        A shard that is away later makes the cloud `degraded`: everything else goes on.
        """
        linked = {link.host_id for link in self.service.links.all()}
        hosts = self.compute.state.hosts
        up = sum(1 for host in hosts.values() if host.state == "up" and host.id in linked)
        running = self.shell.error is None and not self.service.closing
        settled = all(one.host_id in linked or self._is_down(one.host_id) for one in self.cloud.hosts)
        ready = running and settled and up > 0 and all(peer.seen for peer in self._peers())
        status = "ok" if all(peer.up for peer in self._peers()) else "degraded"
        if not ready:
            status = "stopped" if self.stopped.is_set() else "stopping" if not running else "starting"
        shards = {part: tuple("up" if peer.up else "down" for peer in peers) for part, peers in self.shards.items()}
        return CloudHealth(ready, status, self.cloud.cloud_id, __version__, up, len(hosts) - up, shards)

    def _is_down(self, host_id: str) -> bool:
        host = self.compute.state.hosts.get(host_id)
        return host is not None and host.state == "down"

    async def shut_down(self) -> None:
        """Guests end, records stay; health says `stopped` when it is done."""
        await self.service.shut_down(SHUTDOWN_GUESTS_S)
        self.stopped.set()


async def read_console(address: str, instance_id: str, proof: str, tls: settings.TlsFiles | None) -> bytes:
    """The console log that the host agent keeps. Raises CloudError."""
    credentials = channel_credentials(tls.ca) if tls is not None else None
    async with agent_channel(address, credentials) as channel:
        request = guest_pb2.LogsRequest(instance_id=instance_id, tail_bytes=limits.CONSOLE_REPLY_BYTES_MAX)
        guests: Any = guest_pb2_grpc.GuestServiceStub(channel)  # type: ignore[no-untyped-call]
        call = guests.Logs(request, metadata=((ticket.TICKET_METADATA, proof),), timeout=CONSOLE_S_MAX)
        try:
            return b"".join([chunk.data async for chunk in call])
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None


def agent_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    return grpc.aio.secure_channel(address, credentials)


def run_control_plane(cloud: CloudSettings) -> None:
    """Blocks until the journal is lost to another owner or the disk fails; then the actor ends and Ray restarts it."""
    uvloop.run(_control_plane(cloud))


async def _control_plane(cloud: CloudSettings) -> None:
    late = Late()
    plane = ControlPlane(cloud, settings.read_secret(cloud), late)
    late.launcher = plane.ray_launcher()
    stop_watching = threading.Event()
    loop = asyncio.get_running_loop()
    closing: set[asyncio.Task[None]] = set()

    def shut_down() -> None:
        closing.add(asyncio.ensure_future(plane.shut_down()))

    def nodes_changed(nodes: list[Any]) -> None:
        for node in nodes:
            if not node.alive:
                loop.call_soon_threadsafe(plane.service.node_died, node.ray_node_id)

    await plane.start()
    face = plane.aws_face()
    await face.start({OWN_PATHS: of_asgi(control_app(plane.operations(shut_down)))})
    watcher = threading.Thread(target=_watch_nodes, args=(nodes_changed, stop_watching), name="nodes", daemon=True)
    watcher.start()
    try:
        await plane.shell.ended.wait()
        log.error("the control plane ends: %s", plane.shell.error)
    finally:
        stop_watching.set()
        await face.stop()
        await late.launcher.close()
        await plane.stop()


def _watch_nodes(on_change: Callable[[list[Any]], None], stop: threading.Event) -> None:
    from minicloud.cluster.nodes import watch_nodes

    watch_nodes(on_change, stop)
