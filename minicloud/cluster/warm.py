"""The warm pool of one host: Ray workers that were started ahead and never used.

The raylet gives a new actor an idle worker when everything matches (raylet/worker_pool.cc, WorkerFitForLease): the
worker has run nothing, its job is none or the actor's, its runtime environment is the same (here: none; the control
plane actor must not have one either, its children would inherit it), its command line has no options of its own. CPUs,
memory and GPUs play no part. Workers started by PrestartWorkers without a job fit the actors of every job. Measured
(benchmarks/launch.py): creation to first answer 15-40 ms with such a worker, 500-800 ms without.

What one call starts is bound by the raylet's startup concurrency (its CPUs, at least 1), the rest is dropped in
silence: so the pool counts and asks again. It counts in /proc, among the raylet's children; Ray has no event for it.
Starting a worker costs the CPU that launches under way need, so the pool waits until they are over: a burst that has
taken all there were is served by the raylet, and what the pool started meanwhile would come late for all of them.

Workers live KEEP_ALIVE_S, then the raylet ends those above its own idle limit (its free CPUs) and the pool asks for as
many as are wanted then. That is how the pool shrinks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from minicloud.cluster.warm_policy import FLOOR, MEMORY_S, wanted_workers

log = logging.getLogger("minicloud.cluster.warm")

KEEP_ALIVE_S = 900
QUIET_S = 0.3
LOOK_S = 0.25  # while workers are starting
IDLE_LOOK_S = 5.0
RPC_S_MAX = 5.0
HELD_S_MAX = 60.0  # after the last launch: one that is stuck does not keep the next ones slow
LAUNCHES_KEPT = 256


class Raylet(Protocol):
    """The workers of one node."""

    def workers(self) -> tuple[int, int]:
        """(idle and never used, still starting)"""
        ...

    def free_bytes(self) -> float: ...

    async def prestart(self, count: int) -> None:
        """Ask for workers. Raises OSError or grpc's error when the raylet does not answer."""
        ...


class WarmPool:
    """`run` keeps the pool full until cancelled; the others may be called at any time from its loop."""

    def __init__(self, raylet: Raylet, floor: int = FLOOR) -> None:
        self._raylet = raylet
        self._floor = floor
        self._launches: deque[float] = deque(maxlen=LAUNCHES_KEPT)
        self._quiet_at = 0.0
        self._under_way = 0
        self._wake = asyncio.Event()
        self.idle = 0

    def launched(self) -> None:
        """An actor is about to take a worker."""
        self._launches.append(time.monotonic())
        self.busy()

    def busy(self) -> None:
        """Something else needs the CPU just now."""
        self._quiet_at = time.monotonic() + QUIET_S
        self._wake.set()

    def under_way(self, launches: int) -> None:
        """So many guests are on their way."""
        self._under_way = launches
        self._wake.set()

    def set_floor(self, workers: int) -> None:
        """As the control plane wants it: at least so many, whatever the demand."""
        self._floor = max(0, workers)
        self._wake.set()

    async def run(self) -> None:
        while True:
            if (left := self._quiet_at - time.monotonic()) > 0:
                await asyncio.sleep(left)
                continue
            self._wake.clear()
            try:
                pause = self._held_s() or await self._top_up()
            except Exception as error:  # noqa: BLE001 - a raylet in trouble costs speed, not launches
                log.warning("cannot prestart workers: %r", error)
                pause = IDLE_LOOK_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)

    def _held_s(self) -> float:
        """How long launches may keep the pool from being filled, if nothing is told meanwhile."""
        if not self._under_way or not self._launches:
            return 0.0
        return max(0.0, self._launches[-1] + HELD_S_MAX - time.monotonic())

    async def _top_up(self) -> float:
        """One look; returns in how many seconds the next is due."""
        self.idle, starting = self._raylet.workers()
        now = time.monotonic()
        while self._launches and now - self._launches[0] > MEMORY_S:
            self._launches.popleft()
        wanted = wanted_workers(self._launches, now, self._floor, self._raylet.free_bytes())
        missing = wanted - self.idle - starting
        if missing > 0 and not starting:
            await self._raylet.prestart(missing)
        return LOOK_S if missing > 0 or starting else IDLE_LOOK_S


class LocalRaylet:
    """The raylet that is this process's parent, asked through its own gRPC port with Ray's own credentials."""

    def __init__(self, ray_node_id: str) -> None:
        """Call in a Ray worker, off the event loop: asks the GCS for the raylet's address. Raises LookupError."""
        import ray

        node = next((node for node in ray.nodes() if node["NodeID"] == ray_node_id), None)
        if node is None:
            raise LookupError(f"no Ray node {ray_node_id}")
        self._address = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        self._pid = os.getppid()
        self._channel: Any = None

    def workers(self) -> tuple[int, int]:
        return count_workers(self._pid)

    def free_bytes(self) -> float:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
        return float("inf")

    async def prestart(self, count: int) -> None:
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

        if self._channel is None:
            self._channel = init_grpc_channel(self._address, asynchronous=True)
        request = node_manager_pb2.PrestartWorkersRequest(
            language=common_pb2.Language.PYTHON, num_workers=count, keep_alive_duration_secs=KEEP_ALIVE_S
        )
        stub = node_manager_pb2_grpc.NodeManagerServiceStub(self._channel)
        await stub.PrestartWorkers(request, timeout=RPC_S_MAX)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def count_workers(raylet_pid: int) -> tuple[int, int]:
    """(idle, starting) among the raylet's children; (0, 0) when it is gone."""
    idle = starting = 0
    for children in Path(f"/proc/{raylet_pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in children.read_text().split():
                line = _command_line(pid)
                idle += line.startswith(b"ray::IDLE")
                starting += b"default_worker.py" in line
    return idle, starting


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
