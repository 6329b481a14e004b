"""What the host agent needs from the outside. `cloud.py` plugs these in."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from minicloud.host.records import GuestRecord


@dataclass(frozen=True, slots=True)
class GuestUsage:
    """What a guest has used. CPU, network and disk count up from its start; memory is of now."""

    cpu_s: float = 0.0
    memory_bytes: int = 0
    network_in_bytes: int = 0
    network_out_bytes: int = 0
    disk_read_bytes: int = 0
    disk_write_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GuestStatus:
    """What a guest's init says of itself. user_data: "" (none), running, done, failed."""

    user_data: str = ""
    user_data_exit: int = 0


class GuestBuilder(Protocol):
    """Makes the place where a guest lives, and takes it down. Everything is idempotent; nothing blocks the loop."""

    async def begin(self, record: GuestRecord, save: Callable[[], None]) -> int:
        """Make it of a guest that waits, which boots at once; its pid. 0: there is none that fits, `prepare` it.

        `save` keeps the record; called before anything begins that only the record tells of.
        """
        ...

    async def prepare(self, record: GuestRecord, cancelled: threading.Event) -> None:
        """Disk, control group, network; fills the record's address, network, isolation. Raises CloudError, OSError."""
        ...

    async def plan(self, record: GuestRecord) -> dict[str, Any]:
        """What its actor needs for this boot: a launch plan (`minicloud.sandbox.spawn`) and a fresh control directory.

        Or {"adopt": path}: the guest runs already, its keeper (`minicloud.sandbox.keeper`) listens there.
        """
        ...

    async def release(self, record: GuestRecord) -> None:
        """Network, control group and control directory, with whatever process is left in them; the disk stays."""
        ...

    async def delete_disk(self, instance_id: str) -> None: ...

    async def take_over(self, live: Iterable[GuestRecord]) -> list[str]:
        """At the agent's start: keep what these guests need, remove what others left. Returns warnings."""
        ...

    def close(self) -> None:
        """The agent goes; guests stay."""
        ...


class GuestWatch(Protocol):
    """What a running guest says, and being heard by it."""

    def statuses(self, record: GuestRecord) -> AsyncIterator[GuestStatus]:
        """The status of its init, as soon as there is one, and every change; ends with the guest."""
        ...

    async def shut_down(self, record: GuestRecord, grace_s: float) -> None:
        """Ask it to end. Returns when it was asked. Raises CloudError, OSError when it does not listen."""
        ...

    async def ping(self, record: GuestRecord) -> bool: ...


class GuestWalls(Protocol):
    """The limits around a guest's processes."""

    def oom_events(self, record: GuestRecord) -> int:
        """A descriptor that becomes readable when memory ran out; the caller closes it. -1: nothing tells."""
        ...

    def oom_kills(self, record: GuestRecord) -> int: ...

    async def kill(self, record: GuestRecord) -> None:
        """SIGKILL to every process; returns when they are gone."""
        ...

    async def freeze(self, record: GuestRecord) -> bool:
        """Stop every process. False: this host cannot."""
        ...

    async def thaw(self, record: GuestRecord) -> None: ...


class GuestMeter(Protocol):
    """What guests use, and how much CPU they may."""

    def usage(self, record: GuestRecord) -> GuestUsage:
        """Cheap: some file reads. Raises OSError when the guest is gone."""
        ...

    def throttle(self, record: GuestRecord, vcpus: float | None) -> None:
        """Cap its CPU time; None: the type's own again."""
        ...


@dataclass(frozen=True, slots=True)
class Burst:
    """What a burstable type says of its CPU. `baseline_pct_per_vcpu`: 20.0 is a fifth of each vCPU."""

    instance_type: str
    vcpus: float
    baseline_pct_per_vcpu: float
    unlimited: bool


@dataclass(frozen=True, slots=True)
class CreditStep:
    """`account` is JSON-able and kept with the guest; `cap_vcpus` None: no cap but the type's own."""

    account: dict[str, Any]
    balance: float
    cap_vcpus: float | None


class Credits(Protocol):
    """CPU credits of burstable guests; pure. Times are Unix seconds."""

    def check(self, kept: dict[str, Any]) -> None:
        """Raises ValueError where `kept` is neither {} nor an account."""
        ...

    def open(self, burst: Burst, kept: dict[str, Any], now: float) -> dict[str, Any]:
        """The account at a start: a new one, or what was kept when it was stopped ({}: nothing)."""
        ...

    def step(self, burst: Burst, account: dict[str, Any], used_cpu_s: float, now: float) -> CreditStep:
        """Earn and spend since the last step."""
        ...


class WorkerPool(Protocol):
    """The host's warm Ray workers (minicloud.cluster.warm)."""

    @property
    def idle(self) -> int: ...

    def launched(self) -> None: ...

    def busy(self) -> None: ...

    def under_way(self, launches: int) -> None: ...

    def set_floor(self, workers: int) -> None: ...

    async def run(self) -> None: ...
