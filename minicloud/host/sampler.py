"""Once a second: what every guest uses, as samples for the control plane's metrics and status checks.

One pass reads a few files per guest and does what hangs on it: CPU credits of burstable types are spent
and the cap that follows is put in force, memory is watched where the kernel does not limit it, and every guest's init
is pinged once in PING_EVERY passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from minicloud.base.limits import HOST_HEARTBEAT_S
from minicloud.host.guests import spec_of
from minicloud.host.life import Life
from minicloud.host.ports import Burst, Credits, GuestMeter, GuestUsage, GuestWatch
from minicloud.host.records import GuestRecord, RecordFiles
from minicloud.wire import fleet_pb2 as wire

log = logging.getLogger("minicloud.host.sampler")

PING_EVERY = 5
PING_S_MAX = 2.0
CREDITS_SAVED_EVERY = 60
_GIB = 1024**3
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class SamplerParts:
    """`memory_enforced`: the kernel limits the guests' memory, nobody needs to watch it. wall(): Unix seconds."""

    meter: GuestMeter
    watch: GuestWatch
    files: RecordFiles
    credits: Credits | None
    memory_enforced: bool
    disk: Path
    wall: Callable[[], float]


@dataclass(slots=True)
class _Seen:
    """Of one generation of one guest, from the last pass."""

    generation: int
    boot: int
    usage: GuestUsage
    at: float
    vcpus: float
    memory_mib: int
    burst: Burst | None
    balance: float = 0.0
    cap: float | None = None
    restored: bool = False  # credits and cap were taken over from the record; an older agent may have left a cap


class Sampler:
    """`run` calls `beat` once a second; `lives` are the guests of the moment."""

    def __init__(
        self,
        parts: SamplerParts,
        lives: Callable[[], Iterable[Life]],
        beat: Callable[[wire.HostBeat], None],
        warm_workers: Callable[[], int],
    ) -> None:
        self._parts = parts
        self._lives = lives
        self._beat = beat
        self._warm_workers = warm_workers
        self._seen: dict[str, _Seen] = {}
        self._pass = 0
        self._host_cpu = _HostCpu()
        self._pings: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._beat(self.look(loop.time()))
            due = max(due + HOST_HEARTBEAT_S, loop.time())
            await asyncio.sleep(due - loop.time())

    def options_changed(self, instance_id: str) -> None:
        """The guest's credit mode may be another one: read its options again."""
        self._seen.pop(instance_id, None)

    def look(self, now: float) -> wire.HostBeat:
        """One pass; `now` is monotonic."""
        self._pass += 1
        beat = wire.HostBeat(
            warm_workers=self._warm_workers(),
            host_cpu_percent=self._host_cpu.percent(),
            host_memory_available_mib=_memory_available() // _MIB,
            host_disk_free_gib=_disk_free(self._parts.disk) // _GIB,
        )
        lives = {life.record.instance_id: life for life in self._lives() if life.record.phase == "running"}
        for gone in self._seen.keys() - lives.keys():
            del self._seen[gone]
        for position, life in enumerate(lives.values()):
            with contextlib.suppress(OSError):  # it ends just now; its life will say so
                beat.samples.append(self._sample(life, now))
            if (self._pass + position) % PING_EVERY == 0:
                self._ping(life)
        return beat

    def _sample(self, life: Life, now: float) -> wire.GuestSample:
        record = life.record
        usage = self._parts.meter.usage(record)
        seen = self._seen.get(record.instance_id)
        if seen is None or (seen.generation, seen.boot) != (record.generation, record.boot):
            seen = self._first_look(record, usage, now)
        elapsed = now - seen.at
        used = max(0.0, usage.cpu_s - seen.usage.cpu_s)
        percent = 100 * used / (elapsed * seen.vcpus) if elapsed > 0 else 0.0
        seen.usage, seen.at = usage, now
        self._spend(record, seen, used)
        if not self._parts.memory_enforced and usage.memory_bytes > seen.memory_mib * _MIB:
            life.out_of_memory()
        return wire.GuestSample(
            instance_id=record.instance_id,
            generation=record.generation,
            cpu_percent=percent,
            memory_bytes=usage.memory_bytes,
            credit_balance=seen.balance,
            answers=life.answers,
            network_in_bytes=usage.network_in_bytes,
            network_out_bytes=usage.network_out_bytes,
            disk_read_bytes=usage.disk_read_bytes,
            disk_write_bytes=usage.disk_write_bytes,
            throttled=seen.cap is not None,
        )

    def _first_look(self, record: GuestRecord, usage: GuestUsage, now: float) -> _Seen:
        spec = spec_of(record)
        burst = None
        if spec.burstable and self._parts.credits is not None:
            unlimited = spec.cpu_credits == "unlimited"
            burst = Burst(spec.type, spec.shape.vcpus, spec.baseline_pct_per_vcpu, unlimited)
        seen = _Seen(
            record.generation, record.boot, usage, now, max(spec.shape.vcpus, 0.01), spec.shape.memory_mib, burst
        )
        self._seen[record.instance_id] = seen
        return seen

    def _spend(self, record: GuestRecord, seen: _Seen, used_cpu_s: float) -> None:
        credits = self._parts.credits
        if seen.burst is None or credits is None:
            return
        now = self._parts.wall()
        if not seen.restored:
            record.credits = credits.open(seen.burst, record.credits, now)
        step = credits.step(seen.burst, record.credits, used_cpu_s, now)
        record.credits, seen.balance = step.account, step.balance
        if step.cap_vcpus != seen.cap or not seen.restored:
            self._parts.meter.throttle(record, step.cap_vcpus)
            seen.cap, seen.restored = step.cap_vcpus, True
        if self._pass % CREDITS_SAVED_EVERY == 0:
            self._parts.files.save(record)

    def _ping(self, life: Life) -> None:
        task = asyncio.ensure_future(self._ask(life))
        self._pings.add(task)
        task.add_done_callback(self._pings.discard)

    async def _ask(self, life: Life) -> None:
        """A guest that hangs keeps its connection open: only an answer counts."""
        boot = life.record.boot
        try:
            answers = await asyncio.wait_for(self._parts.watch.ping(life.record), PING_S_MAX)
        except TimeoutError:
            answers = False
        if life.record.boot == boot and life.record.phase == "running":
            life.answers = answers


class _HostCpu:
    """Share of all CPUs in use since the last look, in percent."""

    def __init__(self) -> None:
        self._busy, self._all = self._read()

    def percent(self) -> float:
        busy, total = self._read()
        used = 100.0 * (busy - self._busy) / (total - self._all) if total > self._all else 0.0
        self._busy, self._all = busy, total
        return used

    @staticmethod
    def _read() -> tuple[int, int]:
        """user nice system idle iowait irq softirq steal, in ticks; guest time is in user already."""
        with open("/proc/stat", "rb") as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def _memory_available() -> int:
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def _disk_free(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize
