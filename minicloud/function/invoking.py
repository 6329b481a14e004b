"""From a request to what an environment is given, and from what it said to the caller's answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from minicloud.base.arn import Scope
from minicloud.base.errors import InvalidRequest
from minicloud.function import errors, limits
from minicloud.function.concurrency import Want
from minicloud.function.model import Provisioned, Version
from minicloud.function.names import Target
from minicloud.function.ports import EnvironmentSpec, LogSettings, Outcome, Package, Sink
from minicloud.function.state import State

SYNC, EVENT, DRY_RUN = "RequestResponse", "Event", "DryRun"
TYPES = (SYNC, EVENT, DRY_RUN)


@dataclass(frozen=True, slots=True)
class Origin:
    """A service that invokes for a user: its principal and what it acts for; it needs a permission."""

    principal: str
    source_arn: str


@dataclass(frozen=True, slots=True)
class Request:
    """An invocation as it was asked for. `client_context`: JSON, '' for none. `origin` None: the account itself."""

    scope: Scope
    function: str
    payload: bytes = b""
    qualifier: str = ""
    client_context: str = ""
    trace_id: str = ""
    tail: bool = False
    sink: Sink | None = None
    request_id: str = ""
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """`version`: which one ran. `arn`: what was invoked, qualifier included."""

    request_id: str
    version: str
    outcome: Outcome


def check_payload(payload: bytes, bytes_max: int) -> None:
    """Raises RequestTooLargeException, InvalidRequestContentException."""
    if len(payload) > bytes_max:
        raise errors.too_large(bytes_max, len(payload))
    if payload and not _is_json(payload):
        text = "Could not parse request body into json"
        raise InvalidRequest(text, code="InvalidRequestContentException", field="payload")


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def check_context(text: str) -> None:
    if not text:
        return
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise errors.invalid("The client context must be a JSON object", "clientContext")
    if len(text.encode()) > limits.CLIENT_CONTEXT_BYTES_MAX * 3 // 4:
        raise errors.invalid(
            f"The client context is larger than {limits.CLIENT_CONTEXT_BYTES_MAX} bytes", "clientContext"
        )


class Specs:
    """What versions' environments are made from; the same object for the same revision."""

    def __init__(self, path_of: Callable[[str], str]) -> None:
        self._path_of = path_of
        self._known: dict[str, EnvironmentSpec] = {}

    def of(self, state: State, version: Version) -> EnvironmentSpec:
        found = self._known.get(version.arn)
        if found is None or found.revision != version.revision:
            found = self._known[version.arn] = self._make(state, version)
        return found

    def forget(self, version: Version) -> None:
        self._known.pop(version.arn, None)

    def _make(self, state: State, version: Version) -> EnvironmentSpec:
        settings = version.settings
        layers = tuple(self._package(state.layer_versions[arn].code.sha256) for arn in settings.layers)
        return EnvironmentSpec(
            arn=version.function,
            name=version.name,
            version=version.version,
            revision=version.revision,
            scope=version.scope,
            code=self._package(version.code.sha256),
            runtime=settings.runtime,
            handler=settings.handler,
            memory_mib=settings.memory_mib,
            timeout_s=settings.timeout_s,
            ephemeral_mib=settings.ephemeral_mib,
            log=LogSettings(version.log_group, settings.log_format, settings.log_application, settings.log_system),
            env=tuple(sorted(settings.env.items())),
            layers=layers,
        )

    def _package(self, sha256: str) -> Package:
        return Package(sha256, self._path_of(sha256))


def want(state: State, target: Target, version: Version) -> Want:
    """What an invocation of this target takes from the ledger."""
    function = target.function
    key, provisioned = "", 0
    for arn in (target.arn, version.arn) if state.provisioned else ():
        kept = state.provisioned.get(arn)
        if kept is not None and not provisioned:
            key, provisioned = arn, kept.count
    return Want(
        function.scope,
        function.arn,
        function.reserved,
        key,
        provisioned,
        state.reserved(function.scope),
        unreserved_provisioned(state, function.scope),
    )


def unreserved_provisioned(state: State, scope: Scope) -> int:
    """What is provisioned for functions that have nothing reserved: it is taken out of the account's pool."""
    keys = state.page(Provisioned.kind, scope) if state.provisioned else ()
    if not keys:
        return 0
    kept = [state.provisioned[key] for key in keys]
    return sum(one.count for one in kept if state.functions[one.function].reserved is None)
