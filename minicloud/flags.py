"""From what `minicloud up` was asked for to the settings of a cloud: the one place that reads flags and environment.

What cannot or must not be served is refused here, before anything is started. A machine with N hosts divides what it
truly has among them; flags may say otherwise (`--cpus-per-host`), for tests.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from minicloud.base.errors import InvalidParameterCombination, InvalidParameterValue, MissingParameter
from minicloud.base.shape import Overcommit
from minicloud.settings import (
    GRPC_PORT_DEFAULT,
    HTTP_PORT_DEFAULT,
    CloudSettings,
    HostSettings,
    ShardSettings,
    TlsFiles,
    host_id,
    is_loopback,
)
from minicloud.shell.data_dir import REGION_DEFAULT, data_dir, open_cloud

_REGION = re.compile(r"^[a-z]{2}(?:-[a-z]+)+-[0-9]$")
_HOST_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?$")
_MIB = 1024 * 1024
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class UpFlags:
    """What `minicloud up` was asked for; None means "not said"."""

    data_dir: str | None = None
    hosts: int | None = None
    brokers: int | None = None
    grpc_port: int = GRPC_PORT_DEFAULT
    http_port: int = HTTP_PORT_DEFAULT
    bind: str = "127.0.0.1"
    region: str | None = None
    auth: bool | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    address: str | None = None
    cpus_per_host: float | None = None
    memory_per_host_mib: int | None = None
    disk_per_host_gib: int | None = None
    gpus: int | None = None
    overcommit_cpu: float | None = None
    overcommit_memory: float | None = None
    overcommit_gpu: float | None = None


@dataclass(frozen=True, slots=True)
class MachineCapacity:
    """What this machine truly has: cores we may run on, memory, GPU device numbers, free disk at the data directory."""

    cores: float
    memory_mib: int
    gpu_indices: tuple[int, ...] = ()
    disk_gib: int = 0


def resolve(
    flags: UpFlags, env: Mapping[str, str] | None = None, machine: MachineCapacity | None = None
) -> CloudSettings:
    """Settings of the cloud in the data directory, which is made if it is new. Raises InvalidRequest (see `check`)."""
    env = os.environ if env is None else env
    data = data_dir(flags.data_dir, env)
    bare = CloudSettings(
        cloud_id="0" * 8,
        data_dir=str(data),
        bind=flags.bind,
        grpc_port=flags.grpc_port,
        http_port=flags.http_port,
        auth=not is_loopback(flags.bind) if flags.auth is None else flags.auth,
        tls=_tls(flags),
        allowed_hosts=tuple(name.lower() for name in flags.allowed_hosts),
        overcommit=_overcommit(flags),
        ray_address=flags.address or "",
    )
    check(bare)
    if flags.region is not None and not _REGION.match(flags.region):
        raise InvalidParameterValue(f"not a region name, such as {REGION_DEFAULT}: {flags.region!r}", field="region")
    identity = open_cloud(data, flags.region, flags.hosts, flags.brokers)
    settings = replace(
        bare,
        cloud_id=identity.cloud_id,
        region=identity.region,
        brokers=(ShardSettings(),) * identity.brokers,
        balancers=(ShardSettings(),),
        autoscalers=(ShardSettings(),),
        functions=(ShardSettings(),),
    )
    if settings.ray_address:  # a cluster may hold several clouds
        return replace(settings, ray_namespace=f"minicloud-{identity.cloud_id}")
    capacity = machine or probe_machine(data)
    return replace(settings, hosts=divide(settings, identity.hosts, capacity, flags))


def check(settings: CloudSettings) -> None:
    """Refuse what cannot or must not be served. Raises InvalidParameterValue, InvalidParameterCombination."""
    for name in ("grpc_port", "http_port"):
        if not 0 <= getattr(settings, name) <= 65535:
            raise InvalidParameterValue(f"not a port: {getattr(settings, name)}", field=name)
    if settings.grpc_port and settings.grpc_port == settings.http_port:
        raise InvalidParameterCombination("gRPC and HTTP cannot share one port", field="http_port")
    for host in settings.allowed_hosts:
        if not _HOST_NAME.match(host):
            raise InvalidParameterValue(f"not a host name: {host[:255]!r}", field="allowed_hosts")
    _check_bind(settings)
    _check_tls(settings)


def _check_bind(settings: CloudSettings) -> None:
    if settings.bind != "localhost":
        try:
            ipaddress.ip_address(settings.bind)
        except ValueError:
            raise InvalidParameterValue(f"not an address to bind: {settings.bind[:64]!r}", field="bind") from None
    if is_loopback(settings.bind):
        return
    if not settings.auth:
        raise InvalidParameterCombination(
            f"binding to {settings.bind} opens the cloud to other machines: authentication must be on (drop --no-auth)",
            field="auth",
        )
    if settings.tls is None:
        raise InvalidParameterCombination(
            f"binding to {settings.bind} opens the cloud to other machines: TLS is required "
            "(--tls-cert and --tls-key; `minicloud certs` makes them)",
            field="tls",
        )


def _check_tls(settings: CloudSettings) -> None:
    if settings.tls is None:
        return
    for name, path in (("tls_cert", settings.tls.cert), ("tls_key", settings.tls.key), ("tls_ca", settings.tls.ca)):
        if path and not os.access(path, os.R_OK):
            raise InvalidParameterValue(f"cannot read {path}", field=name)


def _tls(flags: UpFlags) -> TlsFiles | None:
    if not (flags.tls_cert or flags.tls_key or flags.tls_ca):
        return None
    if not flags.tls_cert:
        raise MissingParameter("TLS needs a certificate beside its key", field="tls_cert")
    if not flags.tls_key:
        raise MissingParameter("TLS needs a private key beside its certificate", field="tls_key")
    paths = (flags.tls_cert, flags.tls_key, flags.tls_ca)
    cert, key, ca = (str(Path(path).expanduser().absolute()) if path else "" for path in paths)
    return TlsFiles(cert, key, ca)


def _overcommit(flags: UpFlags) -> Overcommit:
    default = Overcommit()
    said = {"cpu": flags.overcommit_cpu, "memory": flags.overcommit_memory, "gpu": flags.overcommit_gpu}
    for name, value in said.items():
        if value is not None and not 1.0 <= value <= 1000.0:
            raise InvalidParameterValue(f"must be between 1 and 1000, not {value}", field=f"overcommit_{name}")
    return replace(default, **{name: value for name, value in said.items() if value is not None})


# ---------------------------------------------------------------- hosts and what they have


def reserve_mib(memory_mib: int, hosts: int) -> int:
    """Memory kept back for the operating system, Ray and the control plane."""
    return min(memory_mib // 2, 1024 + 384 * hosts + memory_mib // 20)


def divide(
    settings: CloudSettings, count: int, machine: MachineCapacity, flags: UpFlags | None = None
) -> tuple[HostSettings, ...]:
    """The machine's cores, memory, GPUs and disk in equal parts. Pure. Raises InvalidParameterValue."""
    flags = flags or UpFlags()
    cores = flags.cpus_per_host if flags.cpus_per_host is not None else round(machine.cores / count, 3)
    memory = flags.memory_per_host_mib
    if memory is None:
        memory = (machine.memory_mib - reserve_mib(machine.memory_mib, count)) // count
    if not 0.01 <= cores <= 10_000:
        raise InvalidParameterValue(f"a host needs 0.01 to 10000 cores, not {cores}", field="cpus_per_host")
    if not 64 <= memory <= 1 << 30:
        raise InvalidParameterValue(
            f"a host needs at least 64 MiB of memory, not {memory} MiB", field="memory_per_host"
        )
    disk = flags.disk_per_host_gib if flags.disk_per_host_gib is not None else machine.disk_gib // count
    if not 0 <= disk <= 1 << 20:
        raise InvalidParameterValue(f"a host has 0 to {1 << 20} GiB of disk, not {disk}", field="disk_per_host")
    gpus = _gpus_per_host(machine, count, flags.gpus)
    hosts = []
    for index in range(count):
        letter = chr(ord("a") + index)
        mine = machine.gpu_indices[index * gpus : (index + 1) * gpus]
        host = HostSettings(
            host_id=host_id(settings.cloud_id, f"host-{letter}"),
            name=f"host-{letter}",
            zone=settings.region + letter,
            cores=cores,
            memory_mib=memory,
            gpus=gpus,
            disk_gib=disk,
            declared_gpus=bool(gpus) and not machine.gpu_indices,
            gpu_indices=mine,
        )
        hosts.append(host)
    return tuple(hosts)


def _gpus_per_host(machine: MachineCapacity, count: int, asked: int | None) -> int:
    true = len(machine.gpu_indices)
    if asked is None:
        return true // count
    if not 0 <= asked <= 64:
        raise InvalidParameterValue(f"a host has 0 to 64 GPUs, not {asked}", field="gpus")
    if true and asked * count > true:
        raise InvalidParameterValue(
            f"{count} hosts with {asked} GPUs need more than the {true} there are", field="gpus"
        )
    return asked


def probe_machine(at: Path) -> MachineCapacity:
    """What this process may use of the machine (CPU affinity and a container's memory limit count)."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):  # absent, or "max"
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = (re.fullmatch(r"nvidia([0-9]+)", name) for name in _names("/dev"))
    return MachineCapacity(
        cores=float(cores),
        memory_mib=memory // _MIB,
        gpu_indices=tuple(sorted(int(device[1]) for device in devices if device)),
        disk_gib=shutil.disk_usage(at).free // _GIB,
    )


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
