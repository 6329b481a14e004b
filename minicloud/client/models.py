"""What the SDK answers with: frozen dataclasses whose field names are those of the wire and of the CLI's JSON.

Times are UTC datetimes (None: not yet), sizes carry their unit in the name. `tests/contract/test_client.py` holds every
class against its protobuf message, so none of them can fall behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is in its state: an AWS-style code (`OutOfMemory`, `Server.HostFailure`, ...) and a sentence."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Shape:
    vcpus: float
    memory_mib: int
    gpus: float
    disk_gib: int


@dataclass(frozen=True, slots=True)
class Isolation:
    """How a guest is walled in. driver: bwrap | process; network: bridge | loopback; cgroup: v2 | v1 | none."""

    driver: str
    network: str
    cgroup: str
    seccomp: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    zone: str
    host_id: str
    group_name: str
    partition: int
    strategy: str


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    http_tokens: str
    http_endpoint: str


@dataclass(frozen=True, slots=True)
class Instance:
    """A virtual server. state: pending running stopping stopped shutting-down terminated.

    system_status and instance_status: ok | impaired | initializing | not-applicable.
    user_data_status: none | running | done | failed. generation: how many times it was started.
    """

    id: str
    account: str
    region: str
    zone: str
    host_id: str
    host_name: str
    type: str
    image_id: str
    state: str
    state_reason: Reason | None
    private_ip: str
    private_dns: str
    key_name: str
    tags: Mapping[str, str]
    shape: Shape | None
    architecture: str
    reservation_id: str
    launch_index: int
    launch_time: datetime | None
    created_time: datetime | None
    termination_protection: bool
    shutdown_behavior: str
    metadata_options: MetadataOptions | None
    placement: Placement | None
    cpu_credits: str
    cpu_credit_balance: float
    system_status: str
    instance_status: str
    user_data_status: str
    user_data_exit: int
    isolation: Isolation | None
    generation: int
    exit_code: int | None
    gpu_ids: tuple[str, ...]
    monitoring: bool
    security_groups: tuple[str, ...]

    @property
    def name(self) -> str:
        """The value of the tag `Name`, '' without one."""
        return self.tags.get("Name", "")


@dataclass(frozen=True, slots=True)
class StateChange:
    instance_id: str
    previous_state: str
    current_state: str


@dataclass(frozen=True, slots=True)
class ConsoleOutput:
    """The last 64 KiB of what the guest wrote to its console."""

    instance_id: str
    output: bytes
    timestamp: datetime | None

    @property
    def text(self) -> str:
        return self.output.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a guest's streams are served, and the ticket that opens them until `expires`."""

    address: str
    ticket: str = field(repr=False)
    expires: datetime | None = None
    tls: bool = False


@dataclass(frozen=True, slots=True)
class ExecResult:
    """A command that ended. exit_code 128+n: by signal n; 126 or 127: not started, `error` says why."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class ExecChunk:
    """Output as it comes. stream: stdout | stderr (a terminal has stdout only)."""

    stream: str
    data: bytes


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What was copied. skipped: entries left out because they would have reached outside of the target."""

    files: int
    bytes: int
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Host:
    """A node that instances run on. state: up | down. capacity is true, sellable = capacity x overcommit."""

    id: str
    name: str
    zone: str
    state: str
    cordoned: bool
    architecture: str
    capacity: Shape | None
    sellable: Shape | None
    used: Shape | None
    overcommit_cpu: float
    overcommit_memory: float
    overcommit_gpu: float
    instances: int
    ray_node_id: str
    agent_address: str
    last_seen: datetime | None
    state_reason: Reason | None
    isolation: str
    warnings: tuple[str, ...]
    warm_workers: int


@dataclass(frozen=True, slots=True)
class InstanceType:
    """family: general | compute | memory | accelerated | storage. Prices are US dollars per hour, on demand."""

    name: str
    family: str
    vcpus: int
    memory_mib: int
    gpus: float
    gpu_name: str
    gpu_memory_mib: int
    architecture: str
    local_storage_gb: int
    storage_type: str
    network_gbps: float
    clock_ghz: float
    current_generation: bool
    bare_metal: bool
    burstable: bool
    baseline_pct_per_vcpu: float
    usd_per_hour: float
    spot: bool
    dedicated_hosts: bool


@dataclass(frozen=True, slots=True)
class Image:
    """state: pending | available | failed | deregistered."""

    id: str
    name: str
    description: str
    architecture: str
    state: str
    builtin: bool
    size_bytes: int
    created_time: datetime | None
    source_instance_id: str
    tags: Mapping[str, str]
    state_reason: str


@dataclass(frozen=True, slots=True)
class TemplateData:
    """What a launch template presets; '' and None mean "not set"."""

    image_id: str = ""
    instance_type: str = ""
    key_name: str = ""
    user_data: str = ""
    zone: str = ""
    group_name: str = ""
    strategy: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    termination_protection: bool | None = None
    http_tokens: str = ""
    shutdown_behavior: str = ""
    cpu_credits: str = ""
    monitoring: bool | None = None


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    id: str
    name: str
    default_version: int
    latest_version: int
    created_time: datetime | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LaunchTemplateVersion:
    template: LaunchTemplate
    version: int
    description: str
    data: TemplateData
    created_time: datetime | None


@dataclass(frozen=True, slots=True)
class KeyPair:
    """type: ed25519 | rsa | ecdsa. public_key: OpenSSH one-line form."""

    id: str
    name: str
    fingerprint: str
    public_key: str
    type: str
    created_time: datetime | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class KeyPairMaterial:
    """A new key pair with its private half (OpenSSH PEM), which the cloud does not keep."""

    key_pair: KeyPair
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlacementGroup:
    """strategy: cluster | spread | partition."""

    id: str
    name: str
    strategy: str
    partitions: int
    created_time: datetime | None
    instances: int


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """Who the cloud takes this client for. access_key_id is '' where authentication is off."""

    account: str
    region: str
    access_key_id: str
    admin: bool
    version: str


@dataclass(frozen=True, slots=True)
class Account:
    account: str
    name: str
    created_time: datetime | None


@dataclass(frozen=True, slots=True)
class AccessKey:
    """status: Active | Inactive."""

    id: str
    account: str
    status: str
    admin: bool
    created_time: datetime | None


@dataclass(frozen=True, slots=True)
class AccessKeySecret:
    """A new access key with its secret, which is shown this once."""

    key: AccessKey
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Quota:
    name: str
    limit: float
    used: float
    account: str


@dataclass(frozen=True, slots=True)
class BrokerEndpoint:
    """Where an account's queues and topics are served, and the ticket that opens them (Unix milliseconds)."""

    address: str
    ticket: str = field(repr=False)
    expires_ms: int = 0
    tls: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """attributes: AWS's names and texts (`VisibilityTimeout`, ...); those asked for."""

    name: str
    arn: str
    url: str
    attributes: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


@dataclass(frozen=True, slots=True)
class MessageAttribute:
    """type: String, Number or Binary, with an optional label after a dot. value: its text or bytes, as bytes."""

    type: str
    value: bytes

    @property
    def data(self) -> str | bytes | int | Decimal:
        """The value as Python sees it: str, bytes, int where it is whole, else Decimal."""
        if self.type.startswith("Binary"):
            return self.value
        text = self.value.decode()
        if not self.type.startswith("Number"):
            return text
        return int(text) if text.lstrip("+-").isdigit() else Decimal(text)


# str, int, float, Decimal and bytes get the type they have; (type, value) names one: ("Number.int", 5).
AttributeValue = (
    str | int | float | Decimal | bytes | MessageAttribute | tuple[str, str | int | float | Decimal | bytes]
)


@dataclass(frozen=True, slots=True)
class SendEntry:
    """One message of a batch to a queue. delay_s: None is the queue's. trace_header: AWS X-Ray's."""

    body: str | bytes
    delay_s: int | None = None
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    group_id: str = ""
    deduplication_id: str = ""
    trace_header: str = ""


@dataclass(frozen=True, slots=True)
class PublishEntry:
    """One message of a batch to a topic. json: `message` is a JSON object with a text for each protocol, "default"."""

    message: str | bytes
    subject: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    json: bool = False
    group_id: str = ""
    deduplication_id: str = ""


@dataclass(frozen=True, slots=True)
class EntryError:
    """What went wrong with one entry of a batch. sender_fault: it will go wrong again."""

    index: int
    code: str
    message: str
    field: str
    sender_fault: bool


@dataclass(frozen=True, slots=True)
class MoveTask:
    """Messages on their way from a dead-letter queue. status: RUNNING | COMPLETED | CANCELLED | FAILED."""

    task_handle: str
    status: str
    source_arn: str
    destination_arn: str
    max_per_second: int
    moved: int
    to_move: int
    failure_reason: str
    started_ms: int


@dataclass(frozen=True, slots=True)
class Topic:
    """attributes: AWS's names and texts (`DisplayName`, ...)."""

    name: str
    arn: str
    attributes: Mapping[str, str]
    tags: Mapping[str, str]

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")


@dataclass(frozen=True, slots=True)
class Subscription:
    """protocol: sqs | http | https. arn is "PendingConfirmation" while its endpoint has not confirmed."""

    arn: str
    topic_arn: str
    protocol: str
    endpoint: str
    owner: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SubscriptionMetrics:
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TopicMetrics:
    """Counters since the broker started, by AWS's metric names; subscriptions by ARN."""

    values: Mapping[str, float]
    subscriptions: Mapping[str, SubscriptionMetrics]
