"""What can be asked of the function machine. Fields that are None in an Update... stay as they are.

`function` in a command is a name or ARN, with a qualifier or without, as names.py reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minicloud.base.arn import Scope
from minicloud.function.model import Code, Cors, Statement

Texts = Mapping[str, str]
CREATE, UPDATE = "create", "update"


@dataclass(frozen=True, slots=True)
class Given:
    """Configuration as a request gives it. `runtimes`: what runs here."""

    runtime: str | None = None
    handler: str | None = None
    role: str | None = None
    description: str | None = None
    memory_mib: int | None = None
    timeout_s: int | None = None
    ephemeral_mib: int | None = None
    env: Texts | None = None
    layers: tuple[str, ...] | None = None
    dead_letter: str | None = None
    tracing: str | None = None
    log_format: str | None = None
    log_application: str | None = None
    log_system: str | None = None
    log_group: str | None = None


@dataclass(frozen=True, slots=True)
class CreateFunction:
    """`code`: in the payload store already."""

    scope: Scope
    name: str
    given: Given
    code: Code
    publish: bool = False
    tags: Texts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateCode:
    scope: Scope
    function: str
    code: Code
    publish: bool = False
    dry_run: bool = False
    revision: str = ""


@dataclass(frozen=True, slots=True)
class UpdateSettings:
    scope: Scope
    function: str
    given: Given
    revision: str = ""


@dataclass(frozen=True, slots=True)
class PublishVersion:
    """`code_sha256`: base64, as AWS shows it; '' for whatever is there."""

    scope: Scope
    function: str
    description: str | None = None
    code_sha256: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class DeleteFunction:
    """With a qualifier: that version."""

    scope: Scope
    function: str
    qualifier: str = ""


@dataclass(frozen=True, slots=True)
class CreateAlias:
    scope: Scope
    function: str
    name: str
    version: str
    description: str = ""
    weights: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateAlias:
    scope: Scope
    function: str
    name: str
    version: str | None = None
    description: str | None = None
    weights: Mapping[str, float] | None = None
    revision: str = ""


@dataclass(frozen=True, slots=True)
class DeleteAlias:
    scope: Scope
    function: str
    name: str


@dataclass(frozen=True, slots=True)
class AddPermission:
    scope: Scope
    function: str
    statement: Statement
    qualifier: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class RemovePermission:
    scope: Scope
    function: str
    sid: str
    qualifier: str = ""
    revision: str = ""


@dataclass(frozen=True, slots=True)
class SetReserved:
    """None takes it away."""

    scope: Scope
    function: str
    count: int | None


@dataclass(frozen=True, slots=True)
class SetProvisioned:
    """None takes it away."""

    scope: Scope
    function: str
    qualifier: str
    count: int | None


@dataclass(frozen=True, slots=True)
class SetEventInvoke:
    """`whole`: what is not given goes back to its default."""

    scope: Scope
    function: str
    qualifier: str = ""
    retries: int | None = None
    age_s: int | None = None
    on_success: str | None = None
    on_failure: str | None = None
    whole: bool = True


@dataclass(frozen=True, slots=True)
class DeleteEventInvoke:
    scope: Scope
    function: str
    qualifier: str = ""


@dataclass(frozen=True, slots=True)
class CreateUrl:
    scope: Scope
    function: str
    auth: str
    qualifier: str = ""
    streams: bool = False
    cors: Cors | None = None


@dataclass(frozen=True, slots=True)
class UpdateUrl:
    scope: Scope
    function: str
    qualifier: str = ""
    auth: str | None = None
    streams: bool | None = None
    cors: Cors | None = None


@dataclass(frozen=True, slots=True)
class DeleteUrl:
    scope: Scope
    function: str
    qualifier: str = ""


@dataclass(frozen=True, slots=True)
class MappingSpec:
    """None: AWS's default (creating), or as it is (updating). `concurrency` 0 takes the limit away."""

    enabled: bool | None = None
    batch: int | None = None
    window_s: int | None = None
    filters: tuple[str, ...] | None = None
    partial: bool | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class CreateMapping:
    scope: Scope
    function: str
    source: str
    spec: MappingSpec
    tags: Texts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UpdateMapping:
    scope: Scope
    uuid: str
    spec: MappingSpec
    function: str = ""


@dataclass(frozen=True, slots=True)
class DeleteMapping:
    scope: Scope
    uuid: str


@dataclass(frozen=True, slots=True)
class PublishLayer:
    scope: Scope
    name: str
    code: Code
    description: str = ""
    license: str = ""
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteLayer:
    """What is not there is not an error."""

    scope: Scope
    name: str
    number: int


@dataclass(frozen=True, slots=True)
class ShareLayer:
    """Let an account, or everybody (*), use a layer version."""

    scope: Scope
    name: str
    number: int
    sid: str
    principal: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class UnshareLayer:
    scope: Scope
    name: str
    number: int
    sid: str
    revision: str = ""


@dataclass(frozen=True, slots=True)
class PutSchedule:
    """Made, or changed as a whole. `name`: of the group `default`, or with another's name and a slash before it.

    `only`: CREATE, where there must be none yet; UPDATE, where there must be one.
    """

    scope: Scope
    name: str
    expression: str
    function: str
    zone: str = ""
    input: str = ""
    enabled: bool = True
    description: str = ""
    role: str = ""
    start: float | None = None
    end: float | None = None
    ends: bool = False
    token: str = ""
    only: str = ""


@dataclass(frozen=True, slots=True)
class DeleteSchedule:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class CreateScheduleGroup:
    scope: Scope
    name: str
    tags: Texts = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True, slots=True)
class DeleteScheduleGroup:
    scope: Scope
    name: str


@dataclass(frozen=True, slots=True)
class TagScheduleGroup:
    scope: Scope
    arn: str
    tags: Texts = field(default_factory=dict)
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduleFired:
    """Its event is on disk; `at` is when it was due."""

    arn: str
    at: float


@dataclass(frozen=True, slots=True)
class SetTags:
    """Of a function or mapping, by its ARN."""

    scope: Scope
    arn: str
    tags: Texts = field(default_factory=dict)
    remove: tuple[str, ...] = ()
