"""The composition root of a host: what the host agent is plugged together from (sandbox, network, doors, warm workers).

Its other half is `cloud.py`. Apart from it so that an agent, which Ray restarts in a hurry, imports only what it needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
import secrets
import socket
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import grpc
import uvloop

from minicloud import settings
from minicloud.base.shape import Shape
from minicloud.cloud_feeds import way_to_metrics
from minicloud.cloud_function_host import orders as function_host_orders
from minicloud.cloud_roles import RoleCredentials
from minicloud.compute import credits
from minicloud.host import boot, ticket
from minicloud.host.agent import AgentParts, HostAgent, HostAgentConfig
from minicloud.host.beside import Beside
from minicloud.host.building import BootFacts, Builder, BuilderParts, Isolation
from minicloud.host.console import Consoles
from minicloud.host.console_log import ConsoleLog
from minicloud.host.directory import Directory, MeteredNetwork
from minicloud.host.guest_rpc import guest_service
from minicloud.host.hearing import Hearing
from minicloud.host.imds import Imds
from minicloud.host.instances import instance_secret
from minicloud.host.places import Places
from minicloud.host.ports import Burst, CreditStep
from minicloud.host.walls import Walls
from minicloud.rpc import fleet_auth
from minicloud.rpc.server import Listen, RpcServer
from minicloud.rpc.tls import server_credentials
from minicloud.sandbox import probe as probing
from minicloud.sandbox.cgroup import Cgroups
from minicloud.sandbox.network import GuestNetwork, NetworkConfig, open_network
from minicloud.sandbox.nftables import Service as NetService
from minicloud.sandbox.plan import workers_package
from minicloud.sandbox.sweep import cgroup_prefix, function_host
from minicloud.settings import CloudSettings, HostSettings
from minicloud.wire import instance_pb2

log = logging.getLogger("minicloud.host")


def socket_dir(cloud: CloudSettings, host_name: str) -> Path:
    """Where the unix sockets of one host are; agent, actors and launcher agree on it."""
    return cloud.socket_path / host_name


def machine_arch() -> str:
    return {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]


def run_host_agent(cloud: CloudSettings, host: HostSettings, ray_node_id: str) -> None:
    """Blocks until the host is fenced or a part of the agent fails; then the actor ends and Ray starts a new one."""
    # In a cluster that is not ours Ray may have made uvloop every loop's kind; netlink (pyroute2) needs asyncio's own.
    asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())
    uvloop.run(_agent_and_functions(cloud, host, ray_node_id))


async def _agent_and_functions(cloud: CloudSettings, host: HostSettings, ray_node_id: str) -> None:
    functions = _function_host(cloud, host)
    if functions is None:
        await _host_agent(cloud, host, ray_node_id)
        return
    functions.start()
    try:
        await _host_agent(cloud, host, ray_node_id)
    finally:
        await functions.close()


class Logged:
    """Consoles on their way to the cloud's logs, from now on. `consoles` None: this host does not reach them."""

    def __init__(self, cloud: CloudSettings, host: HostSettings, secret: bytes, consoles: Consoles) -> None:
        # A host of a cluster that was joined may be on another machine than the autoscaler.
        self._reporter = None if cloud.ray_address else way_to_metrics(cloud, secret, host.name)
        self.consoles = None if self._reporter is None else ConsoleLog(consoles, self._reporter.write, time.time)
        if self._reporter is not None:
            self._reporter.start()

    async def close(self) -> None:
        if self.consoles is not None and self._reporter is not None:
            await self.consoles.close()
            await self._reporter.close()


async def _host_agent(cloud: CloudSettings, host: HostSettings, ray_node_id: str) -> None:
    secret = settings.read_secret(cloud)
    found = await asyncio.to_thread(probing.probe)
    places = Places(cloud.host_path(host.name), socket_dir(cloud, host.name))
    directory, hearing = Directory(places), Hearing(places.init_socket)
    imds, consoles = Imds(directory, secrets.token_bytes(32), RoleCredentials(secret, time.time)), Consoles()
    imds_socket = listening("127.0.0.1")
    network = await _guest_network(cloud, host, found, imds_socket.getsockname()[1])
    metered = MeteredNetwork(network, directory, imds, imds_socket.getsockname()[1])
    await imds.serve(imds_socket)
    walls = Walls(Cgroups.detect(), cgroup_prefix(cloud.cloud_id, host.name))
    logged = Logged(cloud, host, secret, consoles)
    rpc = RpcServer(
        [guest_service(directory, consoles, ticket.checker(secret, time.time), lambda: secrets.token_hex(16))],
        lambda: secrets.token_hex(16),
        Listen(agent_bind(cloud), 0, _server_credentials(cloud)),
    )
    port = await rpc.start()
    rpc.health.set_all(True)
    parts = AgentParts(
        builder=lambda images: Builder(
            BuilderParts(
                places,
                isolation_of(found),
                metered,
                walls,
                images,
                consoles,
                boot_bytes,
                lambda *guest: instance_secret(secret, *guest),
                cloud.tls is not None,
                _guests_ca(cloud),
                logged.consoles,
            )
        ),
        watch=hearing,
        walls=walls,
        meter=walls,
        isolation=isolation_message(found),
        memory_enforced=walls.memory_enforced,
        disk_root=places.root,
        wall=time.time,
        credits=CreditRules(),
        pool=_warm_pool(ray_node_id),
    )
    config = _config(cloud, host, ray_node_id, secret, port)
    agent = HostAgent(config, parts)
    directory.guests = agent.guests
    await asyncio.to_thread(boot.compile_workers, workers_package())
    try:
        outcome = await agent.run(asyncio.Event())
        log.warning("the host agent ends: %s", outcome)
    finally:
        await rpc.stop()
        imds.close()
        await logged.close()
        for part in (consoles, hearing, metered):
            part.close()


def _config(cloud: CloudSettings, host: HostSettings, ray_node_id: str, secret: bytes, port: int) -> HostAgentConfig:
    return HostAgentConfig(
        cloud_id=cloud.cloud_id,
        host_id=host.host_id,
        name=host.name,
        zone=host.zone,
        ray_node_id=ray_node_id,
        host_dir=cloud.host_path(host.name),
        socket_dir=socket_dir(cloud, host.name),
        control_address=f"{cloud.control_host}:{cloud.control_port}",
        fleet_token=fleet_auth.token(secret, host.host_id),
        cluster_secret=secret,
        agent_address=f"{advertised(cloud.bind)}:{port}",
        agent_epoch=secrets.token_hex(8),
        architecture=machine_arch(),
        capacity=Shape(host.cores, host.memory_mib, host.gpus, host.disk_gib),
        overcommit=cloud.overcommit,
        images_dir=None if cloud.ray_address else cloud.images_path,  # a joined cluster shares no disk
    )


def _function_host(cloud: CloudSettings, host: HostSettings) -> Beside | None:
    """None on the machine of the functions process, which has environments of its own."""
    if not cloud.functions:
        return None
    here = host == cloud.hosts[0] if not cloud.ray_address else _is_of_this_machine(cloud.control_host)
    if here:
        return None
    name = function_host(host.name)
    return Beside(
        "minicloud.cloud_function_host",
        (host.name,),
        lambda: function_host_orders(cloud, host, door_address(cloud)),
        cloud.log_path / f"{name}.out",
    )


def _is_of_this_machine(address: str) -> bool:
    with contextlib.suppress(OSError), listening(address):
        return True
    return False


class CreditRules:
    """The host's port Credits on compute's rules."""

    def check(self, kept: dict[str, Any]) -> None:
        if kept:
            credits.Account.load(kept)

    def open(self, burst: Burst, kept: dict[str, Any], now: float) -> dict[str, Any]:
        account = credits.Account.load(kept) if kept else None
        return credits.open_account(rate_of(burst), account, now).body()

    def step(self, burst: Burst, account: dict[str, Any], used_cpu_s: float, now: float) -> CreditStep:
        rate = rate_of(burst)
        after = credits.step(rate, credits.Account.load(account), used_cpu_s, now)
        return CreditStep(after.body(), after.balance, credits.cap_vcpus(rate, after))


def rate_of(burst: Burst) -> credits.Rate:
    return credits.Rate(burst.vcpus, burst.baseline_pct_per_vcpu, burst.unlimited)


async def _guest_network(
    cloud: CloudSettings, host: HostSettings, found: probing.HostIsolation, imds_port: int
) -> GuestNetwork:
    door = door_address(cloud)
    # Certificates name no gateway; a name needs an /etc/hosts that is the guest's own.
    name = settings.GUEST_NAME if cloud.tls and found.driver == "bwrap" else ""
    http = "https" if cloud.tls else "http"
    config = NetworkConfig(
        cloud.cloud_id,
        host.name,
        (
            *(NetService(one.port, door, one.port) for kind in settings.SHARD_KINDS for one in cloud.shards(kind)),
            NetService(80, "127.0.0.1", imds_port, "169.254.169.254", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "http"),
            NetService(cloud.grpc_port, door, cloud.grpc_port, None, "MINICLOUD_ENDPOINT", "", name),
            NetService(cloud.http_port, door, cloud.http_port, None, "AWS_ENDPOINT_URL", http, name),
        ),
        nft=found.nft_path or "nft",
    )
    return await asyncio.to_thread(open_network, config, found.network)


def _warm_pool(ray_node_id: str) -> Any:
    from minicloud.cluster.warm import LocalRaylet, WarmPool

    return WarmPool(LocalRaylet(ray_node_id))


def listening(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.bind((address, 0))
    return sock


def agent_bind(cloud: CloudSettings) -> str:
    """Where agents serve users: where the front door does."""
    return cloud.bind


def door_address(cloud: CloudSettings) -> str:
    """Where the front door and the shards answer, for this host's guests, which have IPv4 alone.

    A wildcard says nothing to another machine: there it is the address of the head, which the control plane is at.
    """
    bind = cloud.control_host if cloud.bind in ("0.0.0.0", "::") else cloud.bind
    try:
        return str(IPv4Address(bind))
    except ValueError:  # a name of this machine, or IPv6
        return "127.0.0.1"


def _guests_ca(cloud: CloudSettings) -> bytes:
    if cloud.tls is None or not cloud.tls.ca:
        return b""
    try:
        return Path(cloud.tls.ca).read_bytes()
    except OSError as error:
        log.warning("guests are not given the cloud's CA: %s", error)
        return b""


def advertised(bind: str) -> str:
    """The address that users are told: a wildcard is nobody's address, so the machine's own towards the outside."""
    if bind not in ("0.0.0.0", "::"):
        return bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: asks the routing table (TEST-NET-1, RFC 5737)
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])


def _server_credentials(cloud: CloudSettings) -> grpc.ServerCredentials | None:
    return None if cloud.tls is None else server_credentials(cloud.tls.cert, cloud.tls.key)


def boot_bytes(facts: BootFacts) -> bytes:
    place = boot.BootPlace(facts.spec.private_ip or facts.addresses[-1], facts.root, facts.isolated)
    document = boot.boot_document(facts.spec, facts.env, place)
    return json.dumps({**document, "addresses": list(facts.addresses)}).encode()


def isolation_of(found: probing.HostIsolation) -> Isolation:
    return Isolation(
        found.driver, found.bwrap_path, found.python, found.cgroup_version, found.seccomp.works, found.warnings
    )


def isolation_message(found: probing.HostIsolation) -> instance_pb2.Isolation:
    return instance_pb2.Isolation(
        driver=found.driver,
        network=found.network,
        cgroup=f"v{found.cgroup_version}" if found.cgroup_version else "none",
        seccomp=found.seccomp.works and found.driver == "bwrap",
        warnings=found.warnings,
    )
