"""Everything a cloud is configured with, and the one place that reads flags and environment.

    flags + environment + <data>/cloud.json + this machine  --resolve()-->  CloudSettings  --JSON-->  every process

A `CloudSettings` is frozen, holds no secret, and goes as JSON to the supervisor (stdin) and from there into every actor
(argument), so all processes of a cloud agree by construction. Only two things are decided later, by the supervisor
under the data directory's lock: ports given as 0, and the hosts of a joined Ray cluster.

    cloud.json      id and region of the cloud, its number of brokers, how many hosts the last `up` had   (made once)
    secret.key      32 random bytes, mode 0600: HMAC of tickets and page tokens, AES of stored secrets   (made once)
    state.db        the control plane's journal
    messages/<n>/   the log of message broker n
    balancers/<n>/  the journal of balancer process n, its HAProxy's files, access logs
    messages/<n>.pem   what message broker n signs the messages of topics with, mode 0600
    run/            pids, ports, sockets; gone after `down`             (beside these: log/ hosts/<host name>/ images/)

A machine with N hosts divides what it truly has among them; flags may say otherwise (`--cpus-per-host`), for tests.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from minicloud.base.errors import (
    Internal,
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
)
from minicloud.base.shape import Overcommit
from minicloud.shell.data_dir import REGION_DEFAULT, SECRET_BYTES, data_dir, open_cloud
from minicloud.shell.data_dir import write_file as write_file

GRPC_PORT_DEFAULT = 7077
HTTP_PORT_DEFAULT = 4566
GUEST_NAME = "minicloud.internal"  # by which guests call the front door and the brokers where TLS is on
HOST_RESTART_AFTER_S = 20.0  # a dead raylet is a failed host: long enough for the failure to be seen and acted on
SOCKET_DATA_DIR_BYTES_MAX = 44  # leaves 60 bytes for "/run/s/..." below it, Ray's own sockets included
_REGION = re.compile(r"^[a-z]{2}(?:-[a-z]+)+-[0-9]$")
_HOST_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?$")
_MIB = 1024 * 1024
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: certificate chain, private key, and the CA that clients are told to trust (may be '')."""

    cert: str
    key: str
    ca: str = ""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """One host: a Ray node that instances run on. `cores` and `memory_mib` are what Ray is told, before overcommit.

    `declared_gpus`: the GPUs are a claim for tests (`--gpus N`), no device stands behind them.
    `gpu_indices`: the device numbers of this machine that belong to this host; empty when declared or none.
    """

    host_id: str
    name: str
    zone: str
    cores: float
    memory_mib: int
    gpus: int = 0
    disk_gib: int = 0
    declared_gpus: bool = False
    gpu_indices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where one message broker listens: gRPC for users (where the front door is), HTTP on loopback behind it."""

    port: int = 0
    http_port: int = 0


@dataclass(frozen=True, slots=True)
class BalancerSettings:
    """Where one balancer process listens: gRPC for users."""

    port: int = 0


@dataclass(frozen=True, slots=True)
class EntryPoints:
    """What the actors run, as `module:function`; tests put stand-ins here. All block until SIGTERM or failure.

    control_plane(settings: CloudSettings) -> None
    host_agent(settings: CloudSettings, host: HostSettings, ray_node_id: str) -> None
    message_broker(settings: CloudSettings, number: int) -> None; balancer: the same
    """

    control_plane: str = "minicloud.cloud:run_control_plane"
    host_agent: str = "minicloud.cloud_host:run_host_agent"
    message_broker: str = "minicloud.cloud_broker:run_message_broker"
    balancer: str = "minicloud.cloud_balancer:run_balancer"


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """One cloud. Ports of 0 stand for "choose a free one" until the supervisor has chosen.

    control_host, control_port, control_http_port: where the control plane's gRPC and HTTP servers listen, behind the
    front door. Loopback on one machine; in a joined Ray cluster the address of the node that `up` ran on.
    """

    cloud_id: str
    data_dir: str
    region: str = REGION_DEFAULT
    bind: str = "127.0.0.1"
    grpc_port: int = GRPC_PORT_DEFAULT
    http_port: int = HTTP_PORT_DEFAULT
    control_host: str = "127.0.0.1"
    control_port: int = 0
    control_http_port: int = 0
    auth: bool = False
    tls: TlsFiles | None = None
    allowed_hosts: tuple[str, ...] = ()
    overcommit: Overcommit = field(default_factory=Overcommit)
    hosts: tuple[HostSettings, ...] = ()
    brokers: tuple[BrokerSettings, ...] = ()
    balancers: tuple[BalancerSettings, ...] = ()
    ray_address: str = ""
    ray_namespace: str = "minicloud"
    host_restart_after_s: float = HOST_RESTART_AFTER_S
    entry_points: EntryPoints = field(default_factory=EntryPoints)

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir)

    @property
    def run_path(self) -> Path:
        """Pids, ports, sockets: gone after `down`."""
        return self.data_path / "run"

    @property
    def log_path(self) -> Path:
        return self.data_path / "log"

    @property
    def state_path(self) -> Path:
        """The control plane's journal."""
        return self.data_path / "state.db"

    @property
    def images_path(self) -> Path:
        return self.data_path / "images"

    def messages_path(self, broker: int) -> Path:
        """The log of one message broker."""
        return self.data_path / "messages" / str(broker)

    def signing_key_path(self, broker: int) -> Path:
        """What one message broker signs the messages of topics with."""
        return self.data_path / "messages" / f"{broker}.pem"

    @property
    def secret_path(self) -> Path:
        return self.data_path / "secret.key"

    @property
    def socket_path(self) -> Path:
        """Where unix sockets live: in run/ while their paths fit the kernel's 107 bytes, else under /tmp, mode 0700."""
        if len(os.fsencode(self.data_dir)) <= SOCKET_DATA_DIR_BYTES_MAX:
            return self.run_path / "s"
        return Path("/tmp") / f"mc-{hashlib.sha256(f'{self.cloud_id}/{self.data_dir}'.encode()).hexdigest()[:8]}"

    @property
    def zones(self) -> tuple[str, ...]:
        return tuple(sorted({host.zone for host in self.hosts}))

    @property
    def endpoints(self) -> dict[str, str]:
        """What to give to clients: MINICLOUD_ENDPOINT and AWS_ENDPOINT_URL."""
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        if self.bind in ("0.0.0.0", "::"):  # every address of this machine; this one is true on it
            host = "localhost"
        scheme = "https" if self.tls else "http"
        return {"grpc": f"{host}:{self.grpc_port}", "http": f"{scheme}://{host}:{self.http_port}"}

    def broker_socket(self, broker: int) -> Path:
        """Where the control plane asks a message broker for its health."""
        return self.socket_path / f"broker-{broker}"

    def balancer_path(self, number: int) -> Path:
        return self.data_path / "balancers" / str(number)

    def balancer_socket(self, number: int) -> Path:
        return self.socket_path / f"balancer-{number}"

    def host_path(self, host_name: str) -> Path:
        return self.data_path / "hosts" / host_name

    def host(self, name: str) -> HostSettings:
        """Raises KeyError."""
        return next(host for host in self.hosts if host.name == name)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> CloudSettings:
        """Raises InvalidParameterValue where a field is missing, unknown or of the wrong kind."""
        try:
            raw: dict[str, Any] = json.loads(text)
            hosts = tuple(HostSettings(**{**h, "gpu_indices": tuple(h["gpu_indices"])}) for h in raw.pop("hosts"))
            return CloudSettings(
                hosts=hosts,
                brokers=tuple(BrokerSettings(**broker) for broker in raw.pop("brokers", ())),
                balancers=tuple(BalancerSettings(**balancer) for balancer in raw.pop("balancers", ())),
                tls=TlsFiles(**tls) if (tls := raw.pop("tls")) else None,
                overcommit=Overcommit(**raw.pop("overcommit")),
                entry_points=EntryPoints(**raw.pop("entry_points")),
                allowed_hosts=tuple(raw.pop("allowed_hosts")),
                **raw,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidParameterValue(f"not the settings of a cloud: {error}", field="settings") from None


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
    brokers = (BrokerSettings(),) * identity.brokers
    settings = replace(
        bare, cloud_id=identity.cloud_id, region=identity.region, brokers=brokers, balancers=(BalancerSettings(),)
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


def host_id(cloud_id: str, host_name: str) -> str:
    """'h-' and 17 hex digits; the same for the same host of the same cloud, always."""
    return "h-" + hashlib.sha256(f"{cloud_id}/{host_name}".encode()).hexdigest()[:17]


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


def is_loopback(bind: str) -> bool:
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return False


_ENV_KEPT = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH", "PYTHONPATH")
_ENV_KEPT_PREFIXES = ("LC_", "MINICLOUD_", "RAY_testing_", "NVIDIA_")
_ENV_SECRET = ("MINICLOUD_ACCESS_KEY_ID", "MINICLOUD_SECRET_ACCESS_KEY")


def child_env(env: Mapping[str, str] | None = None, joins_ray: bool = False) -> dict[str, str]:
    """What a cloud's processes inherit: no credential, and no word of another Ray cluster (RAY_ADDRESS, tokens).

    `joins_ray`: the user's cluster is joined, with the user's own settings of Ray.
    """
    env = os.environ if env is None else env
    prefixes = (*_ENV_KEPT_PREFIXES, "RAY_") if joins_ray else _ENV_KEPT_PREFIXES
    return {
        name: value
        for name, value in env.items()
        if (name in _ENV_KEPT or name.startswith(prefixes)) and name not in _ENV_SECRET
    }


def random_hex(size: int) -> str:
    """`size` bytes that nobody can guess, in hex: tokens and ids of processes outside the machines' reach."""
    return os.urandom(size).hex()


def read_secret(settings: CloudSettings) -> bytes:
    """The cluster secret (32 bytes). Raises Internal where it is missing or damaged: nothing works without it."""
    try:
        secret = settings.secret_path.read_bytes()
    except OSError as error:
        raise Internal(f"cannot read the cloud's secret: {error}") from None
    if len(secret) != SECRET_BYTES:
        raise Internal(f"{settings.secret_path} should hold {SECRET_BYTES} bytes, it holds {len(secret)}")
    return secret
