"""Makes the place where a guest lives: disk, control group, network, control directory, launch plan. Takes it down.

Fulfils `ports.GuestBuilder`. `prepare` runs while Ray makes the actor, so that a first boot's plan is ready before the
actor asks; a plan that depends on the actor (which GPUs Ray gave it) and that of every further boot is made when asked.

A first boot is that of a guest that was started ahead where one fits (ahead.py): it begins before Ray makes the actor,
and its "plan" is where the actor finds its keeper. What goes wrong with it costs the guest that was started ahead, and
the launch goes the other way.

Disks outlive guests: <host>/disks/<instance>/ is deleted by `delete_disk` only. It is renamed first, so that a deletion
that was cut short is finished at the next start and never mistaken for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minicloud.base.arn import Scope
from minicloud.base.errors import CloudError, Conflict
from minicloud.host import firewall
from minicloud.host.ahead import AHEAD, Ahead, AheadParts, Blank
from minicloud.host.blanks import MAKING, Blanks
from minicloud.host.boot import hostname, init_argv
from minicloud.host.console import Consoles
from minicloud.host.console_log import ConsoleLog
from minicloud.host.guests import spec_of
from minicloud.host.images import Images
from minicloud.host.places import BOOT_DOCUMENT, CA_FILE, Places
from minicloud.host.records import GuestRecord
from minicloud.host.walls import Walls, limits_of
from minicloud.sandbox import bwrap, disk, process
from minicloud.sandbox.cgroup import CpuMemoryLimits
from minicloud.sandbox.kept import keeper_socket
from minicloud.sandbox.network import Endpoint, GuestNetwork
from minicloud.sandbox.plan import BWRAP, GuestLayout, LaunchPlan, PythonPrefix, SandboxSpec, workers_package
from minicloud.wire.fleet_pb2 import GuestSpec

log = logging.getLogger("minicloud.host.building")

TMP_MIB_MIN, TMP_MIB_MAX = 16, 512
DELETING = ".deleting-"
NVIDIA_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools")


@dataclass(frozen=True, slots=True)
class Isolation:
    """How guests are walled in on this host (`minicloud.sandbox.probe` finds it out)."""

    driver: str
    bwrap_path: str | None
    python: PythonPrefix
    cgroup_version: int
    seccomp: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What the boot document is made of. `root`: the guest's root as its init sees it."""

    spec: GuestSpec
    isolated: bool
    root: str
    addresses: tuple[str, ...]
    env: dict[str, str]


@dataclass(frozen=True, slots=True)
class BuilderParts:
    """boot_document(facts): the bytes of boot.json.

    secret(instance id, generation): what an actor shows to get its guest; None: no guests are started ahead.
    tls: the cloud's doors speak it; ca: PEM of whom guests trust for that, b"" where their own trust store will do.
    """

    places: Places
    isolation: Isolation
    network: GuestNetwork
    walls: Walls
    images: Images
    consoles: Consoles
    boot_document: Callable[[BootFacts], bytes]
    secret: Callable[[str, int], str] | None = None
    tls: bool = False
    ca: bytes = b""
    console_log: ConsoleLog | None = None


class Builder:
    """Owned by the agent's event loop; what blocks runs on threads."""

    def __init__(self, parts: BuilderParts) -> None:
        self._parts = parts
        self._workers_dir = workers_package()
        self._plans: dict[tuple[str, int, int], dict[str, Any]] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._deletions = 0
        self._coming: dict[str, GuestRecord] = {}  # prepared, and at the last look not running yet
        self._blanks = Blanks(parts.places.disks, self._prepare_blank, self._under_way)
        self.ahead = self._open_ahead()
        self._begun: dict[str, Blank] = {}  # handed to an instance by this agent
        parts.places.disks.mkdir(mode=0o700, parents=True, exist_ok=True)
        parts.places.controls.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ------------------------------------------------------------ ports.GuestBuilder

    async def begin(self, record: GuestRecord, save: Callable[[], None]) -> int:
        self._coming[record.instance_id] = record
        begun = await self._begin_ahead(record, spec_of(record), save)
        return self._begun[record.instance_id].pid if begun else 0

    async def prepare(self, record: GuestRecord, cancelled: threading.Event) -> None:
        spec = spec_of(record)
        self._coming[record.instance_id] = record
        root = self._parts.places.root(record.instance_id)
        if not spec.image_builtin and not root.exists():
            await self._parts.images.unpack(spec.image_id, root, cancelled)
        plan = await asyncio.to_thread(self._prepare, record, spec)
        if spec.image_builtin:
            self._blanks.refill()
        self._keep_console(record)
        if not spec.shape.gpus:
            self._plans[_key(record)] = plan

    async def plan(self, record: GuestRecord) -> dict[str, Any]:
        ready = self._plans.pop(_key(record), None)
        begun = self._begun.get(record.instance_id)
        if ready is not None and (begun is None or begun.alive()):
            return ready
        return await asyncio.to_thread(self._boot, record, spec_of(record))

    async def release(self, record: GuestRecord) -> None:
        self._plans.pop(_key(record), None)
        self._coming.pop(record.instance_id, None)
        self._endpoints.pop(record.instance_id, None)
        self._parts.consoles.end(self._parts.places.console(record.instance_id))
        begun = self._begun.pop(record.instance_id, None)
        if begun is not None:
            await asyncio.to_thread(begun.end)
            with contextlib.suppress(FileNotFoundError):  # of a keeper that was killed
                os.unlink(self._begin_of(record)["path"])
        await asyncio.to_thread(self._release, record)

    async def delete_disk(self, instance_id: str) -> None:
        await asyncio.to_thread(self._delete_disk, instance_id)

    def close(self) -> None:
        self._blanks.close()
        for begun in self._begun.values():
            begun.line.sock.close()
        if self.ahead is not None:
            self.ahead.close()

    def _under_way(self) -> bool:
        self._coming = {name: one for name, one in self._coming.items() if one.phase == "preparing"}
        return bool(self._coming)

    # ------------------------------------------------------------ what an agent before this one left

    async def take_over(self, live: Iterable[GuestRecord]) -> list[str]:
        """Keep what guests that go on need, remove what dead ones of this host left. Returns warnings."""
        live = list(live)
        warnings = await asyncio.to_thread(self._take_over, live)
        self._blanks.refill()
        if self.ahead is not None:
            self.ahead.refill()
        for record in live:
            self._keep_console(record)
        return warnings

    def _take_over(self, live: list[GuestRecord]) -> list[str]:
        parts = self._parts
        warnings: list[str] = []
        for record in live:
            if record.private_ip:
                with _noted(warnings, f"network of {record.instance_id}"):
                    self._connect(record, spec_of(record))
                    if "firewall" in record.spec:
                        firewall.enforce(record)
        known = {record.instance_id for record in live}
        groups = {record.group_name for record in live}
        for endpoint in parts.network.existing():
            if endpoint.instance_id not in known:
                with _noted(warnings, f"network of {endpoint.instance_id}"):
                    parts.network.release(endpoint.instance_id)
        for name in parts.walls.cgroups.existing(parts.walls.prefix):
            group = name.rpartition("/")[2]
            if group not in groups:
                with _noted(warnings, f"control group of {group}"):
                    parts.walls.remove(group)
        half_done = [folder for part in (DELETING, MAKING, AHEAD) for folder in parts.places.disks.glob(f"{part}*")]
        for folder in [*parts.places.controls.iterdir(), *half_done]:
            if folder.name not in known:
                with _noted(warnings, str(folder)):
                    shutil.rmtree(folder)
        return warnings

    # ------------------------------------------------------------ on threads

    def _prepare(self, record: GuestRecord, spec: GuestSpec) -> dict[str, Any]:
        blank = spec.image_builtin and self._blanks.take(self._parts.places.disk(record.instance_id))
        self._note_place(record, self._connect(record, spec))
        self._parts.walls.create(record.group_name, limits_of(spec))
        return self._boot(record, spec, blank)

    def _note_place(self, record: GuestRecord, endpoint: Endpoint) -> None:
        isolation = self._parts.isolation
        record.private_ip = endpoint.address
        record.network = {"netns": endpoint.netns or "", "gateway": endpoint.gateway}
        record.isolation = {
            "driver": isolation.driver,
            "network": self._parts.network.driver,
            "cgroup": f"v{isolation.cgroup_version}" if isolation.cgroup_version else "none",
            "seccomp": isolation.seccomp,
            "warnings": list(isolation.warnings),
        }
        if "firewall" in record.spec:  # before anything of the user's runs
            firewall.enforce(record)

    def _connect(self, record: GuestRecord, spec: GuestSpec, netns: str | None = None) -> Endpoint:
        """The address that it had before, where that can still be had."""
        network = self._parts.network
        try:
            endpoint = network.allocate(spec.account, record.instance_id, record.private_ip or None, netns)
        except CloudError as error:
            if not record.private_ip:
                raise
            log.warning("guest %s gets another address: %s", record.instance_id, error)
            endpoint = network.allocate(spec.account, record.instance_id, None, netns)
        self._endpoints[record.instance_id] = endpoint
        return endpoint

    def _boot(self, record: GuestRecord, spec: GuestSpec, blank: bool = False) -> dict[str, Any]:
        """Everything that a boot needs afresh; no process of the guest lives. `blank`: its disk only lacks a name."""
        parts = self._parts
        sandbox, facts = self._describe(record, spec)
        shutil.rmtree(sandbox.control_dir, ignore_errors=True)
        sandbox.control_dir.mkdir(mode=0o700)
        place = self._endpoints[record.instance_id]
        if blank and facts.isolated and not sandbox.devices:
            disk.give_name(sandbox.disk_root, sandbox.hostname, place.address, place.names)
        else:
            disk.prepare(sandbox, parts.isolation.python, place.address, names=place.names, isolated=facts.isolated)
        self._hand_over(sandbox.control_dir, facts)
        return self._build(sandbox).to_json()

    def _hand_over(self, control_dir: Path, facts: BootFacts) -> None:
        """What the guest reads, into its fresh control directory."""
        (control_dir / BOOT_DOCUMENT).write_bytes(self._parts.boot_document(facts))
        if self._parts.ca:
            (control_dir / CA_FILE).write_bytes(self._parts.ca)

    def _tls_env(self, control: str) -> dict[str, str]:
        """What the SDK (client/config.py) and AWS's SDKs and CLI read."""
        if not self._parts.tls:
            return {}
        ca = f"{control}/{CA_FILE}"
        return {"MINICLOUD_TLS": "1"} | ({"MINICLOUD_CA": ca, "AWS_CA_BUNDLE": ca} if self._parts.ca else {})

    def _describe(self, record: GuestRecord, spec: GuestSpec) -> tuple[SandboxSpec, BootFacts]:
        parts, endpoint = self._parts, self._endpoints[record.instance_id]
        isolated = parts.isolation.driver == BWRAP
        env = {**endpoint.env, "AWS_DEFAULT_REGION": spec.region, "MINICLOUD_INSTANCE_ID": record.instance_id}
        # The kernel shows a guest the whole machine's (/proc/cpuinfo, /proc/meminfo); these are what its type gives it.
        env["MINICLOUD_VCPUS"] = f"{spec.shape.vcpus:g}"
        env["MINICLOUD_MEMORY_MIB"] = f"{spec.shape.memory_mib:g}"
        if not endpoint.netns:  # the host's network: what listens on every address would listen on the host's
            env["MINICLOUD_BIND_ADDRESS"] = endpoint.address
        env.update(self._gpu_env(record, isolated))
        layout = self._layout(record)
        env.update(self._tls_env(layout.control))
        sandbox = SandboxSpec(
            instance_id=record.instance_id,
            hostname=hostname(spec) or record.instance_id,
            disk_root=parts.places.root(record.instance_id),
            control_dir=parts.places.control(record.instance_id),
            console=parts.places.console(record.instance_id),
            init=init_argv(layout.python, layout.workers),
            limits=limits_of(spec),
            workers_dir=self._workers_dir,
            env={**env, "MINICLOUD_CONTROL_DIR": layout.control},
            cgroup_files=self._join_files(record),
            netns=endpoint.netns_path,
            tmp_mib=tmp_mib(spec),
            disk_gib=spec.shape.disk_gib,
            devices=tuple(self._devices(record)) if isolated else (),
        )
        root = "/" if isolated else str(sandbox.disk_root)
        # In a namespace of its own a service may listen on loopback or on the guest's address; in the host's network
        # loopback is everybody's.
        addresses = ("127.0.0.1", endpoint.address) if endpoint.netns else (endpoint.address,)
        return sandbox, BootFacts(spec, isolated, root, addresses, {**env, "HOSTNAME": sandbox.hostname})

    # ------------------------------------------------------------ guests started ahead

    def _open_ahead(self) -> Ahead | None:
        parts = self._parts
        isolation = parts.isolation
        if parts.secret is None or os.geteuid() != 0 or isolation.driver != BWRAP or isolation.bwrap_path is None:
            return None
        return Ahead(
            AheadParts(
                parts.places,
                parts.walls,
                parts.network,
                isolation.bwrap_path,
                isolation.python,
                self._prepare_blank,
                self._under_way,
            )
        )

    async def _begin_ahead(self, record: GuestRecord, spec: GuestSpec, save: Callable[[], None]) -> bool:
        """Let a guest that waits boot as the instance's; its actor takes it. False: there is none that fits."""
        if self.ahead is None or not spec.image_builtin or spec.shape.gpus:
            return False
        if self._parts.places.disk(record.instance_id).exists():
            return False
        blank = self.ahead.take(tmp_mib(spec))
        if blank is None:
            return False
        try:
            order = self._begin_of(record)
            await asyncio.to_thread(self._begin, blank, record, spec, save, order)
        except (CloudError, OSError) as error:
            log.warning("guest %s is not one that was started ahead: %s", record.instance_id, error)
            record.group = ""
            await asyncio.to_thread(self.ahead.drop, blank)
            return False
        self._begun[record.instance_id] = blank
        self._plans[_key(record)] = {"adopt": order["path"]}
        self._keep_console(record)
        return True

    def _begin(
        self, blank: Blank, record: GuestRecord, spec: GuestSpec, save: Callable[[], None], order: dict[str, Any]
    ) -> None:
        self._name(blank, record, spec)
        save()  # who comes after us must know the group before the guest can be anybody's but ours
        blank.ask(order, "begun")

    def _name(self, blank: Blank, record: GuestRecord, spec: GuestSpec) -> None:
        """Make it the instance's. Raises CloudError, OSError."""
        parts, places = self._parts, self._parts.places
        endpoint = self._connect(record, spec, blank.netns)
        if endpoint.netns != blank.netns:
            raise Conflict(f"{record.instance_id} has a place in the network already")
        self._note_place(record, endpoint)
        places.disk(blank.name).rename(places.disk(record.instance_id))
        shutil.rmtree(places.control(record.instance_id), ignore_errors=True)
        places.control(blank.name).rename(places.control(record.instance_id))
        record.group = blank.name
        group = parts.walls.group_of(record)
        if group is not None:
            group.limit(limits_of(spec))
        sandbox, facts = self._describe(record, spec)
        disk.give_name(sandbox.disk_root, sandbox.hostname, endpoint.address, endpoint.names)
        blank.shape(sandbox.hostname, bwrap.rlimits(sandbox))
        self._hand_over(sandbox.control_dir, facts)

    def _begin_of(self, record: GuestRecord) -> dict[str, Any]:
        assert self._parts.secret is not None
        path = keeper_socket(str(self._parts.places.socket_dir), record.instance_id, record.generation)
        secret = self._parts.secret(record.instance_id, record.generation)
        return {"op": "begin", "path": path, "secret": secret}

    def _prepare_blank(self, root: Path) -> None:
        isolation = self._parts.isolation
        sandbox = SandboxSpec(
            instance_id="blank",
            hostname="blank",
            disk_root=root,
            control_dir=self._parts.places.controls,
            console=root.with_name("console.log"),
            init=("/bin/true",),
            limits=CpuMemoryLimits(1.0, TMP_MIB_MIN, 1),
            workers_dir=self._workers_dir,
        )
        disk.prepare(sandbox, isolation.python, isolated=isolation.driver == BWRAP)
        sandbox.console.touch(0o600)

    def _build(self, sandbox: SandboxSpec) -> LaunchPlan:
        isolation = self._parts.isolation
        if isolation.driver == BWRAP and isolation.bwrap_path is not None:
            return bwrap.build(sandbox, isolation.bwrap_path, isolation.python)
        return process.build(sandbox, isolation.python)

    def _layout(self, record: GuestRecord) -> GuestLayout:
        isolation, places = self._parts.isolation, self._parts.places
        if isolation.driver == BWRAP:
            return bwrap.layout(isolation.python)
        root, control = places.root(record.instance_id), places.control(record.instance_id)
        return process.layout(str(root), str(control), str(self._workers_dir), isolation.python)

    def _join_files(self, record: GuestRecord) -> tuple[str, ...]:
        group = self._parts.walls.group_of(record)
        return group.join_files if group is not None else ()

    def _devices(self, record: GuestRecord) -> list[str]:
        """Its own accelerators and what all of them share; GPUs that are only declared have no device."""
        mine = [path for gpu in record.gpu_ids if os.path.exists(path := f"/dev/nvidia{gpu}")]
        return [*mine, *(path for path in NVIDIA_SHARED if os.path.exists(path))] if mine else []

    def _gpu_env(self, record: GuestRecord, isolated: bool) -> dict[str, str]:
        """The driver numbers the devices that a process can open; where it can open all, it needs their own numbers."""
        if not record.gpu_ids:
            return {}
        hidden = isolated and bool(self._devices(record))
        numbers = [str(number) for number in range(len(record.gpu_ids))] if hidden else record.gpu_ids
        return {"CUDA_VISIBLE_DEVICES": ",".join(numbers)}

    def _keep_console(self, record: GuestRecord) -> None:
        path = self._parts.places.console(record.instance_id)
        with contextlib.suppress(OSError):  # no disk yet: it is kept when it is prepared
            self._parts.consoles.keep(path)
            if self._parts.console_log is not None:
                spec = spec_of(record)
                self._parts.console_log.follow(path, Scope(spec.account, spec.region), record.instance_id)

    def _release(self, record: GuestRecord) -> None:
        self._parts.walls.remove(record.group_name)
        self._parts.network.release(record.instance_id)
        shutil.rmtree(self._parts.places.control(record.instance_id), ignore_errors=True)

    def _delete_disk(self, instance_id: str) -> None:
        folder = self._parts.places.disk(instance_id)
        self._deletions += 1
        doomed = folder.with_name(f"{DELETING}{instance_id}-{os.getpid()}-{self._deletions}")
        try:
            folder.rename(doomed)
        except FileNotFoundError:
            return
        shutil.rmtree(doomed)


def tmp_mib(spec: GuestSpec) -> int:
    """The size of its /tmp."""
    return min(max(spec.shape.memory_mib // 2, TMP_MIB_MIN), TMP_MIB_MAX)


def _key(record: GuestRecord) -> tuple[str, int, int]:
    return record.instance_id, record.generation, record.boot


@contextlib.contextmanager
def _noted(warnings: list[str], what: str) -> Iterator[None]:
    """One piece that cannot be removed must not keep the host from starting."""
    try:
        yield
    except (CloudError, OSError) as error:
        warnings.append(f"{what} could not be cleaned up: {error}")
