"""Functions as the SDK shows them, and what is given to it: frozen dataclasses as in `models.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Function:
    """A function as one of its versions is. arn: with the version where one was asked for."""

    arn: str
    name: str
    version: str
    runtime: str
    handler: str
    role: str
    description: str
    memory_mib: int
    timeout_s: int
    ephemeral_mib: int
    environment: Mapping[str, str]
    layers: tuple[str, ...]
    dead_letter_arn: str
    tracing: str
    log_format: str
    application_log_level: str
    system_log_level: str
    log_group: str
    code_sha256: str
    code_bytes: int
    state: str
    last_update_status: str
    revision_id: str
    modified_time: datetime | None
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FunctionAlias:
    """weights: of another version, the share (0 to 1) of invocations that it gets."""

    arn: str
    name: str
    version: str
    description: str
    weights: Mapping[str, float]
    revision_id: str


@dataclass(frozen=True, slots=True)
class Invoked:
    """What became of an invocation. status: 200; 202, taken for later; 204, a dry run.

    function_error: '' it succeeded; "Handled", the handler raised; "Unhandled", it timed out, exited, ran out of
    memory: then the payload says which. init_ms None: the environment was warm. tail: the end of its log.
    """

    payload: bytes
    function_error: str
    version: str
    tail: bytes
    request_id: str
    status: int
    duration_ms: float
    billed_ms: int
    init_ms: float | None
    memory_max_mib: int

    def json(self) -> Any:
        """The payload, decoded. Raises ValueError."""
        return json.loads(self.payload) if self.payload else None


@dataclass(frozen=True, slots=True)
class FunctionStatement:
    """Who may do what. principal: a service, an account, or *; what is '' narrows nothing down."""

    sid: str
    principal: str
    action: str = "lambda:InvokeFunction"
    source_arn: str = ""
    source_account: str = ""
    url_auth: str = ""


@dataclass(frozen=True, slots=True)
class FunctionPolicy:
    """document: the statements as JSON."""

    statements: tuple[FunctionStatement, ...]
    revision_id: str
    document: str


@dataclass(frozen=True, slots=True)
class ProvisionedConcurrency:
    """status: IN_PROGRESS | READY | FAILED."""

    arn: str
    requested: int
    available: int
    status: str
    reason: str
    modified_time: datetime | None


@dataclass(frozen=True, slots=True)
class FunctionConcurrency:
    """reserved None: the function shares the account's. running: invocations now."""

    reserved: int | None
    provisioned: tuple[ProvisionedConcurrency, ...]
    running: int


@dataclass(frozen=True, slots=True)
class EventInvokeConfig:
    """None: AWS's default (2 retries, 6 hours)."""

    arn: str
    retries: int | None
    age_s: int | None
    on_success: str
    on_failure: str
    modified_time: datetime | None


@dataclass(frozen=True, slots=True)
class UrlCors:
    allow_credentials: bool = False
    allow_headers: tuple[str, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_origins: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age_s: int = 0


@dataclass(frozen=True, slots=True)
class FunctionUrl:
    """auth: NONE | AWS_IAM. invoke_mode: BUFFERED | RESPONSE_STREAM."""

    arn: str
    url: str
    auth: str
    invoke_mode: str
    cors: UrlCors | None
    created_time: datetime | None
    modified_time: datetime | None


@dataclass(frozen=True, slots=True)
class FunctionMapping:
    """A queue that feeds a function. state: Enabled | Disabled. concurrency 0: no limit of its own."""

    uuid: str
    arn: str
    source_arn: str
    function_arn: str
    state: str
    batch_size: int
    window_s: int
    filters: tuple[str, ...]
    report_failures: bool
    concurrency: int
    modified_time: datetime | None
    last_result: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FunctionSchedule:
    """next_time None: it does not fire any more."""

    arn: str
    name: str
    expression: str
    zone: str
    function_arn: str
    input: str
    disabled: bool
    created_time: datetime | None
    next_time: datetime | None


@dataclass(frozen=True, slots=True)
class LayerVersion:
    arn: str
    name: str
    number: int
    description: str
    license: str
    runtimes: tuple[str, ...]
    architectures: tuple[str, ...]
    code_sha256: str
    code_bytes: int
    created_time: datetime | None
