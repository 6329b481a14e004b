"""The short life of the cloud's Ray driver: opens the cluster, creates the long-lived actors, and leaves.

    python -m minicloud.cluster.driver open|stop GCS_ADDRESS   settings as JSON on stdin, events as JSON lines on stdout

A process of its own because a Ray driver must not be one that matters: it exits by itself 60 s after it lost the GCS,
and it costs 90 MB and 0.8 s of imports. What it leaves behind does not need it: detached actors have no owner, and
prestarted workers that belong to no job outlive it (measured; those of its job would be ended with it).

open   our own cluster: writes what Ray's head would have written, says the cluster id, waits for the hosts' raylets
       (started by the supervisor, which needs that id), creates control plane, shards and host agents, and waits for
       them.
       A joined cluster: the live nodes are the hosts.
stop   a joined cluster: ends this cloud's actors, which nobody else would.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from dataclasses import replace
from typing import Any

import ray
from ray import _raylet
from ray._common.usage import usage_lib

from minicloud.cluster.actor_table import ActorTable
from minicloud.cluster.actors import start_control_plane, start_host_agent, start_shards
from minicloud.cluster.nodes import NodeState, list_nodes, watch_nodes
from minicloud.cluster.ray_commands import LOOPBACK, SESSION
from minicloud.settings import CloudSettings, HostSettings, host_id

NODES_S_MAX = 30.0
ACTORS_S_MAX = 60.0
_MIB = 1024 * 1024
_GIB = 1024**3


def say(event: str, **details: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **details}) + "\n")
    sys.stdout.flush()


def open_cloud(settings: CloudSettings, address: str) -> None:
    if settings.ray_address:
        _connect(settings, address)
        settings, nodes = _hosts_of_cluster(settings, _gcs_address())
        say("hosts", settings=settings.to_json())
    else:
        say("cluster", cluster_id=_register(address))
        nodes = _await_hosts(settings, address)
        _connect(settings, address)
    say("nodes", nodes={name: node.ray_node_id for name, node in nodes.items()})
    _start_actors(settings, nodes)


def _register(address: str) -> str:
    """Make a bare GCS a Ray cluster: session name and version. Returns the cluster id."""
    gcs = _raylet.GcsClient(address=address)  # type: ignore[attr-defined]
    usage_lib.put_cluster_metadata(gcs, ray_init_cluster=False)
    gcs.internal_kv_put(b"session_name", SESSION.encode(), True, b"session")
    return str(gcs.cluster_id.hex())


def _await_hosts(settings: CloudSettings, address: str) -> dict[str, NodeState]:
    """The live node of each host. Raises TimeoutError naming the hosts that did not come."""
    wanted = {host.name for host in settings.hosts}
    found: dict[str, NodeState] = {}
    stop = threading.Event()

    def on_change(nodes: list[NodeState]) -> None:
        found.clear()
        found.update({node.host_name: node for node in nodes if node.alive})
        if wanted <= found.keys():
            stop.set()

    timer = threading.Timer(NODES_S_MAX, stop.set)
    timer.daemon = True
    timer.start()
    watch_nodes(on_change, stop, address)
    timer.cancel()
    if missing := wanted - found.keys():
        raise TimeoutError(f"hosts that did not start: {', '.join(sorted(missing))}")
    return found


def _connect(settings: CloudSettings, address: str) -> None:
    ray.init(
        address=address,
        namespace=settings.ray_namespace,
        log_to_driver=False,
        configure_logging=False,
        logging_level="ERROR",
    )


def _gcs_address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _hosts_of_cluster(settings: CloudSettings, gcs_address: str) -> tuple[CloudSettings, dict[str, NodeState]]:
    """One host per live node; control plane and shards stay on this driver's node. Zones are dealt in turn."""
    here = ray.get_runtime_context().get_node_id()
    nodes = [node for node in list_nodes(gcs_address) if node.alive]
    hosts = tuple(_joined_host(settings, node, index) for index, node in enumerate(nodes))
    mine = next(node for node in nodes if node.ray_node_id == here)
    alone = {node.address for node in nodes} == {mine.address} and _is_this_machine(mine.address)
    settings = replace(settings, hosts=hosts, control_host=LOOPBACK if alone else mine.address)
    by_name = {node.host_name: node for node in nodes}
    return settings, {"": mine, **by_name}


def _joined_host(settings: CloudSettings, node: NodeState, index: int) -> HostSettings:
    return HostSettings(
        host_id=host_id(settings.cloud_id, node.host_name),
        name=node.host_name,
        zone=settings.region + chr(ord("a") + index % 26),
        cores=node.resources.get("CPU", 0.0),
        memory_mib=int(node.resources.get("memory", 0) / _MIB),
        gpus=int(node.resources.get("GPU", 0)),
    )


def _is_this_machine(address: str) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        return True
    return False


def _start_actors(settings: CloudSettings, nodes: dict[str, NodeState]) -> None:
    head = nodes.get("") or nodes[settings.hosts[0].name]
    control_plane = start_control_plane(settings, head.ray_node_id)
    shards = start_shards(settings, head.ray_node_id)
    agents = {host.name: start_host_agent(settings, host, nodes[host.name].ray_node_id) for host in settings.hosts}
    pid = ray.get(control_plane.ping.remote(), timeout=ACTORS_S_MAX)
    say("actor", name="control-plane", pid=pid)
    for name, agent in {**shards, **agents}.items():
        say("actor", name=name, pid=ray.get(agent.ping.remote(), timeout=ACTORS_S_MAX))


def stop_cloud(settings: CloudSettings, address: str) -> None:
    """End every actor in the cloud's namespace: instances' too."""
    _connect(settings, address)
    for named in ray.util.list_named_actors(all_namespaces=True):
        if named["namespace"] != settings.ray_namespace:
            continue
        with contextlib.suppress(ValueError):  # it ended meanwhile
            ray.kill(ray.get_actor(named["name"], namespace=settings.ray_namespace), no_restart=True)
            say("ended", name=named["name"])
    table = ActorTable(settings.ray_namespace)
    for name, actor_ids in table.living().items():
        for actor_id in actor_ids:
            table.kill(actor_id)
            say("ended", name=f"instance {name}")


def main(arguments: list[str]) -> int:
    act = {"open": open_cloud, "stop": stop_cloud}[arguments[0]]
    try:
        act(CloudSettings.from_json(sys.stdin.read()), arguments[1])
    except Exception as error:  # noqa: BLE001 - whatever it is, the supervisor tells it on
        say("failed", error=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(status)  # Ray's own way out waits a second for nothing that is left to do
