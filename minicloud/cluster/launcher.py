"""Creates and ends the Ray actors of instances, from inside the control plane actor.

Our scheduler chose the host, so the actor has hard affinity to its node and the same shape in Ray's ledger as in ours.
Creation is asynchronous in Ray: `launch` returns once the GCS has the actor, and what goes wrong later (the node died,
no room after all, the constructor failed) is told through `on_failed`. That the guest runs is told by its host agent,
not by Ray: Ray's word comes later and says less.

Every Ray call blocks (naming an actor is a round trip to the GCS), so all of them run on threads of their own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions
from ray._private import state as ray_state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from minicloud.base.errors import CloudError, InsufficientCapacity, Internal, Unavailable
from minicloud.cluster.instance import InstanceActor

log = logging.getLogger("minicloud.cluster.launcher")

Instance: Any = ray.remote(InstanceActor)
# An actor that Ray has not placed by then will not be placed: our ledger says there is room, Ray's says there is not.
# Long enough for a host to give back what an instance that just ended held, and for hundreds of cold starts in a row.
PLACE_S_MAX = 240.0
RAY_THREADS = 4
_PENDING = ("DEPENDENCIES_UNREADY", "PENDING_CREATION")


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One actor to create. `cpus` is the type's vCPUs divided by the overcommit ratio."""

    instance_id: str
    generation: int
    host_name: str
    ray_node_id: str
    cpus: float
    memory_bytes: int
    gpus: float = 0.0
    resources: dict[str, float] = field(default_factory=dict)

    @property
    def actor_name(self) -> str:
        return actor_name(self.instance_id, self.generation)

    def demand(self) -> dict[str, float]:
        """In Ray's words."""
        wanted = {"CPU": self.cpus, "memory": float(self.memory_bytes), "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in wanted.items() if amount > 0}


@dataclass(frozen=True, slots=True)
class LauncherPorts:
    """secret(instance id, generation), agent_socket(host name): what the actor needs to find and convince its agent.

    on_failed(instance id, generation, error) is called on the event loop, at most once a launch.
    """

    secret: Callable[[str, int], str]
    agent_socket: Callable[[str], str]
    on_failed: Callable[[str, int, CloudError], None]


def actor_name(instance_id: str, generation: int) -> str:
    return f"instance:{instance_id}:{generation}"


class RayLauncher:
    """Make it on the control plane's event loop; close it there."""

    def __init__(self, ports: LauncherPorts, namespace: str = "minicloud", place_s_max: float = PLACE_S_MAX) -> None:
        self._ports = ports
        self._namespace = namespace
        self._place_s_max = place_s_max
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(RAY_THREADS, thread_name_prefix="ray-launch")
        self._totals: dict[str, dict[str, float]] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    async def launch(self, spec: LaunchSpec) -> None:
        """Idempotent: an actor of this name is left as it is, and watched.

        Raises InsufficientCapacity (the node never has that much), Unavailable (the node or the GCS is away).
        """
        handle = await self._loop.run_in_executor(self._threads, self._create, spec)
        if spec.actor_name not in self._watching:
            watch = asyncio.ensure_future(self._watch(spec, handle))
            self._watching[spec.actor_name] = watch
            watch.add_done_callback(lambda _: self._watching.pop(spec.actor_name, None))

    async def kill(self, instance_id: str, generation: int) -> None:
        """End the actor and its guest at once. One that is not there is fine. Raises Unavailable."""
        name = actor_name(instance_id, generation)
        watch = self._watching.pop(name, None)
        if watch is not None:
            watch.cancel()
        await self._loop.run_in_executor(self._threads, self._kill, name)

    async def close(self) -> None:
        """Stop watching. The actors stay."""
        for watch in list(self._watching.values()):
            watch.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ on Ray's threads

    def _create(self, spec: LaunchSpec) -> Any:
        self._check_node(spec)
        options = Instance.options(
            name=spec.actor_name,
            namespace=self._namespace,
            lifetime="detached",
            max_restarts=0,
            num_cpus=spec.cpus,
            memory=spec.memory_bytes or None,
            num_gpus=spec.gpus or None,
            resources=spec.resources or None,
            scheduling_strategy=NodeAffinitySchedulingStrategy(spec.ray_node_id, soft=False),
        )
        secret = self._ports.secret(spec.instance_id, spec.generation)
        socket = self._ports.agent_socket(spec.host_name)
        try:
            return options.remote(spec.instance_id, spec.generation, socket, secret)
        except ValueError as error:  # Ray's way to say that the name is taken
            try:
                return ray.get_actor(spec.actor_name, self._namespace)
            except ValueError:
                raise Internal(f"Ray refused the actor {spec.actor_name}: {error}") from None
        except exceptions.RayError as error:
            raise Unavailable(f"Ray cannot create actors at the moment: {error}") from None

    def _check_node(self, spec: LaunchSpec) -> None:
        total = self._totals.get(spec.ray_node_id)
        if total is None:
            self._totals = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
            total = self._totals.get(spec.ray_node_id)
        if total is None:
            raise Unavailable(f"host {spec.host_name} has left the Ray cluster")
        for resource, amount in spec.demand().items():
            if amount > total.get(resource, 0.0) + 1e-9:
                raise InsufficientCapacity(
                    f"host {spec.host_name} has {total.get(resource, 0.0):g} {resource} in Ray, {amount:g} are needed"
                )

    def _kill(self, name: str) -> None:
        try:
            ray.kill(ray.get_actor(name, self._namespace), no_restart=True)
        except ValueError:
            return  # nobody of that name lives
        except exceptions.RayError as error:
            raise Unavailable(f"Ray cannot end actors at the moment: {error}") from None

    # ------------------------------------------------------------ after the creation

    async def _watch(self, spec: LaunchSpec, handle: Any) -> None:
        """Until the constructor has run; tells what prevents it."""
        ready = await self._loop.run_in_executor(self._threads, _ready, handle)
        try:
            while True:
                done, _ = await asyncio.wait([asyncio.wrap_future(ready)], timeout=self._place_s_max)
                if done:
                    done.pop().result()
                    return
                if not await self._loop.run_in_executor(self._threads, _is_pending, handle):
                    continue
                await self._loop.run_in_executor(self._threads, self._kill, spec.actor_name)
                raise InsufficientCapacity(
                    f"Ray did not find room for {_words(spec.demand())} on host {spec.host_name}"
                    f" within {self._place_s_max:g} s"
                )
        except CloudError as error:
            self._ports.on_failed(spec.instance_id, spec.generation, error)
        except exceptions.ActorUnschedulableError as error:
            self._forget_node(spec.ray_node_id)
            self._failed(spec, f"host {spec.host_name} cannot take it: {error}")
        except exceptions.RayError as error:
            self._failed(spec, f"its actor ended before it began: {error}")

    def _forget_node(self, node_id: str) -> None:
        self._totals.pop(node_id, None)

    def _failed(self, spec: LaunchSpec, message: str) -> None:
        self._forget_node(spec.ray_node_id)
        self._ports.on_failed(spec.instance_id, spec.generation, Unavailable(message.split(os.linesep)[0][:500]))


def _ready(handle: Any) -> Future[Any]:
    future: Future[Any] = handle.__ray_ready__.remote().future()
    return future


def _is_pending(handle: Any) -> bool:
    known = ray_state.actors(handle._actor_id.hex())
    return bool(known) and known.get("State") in _PENDING


def _words(demand: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in demand.items())
