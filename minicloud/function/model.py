"""Functions and what belongs to them, as they are stored: one JSON body each, an upsert of the whole.

    function -< version ($LATEST, which changes, and numbers, which never do) >- layer version
    function -< alias -> one or two versions
    function, version, alias -> policy, event invoke config, provisioned concurrency (not $LATEST), URL (not versions)
    mapping: queue -> function, version or alias        schedule: time -> function, version or alias

Keys are ARNs; a version's or alias's is the function's with `:qualifier`. What hangs on a function, version or alias
has that one's ARN as its key. A mapping's key is its UUID.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from minicloud.base.machine import Entity, known_fields

SERVICE = "lambda"
LATEST = "$LATEST"
ACTIVE, SUCCESSFUL = "Active", "Successful"
ENABLED, DISABLED = "Enabled", "Disabled"
TEXT, JSON = "Text", "JSON"
NOBODY, EVERYBODY = "AWS_IAM", "NONE"


@dataclass(frozen=True, slots=True)
class Function(Entity):
    """`published`: the highest number that a version had. `reserved`: concurrency of its own, None without."""

    kind: ClassVar[str] = "function"

    arn: str
    account: str
    region: str
    name: str
    created: float
    published: int = 0
    reserved: int | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Code:
    """A package in the payload store: SHA-256 in hex, bytes zipped and unzipped."""

    sha256: str
    bytes: int
    unzipped: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What a version is configured with. `layers`: ARNs of layer versions. `dead_letter`: a queue's or topic's ARN."""

    runtime: str
    handler: str
    role: str
    description: str = ""
    memory_mib: int = 128
    timeout_s: int = 3
    ephemeral_mib: int = 512
    env: dict[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    dead_letter: str = ""
    tracing: str = "PassThrough"
    log_format: str = TEXT
    log_application: str = ""
    log_system: str = ""
    log_group: str = ""

    @classmethod
    def load(cls, body: dict[str, Any]) -> Settings:
        return cls(**known_fields(cls, body))


@dataclass(frozen=True, slots=True)
class Version(Entity):
    """Code and configuration. `revision`: a UUID, another one at each change. `modified`: Unix seconds."""

    kind: ClassVar[str] = "function_version"

    function: str
    account: str
    region: str
    name: str
    version: str
    settings: Settings
    code: Code
    modified: float
    revision: str

    @property
    def arn(self) -> str:
        return f"{self.function}:{self.version}"

    @property
    def log_group(self) -> str:
        return self.settings.log_group or f"/aws/lambda/{self.name}"

    @classmethod
    def load(cls, body: dict[str, Any]) -> Version:
        known = known_fields(cls, body)
        known["settings"] = Settings.load(body["settings"])
        known["code"] = Code(**known_fields(Code, body["code"]))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Alias(Entity):
    """`weights`: of another version, the share (0 to 1) of invocations that it gets."""

    kind: ClassVar[str] = "function_alias"

    function: str
    account: str
    region: str
    name: str
    version: str
    revision: str
    description: str = ""
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return f"{self.function}:{self.name}"


@dataclass(frozen=True, slots=True)
class Statement:
    """Who may do what. `principal`: a service, an account, or *; the rest narrows it down where it is given."""

    sid: str
    action: str
    principal: str
    source_arn: str = ""
    source_account: str = ""
    url_auth: str = ""


@dataclass(frozen=True, slots=True)
class Policy(Entity):
    """Of a function, version, alias or layer version."""

    kind: ClassVar[str] = "function_policy"

    arn: str
    account: str
    region: str
    revision: str
    statements: dict[str, Statement] = field(default_factory=dict)

    @classmethod
    def load(cls, body: dict[str, Any]) -> Policy:
        known = known_fields(cls, body)
        known["statements"] = {
            sid: Statement(**known_fields(Statement, one)) for sid, one in body["statements"].items()
        }
        return cls(**known)


@dataclass(frozen=True, slots=True)
class EventInvoke(Entity):
    """How asynchronous invocations are tried and where their results go (ARNs); None: AWS's default."""

    kind: ClassVar[str] = "function_event_invoke"

    arn: str
    function: str
    account: str
    region: str
    modified: float
    retries: int | None = None
    age_s: int | None = None
    on_success: str = ""
    on_failure: str = ""


@dataclass(frozen=True, slots=True)
class Provisioned(Entity):
    """How many environments are kept warm for a version or alias."""

    kind: ClassVar[str] = "function_provisioned"

    arn: str
    function: str
    account: str
    region: str
    count: int
    modified: float


@dataclass(frozen=True, slots=True)
class Cors:
    """As in the API; `max_age_s` 0: the browser keeps nothing."""

    credentials: bool = False
    headers: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    max_age_s: int = 0


@dataclass(frozen=True, slots=True)
class Url(Entity):
    """`id`: the first label of its host name, and of its path."""

    kind: ClassVar[str] = "function_url"

    arn: str
    function: str
    account: str
    region: str
    id: str
    auth: str
    created: float
    modified: float
    streams: bool = False
    cors: Cors | None = None

    @classmethod
    def load(cls, body: dict[str, Any]) -> Url:
        known = known_fields(cls, body)
        given = body.get("cors")
        known["cors"] = None if given is None else Cors(**known_fields(Cors, given))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Mapping(Entity):
    """A queue feeds a function. `target`: a function's, version's or alias's ARN. `filters`: patterns, JSON texts."""

    kind: ClassVar[str] = "function_mapping"

    uuid: str
    account: str
    region: str
    source: str
    target: str
    function: str
    modified: float
    enabled: bool = True
    batch: int = 10
    window_s: int = 0
    filters: tuple[str, ...] = ()
    partial: bool = False
    concurrency: int | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.uuid

    @property
    def arn(self) -> str:
        return self.scope.arn(SERVICE, f"event-source-mapping:{self.uuid}")


@dataclass(frozen=True, slots=True)
class Layer(Entity):
    """`published`: the highest number that a version had."""

    kind: ClassVar[str] = "layer"

    arn: str
    account: str
    region: str
    name: str
    published: int = 0


@dataclass(frozen=True, slots=True)
class LayerVersion(Entity):
    kind: ClassVar[str] = "layer_version"

    layer: str
    account: str
    region: str
    name: str
    number: int
    code: Code
    created: float
    description: str = ""
    license: str = ""
    runtimes: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()

    @property
    def arn(self) -> str:
        return f"{self.layer}:{self.number}"

    @classmethod
    def load(cls, body: dict[str, Any]) -> LayerVersion:
        known = known_fields(cls, body)
        known["code"] = Code(**known_fields(Code, body["code"]))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Schedule(Entity):
    """Time feeds a function. `next`: when it fires (Unix seconds), None: never again. `input`: JSON, '' for AWS's.

    `start`, `end`: no earlier, no later. `ends`: it is gone when it has fired for the last time. `token`: of the
    request that made it. `role`: kept and shown.
    """

    kind: ClassVar[str] = "function_schedule"

    arn: str
    account: str
    region: str
    name: str
    expression: str
    zone: str
    target: str
    function: str
    created: float
    next: float | None
    input: str = ""
    enabled: bool = True
    modified: float = 0.0
    description: str = ""
    role: str = ""
    start: float | None = None
    end: float | None = None
    ends: bool = False
    token: str = ""
    group: str = "default"


@dataclass(frozen=True, slots=True)
class ScheduleGroup(Entity):
    """`token`: of the request that made it. Times are 0 of the default group, which nobody made."""

    kind: ClassVar[str] = "function_schedule_group"

    arn: str
    account: str
    region: str
    name: str
    created: float = 0.0
    modified: float = 0.0
    tags: dict[str, str] = field(default_factory=dict)
    token: str = ""


KINDS: dict[str, type[Entity]] = {
    one.kind: one
    for one in (
        Function,
        Version,
        Alias,
        Policy,
        EventInvoke,
        Provisioned,
        Url,
        Mapping,
        ScheduleGroup,
        Layer,
        LayerVersion,
        Schedule,
    )
}
