"""The entities of the compute slice, as values. Each turns into a JSON-able body and back; unknown keys are dropped,
missing ones take the default, so a body written by an older version opens in a newer one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from minicloud.base.arn import Scope
from minicloud.base.shape import Overcommit, Shape

_NAMES: dict[type[Any], frozenset[str]] = {}


def _names(cls: type[Any]) -> frozenset[str]:
    """The field names of an entity; worked out once, loading is hot."""
    if cls not in _NAMES:
        _NAMES[cls] = frozenset(item.name for item in fields(cls))
    return _NAMES[cls]


class Entity:
    """A record's body as a value. `kind` is its table."""

    kind: ClassVar[str]

    def body(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    @classmethod
    def load(cls, body: dict[str, Any]) -> Self:
        known = _names(cls)
        return cls(**{name: value for name, value in body.items() if name in known})


@dataclass(frozen=True, slots=True)
class Instance(Entity):
    """One virtual server. Times are Unix seconds; `session` is the Ray node id of the host it was last started on.

    `root_gib`: what was asked for the root disk, in `disk_gib` already. `public`: whether it wanted a public address.
    `echo`: options that change nothing here and are said back to who set them, under AWS's names.
    """

    kind: ClassVar[str] = "instance"

    id: str
    account: str
    region: str
    state: str
    type: str
    image_id: str
    host_id: str
    zone: str
    created: float
    launched: float
    vcpus: float
    memory_mib: int
    gpus: float = 0.0
    disk_gib: int = 0
    arch: str = "x86_64"
    generation: int = 1
    session: str = ""
    reason_code: str = ""
    reason_message: str = ""
    deadline: float | None = None
    terminated: float | None = None
    ended: float = 0.0
    disk_left: bool = True
    private_ip: str = ""
    key_name: str = ""
    public_key: str = ""
    user_data: str = ""
    user_data_status: str = "none"
    user_data_exit: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    reservation_id: str = ""
    launch_index: int = 0
    termination_protection: bool = False
    shutdown_behavior: str = "stop"
    http_tokens: str = "optional"
    http_endpoint: str = "enabled"
    group_name: str = ""
    partition: int = 0
    strategy: str = "binpack"
    affinity: bool = False
    cpu_credits: str = ""
    exit_code: int | None = None
    force_stop: bool = False
    isolation: dict[str, Any] = field(default_factory=dict)
    gpu_ids: list[str] = field(default_factory=list)
    monitoring: bool = False  # detailed: metrics every ten seconds
    stop_protection: bool = False
    profile: str = ""
    security_groups: list[str] = field(default_factory=list)
    root_gib: int = 0
    volume_tags: dict[str, str] = field(default_factory=dict)
    public: bool = True
    echo: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        return Shape(self.vcpus, self.memory_mib, self.gpus, self.disk_gib)

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


@dataclass(frozen=True, slots=True)
class Host(Entity):
    """One node. What it can hold is as its agent last said; `session` is the Ray node id of that agent's node."""

    kind: ClassVar[str] = "host"

    id: str
    name: str
    zone: str
    state: str = "up"
    cordoned: bool = False
    drained: bool = False  # until it is uncordoned
    session: str = ""
    agent_address: str = ""
    arch: str = "x86_64"
    cores: float = 0.0
    memory_mib: int = 0
    gpus: float = 0.0
    disk_gib: int = 0
    overcommit_cpu: float = 8.0
    overcommit_memory: float = 1.0
    overcommit_gpu: float = 1.0
    isolation: dict[str, Any] = field(default_factory=dict)
    reason_code: str = ""
    reason_message: str = ""

    @property
    def capacity(self) -> Shape:
        return Shape(self.cores, self.memory_mib, self.gpus, self.disk_gib)

    @property
    def overcommit(self) -> Overcommit:
        return Overcommit(self.overcommit_cpu, self.overcommit_memory, self.overcommit_gpu)

    @property
    def sellable(self) -> Shape:
        return Shape(
            self.cores * self.overcommit_cpu,
            int(self.memory_mib * self.overcommit_memory),
            self.gpus * self.overcommit_gpu,
            self.disk_gib,
        )


@dataclass(frozen=True, slots=True)
class Image(Entity):
    kind: ClassVar[str] = "image"

    id: str
    account: str
    region: str
    name: str
    state: str
    created: float
    arch: str = "x86_64"
    description: str = ""
    builtin: bool = False
    size_bytes: int = 0
    source_instance_id: str = ""
    freeze: bool = True
    reason: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyPair(Entity):
    kind: ClassVar[str] = "key_pair"

    id: str
    account: str
    region: str
    name: str
    type: str
    public_key: str
    fingerprint: str
    created: float
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Template(Entity):
    """A launch template; its versions are entities of their own, keyed `<id>/<version>`."""

    kind: ClassVar[str] = "launch_template"

    id: str
    account: str
    region: str
    name: str
    created: float
    default_version: int = 1
    latest_version: int = 1
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TemplateVersion(Entity):
    kind: ClassVar[str] = "launch_template_version"

    template_id: str
    version: int
    created: float
    description: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    token: str = ""  # of the request that made it


@dataclass(frozen=True, slots=True)
class Group(Entity):
    kind: ClassVar[str] = "placement_group"

    id: str
    account: str
    region: str
    name: str
    strategy: str
    created: float
    partitions: int = 0
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SecurityGroup(Entity):
    """What may reach an instance and what it may reach. Rules: see security.py."""

    kind: ClassVar[str] = "security_group"

    id: str
    account: str
    region: str
    name: str
    created: float
    description: str = ""
    ingress: list[dict[str, Any]] = field(default_factory=list)
    egress: list[dict[str, Any]] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Token(Entity):
    """A client token that was used: the hash of its request and what that request made."""

    kind: ClassVar[str] = "client_token"

    key: str
    request_hash: str
    result: str
    expires: float


@dataclass(frozen=True, slots=True)
class Listener(Entity):
    """A scope in which rules want to know what becomes of instances. `number`: another one each time that is said."""

    kind: ClassVar[str] = "event_listener"

    id: str
    account: str
    region: str
    number: int


@dataclass(frozen=True, slots=True)
class Transition(Entity):
    """An instance came to another state at a time (Unix seconds), and nobody has been told yet. Ids sort by order."""

    kind: ClassVar[str] = "transition"

    id: str
    account: str
    region: str
    instance_id: str
    state: str
    time: float

    @property
    def scope(self) -> Scope:
        return Scope(self.account, self.region)


KINDS: dict[str, type[Entity]] = {
    cls.kind: cls
    for cls in (
        Instance,
        Host,
        Image,
        KeyPair,
        Template,
        TemplateVersion,
        Group,
        SecurityGroup,
        Token,
        Listener,
        Transition,
    )
}
