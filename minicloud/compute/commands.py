"""What the compute machine can be asked: requests of users and reports of the fleet, as values.

Doors build these from the wire; the machine validates them. Texts and numbers come as the user gave them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minicloud.base.arn import Scope


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """The fields of a launch; empty means not given (a template, then the default, decides)."""

    image_id: str = ""
    instance_type: str = ""
    key_name: str = ""
    user_data: str = ""
    zone: str = ""
    host_id: str = ""
    group_name: str = ""
    partition: int = 0
    strategy: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    termination_protection: bool | None = None
    http_tokens: str = ""
    http_endpoint: str = ""
    shutdown_behavior: str = ""
    cpu_credits: str = ""
    stop_protection: bool | None = None
    profile: str = ""
    security_groups: tuple[str, ...] = ()
    root_gib: int = 0
    volume_tags: dict[str, str] = field(default_factory=dict)
    public: bool | None = None
    monitoring: bool | None = None
    echo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Launch:
    """Between min_count and max_count instances. Quotas are the account's, read by the service.

    `service`: as of a caller. One that asks again under its token may bring other tags; those of the first time hold.
    """

    scope: Scope
    spec: LaunchSpec
    min_count: int
    max_count: int
    client_token: str = ""
    template: str = ""
    template_version: str = ""
    dry_run: bool = False
    quota_instances: float = float("inf")
    quota_vcpus: float = float("inf")
    service: str = ""


@dataclass(frozen=True, slots=True)
class StartInstances:
    scope: Scope
    ids: tuple[str, ...]
    quota_vcpus: float = float("inf")


@dataclass(frozen=True, slots=True)
class StopInstances:
    scope: Scope
    ids: tuple[str, ...]
    force: bool = False


@dataclass(frozen=True, slots=True)
class RebootInstances:
    scope: Scope
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TerminateInstances:
    scope: Scope
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModifyInstance:
    """None leaves a field as it is."""

    scope: Scope
    id: str
    instance_type: str | None = None
    termination_protection: bool | None = None
    user_data: str | None = None
    shutdown_behavior: str | None = None
    cpu_credits: str | None = None
    http_tokens: str | None = None
    http_endpoint: str | None = None
    stop_protection: bool | None = None
    profile: str | None = None
    security_groups: tuple[str, ...] | None = None
    monitoring: bool | None = None
    echo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GrowRoot:
    """More room for the root disk of an instance, whatever it does at the moment. `echo`: as of ModifyInstance."""

    scope: Scope
    id: str
    root_gib: int
    echo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetTags:
    """Sets `tags` and removes `remove` on an instance, its root volume, an image, template, key pair or group.

    A key of `remove_if` is removed where it has that value (EC2: DeleteTags with a value). `service`: as of a caller.
    """

    scope: Scope
    resource_id: str
    tags: dict[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    remove_if: dict[str, str] = field(default_factory=dict)
    remove_all: bool = False
    service: str = ""


@dataclass(frozen=True, slots=True)
class CreateImage:
    scope: Scope
    instance_id: str
    name: str
    description: str = ""
    no_reboot: bool = False
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisterImage:
    """The tar is stored already, under `image_id`."""

    scope: Scope
    image_id: str
    name: str
    arch: str
    size_bytes: int
    description: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageDone:
    image_id: str
    size_bytes: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeregisterImage:
    scope: Scope
    image: str


@dataclass(frozen=True, slots=True)
class PutKeyPair:
    scope: Scope
    name: str
    type: str
    public_key: str
    fingerprint: str
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteKeyPair:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class CreateTemplate:
    scope: Scope
    name: str
    data: dict[str, Any]
    description: str = ""
    client_token: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CreateTemplateVersion:
    scope: Scope
    template: str
    data: dict[str, Any]
    source_version: str = ""
    description: str = ""
    client_token: str = ""


@dataclass(frozen=True, slots=True)
class SetDefaultVersion:
    scope: Scope
    template: str
    version: int


@dataclass(frozen=True, slots=True)
class DeleteTemplateVersion:
    """`version`: a number."""

    scope: Scope
    template: str
    version: str


@dataclass(frozen=True, slots=True)
class DeleteTemplate:
    scope: Scope
    template: str


@dataclass(frozen=True, slots=True)
class CreateGroup:
    scope: Scope
    name: str
    strategy: str
    partitions: int = 0
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class CordonHost:
    host: str
    cordoned: bool
    drain: bool = False


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """What a host says of one guest: state is preparing, running or ended."""

    instance_id: str
    generation: int
    state: str
    private_ip: str = ""
    reason_code: str = ""
    reason_message: str = ""
    exit_code: int | None = None
    isolation: dict[str, Any] = field(default_factory=dict)
    gpu_ids: tuple[str, ...] = ()
    user_data_status: str = ""
    user_data_exit: int = 0


@dataclass(frozen=True, slots=True)
class HostSeen:
    """An agent's hello: its host as it is now, with every guest that it knows of."""

    id: str
    name: str
    zone: str
    session: str
    agent_address: str
    arch: str
    cores: float
    memory_mib: int
    gpus: float
    disk_gib: int
    overcommit_cpu: float
    overcommit_memory: float
    overcommit_gpu: float
    isolation: dict[str, Any] = field(default_factory=dict)
    guests: tuple[GuestSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class HostLost:
    """Of one session of it; a host that came back as another one is not lost."""

    host_id: str
    code: str
    message: str
    session: str


@dataclass(frozen=True, slots=True)
class LaunchFailed:
    """The actor of this generation cannot be had."""

    instance_id: str
    generation: int
    code: str
    message: str
