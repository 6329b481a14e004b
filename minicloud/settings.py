"""Everything a cloud is configured with, and where its files are.

    flags + environment + <data>/cloud.json + this machine  --resolve()-->  CloudSettings  --JSON-->  every process

A `CloudSettings` is frozen, holds no secret, and goes as JSON to the supervisor (stdin) and from there into every actor
(argument), so all processes of a cloud agree by construction. Only two things are decided later, by the supervisor
under the data directory's lock: ports given as 0, and the hosts of a joined Ray cluster.

    cloud.json      id and region of the cloud, its number of brokers, how many hosts the last `up` had   (made once)
    secret.key      32 random bytes, mode 0600: HMAC of tickets and page tokens, AES of stored secrets   (made once)
    state.db        the control plane's journal
    messages/<n>/   the log of message broker n
    balancers/<n>/  the journal of balancer process n, its HAProxy's files, access logs
    autoscaler/     the journals of the autoscaler: groups.db, metrics.db
    functions/<n>/  the journals of functions process n, packages, what its host has unpacked
    messages/<n>.pem   what message broker n signs the messages of topics with, mode 0600
    run/            pids, ports, sockets; gone after `down`             (beside these: log/ hosts/<host name>/ images/)

What holds a part of the cloud's state in a process of its own is a *shard* of some kind; what all kinds have in common
(settings, actor, socket, health, ports) goes by the table `SHARD_KINDS`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from minicloud.base.errors import Internal, InvalidParameterValue
from minicloud.base.shape import Overcommit
from minicloud.shell.data_dir import REGION_DEFAULT, SECRET_BYTES
from minicloud.shell.data_dir import write_file as write_file

GRPC_PORT_DEFAULT = 7077
HTTP_PORT_DEFAULT = 4566
GUEST_NAME = "minicloud.internal"  # by which guests call the front door and the brokers where TLS is on
HOST_RESTART_AFTER_S = 20.0  # a dead raylet is a failed host: long enough for the failure to be seen and acted on
SOCKET_DATA_DIR_BYTES_MAX = 44  # leaves 60 bytes for "/run/s/..." below it, Ray's own sockets included


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
class ShardSettings:
    """Where one shard listens: gRPC for users (where the front door is), HTTP on loopback behind it."""

    port: int = 0
    http_port: int = 0


@dataclass(frozen=True, slots=True)
class ShardKind:
    """`part`: where these shards are in settings, health and `status`. `name`: of one of them, without its number.

    The function that runs one is `EntryPoints.<name>`, with underscores.
    """

    part: str
    name: str

    def called(self, number: int) -> str:
        return f"{self.name}-{number}"


MESSAGE_BROKER = ShardKind("brokers", "message-broker")
BALANCER = ShardKind("balancers", "balancer")
AUTOSCALER = ShardKind("autoscalers", "autoscaler")
FUNCTIONS = ShardKind("functions", "functions")
SHARD_KINDS = (MESSAGE_BROKER, BALANCER, AUTOSCALER, FUNCTIONS)


@dataclass(frozen=True, slots=True)
class EntryPoints:
    """What the actors run, as `module:function`; tests put stand-ins here. All block until SIGTERM or failure.

    control_plane(settings: CloudSettings) -> None
    host_agent(settings: CloudSettings, host: HostSettings, ray_node_id: str) -> None
    message_broker(settings: CloudSettings, number: int) -> None; every other kind of shard: the same
    """

    control_plane: str = "minicloud.cloud:run_control_plane"
    host_agent: str = "minicloud.cloud_host:run_host_agent"
    message_broker: str = "minicloud.cloud_broker:run_message_broker"
    balancer: str = "minicloud.cloud_balancer:run_balancer"
    autoscaler: str = "minicloud.cloud_autoscaler:run_autoscaler"
    functions: str = "minicloud.cloud_functions:run_functions"

    def of_shard(self, kind: ShardKind) -> str:
        return str(getattr(self, kind.name.replace("-", "_")))


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
    brokers: tuple[ShardSettings, ...] = ()
    balancers: tuple[ShardSettings, ...] = ()
    autoscalers: tuple[ShardSettings, ...] = ()
    functions: tuple[ShardSettings, ...] = ()
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

    def shards(self, kind: ShardKind) -> tuple[ShardSettings, ...]:
        found: tuple[ShardSettings, ...] = getattr(self, kind.part)
        return found

    def shard_socket(self, kind: ShardKind, number: int) -> Path:
        """Where the control plane asks a shard for its health."""
        return self.socket_path / kind.called(number)

    def balancer_path(self, number: int) -> Path:
        return self.data_path / "balancers" / str(number)

    @property
    def autoscaler_path(self) -> Path:
        return self.data_path / "autoscaler"

    def functions_path(self, number: int) -> Path:
        return self.data_path / "functions" / str(number)

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
            shards: dict[str, Any] = {
                kind.part: tuple(ShardSettings(**one) for one in raw.pop(kind.part, ())) for kind in SHARD_KINDS
            }
            return CloudSettings(
                hosts=hosts,
                **shards,
                tls=TlsFiles(**tls) if (tls := raw.pop("tls")) else None,
                overcommit=Overcommit(**raw.pop("overcommit")),
                entry_points=EntryPoints(**raw.pop("entry_points")),
                allowed_hosts=tuple(raw.pop("allowed_hosts")),
                **raw,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidParameterValue(f"not the settings of a cloud: {error}", field="settings") from None


def host_id(cloud_id: str, host_name: str) -> str:
    """'h-' and 17 hex digits; the same for the same host of the same cloud, always."""
    return "h-" + hashlib.sha256(f"{cloud_id}/{host_name}".encode()).hexdigest()[:17]


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
