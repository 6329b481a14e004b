"""Creates and ends the Ray actors of instances, from inside the control plane actor.

Our scheduler chose the host, so the actor has hard affinity to its node and the same shape in Ray's ledger as in ours.
Creation is asynchronous in Ray: `launch` returns once Ray's own threads have it, and what goes wrong later (the node
died, no room after all, the constructor failed) is told through `on_failed`. That the guest runs is told by its host
agent, not by Ray: Ray's word comes later and says less.

One actor for one generation of an instance, though actors have no name (minicloud.cluster.actor_table): the launcher
remembers what it made, and asks Ray once, at its first launch, what control planes before it have made. What came to
Ray from one that was fenced but did not know yet is a second actor: its host agent sends it away.

Every Ray call may block, so all of them run on threads of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from minicloud.base.errors import CloudError, InsufficientCapacity, Unavailable
from minicloud.base.limits import PENDING_S_MAX
from minicloud.cluster.actor_table import LABEL, ActorTable
from minicloud.cluster.instance import InstanceActor

log = logging.getLogger("minicloud.cluster.launcher")

Instance: Any = ray.remote(InstanceActor)
# An actor that Ray has not placed by then will not be placed: our ledger says there is room, Ray's says there is not.
# Long enough for a host to give back what an instance that just ended held, and for hundreds of cold starts in a row.
PLACE_S_MAX = 240.0
RAY_THREADS = 4
_NOBODY: tuple[asyncio.Task[None] | None, Any] = (None, None)
LOOK_S = 1.0  # at actors that another control plane made: nobody tells of them


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
    def label(self) -> str:
        return label(self.instance_id, self.generation)

    def demand(self) -> dict[str, float]:
        """In Ray's words."""
        wanted = {"CPU": self.cpus, "memory": float(self.memory_bytes), "GPU": self.gpus, **self.resources}
        return {name: amount for name, amount in wanted.items() if amount > 0}


@dataclass(frozen=True, slots=True)
class LauncherPorts:
    """secret(instance id, generation), agent_socket(host name): what the actor needs to find and convince its agent.

    on_failed(instance id, generation, error) is called on the event loop, at most once a launch. Also for an actor that
    was dismissed before Ray had heard that it began: who was told by its agent that it runs knows better.
    """

    secret: Callable[[str, int], str]
    agent_socket: Callable[[str], str]
    on_failed: Callable[[str, int, CloudError], None]


def label(instance_id: str, generation: int) -> str:
    """What its actor is called, in the table of actors."""
    return f"{instance_id}:{generation}"


class RayLauncher:
    """Make it on the control plane's event loop; close it there."""

    def __init__(self, ports: LauncherPorts, namespace: str = "minicloud", place_s_max: float = PLACE_S_MAX) -> None:
        self._ports = ports
        self._table = ActorTable(namespace)
        self._made = _Made(self._table)
        self._place_s_max = place_s_max
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(RAY_THREADS, thread_name_prefix="ray-launch")
        self._totals: dict[str, dict[str, float]] = {}
        self._watching: dict[str, tuple[asyncio.Task[None], Any]] = {}

    async def launch(self, spec: LaunchSpec) -> None:
        """Idempotent: an actor of this instance and generation is left as it is, and watched.

        Raises InsufficientCapacity (the node never has that much), Unavailable (the node or the GCS is away).
        """
        actor_id, handle = await self._loop.run_in_executor(self._threads, self._create, spec)
        if spec.label not in self._watching:
            watch = asyncio.ensure_future(self._watch(spec, actor_id, handle))
            self._watching[spec.label] = (watch, handle)
            watch.add_done_callback(lambda _: self._watching.pop(spec.label, None))

    async def kill(self, instance_id: str, generation: int) -> None:
        """End the actor and its guest at once. One that is not there is fine. Raises Unavailable."""
        name = label(instance_id, generation)
        watch, handle = self._watching.pop(name, _NOBODY)
        if watch is not None:
            watch.cancel()
        await self._loop.run_in_executor(self._threads, self._kill, name, handle)

    async def close(self) -> None:
        """Stop watching. The actors stay."""
        watches = [watch for watch, _ in self._watching.values()]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # ------------------------------------------------------------ on Ray's threads

    def _create(self, spec: LaunchSpec) -> tuple[str, Any]:
        """Its id, and its handle: None where it was there already."""
        self._check_node(spec)
        with self._made.lock:
            known = self._made.find(spec.label)
            if known is not None:
                return known, None
            handle = self._new(spec)
            self._made.add(spec.label, handle._actor_id.hex())
            return handle._actor_id.hex(), handle

    def _new(self, spec: LaunchSpec) -> Any:
        options = Instance.options(
            _labels={LABEL: spec.label},
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

    def _kill(self, name: str, handle: Any) -> None:
        """handle: of one that may have come so far only as our own threads of Ray's."""
        try:
            if handle is not None:
                ray.kill(handle, no_restart=True)
        except exceptions.RayError as error:
            raise Unavailable(f"Ray cannot end actors at the moment: {error}") from None
        for actor_id in self._table.living().get(name, ()):
            self._table.kill(actor_id)

    # ------------------------------------------------------------ after the creation

    async def _watch(self, spec: LaunchSpec, actor_id: str, handle: Any) -> None:
        """Until the constructor has run; tells what prevents it."""
        try:
            over = self._constructed(handle) if handle is not None else self._found(actor_id)
            task = asyncio.ensure_future(over)
            while True:
                done, _ = await asyncio.wait([task], timeout=self._place_s_max)
                if done:
                    task.result()
                    return
                if not await self._on_threads(self._table.is_coming, actor_id):
                    continue
                await self._on_threads(self._kill, spec.label, handle)
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

    async def _constructed(self, handle: Any) -> None:
        """Raises RayError."""
        ready = await self._on_threads(_ready, handle)
        await asyncio.wrap_future(ready)

    async def _found(self, actor_id: str) -> None:
        """The same for one whose handle is another control plane's. Raises Unavailable when it is over."""
        while True:
            with contextlib.suppress(Unavailable):
                if not await self._on_threads(self._table.is_coming, actor_id):
                    break
            await asyncio.sleep(LOOK_S)
        if await self._on_threads(self._table.is_dead, actor_id):
            raise Unavailable("its actor ended before it began")

    async def _on_threads(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._threads, call, *arguments)

    def _forget_node(self, node_id: str) -> None:
        self._totals.pop(node_id, None)

    def _failed(self, spec: LaunchSpec, message: str) -> None:
        self._forget_node(spec.ray_node_id)
        self._ports.on_failed(spec.instance_id, spec.generation, Unavailable(message.split(os.linesep)[0][:500]))


class _Made:
    """The actors that a launch may ask for again, so for as long as an instance may be pending. Hold `lock`."""

    def __init__(self, table: ActorTable) -> None:
        self.lock = threading.Lock()
        self._table = table
        self._known: dict[str, tuple[str, float]] | None = None  # label -> id, since when

    def find(self, name: str) -> str | None:
        """The id of an actor that is not over. Raises Unavailable."""
        if self._known is None:
            now = time.monotonic()
            self._known = {one: (ids[0], now) for one, ids in self._table.living().items()}
        known = self._known.get(name)
        return None if known is None or self._table.is_dead(known[0]) else known[0]

    def add(self, name: str, actor_id: str) -> None:
        assert self._known is not None
        now = time.monotonic()
        self._known.pop(name, None)
        self._known[name] = (actor_id, now)
        while (oldest := next(iter(self._known))) != name and now - self._known[oldest][1] > PENDING_S_MAX:
            del self._known[oldest]


def _ready(handle: Any) -> Future[Any]:
    future: Future[Any] = handle.__ray_ready__.remote().future()
    return future


def _words(demand: dict[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in demand.items())
