"""The long-lived actors: thin shells of Ray around what the composition root runs.

Ray places them, names them and starts them again; nothing else of theirs goes through Ray. What they run blocks on a
thread of its own, with its own event loop, and serves its own sockets, so that a slow Ray call cannot stall it. The two
live and die together: when the thread ends the process exits, and Ray starts a new one (0.6 s to its first line).

Pinning: `minicloud_host:<name>` and `minicloud_head` are resources that only the right node has, so Ray brings the
actor back by itself when a failed host returns as a new Ray node. In a joined cluster no node has them: node affinity.

There is no runtime environment, on purpose: actors that instances are born from would hand it down, and prestarted
workers would fit nobody (minicloud.cluster.warm).
"""

from __future__ import annotations

import importlib
import logging
import logging.handlers
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from minicloud.cluster.ray_commands import HEAD_RESOURCE, HOST_RESOURCE_PREFIX, PIN_AMOUNT
from minicloud.settings import (
    AUTOSCALER,
    BALANCER,
    FUNCTIONS,
    MESSAGE_BROKER,
    CloudSettings,
    HostSettings,
    ShardKind,
)

log = logging.getLogger("minicloud.cluster.actors")

CONTROL_PLANE_NAME = "control-plane"
HOST_AGENT_PREFIX = "host-agent:"
ACTOR_THREADS = 4
LOG_BYTES_MAX = 8 * 1024 * 1024
# Ray restarts an actor at once, again and again: what fails at its start must not take a core for it.
EARLY_S = 5.0
EARLY_PAUSE_S = 1.0
# How long a thread that waits for Python's lock lets another run; Python's own is 5 ms. A launch passes between threads
# a dozen times, in the control plane and in the agent.
SWITCH_S = 0.0005
# `down` asks for an orderly end and then ends the process. Longer than that, and the end was not its doing.
RETURNED_PAUSE_S = 15.0


class ControlPlane:
    """The one control plane of the cloud, on the head node."""

    def __init__(self, settings: str) -> None:
        cloud = CloudSettings.from_json(settings)
        entry = load(cloud.entry_points.control_plane)
        sys.setswitchinterval(SWITCH_S)
        _serve("control-plane", cloud.log_path, lambda: entry(cloud))

    def ping(self) -> int:
        """The process id."""
        return os.getpid()


class HostAgent:
    """The agent of one host, on the host's node."""

    def __init__(self, settings: str, host_name: str) -> None:
        cloud = CloudSettings.from_json(settings)
        host = cloud.host(host_name)
        entry = load(cloud.entry_points.host_agent)
        node_id = ray.get_runtime_context().get_node_id()
        sys.setswitchinterval(SWITCH_S)
        _serve(host_name, cloud.log_path, lambda: entry(cloud, host, node_id))

    def ping(self) -> int:
        """The process id."""
        return os.getpid()


class Shard:
    """One shard, on the head node: its journal and its address are there. A subclass names the kind, as `ps` has it."""

    kind: ClassVar[ShardKind]

    def __init__(self, settings: str, number: int) -> None:
        cloud = CloudSettings.from_json(settings)
        entry = load(cloud.entry_points.of_shard(self.kind))
        _serve(self.kind.called(number), cloud.log_path, lambda: entry(cloud, number))

    def ping(self) -> int:
        """The process id."""
        return os.getpid()


class MessageBroker(Shard):
    kind = MESSAGE_BROKER


class Balancer(Shard):
    kind = BALANCER


class Autoscaler(Shard):
    kind = AUTOSCALER


class Functions(Shard):
    kind = FUNCTIONS


SHARDS: tuple[type[Shard], ...] = (MessageBroker, Balancer, Autoscaler, Functions)


def load(entry_point: str) -> Callable[..., Any]:
    """`module:function` -> what to call; the module is imported when it is called, so that a broken one fails there."""
    module, _, function = entry_point.partition(":")

    def call(*arguments: Any) -> Any:
        return getattr(importlib.import_module(module), function)(*arguments)

    return call


def start_control_plane(settings: CloudSettings, head_node_id: str) -> Any:
    """Create it, or find the one that runs. Returns the actor's handle at once; `ping` answers when it is up."""
    pin = _pin(settings, HEAD_RESOURCE, head_node_id)
    return _actor(ControlPlane, settings, CONTROL_PLANE_NAME, pin).remote(settings.to_json())


def start_shards(settings: CloudSettings, head_node_id: str) -> dict[str, Any]:
    """The actors of all shards, by their names in logs."""
    pin = _pin(settings, HEAD_RESOURCE, head_node_id)
    return {
        shard.kind.called(number): _actor(shard, settings, f"{shard.kind.name}:{number}", pin).remote(
            settings.to_json(), number
        )
        for shard in SHARDS
        for number in range(len(settings.shards(shard.kind)))
    }


def start_host_agent(settings: CloudSettings, host: HostSettings, node_id: str) -> Any:
    pin = _pin(settings, HOST_RESOURCE_PREFIX + host.name, node_id)
    return _actor(HostAgent, settings, HOST_AGENT_PREFIX + host.name, pin).remote(settings.to_json(), host.name)


def _actor(kind: type, settings: CloudSettings, name: str, pin: dict[str, Any]) -> Any:
    return ray.remote(kind).options(
        name=name,
        namespace=settings.ray_namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_concurrency=ACTOR_THREADS,
        num_cpus=0,
        **pin,
    )


def _pin(settings: CloudSettings, resource: str, node_id: str) -> dict[str, Any]:
    if settings.ray_address:
        return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}
    return {"resources": {resource: PIN_AMOUNT}}


def _serve(name: str, log_path: Path, run: Callable[[], Any]) -> None:
    # gRPC's handlers of fork() crash the child now and then; our children exec at once and need none of them.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    _log_to(log_path / f"{name}.log")
    threading.Thread(target=_run, args=(run,), name=name, daemon=True).start()


def _run(run: Callable[[], Any]) -> None:
    began, status = time.monotonic(), 1
    try:
        run()
        status = 0
        log.info("returned; the process ends in %.0f s if nobody ends it first", RETURNED_PAUSE_S)
        time.sleep(RETURNED_PAUSE_S)
    except BaseException:
        log.critical("failed; the process exits and Ray starts it again\n%s", traceback.format_exc())
        if time.monotonic() - began < EARLY_S:
            time.sleep(EARLY_PAUSE_S)
        raise
    finally:
        logging.shutdown()
        os._exit(status)


def _log_to(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES_MAX, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("minicloud")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
